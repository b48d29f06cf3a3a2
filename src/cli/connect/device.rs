//! `grantd connect --device`: shows the code to enter on any device, waits, and asks about the account that came back.

use crate::api::wire::{ConnectBody, DeviceBody, SessionBody};
use crate::cli::client::{Client, Failure};
use crate::cli::connect::browser::qr;
use crate::cli::connect::{ConnectArgs, account, wait, warn};
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};

/// Makes a session that goes on by a device flow, and brings the person through it.
pub(super) async fn run(args: &ConnectArgs, client: &Client, screen: &mut Screen<'_>) -> Result<SessionBody, CliError> {
    account::can_ask(args, screen)?;
    let body = ConnectBody { device: Some(true), ..args.request() };
    let begun: Result<SessionBody, Failure> = client.post("/v1/connect", &body).await;
    let mut session = begun.map_err(|failure| explained(args, failure))?;
    let (Some(device), Some(proof)) = (session.device.take(), session.proof.take()) else {
        let message = "the daemon does not know the device flow: is it of another version?";
        return Err(CliError::new(ExitCode::Failure, message));
    };
    warn(&session, screen)?;
    writeln!(screen.err, "{}", instructions(&session, &device, screen.err_is_terminal))?;
    screen.err.flush()?;
    let waits = |session: &SessionBody| session.status == "awaiting_confirmation";
    let came = wait::until(client, session, |_| "Waiting for you to enter the code", waits, screen).await?;
    account::settle(args, client, came, proof, screen).await
}

fn explained(args: &ConnectArgs, failure: Failure) -> CliError {
    match failure {
        Failure::Problem(problem) if problem.body.field.as_deref() == Some("device") => {
            let message = format!("{} has no device flow, or not for this kind of client", args.provider);
            let hint = format!("Without a browser on this machine: grantd connect {} --paste", args.provider);
            CliError::new(ExitCode::Usage, message).hint(hint)
        }
        failure => failure.into(),
    }
}

fn instructions(session: &SessionBody, device: &DeviceBody, terminal: bool) -> String {
    let DeviceBody { user_code, verification_uri, verification_uri_complete, .. } = device;
    let scopes = match session.scopes.to_string() {
        none if none.is_empty() => String::new(),
        some => format!("\nIt asks for: {}\n", plain(&some)),
    };
    let mut text = format!(
        "To connect {}, open this page on any device and enter the code:\n\n  {verification_uri}\n  {}\n{scopes}",
        session.provider,
        plain(user_code)
    );
    let link = verification_uri_complete.as_ref().unwrap_or(verification_uri);
    if let Some(code) = terminal.then(|| qr(link)).flatten() {
        text.push('\n');
        text.push_str(&code);
        text.push('\n');
    }
    text.push_str("\nEnter it only because you asked for it here, and tell it to nobody.");
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use url::Url;

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::connect::stage::{args, completed, session};
    use crate::cli::connect::{Desk, run};
    use crate::cli::screen::fake::Recorder;

    /// The account comes back at the first look, and what is said about it is taken.
    fn daemon() -> Daemon {
        Daemon::start(|asked, body| match asked {
            "POST /v1/connect" => {
                assert_eq!(body["device"], true);
                let mut begun = session("opened", "localhost:8717");
                begun["proof"] = json!("p-secret");
                begun["device"] = json!({"user_code": "WDJB-MJHT", "verification_uri": "https://github.com/login/device",
                    "interval": 5, "expires_at": 4_000_000_000_i64});
                (200, begun)
            }
            "POST /v1/connect/cn_1/confirm" if body["proof"] == "p-secret" => (200, completed()),
            "POST /v1/connect/cn_1/decline" => (200, session("denied", "localhost:8717")),
            _ => {
                let mut waits = session("awaiting_confirmation", "localhost:8717");
                waits["account"] = json!({"id": "1", "name": "octocat"});
                waits["granted"] = json!(["repo"]);
                (200, waits)
            }
        })
    }

    async fn run_with(
        args: ConnectArgs,
        terminal: bool,
        typed: &str,
    ) -> (Result<ExitCode, CliError>, Recorder, Daemon) {
        let daemon = daemon();
        let mut recorder = Recorder { terminal, ..Recorder::default() };
        let open = |_: &Url| panic!("there is no browser");
        let mut typed = typed.as_bytes();
        let result = run(args, &daemon.socket(), Desk::default(), &open, &mut recorder.screen(&mut typed)).await;
        (result, recorder, daemon)
    }

    fn by_device() -> ConnectArgs {
        ConnectArgs { device: true, ..args() }
    }

    #[tokio::test]
    async fn the_person_sees_the_code_then_the_account_and_has_the_last_word() {
        let (result, screen, daemon) = run_with(by_device(), true, "y\n").await;
        assert_eq!(result, Ok(ExitCode::Ok));
        for said in ["https://github.com/login/device", "WDJB-MJHT", "It asks for: repo", "octocat", "[y/N]"] {
            assert!(screen.err().contains(said), "{said}: {}", screen.err());
        }
        assert!(!screen.err().contains("p-secret") && !screen.out().contains("p-secret"));
        assert_eq!(daemon.asked().last().unwrap(), "POST /v1/connect/cn_1/confirm");
        assert!(screen.out().starts_with("Connected github as octo"));
    }

    #[tokio::test]
    async fn anything_but_yes_is_no() {
        for typed in ["n\n", "\n", "", "yess\n"] {
            let (result, screen, daemon) = run_with(by_device(), true, typed).await;
            assert_eq!(result.unwrap_err().code, ExitCode::Denied, "{typed:?}");
            assert_eq!(daemon.asked().last().unwrap(), "POST /v1/connect/cn_1/decline");
            assert_eq!(screen.out(), "");
        }
    }

    #[tokio::test]
    async fn without_a_terminal_yes_has_to_be_said_before() {
        let (result, _, daemon) = run_with(by_device(), false, "y\n").await;
        assert_eq!(result.unwrap_err().code, ExitCode::Usage);
        assert!(daemon.asked().is_empty(), "nobody was asked for anything");

        let (result, screen, daemon) = run_with(ConnectArgs { yes: true, json: true, ..by_device() }, false, "").await;
        assert_eq!(result, Ok(ExitCode::Ok));
        assert!(!screen.err().contains("[y/N]") && screen.err().contains("octocat"));
        let printed: Value = serde_json::from_str(screen.out()).unwrap();
        assert_eq!((&printed["status"], &printed["proof"]), (&json!("completed"), &Value::Null));
        assert_eq!(daemon.asked().last().unwrap(), "POST /v1/connect/cn_1/confirm");
    }

    #[tokio::test]
    async fn where_there_is_no_device_flow_the_other_way_is_named() {
        let refusal = json!({"error": "invalid_request", "error_description": "x", "field": "device"});
        let daemon = Daemon::start(move |_, _| (400, refusal.clone()));
        let mut recorder = Recorder { terminal: true, ..Recorder::default() };
        let open = |_: &Url| Ok(());
        let mut nothing = &b""[..];
        let screen = &mut recorder.screen(&mut nothing);
        let refused = run(by_device(), &daemon.socket(), Desk::default(), &open, screen).await.unwrap_err();
        assert!(refused.hint.unwrap().contains("grantd connect github --paste"));
    }
}
