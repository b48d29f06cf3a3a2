//! `grantd connect --paste`: sends the person's browser straight to the provider, and takes the address it could not open.

use url::Url;
use zeroize::Zeroizing;

use crate::api::wire::{AuthorizeBody, CallbackBody, SessionBody};
use crate::cli::client::{Client, Failure};
use crate::cli::connect::{ConnectArgs, account, path, warn};
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::model::secret::Proof;

/// Makes a session, begins it here, and brings the person through it.
pub(super) async fn run(args: &ConnectArgs, client: &Client, screen: &mut Screen<'_>) -> Result<SessionBody, CliError> {
    account::can_ask(args, screen)?;
    let made: SessionBody = client.post("/v1/connect", &args.request()).await?;
    warn(&made, screen)?;
    let mut begun: SessionBody = client.post(&format!("{}/start", path(&made)), &serde_json::json!({})).await?;
    let (Some(authorize), Some(proof)) = (begun.authorize.take(), begun.proof.take()) else {
        let message = "the daemon does not know how to begin in a terminal: is it of another version?";
        return Err(CliError::new(ExitCode::Failure, message));
    };
    writeln!(screen.err, "{}", instructions(&begun, &authorize))?;
    let came = given_back(client, &begun, &authorize.redirect_uri, &proof, screen).await?;
    account::settle(args, client, came, proof, screen).await
}

