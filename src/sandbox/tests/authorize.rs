//! The authorization endpoint and the consent page.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::CONTENT_SECURITY_POLICY;

use crate::sandbox::tests::{CALLBACK, Reply, Setup, answer_of, consenting};
use crate::sandbox::{Decision, Options, Sandbox, SandboxClient, StartError, UnknownScopes};

#[tokio::test]
async fn nothing_but_loopback_is_listened_on() {
    for addr in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let options = Options { addr: addr.parse::<SocketAddr>().unwrap(), ..Options::default() };
        assert!(matches!(Sandbox::start(options).await, Err(StartError::NotLoopback(_))), "{addr}");
    }
}

#[tokio::test]
async fn the_callback_carries_code_state_and_issuer() {
    let setup = Setup::new(consenting()).await;
    let back = setup.callback(&[]).await;
    assert!(back["code"].starts_with("code_MARK_"));
    assert_eq!((back["state"].as_str(), back["iss"].as_str()), ("s t&te", setup.sandbox.issuer()));
    setup.sandbox.adjust(|options| options.iss_on_callback = false);
    assert!(!setup.callback(&[]).await.contains_key("iss"));
}

#[tokio::test]
async fn a_stranger_is_never_redirected_to() {
    let registered =
        SandboxClient { redirect_uris: Some(vec![CALLBACK.to_owned()]), ..SandboxClient::public("strict") };
    let options = Options { clients: vec![registered, SandboxClient::public("loose")], ..consenting() };
    let setup = Setup::new(options).await;
    for (client, uri, status) in [
        ("strict", CALLBACK, 303),
        ("strict", "", 303),
        ("strict", "http://localhost:8717/callback/", 400),
        ("strict", "http://localhost:9999/callback", 400),
        ("loose", CALLBACK, 303),
        ("loose", "", 400),
        ("loose", "https://evil.example/cb", 400),
        ("nobody", CALLBACK, 400),
        ("", CALLBACK, 400),
    ] {
        let reply = setup.authorize(&[("client_id", client), ("redirect_uri", uri)]).await;
        assert_eq!(reply.status, status, "{client} {uri}");
        assert_eq!(reply.headers.contains_key("location"), status == 303, "{client} {uri}");
    }
}

#[tokio::test]
async fn what_else_is_wrong_is_told_to_the_client() {
    let setup = Setup::new(consenting()).await;
    for (changes, error) in [
        (vec![("response_type", "token")], "unsupported_response_type"),
        (vec![("response_type", "")], "invalid_request"),
        (vec![("response_mode", "fragment")], "invalid_request"),
        (vec![("code_challenge", ""), ("code_challenge_method", "")], "invalid_request"),
        (vec![("code_challenge_method", "plain")], "invalid_request"),
        (vec![("code_challenge_method", "")], "invalid_request"),
        (vec![("code_challenge", "short")], "invalid_request"),
        (vec![("request", "x.y.z")], "request_not_supported"),
        (vec![("request_uri", "urn:x")], "request_uri_not_supported"),
        (vec![("prompt", "none login")], "invalid_request"),
    ] {
        let back = setup.callback(&changes).await;
        assert_eq!((back["error"].as_str(), back["state"].as_str()), (error, "s t&te"), "{changes:?}");
    }
}

#[tokio::test]
async fn unknown_scopes_are_left_out_or_refused() {
    let options = Options { scopes_supported: Some(vec!["read".to_owned()]), ..consenting() };
    let setup = Setup::new(options).await;
    assert_eq!(setup.tokens().await.text("scope"), "read");
    setup.sandbox.adjust(|options| options.unknown_scopes = UnknownScopes::Refuse);
    assert_eq!(setup.callback(&[]).await["error"], "invalid_scope");
}

#[tokio::test]
async fn a_person_chooses_account_and_scopes_on_the_page() {
    let setup = Setup::new(Options::default()).await;
    let page = setup.authorize(&[("login_hint", "grace@sandbox.example")]).await;
    assert_eq!(page.status, 200);
    assert!(page.headers[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors 'none'"));
    assert!(page.body.contains("value=\"u-1002\" checked"), "the hint chooses");
    let id = page_id(&page);
    let answer =
        [("page", id.as_str()), ("decision", "allow"), ("account", "u-1002"), ("scope", "read"), ("scope", "admin")];
    let back = setup.send(setup.form("/consent", &answer)).await.unwrap();
    let tokens = setup.redeem(&answer_of(&back)["code"]).await;
    assert_eq!(tokens.text("scope"), "read", "what was not asked for cannot be ticked");
    assert_eq!(&*setup.sandbox.grants()[0].sub, "u-1002");
    let again = setup.send(setup.form("/consent", &answer)).await.unwrap();
    assert_eq!(again.status, 400, "a page is answered once");
}

#[tokio::test]
async fn no_and_nothing_ticked_mean_no() {
    let setup = Setup::new(Options::default()).await;
    for answer in [
        vec![("decision", "deny"), ("account", "u-1001"), ("scope", "read")],
        vec![("decision", "allow"), ("account", "u-1001")],
        vec![("decision", "allow"), ("account", "nobody"), ("scope", "read")],
    ] {
        let id = page_id(&setup.authorize(&[]).await);
        let mut form = vec![("page", id.as_str())];
        form.extend(answer.iter().copied());
        let back = setup.send(setup.form("/consent", &form)).await.unwrap();
        assert_eq!(answer_of(&back)["error"], "access_denied", "{answer:?}");
    }
    setup.sandbox.adjust(|options| options.auto_consent = Some(Decision::Deny));
    assert_eq!(setup.callback(&[]).await["error"], "access_denied");
}

#[tokio::test]
async fn a_page_left_open_for_too_long_is_stale() {
    let setup = Setup::new(Options::default()).await;
    let id = page_id(&setup.authorize(&[]).await);
    setup.clock.advance(Duration::from_secs(600));
    let form = [("page", id.as_str()), ("decision", "deny")];
    assert_eq!(setup.send(setup.form("/consent", &form)).await.unwrap().status, 400);
}

#[tokio::test]
async fn prompt_none_needs_an_earlier_yes() {
    let setup = Setup::new(Options::default()).await;
    let hint = ("login_hint", "u-1002");
    assert_eq!(setup.callback(&[("prompt", "none")]).await["error"], "login_required");
    assert_eq!(setup.callback(&[("prompt", "none"), hint]).await["error"], "consent_required");
    let client = crate::sandbox::DEFAULT_CLIENT;
    let _given = setup.sandbox.give(client, "u-1002", &["openid", "read", "write"]).unwrap();
    assert!(setup.callback(&[("prompt", "none"), hint]).await.contains_key("code"));
    let more = setup.callback(&[("prompt", "none"), hint, ("scope", "read admin")]).await;
    assert_eq!(more["error"], "consent_required");
}

fn page_id(page: &Reply) -> String {
    let (_, rest) = page.body.split_once("name=\"page\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}
