//! Every caller asks for everything, and an oracle that knows nothing of the policy says what comes of it.

use serde_json::{Value, json};

use crate::callers::{ALICE, BROAD, CALLERS, GROUP, LABEL, NARROW, NOTHING, OTHER, READER, STRANGER, Site, without_id};
use crate::support::Person;
use crate::support::person::is_root;

/// What a caller may have, in the words of this test.
struct Facts {
    who: Person,
    name: &'static str,
    /// Whether it acts for Alice.
    for_alice: bool,
    providers: &'static [&'static str],
    accounts: &'static [&'static str],
    /// The scopes that it may have; `None` for any.
    up_to: Option<&'static [&'static str]>,
    broader: bool,
}

const BOTH: &[&str] = &["u-1001", "u-1002"];
const HERS: &[&str] = &["sandbox", "other"];

const FACTS: [Facts; 9] = [
    facts(ALICE, "alice", true, HERS, BOTH, None, false),
    facts(READER, "reader", true, &["sandbox"], &["u-1001"], Some(&["openid", "profile", "email"]), false),
    facts(NARROW, "narrow", true, &["sandbox"], BOTH, Some(&["openid"]), false),
    facts(BROAD, "broad", true, &["sandbox"], BOTH, Some(&["openid"]), true),
    facts(LABEL, "label", true, &["sandbox"], &["u-1002"], None, false),
    facts(NOTHING, "nothing", true, &[], &[], None, false),
    facts(GROUP, "group", false, HERS, BOTH, None, false),
    facts(OTHER, "other", true, &["other"], BOTH, None, false),
    facts(STRANGER, "stranger", false, HERS, BOTH, None, false),
];

const fn facts(
    who: Person,
    name: &'static str,
    for_alice: bool,
    providers: &'static [&'static str],
    accounts: &'static [&'static str],
    up_to: Option<&'static [&'static str]>,
    broader: bool,
) -> Facts {
    Facts { who, name, for_alice, providers, accounts, up_to, broader }
}

/// What has to come of a request: `ok` and the account, or the error.
fn oracle(facts: &Facts, provider: &str, account: Option<&str>, scopes: &[&str]) -> String {
    const GRANTED: [&str; 3] = ["openid", "profile", "email"];
    if !facts.providers.contains(&provider) {
        return "404 unknown_provider".to_owned();
    }
    let above = |scope: &&str| facts.up_to.is_some_and(|up_to| !up_to.contains(scope));
    if scopes.iter().any(above) {
        return "403 scope_denied".to_owned();
    }
    if !facts.for_alice || provider == "other" {
        return "409 connection_required".to_owned();
    }
    let meant = match account {
        // The default, if she has it for this caller; otherwise the only one that is left.
        None => facts.accounts[0],
        Some("work") => "u-1002",
        Some(named) => named,
    };
    if !facts.accounts.contains(&meant) {
        return "404 unknown_account".to_owned();
    }
    if scopes.iter().any(|scope| !GRANTED.contains(scope)) {
        return "409 insufficient_scope".to_owned();
    }
    if !facts.broader && GRANTED.iter().any(above) {
        return "403 scope_denied".to_owned();
    }
    format!("200 {meant}")
}

#[tokio::test]
async fn nobody_gets_more_or_less_than_the_rules_say() {
    if !is_root("callers of several users") {
        return;
    }
    let site = Site::new(CALLERS).await;
    let (mut asked, mut given) = (0, 0);
    for facts in &FACTS {
        for provider in ["sandbox", "other", "nowhere"] {
            for account in [None, Some("u-1001"), Some("u-1002"), Some("work"), Some("u-9999")] {
                for scopes in [&[][..], &["openid"], &["email"], &["openid", "profile"], &["files"]] {
                    let body = json!({"provider": provider, "account": account, "scopes": scopes});
                    let answer = site.token(facts.who, body).await;
                    let found = match answer.status {
                        200 => format!("200 {}", answer.json["account"]["id"].as_str().unwrap()),
                        status => format!("{status} {}", answer.text("error")),
                    };
                    let expected = oracle(facts, provider, account, scopes);
                    assert_eq!(found, expected, "{} asks {provider} for {account:?} {scopes:?}", facts.name);
                    if answer.status != 200 {
                        assert!(!answer.json.to_string().contains("_MARK_"), "{answer:?}");
                    }
                    (asked, given) = (asked + 1, given + usize::from(answer.status == 200));
                }
            }
        }
    }
    assert_eq!((asked, given), (675, 44), "the table has both sides");
}

#[tokio::test]
async fn what_is_not_the_callers_looks_like_what_is_not_there() {
    if !is_root("callers of several users") {
        return;
    }
    let site = Site::new(CALLERS).await;
    for (not_its, not_there) in [
        (json!({"provider": "other"}), json!({"provider": "nowhere"})),
        (json!({"provider": "other", "slot": "main"}), json!({"provider": "nowhere", "slot": "main"})),
        (json!({"account": "u-1002"}), json!({"account": "u-9999"})),
        (json!({"account": "work"}), json!({"account": "play"})),
        (json!({"account": site.connection("u-1002").await}), json!({"account": "cx_AAAAAAAAAAAAAAAAAAAAAA"})),
    ] {
        let (not_its, not_there) = (site.token(READER, not_its).await, site.token(READER, not_there).await);
        assert_eq!(without_id(&not_its), without_id(&not_there));
        assert_eq!(not_its.status, 404, "{not_its:?}");
    }
    let refused = site.token(READER, json!({"scopes": ["files", "email"]})).await;
    assert_eq!((&refused.json["reason"], &refused.json["denied_scopes"]), (&json!("above_ceiling"), &json!(["files"])));
    let refused = site.token(NARROW, json!({})).await;
    assert_eq!((&refused.json["reason"], &refused.json["denied_scopes"]), (&json!("grant_broader"), &Value::Null));
    let log = site.world.daemon.log();
    for told in
        ["callers.narrow.allow[0]", "for more than the rule goes up to: email profile", "callers.reader.allow[0]"]
    {
        assert!(log.contains(told), "the operator hears {told}");
    }
}
