//! What the section `callers` may say, what it means, and where it is wrong.

use std::path::Path;

use super::*;
use crate::broker::registry::Registry;
use crate::catalog::Catalog;
use crate::model::provider::rules::ScopesManagedBy;
use crate::model::rule::{Ceiling, Rule};

const PROVIDERS: &str = "\
providers:
  github: {client_id: a, client_secret: {credential: x}}
  google: {client_id: a, client_secret: {credential: x}}
  notion: {client_id: a, client_secret: {credential: x}}
  slack: {client_id: a, client_secret: {credential: x}}
";

fn credentials() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), "s3cret\n").unwrap();
    std::fs::set_permissions(dir.path().join("x"), std::fs::Permissions::from_mode(0o600)).unwrap();
    dir
}

fn providers(credentials: &Path) -> Registry {
    Config::parse("g.yaml", PROVIDERS).unwrap().registry(&Catalog::built_in(), Some(credentials)).unwrap().0
}

fn read(callers: &str) -> Result<Callers, String> {
    let credentials = credentials();
    let machine = Machine {
        people: People::of("alice:x:1000:1000::/:/bin/sh\nnobody:x:65534:1::/:/bin/sh\n", "dev:x:50:\n"),
        own_uid: 990,
    };
    let config =
        Config::parse("g.yaml", &format!("{PROVIDERS}callers:\n{callers}")).map_err(|error| error.to_string())?;
    config.callers(&providers(credentials.path()).providers, &machine).map_err(|error| error.to_string())
}

/// The rules of the caller `c` that has these.
fn rules(allow: &str) -> Vec<(String, Rule)> {
    let callers = read(&format!("  c: {{peer: {{uid: 7}}, allow: [{allow}]}}\n")).unwrap();
    let rules = &callers.named("c").unwrap().rules;
    rules.iter().map(|(provider, rule)| (provider.to_string(), rule.clone())).collect()
}

#[test]
fn who_a_caller_is_and_for_whom_is_understood() {
    let callers = read(
        "  a: {peer: {unit: mcp.service}, on_behalf_of: alice, allow: []}\n  \
           b: {peer: {user: alice, group: dev}, on_behalf_of: 7, allow: []}\n  \
           c: {peer: {user_unit: mcp.service, uid: 990, gid: 3}, allow: []}\n  \
           d: {peer: {unit: mcp.service, uid: 0}, allow: []}\n",
    )
    .unwrap();
    let of = |name: &str| callers.named(name).unwrap().clone();
    let (system, user) =
        (UnitRule::System("mcp.service".parse().unwrap()), UnitRule::User("mcp.service".parse().unwrap()));
    let uid = |uid| Some(Subject::from_uid(uid));
    for (name, unit, user, group, subject) in [
        ("a", Some(system.clone()), None, None, uid(1000)),
        ("b", None, Some(1000), Some(50), uid(7)),
        ("c", Some(user), Some(990), Some(3), None),
        ("d", Some(system), Some(0), None, None),
    ] {
        assert_eq!(of(name).peer, PeerRule { unit, uid: user, gid: group }, "{name}");
        assert_eq!(of(name).on_behalf_of, subject, "{name}");
        assert_eq!(of(name).rules.iter().count(), 0);
    }
}

#[test]
fn a_rule_is_spelled_out_for_its_provider() {
    let [(provider, rule)] =
        &rules("{provider: github, accounts: ['1', work], scopes: [repo], allow_broader: true}")[..]
    else {
        panic!("one rule at one provider")
    };
    assert_eq!((provider.as_str(), rule.name.as_str(), rule.number), ("github", "callers.c.allow[0]", 0));
    assert_eq!((rule.accounts.as_deref(), rule.allow_broader), (Some(&["1".to_owned(), "work".to_owned()][..]), true));
    let Some(Ceiling::Scopes { named, reach }) = rule.ceiling(&SlotName::main()) else { panic!("a ceiling") };
    assert_eq!(named.to_string(), "repo");
    assert!(reach.contains(&"public_repo".parse().unwrap()), "what `repo` includes: {reach}");

    let all = rules("{provider: '*'}");
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|(_, rule)| rule.ceilings.is_none() && rule.name == "callers.c.allow[0]"));

    let slack = rules("{provider: slack, slots: [user]}");
    let ceiling = |slot: &str| slack[0].1.ceiling(&slot.parse().unwrap()).cloned();
    assert_eq!((ceiling("user"), ceiling("bot")), (Some(Ceiling::Whole), None));
}

#[test]
fn a_preset_is_the_provider_s_own_and_says_nothing_where_scopes_are_not_known() {
    let found = rules("{provider: '*', scopes: read-only}");
    let names: Vec<_> = found.iter().map(|(provider, _)| provider.as_str()).collect();
    let credentials = credentials();
    let expected: Vec<_> = providers(credentials.path())
        .providers
        .into_iter()
        .filter(|(_, it)| {
            it.provider.scopes.managed_by != ScopesManagedBy::App && !it.provider.presets.read_only.is_empty()
        })
        .map(|(id, _)| id.to_string())
        .collect();
    assert_eq!(names, expected);
    assert!(!names.contains(&"notion"), "nobody knows what its tokens are good for");
    let github = &found.iter().find(|(provider, _)| provider == "github").unwrap().1;
    let Some(Ceiling::Scopes { named, .. }) = github.ceiling(&SlotName::main()) else { panic!("a ceiling") };
    assert!(named.contains(&"read:user".parse().unwrap()), "{named}");
}

