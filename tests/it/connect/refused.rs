//! The ways in which no connection comes of it: somebody says no, nobody says anything, or the provider fails.

use std::time::Duration;

use grantd::sandbox::{BodyKind, Endpoint, Fault, Kind, Options, Secret, What, When};
use serde_json::json;

use crate::support::journey::{assert_says, with_param};
use crate::support::{Journey, World, eventually};

#[tokio::test]
async fn a_no_at_the_provider_ends_the_session() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let consent = journey.consent().await;
    let page = journey.browser.press(&consent, "deny", &[]).await.unwrap();
    assert_says(&page, &["The answer was no", "Nothing was connected", "What to do now", "grantd connect sandbox"]);
    assert_eq!(journey.status(&world).await, "denied");
    assert_eq!(world.token_requests(), 0);
    world.assert_nothing_kept("a no at the provider").await;
}

#[tokio::test]
async fn a_no_to_the_account_gives_back_what_the_provider_gave() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let confirm = journey.come_back("u-1001").await;
    assert_says(&confirm, &["Is this your account?", "ada@sandbox.example"]);
    assert_eq!(world.live_grants(), 1);
    let waiting = world.daemon.token(json!({})).await;
    assert_eq!(waiting.json["error"], "connection_required", "nothing is served before the person says yes");

    let page = journey.browser.press(&confirm, "/decline", &[]).await.unwrap();
    assert_says(&page, &["The answer was no", "nothing is kept", "What to do now"]);
    assert_eq!(journey.status(&world).await, "denied");
    world.assert_nothing_kept("a no to the account").await;
}

#[tokio::test]
async fn a_cancelled_session_is_over_at_every_station() {
    let world = World::new().await;

    let early = Journey::begin(&world).await;
    let page = early.browser.press(&early.page, "/decline", &[]).await.unwrap();
    assert_says(&page, &["Cancelled", "Nothing was connected", "What to do now"]);
    assert_eq!(early.status(&world).await, "cancelled");

    let by_caller = Journey::begin(&world).await;
    assert_ne!(by_caller.id, early.id);
    let callback = by_caller.callback("u-1001").await;
    let cancelled = world.daemon.delete(&format!("/v1/connect/{}", by_caller.id)).await;
    assert_eq!((cancelled.status, cancelled.text("status")), (200, "cancelled"));
    let page = by_caller.browser.open(&callback).await.unwrap();
    assert_says(&page, &["What to do now"]);
    assert_says(&by_caller.look().await, &["Cancelled"]);
    assert_eq!(world.token_requests(), 0, "the code was never redeemed");

    let late = Journey::begin(&world).await;
    late.come_back("u-1001").await;
    assert_eq!(world.daemon.delete(&format!("/v1/connect/{}", late.id)).await.status, 200);
    assert_says(&late.look().await, &["Cancelled"]);
    world.assert_nothing_kept("cancelling").await;
}

#[tokio::test]
async fn a_session_that_is_cancelled_during_the_exchange_gives_back_what_came() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback("u-1001").await;
    world.sandbox.script(Fault::new(Endpoint::Userinfo, When::Next(1), What::Delay(Duration::from_millis(1500))));

    let cancel = async {
        eventually("the provider has given a grant", || async { world.live_grants() == 1 }).await;
        world.daemon.delete(&format!("/v1/connect/{}", journey.id)).await
    };
    let (page, cancelled) = tokio::join!(journey.browser.open(&callback), cancel);
    assert_eq!(cancelled.status, 200);
    assert_says(&page.unwrap(), &["What to do now"]);
    assert_eq!(journey.status(&world).await, "cancelled");
    world.assert_nothing_kept("cancelling during the exchange").await;
}

