//! What the demo prints: for each service URIs and pieces of code that work as
//! they are. They are also written to files, so that a test runs exactly what
//! is printed.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::Ports;
use super::nodes::{DATABASE, DemoService, Nodes, USER};
use crate::app::Failure;

/// Everything that is printed.
pub(super) struct Snippets {
    services: Vec<ServiceSnippets>,
    directory: PathBuf,
    authority: PathBuf,
}

struct ServiceSnippets {
    name: &'static str,
    kind: &'static str,
    uri: String,
    pooled_uri: String,
    by_user: String,
    files: Vec<(&'static str, String)>,
}

impl Snippets {
    /// Makes the snippets and writes them below `snippets/<service>/`.
    pub(super) fn write(root: &Path, nodes: &Nodes, ports: Ports) -> Result<Self, Failure> {
        let authority = root.join("tls/ca.crt");
        let directory = root.join("snippets");
        let services: Vec<_> =
            nodes.services().iter().map(|service| snippets(service, &authority, ports)).collect();
        for service in &services {
            let directory = directory.join(service.name);
            fs::create_dir_all(&directory)?;
            for (file, text) in &service.files {
                fs::write(directory.join(file), text)?;
            }
        }
        Ok(Self { services, directory, authority })
    }

    /// The environment of the demo's command.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("POSTERN_DEMO_SNIPPETS".into(), self.directory.clone().into()),
            ("POSTERN_DEMO_CA".into(), self.authority.clone().into()),
        ];
        for service in &self.services {
            let name = service.name.to_ascii_uppercase().replace('-', "_");
            let mut add = |prefix: &str, value: &str| {
                variables.push((format!("{prefix}_{name}").into(), value.into()));
            };
            add("POSTERN_URI", &service.uri);
            add("POSTERN_POOLED_URI", &service.pooled_uri);
            add("POSTERN_USER_URI", &service.by_user);
        }
        variables
    }
}

fn snippets(service: &DemoService, authority: &Path, ports: Ports) -> ServiceSnippets {
    let DemoService { name, kind, password, .. } = service;
    let ca = authority.display();
    let port = ports.session;
    let tls = format!("sslmode=verify-full&sslrootcert={ca}");
    let uri = |user: &str, port: u16, rest: &str| {
        format!("postgresql://{user}:{password}@localhost:{port}/{DATABASE}?{tls}{rest}")
    };
    let by_option = format!("&options=service%3D{name}");
    let session = uri(USER, port, &by_option);
    let pooled = uri(USER, ports.transaction, &by_option);
    let by_user = uri(&format!("{USER}.{name}"), port, "");
    let psql = format!("psql \"{session}\" -c 'SELECT version()'\n");
    let psql_by_user = format!("psql \"{by_user}\" -c 'SELECT current_user'\n");
    let files = vec![
        ("psql.sh", psql),
        ("psql_by_user.sh", psql_by_user),
        ("django_settings.py", django(service, authority, port)),
        ("query.js", node(&session)),
        ("Query.java", jdbc(service, authority, port)),
    ];
    ServiceSnippets { name, kind, uri: session, pooled_uri: pooled, by_user, files }
}

fn django(service: &DemoService, authority: &Path, port: u16) -> String {
    let DemoService { name, password, .. } = service;
    format!(
        r#"DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "localhost",
        "PORT": {port},
        "NAME": "{DATABASE}",
        "USER": "{USER}",
        "PASSWORD": "{password}",
        "OPTIONS": {{
            "options": "service={name}",
            "sslmode": "verify-full",
            "sslrootcert": "{ca}",
        }},
    }}
}}
"#,
        ca = authority.display(),
    )
}

fn node(uri: &str) -> String {
    format!(
        r#"const {{ Client }} = require("pg");
const client = new Client({{ connectionString: "{uri}" }});
client.connect()
  .then(() => client.query("SELECT 6 * 7 AS answer"))
  .then((result) => {{ console.log(result.rows[0].answer); return client.end(); }});
"#
    )
}

fn jdbc(service: &DemoService, authority: &Path, port: u16) -> String {
    let DemoService { name, password, .. } = service;
    format!(
        r#"import java.sql.*;

class Query {{
    public static void main(String[] arguments) throws SQLException {{
        String url = "jdbc:postgresql://localhost:{port}/{DATABASE}"
            + "?user={USER}&password={password}&options=service%3D{name}"
            + "&sslmode=verify-full&sslrootcert={ca}";
        try (Connection connection = DriverManager.getConnection(url);
             Statement statement = connection.createStatement();
             ResultSet result = statement.executeQuery("SELECT 6 * 7")) {{
            result.next();
            System.out.println(result.getInt(1));
        }}
    }}
}}
"#,
        ca = authority.display(),
    )
}

impl fmt::Display for Snippets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for service in &self.services {
            let ServiceSnippets { name, kind, uri, pooled_uri, by_user, files } = service;
            writeln!(f, "\n== {name} ({kind}, plan startup-4)\n")?;
            writeln!(f, "service URI\n  {uri}\n")?;
            writeln!(f, "pooled URI (transaction endpoint)\n  {pooled_uri}\n")?;
            writeln!(f, "the service in the user's name\n  {by_user}\n")?;
            if service.name == self.services[0].name {
                for (file, text) in files {
                    writeln!(f, "-- {file}\n{text}")?;
                }
            }
        }
        writeln!(f, "The snippets of every service are in {}", self.directory.display())
    }
}
