//! `iss` on the callback (RFC 9207): right, wrong and absent.

use crate::providers::stage::{ADA, Stage};
use crate::providers::{Case, GITHUB, GOOGLE, MICROSOFT, NOTION, SLACK};
use crate::support::Journey;
use crate::support::journey::{assert_says, param, with_param};

#[tokio::test]
async fn an_issuer_is_compared_where_the_provider_is_known_to_send_it() {
    for (case, compares) in [(GITHUB, true), (GOOGLE, true), (MICROSOFT, false), (SLACK, false), (NOTION, false)] {
        let world = case.world().await;
        let right = world.sandbox.issuer().to_owned();
        for (iss, matters) in [(Some(right.as_str()), false), (None, false), (Some("https://issuer.example"), compares)]
        {
            let journey = Journey::begin(&world).await;
            let callback = with_param(&journey.callback(ADA).await, "iss", iss);
            let page = journey.browser.open(&callback).await.unwrap();
            let name = format!("{} {iss:?}: {}", case.name, page.body);
            let expected = if matters { "identity_failed" } else { "awaiting_confirmation" };
            assert_eq!(journey.status(&world).await, expected, "{name}");
            if matters {
                assert_eq!(world.token_requests(), 2, "the code is not sent to anybody: {name}");
            }
        }
    }
}

#[tokio::test]
async fn github_sends_its_issuer_and_a_wrong_one_stops_everything() {
    let world = GITHUB.world().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback(ADA).await;
    assert_eq!(param(&callback, "iss"), format!("{}login/oauth", world.sandbox.url()));
    assert_says(&journey.browser.open(&callback).await.unwrap(), &["ada"]);

    world.sandbox.adjust(|options| options.quirks.callback_iss_says = Some("https://github.example".to_owned()));
    let other = Journey::begin(&world).await;
    other.come_back(ADA).await;
    assert_eq!(other.status(&world).await, "identity_failed");
}

#[tokio::test]
async fn a_person_who_says_no_is_believed_by_every_provider() {
    for case in crate::providers::PROVIDERS {
        let Case { name, .. } = case;
        let world = case.world().await;
        let journey = Journey::begin(&world).await;
        let consent = journey.consent().await;
        journey.browser.press(&consent, "deny", &[]).await.unwrap();
        assert_eq!(journey.status(&world).await, "denied", "{name}");
        world.assert_nothing_kept(name).await;
        world.never_twice();
    }
}
