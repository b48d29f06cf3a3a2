//! Device codes as a client and a person see them.

use std::time::Duration;

use crate::sandbox::machine::DEVICE_GRANT_TYPE;
use crate::sandbox::tests::{Reply, Setup};
use crate::sandbox::{DEFAULT_CLIENT, DeviceSecret, Options};

impl Setup {
    async fn device(&self) -> Reply {
        let reply = self.post("/device_authorization", &[("scope", "openid read")]).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply
    }

    async fn poll(&self, device: &Reply) -> Reply {
        let code = device.text("device_code");
        self.post("/token", &[("grant_type", DEVICE_GRANT_TYPE), ("device_code", &code)]).await
    }

    async fn decide(&self, user_code: &str, decision: &str) -> u16 {
        let answer = [("user_code", user_code), ("decision", decision), ("account", "u-1002"), ("scope", "openid")];
        self.send(self.form("/device", &answer)).await.unwrap().status
    }
}

#[tokio::test]
async fn a_code_that_a_person_enters_brings_tokens_once() {
    let setup = Setup::new(Options::default()).await;
    let device = setup.device().await;
    assert!(device.text("device_code").starts_with("dc_MARK_"));
    assert_eq!((&device.json()["interval"], &device.json()["expires_in"]), (&5.into(), &600.into()));
    assert_eq!(setup.poll(&device).await.error(), "authorization_pending");

    let code = device.text("user_code").to_lowercase().replace('-', " ");
    let page = setup.get(&format!("/device?user_code={}", code.replace(' ', "+"))).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains(&device.text("user_code")) && page.body.contains(DEFAULT_CLIENT), "{}", page.body);
    assert_eq!(setup.decide(&code, "allow").await, 200);
    assert_eq!(setup.decide(&code, "deny").await, 400, "a code is decided on once");

    setup.clock.advance(Duration::from_secs(5));
    let tokens = setup.poll(&device).await;
    assert_eq!((tokens.status, &tokens.json()["scope"]), (200, &"openid".into()));
    assert_eq!(setup.opens(&tokens.text("access_token")).await, 200);
    setup.clock.advance(Duration::from_secs(5));
    assert_eq!(setup.poll(&device).await.error(), "invalid_grant", "and good for one use");
}

#[tokio::test]
async fn whoever_polls_too_fast_has_to_slow_down_each_time() {
    let setup = Setup::new(Options::default()).await;
    let device = setup.device().await;
    for (pause, expected) in [
        (0, "authorization_pending"),
        (4, "slow_down"),
        (9, "slow_down"),
        (15, "authorization_pending"),
        (14, "slow_down"),
    ] {
        setup.clock.advance(Duration::from_secs(pause));
        assert_eq!(setup.poll(&device).await.error(), expected, "after {pause} s");
    }
}

#[tokio::test]
async fn a_no_and_an_old_code_are_told_apart() {
    let setup = Setup::new(Options { device_ttl: Duration::from_secs(60), ..Options::default() }).await;
    let (denied, old) = (setup.device().await, setup.device().await);
    assert_eq!(setup.decide(&denied.text("user_code"), "deny").await, 200);
    assert_eq!(setup.poll(&denied).await.error(), "access_denied");
    setup.clock.advance(Duration::from_secs(60));
    assert_eq!(setup.decide(&old.text("user_code"), "allow").await, 400);
    assert_eq!(setup.poll(&old).await.error(), "expired_token");
    assert!(setup.sandbox.grants().is_empty());
}

#[tokio::test]
async fn only_the_client_that_asked_can_poll_and_proves_itself_where_it_has_to() {
    let setup = Setup::new(Options::default()).await;
    let device = setup.device().await;
    let form = [
        ("grant_type", DEVICE_GRANT_TYPE),
        ("client_id", DEFAULT_CLIENT),
        ("device_code", &device.text("device_code")),
    ];
    assert_eq!(setup.send(setup.form("/token", &form)).await.unwrap().error(), "invalid_client");
    setup.sandbox.adjust(|options| options.device_secret = DeviceSecret::Never);
    assert_eq!(setup.send(setup.form("/token", &form)).await.unwrap().error(), "authorization_pending");
    let made_up = [("grant_type", DEVICE_GRANT_TYPE), ("device_code", "dc_MARK_made-up")];
    assert_eq!(setup.post("/token", &made_up).await.error(), "invalid_grant");
    assert_eq!(setup.get("/device?user_code=BBBB-BBBB").await.status, 400);
}
