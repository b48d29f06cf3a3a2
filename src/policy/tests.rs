//! The policy as tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::rule::{Ceiling, Rules};

fn person(uid: u32, admin: bool) -> Caller {
    Caller {
        name: format!("uid:{uid}").parse().unwrap(),
        subject: Subject::from_uid(uid),
        admin,
        peer: None,
        rules: None,
    }
}

fn set(text: &str) -> ScopeSet {
    ScopeSet::read(text, ' ')
}

fn scope_rules() -> ScopeRules {
    serde_json::from_value(serde_json::json!({"implies": {"repo": ["public_repo"]}})).unwrap()
}

fn rule(number: usize, accounts: Option<&[&str]>, slots: &[(&str, Option<&str>)], allow_broader: bool) -> Rule {
    let ceiling = |scopes: Option<&str>| match scopes {
        None => Ceiling::Whole,
        Some(named) => Ceiling::Scopes { named: set(named), reach: scope_rules().reach(&set(named)) },
    };
    let ceilings: BTreeMap<_, _> =
        slots.iter().map(|(slot, scopes)| (slot.parse().unwrap(), ceiling(*scopes))).collect();
    Rule {
        number,
        name: format!("callers.c.allow[{number}]"),
        accounts: accounts.map(|accounts| accounts.iter().map(|&account| account.to_owned()).collect()),
        ceilings: (!slots.is_empty()).then_some(ceilings),
        allow_broader,
    }
}

/// Acts for 1000: at `github` [0] reads with account 1 or the one called `work`, [1] has all of account 2 whatever else its
/// token may do; at `slack` [2] has the slot `user`.
fn configured() -> Caller {
    let mut rules = Rules::default();
    rules.push("github".parse().unwrap(), rule(0, Some(&["1", "work"]), &[("main", Some("repo"))], false));
    rules.push("github".parse().unwrap(), rule(1, Some(&["2"]), &[("main", Some("gist"))], true));
    rules.push("slack".parse().unwrap(), rule(2, None, &[("user", None)], false));
    Caller {
        name: "c".parse().unwrap(),
        subject: Subject::from_uid(1000),
        admin: false,
        peer: None,
        rules: Some(Arc::new(rules)),
    }
}

fn account(id: &str) -> Account {
    // Everybody is called alike at the provider, and that is no way in.
    Account { id: id.to_owned(), name: "1".to_owned() }
}

#[test]
fn everybody_has_their_own_and_an_administrator_has_no_ones_token() {
    let (mine, theirs) = (Subject::from_uid(1000), Subject::from_uid(1001));
    let (github, one, none, rules) = ("github".parse().unwrap(), account("1"), ScopeSet::default(), scope_rules());
    let target = |owner| Target { owner, provider: &github, account: &one, label: None };
    let wish = |owner| {
        let (provider, scopes) = (&github, &rules);
        Use { owner, provider, account: None, slot: None, wanted: &none, granted: None, scopes }
    };
    for (owner, own) in [(&mine, true), (&theirs, false)] {
        for (action, administered) in [
            (Action::Use(wish(owner)), false),
            (Action::See(target(owner)), true),
            (Action::Disconnect(target(owner)), true),
            (Action::Name(target(owner)), false),
            (Action::Attend(owner), false),
        ] {
            assert_eq!(decide(&person(1000, false), action).is_allowed(), own, "{action:?}");
            assert_eq!(decide(&person(1000, true), action).is_allowed(), own || administered, "{action:?}");
        }
    }
}

/// What is decided of a token: the rule, and `+` or how it is refused.
fn token(provider: &str, named: &str, label: Option<&str>, slot: &str, wanted: &str, granted: &str) -> String {
    let (caller, owner, provider) = (configured(), Subject::from_uid(1000), provider.parse().unwrap());
    let (account, slot, scopes) = (account(named), slot.parse().unwrap(), scope_rules());
    let (wanted, granted) = (set(wanted), set(granted));
    let decision = decide(
        &caller,
        Action::Use(Use {
            owner: &owner,
            provider: &provider,
            account: Some((&account, label)),
            slot: Some(&slot),
            wanted: &wanted,
            granted: Some(&granted),
            scopes: &scopes,
        }),
    );
    let short = |rule: &str| rule.strip_prefix("callers.c.allow").unwrap_or(rule).to_owned();
    match decision {
        Decision::Allowed { rule } => format!("+ {}", short(rule)),
        Decision::Refused { refusal: Refusal::Absent, rule } => format!("absent {}", short(rule)),
        Decision::Refused { refusal: Refusal::Forbidden, rule } => format!("forbidden {}", short(rule)),
        Decision::Refused { refusal: Refusal::Scopes(scopes), rule } => format!("above {scopes} {}", short(rule)),
        Decision::Refused { refusal: Refusal::Broader(scopes), rule } => format!("broader {scopes} {}", short(rule)),
    }
}

