//! `grantd status`: what is connected, how it stands, and what needs a person.

mod explained;
mod trouble;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::api::wire::{ConnectionBody, ConnectionsBody, ProvidersBody};
use crate::broker::forecast::Why;
use crate::cli::client::Client;
use crate::cli::duration;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::cli::table::{Cell, TITLE, align, cell, titles};
use crate::clock::{Clock, SystemClock};
use crate::model::connection::ReconnectReason;
use crate::model::time::Timestamp;

/// Show what is connected, when it expires, and what needs a person
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Everybody's connections; for administrators
    #[arg(long)]
    pub all: bool,
}

const HELD: &str = "The store may be an old copy: some accounts are not renewed until an administrator has decided. \
See why with: grantd restore";

/// Asks the daemon at `socket` and prints a table. `screen.out` may strip the colours.
///
/// # Errors
/// If the daemon does not say.
pub async fn run(args: StatusArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let client = Client::new(socket);
    let path = if args.all { "/v1/connections?all=true" } else { "/v1/connections" };
    if args.json {
        let mut listed: serde_json::Value = client.get(path, Duration::ZERO).await?;
        let providers: serde_json::Value = client.get("/v1/providers", Duration::ZERO).await?;
        listed["providers"] = providers["providers"].clone();
        writeln!(screen.out, "{listed:#}")?;
        return Ok(ExitCode::Ok);
    }
    let listed: ConnectionsBody = client.get(path, Duration::ZERO).await?;
    if listed.held.is_some() {
        writeln!(screen.err, "{HELD}")?;
    }
    let providers: ProvidersBody = client.get("/v1/providers", Duration::ZERO).await?;
    let now = SystemClock.now();
    let trouble = trouble::of(&providers.providers, now);
    if listed.connections.is_empty() {
        write!(screen.out, "{}{trouble}", nothing_connected(&providers))?;
        return Ok(ExitCode::Ok);
    }
    write!(screen.out, "{}", table(&listed.connections, args.all, now))?;
    write!(screen.out, "{trouble}{}", to_do(&listed.connections))?;
    write!(screen.out, "{}", explained::retried(&listed.connections, &providers.providers))?;
    write!(screen.out, "{}", to_come(&listed.connections, now))?;
    Ok(ExitCode::Ok)
}

const GOOD: Style = AnsiColor::Green.on_default();
const PASSING: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

fn table(connections: &[ConnectionBody], everybody: bool, now: Timestamp) -> String {
    let mut columns = vec!["PROVIDER", "ACCOUNT", "STATE", "EXPIRES", "RENEWS", "USED", "ID"];
    let named = connections.iter().any(|connection| connection.default || connection.label.is_some());
    if named {
        columns.insert(2, "LABEL");
    }
    if everybody {
        columns.insert(0, "SUBJECT");
    }
    let mut rows = vec![titles(columns)];
    rows.extend(connections.iter().map(|connection| row(connection, named, everybody, now)));
    align(&rows)
}

fn row(connection: &ConnectionBody, named: bool, everybody: bool, now: Timestamp) -> Vec<Cell> {
    let (state, style) = state(connection);
    let mut cells = vec![
        cell(connection.provider.as_str()),
        cell(plain(&connection.account.name)),
        Cell { text: state.to_owned(), style },
        cell(expires(connection, now)),
        cell(renews(connection, now)),
        cell(used(connection, now)),
        cell(connection.id.as_str()),
    ];
    if named {
        cells.insert(2, cell(label(connection)));
    }
    if everybody {
        let subject = connection.subject.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        cells.insert(0, cell(subject));
    }
    cells
}

/// What the account is called here, and whether it is the default.
fn label(connection: &ConnectionBody) -> String {
    match (connection.label.as_deref().map(plain), connection.default) {
        (Some(label), true) => format!("{label} (default)"),
        (Some(label), false) => label,
        (None, true) => "(default)".to_owned(),
        (None, false) => "-".to_owned(),
    }
}

