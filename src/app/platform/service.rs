//! `postern service`

use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

use super::{OfService, Reach, Table, service_path, table};
use crate::app::Failure;
use crate::control::api::model::{
    ChangeView, ConnectionView, EndedView, EventView, ServiceChange, ServiceCreate, ServiceState,
    ServiceSummary, ServiceView,
};
use crate::control::catalog::record::{PoolSettings, Provider, ServiceKind};

/// Between two looks at a service that is being made or taken apart.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What can be done about services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Create a service, and wait until it runs.
    Create(CreateOptions),
    /// The services, those of the configuration file among them.
    List {
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// A service in full: what to put into a driver, and how it is.
    Show(OfService),
    /// Change a service; live traffic obeys at once.
    Update(UpdateOptions),
    /// Delete a service, and wait until it is gone.
    Delete {
        /// The service, and where the API is.
        #[command(flatten)]
        of: OfService,
        /// Return at once.
        #[arg(long)]
        no_wait: bool,
    },
    /// The live sessions of a service.
    Connections {
        /// The service, and where the API is.
        #[command(flatten)]
        of: OfService,
        /// End this session.
        #[arg(long, value_name = "ID")]
        end: Option<u64>,
        /// End all of them.
        #[arg(long, conflicts_with = "end")]
        end_all: bool,
    },
    /// Print a URI, for psql and drivers: psql "$(postern service uri orders)".
    Uri {
        /// The service, and where the API is.
        #[command(flatten)]
        of: OfService,
        /// The pooled URI.
        #[arg(long)]
        pooled: bool,
        /// The URI of the standbys.
        #[arg(long, conflicts_with = "pooled")]
        read_only: bool,
    },
    /// Let nothing new begin until the service is resumed.
    Pause(OfService),
    /// Let a paused service go on.
    Resume(OfService),
    /// What happened to a service, newest first.
    Events(OfService),
}

/// What service to create.
#[derive(Debug, Args)]
pub struct CreateOptions {
    /// The name that clients use, for ever.
    name: String,
    /// The plan: `postern plan list`.
    #[arg(long)]
    plan: String,
    /// What its nodes offer.
    #[arg(long, default_value = "postgresql")]
    kind: ServiceKind,
    /// What people call it.
    #[arg(long)]
    display_name: Option<String>,
    /// The cloud to place it in.
    #[arg(long)]
    cloud: Option<String>,
    /// The region to place it in.
    #[arg(long)]
    region: Option<String>,
    /// Who makes its nodes: external, those of the inventory; local, Postern on
    /// its own host.
    #[arg(long, default_value = "external")]
    provider: Provider,
    /// A node to place it on, by its id; may be repeated.
    #[arg(long = "node", value_name = "ID")]
    nodes: Vec<String>,
    /// An address or CIDR block that may connect; may be repeated. Everybody
    /// unless given.
    #[arg(long = "allow", value_name = "CIDR")]
    allow: Vec<String>,
    /// Refuse deletions.
    #[arg(long)]
    termination_protection: bool,
    /// Return at once.
    #[arg(long)]
    no_wait: bool,
    /// Where the API is.
    #[command(flatten)]
    reach: Reach,
}

/// How to change a service.
#[derive(Debug, Args)]
pub struct UpdateOptions {
    /// The service, and where the API is.
    #[command(flatten)]
    of: OfService,
    /// What people call it.
    #[arg(long)]
    display_name: Option<String>,
    /// Another plan.
    #[arg(long)]
    plan: Option<String>,
    /// An address or CIDR block that may connect; may be repeated. The list
    /// replaces the one in force, and sessions it does not permit end.
    #[arg(long = "allow", value_name = "CIDR")]
    allow: Vec<String>,
    /// Let nobody in.
    #[arg(long, conflicts_with = "allow")]
    allow_nobody: bool,
    /// on or off.
    #[arg(long)]
    power: Option<Switch>,
    /// on or off.
    #[arg(long)]
    termination_protection: Option<Switch>,
    /// Only say which sessions would end.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Runs one of them.
///
/// # Errors
/// What the API said, or why the service does not run.
pub fn run(command: ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::Create(options) => create(options),
        ServiceCommand::List { reach } => list(&reach),
        ServiceCommand::Show(of) => of.reach.print(&find(&of)?, show),
        ServiceCommand::Update(options) => update(options),
        ServiceCommand::Delete { of, no_wait } => delete(&of, no_wait),
        ServiceCommand::Connections { of, end, end_all } => {
            if end.is_some() || end_all {
                end_connections(&of, end)
            } else {
                connections(&of)
            }
        }
        ServiceCommand::Uri { of, pooled, read_only } => {
            let info = find(&of)?.connection;
            let uri = match (pooled, read_only) {
                (true, _) => info.pooled_uri,
                (_, true) => info.read_only_uri,
                _ => Some(info.uri),
            };
            let uri = uri.ok_or_else(|| Failure::new("the service has no such endpoint"))?;
            of.reach.print(&uri, |uri| format!("{uri}\n"))
        }
        ServiceCommand::Pause(of) => order(&of, "/pause"),
        ServiceCommand::Resume(of) => order(&of, "/resume"),
        ServiceCommand::Events(of) => events(&of),
    }
}

