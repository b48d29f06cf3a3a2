//! What came of a device flow is renewed as the client proved itself there, for as long as it lives: after a crash, out of the
//! spool, and before it is taken back. What a browser brings later is renewed as ever.

use std::time::Duration;

use grantd::sandbox::{DeviceSecret, Kind, Options, Secret};
use rusqlite::Connection as Sqlite;
use serde_json::json;

use crate::device::{Flow, hasty};
use crate::support::{World, eventually};

/// A provider that refuses the secret wherever the device flow is concerned, and wants it everywhere else. Nothing is renewed by
/// itself.
async fn connected() -> World {
    let world = World::arranged(Options { device_secret: DeviceSecret::Refused, ..hasty() }, |home, _| {
        home.set("jobs: {renew: \"0 0 0 1 1 *\", housekeep: \"* * * * * *\"}\n");
        home.redefine("redirect:\n", "device: {request_auth: none, poll_auth: none}\nredirect:\n");
        home.redefine(
            "  token: refresh\n  ok_http: [200]\n  reach: grant",
            "  token: access\n  ok_http: [200]\n  reach: token",
        );
    })
    .await;
    let flow = Flow::begin(&world).await;
    flow.enter("allow", "u-1001").await;
    flow.becomes(&world, "awaiting_confirmation").await;
    assert_eq!(flow.confirm(&world).await.text("status"), "completed");
    world
}

#[tokio::test]
async fn it_is_renewed_without_the_secret_also_by_the_next_run() {
    let mut world = connected().await;
    world.assert_renewable().await;
    world.daemon.kill();
    world.daemon.restart().await;
    world.assert_renewable().await;
    assert_eq!(world.refreshed(), 2);
    world.assert_sound();
}

#[tokio::test]
async fn a_consent_in_a_browser_makes_it_a_grant_like_any_other_and_back() {
    let world = connected().await;
    assert_eq!(world.connect("u-1001").await.status, 200);
    world.assert_renewable().await;
    let flow = Flow::begin(&world).await;
    flow.enter("allow", "u-1001").await;
    flow.becomes(&world, "awaiting_confirmation").await;
    assert_eq!(flow.confirm(&world).await.text("status"), "completed");
    world.assert_renewable().await;
    assert_eq!((world.refreshed(), world.connections().await.len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_waited_in_the_spool_is_renewed_in_the_same_way() {
    let mut world = connected().await;
    let first = world.live_token(json!({})).await;
    let store = Sqlite::open(world.daemon.home.store()).unwrap();
    store
        .execute_batch(
            "CREATE TRIGGER full BEFORE UPDATE OF generation ON grants BEGIN SELECT RAISE(FAIL, 'full'); END",
        )
        .unwrap();
    let renewed = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
    assert_eq!((renewed.status, world.refreshed()), (200, 1), "{renewed:?}");
    world.daemon.kill();
    store.execute_batch("DROP TRIGGER full").unwrap();
    drop(store);
    world.daemon.restart().await;
    let kept = world.live_token(json!({})).await;
    assert_eq!(kept.json["token_id"], renewed.json["token_id"], "it was in the spool");
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn it_is_renewed_so_once_more_before_it_is_taken_back() {
    let world = connected().await;
    let store = Sqlite::open(world.daemon.home.store()).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(store.execute("UPDATE grants SET expires_at = issued_at + 1", []).unwrap(), 1);
    let id = world.connections().await[0]["id"].as_str().unwrap().to_owned();
    let gone = world.daemon.delete(&format!("/v1/connections/{id}")).await;
    assert_eq!(gone.text("upstream"), "revoked", "{gone:?}");
    assert_eq!((world.refreshes(), world.refreshed()), (1, 1));
    let revoked = || world.sandbox.ledger().count(Kind::Revoked, Secret::Access, "revoked_by_client");
    eventually("the provider has it", async || revoked() == 1).await;
}
