//! `POST /v1/services`

use axum::extract::State;
use axum::response::Response;

use crate::control::api::authority::{Permit, Write, random_password};
use crate::control::api::model::{ServiceCreate, ServiceView};
use crate::control::api::once::Once;
use crate::control::api::overview::Known;
use crate::control::api::problem::{Problem, Problems};
use crate::control::api::request::{Body, Findings, IdempotencyKey};
use crate::control::api::{Api, created, segment};
use crate::control::catalog::record::{
    NodeRecord, PlacedNode, Provider, RoleRecord, RoleStage, ServiceRecord, Stage, Step, Usage,
    role_secret,
};
use crate::control::catalog::store::{Expect, Range};
use crate::control::catalog::{Audit, Catalog, Versioned, declared, now};
use crate::control::config::Plans;
use crate::control::pooling::PoolSettings;
use crate::control::provision::{local, placement};
use crate::domain::{NodeTls, Plan, ServiceName};

/// The customer's first role and database, and Postern's own role.
const ADMIN_ROLE: &str = "admin";
const DATABASE: &str = "defaultdb";
const MANAGEMENT_ROLE: &str = "postern";

/// How often a placement is tried anew because somebody else was faster, or
/// because a node turned out to be other than it was.
const PLACEMENTS: usize = 5;

/// Creates a service. It is `provisioning` first, then `running`, or `failed`
/// with a reason.
#[utoipa::path(post, path = "/services", tag = "services", request_body = ServiceCreate,
    params(("Idempotency-Key" = Option<String>, Header,
            description = "Repeats of a request with the same key create nothing")),
    responses((status = 201, description = "The service", body = ServiceView), Problems))]
pub(in crate::control::api) async fn create(
    permit: Permit<Write>,
    State(api): State<Api>,
    key: IdempotencyKey,
    Body(body): Body<ServiceCreate>,
) -> Result<Response, Problem> {
    let plans = (api.plans)();
    let plan = check(&body, &plans)?;
    let once = Once::new(key, &permit.caller, "services", &body);
    let earlier = once.clone();
    let earlier = api.with_catalog(move |catalog| earlier.earlier(catalog)).await?;
    let name = if let Some(name) = earlier {
        name
    } else {
        make(&api, &permit, &body, &plan, &once).await?;
        body.name.clone()
    };
    let known = Known::find(&api, &permit.caller, &name).await?;
    let version = known.record.as_ref().map_or(0, |found| found.version);
    Ok(created(&format!("/v1/services/{}", segment(&name)), version, known.view(&api)))
}

/// Everything that is wrong with the body by itself, at once.
fn check(body: &ServiceCreate, plans: &Plans) -> Result<Plan, Problem> {
    let mut findings = Findings::default();
    if let Err(error) = body.name.parse::<ServiceName>() {
        findings.add("/name", error);
    }
    if let Some(text) = &body.display_name {
        findings.check_text("/display_name", text);
    }
    for (pointer, text) in [("/cloud", &body.cloud), ("/region", &body.region)] {
        if let Some(text) = text {
            findings.check_text(pointer, text);
        }
    }
    let plan = plans.find(&body.plan).cloned();
    if plan.is_none() {
        findings.add("/plan", format!("there is no plan {:?}", body.plan));
    }
    check_allowlist(&mut findings, body.allowlist.as_deref().unwrap_or_default());
    check_pooling(&mut findings, &body.pooling);
    if body.provider == Provider::Local && body.nodes.is_some() {
        findings.add("/nodes", "nodes of this host are made, not named");
    }
    findings.finish()?;
    plan.ok_or_else(|| Problem::field("/plan", "there is no such plan"))
}

/// Everything that is wrong with an allowlist.
pub(super) fn check_allowlist(findings: &mut Findings, entries: &[String]) {
    if entries.len() > 1_000 {
        findings.add("/allowlist", "expected at most 1000 entries");
    }
    for (index, entry) in entries.iter().enumerate() {
        if let Err(error) = declared::allowlist(std::slice::from_ref(entry)) {
            findings.add(format!("/allowlist/{index}"), error);
        }
    }
}

