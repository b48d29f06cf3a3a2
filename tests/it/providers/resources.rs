//! Where an access token is for one resource: a token for each, out of one consent, and none of them for another.

use std::time::Duration;

use grantd::sandbox::{Fault, Options, What, When};
use serde_json::{Map, Value, json};

use crate::providers::MICROSOFT;
use crate::providers::stage::{ADA, Stage};
use crate::support::journey::assert_says;
use crate::support::{Answer, Journey, World, eventually, eventually_within};

const VAULT: &str = "https://vault.azure.net/user_impersonation";
const STORAGE: &str = "https://storage.azure.com/user_impersonation";

/// A world with one account that has consented to mail, and to a vault.
async fn connected(adjust: impl FnOnce(&mut Options)) -> World {
    let world = MICROSOFT.world_with(adjust, |text| text).await;
    let request = json!({"provider": "sandbox", "scopes": ["Mail.Read", VAULT]});
    let done = Journey::of(&world, request).await.finish(ADA).await;
    assert_says(&done, &["Connected"]);
    world
}

async fn token_for(world: &World, scopes: &[&str]) -> Answer {
    world.daemon.token(json!({"scopes": scopes})).await
}

fn resource(world: &World, token: &Answer) -> Option<String> {
    world.sandbox.resource_of(token.text("access_token"))
}

#[tokio::test]
async fn one_consent_serves_several_resources_each_with_a_token_of_its_own() {
    let world = connected(|_| {}).await;
    let mail = token_for(&world, &["Mail.Read"]).await;
    assert_eq!(mail.status, 200, "{mail:?}; the log:\n{}", world.daemon.log());
    assert_eq!(resource(&world, &mail).as_deref(), Some("https://graph.microsoft.com/"));
    assert!(mail.text("scope").contains("Mail.Read") && !mail.text("scope").contains("vault"), "{mail:?}");

    let vault = token_for(&world, &[VAULT]).await;
    assert_eq!(vault.status, 200, "{vault:?}; the log:\n{}", world.daemon.log());
    assert_eq!(resource(&world, &vault).as_deref(), Some("https://vault.azure.net/"));
    assert_eq!(vault.text("scope"), VAULT);
    assert_eq!(vault.json["connection"], mail.json["connection"]);
    assert!(vault.json["expires_at"].is_i64(), "{vault:?}");

    // Both stay as they are, from memory.
    let refreshed = world.sandbox.ledger().refreshed();
    for (scopes, first) in [(&["Mail.Read"][..], &mail), (&[VAULT], &vault), (&[], &mail), (&["openid"], &mail)] {
        let again = token_for(&world, scopes).await;
        assert_eq!(again.json["token_id"], first.json["token_id"], "{scopes:?}");
    }
    assert_eq!(world.sandbox.ledger().refreshed(), refreshed);
    assert!(world.sandbox.opens(mail.text("access_token")), "the token for the vault cost the other nothing");

    // A renewal of the grant's own token forgets nothing.
    let renewed = world.rejects(&mail).await;
    assert_eq!(resource(&world, &renewed).as_deref(), Some("https://graph.microsoft.com/"), "{renewed:?}");
    assert_eq!(renewed.json["scope"], mail.json["scope"]);
    assert_eq!(token_for(&world, &[VAULT]).await.json["token_id"], vault.json["token_id"]);

    // It is not stored: after a restart it is asked for again, with the refresh token that goes on working.
    let mut world = world;
    world.daemon.restart().await;
    let after = token_for(&world, &[VAULT]).await;
    assert_eq!(resource(&world, &after).as_deref(), Some("https://vault.azure.net/"), "{after:?}");
    assert_ne!(after.json["token_id"], vault.json["token_id"]);
    world.never_twice();
}

#[tokio::test]
async fn a_hundred_callers_share_one_request_for_another_resource() {
    let world = connected(|_| {}).await;
    let before = world.sandbox.ledger().refreshed();
    let asked = (0..100).map(|_| token_for(&world, &[VAULT]));
    let answers = futures_util::future::join_all(asked).await;
    let ids: std::collections::BTreeSet<_> = answers.iter().map(|answer| answer.text("token_id").to_owned()).collect();
    assert_eq!((ids.len(), world.sandbox.ledger().refreshed() - before), (1, 1));
}

