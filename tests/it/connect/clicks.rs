//! People click twice, go back, and keep tabs open; link previews ask before anybody does. None of it breaks a session.

use serde_json::json;

use crate::support::journey::assert_says;
use crate::support::raw::to_port;
use crate::support::{Journey, World};

#[tokio::test]
async fn a_second_click_on_start_makes_the_first_way_useless_and_the_second_works() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let first = journey.callback("u-1001").await;
    let second = journey.callback("u-1001").await;
    let stale = journey.browser.open(&first).await.unwrap();
    assert_eq!(stale.status, 400);
    assert_says(&stale, &["What to do now"]);
    assert_eq!(world.token_requests(), 0);
    let confirm = journey.browser.open(&second).await.unwrap();
    assert_says(&confirm, &["Is this your account?"]);
    assert_says(&journey.browser.press(&confirm, "/confirm", &[]).await.unwrap(), &["Connected"]);
    assert_eq!(world.token_requests(), 1);
}

#[tokio::test]
async fn a_second_click_on_yes_shows_the_same_good_end() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let confirm = journey.come_back("u-1001").await;
    let (one, other) = tokio::join!(
        journey.browser.press(&confirm, "/confirm", &[]),
        journey.browser.press(&confirm, "/confirm", &[])
    );
    let late = journey.browser.press(&confirm, "/confirm", &[]).await;
    for page in [one, other, late] {
        assert_says(&page.unwrap(), &["Connected", "ada@sandbox.example"]);
    }
    assert_eq!(world.token_requests(), 1);
    let listed = world.daemon.get("/v1/connections").await;
    assert_eq!(listed.json["connections"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn going_back_after_the_end_changes_nothing() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback("u-1001").await;
    let confirm = journey.browser.open(&callback).await.unwrap();
    journey.browser.press(&confirm, "/confirm", &[]).await.unwrap();
    let before = world.daemon.token(json!({})).await;

    assert_says(&journey.look().await, &["Connected"]);
    assert_eq!(journey.browser.open(&callback).await.unwrap().status, 400);
    for (page, button) in [(&journey.page, "/start"), (&journey.page, "/decline"), (&confirm, "/decline")] {
        let answer = journey.browser.press(page, button, &[]).await.unwrap();
        assert_says(&answer, &["Connected", "ada@sandbox.example"]);
    }
    assert_eq!(world.token_requests(), 1);
    assert_eq!(world.live_grants(), 1);
    assert_eq!(world.daemon.token(json!({})).await.json["token_id"], before.json["token_id"]);
}

#[tokio::test]
async fn looking_changes_nothing() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let host = format!("Host: localhost:{}", world.daemon.home.port);
    let page = format!("/connect/{}", journey.id);
    for button in ["start", "confirm", "decline"] {
        for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
            let line = format!("{method} {page}/{button} HTTP/1.1");
            let answer = to_port(world.daemon.home.port, &[&line, &host], "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{line}");
        }
    }
    assert_eq!(journey.status(&world).await, "pending");

    let callback = journey.callback("u-1001").await;
    let query = callback.query().unwrap();
    for method in ["HEAD", "POST", "OPTIONS"] {
        let line = format!("{method} /callback/sandbox?{query} HTTP/1.1");
        let answer = to_port(world.daemon.home.port, &[&line, &host, "Content-Length: 0"], "").await;
        assert_eq!(answer.status, 405, "{line}");
    }
    assert_eq!(world.token_requests(), 0);
    assert_eq!(journey.status(&world).await, "opened");

    let confirm = journey.browser.open(&callback).await.unwrap();
    for _ in 0..3 {
        assert_says(&journey.look().await, &["Is this your account?"]);
    }
    assert_eq!(journey.status(&world).await, "awaiting_confirmation");
    assert_says(&journey.browser.press(&confirm, "/confirm", &[]).await.unwrap(), &["Connected"]);
}

#[tokio::test]
async fn two_tabs_of_two_sessions_do_not_undo_each_other() {
    let world = World::new().await;
    let one = Journey::begin(&world).await;
    let link = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "scopes": ["openid", "x"]})).await;
    let tab = one.browser.open(&link.url("connect_url")).await.unwrap();
    let callback = one.callback("u-1001").await;
    let other = one.browser.press(&tab, "/start", &[]).await.unwrap();
    let second = one.browser.press(&other, "allow", &[("account", "u-1002")]).await.unwrap();
    let first = one.browser.open(&callback).await.unwrap();
    assert_says(&first, &["ada@sandbox.example"]);
    assert_says(&second, &["grace@sandbox.example"]);
    for page in [&first, &second] {
        assert_says(&one.browser.press(page, "/confirm", &[]).await.unwrap(), &["Connected"]);
    }
    assert_eq!(world.live_grants(), 2);
}
