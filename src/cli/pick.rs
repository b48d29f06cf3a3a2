//! Which connection a person means: by its ID, or by a name that means one and no other.

use std::time::Duration;

use crate::api::wire::{ConnectionBody, ConnectionsBody};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::plain;
use crate::model::id::ConnectionId;

/// Asks the daemon for the connection that `target` means.
///
/// # Errors
/// If nothing answers to it, or more than one does.
pub(crate) async fn one(client: &Client, target: &str) -> Result<ConnectionBody, CliError> {
    if let Ok(id) = target.parse::<ConnectionId>() {
        return Ok(client.get(&format!("/v1/connections/{id}"), Duration::ZERO).await?);
    }
    let listed: ConnectionsBody = client.get("/v1/connections", Duration::ZERO).await?;
    choose(listed.connections, target)
}

/// By the provider if it has only one connection, or by the account's id, name or label.
fn choose(mut connections: Vec<ConnectionBody>, target: &str) -> Result<ConnectionBody, CliError> {
    connections.retain(|connection| answers_to(connection, target));
    if connections.len() > 1 {
        let lines: Vec<String> = connections
            .iter()
            .map(|connection| format!("  {}  {} {}", connection.id, connection.provider, called(connection)))
            .collect();
        let message = format!("several accounts answer to `{}`: say which by its ID", plain(target));
        return Err(CliError::new(ExitCode::Usage, message).hint(lines.join("\n")));
    }
    connections.pop().ok_or_else(|| {
        let message = format!("nothing is connected that answers to `{}`", plain(target));
        CliError::new(ExitCode::Usage, message).hint("See what is with: grantd status")
    })
}

fn answers_to(connection: &ConnectionBody, target: &str) -> bool {
    let ConnectionBody { provider, account, label, .. } = connection;
    provider.as_str() == target || account.answers_to(target) || label.as_deref() == Some(target)
}

/// The account as a person knows it: `octocat`, or `octocat (work)`.
pub(crate) fn called(connection: &ConnectionBody) -> String {
    let name = plain(&connection.account.name);
    match &connection.label {
        Some(label) => format!("{name} ({})", plain(label)),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn connections() -> Vec<ConnectionBody> {
        [
            ("cx_1", "github", "1", "octocat", Some("work")),
            ("cx_2", "google", "2", "ada@example.com", None),
            ("cx_3", "google", "3", "grace@example.com", Some("home")),
            ("cx_4", "slack", "U4", "octocat", None),
        ]
        .into_iter()
        .map(|(id, provider, account, name, label)| {
            serde_json::from_value(json!({
                "id": id, "provider": provider, "account": {"id": account, "name": name}, "label": label,
                "state": "active", "scopes": [], "slots": [], "created_at": 1, "confirmed_at": 1,
            }))
            .unwrap()
        })
        .collect()
    }

    #[test]
    fn a_name_means_one_connection_or_none() {
        for (target, expected) in [
            ("github", Ok("cx_1")),
            ("work", Ok("cx_1")),
            ("home", Ok("cx_3")),
            ("3", Ok("cx_3")),
            ("ada@example.com", Ok("cx_2")),
            ("U4", Ok("cx_4")),
            ("google", Err("several accounts answer to `google`: say which by its ID")),
            ("octocat", Err("several accounts answer to `octocat`: say which by its ID")),
            ("Work", Err("nothing is connected that answers to `Work`")),
            ("", Err("nothing is connected that answers to ``")),
        ] {
            let chosen = choose(connections(), target);
            let found = chosen.as_ref().map(|found| found.id.as_str()).map_err(|error| error.message.as_str());
            assert_eq!(found, expected, "{target}");
        }
        let hint = choose(connections(), "google").unwrap_err().hint.unwrap();
        assert_eq!(hint, "  cx_2  google ada@example.com\n  cx_3  google grace@example.com (home)");
    }
}
