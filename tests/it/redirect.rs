//! Nobody is sent to a provider that would not send them back: the caller, the person and the operator are told what would work.

use grantd::sandbox::{Kind, Options, Secret};
use serde_json::json;

use crate::support::journey::assert_says;
use crate::support::{Daemon, Home, Journey, World, eventually};

/// A daemon that knows Slack, which takes no http without PKCE.
async fn with_slack() -> Daemon {
    let home = Home::new();
    home.write("config/secret", "hunter2hunter2\n");
    let secret = home.file("config/secret");
    home.configure(&format!("  slack: {{client_id: \"1.2\", client_secret: {{file: {}}}}}\n", secret.display()));
    Daemon::start(home).await
}

#[tokio::test]
async fn a_caller_is_told_that_nobody_can_connect_and_gets_no_link() {
    let daemon = with_slack().await;
    let works = format!("register https://localhost:{}/callback/slack there", daemon.home.port);
    for (path, body) in [("/v1/connect", json!({"provider": "slack"})), ("/v1/token", json!({"provider": "slack"}))] {
        let answer = daemon.post(path, body).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        assert_eq!((answer.text("error"), answer.text("reason")), ("provider_error", "redirect_uri"));
        assert!(answer.text("error_description").contains(&works), "{answer:?}");
        assert!(answer.json.get("connect_url").is_none(), "{answer:?}");
    }
    let quiet = daemon.post("/v1/token", json!({"provider": "slack", "connect": false})).await;
    assert_eq!((quiet.status, quiet.text("error")), (409, "connection_required"));
    let told = daemon.run(&["connect", "slack"]);
    assert_eq!((told.code, told.out.as_str()), (6, ""), "{told:?}");
    assert!(told.err.contains(&works), "{told:?}");
    let warnings = daemon.log().lines().filter(|line| line.contains("nobody can connect")).count();
    assert_eq!(warnings, 1, "one at the start: {}", daemon.log());
}

#[tokio::test]
async fn where_only_a_code_can_work_the_command_goes_on_with_one_or_names_the_command() {
    let world = World::arranged(Options::default(), |home, _| {
        home.redefine("redirect:\n  loopback_any_port: true\n", "redirect: {loopback_hosts: [], web: none}\n");
    })
    .await;
    let told = world.daemon.run(&["connect", "sandbox", "--scope", "email"]);
    assert_eq!((told.code, told.out.as_str()), (2, ""), "{told:?}");
    assert!(told.err.contains("sends no browser back to this machine"), "{told:?}");
    assert!(told.err.contains("grantd connect sandbox --scope email --device --yes"), "{told:?}");
    assert_eq!(world.sandbox.ledger().of(Kind::Issued, Secret::Device).count(), 0, "nobody was asked for a code");
    let sessions = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    assert_eq!(sessions.json["device_flow"], true);
    assert!(sessions.text("no_way_back").contains("sends no browser back"), "{sessions:?}");
}

#[tokio::test]
async fn a_page_that_was_open_before_the_rules_changed_leads_nowhere() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    world.daemon.home.redefine("loopback_any_port: true", "loopback_http: false");
    world.daemon.signal("HUP");
    let port = world.daemon.home.port;
    let works = format!("https://localhost:{port}/callback/sandbox");
    eventually("the new rules count", async || journey.look().await.body.contains(&works)).await;

    let page = journey.look().await;
    assert_says(&page, &["would not send you back", "grantd provider show sandbox"]);
    assert!(page.forms().is_empty(), "no button: {}", page.body);
    let sent = journey.browser.press_once(&journey.page, "/start", &[]).await.unwrap();
    assert_eq!(sent.status, 303, "{}", sent.body);
    let back = sent.location().unwrap().unwrap();
    assert_eq!(back.port(), Some(port), "the page again, and not the provider: {back}");
    assert_eq!(journey.status(&world).await, "pending", "nothing has begun");
    assert!(world.daemon.log().contains("nobody can connect"), "the operator is told at the reload");

    world.daemon.home.redefine("loopback_http: false", "loopback_any_port: true");
    world.daemon.signal("HUP");
    eventually("the old rules count again", async || !journey.look().await.forms().is_empty()).await;
    let page = journey.finish("u-1001").await;
    assert_says(&page, &["ada@sandbox.example"]);
}
