//! What was granted, which account it is, and what connecting again changes.

use grantd::sandbox::browser::Page;
use serde_json::{Value, json};

use crate::support::journey::{assert_says, param};
use crate::support::{Journey, World};

#[tokio::test]
async fn scopes_that_were_not_granted_are_shown_and_can_be_asked_for_again() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let consent = journey.consent().await;
    let fewer = [("account", "u-1001"), ("scope", "openid"), ("scope", "profile")];
    let confirm = journey.browser.press(&consent, "allow", &fewer).await.unwrap();
    let (given, refused) = confirm.body.split_once("Asked for, and not granted").expect("the page tells them apart");
    assert!(given.contains(">openid<") && given.contains(">profile<") && !given.contains(">email<"), "{given}");
    assert!(refused.contains(">email<") && !refused.contains(">openid<"), "{refused}");
    journey.browser.press(&confirm, "/confirm", &[]).await.unwrap();

    let token = world.daemon.token(json!({})).await;
    assert_eq!((token.status, token.text("scope")), (200, "openid profile"));
    let connection = token.text("connection").to_owned();
    let lacking = world.daemon.token(json!({"scopes": ["email", "openid"]})).await;
    assert_eq!((lacking.status, lacking.text("error")), (409, "insufficient_scope"));
    assert_eq!(lacking.json["missing_scopes"], json!(["email"]), "{lacking:?}");
    assert_eq!(lacking.json["reason"], "scope_upgrade");

    let upgrade = Journey::open(&lacking).await;
    assert_says(&upgrade.page, &["again?", "ada@sandbox.example"]);
    assert_eq!(param(&upgrade.start().await, "prompt"), "consent", "the provider must ask, or nothing changes");
    assert_says(&upgrade.finish("u-1001").await, &["Connected"]);
    let enough = world.daemon.token(json!({"scopes": ["email", "openid"]})).await;
    assert_eq!(enough.status, 200, "{enough:?}");
    assert_eq!(enough.text("connection"), connection, "it is the same connection");
    assert_eq!(enough.text("scope"), "email openid profile");
}

#[tokio::test]
async fn connecting_the_same_account_again_keeps_the_connection_and_replaces_the_token() {
    let world = World::new().await;
    world.connect("u-1001").await;
    let before = world.daemon.token(json!({})).await;
    for explicit in [true, false] {
        let mut request = json!({"provider": "sandbox"});
        if explicit {
            request["reconnect"] = before.json["connection"].clone();
        }
        let journey = Journey::of(&world, request).await;
        let confirm = journey.come_back("u-1001").await;
        assert!(!confirm.body.contains("different account"), "{}", confirm.body);
        journey.browser.press(&confirm, "/confirm", &[]).await.unwrap();
    }
    let after = world.daemon.token(json!({})).await;
    assert_eq!(after.json["connection"], before.json["connection"]);
    assert_ne!(after.json["token_id"], before.json["token_id"]);
    assert_ne!(after.json["access_token"], before.json["access_token"]);
    assert!(world.is_live(&after.json["access_token"]).await);
    assert_eq!(connections(&world).await.len(), 1);

    // What names the old token costs nothing: it is not the current one.
    let again = world.daemon.token(json!({"rejected": before.json["token_id"]})).await;
    assert_eq!(again.json["token_id"], after.json["token_id"]);
}

#[tokio::test]
async fn another_account_on_a_reconnect_is_pointed_out_and_connected_beside_the_first() {
    let world = World::new().await;
    world.connect("u-1001").await;
    let first = world.daemon.token(json!({})).await;
    let again = json!({"provider": "sandbox", "reconnect": first.json["connection"]});
    let journey = Journey::of(&world, again).await;
    let confirm = journey.come_back("u-1002").await;
    assert_says(&confirm, &["A different account.", "ada@sandbox.example", "grace@sandbox.example"]);
    assert_says(&confirm, &["stays as it is"]);
    let done = journey.browser.press(&confirm, "/confirm", &[]).await.unwrap();
    assert_says(&done, &["Connected", "grace@sandbox.example"]);

    let both = connections(&world).await;
    assert_eq!(both.len(), 2, "{both:?}");
    let second = journey.standing(&world).await.json["connection"].clone();
    assert_ne!(second, first.json["connection"]);
    let unchanged = world.daemon.token(json!({"account": "u-1001"})).await;
    assert_eq!(unchanged.json["token_id"], first.json["token_id"], "the first account is untouched");
}

#[tokio::test]
async fn of_two_accounts_one_has_to_be_named() {
    let world = World::new().await;
    for account in ["u-1001", "u-1002"] {
        assert_says(&world.connect(account).await, &["Connected"]);
    }
    let torn = world.daemon.token(json!({})).await;
    assert_eq!((torn.status, torn.text("error")), (409, "account_ambiguous"));
    let mut named: Vec<_> =
        torn.json["accounts"].as_array().unwrap().iter().map(|account| account["id"].as_str().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, ["u-1001", "u-1002"]);
    assert!(torn.json["accounts"].to_string().contains("grace@sandbox.example"));

    for (account, id) in [("u-1001", "u-1001"), ("u-1002", "u-1002"), ("grace@sandbox.example", "u-1002")] {
        let token = world.daemon.token(json!({"account": account})).await;
        assert_eq!(token.status, 200, "{account}: {token:?}");
        assert_eq!(token.json["account"]["id"], id);
    }
    let unknown = world.daemon.token(json!({"account": "nobody@sandbox.example"})).await;
    assert_eq!((unknown.status, unknown.text("error")), (404, "unknown_account"));
}

#[tokio::test]
async fn nothing_that_does_not_exist_can_be_connected_again() {
    let world = World::new().await;
    for reconnect in ["cx_AAAAAAAAAAAAAAAAAAAAAA", "cx_x"] {
        let refused = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "reconnect": reconnect})).await;
        assert!(matches!(refused.status, 400 | 404), "{refused:?}");
    }
    let unknown = world.daemon.get("/v1/connect/cn_AAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!((unknown.status, unknown.text("error")), (404, "not_found"));
    let nowhere: Page = world_page(&world, "/connect/cn_AAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!(nowhere.status, 404);
    assert_says(&nowhere, &["Nothing here", "What to do now"]);
}

async fn world_page(world: &World, path: &str) -> Page {
    let url = format!("http://localhost:{}{path}", world.daemon.home.port).parse().unwrap();
    grantd::sandbox::browser::Browser::new().open(&url).await.unwrap()
}

async fn connections(world: &World) -> Vec<Value> {
    world.daemon.get("/v1/connections").await.json["connections"].as_array().unwrap().clone()
}