#[tokio::test]
async fn a_session_whose_time_is_over_connects_nothing() {
    let mut world = World::new().await;
    let untouched = Journey::begin(&world).await;
    let abroad = Journey::of(&world, json!({"provider": "sandbox", "scopes": ["openid", "a"]})).await;
    let callback = abroad.callback("u-1001").await;
    let waiting = Journey::of(&world, json!({"provider": "sandbox", "scopes": ["openid", "b"]})).await;
    let confirm = waiting.come_back("u-1002").await;
    assert_eq!(world.token_requests(), 1);

    world.daemon.kill();
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    let aged = store.execute("UPDATE sessions SET created_at = created_at - 600000, expires_at = created_at", []);
    assert_eq!(aged.unwrap(), 3);
    drop(store);
    let home = &world.daemon.home;
    let often = format!("jobs: {{housekeep: \"*/1 * * * * *\"}}\n{}", std::fs::read_to_string(home.config()).unwrap());
    home.write("config/grantd.yaml", &often);
    world.daemon.restart().await;

    let page = abroad.browser.open(&callback).await.unwrap();
    assert_says(&page, &["What to do now"]);
    for journey in [&untouched, &abroad, &waiting] {
        assert_says(&journey.look().await, &["This link has ended", "10 minutes", "What to do now"]);
        assert_eq!(journey.status(&world).await, "expired");
        let page = journey.browser.press(&journey.page, "/start", &[]).await.unwrap();
        assert_says(&page, &["What to do now"]);
    }
    let page = waiting.browser.press(&confirm, "/confirm", &[]).await.unwrap();
    assert_says(&page, &["What to do now"]);
    assert_eq!(world.token_requests(), 1, "nothing more was asked of the provider");
    eventually("what nobody confirmed is given back", || async { world.live_grants() == 0 }).await;
    world.assert_nothing_kept("the time is over").await;
    assert_eq!(world.daemon.token(json!({})).await.json["error"], "connection_required");
}

#[tokio::test]
async fn what_a_provider_answers_instead_of_a_code_is_understood_and_never_shown() {
    let world = World::new().await;
    let hostile = "<script>alert(1)</script>";
    for (error, status, title) in [
        ("access_denied", "denied", "The answer was no"),
        ("server_error", "provider_failed", "Sandbox did not answer"),
        ("temporarily_unavailable", "provider_failed", "Sandbox did not answer"),
        ("invalid_scope", "misconfigured", "Sandbox does not accept this grantd"),
        ("unauthorized_client", "misconfigured", "Sandbox does not accept this grantd"),
        ("login_required", "denied", "The answer was no"),
        (hostile, "provider_failed", "Sandbox did not answer"),
        ("no_such_error", "provider_failed", "Sandbox did not answer"),
    ] {
        let journey = Journey::begin(&world).await;
        let mut back = with_param(&journey.callback("u-1001").await, "code", None);
        back.query_pairs_mut()
            .append_pair("error", error)
            .append_pair("error_description", "<b>call 555-MARK</b>")
            .append_pair("error_uri", "https://evil.example/");
        let page = journey.browser.open(&back).await.unwrap();
        assert_says(&page, &[title, "What to do now"]);
        assert_eq!(journey.status(&world).await, status, "{error}");
        for never in ["<script>", "alert(1)", "555-MARK", "evil.example", "no_such_error"] {
            assert!(!page.body.contains(never), "{never} after {error}");
        }
        assert_eq!(page.url.query(), None, "{}", page.url);
    }
    assert_eq!(world.token_requests(), 0);
    world.assert_nothing_kept("errors instead of codes").await;
    let log = world.daemon.log();
    assert!(!log.contains("555-MARK") && !log.contains("alert(1)"), "a provider's text is in the log");
}

#[tokio::test]
async fn a_token_endpoint_that_fails_is_asked_once_and_the_page_says_what_is_wrong() {
    let world = World::new().await;
    let failed = ("provider_failed", "Sandbox did not answer");
    for (what, (status, title)) in [
        (What::Status { code: 500, body: BodyKind::Html }, failed),
        (What::Status { code: 503, body: BodyKind::Empty }, failed),
        (What::Garbage, failed),
        (What::Html, failed),
        (What::Huge(64 << 20), failed),
        (What::DropBeforeProcessing, failed),
        (What::RetryAfter { code: 429, value: "99999999999999999999".to_owned() }, failed),
        (What::OAuthError("invalid_client".to_owned()), ("misconfigured", "Sandbox does not accept this grantd")),
        (What::OAuthError("invalid_grant".to_owned()), ("code_refused", "Please start again")),
        (What::OAuthError("<script>".to_owned()), failed),
    ] {
        let before = world.token_requests();
        let journey = Journey::begin(&world).await;
        let callback = journey.callback("u-1001").await;
        world.sandbox.script(Fault::new(Endpoint::Token, When::Next(1), what.clone()));
        let page = journey.browser.open(&callback).await.unwrap();
        assert_says(&page, &[title, "What to do now"]);
        assert!(!page.body.contains("<script>"));
        assert_eq!(journey.status(&world).await, status, "{what:?}");
        assert_eq!(world.token_requests() - before, 1, "{what:?}: a code is sent once");
        if status == "misconfigured" {
            let exact = format!("http://localhost:{}/callback/sandbox", world.daemon.home.port);
            assert_says(&page, &[&exact]);
        }
    }
    world.assert_nothing_kept("a failing token endpoint").await;
}

