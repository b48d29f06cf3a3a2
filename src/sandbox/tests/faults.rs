//! Each fault as a client sees it, and what it leaves behind.

use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};

use crate::sandbox::tests::{Setup, consenting};
use crate::sandbox::{BodyKind, Endpoint, Fault, Kind, Secret, What, When};

const ONCE: When = When::Next(1);

async fn refreshing() -> (Setup, String) {
    let setup = Setup::new(consenting()).await;
    let token = setup.tokens().await.text("refresh_token");
    (setup, token)
}

#[tokio::test]
async fn an_answer_instead_of_processing_leaves_the_token_good() {
    let (setup, mut token) = refreshing().await;
    let retry = |code, value: &str| What::RetryAfter { code, value: value.to_owned() };
    for (what, status, kind, body) in [
        (What::Status { code: 503, body: BodyKind::Html }, 503, "text/html; charset=utf-8", "<h1>"),
        (What::Status { code: 500, body: BodyKind::Empty }, 500, "text/plain; charset=utf-8", ""),
        (What::Status { code: 204, body: BodyKind::Empty }, 204, "text/plain; charset=utf-8", ""),
        (What::Status { code: 502, body: BodyKind::Text }, 502, "text/plain; charset=utf-8", "scripted"),
        (What::Status { code: 403, body: BodyKind::Json }, 403, "application/json", "message"),
        (What::OAuthError("invalid_client".to_owned()), 401, "application/json", "\"invalid_client\""),
        (What::Garbage, 200, "application/json", "{\"access_to"),
        (What::Html, 200, "text/html; charset=utf-8", "<!doctype html>"),
        (retry(429, "120"), 429, "application/json", "message"),
    ] {
        setup.sandbox.script(Fault::of_refresh(ONCE, what.clone()));
        let reply = setup.refresh(&token).await;
        assert_eq!((reply.status, reply.headers[CONTENT_TYPE].to_str().unwrap()), (status, kind), "{what:?}");
        assert!(reply.body.contains(body), "{what:?}: {}", reply.body);
        token = setup.refresh(&token).await.text("refresh_token");
    }
    let ledger = setup.sandbox.ledger();
    assert_eq!(ledger.count(Kind::Refused, Secret::Refresh, "scripted"), 9);
    assert_eq!(ledger.count(Kind::Refused, Secret::Refresh, "invalid_grant"), 0);
    assert!(ledger.double_presentations().is_empty());
}

#[tokio::test]
async fn retry_after_says_whatever_it_is_told() {
    let (setup, token) = refreshing().await;
    for value in ["0", "-5", "soon", "1000000000000", "Fri, 31 Dec 1999 23:59:59 GMT"] {
        let what = What::RetryAfter { code: 503, value: value.to_owned() };
        setup.sandbox.script(Fault::of_refresh(ONCE, what));
        assert_eq!(setup.refresh(&token).await.headers[RETRY_AFTER], value);
    }
}

#[tokio::test]
async fn a_drop_before_processing_loses_nothing() {
    let (setup, token) = refreshing().await;
    setup.sandbox.script(Fault::of_refresh(ONCE, What::DropBeforeProcessing));
    assert!(setup.try_refresh(&token).await.is_err());
    assert_eq!(setup.refresh(&token).await.status, 200);
    let ledger = setup.sandbox.ledger();
    assert_eq!(ledger.count(Kind::Dropped, Secret::Refresh, "scripted"), 1);
    assert!(ledger.double_presentations().is_empty(), "an honest second try");
}

#[tokio::test]
async fn a_drop_after_processing_loses_the_rotated_token() {
    let (setup, token) = refreshing().await;
    setup.sandbox.script(Fault::of_refresh(ONCE, What::DropAfterProcessing));
    let broken = setup.try_refresh(&token).await.err().expect("the connection breaks");
    assert!(broken.is_request(), "{broken:?}");
    let ledger = setup.sandbox.ledger();
    assert_eq!(ledger.refreshed(), 1, "it was processed");
    assert_eq!(ledger.of(Kind::Dropped, Secret::Refresh).count(), 1);
    assert_eq!(setup.refresh(&token).await.error(), "invalid_grant");
    let ledger = setup.sandbox.ledger();
    assert!(ledger.double_presentations().is_empty(), "the client could not know");
}

