//! The provider's answer counts once, in the browser that was sent out, at the address of the provider that was asked.

use std::sync::Arc;

use futures_util::future::join_all;
use grantd::sandbox::browser::Browser;
use grantd::sandbox::{Options, definition};
use serde_json::json;

use crate::support::journey::{assert_says, param, with_param};
use crate::support::{Home, Journey, World};

#[tokio::test]
async fn an_answer_that_arrives_twenty_times_at_once_is_redeemed_once() {
    let world = World::new().await;
    let journey = Arc::new(Journey::begin(&world).await);
    let callback = journey.callback("u-1001").await;
    let tries = (0..20).map(|_| {
        let (journey, callback) = (Arc::clone(&journey), callback.clone());
        tokio::spawn(async move { journey.browser.peek(&callback).await.unwrap().status })
    });
    let mut statuses: Vec<u16> = join_all(tries).await.into_iter().map(Result::unwrap).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 303);
    assert!(statuses[1..].iter().all(|status| *status == 400), "{statuses:?}");
    assert_eq!(world.token_requests(), 1);

    let confirm = journey.look().await;
    let done = journey.browser.press(&confirm, "/confirm", &[]).await.unwrap();
    assert_says(&done, &["Connected"]);
    let again = journey.browser.open(&callback).await.unwrap();
    assert_eq!(again.status, 400);
    assert_says(&again, &["This has been used already", "What to do now"]);
    assert_eq!(world.token_requests(), 1);
    assert_eq!(world.live_grants(), 1, "a replay takes nothing away");
    assert_eq!(world.daemon.token(json!({})).await.status, 200);
}

#[tokio::test]
async fn an_answer_in_another_browser_connects_nothing() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback("u-1001").await;
    let foreign = Browser::new().peek(&callback).await.unwrap();
    assert_eq!(foreign.status, 403);
    assert_says(&foreign, &["This began in another browser", "What to do now"]);
    assert_eq!(world.token_requests(), 0);

    // A browser that began a session of its own is another one all the same.
    let other = Journey::of(&world, json!({"provider": "sandbox", "scopes": ["openid", "more"]})).await;
    other.start().await;
    let callback = journey.callback("u-1001").await;
    assert_eq!(other.browser.peek(&callback).await.unwrap().status, 403);
    assert_eq!(world.token_requests(), 0);

    assert_says(&journey.finish("u-1001").await, &["Connected"]);
    assert_eq!(world.token_requests(), 1);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_goes_nowhere() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback("u-1001").await;
    let state = param(&callback, "state");
    let (long, swapped) = ("x".repeat(513), state.chars().rev().collect::<String>());
    for forged in
        ["x", "", "' OR 1=1 --", "%00", "\u{fc}", swapped.as_str(), &state[1..], long.as_str(), &format!("{state} ")]
    {
        let page = journey.browser.open(&with_param(&callback, "state", Some(forged))).await.unwrap();
        assert_eq!(page.status, 400, "{forged}");
        assert_says(&page, &["What to do now"]);
    }
    let without = journey.browser.open(&with_param(&callback, "state", None)).await.unwrap();
    assert_eq!(without.status, 400);
    assert_eq!(world.token_requests(), 0);
    assert_eq!(journey.status(&world).await, "opened", "a forger ends nobody's session");
    let page = journey.browser.open(&callback).await.unwrap();
    assert_says(&page, &["Is this your account?"]);
}

#[tokio::test]
async fn the_answer_of_one_provider_does_not_count_at_the_address_of_another() {
    let world = World::arranged(Options::default(), |home, _| {
        let client = home.client();
        home.configure(&format!("  sandbox: {{{client}}}\n  other: {{definition: sandbox, {client}}}\n"));
    })
    .await;
    for (asked, path) in [("sandbox", "/callback/other"), ("other", "/callback/sandbox"), ("other", "/callback/nobody")]
    {
        let journey = Journey::of(&world, json!({"provider": asked})).await;
        let mut callback = journey.callback("u-1001").await;
        assert_eq!(callback.path(), format!("/callback/{asked}"), "each has a redirect URI of its own");
        callback.set_path(path);
        let page = journey.browser.open(&callback).await.unwrap();
        assert!(matches!(page.status, 400 | 404), "{asked} at {path}: {}", page.status);
        assert_says(&page, &["What to do now"]);
        assert_eq!(world.token_requests(), 0, "{asked} at {path}");
        world.daemon.delete(&format!("/v1/connect/{}", journey.id)).await;
    }
    world.assert_nothing_kept("answers at the wrong address").await;
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_not_believed() {
    let world = World::new().await;
    let evil = "https://evil.example".to_owned();
    let slash = format!("{}/", world.sandbox.issuer());
    for iss in [evil, slash, world.sandbox.issuer().to_uppercase()] {
        let journey = Journey::begin(&world).await;
        let callback = with_param(&journey.callback("u-1001").await, "iss", Some(&iss));
        let page = journey.browser.open(&callback).await.unwrap();
        assert_says(&page, &["That answer could not be trusted", "What to do now"]);
        assert_eq!(journey.status(&world).await, "identity_failed", "{iss}");
    }
    // An error of another issuer is not believed either.
    let journey = Journey::begin(&world).await;
    let mut back = with_param(&journey.callback("u-1001").await, "code", None);
    back = with_param(&back, "iss", Some("https://evil.example"));
    back.query_pairs_mut().append_pair("error", "access_denied");
    assert_says(&journey.browser.open(&back).await.unwrap(), &["That answer could not be trusted"]);
    assert_eq!(world.token_requests(), 0);
    world.assert_nothing_kept("wrong issuers").await;
}

#[tokio::test]
async fn an_issuer_that_must_be_named_and_is_not_ends_the_session() {
    let arrange = |home: &Home, sandbox: &grantd::sandbox::Sandbox| {
        let strict = definition(sandbox.url())
            .replace("id: sandbox", "id: strict")
            .replace("callback_iss: validate_if_present", "callback_iss: require");
        assert!(strict.contains("id: strict") && strict.contains("iss: require"));
        home.write("config/providers.d/strict.yaml", &strict);
        home.configure(&format!("  strict: {{{}}}\n", home.client()));
    };
    let world = World::arranged(Options { iss_on_callback: false, ..Options::default() }, arrange).await;
    let journey = Journey::of(&world, json!({"provider": "strict"})).await;
    let page = journey.come_back("u-1001").await;
    assert_says(&page, &["That answer could not be trusted", "What to do now"]);
    assert_eq!(world.token_requests(), 0);
    world.assert_nothing_kept("no issuer").await;

    world.sandbox.adjust(|options| options.iss_on_callback = true);
    let journey = Journey::of(&world, json!({"provider": "strict"})).await;
    assert_says(&journey.finish("u-1001").await, &["Connected"]);
}
