//! A person connects an account: every right turn ends with a connection, every wrong one with a page that says what to do and
//! with nothing half stored.

mod accounts;
mod callback;
mod clicks;
mod person;
mod refused;

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::journey::{assert_says, param};
use crate::support::{Journey, World, eventually};

#[tokio::test]
async fn a_person_connects_an_account_and_a_caller_gets_a_live_token() {
    let world = World::new().await;
    assert_eq!(world.daemon.token(json!({})).await.status, 409);
    let done = world.connect("u-1002").await;
    assert_eq!(done.status, 200);
    assert!(done.body.contains("grace@sandbox.example"), "{}", done.body);

    let token = world.daemon.token(json!({})).await;
    assert_eq!(token.status, 200, "{token:?}");
    assert_eq!(token.json["account"]["id"], "u-1002");
    assert_eq!(token.json["token_type"], "Bearer");
    assert!(world.is_live(&token.json["access_token"]).await);
}

#[tokio::test]
async fn the_provider_is_asked_with_pkce_a_fresh_state_and_the_exact_redirect_uri() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let (one, other) = (journey.start().await, journey.start().await);

    assert_eq!(one.origin(), world.sandbox.url().origin());
    assert_eq!(param(&one, "response_type"), "code");
    assert_eq!(param(&one, "redirect_uri"), format!("http://localhost:{}/callback/sandbox", world.daemon.home.port));
    assert_eq!(param(&one, "code_challenge_method"), "S256");
    assert_eq!(param(&one, "scope"), "email openid profile");
    for secret in ["code_challenge", "state", "nonce"] {
        assert_eq!(param(&one, secret).len(), 43, "256 bits in base64url");
        assert_ne!(param(&one, secret), param(&other, secret), "{secret} is new every time");
    }
    for never in ["code_verifier", "client_secret"] {
        assert!(one.query_pairs().all(|(name, _)| name != never), "{one}");
    }
}

#[tokio::test]
async fn the_same_request_finds_the_same_session() {
    let world = World::new().await;
    let first = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    let again = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "purpose": "another"})).await;
    let refused = world.daemon.token(json!({})).await;
    assert_eq!(refused.json["error"], "connection_required");
    for same in [&again, &refused] {
        assert_eq!(same.json["connect_id"], first.json["connect_id"]);
        assert_eq!(same.json["user_code"], first.json["user_code"]);
    }
    assert_eq!(refused.json["elicitation"]["url"], first.json["connect_url"]);
    let more = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "scopes": ["repo"]})).await;
    assert_ne!(more.json["connect_id"], first.json["connect_id"], "another request is another session");
    let reported = world.daemon.token(json!({"connect": false})).await;
    assert_eq!(reported.status, 409);
    assert_eq!(reported.json.get("connect_url"), None, "{reported:?}");
}

#[tokio::test]
async fn a_browser_that_is_gone_holds_up_nobody() {
    let world = World::new().await;
    let gone = Journey::begin(&world).await;
    let waits = gone.come_back("u-1001").await;
    let again = Journey::begin(&world).await;
    assert_ne!(again.id, gone.id, "only the browser that is gone could finish that one");
    assert_says(&again.finish("u-1002").await, &["Connected"]);
    // It was not gone after all.
    assert_says(&gone.browser.press(&waits, "/confirm", &[]).await.unwrap(), &["Connected"]);
    assert_eq!(world.live_grants(), 2);
}

#[tokio::test]
async fn whoever_waits_for_a_token_has_it_whichever_session_brings_it() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let confirm = journey.come_back("u-1001").await;
    let newer = world.daemon.token(json!({})).await;
    assert_ne!(newer.text("connect_id"), journey.id);
    let asking = world.daemon.token(json!({"wait": 60}));
    let confirming = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        journey.browser.press(&confirm, "/confirm", &[]).await.unwrap()
    };
    let began = Instant::now();
    let (token, done) = tokio::join!(asking, confirming);
    assert_says(&done, &["Connected"]);
    assert_eq!(token.status, 200, "{token:?}");
    assert!(began.elapsed() < Duration::from_secs(50), "nobody waited for the other session");
}

#[tokio::test]
async fn a_long_poll_returns_as_soon_as_the_person_confirms() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let confirm = journey.come_back("u-1001").await;
    let path = format!("/v1/connect/{}?wait=60", journey.id);

    let began = Instant::now();
    let (polled, done) = tokio::join!(world.daemon.get(&path), journey.browser.press(&confirm, "/confirm", &[]));
    assert!(began.elapsed() < Duration::from_secs(50), "it did not wait for the end of the minute");
    assert_eq!(polled.json["status"], "completed");
    assert_eq!(polled.json["done"], true);
    assert_eq!(polled.json["account"]["id"], "u-1001");
    assert!(done.unwrap().body.contains("Connected"));
}

#[tokio::test]
async fn a_caller_that_waits_gets_the_token_once_the_account_is_connected() {
    let world = World::new().await;
    let waiting = world.daemon.token(json!({"wait": 60}));
    let person = async {
        let sessions = || async { count(&world, "sessions") == 1 };
        eventually("the waiting caller has made a connect session", sessions).await;
        world.connect("u-1001").await
    };
    let (token, done) = tokio::join!(waiting, person);
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(token.status, 200, "{token:?}");
    assert!(world.is_live(&token.json["access_token"]).await);
    assert_eq!(count(&world, "sessions"), 1, "the person finished the session that the caller waited for");
}

fn count(world: &World, table: &str) -> i64 {
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    store.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}
