//! Slack gives two grants in one consent: each is asked for, renewed and ended on its own.

use grantd::sandbox::Secret;
use grantd::sandbox::{Fingerprint, Kind};
use serde_json::json;

use crate::providers::stage::{ADA, Stage};
use crate::providers::{Case, SLACK, VARIANTS};
use crate::support::{Answer, World};

async fn of(world: &World, slot: &str) -> Answer {
    world.living(json!({"slot": slot})).await
}

/// Which slot the provider issued this token for.
fn issued_for(world: &World, token: &Answer) -> String {
    let ledger = world.sandbox.ledger();
    let fingerprint = Fingerprint::of(token.text("access_token"));
    let line = ledger.of(Kind::Issued, Secret::Access).find(|entry| entry.fingerprint == fingerprint).unwrap();
    let grants = world.sandbox.grants();
    grants.iter().find(|grant| Some(grant.id) == line.grant).unwrap().slot.to_string()
}

#[tokio::test]
async fn a_slot_gives_its_own_token_and_is_renewed_alone() {
    let world = SLACK.world().await;
    world.connects(ADA).await;
    let (mut bot, mut user) = (of(&world, "bot").await, of(&world, "user").await);
    for (slot, token) in [("bot", &bot), ("user", &user)] {
        assert_eq!(issued_for(&world, token), slot);
    }
    assert!(bot.text("scope").contains("im:history") && !user.text("scope").contains("im:history"));
    assert!(user.text("scope").contains("search:read.public") && !bot.text("scope").contains("search:read.public"));
    assert_eq!(
        world.daemon.token(json!({})).await.json["token_id"],
        bot.json["token_id"],
        "the first one if none is named"
    );
    assert_eq!(world.daemon.token(json!({"slot": "other"})).await.status, 400);

    for _ in 0..2 {
        let renewed = world.daemon.token(json!({"slot": "bot", "rejected": bot.json["token_id"]})).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        assert_eq!(issued_for(&world, &renewed), "bot");
        assert_eq!(of(&world, "user").await.json["token_id"], user.json["token_id"], "the other one stays");
        bot = renewed;
        let renewed = world.daemon.token(json!({"slot": "user", "rejected": user.json["token_id"]})).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        assert_eq!(issued_for(&world, &renewed), "user");
        assert_eq!(of(&world, "bot").await.json["token_id"], bot.json["token_id"], "the other one stays");
        user = renewed;
    }
    once_each(&world, 4);
}

#[tokio::test]
async fn both_renewed_at_once_present_each_refresh_token_once() {
    let world = SLACK.world().await;
    world.connects(ADA).await;
    let (bot, user) = (of(&world, "bot").await, of(&world, "user").await);
    let ask = |slot: &'static str, token: &Answer| {
        let request = json!({"slot": slot, "rejected": token.json["token_id"]});
        world.daemon.token(request)
    };
    let (a, b, c, d) = tokio::join!(ask("bot", &bot), ask("user", &user), ask("bot", &bot), ask("user", &user));
    for answer in [&a, &b, &c, &d] {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!((&a.json["token_id"], &b.json["token_id"]), (&c.json["token_id"], &d.json["token_id"]));
    once_each(&world, 2);
}

#[tokio::test]
async fn disconnecting_ends_both_tokens() {
    let world = SLACK.world().await;
    world.connects(ADA).await;
    let (bot, user) = (of(&world, "bot").await, of(&world, "user").await);
    let ended = world.daemon.delete(&format!("/v1/connections/{}", bot.text("connection"))).await;
    assert_eq!(ended.json["upstream"], "revoked", "{ended:?}");
    for token in [bot, user] {
        assert!(!world.sandbox.opens(token.text("access_token")));
    }
}

#[tokio::test]
async fn an_app_for_persons_only_has_one_slot_and_no_bot() {
    for case in VARIANTS.iter().filter(|case| case.settings.contains("v2_user") || case.settings.contains("pkce")) {
        let world = case.world().await;
        world.connects(ADA).await;
        let token = world.living(json!({})).await;
        assert_eq!(issued_for(&world, &token), "user", "{}", case.name);
        assert!(token.text("scope").contains("search:read.public"), "{}: {token:?}", case.name);
        assert_eq!(world.daemon.token(json!({"slot": "bot"})).await.status, 400, "{}", case.name);
        let renewed = world.daemon.token(json!({"slot": "user", "rejected": token.json["token_id"]})).await;
        assert_eq!(renewed.status, 200, "{}: {renewed:?}", case.name);
        assert_eq!(renewed.json["scope"], token.json["scope"], "{}", case.name);
        once_each(&world, 1);
    }
}

#[tokio::test]
async fn a_person_without_a_bot_has_one_grant_however_often_its_token_is_told() {
    for repeats in [false, true] {
        let only_user = Case { settings: ", scopes: {user: [\"channels:read\", \"search:read.public\"]}", ..SLACK };
        let world = only_user.world_with(|options| options.quirks.repeats_user_token = repeats, |text| text).await;
        world.connects(ADA).await;
        let token = of(&world, "user").await;
        assert_eq!(issued_for(&world, &token), "user");
        assert!(matches!(world.daemon.token(json!({"slot": "bot"})).await.status, 400 | 404 | 409));
        let renewed = world.daemon.token(json!({"slot": "user", "rejected": token.json["token_id"]})).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        once_each(&world, 1);
    }
}

/// So many refresh tokens were presented, and each of them once.
fn once_each(world: &World, times: usize) {
    let ledger = world.sandbox.ledger();
    let presented: Vec<Fingerprint> = ledger.refreshes().map(|entry| entry.fingerprint).collect();
    assert_eq!(presented.len(), times);
    assert!(presented.iter().all(|token| ledger.presentations_of(*token) == 1), "{presented:?}");
}
