//! One life of a connection at each provider: connected, used, renewed twice, connected again, with another account, and ended.

use grantd::sandbox::Role;
use serde_json::json;

use crate::providers::stage::{ADA, GRACE, Stage};
use crate::providers::{Case, cases};
use crate::support::Journey;
use crate::support::journey::assert_says;

#[tokio::test]
async fn github_connects_renews_and_ends() {
    all(&Role::Github).await;
}

#[tokio::test]
async fn google_connects_renews_and_ends() {
    all(&Role::Google).await;
}

#[tokio::test]
async fn microsoft_connects_renews_and_ends() {
    all(&Role::Microsoft).await;
}

#[tokio::test]
async fn slack_connects_renews_and_ends() {
    all(&Role::Slack).await;
}

#[tokio::test]
async fn notion_connects_renews_and_ends() {
    all(&Role::Notion).await;
}

async fn all(role: &Role) {
    for case in cases(role) {
        life(&case).await;
    }
}

async fn life(case: &Case) {
    let (world, name) = (case.world().await, case.name);
    world.connects(ADA).await;
    let first = world.living(json!({})).await;
    assert_eq!(first.json["account"]["id"], case.account, "{name}");
    assert_eq!(first.json.get("expires_at").is_some(), case.tells_end, "{name}: {first:?}");

    let mut last = first;
    for times in 1..=2 {
        let renewed = world.rejects(&last).await;
        if !case.renews {
            assert_eq!((renewed.status, renewed.text("error")), (409, "reconnect_required"), "{name}");
            break;
        }
        assert_eq!(renewed.status, 200, "{name}: {renewed:?}; the log:\n{}", world.daemon.log());
        assert_ne!(renewed.json["token_id"], last.json["token_id"], "{name}");
        assert_eq!(renewed.json["scope"], last.json["scope"], "{name}: a refresh changes no scopes");
        assert!(world.sandbox.opens(renewed.text("access_token")), "{name}");
        assert_eq!(world.sandbox.opens(last.text("access_token")), case.old_lives, "{name}: the old one");
        assert_eq!(world.sandbox.ledger().refreshed(), times, "{name}");
        last = renewed;
    }

    let again = Journey::of(&world, json!({"provider": "sandbox", "reconnect": last.json["connection"]})).await;
    assert_says(&again.finish(ADA).await, &["Connected"]);
    let after = world.living(json!({})).await;
    assert_eq!(after.json["connection"], last.json["connection"], "{name}");
    assert_ne!(after.json["token_id"], last.json["token_id"], "{name}");
    if case.renews {
        let renewed = world.rejects(&after).await;
        assert_eq!(renewed.status, 200, "{name}: what came with the second consent can be renewed: {renewed:?}");
    }

    let other = Journey::of(&world, json!({"provider": "sandbox", "reconnect": last.json["connection"]})).await;
    let confirm = other.come_back(GRACE).await;
    assert_says(&confirm, &["A different account."]);
    assert_says(&other.browser.press(&confirm, "/confirm", &[]).await.unwrap(), &["Connected"]);
    let listed = world.daemon.get("/v1/connections").await;
    let connections = listed.json["connections"].as_array().unwrap().clone();
    assert_eq!(connections.len(), 2, "{name}: {connections:?}");

    for connection in &connections {
        let id = connection["id"].as_str().unwrap();
        let token = world.living(json!({"account": connection["account"]["id"]})).await;
        let ended = world.daemon.delete(&format!("/v1/connections/{id}")).await;
        assert_eq!(ended.json["upstream"], case.upstream, "{name}: {ended:?}; the log:\n{}", world.daemon.log());
        let revoked = case.upstream == "revoked";
        assert_eq!(world.sandbox.opens(token.text("access_token")), !revoked, "{name}");
        // Where only the access token is known to be gone, a person is still told where to take back the rest.
        let is_left = !revoked || ended.json["reach"] == "token";
        assert_eq!(ended.json.get("manual_url").is_some_and(|url| url.is_string()), is_left, "{name}: {ended:?}");
        let gone = world.daemon.token(json!({"account": connection["account"]["id"]})).await;
        assert!(matches!(gone.status, 404 | 409), "{name}: {gone:?}");
    }
    world.never_twice();
}
