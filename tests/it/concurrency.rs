//! Many at once: callers, renewals, callers that hang up, and a daemon that is told to stop in the middle of it.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use grantd::model::id::random_bytes;
use grantd::sandbox::{Fault, Options, What, When};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::support::{Answer, Home, World, ask, eventually};

const ADA: &str = "u-1001";

/// Room for all callers of a test, who are one uid.
fn crowded(home: &Home) {
    home.set("limits: {connections_per_uid: 512}\n");
}

/// As [`crowded`], and nothing is renewed unless somebody asks.
fn crowded_and_idle(home: &Home) {
    home.set("limits: {connections_per_uid: 512}\njobs: {renew: \"0 0 0 1 1 *\"}\n");
}

/// Asks beside the test.
fn begin(world: &World, more: serde_json::Value) -> tokio::task::JoinHandle<std::io::Result<Answer>> {
    let mut body = json!({"provider": "sandbox"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let socket = world.daemon.home.socket();
    tokio::spawn(async move { ask::ask(&socket, "POST", "/v1/token", Some(body)).await })
}

#[tokio::test]
async fn a_hundred_callers_and_one_expired_token_cost_one_request() {
    let world = World::arranged(Options::default(), |home, _| crowded_and_idle(home)).await;
    world.connect(ADA).await;
    let dead = world.live_only(Duration::from_secs(2)).await;
    sleep(Duration::from_millis(2100)).await;
    assert!(!world.is_live(&dead.json["access_token"]).await);
    world.sandbox.adjust(|options| options.access_ttl = Duration::from_secs(3600));
    world.sandbox.script(Fault::of_refresh(When::Always, What::Delay(Duration::from_millis(500))));
    let before = world.refreshes();

    let callers: Vec<_> = (0..100).map(|_| begin(&world, json!({}))).collect();
    let mut tokens = HashSet::new();
    for caller in callers {
        let answer = caller.await.unwrap().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        tokens.insert(answer.text("access_token").to_owned());
    }
    assert_eq!(world.refreshes() - before, 1);
    assert_eq!(tokens.len(), 1, "all get the same");
    assert!(!tokens.contains(dead.text("access_token")));
    for token in tokens {
        assert!(world.is_live(&token.into()).await);
    }
    world.assert_sound();
}

#[tokio::test]
async fn a_hundred_callers_and_a_provider_that_is_down_cost_one_request() {
    let world = World::arranged(Options::default(), |home, _| crowded_and_idle(home)).await;
    world.connect(ADA).await;
    world.live_only(Duration::from_secs(2)).await;
    let before = world.refreshes();
    sleep(Duration::from_millis(2100)).await;
    world.sandbox.script(Fault::of_refresh(When::Always, What::DropBeforeProcessing));
    let answers = join_all((0..100).map(|_| world.daemon.token(json!({})))).await;
    for answer in answers {
        assert_eq!((answer.status, answer.text("error")), (503, "provider_unavailable"), "{answer:?}");
    }
    // All hundred come within the time in which the provider is left alone, unless the machine is very slow.
    assert!(world.refreshes() - before <= 3, "{} refreshes", world.refreshes() - before);
    world.assert_sound();
}

#[tokio::test]
async fn callers_that_hang_up_lose_nothing() {
    let world = World::arranged(Options::default(), |home, _| crowded(home)).await;
    world.connect(ADA).await;
    world.live_only(Duration::from_secs(2)).await;
    world.sandbox.script(Fault::of_refresh(When::Always, What::Delay(Duration::from_millis(60))));
    for _ in 0..200 {
        hang_up_after(&world, Duration::from_millis(u64::from(random_bytes::<1>()[0] % 31))).await;
    }
    world.sandbox.clear_faults();
    assert!(world.refreshed() >= 2, "nothing was going on: {} refreshes", world.refreshed());
    eventually("a token is handed out", async || world.daemon.token(json!({})).await.status == 200).await;
    world.sandbox.adjust(|options| options.access_ttl = Duration::from_secs(3600));
    world.assert_renewable().await;
    assert_eq!(world.invalid_grants(), 0);
    world.assert_sound();
}

/// Asks for a token, and is gone before the answer can be read to its end.
async fn hang_up_after(world: &World, pause: Duration) {
    let mut stream = UnixStream::connect(world.daemon.home.socket()).await.unwrap();
    let body = r#"{"provider":"sandbox"}"#;
    let request = format!(
        "POST /v1/token HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    sleep(pause).await;
}

#[tokio::test]
async fn the_one_caller_of_a_refresh_may_hang_up() {
    let world = World::arranged(Options::default(), |home, _| crowded_and_idle(home)).await;
    world.connect(ADA).await;
    let first = world.live_token(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_millis(700))));
    let caller = begin(&world, json!({"rejected": first.json["token_id"]}));
    eventually("it is sent", async || world.refreshes() == 1).await;
    caller.abort();
    eventually("what it brought is served", async || {
        world.daemon.token(json!({})).await.json["token_id"] != first.json["token_id"]
    })
    .await;
    assert_eq!(world.refreshes(), 1);
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn fifty_connections_are_used_and_renewed_side_by_side() {
    let mut world = World::arranged(Options::default(), |home, _| crowded(home)).await;
    world.stock(50, Duration::from_secs(3600)).await;
    let ask_all = async |rejected: Option<&[Answer]>| {
        let one = async |index: usize| {
            let account = format!("stock-{index}");
            let mut more = json!({"account": account});
            if let Some(before) = rejected {
                more["rejected"] = before[index].json["token_id"].clone();
            }
            let answer = world.live_token(more).await;
            assert_eq!(answer.json["account"]["id"], account);
            answer
        };
        join_all((0..50).map(one)).await
    };
    let first = ask_all(None).await;
    let second = ask_all(Some(&first)).await;
    let tokens: HashSet<&str> = first.iter().chain(&second).map(|answer| answer.text("access_token")).collect();
    assert_eq!(tokens.len(), 100);
    assert_eq!((world.refreshes(), world.invalid_grants()), (50, 0));
    world.assert_sound();
}

#[tokio::test]
async fn a_daemon_that_is_told_to_stop_finishes_its_refresh_first() {
    let mut world = World::arranged(Options::default(), |home, _| crowded_and_idle(home)).await;
    world.connect(ADA).await;
    let first = world.live_token(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_secs(2))));
    let caller = begin(&world, json!({"rejected": first.json["token_id"]}));
    eventually("it is sent", async || world.refreshes() == 1).await;
    let started = Instant::now();
    world.daemon.signal("TERM");
    sleep(Duration::from_millis(200)).await;
    // Whoever is impatient changes nothing.
    world.daemon.signal("TERM");
    assert!(world.daemon.ended().await.success());
    assert!(started.elapsed() > Duration::from_secs(1), "it did not wait");
    assert_eq!(world.refreshed(), 1);
    let answer = caller.await.unwrap();
    assert!(answer.is_ok_and(|answer| answer.status == 200), "the caller who waits is answered too");

    world.daemon.restart().await;
    let after = world.live_token(json!({})).await;
    assert_ne!(after.json["token_id"], first.json["token_id"]);
    assert_eq!(world.refreshes(), 1);
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn a_daemon_that_is_killed_in_a_refresh_loses_nothing_that_the_provider_still_takes() {
    let mut world = World::new().await;
    world.connect(ADA).await;
    let first = world.live_token(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::DropBeforeProcessing));
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_secs(2))));
    // Fails, and is tried again by itself; that one is cut off.
    drop(world.daemon.token(json!({"rejected": first.json["token_id"]})).await);
    eventually("it is sent again", async || world.refreshes() == 2).await;
    world.daemon.kill();
    // The provider finishes what it began. Where the old token stays good nothing is lost by that.
    world.sandbox.adjust(|options| options.rotation = grantd::sandbox::Rotation::MultiValid);
    sleep(Duration::from_millis(2500)).await;
    world.daemon.restart().await;
    eventually("it is renewed", async || world.state().await == "active").await;
    world.assert_renewable().await;
    assert_eq!(world.invalid_grants(), 0);
    world.assert_sound();
}

#[tokio::test]
async fn a_renewal_does_not_undo_a_reconnect() {
    let world = World::arranged(Options::default(), |home, _| crowded_and_idle(home)).await;
    world.connect(ADA).await;
    let first = world.live_token(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_secs(2))));
    let caller = begin(&world, json!({"rejected": first.json["token_id"]}));
    eventually("it is sent", async || world.refreshes() == 1).await;
    assert_eq!(world.connect(ADA).await.status, 200);
    let reconnected = world.live_token(json!({})).await;
    assert_eq!(reconnected.json["connection"], first.json["connection"]);

    let late = caller.await.unwrap().unwrap();
    assert_eq!((late.status, late.json["token_id"].as_str()), (200, reconnected.json["token_id"].as_str()));
    assert_eq!(world.live_token(json!({})).await.json["token_id"], reconnected.json["token_id"]);
    eventually("what the old consent brought is given back", async || {
        world.sandbox.grants().iter().filter(|grant| grant.ended.is_none()).count() == 1
    })
    .await;
    world.assert_renewable().await;
    world.assert_sound();
}