/// Everything that is wrong with settings of the pools.
pub(super) fn check_pooling(findings: &mut Findings, pooling: &PoolSettings) {
    for (key, expected) in pooling.problems() {
        findings.add(format!("/pooling/{key}"), expected);
    }
}

/// Places the service and writes it down, in one commit with its nodes.
async fn make(
    api: &Api,
    permit: &Permit<Write>,
    body: &ServiceCreate,
    plan: &Plan,
    once: &Once,
) -> Result<(), Problem> {
    let name: ServiceName = body.name.parse().map_err(|_| Problem::not_found("service", ""))?;
    let provisioner = api.provisioner()?;
    if body.provider == Provider::Local {
        if !provisioner.has_local() {
            return Err(Problem::conflict(
                "Services cannot be made on this host: name a directory in [local] directory.",
            ));
        }
        let able = provisioner.check_local(body.kind, plan.nodes).await;
        able.map_err(|why| {
            let Plan { name, nodes, .. } = plan;
            Problem::field("/plan", format!("plan \"{name}\" has {nodes} nodes: {why}"))
        })?;
    }
    for _ in 0..PLACEMENTS {
        if api.is_taken(&name).await? {
            return Err(Problem::conflict(format!("There is a service \"{name}\" already.")));
        }
        let nodes = match body.provider {
            Provider::Local => Vec::new(),
            Provider::External => match place(api, body, plan).await? {
                Some(nodes) => nodes,
                None => continue,
            },
        };
        let (record, once, actor) =
            (record(body, &nodes), once.clone(), permit.caller.name.clone());
        let detail = serde_json::to_value(body).unwrap_or_default();
        let written = api.with_catalog(move |catalog| {
            match write(catalog, &record, &nodes, &once, actor, detail) {
                Err(error) if error.is_conflict() => Ok(false),
                done => Ok(done.map(|()| true)?),
            }
        });
        if written.await? {
            provisioner.work_on(name.as_str());
            return Ok(());
        }
    }
    Err(Problem::conflict("Others were faster, several times: try again."))
}

/// Chooses nodes and looks at each of them now; nothing if one of them turned
/// out to be other than it was, so that others must be chosen.
async fn place(
    api: &Api,
    body: &ServiceCreate,
    plan: &Plan,
) -> Result<Option<Vec<Versioned<NodeRecord>>>, Problem> {
    let inventory = api.with_catalog(|catalog| Ok(catalog.list::<NodeRecord>(Range::ALL)?)).await?;
    let wanted = placement::Wanted {
        plan,
        kind: body.kind,
        cloud: body.cloud.as_deref(),
        region: body.region.as_deref(),
    };
    let ids: Vec<String> = if let Some(ids) = &body.nodes {
        named(wanted, ids, &inventory)?
    } else {
        let records: Vec<_> = inventory.iter().map(|found| found.record.clone()).collect();
        let chosen = placement::choose(wanted, &records).map_err(Problem::conflict)?;
        chosen.into_iter().map(|node| node.id.clone()).collect()
    };
    let mut nodes = Vec::new();
    for id in &ids {
        let found = inventory.iter().find(|found| found.record.id == *id);
        let found = found.ok_or_else(|| Problem::not_found("node", id))?;
        nodes.push(api.look_again(found.clone()).await?);
    }
    let seen: Vec<_> = nodes.iter().map(|found| &found.record).collect();
    match placement::check(wanted, &seen) {
        Ok(_) => Ok(Some(nodes)),
        Err(problems) if body.nodes.is_some() => Err(Problem::conflict(problems.join("; "))),
        Err(_) => Ok(None),
    }
}

