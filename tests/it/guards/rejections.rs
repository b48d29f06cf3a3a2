//! A rejection condemns nobody before it was said twice, and many at once condemn few.

use std::time::Duration;

use grantd::sandbox::{Fault, What, When};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::guards::{ADA, HOUR, PATIENCE, retry_after};
use crate::support::{World, eventually, eventually_within};

fn rejection() -> What {
    What::OAuthError("invalid_grant".to_owned())
}

#[tokio::test]
async fn one_rejection_condemns_nobody() {
    let world = World::guarded().await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), rejection()));
    let refused = world.refuse(ADA).await;
    assert!((1..=10).contains(&retry_after(&refused)), "{refused:?}");
    assert_eq!(world.state().await, "refresh_failed");
    // It lives at the provider too, and whoever has not seen it refused is served.
    world.live_token(json!({})).await;
    eventually_within(PATIENCE, "it is confirmed that all is well", async || world.state().await == "active").await;
    assert_eq!((world.refreshes(), world.refreshed()), (2, 1));
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn a_revoked_grant_is_asked_for_twice_and_serves_while_its_token_lives() {
    let world = World::guarded().await;
    let last = world.live_only(Duration::from_secs(6)).await;
    let sent = world.refreshes();
    assert_eq!(world.sandbox.revoke_user(ADA), 1);

    let (mut lived, mut waited) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    let condemned = loop {
        assert!(Instant::now() < deadline, "{lived} {waited}");
        let answer = world.daemon.token(json!({})).await;
        match answer.status {
            200 => {
                assert_eq!((waited, &answer.json["token_id"]), (0, &last.json["token_id"]), "it died and lives again");
                lived += 1;
            }
            503 => {
                assert!((1..=10).contains(&retry_after(&answer)), "{answer:?}");
                waited += 1;
            }
            _ => break answer,
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert!(lived > 0 && waited > 0, "{lived} {waited}");
    assert_eq!((condemned.status, condemned.text("reason")), (409, "refresh_token_invalid"), "{condemned:?}");
    assert_eq!(world.state().await, "needs_reconnect");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.refreshes() - sent, 2);
    let presented: Vec<i64> = world.sandbox.ledger().refreshes().skip(sent).map(|entry| entry.at_ms).collect();
    let between = presented[1] - presented[0];
    assert!(between >= 5000, "confirmed after {between} ms");
    world.assert_sound();
}

#[tokio::test]
async fn a_rejection_after_an_answer_that_never_came_is_called_a_lost_response() {
    let world = World::guarded().await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::DropAfterProcessing));
    assert_eq!(world.refuse(ADA).await.status, 503);
    eventually_within(PATIENCE, "it needs a person", async || world.state().await == "needs_reconnect").await;
    assert_eq!(world.connections().await[0]["reason"], "lost_response");
    assert_eq!((world.refreshes(), world.invalid_grants()), (2, 1), "one word is enough when the cause is known");
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_are_rejected_at_once_few_are_condemned_and_a_release_brings_the_others_back() {
    const ALL: usize = 25;
    const CONDEMNED: usize = 5;
    let mut world = World::new().await;
    world.stock(ALL, HOUR).await;
    world.refuse_refreshes("invalid_grant");
    world.make_due();
    let suspects = || {
        let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
        let count = "SELECT count(*) FROM grants WHERE last_failure = 'suspect_incident'";
        store.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    eventually_within(PATIENCE, "all others are suspects", async || usize::try_from(suspects()) == Ok(ALL - CONDEMNED))
        .await;
    assert_eq!(world.in_state("needs_reconnect").await, CONDEMNED);
    assert_eq!(world.in_state("refresh_failed").await, ALL - CONDEMNED);
    assert_eq!(world.provider_state("sandbox").await, "frozen");
    let alarms = world.alarms();
    assert!(alarms.iter().any(|alarm| alarm.contains("grantd provider release sandbox")), "{alarms:?}");
    let told = world.read_status().await;
    assert!(told.out.contains("grantd provider release sandbox"), "{told:?}");
    // Their tokens live, and they are left alone.
    let sent = world.refreshes();
    let living = world.connections().await.into_iter().find(|listed| listed["state"] == "refresh_failed").unwrap();
    world.live_token(json!({"account": living["account"]["id"]})).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.refreshes(), sent);

    world.sandbox.clear_faults();
    let released = world.release("sandbox").await;
    assert_eq!(released.code, 0, "{released:?}");
    assert!(released.out.ends_with(&format!("tried now: {}\n", ALL - CONDEMNED)), "{released:?}");
    eventually_within(PATIENCE, "all suspects recover", async || world.in_state("active").await == ALL - CONDEMNED)
        .await;
    assert_eq!(world.refreshed(), ALL - CONDEMNED);
    assert_eq!(world.provider_state("sandbox").await, "ok");
    eventually("nothing is left to say", async || !world.read_status().await.out.contains("grantd provider release"))
        .await;
    assert_eq!(world.release("sandbox").await.out, "Nothing was held back at sandbox.\n");
    assert_ne!(world.release("nonesuch").await.code, 0);
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_good_after_a_restart_too() {
    let mut world = World::new().await;
    world.stock(12, HOUR).await;
    world.refuse_refreshes("invalid_grant");
    world.make_due();
    eventually_within(PATIENCE, "it is frozen", async || world.provider_state("sandbox").await == "frozen").await;
    eventually_within(PATIENCE, "all have been confirmed", async || world.refreshes() == 24).await;
    eventually("all is noted", async || world.in_state("needs_reconnect").await == 5).await;
    world.daemon.signal("TERM");
    assert!(world.daemon.ended().await.success());
    world.sandbox.clear_faults();
    world.daemon.restart().await;
    let released = world.release("sandbox").await;
    assert!(released.out.ends_with("tried now: 7\n"), "{released:?}");
    eventually_within(PATIENCE, "all suspects recover", async || world.in_state("active").await == 7).await;
    world.assert_sound();
}
