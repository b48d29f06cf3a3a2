//! Disconnects everything, and says of each connection what came of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::api::wire::{ConnectionBody, ConnectionsBody, DisconnectBody, ProvidersBody};
use crate::cli::client::Client;
use crate::cli::disconnect::{DisconnectArgs, confirm, is_pending, of, path, words};
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::pick::called;
use crate::cli::screen::{Screen, plain};
use crate::cli::table::{align, cell, titles};

/// One connection, and what came of it.
struct Done {
    connection: ConnectionBody,
    outcome: Result<DisconnectBody, CliError>,
}

/// The same for a program.
#[derive(Serialize)]
struct Line<'d> {
    connection: &'d str,
    provider: &'d str,
    account: &'d crate::model::connection::Account,
    #[serde(flatten)]
    outcome: Option<&'d DisconnectBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'d str>,
}

pub(super) async fn run(args: &DisconnectArgs, client: &Client, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let listed = if args.all_users { "/v1/connections?all=true" } else { "/v1/connections" };
    let listed: ConnectionsBody = client.get(listed, Duration::ZERO).await?;
    let providers: ProvidersBody = client.get("/v1/providers", Duration::ZERO).await?;
    if !args.yes && !listed.connections.is_empty() {
        confirm(&question(&listed.connections, &providers, args.wider), screen)?;
    }
    let mut all = Vec::new();
    for connection in listed.connections {
        // Where a provider has no wider way, the connection alone is what can be had.
        let has_wider = of(&providers, &connection).is_some_and(|provider| provider.revoke_wider.is_some());
        let outcome = client.delete(&path(&connection, args.wider && has_wider)).await.map_err(CliError::from);
        all.push(Done { connection, outcome });
    }
    if args.json {
        let lines: Vec<Line<'_>> = all.iter().map(line).collect();
        let text =
            serde_json::to_string(&serde_json::json!({ "disconnected": lines })).map_err(std::io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    } else {
        write!(screen.out, "{}", report(&all, args.all_users))?;
    }
    Ok(code(&all))
}

/// Nothing failed and nothing is pending, or the first thing that did.
fn code(all: &[Done]) -> ExitCode {
    let failed = all.iter().find_map(|done| done.outcome.as_ref().err());
    match failed {
        Some(error) => error.code,
        None if all.iter().any(|done| done.outcome.as_ref().is_ok_and(is_pending)) => ExitCode::Provider,
        None => ExitCode::Ok,
    }
}

fn question(connections: &[ConnectionBody], providers: &ProvidersBody, wider: bool) -> String {
    let mut text = String::new();
    for connection in connections {
        let _ = writeln!(text, "  {} {}", connection.provider, called(connection));
    }
    let about: BTreeSet<String> =
        connections.iter().filter_map(|connection| words::about(of(providers, connection)?, wider)).collect();
    for about in about {
        let _ = writeln!(text, "{about}");
    }
    let count = connections.len();
    let what = if count == 1 { "this connection".to_owned() } else { format!("all {count} of them") };
    let more = if wider { ", and everything that goes with it" } else { "" };
    let _ = write!(text, "Disconnect {what}{more}?");
    text
}

fn report(all: &[Done], everybody: bool) -> String {
    if all.is_empty() {
        return "Nothing is connected.\n".to_owned();
    }
    let mut rows = vec![titles(["PROVIDER", "ACCOUNT", "RESULT", "ID"])];
    if everybody {
        rows[0].insert(0, titles(["SUBJECT"]).remove(0));
    }
    rows.extend(all.iter().map(|Done { connection, outcome }| {
        let mut row = vec![
            cell(connection.provider.as_str()),
            cell(called(connection)),
            cell(result(outcome)),
            cell(connection.id.as_str()),
        ];
        if everybody {
            row.insert(0, cell(connection.subject.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)));
        }
        row
    }));
    let mut text = align(&rows);
    for Done { connection, outcome } in all {
        match outcome {
            Ok(done) if done.upstream == "revoked" && done.wider.as_deref().is_none_or(|wider| wider == "revoked") => {}
            Ok(done) => {
                let _ = write!(text, "\n{}\n", words::outcome(connection, done));
            }
            Err(error) => {
                let _ = write!(text, "\n{} {}: {}\n", connection.provider, called(connection), plain(&error.message));
            }
        }
    }
    text
}

fn result(outcome: &Result<DisconnectBody, CliError>) -> &'static str {
    match outcome {
        Ok(done) if is_pending(done) => "not confirmed yet",
        Ok(done) if done.upstream == "revoked" && done.wider.as_deref().is_none_or(|wider| wider == "revoked") => {
            "revoked"
        }
        Ok(_) => "left to you",
        Err(_) => "still connected",
    }
}

fn line(done: &Done) -> Line<'_> {
    Line {
        connection: done.connection.id.as_str(),
        provider: done.connection.provider.as_str(),
        account: &done.connection.account,
        outcome: done.outcome.as_ref().ok(),
        error: done.outcome.as_ref().err().map(|error| error.message.as_str()),
    }
}
