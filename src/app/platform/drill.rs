//! `postern drill`

use clap::Args;
use hyper::Method;

use super::{Reach, service_path, table};
use crate::app::Failure;
use crate::control::api::model::DrillOrder;
use crate::control::drill::Drilled;

/// What to rehearse.
#[derive(Debug, Args)]
pub struct DrillOptions {
    /// The service.
    service: String,
    /// The node to be promoted, as its address or as Patroni calls it.
    #[arg(long)]
    to: Option<String>,
    /// How many clients write meanwhile [default: 8].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    writers: Option<u16>,
    /// Where the API is.
    #[command(flatten)]
    reach: Reach,
}

/// Rehearses a switchover, and shows what it showed.
///
/// # Errors
/// Why it was not rehearsed, or that clients noticed more than a pause.
pub fn run(options: &DrillOptions) -> Result<(), Failure> {
    let order = DrillOrder { to: options.to.clone(), writers: options.writers };
    let path = service_path(&options.service, "/drill");
    let drilled: Drilled =
        options.reach.ask(async |api| api.with_body(Method::POST, &path, &order).await)?;
    options.reach.print(&drilled, report)?;
    if drilled.passed { Ok(()) } else { Err(Failure::new("clients noticed more than a pause")) }
}

fn report(drilled: &Drilled) -> String {
    let lag = drilled.lag.map_or("not known".to_owned(), |lag| format!("{lag:.3} s"));
    let head = table::pairs(&[
        ("from", drilled.from.clone()),
        ("to", format!("{}, which was behind: {lag}", drilled.to)),
        ("held", format!("{:.3} s", drilled.held)),
    ]);
    format!("{head}{}\n", drilled.canaries)
}
