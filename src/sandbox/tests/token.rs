//! Codes and clients at the token endpoint.

use std::time::Duration;

use http::header::CACHE_CONTROL;

use crate::model::secret::ClientSecret;
use crate::sandbox::tests::{CALLBACK, Setup, VERIFIER, consenting};
use crate::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET, Kind, Options, SandboxClient, Secret};

#[tokio::test]
async fn a_code_and_its_verifier_bring_tokens_that_work() {
    let setup = Setup::new(consenting()).await;
    let code = setup.code().await;
    assert!(code.starts_with("code_MARK_"));
    let reply = setup.redeem(&code).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers[CACHE_CONTROL], "no-store");
    let body = reply.json();
    assert_eq!((&body["expires_in"], &body["scope"]), (&3600.into(), &"openid read write".into()));
    assert!(reply.text("access_token").starts_with("at_MARK_"));
    assert!(reply.text("refresh_token").starts_with("rt_MARK_"));
    assert_eq!(setup.opens(&reply.text("access_token")).await, 200);
    assert_eq!(setup.opens("at_MARK_made-up").await, 401);
}

#[tokio::test]
async fn a_wrong_verifier_or_redirect_uri_brings_nothing_and_spends_the_code() {
    let setup = Setup::new(consenting()).await;
    let wrong = VERIFIER.replace('a', "b");
    for (redirect_uri, verifier) in
        [(CALLBACK, wrong.as_str()), (CALLBACK, ""), ("http://localhost:8717/callback/", VERIFIER), ("", VERIFIER)]
    {
        let code = setup.code().await;
        let reply = setup.redeem_with(&code, redirect_uri, verifier).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, "invalid_grant"), "{redirect_uri} {verifier}");
        assert_eq!(setup.redeem(&code).await.error(), "invalid_grant", "a code is tried once");
    }
    assert_eq!(setup.sandbox.grants().len(), 0);
}

#[tokio::test]
async fn a_code_used_twice_ends_what_it_brought() {
    let setup = Setup::new(consenting()).await;
    let code = setup.code().await;
    let access = setup.redeem(&code).await.text("access_token");
    assert_eq!(setup.opens(&access).await, 200);
    assert_eq!(setup.redeem(&code).await.error(), "invalid_grant");
    assert_eq!(setup.opens(&access).await, 401);
    assert_eq!(setup.sandbox.grants()[0].ended, Some("code_reuse"));
}

#[tokio::test]
async fn a_code_lives_for_a_minute() {
    let setup = Setup::new(consenting()).await;
    for (age, status) in [(59, 200), (60, 400)] {
        let code = setup.code().await;
        setup.clock.advance(Duration::from_secs(age));
        assert_eq!(setup.redeem(&code).await.status, status, "after {age} s");
    }
}

#[tokio::test]
async fn without_a_challenge_a_verifier_is_refused() {
    let options = Options { pkce_required: false, ..consenting() };
    let setup = Setup::new(options).await;
    for (verifier, status) in [(VERIFIER, 400), ("", 200)] {
        let back = setup.callback(&[("code_challenge", ""), ("code_challenge_method", "")]).await;
        assert_eq!(setup.redeem_with(&back["code"], CALLBACK, verifier).await.status, status);
    }
}

#[tokio::test]
async fn clients_prove_themselves_in_one_way_at_a_time() {
    let options = Options {
        clients: vec![
            SandboxClient::confidential("a:b", ClientSecret::new("p% q").unwrap()),
            SandboxClient::public("pub"),
        ],
        ..consenting()
    };
    let setup = Setup::new(options).await;
    let basic = Some(("a%3Ab", "p%25+q"));
    for (client, header, body, expected) in [
        ("a:b", basic, vec![], Ok(())),
        ("a:b", None, vec![("client_id", "a:b"), ("client_secret", "p% q")], Ok(())),
        ("pub", None, vec![("client_id", "pub")], Ok(())),
        ("a:b", basic, vec![("client_id", "a:b"), ("client_secret", "p% q")], Err("invalid_request")),
        ("a:b", Some(("a%3Ab", "wrong")), vec![], Err("invalid_client")),
        ("a:b", None, vec![("client_id", "a:b"), ("client_secret", "wrong")], Err("invalid_client")),
        ("a:b", None, vec![("client_id", "a:b")], Err("invalid_client")),
        ("pub", None, vec![("client_id", "pub"), ("client_secret", "x")], Err("invalid_client")),
        ("pub", None, vec![], Err("invalid_client")),
        ("a:b", None, vec![("client_id", "pub")], Err("invalid_grant")),
    ] {
        let code = setup.callback(&[("client_id", client)]).await.remove("code").unwrap();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        form.extend(body.iter().copied());
        let mut request = setup.form("/token", &form);
        if let Some((id, secret)) = header {
            request = request.basic_auth(id, Some(secret));
        }
        let reply = setup.send(request).await.unwrap();
        let found = if reply.status == 200 { Ok(()) } else { Err(reply.error()) };
        assert_eq!(found, expected.map_err(str::to_owned), "{client} {header:?} {body:?}");
        assert_eq!(reply.status == 401, expected == Err("invalid_client"), "{client} {header:?} {body:?}");
    }
}