#[tokio::test]
async fn no_token_is_for_two_resources_and_none_for_one_that_nobody_consented_to() {
    let world = connected(|_| {}).await;
    let both = token_for(&world, &["Mail.Read", VAULT]).await;
    assert_eq!((both.status, both.text("error"), both.text("field")), (400, "invalid_request", "scopes"), "{both:?}");
    for name in ["https://graph.microsoft.com/", "https://vault.azure.net/"] {
        assert!(both.text("error_description").contains(name), "{both:?}");
    }
    let storage = token_for(&world, &[STORAGE]).await;
    assert_eq!((storage.status, storage.text("error")), (409, "insufficient_scope"), "{storage:?}");
    assert_eq!(storage.json["missing_scopes"], json!([STORAGE]));

    // Asking for more keeps what there was.
    let more = Journey::open(&storage).await;
    assert_says(&more.finish(ADA).await, &["Connected"]);
    for (scopes, expected) in [
        (STORAGE, "https://storage.azure.com/"),
        (VAULT, "https://vault.azure.net/"),
        ("Mail.Read", "https://graph.microsoft.com/"),
    ] {
        let token = token_for(&world, &[scopes]).await;
        assert_eq!(resource(&world, &token).as_deref(), Some(expected), "{token:?}; the log:\n{}", world.daemon.log());
    }
}

#[tokio::test]
async fn a_refused_resource_sends_the_person_to_consent_and_leaves_the_rest_alone() {
    let world = connected(|_| {}).await;
    let members: Map<String, Value> =
        json!({"error_codes": [65001], "suberror": "consent_required"}).as_object().cloned().unwrap();
    let refused = What::Error { code: "invalid_grant".to_owned(), status: None, members };
    world.sandbox.script(Fault::of_refresh(When::Next(1), refused));
    let vault = token_for(&world, &[VAULT]).await;
    assert_eq!((vault.status, vault.text("error")), (409, "insufficient_scope"), "{vault:?}");
    let mail = world.living(json!({"scopes": ["Mail.Read"]})).await;
    let listed = world.daemon.get("/v1/connections").await;
    assert_eq!(listed.json["connections"][0]["state"], "active", "{listed:?}");

    // It is believed for a while, and until the person has consented.
    let refreshed = world.sandbox.ledger().refreshes().count();
    assert_eq!(token_for(&world, &[VAULT]).await.text("error"), "insufficient_scope");
    assert_eq!(world.sandbox.ledger().refreshes().count(), refreshed);
    let again = json!({"provider": "sandbox", "reconnect": mail.json["connection"]});
    assert_says(&Journey::of(&world, again).await.finish(ADA).await, &["Connected"]);
    assert_eq!(resource(&world, &token_for(&world, &[VAULT]).await).as_deref(), Some("https://vault.azure.net/"));
}

#[tokio::test]
async fn a_provider_that_is_down_is_not_taken_for_a_missing_consent() {
    let world = connected(|_| {}).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::OAuthError("temporarily_unavailable".to_owned())));
    let down = token_for(&world, &[VAULT]).await;
    assert_eq!((down.status, down.text("error")), (503, "provider_unavailable"), "{down:?}");
    assert!(down.headers.contains_key("retry-after"), "{down:?}");
}

#[tokio::test]
async fn a_token_for_another_resource_is_renewed_when_it_is_rejected_or_about_to_end() {
    let world = connected(|options| options.access_ttl = Duration::from_secs(6)).await;
    let first = token_for(&world, &[VAULT]).await;
    let rejected = json!({"scopes": [VAULT], "rejected": first.json["token_id"]});
    let second = world.daemon.token(rejected.clone()).await;
    assert_eq!(second.status, 200, "{second:?}; the log:\n{}", world.daemon.log());
    assert_ne!(second.json["token_id"], first.json["token_id"]);
    assert_eq!(
        world.daemon.token(rejected).await.json["token_id"],
        second.json["token_id"],
        "it has another one by now"
    );
    eventually_within(Duration::from_secs(10), "a token is renewed while somebody uses it", || async {
        let token = world.daemon.token(json!({"scopes": [VAULT], "min_ttl": 0})).await;
        assert_eq!(token.status, 200, "{token:?}");
        assert!(resource(&world, &token).is_some(), "a dead token was handed out: {token:?}");
        token.json["token_id"] != second.json["token_id"]
    })
    .await;
}

#[tokio::test]
async fn a_disconnected_account_gives_no_token_for_any_resource() {
    let world = connected(|_| {}).await;
    let vault = token_for(&world, &[VAULT]).await;
    world.daemon.delete(&format!("/v1/connections/{}", vault.text("connection"))).await;
    for scopes in [&["Mail.Read"][..], &[VAULT]] {
        assert_eq!(token_for(&world, scopes).await.text("error"), "connection_required", "{scopes:?}");
    }
}

#[tokio::test]
async fn an_account_that_is_disconnected_meanwhile_gives_nobody_the_token_that_comes() {
    let world = connected(|_| {}).await;
    let mail = token_for(&world, &["Mail.Read"]).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_millis(800))));
    let before = world.sandbox.ledger().refreshes().count();
    let asked = token_for(&world, &[VAULT]);
    let disconnected = async {
        eventually("the provider is asked", || async { world.sandbox.ledger().refreshes().count() > before }).await;
        world.daemon.delete(&format!("/v1/connections/{}", mail.text("connection"))).await
    };
    let (vault, ended) = futures_util::future::join(asked, disconnected).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    assert_eq!((vault.status, vault.text("error")), (409, "connection_required"), "{vault:?}");
}
