//! The commands about services, nodes, roles and tokens: each asks the admin
//! API, over the socket of this host or over HTTP, and prints what people or
//! scripts read.

pub mod database;
pub mod drill;
pub mod node;
pub mod plan;
pub mod role;
pub mod service;
mod table;
pub mod token;
pub mod why;

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use hyper::{Method, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::cli::SOCKET;
use crate::control::api::client::{ApiClient, ClientError, Target};
use crate::control::api::{Page, segment};
use crate::domain::Secret;
use table::Table;

/// Where the API is, and how its answers are shown.
#[derive(Debug, Clone, Args)]
pub struct Reach {
    /// The admin socket of a Postern on this host.
    #[arg(long, default_value = SOCKET, env = "POSTERN_ADMIN_SOCKET")]
    socket: PathBuf,
    /// The admin API of a Postern elsewhere, instead of the socket.
    #[arg(long, value_name = "URL", env = "POSTERN_API")]
    api: Option<Uri>,
    /// A token for it.
    #[arg(long, env = "POSTERN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The authority of its certificate, for https.
    #[arg(long, value_name = "FILE", env = "POSTERN_API_CA")]
    ca: Option<PathBuf>,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// A service.
#[derive(Debug, Args)]
pub struct OfService {
    /// The service.
    service: String,
    /// Where the API is.
    #[command(flatten)]
    reach: Reach,
}

/// Something that a service has.
#[derive(Debug, Args)]
pub struct InService {
    /// The service.
    service: String,
    /// Its name there.
    name: String,
    /// Where the API is.
    #[command(flatten)]
    reach: Reach,
}

/// Something that has an id.
#[derive(Debug, Args)]
pub struct WithId {
    /// Its id.
    id: String,
    /// Where the API is.
    #[command(flatten)]
    reach: Reach,
}

impl Reach {
    fn client(&self) -> ApiClient {
        let target = match &self.api {
            None => Target::Socket(self.socket.clone()),
            Some(url) => Target::Http {
                url: url.clone(),
                token: Secret::new(self.token.clone().unwrap_or_default()),
                authority: self.ca.clone(),
            },
        };
        ApiClient::new(target)
    }

    /// Asks, and waits for the answer.
    fn ask<T, F>(&self, question: impl FnOnce(ApiClient) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(question(self.client()));
        answer.map_err(|error| Failure::new(error.to_string()))
    }

    /// Gets what is there.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(async |api| api.get(path).await)
    }

    /// Has something made or changed.
    fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(async |api| api.with_body(method, path, body).await)
    }

    /// Gives an order that says everything by its path.
    fn order<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Failure> {
        self.ask(async |api| api.order(method, path).await)
    }

    /// Has something taken away.
    fn delete(&self, path: &str) -> Result<(), Failure> {
        self.ask(async |api| api.delete(path).await)
    }

    /// Prints a list, all of its pages, a row for each item.
    fn list<T: Serialize + DeserializeOwned, const COLUMNS: usize>(
        &self,
        path: &str,
        head: [&str; COLUMNS],
        row: impl Fn(&T) -> [String; COLUMNS],
    ) -> Result<(), Failure> {
        self.print_list(&self.all(path)?, head, row)
    }

    /// A list, all of its pages.
    fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Page<T>, Failure> {
        let mut all = Page { items: Vec::<T>::new(), next: Some(String::new()) };
        while let Some(after) = all.next.take() {
            let page = format!("{path}?limit=1000&after={}", segment(&after));
            let page: Page<T> = self.get(&page)?;
            all.items.extend(page.items);
            all.next = page.next;
        }
        Ok(all)
    }

    fn print_list<T: Serialize, const COLUMNS: usize>(
        &self,
        all: &Page<T>,
        head: [&str; COLUMNS],
        row: impl Fn(&T) -> [String; COLUMNS],
    ) -> Result<(), Failure> {
        self.print(all, |all| Table::of(head, all.items.iter().map(row)).text())
    }

    /// Prints an answer as JSON, or as `people` read it.
    fn print<T: Serialize>(
        &self,
        answer: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = if self.json {
            let json = serde_json::to_string_pretty(answer);
            json.map_err(|error| Failure::new(error.to_string()))? + "\n"
        } else {
            people(answer)
        };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}

/// `/v1/services/<name>` and what is below it.
fn service_path(name: &str, rest: &str) -> String {
    format!("/v1/services/{}{rest}", segment(name))
}

/// A word of the API.
fn word(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}