fn state(connection: &ConnectionBody) -> (&str, Style) {
    match &*connection.state {
        "active" => ("connected", GOOD),
        "refresh_failed" => ("renewal failed, retrying", PASSING),
        "needs_reconnect" => ("needs you", BAD),
        "revoked" => ("disconnected", TITLE),
        other => (other, Style::new()),
    }
}

/// The access token that dies first.
fn expires(connection: &ConnectionBody, now: Timestamp) -> String {
    match connection.slots.iter().filter_map(|slot| slot.expires_at).min() {
        None if connection.slots.is_empty() => "-".to_owned(),
        None => "never".to_owned(),
        Some(at) if Timestamp::from_secs(at) <= now => "expired".to_owned(),
        Some(at) => format!("in {}", duration::words(Timestamp::from_secs(at).until(now))),
    }
}

fn renews(connection: &ConnectionBody, now: Timestamp) -> String {
    match connection.slots.iter().filter_map(|slot| slot.renew_at).min() {
        None => "-".to_owned(),
        Some(at) if Timestamp::from_secs(at) <= now => "now".to_owned(),
        Some(at) => format!("in {}", duration::words(Timestamp::from_secs(at).until(now))),
    }
}

fn used(connection: &ConnectionBody, now: Timestamp) -> String {
    let Some(at) = connection.used_at else { return "never".to_owned() };
    // It is known to the minute.
    match now.since(Timestamp::from_secs(at)) {
        span if span < Duration::from_secs(60) => "just now".to_owned(),
        span => format!("{} ago", duration::words(span)),
    }
}

/// One line for each connection that waits for a person.
fn to_do(connections: &[ConnectionBody]) -> String {
    let mut text = String::new();
    for connection in connections.iter().filter(|connection| connection.state == "needs_reconnect") {
        let reason = ReconnectReason::ALL
            .into_iter()
            .find(|reason| connection.reason.as_deref() == Some(reason.as_str()))
            .map_or("It has to be connected again.", ReconnectReason::sentence);
        let ConnectionBody { provider, id, account, .. } = connection;
        let name = plain(&account.name);
        let _ = writeln!(text, "\n{provider} {name}: {reason}");
        for line in explained::of(connection) {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "  grantd connect {provider} --reconnect {id}");
    }
    text
}

/// One line for each connection that will need a person.
fn to_come(connections: &[ConnectionBody], now: Timestamp) -> String {
    let mut text = String::new();
    for connection in connections.iter().filter(|connection| connection.state != "needs_reconnect") {
        let Some(at) = connection.needs_person_at.map(Timestamp::from_secs) else { continue };
        let why = Why::ALL
            .into_iter()
            .find(|why| connection.needs_person_because.as_deref() == Some(why.as_str()))
            .map_or_else(|| "it has to be connected again".to_owned(), |why| reason(why, connection, at));
        let ConnectionBody { provider, account, .. } = connection;
        let _ = writeln!(text, "\n{provider} {}: needs you {}: {why}", plain(&account.name), when(at, now));
    }
    text
}

fn reason(why: Why, connection: &ConnectionBody, at: Timestamp) -> String {
    if why != Why::ConsentEnds {
        return why.sentence().to_owned();
    }
    let span = at.since(Timestamp::from_secs(connection.confirmed_at));
    format!("the provider ends the access {} after you agreed", duration::words(span))
}

/// `on 3 Dec (in 10 days)`; what is near needs no date, and what has passed none either.
fn when(at: Timestamp, now: Timestamp) -> String {
    let span = at.until(now);
    if span.is_zero() {
        return "now".to_owned();
    }
    let relative = duration::words(span);
    match chrono::DateTime::from_timestamp(at.as_secs(), 0) {
        Some(date) if span >= Duration::from_secs(86_400) => format!("on {} (in {relative})", date.format("%-d %b %Y")),
        _ => format!("in {relative}"),
    }
}

