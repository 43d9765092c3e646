//! Lines of `pg_hba.conf` that Postern's server logins cannot satisfy.
//!
//! Postern logs clients' roles in by SCRAM, from its own address. The first
//! line that fits a login decides, so lines are looked at in order until one
//! fits everybody. Which address the node sees, only the node knows: it is
//! asked about this very connection.

use std::net::IpAddr;

use tokio_postgres::Row;

use super::finding::Findings;
use crate::control::config::Management;
use crate::control::management::error::NodeError;
use crate::control::management::session::{Session, value};

/// How the node sees us.
const OURSELVES: &str = "\
    SELECT pg_catalog.inet_client_addr(), s.ssl
    FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_catalog.pg_backend_pid()";

const RULES: &str = "\
    SELECT line_number, type, database, user_name, address, netmask, auth_method, error
    FROM pg_catalog.pg_hba_file_rules";

/// Where we come from, in the node's eyes; without an address over a socket.
#[derive(Debug, Clone, Copy)]
struct Ourselves {
    address: Option<IpAddr>,
    encrypted: bool,
}

/// A line of the file.
#[derive(Debug, Clone)]
struct Rule {
    line: i32,
    kind: String,
    databases: Vec<String>,
    users: Vec<String>,
    address: Option<String>,
    netmask: Option<String>,
    method: String,
}

/// Names lines that keep clients' roles out.
pub(super) async fn check(
    session: &Session,
    role: &Management,
    findings: &mut Findings<'_>,
) -> Result<(), NodeError> {
    let rows = match session.rows(RULES, &[]).await {
        Err(error) if error.is_about_rights() => {
            findings.warning(
                "pg_hba.conf could not be checked, because the management role may not read it: \
                 run the output of `postern node sql` again",
            );
            return Ok(());
        }
        rows => rows?,
    };
    let ourselves = session.one_row(OURSELVES, &[]).await?;
    let ourselves = Ourselves { address: value(&ourselves, 0)?, encrypted: value(&ourselves, 1)? };
    let mut rules = Vec::new();
    for row in &rows {
        match value::<Option<String>>(row, 7)? {
            Some(error) => findings.problem(format!(
                "pg_hba.conf line {} is in error, so the node keeps to an older file: {error}",
                value::<Option<i32>>(row, 0)?.unwrap_or_default()
            )),
            None => rules.push(Rule::read(row)?),
        }
    }
    judge(&rules, ourselves, &role.user, findings);
    Ok(())
}

fn judge(rules: &[Rule], ourselves: Ourselves, own_role: &str, findings: &mut Findings<'_>) {
    let mut lets_in = false;
    let clients = |rule: &&Rule| rule.is_for_clients(own_role) && rule.may_match(ourselves);
    for rule in rules.iter().filter(clients) {
        let (everybody, method) = (rule.is_for_everybody(), rule.method.as_str());
        let line = rule.line;
        match (method, everybody) {
            ("scram-sha-256" | "md5" | "trust", _) => lets_in = true,
            ("reject", false) => {}
            (_, true) => findings.problem(format!(
                "pg_hba.conf line {line} asks every role that comes from here for \"{method}\", \
                 which Postern cannot give: put a line with scram-sha-256 for Postern's address \
                 before it"
            )),
            (_, false) => findings.warning(format!(
                "pg_hba.conf line {line} asks {} for \"{method}\", which Postern cannot give: put \
                 a line with scram-sha-256 for Postern's address before it",
                rule.who()
            )),
        }
        if everybody && rule.surely_matches(ourselves) {
            return;
        }
    }
    if !lets_in {
        let from = ourselves.address.map_or("a local socket".to_owned(), |ip| ip.to_string());
        findings.problem(format!(
            "no line of pg_hba.conf lets clients' roles in from {from}: add one with scram-sha-256"
        ));
    }
}

impl Rule {
    fn read(row: &Row) -> Result<Self, NodeError> {
        let list = |column| value::<Option<Vec<String>>>(row, column);
        Ok(Self {
            line: value(row, 0)?,
            kind: value(row, 1)?,
            databases: list(2)?.unwrap_or_default(),
            users: list(3)?.unwrap_or_default(),
            address: value(row, 4)?,
            netmask: value(row, 5)?,
            method: value(row, 6)?,
        })
    }

