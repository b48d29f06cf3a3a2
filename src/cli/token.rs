//! `grantd token`: print an access token and nothing else.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::api::wire::{AccountBody, ProblemBody, TokenBody, TokenReply};
use crate::cli::client::{Client, Failure};
use crate::cli::duration;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::model::id::{ProviderId, SlotName};
use crate::model::scope::Scope;

/// Print an access token and nothing else
///
/// Exits with 3 if a person has to connect an account first: the link is then on stderr, and stdout is empty.
#[derive(clap::Args, Clone, Debug)]
pub struct TokenArgs {
    /// The provider, such as `github`
    pub provider: ProviderId,
    /// The account, by id or name; needed if several are connected
    #[arg(long)]
    pub account: Option<String>,
    /// Which of the connection's tokens, such as `bot` or `user` at Slack
    #[arg(long)]
    pub slot: Option<SlotName>,
    /// A scope that the token must have; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<Scope>,
    /// How long the token should be good for: 60, 90s, 5m, 1h
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    pub min_ttl: Option<Duration>,
    /// How long to wait for a person who is connecting the account, at most 60s
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    pub wait: Option<Duration>,
    /// Print the whole answer as JSON: expiry, scopes, account
    #[arg(long, conflicts_with = "header")]
    pub json: bool,
    /// Print an HTTP header: `Authorization: Bearer …`
    #[arg(long)]
    pub header: bool,
}

/// Asks the daemon at `socket` for a token and prints it.
///
/// # Errors
/// If there is no token: stdout is then empty.
pub async fn run(args: TokenArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let wait = args.wait.unwrap_or_default();
    let body = TokenBody {
        provider: args.provider,
        account: args.account,
        slot: args.slot,
        scopes: (!args.scopes.is_empty()).then(|| args.scopes.into_iter().collect()),
        min_ttl: args.min_ttl.map(|span| span.as_secs()),
        rejected: None,
        wait: args.wait.map(|span| span.as_secs()),
        purpose: None,
        connect: None,
    };
    let asked = Client::new(socket).post_raw("/v1/token", &body, wait).await;
    let answer = match asked {
        Ok(answer) => answer,
        Err(Failure::Problem(problem)) if problem.status.as_u16() == 409 => {
            return Err(person(&problem.body, &body.provider));
        }
        Err(failure) => return Err(failure.into()),
    };
    let Ok(reply) = serde_json::from_slice::<TokenReply>(&answer) else {
        return Err(CliError::new(ExitCode::Failure, "the daemon's answer holds no token"));
    };
    if args.json {
        screen.out.write_all(&answer)?;
        writeln!(screen.out)?;
    } else if args.header {
        writeln!(screen.out, "Authorization: Bearer {}", reply.access_token.expose())?;
    } else {
        writeln!(screen.out, "{}", reply.access_token.expose())?;
    }
    screen.out.flush()?;
    Ok(ExitCode::Ok)
}

/// What a person has to do before there can be a token.
pub(crate) fn person(problem: &ProblemBody, provider: &ProviderId) -> CliError {
    let message = match (&*problem.error, &problem.missing_scopes) {
        ("connection_required", _) => format!("no account is connected at {provider}"),
        ("insufficient_scope", Some(missing)) => format!("the account at {provider} has not agreed to: {missing}"),
        ("account_ambiguous", _) => format!("several accounts are connected at {provider}: say which"),
        ("reconnect_required", _) => format!("{provider} has to be connected again"),
        _ => problem.error_description.trim_end_matches('.').to_owned(),
    };
    CliError::new(ExitCode::Connect, message).hint(what_to_do(problem, provider))
}