fn nothing_connected(providers: &ProvidersBody) -> String {
    let Some(first) = providers.providers.first() else {
        return "Nothing is connected, and no provider is configured yet: add one to the configuration file.\n"
            .to_owned();
    };
    let names: Vec<&str> = providers.providers.iter().map(|provider| provider.id.as_str()).collect();
    format!(
        "Nothing is connected yet. Connect an account with:\n\n  grantd connect {}\n\nProviders here: {}\n",
        first.id,
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::screen::fake::Recorder;

    fn connection(provider: &str, account: &str, state: &str) -> Value {
        json!({
            "id": "cx_1", "provider": provider, "account": {"id": "1", "name": account}, "state": state,
            "scopes": ["repo"], "created_at": 1, "confirmed_at": 1,
            "slots": [{"slot": "main", "scope": "repo", "expires_at": 12_000, "renew_at": 9_600}],
        })
    }

    fn provider(state: &str) -> Value {
        json!({"id": "github", "name": "GitHub", "scopes": {"main": ["repo"]}, "state": state})
    }

    fn read(list: Vec<Value>) -> Vec<ConnectionBody> {
        serde_json::from_value(Value::Array(list)).unwrap()
    }

    fn plain_table(connections: &[ConnectionBody], now: i64) -> String {
        let styled = table(connections, false, Timestamp::from_secs(now));
        anstream::adapter::strip_str(&styled).to_string()
    }

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut forever = connection("slack", "Ünïted \u{1b}[2J", "refresh_failed");
        forever["slots"] = json!([{"slot": "bot", "scope": ""}, {"slot": "user", "scope": ""}]);
        let list = read(vec![connection("github", "octocat", "active"), forever]);
        assert_eq!(
            plain_table(&list, 0),
            "PROVIDER  ACCOUNT      STATE                     EXPIRES        RENEWS         USED   ID\n\
             github    octocat      connected                 in 3 h 20 min  in 2 h 40 min  never  cx_1\n\
             slack     Ünïted \u{fffd}[2J  renewal failed, retrying  never          -              never  cx_1\n"
        );
    }

    #[test]
    fn labels_and_the_default_have_a_column_where_there_are_any() {
        let mut work = connection("github", "octocat", "active");
        (work["label"], work["default"]) = (json!("work"), json!(true));
        let mut home = connection("github", "hubot", "active");
        home["label"] = json!("ho\u{1b}me");
        let table = plain_table(&read(vec![work, home, connection("slack", "acme", "active")]), 0);
        let column: Vec<&str> = table.lines().map(|line| line[19..35].trim_end()).collect();
        assert_eq!(column[..2], ["LABEL", "work (default)"], "{table}");
        assert!(column[2].starts_with("ho\u{fffd}me") && column[3].starts_with('-'), "{table}");
    }

    #[test]
    fn a_token_past_its_time_is_expired_and_a_renewal_past_its_time_is_now() {
        let table = plain_table(&read(vec![connection("github", "o", "active")]), 12_000);
        assert!(table.contains("  expired  now  "), "{table}");
    }

    #[test]
    fn the_last_use_is_told_to_the_minute() {
        let mut used = connection("github", "o", "active");
        used["used_at"] = json!(12_000);
        for (now, expected) in [(11_000, "  just now  "), (12_059, "  just now  "), (12_300, "  5 min ago  ")] {
            let table = plain_table(&read(vec![used.clone()]), now);
            assert!(table.contains(expected), "{table}");
        }
    }

    #[test]
    fn what_will_need_a_person_says_when_and_why() {
        const DAY: i64 = 86_400;
        let ending = |at: i64, why: &str| {
            let mut ending = connection("slack", "acme", "active");
            ending["needs_person_at"] = json!(at);
            ending["needs_person_because"] = json!(why);
            ending["confirmed_at"] = json!(20 * DAY);
            to_come(&read(vec![ending]), Timestamp::from_secs(40 * DAY))
        };
        assert_eq!(
            ending(50 * DAY, "consent_ends"),
            "\nslack acme: needs you on 20 Feb 1970 (in 10 days): the provider ends the access 30 days after you agreed\n"
        );
        for (at, why, expected) in [
            (40 * DAY + 3600, "no_refresh_token", "needs you in 1 h: the access ends, and the provider gave no way"),
            (40 * DAY - 1, "not_renewed", "needs you now: the access ends because"),
            (50 * DAY, "a word of a later version", "(in 10 days): it has to be connected again\n"),
        ] {
            let text = ending(at, why);
            assert!(text.contains(expected), "{text}");
        }
        assert_eq!(to_come(&read(vec![connection("github", "o", "active")]), Timestamp::from_secs(0)), "");
    }

    #[test]
    fn what_needs_a_person_says_why_and_how() {
        let mut dead = connection("github", "octocat", "needs_reconnect");
        dead["reason"] = json!("user_action");
        let list = read(vec![connection("google", "x", "active"), dead]);
        assert_eq!(
            to_do(&list),
            "\ngithub octocat: The provider wants you to sign in or agree again.\n  \
             grantd connect github --reconnect cx_1\n"
        );
    }

    #[test]
    fn what_the_provider_meant_stands_between_the_reason_and_the_command() {
        let mut dead = connection("microsoft", "ada", "needs_reconnect");
        dead["reason"] = json!("refresh_token_invalid");
        dead["slots"][0]["last_failure"] =
            json!({"class": "rejected", "number": 50173, "explanation": "It was revoked."});
        let text = to_do(&read(vec![dead]));
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines, ["  50173: It was revoked.", "  grantd connect microsoft --reconnect cx_1"], "{text}");
    }

    #[tokio::test]
    async fn programs_get_the_providers_beside_the_connections() {
        let daemon = Daemon::start(|asked, _| match asked {
            "GET /v1/connections" => (200, json!({"connections": [], "held": "older_copy"})),
            _ => (200, json!({"providers": [provider("frozen")]})),
        });
        let mut recorder = Recorder::default();
        let args = StatusArgs { json: true, all: false };
        run(args, &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await.unwrap();
        let told: Value = serde_json::from_str(recorder.out()).unwrap();
        assert_eq!(told["providers"][0]["state"], "frozen");
        assert_eq!((&told["connections"], &told["held"]), (&json!([]), &json!("older_copy")));
    }

    #[test]
    fn whose_it_is_is_shown_to_whoever_asked_for_everybody() {
        let mut other = connection("github", "o", "active");
        other["subject"] = json!({"tenant": "local", "user": "uid:1000"});
        let table = table(&read(vec![other]), true, Timestamp::from_secs(0));
        assert!(table.contains("SUBJECT") && table.contains("local/uid:1000"), "{table}");
    }

    #[tokio::test]
    async fn a_store_that_is_held_and_a_provider_in_trouble_are_told_beside_the_list() {
        let list = json!({"connections": [connection("github", "octocat", "active")], "held": "older_copy"});
        let daemon = Daemon::start(move |asked, _| match asked {
            "GET /v1/connections" => (200, list.clone()),
            _ => (200, json!({"providers": [provider("frozen")]})),
        });
        let mut recorder = Recorder::default();
        let args = StatusArgs { json: false, all: false };
        let result = run(args, &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await;
        assert_eq!(result, Ok(ExitCode::Ok));
        assert!(recorder.err().contains("grantd restore") && recorder.out().contains("octocat"), "{}", recorder.err());
        assert!(recorder.out().contains("grantd provider release github"), "{}", recorder.out());
    }

    #[tokio::test]
    async fn where_nothing_is_connected_the_way_to_connect_is_shown() {
        let daemon = Daemon::start(|asked, _| match asked {
            "GET /v1/connections" => (200, json!({"connections": []})),
            _ => (200, json!({"providers": [provider("ok")]})),
        });
        let mut recorder = Recorder::default();
        let args = StatusArgs { json: false, all: false };
        let result = run(args, &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await;
        assert_eq!(result, Ok(ExitCode::Ok));
        assert!(recorder.out().contains("grantd connect github"), "{}", recorder.out());
        assert!(nothing_connected(&ProvidersBody { providers: vec![] }).contains("no provider is configured"));
    }
}
