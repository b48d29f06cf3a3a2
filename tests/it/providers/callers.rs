//! Callers with rules about one slot, or about one resource, of a grant that has several.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::providers::stage::{ADA, Stage};
use crate::providers::{MICROSOFT, SLACK};
use crate::support::ask::ask;
use crate::support::journey::assert_says;
use crate::support::person::is_root;
use crate::support::{Answer, Journey, Person, World, eventually};

const CALLER: Person = Person { uid: 42_001, gid: 42_001 };
const VAULT: &str = "https://vault.azure.net/user_impersonation";

/// From now on the caller acts by this rule for root, whose accounts they are.
async fn allow(world: &World, rule: &str) {
    let daemon = &world.daemon;
    let caller = format!("callers:\n  bot: {{peer: {{uid: 42001}}, on_behalf_of: 0, allow: [{rule}]}}\n");
    daemon.home.edit("config/grantd.yaml", |text| format!("{text}{caller}"));
    daemon.signal("HUP");
    eventually("the reload", async || daemon.log().contains("Took the new configuration")).await;
    for (path, mode) in [(daemon.home.file("run"), 0o755), (daemon.home.socket(), 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

async fn token(world: &World, more: Value) -> Answer {
    let mut body = json!({"provider": "sandbox", "connect": false});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let socket = world.daemon.home.socket();
    CALLER.does(move || async move { ask(&socket, "POST", "/v1/token", Some(body)).await.unwrap() }).await
}

#[tokio::test]
async fn a_slot_that_no_rule_names_is_none_of_the_provider_s() {
    if !is_root("callers of other users") {
        return;
    }
    let world = SLACK.world().await;
    world.connects(ADA).await;
    let user = world.living(json!({"slot": "user"})).await;
    allow(&world, "{provider: sandbox, slots: [user]}").await;
    for slot in [json!({}), json!({"slot": "user"})] {
        let given = token(&world, slot).await;
        assert_eq!(
            (given.status, &given.json["token_id"]),
            (200, &user.json["token_id"]),
            "the only one that is there"
        );
    }
    let without_id = |answer: &Answer| {
        let mut body = answer.json.clone();
        body.as_object_mut().unwrap().remove("request_id");
        (answer.status, body)
    };
    let (not_its, not_there) =
        (token(&world, json!({"slot": "bot"})).await, token(&world, json!({"slot": "other"})).await);
    assert_eq!((not_its.status, without_id(&not_its)), (400, without_id(&not_there)));

    let socket = world.daemon.home.socket();
    let listed = CALLER.does(move || async move { ask(&socket, "GET", "/v1/connections", None).await.unwrap() }).await;
    let slots = listed.json["connections"][0]["slots"].as_array().unwrap().clone();
    assert_eq!(slots.iter().map(|slot| slot["slot"].clone()).collect::<Vec<_>>(), ["user"]);
    for scope in user.text("scope").split(' ') {
        assert!(listed.json["connections"][0]["scopes"].as_array().unwrap().contains(&json!(scope)), "{scope}");
    }
    assert!(!listed.json.to_string().contains("groups:read"), "only the bot has it: {listed:?}");
}

#[tokio::test]
async fn a_token_for_one_resource_is_held_against_the_ceiling_by_itself() {
    if !is_root("callers of other users") {
        return;
    }
    let world = MICROSOFT.world().await;
    let request = json!({"provider": "sandbox", "scopes": ["Mail.Read", VAULT]});
    assert_says(&Journey::of(&world, request).await.finish(ADA).await, &["Connected"]);
    allow(&world, &format!("{{provider: sandbox, scopes: ['{VAULT}', email]}}")).await;
    let vault = token(&world, json!({"scopes": [VAULT]})).await;
    assert_eq!((vault.status, &vault.json["scope"]), (200, &json!(VAULT)), "{vault:?}\n{}", world.daemon.log());
    for (more, reason) in [(json!({"scopes": ["Mail.Read"]}), "above_ceiling"), (json!({}), "grant_broader")] {
        let refused = token(&world, more).await;
        assert_eq!((refused.status, refused.text("error"), refused.text("reason")), (403, "scope_denied", reason));
    }
    assert_eq!(token(&world, json!({"scopes": [VAULT]})).await.json["token_id"], vault.json["token_id"]);
}
