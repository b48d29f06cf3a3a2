//! What a person gives: fewer scopes than were asked for, by names other than those, and a refresh token only if asked rightly.

use grantd::sandbox::{DEFAULT_CLIENT, Fault, What, When};
use serde_json::json;

use crate::providers::stage::{ADA, Stage};
use crate::providers::{Case, GITHUB, GOOGLE, MICROSOFT, NOTION, SLACK};
use crate::support::journey::{assert_says, param};
use crate::support::{Journey, eventually};

#[tokio::test]
async fn an_unticked_scope_is_missed_and_can_be_asked_for() {
    for (case, given, refused) in [
        (GITHUB, vec!["read:user", "read:org"], "repo"),
        (GOOGLE, vec!["openid", "email", "https://www.googleapis.com/auth/gmail.readonly"], "drive.readonly"),
        (MICROSOFT, vec!["openid", "profile", "offline_access"], "User.Read"),
        (SLACK, vec!["bot/channels:read", "user/channels:read"], "chat:write"),
    ] {
        let world = case.world().await;
        let name = case.name;
        let journey = Journey::begin(&world).await;
        let consent = journey.consent().await;
        let chosen: Vec<_> =
            [("account", ADA)].into_iter().chain(given.iter().map(|&scope| ("scope", scope))).collect();
        let confirm = journey.browser.press(&consent, "allow", &chosen).await.unwrap();
        assert_says(&confirm, &["Asked for, and not granted", refused]);
        let missing = journey.standing(&world).await.json["missing_scopes"].clone();
        let found = missing.as_array().unwrap().iter().any(|scope| scope.as_str().unwrap().ends_with(refused));
        assert!(found, "{name}: {missing}");
        journey.browser.press(&confirm, "/confirm", &[]).await.unwrap();
        world.living(json!({})).await;
        let lacking = world.daemon.token(json!({"scopes": [refused]})).await;
        assert_eq!((lacking.status, lacking.text("error")), (409, "insufficient_scope"), "{name}: {lacking:?}");
        assert_eq!(lacking.json["missing_scopes"], json!([refused]), "{name}");
        let upgrade = Journey::open(&lacking).await;
        assert_says(&upgrade.finish(ADA).await, &["Connected"]);
        let enough = world.daemon.token(json!({"scopes": [refused]})).await;
        assert_eq!(enough.status, 200, "{name}: {enough:?}");
    }
}

#[tokio::test]
async fn all_that_was_asked_for_is_understood_as_granted_whatever_the_provider_calls_it() {
    let told = |case: Case| async move {
        let world = case.world().await;
        let journey = Journey::begin(&world).await;
        let confirm = journey.come_back(ADA).await;
        assert!(!confirm.body.contains("not granted"), "{}: {}", case.name, confirm.body);
        let standing = journey.standing(&world).await;
        assert_eq!(standing.text("status"), "awaiting_confirmation", "{}", case.name);
        assert_eq!(standing.json.get("missing_scopes"), None, "{}: {standing:?}", case.name);
    };
    for case in [GITHUB, GOOGLE, MICROSOFT, SLACK, NOTION] {
        told(case).await;
    }
    // `user` makes the narrower ones disappear from the answer.
    told(Case { settings: ", scopes: [user, \"read:user\", \"user:email\", repo]", ..GITHUB }).await;
    told(Case { tweak: |options| options.quirks.full_scope_names = true, ..MICROSOFT }).await;
    told(Case { tweak: |options| options.quirks.not_echoed.clear(), ..MICROSOFT }).await;
}

#[tokio::test]
async fn google_is_asked_so_that_every_consent_brings_a_refresh_token() {
    let world = GOOGLE.world().await;
    let url = Journey::begin(&world).await.start().await;
    for (name, value) in [("access_type", "offline"), ("prompt", "consent"), ("include_granted_scopes", "false")] {
        assert_eq!(param(&url, name), value);
    }
    // Somebody agreed before, at another installation of the same client.
    assert!(world.sandbox.give(DEFAULT_CLIENT, ADA, &["openid"]).is_some());
    world.connects(ADA).await;
    let first = world.living(json!({})).await;
    assert_eq!(world.rejects(&first).await.status, 200, "there is a refresh token");
}

#[tokio::test]
async fn google_asked_once_only_would_have_no_refresh_token_and_that_is_told() {
    let once = |text: String| text.replace("{access_type: offline, prompt: consent}", "{access_type: offline}");
    let world = GOOGLE.world_with(|_| {}, once).await;
    assert!(world.sandbox.give(DEFAULT_CLIENT, ADA, &["openid"]).is_some());
    world.connects(ADA).await;
    let first = world.living(json!({})).await;
    let refused = world.rejects(&first).await;
    assert_eq!((refused.status, refused.text("reason")), (409, "no_refresh_token"), "{refused:?}");
}

#[tokio::test]
async fn a_second_consent_at_notion_replaces_the_first_grant_and_leaves_one_connection_that_works() {
    let world = NOTION.world().await;
    world.connects(ADA).await;
    let first = world.living(json!({})).await;
    world.connects(ADA).await;
    let second = world.living(json!({})).await;
    assert_eq!(second.json["connection"], first.json["connection"]);
    assert!(!world.sandbox.opens(first.text("access_token")), "the provider ended the first one");
    assert_eq!(world.sandbox.grants()[0].ended, Some("superseded"));
    assert_eq!(world.rejects(&second).await.status, 200);
    assert_eq!(world.live_grants(), 1);
}

#[tokio::test]
async fn a_lost_answer_costs_nothing_where_the_old_refresh_token_stays_good() {
    for case in [GOOGLE, MICROSOFT] {
        let world = case.world().await;
        world.connects(ADA).await;
        let first = world.living(json!({})).await;
        world.sandbox.script(Fault::of_refresh(When::Next(1), What::DropAfterProcessing));
        assert_eq!(world.rejects(&first).await.status, 503, "{}", case.name);
        let again = async || world.rejects(&first).await.status == 200;
        eventually("the same refresh token brings another one", again).await;
        world.never_twice();
    }
}
