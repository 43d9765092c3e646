//! `postern token`

use clap::Subcommand;
use hyper::Method;

use super::{Reach, Table};
use crate::app::Failure;
use crate::control::api::model::{NewToken, TokenCreate, TokenView};
use crate::control::api::{Page, segment};
use crate::control::catalog::record::Scope;

/// What can be done about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it: the only time that it is shown.
    Create {
        /// What it is for.
        description: String,
        /// What it may do: read; write: change services and see their
        /// passwords; admin: also nodes and tokens.
        #[arg(long, default_value = "read")]
        scope: Scope,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// The tokens, without their secrets.
    List {
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// Take a token away.
    Delete {
        /// Its id.
        id: String,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
}

/// Runs one of them.
///
/// # Errors
/// What the API said.
pub fn run(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { description, scope, reach } => {
            let body = TokenCreate { description, scope };
            let made: NewToken =
                reach.ask(async |api| api.with_body(Method::POST, "/v1/tokens", &body).await)?;
            reach.print(&made, |made| format!("{}\n", made.token))
        }
        TokenCommand::List { reach } => {
            let page: Page<TokenView> =
                reach.ask(async |api| api.get("/v1/tokens?limit=1000").await)?;
            reach.print(&page, |page| {
                let mut table = Table::new(&["ID", "SCOPE", "CREATED", "DESCRIPTION"]);
                for token in &page.items {
                    let scope = format!("{:?}", token.scope).to_lowercase();
                    let (created, text) = (token.created_at.clone(), token.description.clone());
                    table.row([token.id.clone(), scope, created, text]);
                }
                table.text()
            })
        }
        TokenCommand::Delete { id, reach } => {
            let path = format!("/v1/tokens/{}", segment(&id));
            reach.ask(async |api| api.delete(&path).await)
        }
    }
}
