//! `grantd account`: what an account is called, and which one is meant when a caller names none.

use std::path::Path;

use crate::api::wire::{ConnectionBody, NamingBody};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::pick;
use crate::cli::screen::{Screen, plain};
use crate::model::label::Label;

/// Give an account a label, or make it the one that is meant when none is named
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct AccountArgs {
    /// The connection's ID as `grantd status` shows it, the account's id, name or label, or the provider if it has only one
    #[arg(value_name = "ID-OR-NAME")]
    pub target: String,
    /// Call it so: 1 to 64 visible characters that no other of your accounts answers to
    #[arg(long, group = "change")]
    pub label: Option<Label>,
    /// Take its label away
    #[arg(long, group = "change", conflicts_with = "label")]
    pub no_label: bool,
    /// Make it the one that is meant at its provider when no account is named
    #[arg(long, group = "change")]
    pub default: bool,
    /// Let it be the default no longer
    #[arg(long, group = "change", conflicts_with = "default")]
    pub no_default: bool,
    /// Print the connection as JSON
    #[arg(long)]
    pub json: bool,
}

/// Changes it through the daemon at `socket`.
///
/// # Errors
/// If it is not clear which connection is meant, or the daemon refuses.
pub async fn run(args: AccountArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let client = Client::new(socket);
    let connection = pick::one(&client, &args.target).await?;
    let body = NamingBody {
        label: match args.label {
            Some(label) => Some(Some(label.to_string())),
            None => args.no_label.then_some(None),
        },
        default: if args.default { Some(true) } else { args.no_default.then_some(false) },
    };
    let path = format!("/v1/connections/{}", connection.id);
    if args.json {
        let named: serde_json::Value = client.patch(&path, &body).await?;
        writeln!(screen.out, "{named}")?;
        return Ok(ExitCode::Ok);
    }
    let named: ConnectionBody = client.patch(&path, &body).await?;
    writeln!(screen.out, "{}", told(&named))?;
    Ok(ExitCode::Ok)
}

fn told(named: &ConnectionBody) -> String {
    let ConnectionBody { provider, account, label, default, .. } = named;
    let label = label.as_ref().map_or_else(|| "no label".to_owned(), |label| format!("the label {}", plain(label)));
    let which = if *default { "and is the default" } else { "and is not the default" };
    format!("{provider} {} has {label} {which}.", plain(&account.name))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::screen::fake::Recorder;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: AccountArgs,
    }

    fn parsed(line: &[&str]) -> Option<AccountArgs> {
        Line::try_parse_from(["account"].iter().chain(line)).ok().map(|line| line.args)
    }

    #[tokio::test]
    async fn what_is_asked_for_is_sent_and_nothing_else() {
        for (line, sent, told) in [
            (&["work", "--label", "home"][..], json!({"label": "home"}), "has the label home and is not the default."),
            (&["work", "--no-label"], json!({"label": null}), "has no label and is not the default."),
            (&["work", "--default"], json!({"default": true}), "has no label and is the default."),
            (
                &["cx_1", "--label", "é 1", "--no-default"],
                json!({"label": "é 1", "default": false}),
                "has the label é 1 and is not the default.",
            ),
        ] {
            let connection = |body: &Value| {
                json!({
                    "id": "cx_1", "provider": "github", "account": {"id": "1", "name": "octocat"},
                    "label": body["label"], "default": body["default"].as_bool().unwrap_or_default(),
                    "state": "active", "scopes": [], "slots": [], "created_at": 1, "confirmed_at": 1,
                })
            };
            let daemon = Daemon::start(move |asked, body| match asked {
                "GET /v1/connections" => (200, json!({"connections": [connection(&json!({"label": "work"}))]})),
                "GET /v1/connections/cx_1" => (200, connection(&json!({}))),
                "PATCH /v1/connections/cx_1" if *body == sent => (200, connection(body)),
                _ => (404, json!({"error": "not_found", "error_description": "There is no such thing."})),
            });
            let mut recorder = Recorder::default();
            let args = parsed(line).unwrap();
            let result = run(args, &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await;
            assert_eq!(
                (result, recorder.out()),
                (Ok(ExitCode::Ok), format!("github octocat {told}\n").as_str()),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_line_that_changes_nothing_or_two_things_at_once_is_refused() {
        for line in [
            &["work"][..],
            &["work", "--json"],
            &["--default"],
            &["work", "--label", "a", "--no-label"],
            &["work", "--default", "--no-default"],
            &["work", "--label", " a"],
            &["work", "--label", ""],
        ] {
            assert!(parsed(line).is_none(), "{line:?}");
        }
    }
}