#[tokio::test]
async fn an_account_that_cannot_be_told_is_not_connected_and_what_came_is_given_back() {
    let world = World::new().await;
    for what in [
        What::Status { code: 500, body: BodyKind::Json },
        What::Status { code: 200, body: BodyKind::Json },
        What::Garbage,
        What::Html,
        What::Huge(64 << 20),
        What::DropBeforeProcessing,
    ] {
        let journey = Journey::begin(&world).await;
        let callback = journey.callback("u-1001").await;
        world.sandbox.script(Fault::new(Endpoint::Userinfo, When::Always, what.clone()));
        let page = journey.browser.open(&callback).await.unwrap();
        world.sandbox.clear_faults();
        assert_says(&page, &["That answer could not be trusted", "What to do now"]);
        assert_eq!(journey.status(&world).await, "identity_failed", "{what:?}");
        world.assert_nothing_kept(&format!("{what:?}")).await;
    }
    assert_eq!(world.sandbox.grants().len(), 6, "each time the provider had given a grant");
}

#[tokio::test]
async fn a_grant_that_cannot_be_given_back_now_is_given_back_later() {
    let mut world =
        World::arranged(Options::default(), |home, _| home.set("jobs: {housekeep: \"* * * * * *\"}\n")).await;
    let journey = Journey::begin(&world).await;
    let confirm = journey.come_back("u-1001").await;
    world.sandbox.script(Fault::new(Endpoint::Revoke, When::Always, What::Status { code: 500, body: BodyKind::Empty }));
    let page = journey.browser.press(&confirm, "/decline", &[]).await.unwrap();
    assert_says(&page, &["The answer was no"]);
    assert_eq!(world.daemon.get("/v1/connections").await.json["connections"], json!([]));
    assert!(world.daemon.log().contains("could not be given back"), "the operator is told");
    assert_eq!((super::count(&world, "pending_grants"), world.live_grants()), (1, 1));

    world.daemon.kill();
    world.sandbox.clear_faults();
    world.daemon.restart().await;
    eventually("it is given back", async || world.live_grants() == 0).await;
    eventually("and wiped", async || super::count(&world, "pending_grants") == 0).await;
}

/// A world whose housekeeping runs each second, and in which nothing can be given back.
async fn without_revocation() -> World {
    let world = World::arranged(Options::default(), |home, _| home.set("jobs: {housekeep: \"* * * * * *\"}\n")).await;
    world.sandbox.script(Fault::new(Endpoint::Revoke, When::Always, What::Status { code: 500, body: BodyKind::Empty }));
    world
}

#[tokio::test]
async fn what_came_for_an_account_that_cannot_be_told_is_given_back_later_too() {
    let mut world = without_revocation().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback("u-1001").await;
    world.sandbox.script(Fault::new(Endpoint::Userinfo, When::Always, What::Garbage));
    let page = journey.browser.open(&callback).await.unwrap();
    assert_says(&page, &["That answer could not be trusted"]);
    assert_eq!(journey.status(&world).await, "identity_failed");
    assert!(world.daemon.log().contains("could not be given back"), "the operator is told");
    assert_eq!(world.live_grants(), 1);

    world.daemon.kill();
    world.sandbox.clear_faults();
    world.daemon.restart().await;
    eventually("it is given back", async || world.live_grants() == 0).await;
    let revoked = world.sandbox.ledger().of(Kind::Revoked, Secret::Refresh).count();
    assert_eq!(revoked, 1, "by our client");
    world.assert_nothing_kept("after it was given back").await;
    assert_eq!(journey.status(&world).await, "identity_failed");
}

#[tokio::test]
async fn what_came_for_a_session_that_had_ended_meanwhile_is_given_back_later_too() {
    let mut world = without_revocation().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback("u-1001").await;
    let slow = Fault::new(Endpoint::Userinfo, When::Always, What::Delay(Duration::from_secs(2)));
    world.sandbox.script(slow);
    let (opened, cancelled) = tokio::join!(journey.browser.open(&callback), async {
        eventually("the provider has given it", async || world.live_grants() == 1).await;
        world.daemon.delete(&format!("/v1/connect/{}", journey.id)).await
    });
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    opened.unwrap();
    assert_eq!(journey.status(&world).await, "cancelled");
    eventually("the operator is told", async || world.daemon.log().contains("could not be given back")).await;
    assert_eq!(world.live_grants(), 1);

    world.daemon.kill();
    world.sandbox.clear_faults();
    world.daemon.restart().await;
    eventually("it is given back", async || world.live_grants() == 0).await;
    world.assert_nothing_kept("after it was given back").await;
}