#[test]
fn a_token_is_handed_out_by_the_first_rule_that_allows_it() {
    for (provider, account, label, slot, wanted, granted, expected) in [
        ("github", "1", None, "main", "", "repo", "+ [0]"),
        ("github", "1", None, "main", "repo", "repo", "+ [0]"),
        ("github", "1", None, "main", "public_repo", "public_repo repo", "+ [0]"),
        ("github", "9", Some("work"), "main", "", "", "+ [0]"),
        ("github", "9", Some("home"), "main", "", "", "absent default deny"),
        ("github", "9", None, "main", "", "", "absent default deny"),
        ("github", "1", None, "main", "gist", "repo gist", "above gist [0]"),
        ("github", "1", None, "main", "", "repo gist", "broader gist [0]"),
        ("github", "1", None, "main", "repo", "repo admin:org gist", "broader admin:org gist [0]"),
        ("github", "1", None, "bot", "", "repo", "absent default deny"),
        ("github", "2", None, "main", "gist", "repo gist", "+ [1]"),
        ("github", "2", None, "main", "repo", "repo gist", "above repo [1]"),
        ("github", "2", Some("work"), "main", "", "repo gist", "+ [1]"),
        // No two rules are added up: the closest is the one that would do but for the grant.
        ("github", "2", Some("work"), "main", "repo gist", "repo gist", "above gist [0]"),
        ("github", "2", Some("work"), "main", "repo", "repo gist", "broader gist [0]"),
        ("slack", "7", None, "user", "anything", "anything", "+ [2]"),
        ("slack", "7", None, "bot", "", "", "absent default deny"),
        ("google", "1", None, "main", "", "", "absent default deny"),
    ] {
        let found = token(provider, account, label, slot, wanted, granted);
        assert_eq!(found, expected, "{provider} {account} {label:?} {slot} wanted {wanted:?} of {granted:?}");
    }
}

#[test]
fn what_is_not_known_yet_stands_against_no_rule() {
    let (caller, owner, scopes) = (configured(), Subject::from_uid(1000), scope_rules());
    let slot = |name: &str| name.parse::<SlotName>().unwrap();
    for (provider, slot, wanted, allowed) in [
        ("github", None, "", true),
        ("github", None, "repo", true),
        ("github", None, "gist", true),
        ("github", None, "repo gist", false),
        ("github", None, "admin:org", false),
        ("slack", None, "x", true),
        ("slack", Some(slot("user")), "x", true),
        ("slack", Some(slot("bot")), "", false),
        ("google", None, "", false),
    ] {
        let (provider, wanted) = (provider.parse().unwrap(), set(wanted));
        let (slot, owner, scopes) = (slot.as_ref(), &owner, &scopes);
        let wish = Use { owner, provider: &provider, account: None, slot, wanted: &wanted, granted: None, scopes };
        assert_eq!(decide(&caller, Action::Use(wish)).is_allowed(), allowed, "{provider} {slot:?} {wanted}");
    }
}

#[test]
fn a_configured_caller_does_nothing_but_look_and_use() {
    let (caller, mine, theirs) = (configured(), Subject::from_uid(1000), Subject::from_uid(1001));
    let (github, one, nine) = ("github".parse().unwrap(), account("1"), account("9"));
    let of = |owner, account| Target { owner, provider: &github, account, label: None };
    let refusal = |action| match decide(&caller, action) {
        Decision::Allowed { .. } => None,
        Decision::Refused { refusal, .. } => Some(refusal),
    };
    assert_eq!(refusal(Action::See(of(&mine, &one))), None);
    for absent in [of(&mine, &nine), of(&theirs, &one)] {
        for action in [Action::See(absent), Action::Disconnect(absent), Action::Name(absent)] {
            assert_eq!(refusal(action), Some(Refusal::Absent), "{action:?}");
        }
    }
    let hers = of(&mine, &one);
    for action in [Action::Disconnect(hers), Action::Name(hers), Action::Attend(&mine)] {
        assert_eq!(refusal(action), Some(Refusal::Forbidden), "{action:?}");
    }
    assert_eq!(refusal(Action::Attend(&theirs)), Some(Refusal::Absent));
}

#[test]
fn a_slot_is_seen_where_a_rule_about_the_account_names_it() {
    let (caller, owner, one) = (configured(), Subject::from_uid(1000), account("1"));
    for (provider, slot, seen) in
        [("slack", "user", true), ("slack", "bot", false), ("github", "main", true), ("github", "bot", false)]
    {
        let (provider, slot) = (provider.parse().unwrap(), slot.parse().unwrap());
        let target = Target { owner: &owner, provider: &provider, account: &one, label: None };
        assert_eq!(sees_slot(&caller, &target, &slot), seen, "{provider} {slot}");
        assert!(sees_slot(&person(1000, false), &target, &slot));
    }
}
