//! `postern doctor URI`: walks the way that a client takes, step by step, and
//! names the step that fails with what to do about it.
//!
//! ```text
//! name ─▶ port ─▶ TLS and certificate ─▶ service ─▶ credentials ─▶ limit ─▶ primary
//! ```
//!
//! It is a client: it sees what the customer sees, and no more. What Postern
//! answers alike on purpose (a denied address, a service that does not exist)
//! it cannot tell apart either.

mod uri;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{Client, Config};

use super::management::stream::{AlreadyEncrypted, NodeStream};
use crate::directory::{Node, Pooling};
use crate::domain::NodeTls;
use crate::upstream::Dialer;
use crate::upstream::dial::DialError;
pub use uri::{InvalidUri, Uri};

/// For each step.
const WITHIN: Duration = Duration::from_secs(10);

/// A step of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The host name has an address.
    Name,
    /// Somebody listens there.
    Port,
    /// The connection is encrypted as asked for.
    Tls,
    /// The certificate is that of the host.
    Certificate,
    /// The service is there, and lets this address in.
    Service,
    /// The role and its password.
    Credentials,
    /// The database.
    Database,
    /// The plan has a connection left.
    Limit,
    /// The node that answers is the right one.
    Primary,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub step: Step,
    /// What.
    pub text: String,
    /// What to do about it; nothing: it is well.
    pub remedy: Option<String>,
}

impl Finding {
    fn well(step: Step, text: impl Into<String>) -> Self {
        Self { step, text: text.into(), remedy: None }
    }

    fn wrong(step: Step, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { step, text: text.into(), remedy: Some(remedy.into()) }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Name => "name",
            Self::Port => "port",
            Self::Tls => "TLS",
            Self::Certificate => "certificate",
            Self::Service => "service",
            Self::Credentials => "credentials",
            Self::Database => "database",
            Self::Limit => "limit",
            Self::Primary => "primary",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.remedy.is_none() { "ok  " } else { "FAIL" };
        write!(f, "{verdict}  {:11}  {}", self.step, self.text)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n      {:11}  {remedy}", ""),
            None => Ok(()),
        }
    }
}

/// Walks the way, telling of each step, up to the first that fails. Returns
/// whether it came to the end.
pub async fn walk(uri: &Uri, mut tell: impl FnMut(&Finding)) -> bool {
    let mut tell = |finding: Finding| {
        tell(&finding);
        finding.remedy.is_none()
    };
    if let Some(addresses) = uri.tcp() {
        let found = name(addresses).await;
        let known = match found {
            Ok((finding, known)) => {
                tell(finding);
                known
            }
            Err(finding) => return tell(finding),
        };
        if !tell(port(&known).await) {
            return false;
        }
    }
    let stream = match encrypt(uri).await {
        Ok((findings, stream)) => {
            for finding in findings {
                tell(finding);
            }
            stream
        }
        Err(finding) => return tell(finding),
    };
    match log_in(uri, stream).await {
        Ok(client) => {
            tell(Finding::well(Step::Service, "it is there, and lets this address in"));
            tell(Finding::well(Step::Credentials, format!("{} is logged in", uri.user)));
            tell(primary(uri, &client).await)
        }
        Err(finding) => tell(finding),
    }
}

async fn name((host, port): (&str, u16)) -> Result<(Finding, Vec<SocketAddr>), Finding> {
    let found = timeout(WITHIN, lookup_host((host, port))).await;
    let found: Vec<_> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if found.is_empty() {
        return Err(Finding::wrong(
            Step::Name,
            format!("{host} has no address"),
            "Compare the host with the service's overview, and look at this machine's DNS.",
        ));
    }
    let addresses: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
    Ok((Finding::well(Step::Name, format!("{host} is {}", addresses.join(", "))), found))
}

async fn port(addresses: &[SocketAddr]) -> Finding {
    let mut last = String::new();
    for address in addresses {
        match timeout(WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Finding::well(Step::Port, format!("{address} takes connections")),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer within {} s", WITHIN.as_secs()),
        }
    }
    let remedy = "Compare the port with the service's overview; a firewall in between may also \
                  keep you out.";
    Finding::wrong(Step::Port, last, remedy)
}

async fn encrypt(uri: &Uri) -> Result<(Vec<Finding>, NodeStream), Finding> {
    let node = Node {
        service: "doctor".parse().expect("it is a service's name"),
        address: uri.address.clone(),
        tls: uri.tls,
        authorities: uri.authorities().map_err(|why| {
            Finding::wrong(Step::Certificate, why, "Name a file with the service's CA certificate.")
        })?,
        capacity: 0,
        pooling: Pooling::default(),
    };
    let dialed = Dialer::default().dial(&node, Instant::now() + WITHIN).await;
    let dialed = dialed.map_err(|error| dial_finding(&error, uri))?;
    let encrypted = dialed.binding.is_some();
    let tls = if encrypted { "the connection is encrypted" } else { "the connection is plain" };
    let mut findings = vec![Finding::well(Step::Tls, tls)];
    match uri.tls {
        NodeTls::VerifyCa | NodeTls::VerifyFull => {
            findings.push(Finding::well(Step::Certificate, "it is trusted, and the host's"));
        }
        _ if encrypted => findings.push(Finding::well(
            Step::Certificate,
            "not looked at; sslmode=verify-full with sslrootcert would",
        )),
        _ => {}
    }
    Ok((findings, dialed.into()))
}

