//! `postern token`

use clap::Subcommand;
use hyper::Method;

use super::{Reach, WithId};
use crate::app::Failure;
use crate::control::api::model::{NewToken, TokenCreate, TokenView};
use crate::control::api::segment;
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
    Delete(WithId),
}

/// Runs one of them.
///
/// # Errors
/// What the API said.
pub fn run(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { description, scope, reach } => {
            let body = TokenCreate { description, scope };
            let made: NewToken = reach.send(Method::POST, "/v1/tokens", &body)?;
            reach.print(&made, |made| format!("{}\n", made.token))
        }
        TokenCommand::List { reach } => {
            let head = ["ID", "SCOPE", "CREATED", "DESCRIPTION"];
            reach.list("/v1/tokens", head, |token: &TokenView| {
                let scope = format!("{:?}", token.scope).to_lowercase();
                let (created, text) = (token.created_at.clone(), token.description.clone());
                [token.id.clone(), scope, created, text]
            })
        }
        TokenCommand::Delete(WithId { id, reach }) => {
            reach.delete(&format!("/v1/tokens/{}", segment(&id)))
        }
    }
}
