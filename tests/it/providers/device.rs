//! The device flow at each provider that has one, with the definition that is compiled in: the code in its words, the errors with
//! its statuses, the secret where it wants it, and tokens that can be renewed.

use std::time::Duration;

use grantd::sandbox::browser::Browser;
use grantd::sandbox::{Endpoint, Fault, What, When};
use serde_json::json;

use crate::providers::stage::{GRACE, Stage};
use crate::providers::{Case, GITHUB, GOOGLE, MICROSOFT};
use crate::support::eventually;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

const CASES: [Case; 5] = [
    GITHUB,
    Case {
        name: "GitHub App",
        settings: ", variant: app",
        tweak: |options| options.quirks.scopes_fixed_by_app = true,
        ..GITHUB
    },
    Case { name: "GitHub without the secret", settings: ", variant: device", secret: false, ..GITHUB },
    Case { name: "Google limited input", settings: ", variant: limited-input", ..GOOGLE },
    Case { name: "Microsoft public client", settings: ", variant: public", secret: false, ..MICROSOFT },
];

#[tokio::test]
async fn a_code_brings_an_account_that_serves_and_is_renewed() {
    for case in CASES {
        let name = case.name;
        let world = case.world_with(|options| options.device_interval = Duration::from_secs(1), |text| text).await;
        // The provider breaks down once; then it is asked while nobody has decided.
        let (at, grant_type) = (Endpoint::Token, Some(GRANT_TYPE.to_owned()));
        world.sandbox.script(Fault { at, when: When::Next(1), grant_type, what: What::DropBeforeProcessing });
        let begun = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "device": true})).await;
        assert_eq!(begun.status, 200, "{name}: {begun:?}");
        let pending = || world.sandbox.ledger().entries().iter().any(|entry| entry.outcome == "authorization_pending");
        eventually(&format!("{name} says that it is pending"), || async { pending() }).await;

        let browser = Browser::new();
        let device = &begun.json["device"];
        let form = browser.open(&device["verification_uri"].as_str().unwrap().parse().unwrap()).await.unwrap();
        let code = device["user_code"].as_str().unwrap();
        let asked = browser.press(&form, form.url.path(), &[("user_code", code)]).await.unwrap();
        browser.press(&asked, "allow", &[("account", GRACE)]).await.unwrap();
        let path = format!("/v1/connect/{}", begun.text("connect_id"));
        let standing = || async { world.daemon.get(&path).await };
        eventually(&format!("the account came back at {name}"), || async {
            standing().await.text("status") == "awaiting_confirmation"
        })
        .await;
        assert_eq!(world.daemon.token(json!({})).await.status, 409, "{name}: nothing serves yet");
        let done = world.daemon.post(&format!("{path}/confirm"), json!({"proof": begun.json["proof"]})).await;
        assert_eq!(done.text("status"), "completed", "{name}: {done:?}");

        let first = world.living(json!({})).await;
        let renewed = world.rejects(&first).await;
        assert_eq!(renewed.status, 200, "{name}: {renewed:?}");
        assert_ne!(renewed.json["access_token"], first.json["access_token"], "{name}");
        assert!(world.sandbox.opens(renewed.text("access_token")), "{name}");
        world.never_twice();
    }
}

#[tokio::test]
async fn a_no_is_a_no_in_every_manner() {
    for case in CASES {
        let world = case.world_with(|options| options.device_interval = Duration::from_secs(1), |text| text).await;
        let begun = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "device": true})).await;
        let device = &begun.json["device"];
        let answer = [("user_code", device["user_code"].as_str().unwrap()), ("decision", "deny")];
        let page = device["verification_uri"].as_str().unwrap().parse().unwrap();
        assert_eq!(Browser::new().post(&page, &answer).await.unwrap().status, 200);
        let path = format!("/v1/connect/{}", begun.text("connect_id"));
        let standing = || async { world.daemon.get(&path).await };
        eventually(&format!("{} says no", case.name), || async { standing().await.text("status") == "denied" }).await;
    }
}
