//! Answers as they also come: numbers as texts, and without the members that may be missing.

use grantd::sandbox::{BodyKind, Endpoint, Fault, Kind, Secret, What, When};
use serde_json::json;

use crate::providers::stage::{ADA, Stage};
use crate::providers::{GITHUB, GOOGLE, MICROSOFT, NOTION, PROVIDERS, SLACK};
use crate::support::Journey;

#[tokio::test]
async fn a_lifetime_that_is_a_text_is_a_lifetime() {
    for case in PROVIDERS {
        let world = case.world_with(|options| options.quirks.numbers_as_text = true, |text| text).await;
        world.connects(ADA).await;
        let first = world.living(json!({})).await;
        assert_eq!(first.json.get("expires_in").is_some(), case.tells_end, "{}", case.name);
        if case.tells_end {
            assert!(first.json["expires_in"].as_i64().unwrap() > 3000, "{}: {first:?}", case.name);
        }
        assert_eq!(world.rejects(&first).await.status, 200, "{}", case.name);
    }
}

#[tokio::test]
async fn what_may_be_missing_is_not_missed() {
    for (case, missing) in [
        (GITHUB, vec!["/token_type", "/refresh_token_expires_in"]),
        (GITHUB, vec!["/scope", "/expires_in"]),
        (GOOGLE, vec!["/token_type", "/scope"]),
        (MICROSOFT, vec!["/scope", "/ext_expires_in"]),
        (SLACK, vec!["/enterprise", "/is_enterprise_install", "/app_id", "/authed_user/token_type"]),
        (SLACK, vec!["/scope", "/authed_user/scope", "/team/name"]),
        (NOTION, vec!["/workspace_name", "/workspace_icon", "/token_type", "/request_id", "/duplicated_template_id"]),
    ] {
        let name = format!("{} without {missing:?}", case.name);
        let leaves_out = missing.iter().map(|&place| place.to_owned()).collect();
        let world = case.world_with(|options| options.quirks.leaves_out = leaves_out, |text| text).await;
        world.connects(ADA).await;
        let first = world.living(json!({})).await;
        assert_eq!(first.json["account"]["id"], case.account, "{name}");
        let renewed = world.rejects(&first).await;
        assert_eq!(renewed.status, 200, "{name}: {renewed:?}");
        assert_eq!(renewed.json["account"]["id"], case.account, "{name}");
        world.never_twice();
    }
}

#[tokio::test]
async fn what_comes_for_nobody_is_given_back() {
    let nobody = What::Status { code: 500, body: BodyKind::Json };
    for (case, missing, tokens) in
        [(GITHUB, vec![], 1), (SLACK, vec!["/authed_user/id", "/bot_user_id"], 2), (NOTION, vec!["/workspace_id"], 1)]
    {
        let leaves_out = missing.iter().map(|&place: &&str| place.to_owned()).collect();
        let world = case.world_with(|options| options.quirks.leaves_out = leaves_out, |text| text).await;
        world.sandbox.script(Fault::new(Endpoint::Userinfo, When::Always, nobody.clone()));
        let journey = Journey::begin(&world).await;
        journey.come_back(ADA).await;
        assert_eq!(journey.status(&world).await, "identity_failed", "{}", case.name);
        let ledger = world.sandbox.ledger();
        let given_back = ledger.count(Kind::Revoked, Secret::Access, "revoked_by_client");
        assert_eq!(given_back, tokens, "{}; the log:\n{}", case.name, world.daemon.log());
        assert_eq!(world.daemon.get("/v1/connections").await.json["connections"], json!([]), "{}", case.name);
    }
}

#[tokio::test]
async fn a_rotated_refresh_token_that_does_not_come_ends_no_connection() {
    for case in [GITHUB, MICROSOFT, SLACK, NOTION] {
        let world = case.world().await;
        world.connects(ADA).await;
        let first = world.living(json!({})).await;
        let leaves_out = vec!["/refresh_token".to_owned()];
        world.sandbox.adjust(|options| options.quirks.leaves_out = leaves_out);
        let renewed = world.rejects(&first).await;
        assert_eq!(renewed.status, 200, "{}: the access token came: {renewed:?}", case.name);
        assert!(world.sandbox.opens(renewed.text("access_token")), "{}", case.name);
        assert_eq!(world.state().await, "active", "{}", case.name);
    }
}
