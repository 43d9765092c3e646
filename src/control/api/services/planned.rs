//! `POST /v1/services/{name}/switchover` and `/drill`: of every service, those
//! of the configuration file among them.

use axum::Json;
use axum::extract::State;

use crate::control::api::authority::{Permit, Write};
use crate::control::api::model::{DrillOrder, SwitchoverOrder, SwitchoverView};
use crate::control::api::overview::Known;
use crate::control::api::problem::{Problem, Problems};
use crate::control::api::request::{Body, Findings, Named};
use crate::control::api::{Api, to_its_end};
use crate::control::catalog::Audit;
use crate::control::drill::{Drilled, MOST_CANARIES, NotDrilled, Plan};
use crate::domain::ServiceName;

/// Makes another node the primary: new transactions wait, running ones finish,
/// Patroni is asked for the promotion or somebody's is waited for, and all go
/// on there. If it cannot be done, the service goes on as it was.
#[utoipa::path(post, path = "/services/{name}/switchover", tag = "services",
    request_body = SwitchoverOrder,
    params(("name" = String, Path, description = "The service's name")),
    responses((status = 200, description = "Another node leads", body = SwitchoverView), Problems))]
pub(in crate::control::api) async fn switchover(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
    Body(order): Body<SwitchoverOrder>,
) -> Result<Json<SwitchoverView>, Problem> {
    let service = named(&api, &permit, &name).await?;
    let audit = audit(&permit, "service.switchover", &order);
    to_its_end(async move {
        let from = api.primary(&service);
        let planner = &api.drills.planner;
        let switched = planner.switch_over(&service, order.to.as_deref()).await;
        let switched = switched.map_err(Problem::conflict)?;
        let held = switched.took.as_secs_f64();
        let view = SwitchoverView { from, to: switched.node, held };
        let said = format!("From {} to {}; clients waited {held:.3} s.", view.from, view.to);
        api.happened(&service, "switchover", said, audit).await?;
        Ok(Json(view))
    })
    .await
}

/// Rehearses a switchover: clients of Postern's own write through the pooled
/// endpoint, the service is switched over, and what they were told is compared
/// with what is there. Takes up to a minute and a half.
#[utoipa::path(post, path = "/services/{name}/drill", tag = "services",
    request_body = DrillOrder,
    params(("name" = String, Path, description = "The service's name")),
    responses((status = 200, description = "What it showed", body = Drilled), Problems))]
pub(in crate::control::api) async fn drill(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
    Body(order): Body<DrillOrder>,
) -> Result<Json<Drilled>, Problem> {
    let mut findings = Findings::default();
    if order.writers.is_some_and(|writers| !(1..=MOST_CANARIES).contains(&writers)) {
        findings.add("/writers", format!("is from 1 to {MOST_CANARIES}"));
    }
    findings.finish()?;
    let service = named(&api, &permit, &name).await?;
    let audit = audit(&permit, "service.drill", &order);
    to_its_end(async move {
        let plan = Plan { to: order.to, writers: order.writers };
        let drilled = api.drills.drill(&service, &plan).await;
        let said = match &drilled {
            Err(NotDrilled::NotPossible(why)) => return Err(Problem::conflict(why)),
            Err(error @ NotDrilled::BrokeOff(_)) => error.to_string(),
            Ok(drilled) => drilled.sentence(),
        };
        api.happened(&service, "drill", said, audit).await?;
        drilled.map(Json).map_err(|error| Problem::unavailable(error.to_string()))
    })
    .await
}

async fn named(api: &Api, permit: &Permit<Write>, name: &str) -> Result<ServiceName, Problem> {
    Known::find(api, &permit.caller, name).await?;
    let not_found = |_| Problem::not_found("service", name);
    let service: ServiceName = name.parse().map_err(not_found)?;
    match api.directory.service(&service) {
        Some(_) => Ok(service),
        None => Err(Problem::conflict("The service is not there yet.")),
    }
}

fn audit(permit: &Permit<Write>, action: &str, order: &impl serde::Serialize) -> Audit {
    Audit {
        actor: permit.caller.name.clone(),
        action: action.to_owned(),
        detail: serde_json::to_value(order).unwrap_or_default(),
    }
}

impl Api {
    fn primary(&self, service: &ServiceName) -> String {
        let known = self.directory.service(service);
        let node = known.as_ref().and_then(|known| known.primary().ok());
        node.map(|node| node.address.to_string()).unwrap_or_default()
    }

    /// Notes what happened, where there is a catalogue to note it in.
    async fn happened(
        &self,
        service: &ServiceName,
        kind: &'static str,
        said: String,
        audit: Audit,
    ) -> Result<(), Problem> {
        if self.catalog.is_none() {
            return Ok(());
        }
        let service = service.clone();
        self.with_catalog(move |catalog| {
            let change = catalog.change().event(service.as_str(), kind, said);
            change.audit(&format!("services/{service}"), &audit).commit()?;
            Ok(())
        })
        .await
    }
}
