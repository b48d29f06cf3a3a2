//! `grantd disconnect`: revoke connections at their providers, forget them here, and say honestly what came of it.

mod many;
mod words;

use std::path::Path;
use std::time::Duration;

use crate::api::wire::{ConnectionBody, DisconnectBody, ProviderBody, ProvidersBody};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::pick;
use crate::cli::screen::Screen;

/// Revoke a connection at the provider and forget it
#[derive(clap::Args, Clone, Debug, Default)]
pub struct DisconnectArgs {
    /// The connection's ID as `grantd status` shows it, the account's id, name or label, or the provider if it has only one
    #[arg(value_name = "ID-OR-PROVIDER", required_unless_present = "all", conflicts_with = "all")]
    pub target: Option<String>,
    /// Everything that is connected
    #[arg(long)]
    pub all: bool,
    /// With --all: everybody's connections; for administrators
    #[arg(long, requires = "all")]
    pub all_users: bool,
    /// Take back more than the connection, where the provider has a way; you are told what else goes
    #[arg(long)]
    pub wider: bool,
    /// Do not ask first
    #[arg(long, short)]
    pub yes: bool,
    /// Print what happened as JSON
    #[arg(long)]
    pub json: bool,
}

/// Disconnects through the daemon at `socket`, after asking the person. [`ExitCode::Provider`] if a provider has not confirmed
/// yet; what a person has to do by hand is told and counts as done.
///
/// # Errors
/// If it is not clear which connection is meant, if the person says no, or if the daemon cannot do it.
pub async fn run(args: DisconnectArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let client = Client::new(socket);
    let Some(target) = &args.target else {
        return many::run(&args, &client, screen).await;
    };
    let connection = pick::one(&client, target).await?;
    let providers: ProvidersBody = client.get("/v1/providers", Duration::ZERO).await?;
    let provider = of(&providers, &connection);
    if args.wider && provider.is_none_or(|provider| provider.revoke_wider.is_none()) {
        let message = format!("{} has no way to take back more than this connection", connection.provider);
        return Err(CliError::new(ExitCode::Usage, message).hint("Leave out --wider."));
    }
    if !args.yes {
        let question = words::question(&connection, provider, args.wider);
        confirm(&question, screen)?;
    }
    let done: DisconnectBody = client.delete(&path(&connection, args.wider)).await?;
    if args.json {
        let text = serde_json::to_string(&done).map_err(std::io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    } else {
        writeln!(screen.out, "{}", words::outcome(&connection, &done))?;
    }
    Ok(if is_pending(&done) { ExitCode::Provider } else { ExitCode::Ok })
}

fn of<'p>(providers: &'p ProvidersBody, connection: &ConnectionBody) -> Option<&'p ProviderBody> {
    providers.providers.iter().find(|provider| provider.id == connection.provider)
}

fn path(connection: &ConnectionBody, wider: bool) -> String {
    let query = if wider { "?wider=true" } else { "" };
    format!("/v1/connections/{}{query}", connection.id)
}

fn is_pending(done: &DisconnectBody) -> bool {
    done.upstream == "pending" || done.wider.as_deref() == Some("pending")
}

/// Asks; anything but a yes is an error.
fn confirm(question: &str, screen: &mut Screen<'_>) -> Result<(), CliError> {
    if !screen.input_is_terminal {
        let message = "there is nobody to ask whether it may be disconnected";
        return Err(CliError::new(ExitCode::Usage, message).hint("Say so with --yes."));
    }
    write!(screen.err, "{question} [y/N] ")?;
    screen.err.flush()?;
    let mut answer = String::new();
    screen.input.read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(CliError::new(ExitCode::Denied, "nothing was disconnected"))
}

#[cfg(test)]
mod tests;
