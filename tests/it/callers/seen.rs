//! What a configured caller sees and does besides tokens, and what an administrator is told of it.

use serde_json::json;

use crate::callers::{ALICE, CALLERS, NARROW, READER, STRANGER, Site, without_id};
use crate::support::person::is_root;

const UNKNOWN_CONNECTION: &str = "cx_AAAAAAAAAAAAAAAAAAAAAA";
const UNKNOWN_SESSION: &str = "cn_AAAAAAAAAAAAAAAAAAAAAA";

#[tokio::test]
async fn a_caller_sees_its_own_and_changes_nothing() {
    if !is_root("what a caller of another user sees") {
        return;
    }
    let site = Site::new(CALLERS).await;
    let (its, not_its) = (site.connection("u-1001").await, site.connection("u-1002").await);
    let listed = site.ask(READER, "GET", "/v1/connections", None).await;
    let ids: Vec<_> = listed.json["connections"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(ids, [json!(its)]);
    let providers = site.ask(READER, "GET", "/v1/providers", None).await;
    let ids: Vec<_> = providers.json["providers"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(ids, ["sandbox"]);
    assert_eq!(site.ask(READER, "GET", "/v1/connections?all=true", None).await.status, 403);
    assert_eq!(site.ask(READER, "GET", "/metrics", None).await.status, 404);
    assert_eq!(site.ask(STRANGER, "GET", "/metrics", None).await.status, 200);

    let naming = || Some(json!({"label": "mine"}));
    for (method, body, status) in [("GET", None, 200), ("DELETE", None, 403), ("PATCH", naming(), 403)] {
        let path = |id: &str| format!("/v1/connections/{id}");
        let allowed = site.ask(READER, method, &path(&its), body.clone()).await;
        assert_eq!(allowed.status, status, "{method}: {allowed:?}");
        let absent = site.ask(READER, method, &path(&not_its), body.clone()).await;
        let missing = site.ask(READER, method, &path(UNKNOWN_CONNECTION), body).await;
        assert_eq!((absent.status, without_id(&absent)), (404, without_id(&missing)), "{method}");
    }
    assert_eq!(site.token(READER, json!({})).await.status, 200, "everything is as it was");
}

#[tokio::test]
async fn a_caller_may_have_its_person_asked_and_is_not_that_person() {
    if !is_root("the sessions of callers of other users") {
        return;
    }
    let site = Site::new(CALLERS).await;
    let connect = async |who, more: serde_json::Value| {
        let mut body = json!({"provider": "sandbox"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        site.ask(who, "POST", "/v1/connect", Some(body)).await
    };
    let made = connect(NARROW, json!({})).await;
    assert_eq!((made.status, &made.json["scopes"]), (200, &json!(["openid"])), "no more than it may have: {made:?}");
    let denied = connect(NARROW, json!({"scopes": ["email"]})).await;
    assert_eq!((denied.status, denied.text("error")), (403, "scope_denied"));
    for person in [json!({"open": true}), json!({"device": true})] {
        let refused = connect(NARROW, person).await;
        assert_eq!((refused.status, refused.text("error")), (403, "access_denied"));
    }
    let absent = connect(READER, json!({"provider": "other"})).await;
    let missing = connect(READER, json!({"provider": "nowhere"})).await;
    assert_eq!((absent.status, without_id(&absent)), (404, without_id(&missing)));
    let absent = connect(READER, json!({"reconnect": site.connection("u-1002").await})).await;
    let missing = connect(READER, json!({"reconnect": UNKNOWN_CONNECTION})).await;
    assert_eq!((absent.status, without_id(&absent)), (404, without_id(&missing)));

    let path = |id: &str| format!("/v1/connect/{id}");
    let its = path(made.text("connect_id"));
    assert_eq!(site.ask(NARROW, "GET", &its, None).await.status, 200);
    assert_eq!(site.ask(ALICE, "GET", &its, None).await.status, 200, "she sees what asks in her name");
    let hers = connect(ALICE, json!({})).await;
    for (who, id) in [(READER, made.text("connect_id")), (NARROW, hers.text("connect_id"))] {
        let absent = site.ask(who, "GET", &path(id), None).await;
        let missing = site.ask(who, "GET", &path(UNKNOWN_SESSION), None).await;
        assert_eq!((absent.status, without_id(&absent)), (404, without_id(&missing)));
    }
    for step in ["start", "decline"] {
        let refused = site.ask(NARROW, "POST", &format!("{its}/{step}"), Some(json!({}))).await;
        assert_eq!(refused.status, 404, "{step}: {refused:?}");
    }
    assert_eq!(site.ask(NARROW, "GET", &its, None).await.text("status"), "pending");
    assert_eq!(site.ask(NARROW, "DELETE", &its, None).await.status, 200, "what it asked it may take back");
}

#[tokio::test]
async fn a_caller_is_told_who_it_is_and_an_administrator_why() {
    if !is_root("what callers of other users are told") {
        return;
    }
    let site = Site::new(CALLERS).await;
    let me = site.ask(READER, "GET", "/v1/whoami", None).await;
    assert_eq!((me.text("caller"), &me.json["admin"]), ("reader", &json!(false)));
    assert_eq!(me.json["subject"]["user"], "uid:41001");
    assert_eq!(
        me.json["allow"],
        json!([{
            "rule": "callers.reader.allow[0]", "provider": "sandbox", "accounts": ["u-1001"],
            "slots": {"main": ["email", "openid", "profile"]}, "allow_broader": false,
        }])
    );
    let me = site.ask(STRANGER, "GET", "/v1/whoami", None).await;
    assert_eq!((me.text("caller"), me.json.get("allow")), ("uid:43000", None));

    let path = "/v1/explain?caller=reader&provider=sandbox";
    for who in [READER, ALICE] {
        assert_eq!(site.ask(who, "GET", path, None).await.status, 403, "{who:?}");
    }
    let before = site.world.token_requests();
    let explain = |words: &str| {
        let words: Vec<_> = ["explain", "--json"].into_iter().chain(words.split_whitespace()).collect();
        let told = site.world.daemon.run(&words);
        let json: serde_json::Value = serde_json::from_str(&told.out).unwrap_or_else(|_| panic!("{told:?}"));
        assert!(!told.out.contains("_MARK_"));
        (told.code, json["rule"].clone(), json["error"].clone(), json["rules"][0]["says"].clone())
    };
    let said = |code, rule: &str, error: Option<&str>, says: &str| (code, json!(rule), json!(error), json!(says));
    for (words, expected) in [
        ("--caller reader --provider sandbox", said(0, "callers.reader.allow[0]", None, "allows")),
        (
            "--caller reader --provider sandbox --scope files",
            said(4, "callers.reader.allow[0]", Some("scope_denied"), "above_ceiling"),
        ),
        (
            "--caller reader --provider sandbox --account work",
            said(4, "default deny", Some("unknown_account"), "other_account"),
        ),
        ("--caller reader --provider other", said(4, "default deny", Some("unknown_provider"), "other_provider")),
        (
            "--caller narrow --provider sandbox",
            said(4, "callers.narrow.allow[0]", Some("scope_denied"), "grant_broader"),
        ),
        ("--caller broad --provider sandbox", said(0, "callers.broad.allow[0]", None, "allows")),
        ("--caller label --provider sandbox", said(0, "callers.label.allow[0]", None, "allows")),
    ] {
        assert_eq!(explain(words), expected, "{words}");
    }
    let alice = site.world.daemon.run(&["explain", "--caller", "uid:41001", "--provider", "sandbox"]);
    assert!(alice.code == 0 && alice.out.ends_with("Allowed by own.\n"), "{alice:?}");
    let told = site.world.daemon.run(&["explain", "--caller", "nobody-else", "--provider", "sandbox"]);
    assert!(told.code != 0 && told.out.is_empty(), "{told:?}");
    assert_eq!(site.world.token_requests(), before, "nothing was asked of the provider for it");
}