#[tokio::test]
async fn a_truncated_answer_announces_more_than_it_brings() {
    for bytes in [0, 10, 1_000_000] {
        let (setup, token) = refreshing().await;
        setup.sandbox.script(Fault::of_refresh(ONCE, What::Truncate(bytes)));
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
        let request = setup
            .form("/token", &form)
            .basic_auth(crate::sandbox::DEFAULT_CLIENT, Some(crate::sandbox::DEFAULT_SECRET));
        let mut response = request.send().await.unwrap();
        let announced: usize = response.headers()[CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
        let mut received = Vec::new();
        let error = loop {
            match response.chunk().await {
                Ok(Some(piece)) => received.extend(piece),
                Ok(None) => panic!("the body ended well after {} of {announced} bytes", received.len()),
                Err(error) => break error,
            }
        };
        assert_eq!(received.len(), bytes.min(announced - 1), "{error}");
        let dropped = || setup.sandbox.ledger().of(Kind::Dropped, Secret::Refresh).count() == 1;
        assert!(setup.settled(dropped).await);
        assert_eq!(setup.sandbox.ledger().refreshed(), 1);
    }
}

#[tokio::test]
async fn a_delay_delays_and_then_answers() {
    let (setup, token) = refreshing().await;
    let fault = Fault::of_refresh(ONCE, What::Delay(Duration::from_millis(150)));
    setup.sandbox.script(fault);
    let begun = Instant::now();
    assert_eq!(setup.refresh(&token).await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_request_is_processed_although_the_client_hung_up() {
    let (setup, token) = refreshing().await;
    setup.sandbox.script(Fault::of_refresh(ONCE, What::Delay(Duration::from_millis(200))));
    let hung_up = tokio::time::timeout(Duration::from_millis(50), setup.try_refresh(&token)).await;
    assert!(hung_up.is_err());
    assert!(setup.settled(|| setup.sandbox.ledger().refreshed() == 1).await);
    let dropped = || setup.sandbox.ledger().of(Kind::Dropped, Secret::Refresh).count() == 1;
    assert!(setup.settled(dropped).await, "nobody took the answer");
}

#[tokio::test]
async fn presentations_that_overlap_are_double() {
    let (setup, token) = refreshing().await;
    setup.sandbox.script(Fault::of_refresh(When::Next(2), What::Delay(Duration::from_millis(100))));
    let (one, other) = tokio::join!(setup.refresh(&token), setup.refresh(&token));
    assert_eq!([one.status, other.status].iter().filter(|status| **status == 200).count(), 1);
    let ledger = setup.sandbox.ledger();
    assert_eq!(ledger.refreshes().map(|entry| entry.concurrently_in_flight).max(), Some(2));
    assert!(ledger.double_presentations()[0].concurrent);
}

#[tokio::test]
async fn a_slow_answer_arrives_whole() {
    let (setup, token) = refreshing().await;
    setup.sandbox.script(Fault::of_refresh(ONCE, What::Slow(1000)));
    let begun = Instant::now();
    let reply = setup.refresh(&token).await;
    assert!(reply.text("refresh_token").starts_with("rt_MARK_"));
    let expected = Duration::from_millis(reply.body.len() as u64 - 60);
    assert!(begun.elapsed() >= expected, "{:?} for {} bytes", begun.elapsed(), reply.body.len());
}

#[tokio::test]
async fn a_huge_answer_does_not_say_how_huge() {
    let (setup, token) = refreshing().await;
    setup.sandbox.script(Fault::of_refresh(ONCE, What::Huge(3_000_001)));
    let reply = setup.refresh(&token).await;
    assert_eq!((reply.status, reply.body.len()), (200, 3_000_001));
    assert!(!reply.headers.contains_key(CONTENT_LENGTH));
    assert_eq!(setup.refresh(&token).await.status, 200, "nothing was processed");
}

#[tokio::test]
async fn every_endpoint_can_fail() {
    let setup = Setup::new(consenting()).await;
    for (endpoint, path) in [
        (Endpoint::Authorize, "/authorize"),
        (Endpoint::Userinfo, "/userinfo"),
        (Endpoint::Userinfo, "/api/me"),
        (Endpoint::Jwks, "/jwks.json"),
        (Endpoint::Revoke, "/revoke"),
        (Endpoint::Token, "/token"),
    ] {
        let what = What::Status { code: 599, body: BodyKind::Json };
        setup.sandbox.script(Fault::new(endpoint, ONCE, what));
        assert_eq!(setup.get(path).await.status, 599, "{path}");
        assert_ne!(setup.get(path).await.status, 599, "{path}");
    }
    setup.sandbox.script(Fault::new(Endpoint::Jwks, When::Always, What::Html));
    setup.sandbox.clear_faults();
    assert!(setup.get("/jwks.json").await.json()["keys"].is_array());
}
