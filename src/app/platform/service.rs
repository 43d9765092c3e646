//! `postern service`

mod options;
mod text;

use std::time::{Duration, Instant};

use clap::Subcommand;
use hyper::Method;

use super::{OfService, Reach, Table, service_path, word};
use crate::app::Failure;
use crate::control::api::model::{
    ChangeView, EndedView, EventView, ServiceState, ServiceSummary, ServiceView,
};
use options::{CreateOptions, UpdateOptions};
use text::{SESSION, session, show};

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

/// Runs one of them.
///
/// # Errors
/// What the API said, or why the service does not run.
pub fn run(command: ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::Create(options) => create(options),
        ServiceCommand::List { reach } => list(&reach),
        ServiceCommand::Show(of) => of.reach.print(&find(&of)?, show),
        ServiceCommand::Update(options) => update(&options),
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
    let body = options.body();
    let mut view: ServiceView = options.reach.send(Method::POST, "/v1/services", &body)?;
    let of = OfService { service: body.name, reach: options.reach };
    if !options.no_wait {
        view = wait_for(&of, view)?;
    }
    of.reach.print(&view, show)
}

/// Shows each step on the standard error, until the service runs.
fn wait_for(of: &OfService, mut service: ServiceView) -> Result<ServiceView, Failure> {
    let (started, mut said) = (Instant::now(), None);
    loop {
        match service.summary.state {
            ServiceState::Provisioning => {}
            ServiceState::Failed => {
                let (name, why) = (&of.service, service.reason.unwrap_or_default());
                return Err(Failure::new(format!(
                    "service {name} could not be made: {why}; delete it with `postern service \
                     delete {name}`"
                )));
            }
            // Made; its primary is about to be seen.
            ServiceState::Degraded if started.elapsed() < Duration::from_secs(10) => {}
            _ => return Ok(service),
        }
        if said != service.reason {
            said.clone_from(&service.reason);
            eprintln!("{}: {}", of.service, said.as_deref().unwrap_or("waiting"));
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

fn update(options: &UpdateOptions) -> Result<(), Failure> {
    let OfService { service, reach } = &options.of;
    let path = service_path(service, if options.dry_run { "?dry_run=true" } else { "" });
    let outcome: ChangeView = reach.send(Method::PATCH, &path, &options.body())?;
    reach.print(&outcome, |outcome| {
        let verb = if outcome.dry_run { "would end" } else { "ended" };
        let count = outcome.sessions_ended.len();
        let mut text = format!("{}: {count} sessions {verb}\n", outcome.service.summary.name);
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