fn find(OfService { service, reach }: &OfService) -> Result<ServiceView, Failure> {
    reach.get(&service_path(service, ""))
}

fn create(options: CreateOptions) -> Result<(), Failure> {
    let reach = options.reach;
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let body = ServiceCreate {
        name: options.name,
        display_name: options.display_name,
        kind: options.kind,
        plan: options.plan,
        cloud: options.cloud,
        region: options.region,
        provider: options.provider,
        nodes: some(options.nodes),
        allowlist: some(options.allow),
        pooling: PoolSettings::default(),
        termination_protection: options.termination_protection,
    };
    let mut view: ServiceView = reach.send(Method::POST, "/v1/services", &body)?;
    let of = OfService { service: body.name, reach };
    if !options.no_wait {
        view = wait_for(&of, view)?;
    }
    of.reach.print(&view, show)
}

/// Shows each step on the standard error, until the service runs.
fn wait_for(of: &OfService, mut service: ServiceView) -> Result<ServiceView, Failure> {
    let (started, mut said) = (Instant::now(), None);
    loop {
        match service.state {
            ServiceState::Provisioning => {}
            ServiceState::Failed => {
                let why = service.reason.unwrap_or_default();
                return Err(Failure::new(format!(
                    "service {} could not be made: {why}; delete it with `postern service delete {}`",
                    service.name, service.name
                )));
            }
            // Made; its primary is about to be seen.
            ServiceState::Degraded if started.elapsed() < Duration::from_secs(10) => {}
            _ => return Ok(service),
        }
        if said != service.reason {
            said.clone_from(&service.reason);
            eprintln!("{}: {}", service.name, said.as_deref().unwrap_or("waiting"));
        }
        std::thread::sleep(LOOK_AGAIN);
        service = find(of)?;
    }
}

fn list(reach: &Reach) -> Result<(), Failure> {
    let head = ["SERVICE", "KIND", "PLAN", "CLOUD", "REGION", "STATE"];
    reach.list("/v1/services", head, |service: &ServiceSummary| {
        [
            service.name.clone(),
            word(&service.kind),
            service.plan.clone(),
            service.cloud.clone().unwrap_or_default(),
            service.region.clone().unwrap_or_default(),
            word(&service.state),
        ]
    })
}

