//! The control API, the page at `/`, and the end.

use std::time::Duration;

use http::header::{HOST, ORIGIN};
use serde_json::json;

use crate::sandbox::tests::{Reply, Setup, consenting};
use crate::sandbox::{Options, OptionsPatch, Rotation, Sandbox};

impl Setup {
    async fn control(&self, method: http::Method, path: &str, body: &str) -> Reply {
        let request = self.http.request(method, self.at(path)).header("X-Sandbox", "1").body(body.to_owned());
        self.send(request).await.unwrap()
    }
}

#[tokio::test]
async fn other_web_pages_cannot_steer_it() {
    let setup = Setup::new(consenting()).await;
    let ledger = || setup.http.get(setup.at("/_sandbox/ledger"));
    let with = ledger().header("X-Sandbox", "1");
    for (request, status) in [
        (ledger(), 403),
        (with.try_clone().unwrap(), 200),
        (with.try_clone().unwrap().header(ORIGIN, "https://evil.example"), 403),
        (with.header(HOST, "rebound.example"), 421),
        (setup.http.get(setup.at("/")).header(HOST, "rebound.example"), 421),
    ] {
        assert_eq!(setup.send(request).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn faults_and_switches_are_set_over_http() {
    let setup = Setup::new(consenting()).await;
    let fault = json!({"at": "jwks", "when": "always", "what": {"status": {"code": 503, "body": "empty"}}}).to_string();
    assert_eq!(setup.control(http::Method::POST, "/_sandbox/faults", &fault).await.status, 200);
    assert_eq!(setup.get("/jwks.json").await.status, 503);
    assert_eq!(setup.control(http::Method::DELETE, "/_sandbox/faults", "").await.status, 200);
    assert_eq!(setup.get("/jwks.json").await.status, 200);
    let patch = json!({"access_ttl_seconds": 7, "rotation": "static"}).to_string();
    assert_eq!(setup.control(http::Method::POST, "/_sandbox/options", &patch).await.status, 200);
    let tokens = setup.tokens().await;
    assert_eq!(tokens.json()["expires_in"], 7);
    assert!(setup.refresh(&tokens.text("refresh_token")).await.json().get("refresh_token").is_none());
    let unknown = setup.control(http::Method::POST, "/_sandbox/options", r#"{"acces_ttl":7}"#).await;
    assert_eq!(unknown.status, 400);
    assert!(unknown.error().contains("acces_ttl"), "{}", unknown.body);
}

#[test]
fn every_rotation_reads_as_json() {
    let single_use = Rotation::SingleUse { kills_family: true, grace: Duration::from_millis(1500) };
    for (json, expected) in [
        (json!("static"), Rotation::Static),
        (json!("multi_valid"), Rotation::MultiValid),
        (json!({"single_use": {"kills_family": true, "grace_ms": 1500}}), single_use),
    ] {
        let patch: OptionsPatch = serde_json::from_value(json!({"rotation": json})).unwrap();
        assert_eq!(patch.rotation, Some(expected), "{json}");
    }
}

#[tokio::test]
async fn the_ledger_is_read_over_http_without_secrets() {
    let setup = Setup::new(consenting()).await;
    let tokens = setup.tokens().await;
    setup.refresh(&tokens.text("refresh_token")).await;
    setup.refresh(&tokens.text("refresh_token")).await;
    let reply = setup.control(http::Method::GET, "/_sandbox/ledger", "").await;
    assert!(!reply.body.contains("_MARK_"));
    let ledger = reply.json();
    assert_eq!((&ledger["refreshes"], &ledger["refreshed"]), (&2.into(), &1.into()));
    assert_eq!(ledger["refusals"]["invalid_grant"], 1);
    assert_eq!(ledger["grants"][0]["ended"], "reuse");
    let length = ledger["length"].as_u64().unwrap();
    let rest = setup.control(http::Method::GET, &format!("/_sandbox/ledger?after={}", length - 1), "").await.json();
    assert_ne!(rest["entries"].as_array().unwrap().len() as u64, length);
}

#[tokio::test]
async fn a_person_is_revoked_over_http() {
    let setup = Setup::new(consenting()).await;
    let access = setup.tokens().await.text("access_token");
    let reply = setup.control(http::Method::POST, "/_sandbox/revoke", r#"{"sub":"u-1001"}"#).await;
    assert_eq!(reply.json()["grants_ended"], 1);
    assert_eq!(setup.opens(&access).await, 401);
}

#[tokio::test]
async fn the_first_page_shows_what_is_here_and_no_secret() {
    let setup = Setup::new(consenting()).await;
    setup.tokens().await;
    let page = setup.get("/").await;
    for needed in ["/authorize", "grantd-sandbox", "refresh issued", "sandbox"] {
        assert!(page.body.contains(needed), "{needed} is missing");
    }
    assert!(!page.body.contains("_MARK_"));
    assert_eq!(setup.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn the_port_is_free_after_the_shutdown() {
    let setup = Setup::new(consenting()).await;
    setup.get("/").await;
    let port = setup.sandbox.url().port().unwrap();
    setup.sandbox.shutdown().await;
    let options = Options { addr: ([127, 0, 0, 1], port).into(), ..Options::default() };
    assert!(Sandbox::start(options).await.is_ok());
}