fn named(
    wanted: placement::Wanted<'_>,
    ids: &[String],
    inventory: &[Versioned<NodeRecord>],
) -> Result<Vec<String>, Problem> {
    let mut nodes = Vec::new();
    for (index, id) in ids.iter().enumerate() {
        let found = inventory.iter().find(|found| found.record.id == *id);
        let missing =
            || Problem::field(&format!("/nodes/{index}"), format!("there is no node {id:?}"));
        nodes.push(&found.ok_or_else(missing)?.record);
    }
    let ordered = placement::check(wanted, &nodes)
        .map_err(|problems| Problem::conflict(problems.join("; ")))?;
    Ok(ordered.into_iter().map(|node| node.id.clone()).collect())
}

fn record(body: &ServiceCreate, nodes: &[Versioned<NodeRecord>]) -> ServiceRecord {
    let first = nodes.first().map(|found| &found.record);
    let place = |found: &Versioned<NodeRecord>| PlacedNode {
        id: found.record.id.clone(),
        address: found.record.address.clone(),
        zone: found.record.zone.clone(),
    };
    let everybody = || vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    ServiceRecord {
        name: body.name.clone(),
        display_name: body.display_name.clone().unwrap_or_else(|| body.name.clone()),
        kind: body.kind,
        plan: body.plan.clone(),
        cloud: body.cloud.clone().or_else(|| first.map(|node| node.cloud.clone())),
        region: body.region.clone().or_else(|| first.map(|node| node.region.clone())),
        provider: body.provider,
        allowlist: body.allowlist.clone().unwrap_or_else(everybody),
        nodes: nodes.iter().map(place).collect(),
        node_tls: first.map_or(NodeTls::Prefer, |node| node.node_tls),
        node_ca: first.and_then(|node| node.node_ca.clone()),
        topology: None,
        pooling: body.pooling.clone(),
        management_role: MANAGEMENT_ROLE.to_owned(),
        admin_role: ADMIN_ROLE.to_owned(),
        database: DATABASE.to_owned(),
        stage: Stage::Provisioning(Step::Server),
        reason: None,
        powered: true,
        paused: false,
        termination_protection: body.termination_protection,
        created_at: now(),
    }
}

/// The service, its secrets and its nodes, all or nothing. The secrets are
/// made before the first step, so that a repeated step sets the same.
fn write(
    catalog: &Catalog,
    record: &ServiceRecord,
    nodes: &[Versioned<NodeRecord>],
    once: &Once,
    actor: String,
    detail: serde_json::Value,
) -> Result<(), crate::control::catalog::CatalogError> {
    let role = RoleRecord {
        service: record.name.clone(),
        role: record.admin_role.clone(),
        created_at: record.created_at.clone(),
        rotated_at: record.created_at.clone(),
        previous_until: None,
        stage: RoleStage::Ready,
    };
    let mut change = catalog.change().put(record, Expect::Absent).put(&role, Expect::Absent);
    let secrets = [record.management_secret(), role_secret(&record.name, &record.admin_role)];
    let of_servers = local::secrets(record);
    let of_servers = of_servers.into_iter().filter(|_| record.provider == Provider::Local);
    for path in secrets.into_iter().chain(of_servers) {
        change = change.seal(&path, &random_password());
    }
    for found in nodes {
        let node = NodeRecord { usage: Usage::Used(record.name.clone()), ..found.record.clone() };
        change = change.put(&node, Expect::Version(found.version));
    }
    let audit = Audit { actor, action: "service.create".to_owned(), detail };
    change = once.note(change, &record.name);
    change = change.audit(&format!("services/{}", record.name), &audit);
    change.event(&record.name, "provisioning", "Told to make it.").commit().map(drop)
}

impl Api {
    /// Whether a service of this name is there, here or in the file.
    async fn is_taken(&self, name: &ServiceName) -> Result<bool, Problem> {
        if self.directory.service(name).is_some() {
            return Ok(true);
        }
        let name = name.to_string();
        self.with_catalog(move |catalog| Ok(catalog.get::<ServiceRecord>(&name)?.is_some())).await
    }
}