#[test]
fn what_identifies_the_account_is_always_within() {
    let found = rules("{provider: google, scopes: [gmail.readonly]}");
    let Some(Ceiling::Scopes { named, reach }) = found[0].1.ceiling(&SlotName::main()) else { panic!("a ceiling") };
    assert_eq!(named.to_string(), "gmail.readonly");
    for scope in ["openid", "https://www.googleapis.com/auth/gmail.readonly"] {
        assert!(reach.contains(&scope.parse().unwrap()), "{scope} in {reach}");
    }
    assert!(!reach.contains(&"https://www.googleapis.com/auth/drive".parse().unwrap()));
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let peer = |peer: &str| format!("  c: {{peer: {peer}, allow: []}}\n");
    let allow = |rule: &str| format!("  c: {{peer: {{uid: 7}}, allow: [{rule}]}}\n");
    for (text, expected) in [
        ("  c: {allow: []}\n".to_owned(), "g.yaml:7:3: expected the key `peer` (at callers.c)"),
        ("  c: {peer: {uid: 7}}\n".to_owned(), "g.yaml:7:3: expected the key `allow` (at callers.c)"),
        ("  c: {peer: {uid: 7}, allow: [], on_behalf_off: x}\n".to_owned(), "did you mean `on_behalf_of`?"),
        ("  'a b': {peer: {uid: 7}, allow: []}\n".to_owned(), "is not allowed here"),
        ("  'uid:7': {peer: {uid: 7}, allow: []}\n".to_owned(), "expected another name"),
        ("  c: {peer: {uid: 7}, on_behalf_of: bob, allow: []}\n".to_owned(), "there is no such user"),
        (
            "  c: {peer: {uid: 7}, on_behalf_of: 65534, allow: []}\n".to_owned(),
            "stands for anybody (at callers.c.on_behalf_of)",
        ),
        ("  c: {peer: {uid: 7}, on_behalf_of: -1, allow: []}\n".to_owned(), "expected the name of a user, or a uid"),
        ("  c: {peer: {uid: 7}, on_behalf_of: [a], allow: []}\n".to_owned(), "expected the name of a user, or a uid"),
        (peer("{}"), "expected at least one of `uid`, `user`"),
        (peer("{uid: 7, user: alice}"), "either `uid` or `user`"),
        (peer("{gid: 7, group: dev}"), "either `gid` or `group`"),
        (peer("{unit: a.service, user_unit: a.service}"), "either `unit` or `user_unit`"),
        (peer("{user_unit: a.service}"), "expected `uid` or `user` beside it"),
        (peer("{unit: a}"), "ends in `.service` or `.scope`"),
        (peer("{unit: a.service, pid: 7}"), "unknown key `pid`"),
        (peer("{user: bob}"), "no such user in /etc/passwd"),
        (peer("{group: ops}"), "no such group in /etc/group"),
        (peer("{uid: 65534}"), "stands for anybody"),
        (peer("{user: nobody}"), "stands for anybody"),
        (peer("{uid: 0}"), "root and the daemon's own user administer"),
        (peer("{uid: 990}"), "root and the daemon's own user administer"),
        (peer("{uid: -1}"), "expected a whole number"),
        (
            "  a: {peer: {user: alice}, allow: []}\n  b: {peer: {uid: 1000}, allow: []}\n".to_owned(),
            "expected another peer: `a` has the same, so nobody could tell them apart (at callers.b.peer)",
        ),
        (allow("{}"), "expected the key `provider` (at callers.c.allow[0])"),
        (
            allow("{provider: githib}"),
            "expected a provider that is configured under `providers`, or `*`; did you mean `github`?",
        ),
        (allow("{provider: Git Hub}"), "expected the name of a provider, or `*`"),
        (allow("{provider: github, accounts: []}"), "expected at least one"),
        (allow("{provider: github, accounts: [7]}"), "put it in quotes"),
        (allow("{provider: github, accounts: ['']}"), "(at callers.c.allow[0].accounts[0])"),
        (allow("{provider: github, slots: []}"), "expected at least one"),
        (
            allow("{provider: github, slots: [bot]}"),
            "no such slot; expected one of `main` (at callers.c.allow[0].slots[0])",
        ),
        (allow("{provider: slack, slots: [bot], scopes: {user: [a]}}"), "no such slot here"),
        (allow("{provider: slack, scopes: {bto: [a]}}"), "expected one of `bot`, `user`"),
        (allow("{provider: github, scopes: readonly}"), "`read-only`"),
        (allow("{provider: github, scopes: ['a b']}"), "a scope is"),
        (allow("{provider: github}, {provider: notion, scopes: [a]}"), "(at callers.c.allow[1].scopes)"),
        (allow("{provider: '*', scopes: [repo]}"), "expected a preset"),
        (allow("{provider: github, allow_broader: true}"), "expected `scopes` beside it"),
        (allow("{provider: github, scope: [a]}"), "did you mean `scopes`?"),
    ] {
        let refused = read(&text).unwrap_err();
        assert!(refused.contains(expected), "{text}{refused}");
        assert!(refused.starts_with("g.yaml:7:") || refused.starts_with("g.yaml:8:"), "{refused}");
    }
}
