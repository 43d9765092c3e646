//! What clients see of a failover, live: writers on the pooled URI, and the
//! primary killed beneath them.
//!
//! The demo plays the HA manager: it promotes the standby, and makes a standby
//! of what was the primary, so that it can be seen again the other way round.
//! Postern is told nothing of it.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_postgres::Config;

use super::nodes::{DATABASE, DemoService, USER};
use super::{blocking, progress};
use crate::app::Failure;
use crate::rehearsal::{Connect, Load, Tally, rows, without_tls};

/// Clients that write.
const WRITERS: u16 = 16;
/// Between two rows of a writer.
const PAUSE: Duration = Duration::from_millis(5);
/// Before the crash, so that there is something to compare with.
const BEFORE: Duration = Duration::from_secs(2);
/// From the crash to the promotion: an HA manager takes longer to be sure.
const UNNOTICED: Duration = Duration::from_secs(1);
/// After the promotion.
const AFTER: Duration = Duration::from_secs(3);
/// Between two lines of what is seen.
const LINE_EVERY: Duration = Duration::from_millis(500);

/// Shows a failover of this service, through this port of Postern.
pub(super) async fn fail_over(shop: &Arc<DemoService>, port: u16) -> Result<(), Failure> {
    let load = Load { connect: connect(shop, port), writers: WRITERS, pause: PAUSE };
    let first = (load.connect)().await.map_err(failed)?;
    Load::prepare(&first).await.map_err(failed)?;
    progress(&format!("{WRITERS} clients write through the pooled URI"));
    let running = load.start().await.map_err(failed)?;
    tokio::select! {
        never = watch(running.tally()) => match never {},
        done = crash_and_promote(shop) => done?,
    }
    let account = running.stop().await;
    let report = account.report(&rows(&first).await.map_err(failed)?);
    println!("\n{report}\n");
    if report.lost > 0 {
        println!(
            "Rows were lost that the primary had not replicated yet: it does so after it has\nacknowledged them. synchronous_standby_names would make it wait.\n"
        );
    }
    progress("making a standby of the old primary");
    let shop = Arc::clone(shop);
    blocking(move || shop.standby().rejoin(shop.primary()).map_err(failed)).await
}

fn failed(error: impl Display) -> Failure {
    Failure::new(error.to_string())
}

async fn crash_and_promote(shop: &Arc<DemoService>) -> Result<(), Failure> {
    sleep(BEFORE).await;
    progress(&format!("kill -9 of the primary, {}", shop.primary().address()));
    let (crashed, promoted) = (Arc::clone(shop), Arc::clone(shop));
    blocking(move || crashed.primary().crash().map_err(failed)).await?;
    sleep(UNNOTICED).await;
    progress(&format!("promoting the standby, {}", shop.standby().address()));
    blocking(move || promoted.standby().promote().map_err(failed)).await?;
    shop.swap();
    progress("promoted");
    sleep(AFTER).await;
    Ok(())
}

/// A line now and then of what the clients are told.
async fn watch(tally: &Tally) -> Infallible {
    println!(
        "{:>6}  {:>7}  {:>12}  {:>6}  {:>7}  {:>11}",
        "s", "rows/s", "acknowledged", "failed", "unknown", "connections"
    );
    let (began, mut before) = (Instant::now(), 0);
    let mut lines = interval(LINE_EVERY);
    lines.set_missed_tick_behavior(MissedTickBehavior::Skip);
    lines.tick().await;
    loop {
        lines.tick().await;
        let acknowledged = tally.acknowledged();
        println!(
            "{:>6.1}  {:>7}  {acknowledged:>12}  {:>6}  {:>7}  {:>6} lost",
            began.elapsed().as_secs_f64(),
            u128::from(acknowledged - before) * 1000 / LINE_EVERY.as_millis(),
            tally.failed(),
            tally.unknown(),
            tally.disconnected(),
        );
        before = acknowledged;
    }
}

/// How a writer comes in: as any client of the pooled URI, without TLS, which
/// the loopback may do without.
fn connect(shop: &DemoService, port: u16) -> Connect {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).dbname(DATABASE);
    config.user(format!("{USER}.{}", shop.name)).password(&shop.password);
    without_tls(config)
}
