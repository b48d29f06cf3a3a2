//! A provider that asks for a pause gets it.

use std::time::Duration;

use grantd::sandbox::{Fault, What, When};
use serde_json::json;
use tokio::time::sleep;

use crate::guards::{HOUR, PATIENCE, retry_after};
use crate::support::{World, eventually_within};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_asks_for_in_retry_after_is_kept_by_everybody() {
    const ALL: usize = 10;
    let world = World::guarded_stock(ALL, "").await;
    let pause = What::RetryAfter { code: 429, value: "3".to_owned() };
    world.sandbox.script(Fault::of_refresh(When::Next(1), pause));
    assert!((1..=4).contains(&retry_after(&world.refuse("stock-0").await)));
    // Nobody has failed here, and the schedule has work: they are told as well, and nothing is sent.
    world.make_due();
    for index in 1..ALL {
        let account = format!("stock-{index}");
        let living = world.live_token(json!({"account": account})).await;
        let answer = world.daemon.token(json!({"account": account, "rejected": living.json["token_id"]})).await;
        // On a slow machine the pause is over in the end.
        if answer.status != 200 {
            assert!((1..=3).contains(&retry_after(&answer)), "{answer:?}");
        }
    }
    eventually_within(PATIENCE, "all are renewed", async || world.refreshed() >= ALL).await;
    let ledger = world.sandbox.ledger();
    let sent: Vec<i64> = ledger.refreshes().map(|entry| entry.at_ms).collect();
    assert!(sent[1] - sent[0] >= 3000, "asked again after {} ms", sent[1] - sent[0]);
    eventually_within(PATIENCE, "all are well", async || world.in_state("active").await == ALL).await;
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_refuses_every_token_does_not_use_the_grant_up() {
    const EARLY: usize = 6;
    let world = World::guarded_stock(1, &format!("  early_per_hour: {EARLY}\n")).await;
    world.sandbox.adjust(|options| options.access_ttl = HOUR / 2);
    for round in 1..=EARLY {
        assert_eq!(world.refuse("stock-0").await.status, 200, "round {round}");
    }
    let refused = world.refuse("stock-0").await;
    assert!((60..=3600).contains(&retry_after(&refused)), "{refused:?}");
    // A token that lives is better than none, also for who wants it to live longer than any does.
    let living = world.live_token(json!({})).await;
    let longer = world.live_token(json!({"min_ttl": 3600})).await;
    assert_eq!(longer.json["token_id"], living.json["token_id"]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.refreshes(), EARLY);
    assert_eq!(world.state().await, "active");
    // What is due is another matter.
    world.make_due();
    eventually_within(PATIENCE, "what is due is renewed", async || world.refreshed() == EARLY + 1).await;
    world.assert_sound();
}
