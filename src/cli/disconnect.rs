//! `grantd disconnect`: revoke a connection at the provider, forget it here, and say honestly what came of it.

use std::path::Path;
use std::time::Duration;

use crate::api::wire::{ConnectionBody, ConnectionsBody, DisconnectBody};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::model::id::ConnectionId;

/// Revoke a connection at the provider and forget it
#[derive(clap::Args, Clone, Debug)]
pub struct DisconnectArgs {
    /// The connection's ID as `grantd status` shows it, or the provider if it has only one connection
    #[arg(value_name = "ID-OR-PROVIDER")]
    pub target: String,
    /// Do not ask first
    #[arg(long, short)]
    pub yes: bool,
    /// Print what happened as JSON
    #[arg(long)]
    pub json: bool,
}

/// Disconnects through the daemon at `socket`, after asking the person.
///
/// # Errors
/// If it is not clear which connection is meant, if the person says no, or if the daemon cannot do it.
pub async fn run(args: DisconnectArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let client = Client::new(socket);
    let connection = find(&client, &args.target).await?;
    if !args.yes && !confirm(&connection, screen)? {
        return Err(CliError::new(ExitCode::Denied, "nothing was disconnected"));
    }
    let done: DisconnectBody = client.delete(&format!("/v1/connections/{}", connection.id)).await?;
    if args.json {
        let text = serde_json::to_string(&done).map_err(std::io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    } else {
        writeln!(screen.out, "{}", outcome(&connection, &done))?;
    }
    Ok(ExitCode::Ok)
}

async fn find(client: &Client, target: &str) -> Result<ConnectionBody, CliError> {
    if let Ok(id) = target.parse::<ConnectionId>() {
        return Ok(client.get(&format!("/v1/connections/{id}"), Duration::ZERO).await?);
    }
    let listed: ConnectionsBody = client.get("/v1/connections", Duration::ZERO).await?;
    choose(listed.connections, target)
}

fn choose(mut connections: Vec<ConnectionBody>, provider: &str) -> Result<ConnectionBody, CliError> {
    connections.retain(|connection| connection.provider.as_str() == provider);
    if connections.len() > 1 {
        let lines: Vec<String> = connections
            .iter()
            .map(|connection| format!("  {}  {}", connection.id, plain(&connection.account.name)))
            .collect();
        let message = format!("several accounts are connected at {provider}: say which by its ID");
        return Err(CliError::new(ExitCode::Usage, message).hint(lines.join("\n")));
    }
    connections.pop().ok_or_else(|| {
        let message = format!("nothing is connected at `{}`", plain(provider));
        CliError::new(ExitCode::Usage, message).hint("See what is with: grantd status")
    })
}

fn confirm(connection: &ConnectionBody, screen: &mut Screen<'_>) -> Result<bool, CliError> {
    if !screen.input_is_terminal {
        let message = "there is nobody to ask whether it may be disconnected";
        return Err(CliError::new(ExitCode::Usage, message).hint("Say so with --yes."));
    }
    let ConnectionBody { provider, account, .. } = connection;
    write!(screen.err, "Disconnect {provider} {}? [y/N] ", plain(&account.name))?;
    screen.err.flush()?;
    let mut answer = String::new();
    screen.input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn outcome(connection: &ConnectionBody, done: &DisconnectBody) -> String {
    let ConnectionBody { provider, account, .. } = connection;
    let name = plain(&account.name);
    let by_hand = match &done.manual_url {
        Some(url) => format!("\nYou can take it back there yourself:\n  {url}"),
        None => "\nYou can take it back yourself in the settings of your account there.".to_owned(),
    };
    match &*done.upstream {
        "revoked" => format!("Disconnected {provider} {name}. The provider has confirmed that the access is gone."),
        "by_hand" => format!(
            "Disconnected {provider} {name} here. The provider still lists the access, because it has no way for grantd to \
             end just this one.{by_hand}"
        ),
        "pending" => format!(
            "Disconnected {provider} {name} here. The provider has not confirmed it yet; grantd keeps trying.{by_hand}"
        ),
        _ => format!("Disconnected {provider} {name} here."),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::screen::fake::Recorder;

    fn connection(id: &str, provider: &str) -> Value {
        json!({
            "id": id, "provider": provider, "account": {"id": "1", "name": "octocat"}, "state": "active",
            "scopes": [], "slots": [], "created_at": 1, "confirmed_at": 1,
        })
    }

    fn daemon() -> Daemon {
        Daemon::start(|asked, _| match asked {
            "GET /v1/connections" => {
                let list = [("cx_1", "github"), ("cx_2", "google"), ("cx_3", "google")];
                let list: Vec<Value> = list.iter().map(|(id, provider)| connection(id, provider)).collect();
                (200, json!({"connections": list}))
            }
            "GET /v1/connections/cx_2" => (200, connection("cx_2", "google")),
            "DELETE /v1/connections/cx_1" => (200, json!({"connection": "cx_1", "upstream": "revoked"})),
            "DELETE /v1/connections/cx_2" => {
                let url = "https://myaccount.google.com/connections";
                (200, json!({"connection": "cx_2", "upstream": "by_hand", "manual_url": url}))
            }
            _ => (404, json!({"error": "not_found", "error_description": "There is no such thing."})),
        })
    }

    async fn run_with(
        target: &str,
        yes: bool,
        answer: &str,
        terminal: bool,
    ) -> (Result<ExitCode, CliError>, String, usize) {
        let daemon = daemon();
        let args = DisconnectArgs { target: target.to_owned(), yes, json: false };
        let mut recorder = Recorder { terminal, ..Recorder::default() };
        let result = run(args, &daemon.socket(), &mut recorder.screen(&mut answer.as_bytes())).await;
        let deleted = daemon.asked().iter().filter(|asked| asked.starts_with("DELETE")).count();
        (result, recorder.out().to_owned(), deleted)
    }

    #[tokio::test]
    async fn a_provider_with_one_connection_is_enough_of_a_name() {
        let (result, out, deleted) = run_with("github", true, "", false).await;
        assert_eq!((result, deleted), (Ok(ExitCode::Ok), 1));
        assert!(out.contains("has confirmed"), "{out}");
    }

    #[tokio::test]
    async fn what_is_left_to_do_by_hand_is_said_with_the_address() {
        let (_, out, deleted) = run_with("cx_2", true, "", false).await;
        assert!(out.contains("https://myaccount.google.com/connections") && !out.contains("confirmed"), "{out}");
        assert_eq!(deleted, 1);
    }

    #[tokio::test]
    async fn nothing_is_disconnected_unless_it_is_clear_what_and_that_it_is_meant() {
        for (target, yes, answer, terminal, code) in [
            ("google", true, "", false, ExitCode::Usage),
            ("slack", true, "", false, ExitCode::Usage),
            ("cx_9", true, "", false, ExitCode::Usage),
            ("github", false, "", false, ExitCode::Usage),
            ("github", false, "n\n", true, ExitCode::Denied),
            ("github", false, "", true, ExitCode::Denied),
        ] {
            let (result, out, deleted) = run_with(target, yes, answer, terminal).await;
            assert_eq!(result.unwrap_err().code, code, "{target} {answer:?}");
            assert_eq!((out.as_str(), deleted), ("", 0), "{target} {answer:?}");
        }
        assert_eq!(run_with("github", false, "y\n", true).await.2, 1);
    }
}
