//! `/v1/clouds`: the platform's clouds, and whatever else the inventory's
//! nodes are in.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::authority::{Permit, Read};
use super::model::{CloudView, RegionView};
use super::page::Page;
use super::problem::{Problem, Problems};
use crate::control::catalog::record::{NodeRecord, Usage};
use crate::control::catalog::store::Range;

/// The platform's clouds with regions in the US and the EU. They do not differ
/// in what a service can do.
const CLOUDS: [(&str, &[&str]); 4] = [
    ("aws", &["us-east-1", "us-west-2", "eu-central-1", "eu-west-1"]),
    ("azure", &["eastus", "westus2", "northeurope", "westeurope"]),
    ("gcp", &["us-central1", "us-east1", "europe-west1", "europe-west3"]),
    ("digitalocean", &["nyc3", "sfo3", "ams3", "fra1"]),
];

/// The clouds and their regions, with the nodes that are free there.
#[utoipa::path(get, path = "/clouds", tag = "plans",
    responses((status = 200, description = "All clouds", body = Page<CloudView>), Problems))]
pub(super) async fn list(
    _: Permit<Read>,
    State(api): State<Api>,
) -> Result<Json<Page<CloudView>>, Problem> {
    let nodes = match api.catalog {
        None => Vec::new(),
        Some(_) => api.with_catalog(|catalog| Ok(catalog.list::<NodeRecord>(Range::ALL)?)).await?,
    };
    let items = with_nodes(nodes.iter().map(|found| &found.record));
    Ok(Json(Page { items, next: None }))
}

fn with_nodes<'n>(nodes: impl Iterator<Item = &'n NodeRecord>) -> Vec<CloudView> {
    let mut clouds: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for (cloud, regions) in CLOUDS {
        clouds.entry(cloud).or_default().extend(regions.iter().map(|region| (*region, 0)));
    }
    for node in nodes {
        let free = node.usage == Usage::Free && node.unreachable.is_none();
        let regions = clouds.entry(&node.cloud).or_default();
        *regions.entry(&node.region).or_default() += u32::from(free);
    }
    let region = |(name, free_nodes): (&str, u32)| RegionView { name: name.to_owned(), free_nodes };
    let cloud = |(name, regions): (&str, BTreeMap<&str, u32>)| CloudView {
        name: name.to_owned(),
        regions: regions.into_iter().map(region).collect(),
    };
    clouds.into_iter().map(cloud).collect()
}