/// A word of the API.
fn word(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

fn show(service: &ServiceView) -> String {
    let info = &service.connection;
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let days = service.backup_retention_days;
    let mut text = table::pairs(&[
        ("service", service.name.clone()),
        ("display name", service.display_name.clone()),
        ("kind", word(&service.kind)),
        ("plan", service.plan.clone()),
        ("cloud", optional(&service.cloud)),
        ("region", optional(&service.region)),
        ("state", word(&service.state)),
        ("reason", optional(&service.reason)),
        ("service URI", info.uri.clone()),
        ("pooled URI", optional(&info.pooled_uri)),
        ("read-only URI", optional(&info.read_only_uri)),
        ("host", info.host.clone()),
        ("port", info.port.to_string()),
        ("pooled port", info.pooled_port.map(|port| port.to_string()).unwrap_or_default()),
        ("user", optional(&info.user)),
        ("password", optional(&info.password)),
        ("database", optional(&info.database)),
        ("SSL mode", info.ssl_mode.clone()),
        ("connections", {
            let used = &service.connections;
            format!("{} of {} used, {} clients", used.used, used.limit, used.clients)
        }),
        (
            "allowlist",
            match &service.allowlist[..] {
                [] => "nobody".to_owned(),
                entries => entries.join(", "),
            },
        ),
        ("backups", if days == 0 { "none".to_owned() } else { format!("kept {days} days") }),
        ("multi-AZ", if service.multi_az { "yes" } else { "no" }.to_owned()),
        ("paused", if service.paused { "yes".to_owned() } else { String::new() }),
        (
            "protected",
            if service.termination_protection { "yes".to_owned() } else { String::new() },
        ),
        ("created", optional(&service.created_at)),
    ]);
    let nodes = service.nodes.iter().map(|node| {
        let lag = node.lag_seconds.map(|lag| format!("{lag} s")).unwrap_or_default();
        let zone = node.zone.clone().unwrap_or_default();
        [node.address.clone(), node.role.clone(), zone, lag]
    });
    text.push('\n');
    text.push_str(&Table::of(["NODE", "ROLE", "ZONE", "LAG"], nodes).text());
    text
}

fn update(options: UpdateOptions) -> Result<(), Failure> {
    let OfService { service, reach } = options.of;
    let on = |switch: Option<Switch>| switch.map(|switch| switch == Switch::On);
    let given = !options.allow.is_empty() || options.allow_nobody;
    let change = ServiceChange {
        display_name: options.display_name,
        plan: options.plan,
        allowlist: given.then_some(options.allow),
        pooling: None,
        powered: on(options.power),
        termination_protection: on(options.termination_protection),
    };
    let path = service_path(&service, if options.dry_run { "?dry_run=true" } else { "" });
    let outcome: ChangeView = reach.send(Method::PATCH, &path, &change)?;
    reach.print(&outcome, |outcome| {
        let verb = if outcome.dry_run { "would end" } else { "ended" };
        let count = outcome.sessions_ended.len();
        let mut text = format!("{}: {count} sessions {verb}\n", outcome.service.name);
        if count > 0 {
            let rows = outcome.sessions_ended.iter().map(session);
            text.push_str(&Table::of(SESSION, rows).text());
        }
        text
    })
}

fn delete(OfService { service, reach }: &OfService, no_wait: bool) -> Result<(), Failure> {
    let path = service_path(service, "");
    let _: ServiceView = reach.order(Method::DELETE, &path)?;
    let gone = || {
        let found: Result<Option<ServiceView>, Failure> =
            reach.ask(async |api| match api.get(&path).await {
                Err(error) if error.status() == Some(404) => Ok(None),
                found => found.map(Some),
            });
        found.map(|found| found.is_none())
    };
    while !no_wait && !gone()? {
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn order(OfService { service, reach }: &OfService, order: &str) -> Result<(), Failure> {
    let service: ServiceView = reach.order(Method::POST, &service_path(service, order))?;
    reach.print(&service, show)
}

fn connections(OfService { service, reach }: &OfService) -> Result<(), Failure> {
    reach.list(&service_path(service, "/connections"), SESSION, session)
}

const SESSION: [&str; 8] =
    ["ID", "ENDPOINT", "ROLE", "DATABASE", "APPLICATION", "ADDRESS", "ACTIVITY", "FOR"];

fn session(session: &ConnectionView) -> [String; SESSION.len()] {
    [
        session.id.to_string(),
        session.endpoint.clone(),
        session.role.clone(),
        session.database.clone(),
        session.application.clone(),
        session.address.clone(),
        session.activity.clone(),
        format!("{} s", session.activity_seconds),
    ]
}

fn end_connections(
    OfService { service, reach }: &OfService,
    id: Option<u64>,
) -> Result<(), Failure> {
    let rest = id.map_or("/connections".to_owned(), |id| format!("/connections/{id}"));
    let ended: EndedView = reach.order(Method::DELETE, &service_path(service, &rest))?;
    reach.print(&ended, |ended| format!("{} sessions told to leave\n", ended.ended))
}

fn events(OfService { service, reach }: &OfService) -> Result<(), Failure> {
    reach.list(&service_path(service, "/events"), ["AT", "EVENT", ""], |event: &EventView| {
        [event.at.clone(), event.kind.clone(), event.message.clone()]
    })
}