#[tokio::test]
async fn malformed_token_requests_are_told_what_is_wrong() {
    let setup = Setup::new(consenting()).await;
    for (form, error) in [
        (vec![], "invalid_request"),
        (vec![("grant_type", "password"), ("username", "a")], "unsupported_grant_type"),
        (vec![("grant_type", "authorization_code")], "invalid_request"),
        (vec![("grant_type", "refresh_token"), ("refresh_token", "rt_MARK_x")], "invalid_grant"),
        (vec![("grant_type", "refresh_token"), ("grant_type", "refresh_token")], "invalid_request"),
    ] {
        assert_eq!(setup.post("/token", &form).await.error(), error, "{form:?}");
    }
    assert_eq!(setup.get("/token").await.status, 405);
    let json = setup.http.post(setup.at("/token")).basic_auth(DEFAULT_CLIENT, Some(DEFAULT_SECRET)).body("{}");
    assert_eq!(setup.send(json).await.unwrap().error(), "invalid_request");
}

#[tokio::test]
async fn the_ledger_follows_a_code_to_its_tokens() {
    let setup = Setup::new(consenting()).await;
    let code = setup.code().await;
    setup.redeem(&code).await;
    setup.redeem(&code).await;
    let delivered = || setup.sandbox.ledger().of(Kind::Delivered, Secret::Refresh).count() == 1;
    assert!(setup.settled(delivered).await);
    let ledger = setup.sandbox.ledger();
    let count = |kind, what| ledger.of(kind, what).count();
    assert_eq!(count(Kind::Issued, Secret::Code), 1);
    assert_eq!(count(Kind::Delivered, Secret::Code), 1);
    assert_eq!(count(Kind::Presented, Secret::Code), 2);
    assert_eq!(ledger.count(Kind::Refused, Secret::Code, "invalid_grant"), 1);
    assert_eq!(count(Kind::Issued, Secret::Access), 1);
    assert_eq!(count(Kind::Dropped, Secret::Access), 0);
    let named = |entry: &crate::sandbox::Entry| entry.client.as_deref() == Some(DEFAULT_CLIENT);
    assert!(ledger.entries().iter().all(named), "every line names the client");
    assert!(!serde_json::to_string(ledger.entries()).unwrap().contains("_MARK_"), "no secret stands in the ledger");
}

#[tokio::test]
async fn revoking_a_refresh_token_ends_the_grant() {
    let setup = Setup::new(consenting()).await;
    let tokens = setup.tokens().await;
    let (access, refresh) = (tokens.text("access_token"), tokens.text("refresh_token"));
    assert_eq!(setup.post("/revoke", &[("token", "unknown")]).await.status, 200);
    assert_eq!(setup.opens(&access).await, 200);
    assert_eq!(setup.post("/revoke", &[("token", &refresh)]).await.status, 200);
    assert_eq!(setup.opens(&access).await, 401);
    assert_eq!(setup.refresh(&refresh).await.error(), "invalid_grant");
}

#[tokio::test]
async fn revoking_an_access_token_leaves_the_grant() {
    let setup = Setup::new(consenting()).await;
    let tokens = setup.tokens().await;
    let access = tokens.text("access_token");
    assert_eq!(setup.post("/revoke", &[("token", &access)]).await.status, 200);
    assert_eq!(setup.opens(&access).await, 401);
    assert_eq!(setup.refresh(&tokens.text("refresh_token")).await.status, 200);
}
