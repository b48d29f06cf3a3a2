//! What is asked before disconnecting, what is said afterwards, and how it ends.

use serde_json::{Value, json};

use super::*;
use crate::cli::client::fake::Daemon;
use crate::cli::screen::fake::Recorder;

fn connection(id: &str, provider: &str) -> Value {
    json!({
        "id": id, "provider": provider, "account": {"id": id, "name": "octocat"}, "state": "active",
        "scopes": [], "slots": [], "created_at": 1, "confirmed_at": 1,
    })
}

fn parted(id: &str, upstream: &str, because: &str) -> Value {
    json!({
        "connection": id, "upstream": upstream,
        "slots": [{"slot": "main", "upstream": upstream, "because": because}],
    })
}

fn provider(id: &str, name: &str, revoke: Value, wider: Value) -> Value {
    json!({"id": id, "name": name, "scopes": {}, "state": "ok", "revoke": revoke, "revoke_wider": wider})
}

/// GitHub takes a token or everything back, Google everything only, Microsoft nothing; Slack is down.
fn daemon() -> Daemon {
    Daemon::start(|asked, _| match asked {
        "GET /v1/connections" => {
            let list =
                [("cx_1", "github"), ("cx_2", "google"), ("cx_3", "google"), ("cx_4", "microsoft"), ("cx_5", "slack")];
            let list: Vec<Value> = list.iter().map(|(id, provider)| connection(id, provider)).collect();
            (200, json!({"connections": list}))
        }
        "GET /v1/providers" => {
            let wider = |takes: &str| json!({"reach": "client", "takes": takes});
            let list = [
                provider("github", "GitHub", json!("token"), wider("Every token goes.")),
                provider("google", "Google", Value::Null, wider("The whole project goes.")),
                provider("microsoft", "Microsoft", Value::Null, Value::Null),
                provider("slack", "Slack", json!("token"), Value::Null),
            ];
            (200, json!({"providers": list}))
        }
        "GET /v1/connections/cx_2" => (200, connection("cx_2", "google")),
        "DELETE /v1/connections/cx_1" => {
            let mut done = parted("cx_1", "revoked", "confirmed");
            done["reach"] = json!("token");
            (200, done)
        }
        "DELETE /v1/connections/cx_1?wider=true" => {
            let mut done = parted("cx_1", "revoked", "confirmed");
            (done["reach"], done["wider"]) = (json!("client"), json!("revoked"));
            (200, done)
        }
        "DELETE /v1/connections/cx_2" => {
            let mut done = parted("cx_2", "by_hand", "no_way");
            done["manual_url"] = json!("https://myaccount.google.com/connections");
            (200, done)
        }
        "DELETE /v1/connections/cx_4" => (200, parted("cx_4", "by_hand", "no_way")),
        "DELETE /v1/connections/cx_5" => {
            let slot = |slot, upstream, because| json!({"slot": slot, "upstream": upstream, "because": because});
            let slots = [slot("bot", "revoked", "gone"), slot("user", "pending", "unreachable")];
            (200, json!({"connection": "cx_5", "upstream": "pending", "slots": slots}))
        }
        _ => (404, json!({"error": "not_found", "error_description": "There is no such thing."})),
    })
}

struct Ran {
    result: Result<ExitCode, CliError>,
    out: String,
    err: String,
    deleted: Vec<String>,
}

async fn run_with(args: DisconnectArgs, answer: &str, terminal: bool) -> Ran {
    let daemon = daemon();
    let mut recorder = Recorder { terminal, ..Recorder::default() };
    let result = run(args, &daemon.socket(), &mut recorder.screen(&mut answer.as_bytes())).await;
    let deleted = daemon.asked().into_iter().filter(|asked| asked.starts_with("DELETE")).collect();
    Ran { result, out: recorder.out().to_owned(), err: recorder.err().to_owned(), deleted }
}

fn of_one(target: &str) -> DisconnectArgs {
    DisconnectArgs { target: Some(target.to_owned()), ..DisconnectArgs::default() }
}

fn sure(args: DisconnectArgs) -> DisconnectArgs {
    DisconnectArgs { yes: true, ..args }
}

#[tokio::test]
async fn a_provider_with_one_connection_is_enough_of_a_name() {
    let ran = run_with(sure(of_one("github")), "", false).await;
    assert_eq!((ran.result, ran.deleted), (Ok(ExitCode::Ok), vec!["DELETE /v1/connections/cx_1".to_owned()]));
    assert_eq!(ran.out, "Disconnected github octocat here. The provider has confirmed that its token is gone.\n");
}

#[tokio::test]
async fn what_is_left_to_do_by_hand_is_said_with_the_address() {
    let ran = run_with(sure(of_one("cx_2")), "", false).await;
    assert_eq!(ran.result, Ok(ExitCode::Ok));
    assert!(
        ran.out.contains("  https://myaccount.google.com/connections") && !ran.out.contains("confirmed"),
        "{}",
        ran.out
    );
    let ran = run_with(sure(of_one("microsoft")), "", false).await;
    assert!(ran.out.contains("in the settings of your account there"), "{}", ran.out);
}