/// Asks for the address until the daemon takes one. Whoever gives none cancels.
async fn given_back(
    client: &Client,
    session: &SessionBody,
    redirect_uri: &Url,
    proof: &Proof,
    screen: &mut Screen<'_>,
) -> Result<SessionBody, CliError> {
    let path = path(session);
    loop {
        write!(screen.err, "The address your browser could not open: ")?;
        screen.err.flush()?;
        let mut line = Zeroizing::new(String::new());
        if screen.input.read_line(&mut line)? == 0 {
            writeln!(screen.err)?;
            drop(client.delete::<serde_json::Value>(&path).await);
            return Err(CliError::new(ExitCode::Denied, "cancelled: no address was given"));
        }
        if line.trim().is_empty() {
            continue;
        }
        let body = CallbackBody { url: address(&line, redirect_uri), proof: proof.clone() };
        match client.post(&format!("{path}/callback"), &body).await {
            Ok(came) => return Ok(came),
            Err(Failure::Problem(problem)) if problem.body.field.as_deref() == Some("url") => {
                writeln!(screen.err, "That cannot be it: {}\n", plain(&problem.body.error_description))?;
            }
            Err(Failure::Problem(problem)) if problem.body.error == "already_used" => {
                let message = "that answer was used before, or its time is over";
                let again = format!("Start again with: grantd connect {} --paste", session.provider);
                return Err(CliError::new(ExitCode::Connect, message).hint(again));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}

/// The address as it is meant: without what a terminal or a chat puts around it, and with the scheme that browsers hide.
fn address(line: &str, redirect_uri: &Url) -> String {
    let bare = line.trim().trim_matches(['<', '>', '"', '\'', '`']);
    let hidden = redirect_uri.as_str().strip_prefix("http://").filter(|rest| bare.starts_with(rest));
    match hidden {
        Some(_) => format!("http://{bare}"),
        None => bare.to_owned(),
    }
}

fn instructions(session: &SessionBody, authorize: &AuthorizeBody) -> String {
    let SessionBody { provider, .. } = session;
    let scopes = match session.scopes.to_string() {
        none if none.is_empty() => "what its settings there say".to_owned(),
        some => plain(&some),
    };
    format!(
        "You connect an account at {provider} to grantd on this machine, for yourself and the programs that run as you.\n\
         It asks for: {scopes}\n\n\
         1. Open this address in any browser. It is for you alone.\n\n  {}\n\n\
         2. Agree there. Your browser then tries to open an address that begins with\n\n  {}\n\n   \
         and fails, because grantd is not on that machine. That is as it should be.\n\
         3. Copy that whole address from your browser, and paste it here.\n",
        authorize.url, authorize.redirect_uri
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::connect::stage::{args, completed, session};
    use crate::cli::connect::{Desk, run};
    use crate::cli::screen::fake::Recorder;

    const GOOD: &str = "http://localhost:8717/callback/github?code=c&state=s";

    fn daemon() -> Daemon {
        Daemon::start(|asked, body| match asked {
            "POST /v1/connect" => (200, session("pending", "localhost:8717")),
            "POST /v1/connect/cn_1/start" => {
                let mut begun = session("opened", "localhost:8717");
                begun["proof"] = json!("p-secret");
                begun["authorize"] = json!({"url": "https://github.com/login/oauth/authorize?state=s",
                    "redirect_uri": "http://localhost:8717/callback/github"});
                (200, begun)
            }
            "POST /v1/connect/cn_1/callback" if body["proof"] != "p-secret" => (403, json!({"error": "wrong_proof"})),
            "POST /v1/connect/cn_1/callback" if body["url"] == GOOD => {
                let mut waits = session("awaiting_confirmation", "localhost:8717");
                waits["account"] = json!({"id": "1", "name": "octocat"});
                (200, waits)
            }
            "POST /v1/connect/cn_1/callback" if body["url"] == "used" => (410, json!({"error": "already_used"})),
            "POST /v1/connect/cn_1/callback" => {
                let why = "`url` must be the address that begins with something else.";
                (400, json!({"error": "invalid_request", "error_description": why, "field": "url"}))
            }
            "POST /v1/connect/cn_1/confirm" => (200, completed()),
            _ => (200, json!({})),
        })
    }

    async fn run_with(typed: &str) -> (Result<ExitCode, CliError>, Recorder, Daemon) {
        let daemon = daemon();
        let mut recorder = Recorder { terminal: true, ..Recorder::default() };
        let open = |_: &Url| panic!("there is no browser");
        let (args, mut typed) = (ConnectArgs { paste: true, ..args() }, typed.as_bytes());
        let result = run(args, &daemon.socket(), Desk::default(), &open, &mut recorder.screen(&mut typed)).await;
        (result, recorder, daemon)
    }

    #[tokio::test]
    async fn the_address_is_taken_the_account_shown_and_confirmed() {
        let (result, screen, daemon) = run_with(&format!("\n <{GOOD}> \ny\n")).await;
        assert_eq!(result, Ok(ExitCode::Ok));
        for said in ["It asks for: repo", "https://github.com/login/oauth/authorize?state=s", "octocat", "[y/N]"] {
            assert!(screen.err().contains(said), "{said}: {}", screen.err());
        }
        assert!(!screen.err().contains("p-secret"));
        assert_eq!(daemon.asked().last().unwrap(), "POST /v1/connect/cn_1/confirm");
    }

    #[tokio::test]
    async fn a_wrong_address_is_explained_and_the_right_one_still_taken() {
        let (result, screen, daemon) = run_with(&format!("https://github.com/\n{GOOD}\ny\n")).await;
        assert_eq!(result, Ok(ExitCode::Ok));
        assert!(screen.err().contains("That cannot be it: `url` must be the address"), "{}", screen.err());
        assert_eq!(daemon.asked().iter().filter(|asked| asked.ends_with("/callback")).count(), 2);
    }

    #[tokio::test]
    async fn a_used_answer_and_none_at_all_end_it() {
        let (result, ..) = run_with("used\n").await;
        let error = result.unwrap_err();
        assert_eq!(error.code, ExitCode::Connect);
        assert!(error.hint.unwrap().contains("grantd connect github --paste"));

        let (result, _, daemon) = run_with("").await;
        assert_eq!(result.unwrap_err().code, ExitCode::Denied);
        assert_eq!(daemon.asked().last().unwrap(), "DELETE /v1/connect/cn_1", "the link is worth nothing any more");
    }

    #[test]
    fn what_a_browser_hides_and_a_chat_adds_is_put_right() {
        let redirect_uri = Url::parse("http://localhost:8717/callback/github").unwrap();
        for (line, expected) in [
            (" http://localhost:8717/callback/github?code=c\n", "http://localhost:8717/callback/github?code=c"),
            ("localhost:8717/callback/github?code=c", "http://localhost:8717/callback/github?code=c"),
            ("'<http://localhost:8717/callback/github?code=c>'", "http://localhost:8717/callback/github?code=c"),
            ("evil.example/callback", "evil.example/callback"),
        ] {
            assert_eq!(address(line, &redirect_uri), expected, "{line}");
        }
    }
}