fn dial_finding(error: &DialError, uri: &Uri) -> Finding {
    let text = error.to_string();
    match error {
        DialError::Connect(_) | DialError::Timeout => {
            Finding::wrong(Step::Port, text, "Compare host and port with the service's overview.")
        }
        DialError::NoTls => Finding::wrong(
            Step::Tls,
            "the other side offers no TLS",
            "Is this Postern's port, and has it a certificate? sslmode=prefer would do without.",
        ),
        DialError::Tls(_) => Finding::wrong(
            Step::Certificate,
            text,
            format!(
                "sslrootcert must be the authority of the certificate, and the certificate must \
                 name {}: compare with the service's overview.",
                uri.address
            ),
        ),
        DialError::Authority(_) => {
            Finding::wrong(Step::Certificate, text, "Give sslrootcert a file of PEM certificates.")
        }
    }
}

async fn log_in(uri: &Uri, stream: NodeStream) -> Result<Client, Finding> {
    let mut config = Config::new();
    config.user(&uri.user).dbname(&uri.database).application_name("postern doctor");
    config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    if let Some(password) = &uri.password {
        config.password(password.expose());
    }
    if let Some(options) = &uri.options {
        config.options(options);
    }
    let connecting = timeout(WITHIN * 6, config.connect_raw(stream, AlreadyEncrypted)).await;
    let connected = connecting.map_err(|_| {
        Finding::wrong(
            Step::Primary,
            "no answer to the login within a minute",
            "The service may have no primary at the moment: look at its state.",
        )
    })?;
    let (client, connection) = connected.map_err(|error| login_finding(&error, uri))?;
    tokio::spawn(connection);
    Ok(client)
}

fn login_finding(error: &tokio_postgres::Error, uri: &Uri) -> Finding {
    let Some(said) = error.as_db_error() else {
        return Finding::wrong(
            Step::Credentials,
            error.to_string(),
            "Give the URI a password, and look whether the port speaks PostgreSQL's protocol.",
        );
    };
    let text = match said.detail() {
        Some(detail) => format!("{} ({detail})", said.message()),
        None => said.message().to_owned(),
    };
    let (step, remedy) = remedy(said.code().code(), said.message(), uri);
    Finding::wrong(step, text, said.hint().map_or(remedy, str::to_owned))
}

/// What an answer to the login means.
fn remedy(sqlstate: &str, message: &str, uri: &Uri) -> (Step, String) {
    match sqlstate {
        "28000" if message.contains("encrypted") => {
            (Step::Tls, "Use sslmode=require or verify-full.".to_owned())
        }
        "28000" => (
            Step::Service,
            "Check the service's name, and allow this address: postern service update NAME --allow"
                .to_owned(),
        ),
        "28P01" => (
            Step::Credentials,
            format!("Check the password of {}, or set a new one: postern role rotate", uri.user),
        ),
        "3D000" => (Step::Database, "Name a database that exists.".to_owned()),
        "53300" => (
            Step::Limit,
            "Close connections that are not needed, use the pooled URI, or choose a larger plan."
                .to_owned(),
        ),
        "57P03" => {
            (Step::Primary, "Look at the service's state: postern service show NAME".to_owned())
        }
        _ => (Step::Credentials, format!("SQLSTATE {sqlstate}: see PostgreSQL's documentation.")),
    }
}

async fn primary(uri: &Uri, client: &Client) -> Finding {
    let asked = timeout(WITHIN, client.simple_query("SELECT pg_is_in_recovery()")).await;
    let row = match asked {
        Ok(Ok(messages)) => messages.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }),
        Ok(Err(_)) | Err(_) => None,
    };
    let read_only = uri.is_read_only();
    match (row.as_deref(), read_only) {
        (Some("f"), _) => Finding::well(Step::Primary, "a primary answers"),
        (Some("t"), true) => Finding::well(Step::Primary, "a standby answers, as asked for"),
        (Some(_), _) => Finding::wrong(
            Step::Primary,
            "the node that answers takes no writes",
            "Look at the service's nodes: postern service show NAME",
        ),
        (None, _) => Finding::wrong(
            Step::Primary,
            "no answer to a query",
            "Look at the service's nodes: postern service show NAME",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_names_its_step() {
        let uri = "postgresql://ann:x@localhost/shop".parse().unwrap();
        for (sqlstate, message, step) in [
            ("28000", "connections from 10.0.0.1 must be encrypted", Step::Tls),
            ("28000", "no service accepts this connection from 10.0.0.1", Step::Service),
            ("28P01", "password authentication failed for user \"ann\"", Step::Credentials),
            ("3D000", "database \"shop\" does not exist", Step::Database),
            ("53300", "sorry, too many clients already", Step::Limit),
            ("57P03", "service \"orders\" cannot be reached at the moment", Step::Primary),
        ] {
            assert_eq!(remedy(sqlstate, message, &uri).0, step, "{message}");
        }
    }

    #[test]
    fn a_finding_is_a_line_and_its_remedy_another() {
        let well = Finding::well(Step::Port, "127.0.0.1:5432 takes connections");
        assert_eq!(well.to_string(), "ok    port         127.0.0.1:5432 takes connections");
        let wrong = Finding::wrong(Step::Tls, "no", "Do.");
        assert_eq!(wrong.to_string(), "FAIL  TLS          no\n                   Do.");
    }
}