fn what_to_do(problem: &ProblemBody, provider: &ProviderId) -> String {
    let mut lines = String::new();
    if problem.error == "reconnect_required" {
        let _ = writeln!(lines, "{}", problem.error_description);
    }
    for account in problem.accounts.iter().flatten() {
        let AccountBody { id, name, label, .. } = account;
        let label = label.as_ref().map_or_else(String::new, |label| format!(", label {}", plain(label)));
        let _ = writeln!(lines, "  --account {:?}  ({}{label})", plain(name), plain(id));
    }
    if let Some(url) = &problem.connect_url {
        let code = problem.user_code.as_deref().unwrap_or("the same code");
        let _ = writeln!(lines, "Open this link and check that the page shows {code}:");
        let _ = writeln!(lines, "  {url}");
    } else if problem.accounts.is_none() {
        let scopes = problem.missing_scopes.iter().flat_map(|missing| missing.iter());
        let flags: String = scopes.map(|scope| format!(" --scope {scope}")).collect();
        let _ = writeln!(lines, "Connect it with: grantd connect {provider}{flags}");
    }
    lines.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::screen::fake::Recorder;

    fn args() -> TokenArgs {
        TokenArgs {
            provider: "github".parse().unwrap(),
            account: None,
            slot: None,
            scopes: vec!["repo".parse().unwrap()],
            min_ttl: Some(Duration::from_secs(300)),
            wait: None,
            json: false,
            header: false,
        }
    }

    fn token(_: &str, body: &Value) -> (u16, Value) {
        assert_eq!(*body, json!({"provider": "github", "scopes": ["repo"], "min_ttl": 300}));
        let account = json!({"id": "1", "name": "octocat"});
        (200, json!({"access_token": "gho_1", "account": account, "expires_in": 60}))
    }

    async fn run_with(
        args: TokenArgs,
        script: fn(&str, &Value) -> (u16, Value),
    ) -> (Result<ExitCode, CliError>, String) {
        let daemon = Daemon::start(script);
        let mut recorder = Recorder::default();
        let result = run(args, &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await;
        assert_eq!(recorder.err(), "");
        (result, recorder.out().to_owned())
    }

    #[tokio::test]
    async fn the_token_is_printed_and_nothing_else() {
        assert_eq!(run_with(args(), token).await, (Ok(ExitCode::Ok), "gho_1\n".to_owned()));
        let header = TokenArgs { header: true, ..args() };
        assert_eq!(run_with(header, token).await.1, "Authorization: Bearer gho_1\n");
        let json = TokenArgs { json: true, ..args() };
        let printed: Value = serde_json::from_str(&run_with(json, token).await.1).unwrap();
        assert_eq!(printed["expires_in"], 60);
    }

    #[tokio::test]
    async fn without_a_connection_the_link_is_in_the_hint_and_stdout_is_empty() {
        let (result, out) = run_with(args(), |_, _| {
            (
                409,
                json!({"error": "connection_required", "error_description": "x",
                       "connect_url": "http://localhost:8717/connect/cn_1", "user_code": "WDJB-MJHT"}),
            )
        })
        .await;
        let error = result.unwrap_err();
        assert_eq!((error.code, out.as_str()), (ExitCode::Connect, ""));
        let hint = error.hint.unwrap();
        assert!(hint.contains("http://localhost:8717/connect/cn_1") && hint.contains("WDJB-MJHT"), "{hint}");
    }

    #[tokio::test]
    async fn an_answer_without_a_token_prints_nothing() {
        let (result, out) = run_with(args(), |_, _| (200, json!({"access_token": "a\nb"}))).await;
        assert_eq!((result.unwrap_err().code, out.as_str()), (ExitCode::Failure, ""));
    }

    #[test]
    fn of_several_accounts_each_is_shown_as_it_can_be_named() {
        let problem: ProblemBody = serde_json::from_value(json!({
            "error": "account_ambiguous", "accounts": [{"id": "1", "name": "a", "connection": "cx_1"},
                         {"id": "2", "name": "b\u{1b}", "label": "work", "connection": "cx_2"}],
        }))
        .unwrap();
        let hint = person(&problem, &"github".parse().unwrap()).hint.unwrap();
        assert_eq!(hint, "  --account \"a\"  (1)\n  --account \"b\u{fffd}\"  (2, label work)");
    }

    #[test]
    fn without_a_link_the_command_is_named() {
        let problem: ProblemBody =
            serde_json::from_value(json!({"error": "insufficient_scope", "missing_scopes": ["repo", "gist"]})).unwrap();
        let error = person(&problem, &"github".parse().unwrap());
        assert_eq!(error.message, "the account at github has not agreed to: gist repo");
        assert_eq!(error.hint.unwrap(), "Connect it with: grantd connect github --scope gist --scope repo");
    }
}
