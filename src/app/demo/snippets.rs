//! What the demo prints: for each service URIs and pieces of code that work as
//! they are. They are also written to files, so that a test runs exactly what
//! is printed.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::nodes::{DATABASE, DemoService, Nodes, USER};
use super::ports::Ports;
use crate::app::Failure;

/// Everything that is printed.
pub(super) struct Snippets {
    services: Vec<ServiceSnippets>,
    directory: PathBuf,
    authority: PathBuf,
    ports: Ports,
}

struct ServiceSnippets {
    name: &'static str,
    kind: &'static str,
    plan: &'static str,
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
        Ok(Self { services, directory, authority, ports })
    }

    /// The URIs of a service that came later.
    pub(super) fn uris(&self, service: &DemoService) -> String {
        snippets(service, &self.authority, self.ports).uris()
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
    let DemoService { name, kind, plan, password, .. } = service;
    let ca = percent_encoded(authority);
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
        ("Query.java", jdbc(service, &ca, port)),
    ];
    ServiceSnippets { name, kind, plan, uri: session, pooled_uri: pooled, by_user, files }
}

impl ServiceSnippets {
    fn uris(&self) -> String {
        let Self { name, kind, plan, uri, pooled_uri, by_user, .. } = self;
        format!(
            "== {name} ({kind}, plan {plan})\n\n\
             service URI\n  {uri}\n\n\
             pooled URI (transaction endpoint)\n  {pooled_uri}\n\n\
             the service in the user's name\n  {by_user}\n"
        )
    }
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
            "sslrootcert": {ca:?},
        }},
    }}
}}
"#,
        ca = authority.display().to_string(),
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

fn jdbc(service: &DemoService, ca: &str, port: u16) -> String {
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
"#
    )
}

/// A path as the value of a parameter in a URI.
fn percent_encoded(path: &Path) -> String {
    let mut encoded = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

impl fmt::Display for Snippets {
    /// The URIs last, where they stay on the screen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ServiceSnippets { name, files, .. } in &self.services {
            for (file, text) in files {
                writeln!(f, "-- {name}/{file}\n{text}")?;
            }
        }
        for service in &self.services {
            writeln!(f, "{}", service.uris())?;
        }
        writeln!(f, "The snippets above are files in {}", self.directory.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_uri_keeps_its_slashes_and_nothing_else_that_means_something() {
        assert_eq!(percent_encoded(Path::new("/tmp/a-b_c.d~/ca.crt")), "/tmp/a-b_c.d~/ca.crt");
        assert_eq!(percent_encoded(Path::new("/a b/50%&+?#=")), "/a%20b/50%25%26%2B%3F%23%3D");
    }
}
