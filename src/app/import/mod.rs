//! `postern import pgbouncer.ini`: the configuration that means the same, and
//! what has none.
//!
//! PgBouncer names databases, Postern names services: the servers behind
//! them. Databases on one server become one service, and clients go on naming
//! their database.

mod ini;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Failure;
use crate::domain::{NodeAddress, ServiceName};
use ini::{Kept, Section};

/// The plans that come with Postern, by what they allow on a node.
const PLANS: [(u32, &str); 3] = [(25, "hobbyist"), (100, "startup-4"), (u32::MAX, "custom")];

/// PgBouncer's `default_pool_size`.
const DEFAULT_POOL_SIZE: u32 = 20;

/// Prints what a file means.
///
/// # Errors
/// If it cannot be read.
pub fn run(path: &Path) -> Result<(), Failure> {
    let text = read(path)?;
    let imported = Import::of(&text);
    let users = imported.auth_file.as_ref().map(|file| {
        let base = path.parent().unwrap_or(Path::new(""));
        read(&base.join(file))
    });
    let users = match users {
        Some(Ok(text)) => ini::users(&text),
        Some(Err(error)) => {
            eprintln!("postern import: {error}");
            Vec::new()
        }
        None => Vec::new(),
    };
    print!("{}", imported.configuration(&users));
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path);
    text.map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// What was understood of a file.
#[derive(Debug, Default)]
struct Import {
    settings: BTreeMap<String, String>,
    /// The databases of each server.
    servers: BTreeMap<String, Server>,
    /// The server of databases that are not named.
    fallback: Option<String>,
    auth_file: Option<String>,
    without_equivalent: Vec<String>,
}

#[derive(Debug, Default)]
struct Server {
    databases: Vec<String>,
    pool_size: u32,
}

/// Keys that mean something here.
const KNOWN: [&str; 24] = [
    "listen_addr",
    "listen_port",
    "unix_socket_dir",
    "pool_mode",
    "max_client_conn",
    "default_pool_size",
    "max_db_connections",
    "query_wait_timeout",
    "server_idle_timeout",
    "server_lifetime",
    "max_prepared_statements",
    "client_login_timeout",
    "server_connect_timeout",
    "client_tls_sslmode",
    "client_tls_cert_file",
    "client_tls_key_file",
    "server_tls_sslmode",
    "server_tls_ca_file",
    "auth_type",
    "auth_file",
    "auth_user",
    "auth_query",
    "auth_dbname",
    "auth_hba_file",
];

impl Import {
    fn of(text: &str) -> Self {
        let (sections, strange) = ini::read(text);
        let mut import = Self::default();
        for line in strange {
            import.lacks(format!("line {line:?}"));
        }
        // The defaults are needed to understand the databases.
        for section in sections.iter().filter(|section| section.name == "pgbouncer") {
            import.read_settings(section);
        }
        for section in &sections {
            match section.name.as_str() {
                "pgbouncer" => {}
                "databases" => section.keys.iter().for_each(|(k, v)| import.read_database(k, v)),
                other => {
                    for (key, _) in &section.keys {
                        import.lacks(format!("[{other}] {key}"));
                    }
                }
            }
        }
        import
    }

    fn read_settings(&mut self, section: &Section) {
        for (key, value) in &section.keys {
            if KNOWN.contains(&key.as_str()) {
                self.settings.insert(key.clone(), value.clone());
            } else {
                self.lacks(format!("{key} = {value}"));
            }
        }
        self.auth_file = self.settings.get("auth_file").cloned();
        let replaced = [
            ("auth_query", "passwords are looked up by the function that `postern node sql` makes"),
            ("auth_hba_file", "see allowlist, and the server's own pg_hba.conf"),
        ];
        for (key, instead) in replaced {
            if self.settings.contains_key(key) {
                self.lacks(format!("{key}: {instead}"));
            }
        }
    }

    fn read_database(&mut self, name: &str, text: &str) {
        let words = ini::words(text);
        let word = |key: &str| {
            let mut found = words.iter().filter(|(word, _)| word == key);
            found.next_back().map(|(_, value)| value.as_str())
        };
        let host = word("host").unwrap_or("/var/run/postgresql");
        let port = word("port").unwrap_or("5432");
        let pool_size = word("pool_size").and_then(|size| size.parse().ok());
        let pool_size =
            pool_size.unwrap_or_else(|| self.number("default_pool_size", DEFAULT_POOL_SIZE));
        let dbname = word("dbname").unwrap_or(name).to_owned();
        let hosts: Vec<_> = host.split(',').map(|host| address(host.trim(), port)).collect();
        let forced = word("user").map(str::to_owned);
        let others =
            ["connect_query", "client_encoding", "datestyle", "timezone", "load_balance_hosts"];
        let others: Vec<_> = others.into_iter().filter(|key| word(key).is_some()).collect();
        let server = self.servers.entry(hosts.join(" ")).or_default();
        server.pool_size += pool_size;
        if name == "*" {
            self.fallback = Some(hosts.join(" "));
        } else {
            server.databases.push(name.to_owned());
        }
        if dbname != name && name != "*" {
            self.lacks(format!("database {name}: clients name the database {dbname} themselves"));
        }
        if let Some(user) = forced {
            self.lacks(format!(
                "database {name}: clients log in as {user} themselves, with its password"
            ));
        }
        for key in others {
            self.lacks(format!("database {name}: {key} (ALTER DATABASE … SET does it)"));
        }
    }

