//! `/v1/plans`

use axum::Json;
use axum::extract::State;

use super::Api;
use super::authority::{Permit, Read};
use super::model::PlanView;
use super::page::Page;
use super::problem::Problems;
use crate::control::config::CatalogueRow;

/// The plans that services can be on.
#[utoipa::path(get, path = "/plans", tag = "plans",
    responses((status = 200, description = "All plans", body = Page<PlanView>), Problems))]
pub(super) async fn list(_: Permit<Read>, State(api): State<Api>) -> Json<Page<PlanView>> {
    let plans = (api.plans)();
    Json(Page { items: plans.iter().map(view).collect(), next: None })
}

fn view(row: &CatalogueRow) -> PlanView {
    let plan = &row.plan;
    PlanView {
        name: plan.name.to_string(),
        max_connections: plan.max_connections.get(),
        nodes: plan.nodes,
        standbys: plan.nodes - 1,
        backup_retention_days: plan.backup_retention_days,
        multi_az: plan.multi_az,
        availability: row.availability.clone(),
    }
}
