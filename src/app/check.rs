//! `postern check` and `postern node sql`.

use std::path::Path;

use super::Failure;
use super::reload;
use crate::control::config;
use crate::control::management::{inspect, node_sql};

/// Reports everything that is wrong with a configuration and, if asked to
/// connect, with the nodes it names.
///
/// # Errors
/// If there is a problem; warnings alone are none.
pub fn run(path: &Path, connect: bool) -> Result<(), Failure> {
    let settings = match config::load(path) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems.iter() {
                println!("problem: {problem}");
            }
            return Err(Failure::new(format!("{}: not usable", path.display())));
        }
    };
    for warning in &settings.warnings {
        println!("warning: {warning}");
    }
    reload::policy(&settings)?;
    reload::snapshot(&settings)?;
    if connect {
        look_at_nodes(&settings)?;
    }
    println!("{}: ok, {} services", path.display(), settings.services.len());
    Ok(())
}

fn look_at_nodes(settings: &config::Settings) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(inspect(settings));
    for finding in &findings {
        println!("{finding}");
    }
    let problems = findings.iter().filter(|finding| finding.is_problem()).count();
    if problems == 0 { Ok(()) } else { Err(Failure::new(format!("{problems} problems"))) }
}

/// Prints the SQL that makes the management role.
///
/// # Errors
/// None; the signature is that of every command.
pub fn print_node_sql(role: &str) -> Result<(), Failure> {
    print!("{}", node_sql(role));
    Ok(())
}