    fn lacks(&mut self, what: String) {
        self.without_equivalent.push(what);
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn number(&self, key: &str, default: u32) -> u32 {
        self.setting(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// The file, with what has no equivalent as comments at its end.
    fn configuration(&self, users: &[(String, Kept)]) -> String {
        let mut out = String::new();
        self.write_listen(&mut out);
        self.write_tls(&mut out);
        self.write_limits(&mut out);
        let mut names = Vec::new();
        for (hosts, server) in &self.servers {
            let name = service_name(&server.databases, &names);
            if self.fallback.as_ref() == Some(hosts) || self.servers.len() == 1 {
                let _ = write!(out, "\n[routing]\ndefault_service = \"{name}\"\n");
            }
            self.write_service(&mut out, &name, hosts, server);
            names.push(name);
        }
        self.write_remarks(&mut out, users);
        out
    }

    fn write_listen(&self, out: &mut String) {
        let port = self.number("listen_port", 6432);
        let mut addresses = Vec::new();
        for address in self.setting("listen_addr").unwrap_or("127.0.0.1").split(',') {
            match address.trim() {
                "*" => addresses.extend([format!("0.0.0.0:{port}"), format!("[::]:{port}")]),
                v6 if v6.contains(':') => addresses.push(format!("[{v6}]:{port}")),
                "localhost" => addresses.push(format!("127.0.0.1:{port}")),
                other => addresses.push(format!("{other}:{port}")),
            }
        }
        if let Some(directory) = self.setting("unix_socket_dir") {
            addresses.push(format!("{directory}:{port}"));
        }
        let list: Vec<_> = addresses.iter().map(|address| format!("{address:?}")).collect();
        let list = list.join(", ");
        let (session, transaction) = match self.setting("pool_mode").unwrap_or("session") {
            "session" => (list, String::new()),
            _ => (String::new(), list),
        };
        let _ = write!(out, "[listen]\nsession = [{session}]\ntransaction = [{transaction}]\n");
    }

    fn write_tls(&self, out: &mut String) {
        let mode = match self.setting("client_tls_sslmode").unwrap_or("disable") {
            "disable" => "disable",
            "allow" | "prefer" => "allow",
            _ => "require",
        };
        let _ = write!(out, "\n[tls]\nmode = \"{mode}\"\n");
        for (from, to) in [("client_tls_cert_file", "certificate"), ("client_tls_key_file", "key")]
        {
            if let Some(file) = self.setting(from) {
                let _ = writeln!(out, "{to} = {file:?}");
            }
        }
    }

    fn write_limits(&self, out: &mut String) {
        let _ = write!(out, "\n[limits]\nmax_clients = {}\n", self.number("max_client_conn", 100));
        let timeouts: Vec<_> = ["client_login_timeout", "server_connect_timeout"]
            .into_iter()
            .filter_map(|key| Some((key, self.setting(key)?)))
            .collect();
        if !timeouts.is_empty() {
            out.push_str("\n[timeouts]\n");
        }
        for (key, seconds) in timeouts {
            let _ = writeln!(out, "{key} = \"{seconds}s\"");
        }
    }

    fn write_service(&self, out: &mut String, name: &str, hosts: &str, server: &Server) {
        let wanted = server.pool_size.max(self.number("max_db_connections", 0));
        let plan =
            PLANS.iter().find(|(most, _)| wanted <= *most).map_or("custom", |(_, plan)| plan);
        let nodes: Vec<_> = hosts.split(' ').map(|host| format!("{host:?}")).collect();
        let databases = server.databases.join(", ");
        let _ = writeln!(out, "\n# Databases: {databases}");
        let _ = writeln!(out, "[[services]]\nname = \"{name}\"");
        if plan == "custom" {
            let _ = writeln!(
                out,
                "# {wanted} connections are more than a plan has: add one to [plans] file."
            );
        }
        let _ = writeln!(out, "plan = \"{plan}\"\nnodes = [{}]", nodes.join(", "));
        if let Some(mode) = self.setting("server_tls_sslmode") {
            let mode = if mode == "allow" { "prefer" } else { mode };
            let _ = writeln!(out, "node_tls = \"{mode}\"");
        }
        if let Some(file) = self.setting("server_tls_ca_file") {
            let _ = writeln!(out, "node_ca = {file:?}");
        }
        let _ = writeln!(out, "pool_size = {}", server.pool_size);
        for key in ["server_idle_timeout", "server_lifetime", "query_wait_timeout"] {
            if let Some(seconds) = self.setting(key) {
                let _ = writeln!(out, "{key} = \"{seconds}s\"");
            }
        }
        if let Some(count) = self.setting("max_prepared_statements").filter(|count| *count != "0") {
            let _ = writeln!(out, "max_prepared_statements = {count}");
        }
        let _ = writeln!(out, "# The role is made by: postern node sql | psql -d postgres");
        let _ = writeln!(
            out,
            "management = {{ user = \"postern\", password_file = \"{name}.password\" }}"
        );
    }

    fn write_remarks(&self, out: &mut String, users: &[(String, Kept)]) {
        let mut remarks = self.without_equivalent.clone();
        if self.auth_file.is_some() {
            remarks.push(
                "auth_file: passwords are checked against the server's own verifiers; no list is \
                 kept"
                    .to_owned(),
            );
        }
        let md5: Vec<_> = users
            .iter()
            .filter(|(_, kept)| *kept == Kept::Md5)
            .map(|(name, _)| name.as_str())
            .collect();
        if !md5.is_empty() {
            remarks.push(format!(
                "users {} have MD5 passwords: set them again with password_encryption = \
                 'scram-sha-256', or they cannot log in",
                md5.join(", ")
            ));
        }
        if remarks.is_empty() {
            return;
        }
        out.push_str("\n# Without an equivalent:\n");
        for remark in remarks {
            let line: String =
                remark.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = writeln!(out, "#   {line}");
        }
    }
}

/// A node's address as Postern writes it.
fn address(host: &str, port: &str) -> String {
    let bare = if host.contains(':') && !host.starts_with('/') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    bare.parse::<NodeAddress>().map_or(bare, |address| address.to_string())
}

/// A name that is one: made of the first database's.
fn service_name(databases: &[String], taken: &[String]) -> String {
    let first = databases.first().map_or("main", String::as_str);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = first.chars().map(plain).take(48).collect();
    let name = name.trim_matches('-').to_owned();
    let name = if name.parse::<ServiceName>().is_ok() { name } else { format!("db-{name}") };
    let name =
        name.trim_end_matches('-').trim_end_matches("-ro").trim_end_matches("-pooler").to_owned();
    let mut numbered = (2..).map(|number| format!("{name}-{number}"));
    let is_free = |name: &String| !taken.contains(name);
    if is_free(&name) { name } else { numbered.find(is_free).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::control::config;

    const FILE: &str = "\
[databases]
shop = host=db1 port=5433 dbname=shop pool_size=30
stats = host=db1 port=5433 dbname=reporting user=reader
* = host=10.0.0.7

[users]
bob = pool_mode=session

[pgbouncer]
listen_addr = 127.0.0.1, ::1
listen_port = 6432
pool_mode = transaction
max_client_conn = 500
query_wait_timeout = 60
server_idle_timeout = 300
auth_type = scram-sha-256
auth_file = userlist.txt
admin_users = root
server_tls_sslmode = prefer
";

    #[test]
    fn what_is_printed_is_a_configuration_that_loads() {
        let directory = tempfile::tempdir().unwrap();
        let import = Import::of(FILE);
        let text = import.configuration(&[("old".to_owned(), Kept::Md5)]);
        for name in ["shop", "main"] {
            let path = directory.path().join(format!("{name}.password"));
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let settings = config::parse(&text, directory.path());
        let settings = settings.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!(settings.limits.max_clients, 500);
        assert_eq!((settings.listen.session.len(), settings.listen.transaction.len()), (0, 2));
        let names: Vec<_> = settings.services.iter().map(|s| s.name.to_string()).collect();
        assert_eq!(names, ["main", "shop"]);
        assert_eq!(settings.routing.default_service.unwrap().as_str(), "main");
        let shop = &settings.services[1];
        assert_eq!((shop.nodes[0].to_string(), &*shop.plan.name), ("db1:5433".into(), "startup-4"));
        assert_eq!(shop.pooling.pool_size, Some(50));
        assert_eq!(shop.pooling.query_wait_timeout.unwrap().as_secs(), 60);
        for remark in [
            "admin_users = root",
            "[users] bob",
            "database stats: clients name the database reporting themselves",
            "database stats: clients log in as reader themselves",
            "users old have MD5 passwords",
            "auth_file",
        ] {
            assert!(text.contains(&format!("#   {remark}")), "{remark} in\n{text}");
        }
    }

    #[test]
    fn every_database_leads_to_a_name_that_is_one() {
        for database in ["Shop", "my_db", "1", "-", "x-ro", "postern", &"a".repeat(70)] {
            let name = service_name(&[database.to_owned()], &[]);
            assert!(name.parse::<ServiceName>().is_ok(), "{database} → {name}");
        }
        assert_eq!(service_name(&["a".to_owned()], &["a".to_owned()]), "a-2");
    }
}
