//! A provider that keeps one access for each account: people are told before they agree again, and the newest pair counts.

use grantd::sandbox::{Kind, Options, Secret};
use serde_json::json;

use crate::support::daemon::Output;
use crate::support::journey::assert_says;
use crate::support::{Daemon, Journey, World, eventually};

const ADA: &str = "u-1001";
const SENTENCE: &str = "Sandbox keeps one access for each account: if you agree again for the same account, the one you have \
                        now ends and the new one takes its place.";

/// A world whose provider keeps one access for each account.
async fn one_each() -> World {
    World::arranged(Options::default(), |home, _| {
        home.redefine("scopes:\n", "consent: {replaces_earlier: true}\nscopes:\n");
    })
    .await
}

#[tokio::test]
async fn whoever_has_an_account_there_is_told_before_agreeing_again() {
    let world = one_each().await;
    let first = world.daemon.token(json!({})).await;
    assert_eq!((first.text("error"), first.json.get("warning")), ("connection_required", None), "{first:?}");
    let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    assert_eq!(session.json.get("warning"), None, "{session:?}");
    let page = Journey::open(&session).await.page;
    assert!(!page.body.contains("keeps one access"), "{}", page.body);

    world.connect(ADA).await;
    let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    assert_eq!(session.text("warning"), SENTENCE);
    assert_says(&Journey::open(&session).await.page, &[SENTENCE, "ada@sandbox.example"]);
    let lacking = world.daemon.token(json!({"scopes": ["repo"]})).await;
    assert_eq!((lacking.text("error"), lacking.text("warning")), ("insufficient_scope", SENTENCE), "{lacking:?}");
    assert!(lacking.json["elicitation"]["message"].as_str().unwrap().ends_with(SENTENCE), "{lacking:?}");

    let plain = World::new().await;
    plain.connect(ADA).await;
    let session = plain.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    assert_eq!(session.json.get("warning"), None, "other providers keep both: {session:?}");
}

#[tokio::test]
async fn the_connect_command_says_it_too() {
    let world = one_each().await;
    world.connect(ADA).await;
    let mut command = Daemon::command(&world.daemon.home);
    command.args(["connect", "sandbox", "--no-open"]);
    let waiting = tokio::task::spawn_blocking(move || Output::of(&mut command));
    let sessions = async || {
        let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
        store.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    eventually("the command asks", async || sessions().await == 2).await;
    world.connect(ADA).await;
    let output = waiting.await.unwrap();
    assert!(output.code == 0 && output.err.contains(SENTENCE), "{output:?}");
}

#[tokio::test]
async fn the_newest_pair_counts_whichever_is_confirmed_last_and_the_old_token_is_not_sent_again() {
    let world = one_each().await;
    world.connect(ADA).await;
    let old = world.sandbox.grants()[0].clone();
    let again = json!({"provider": "sandbox"});
    let older = Journey::of(&world, again.clone()).await;
    let older_page = older.come_back(ADA).await;
    let newer = Journey::of(&world, again).await;
    let newer_page = newer.come_back(ADA).await;
    let newest = world.sandbox.grants().last().unwrap().clone();

    assert_says(&newer.browser.press(&newer_page, "/confirm", &[]).await.unwrap(), &["Connected"]);
    let late = older.browser.press(&older_page, "/confirm", &[]).await.unwrap();
    assert!(!late.body.contains("Connected"), "{}", late.body);
    assert_eq!(older.status(&world).await, "cancelled");
    assert!(
        world.sandbox.grants().iter().all(|grant| grant.ended.is_none()),
        "none is given back: {:?}",
        world.sandbox.grants()
    );

    let first = world.live_token(json!({})).await;
    for _ in 0..3 {
        let held = world.live_token(json!({})).await;
        world.live_token(json!({"rejected": held.json["token_id"]})).await;
    }
    assert_ne!(world.live_token(json!({})).await.json["token_id"], first.json["token_id"]);
    let ledger = world.sandbox.ledger();
    let spent: Vec<_> = ledger.of(Kind::Presented, Secret::Refresh).map(|entry| entry.grant).collect();
    assert_eq!(spent, [Some(newest.id); 3]);
    assert_eq!(ledger.presentations_of(old.newest_refresh.unwrap()), 0);
    assert_eq!(world.connections().await.len(), 1);
    world.assert_sound();
}

#[tokio::test]
async fn an_unwanted_consent_does_not_end_the_connection_that_it_renewed() {
    for replaces in [true, false] {
        let world = if replaces { one_each().await } else { World::new().await };
        world.connect(ADA).await;
        let journey = Journey::begin(&world).await;
        let page = journey.come_back(ADA).await;
        journey.browser.press(&page, "/decline", &[]).await.unwrap();
        let ended = world.sandbox.grants().iter().filter(|grant| grant.ended.is_some()).count();
        assert_eq!(ended, usize::from(!replaces), "{:?}", world.sandbox.grants());
        world.live_token(json!({})).await;
        world.assert_sound();
    }
}