#[tokio::test]
async fn slots_that_fared_differently_are_told_apart_and_what_is_pending_is_no_success() {
    let ran = run_with(sure(of_one("slack")), "", false).await;
    assert_eq!(ran.result, Ok(ExitCode::Provider));
    assert_eq!(
        ran.out,
        "Disconnected slack octocat here.\n  bot: The provider did not know the access any more.\n  \
         user: The provider has not confirmed it yet; grantd keeps trying.\n"
    );
}

#[tokio::test]
async fn nothing_is_disconnected_unless_it_is_clear_what_and_that_it_is_meant() {
    for (args, answer, terminal, code) in [
        (sure(of_one("google")), "", false, ExitCode::Usage),
        (sure(of_one("octocat")), "", false, ExitCode::Usage),
        (sure(of_one("notion")), "", false, ExitCode::Usage),
        (sure(of_one("cx_9")), "", false, ExitCode::Usage),
        (of_one("github"), "", false, ExitCode::Usage),
        (of_one("github"), "n\n", true, ExitCode::Denied),
        (of_one("github"), "", true, ExitCode::Denied),
        (DisconnectArgs { all: true, ..DisconnectArgs::default() }, "", false, ExitCode::Usage),
        (DisconnectArgs { all: true, ..DisconnectArgs::default() }, "\n", true, ExitCode::Denied),
        // There is no wider way at Microsoft, and nothing less is done than was asked for.
        (DisconnectArgs { wider: true, ..sure(of_one("microsoft")) }, "", false, ExitCode::Usage),
    ] {
        let ran = run_with(args.clone(), answer, terminal).await;
        assert_eq!(ran.result.unwrap_err().code, code, "{args:?} {answer:?}");
        assert_eq!((ran.out.as_str(), ran.deleted), ("", vec![]), "{args:?} {answer:?}");
    }
    assert_eq!(run_with(of_one("github"), "y\n", true).await.deleted.len(), 1);
}

#[tokio::test]
async fn the_question_says_what_else_goes_and_what_does_not() {
    for (target, wider, said, unsaid) in [
        ("github", false, "Disconnect github octocat? [y/N] ", "Every token goes."),
        ("github", true, "At GitHub more than this connection goes. Every token goes.\n", "by hand"),
        ("cx_2", false, "With --wider Google is asked to, and then more goes. The whole project goes.\n", "At Google"),
        ("cx_2", true, "At Google more than this connection goes. The whole project goes.\n", "by hand"),
        ("microsoft", false, "you take it back there by hand.\nDisconnect microsoft octocat? [y/N] ", "--wider"),
    ] {
        let ran = run_with(DisconnectArgs { wider, ..of_one(target) }, "n\n", true).await;
        assert!(ran.err.contains(said) && !ran.err.contains(unsaid), "{target} {wider}: {}", ran.err);
    }
    let ran = run_with(DisconnectArgs { wider: true, ..of_one("github") }, "y\n", true).await;
    assert_eq!(ran.deleted, ["DELETE /v1/connections/cx_1?wider=true"]);
    assert!(ran.out.contains("all of it is gone"), "{}", ran.out);
}

#[tokio::test]
async fn of_everything_each_result_is_told_and_the_worst_is_the_exit_code() {
    let all = DisconnectArgs { all: true, wider: true, ..DisconnectArgs::default() };
    let ran = run_with(all.clone(), "y\n", true).await;
    assert!(ran.err.contains("Every token goes.") && ran.err.contains("Disconnect all 5 of them"), "{}", ran.err);
    assert_eq!(ran.deleted.len(), 5);
    assert!(ran.deleted.contains(&"DELETE /v1/connections/cx_4".to_owned()), "{:?}", ran.deleted);
    // Nobody knows cx_3.
    assert_eq!(ran.result, Ok(ExitCode::Usage));
    let plain = anstream::adapter::strip_str(&ran.out).to_string();
    assert!(
        plain.starts_with(
            "PROVIDER   ACCOUNT  RESULT             ID\n\
             github     octocat  revoked            cx_1\n"
        ),
        "{plain}"
    );
    for part in ["still connected    cx_3\n", "left to you        cx_4\n", "not confirmed yet  cx_5\n", "  bot: "] {
        assert!(plain.contains(part), "no {part:?} in:\n{plain}");
    }

    let ran = run_with(sure(DisconnectArgs { json: true, wider: false, ..all }), "", false).await;
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    let told = told["disconnected"].as_array().unwrap();
    assert_eq!((&told[0]["connection"], &told[0]["upstream"]), (&json!("cx_1"), &json!("revoked")));
    assert_eq!((&told[2]["connection"], &told[2]["upstream"]), (&json!("cx_3"), &Value::Null));
    assert!(told[2]["error"].is_string() && told[0].get("error").is_none());
}