    fn is_for_clients(&self, own_role: &str) -> bool {
        self.users != [own_role] && self.databases != ["replication"]
    }

    fn is_for_everybody(&self) -> bool {
        let all = |names: &[String]| names.iter().any(|name| name == "all");
        all(&self.databases) && all(&self.users)
    }

    fn who(&self) -> String {
        let (users, databases) = (self.users.join(", "), self.databases.join(", "));
        format!("{users} in {databases}")
    }

    /// Whether a login from here could come to this line.
    fn may_match(&self, ourselves: Ourselves) -> bool {
        let kind = match self.kind.as_str() {
            "local" => return ourselves.address.is_none(),
            "hostssl" => ourselves.encrypted,
            "hostnossl" => !ourselves.encrypted,
            "hostgssenc" => false,
            _ => true,
        };
        let Some(ip) = ourselves.address else {
            return false;
        };
        kind && self.block().is_none_or(|block| block.contains(ip))
    }

    /// Whether it certainly would: a host name, `samehost` and `samenet` mean
    /// what only the node knows.
    fn surely_matches(&self, ourselves: Ourselves) -> bool {
        let known = self.kind == "local" || self.address.as_deref() == Some("all");
        self.may_match(ourselves) && (known || self.block().is_some())
    }

    fn block(&self) -> Option<Block> {
        Some(Block {
            address: self.address.as_ref()?.parse().ok()?,
            netmask: self.netmask.as_ref()?.parse().ok()?,
        })
    }
}

/// Addresses that are the same under a mask.
#[derive(Debug, Clone, Copy)]
struct Block {
    address: IpAddr,
    netmask: IpAddr,
}

impl Block {
    fn contains(self, ip: IpAddr) -> bool {
        match (self.address, self.netmask, ip) {
            (IpAddr::V4(address), IpAddr::V4(mask), IpAddr::V4(ip)) => address & mask == ip & mask,
            (IpAddr::V6(address), IpAddr::V6(mask), IpAddr::V6(ip)) => address & mask == ip & mask,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Subject;
    use super::*;

    /// `type databases users address netmask method`, as the view splits them.
    fn rules(text: &str) -> Vec<Rule> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        let rule = |(index, line): (usize, &str)| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let some = |word: &str| (word != "-").then(|| word.to_owned());
            Rule {
                line: i32::try_from(index).unwrap() + 1,
                kind: words[0].to_owned(),
                databases: list(words[1]),
                users: list(words[2]),
                address: some(words[3]),
                netmask: some(words[4]),
                method: words[5].to_owned(),
            }
        };
        text.lines().enumerate().map(rule).collect()
    }

    fn found(address: Option<&str>, encrypted: bool, text: &str) -> Vec<String> {
        let name = "orders".parse().unwrap();
        let mut findings = Findings::new(Subject::Service(&name));
        let address = address.map(|ip| ip.parse().unwrap());
        let ourselves = Ourselves { address, encrypted };
        judge(&rules(text), ourselves, "postern", &mut findings);
        findings.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_line_for_everybody_decides() {
        let text = "host all all 127.0.0.1 255.255.255.255 scram-sha-256\nhost all all all - ldap";
        assert_eq!(found(Some("127.0.0.1"), false, text).len(), 0);
        assert_eq!(found(Some("10.0.0.1"), false, text).len(), 1);
        assert_eq!(found(Some("::1"), false, text).len(), 1);
        assert_eq!(found(None, false, text).len(), 1);
    }

    #[test]
    fn lines_that_do_not_concern_us_are_passed_over() {
        let text = "local all all - - peer\n\
            hostssl all all all - cert\n\
            host replication all all - ldap\n\
            host all postern all - password\n\
            host all mallory all - reject\n\
            host all all 10.0.0.0 255.0.0.0 md5";
        assert_eq!(found(Some("10.1.2.3"), false, text).len(), 0);
        assert_eq!(found(Some("10.1.2.3"), true, text).len(), 1);
        assert_eq!(found(None, false, text).len(), 1);
    }

    #[test]
    fn a_line_for_some_is_a_warning() {
        let text = "host sales bob samenet - ident\nhost all all 0.0.0.0 0.0.0.0 scram-sha-256";
        let found = found(Some("10.1.2.3"), false, text);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("warning"), "{found:?}");
    }
}
