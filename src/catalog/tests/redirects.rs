//! Which redirect URIs the compiled-in definitions can do with, and what is said of the others.

use super::settings;
use crate::catalog::Catalog;
use crate::model::provider::redirect;

#[test]
fn a_redirect_uri_that_cannot_work_is_told_with_what_helps() {
    let catalog = Catalog::built_in();
    for (id, variant, at, why, instead) in [
        ("github", None, "http://127.0.0.1:8717", None, None),
        ("github", None, "https://localhost:8717", None, None),
        (
            "github",
            None,
            "http://auth.example",
            Some("GitHub needs https for http://auth.example/callback/github: http is for this machine only."),
            None,
        ),
        ("google", None, "https://auth.example", None, None),
        (
            "google",
            None,
            "https://192.0.2.7",
            Some("Google wants the name of a host, not an address such as 192.0.2.7."),
            None,
        ),
        ("google", Some("desktop"), "http://localhost:8717", None, None),
        (
            "google",
            Some("desktop"),
            "https://auth.example:8717",
            Some("Google sends a browser back to its own machine only, with this kind of client."),
            Some("https://localhost:8717"),
        ),
        (
            "google",
            Some("limited-input"),
            "http://localhost:8717",
            Some("Google sends no browser back to this machine with this kind of client."),
            None,
        ),
        ("microsoft", None, "http://localhost:8717", None, None),
        (
            "microsoft",
            None,
            "http://[::1]:8717",
            Some("Microsoft does not accept [::1], only localhost."),
            Some("http://localhost:8717"),
        ),
        (
            "slack",
            None,
            "http://localhost:8717",
            Some("Slack needs https even for localhost, with this kind of client."),
            Some("https://localhost:8717"),
        ),
        (
            "slack",
            None,
            "http://127.0.0.1:8717",
            Some("Slack does not accept 127.0.0.1, only localhost."),
            Some("https://localhost:8717"),
        ),
        ("slack", None, "https://localhost:8717", None, None),
        ("slack", Some("pkce"), "http://localhost:8717", None, None),
        ("slack", Some("pkce"), "https://auth.example", None, None),
        ("notion", None, "http://localhost:8717", None, None),
        (
            "notion",
            None,
            "http://127.0.0.1:8717",
            Some("Notion does not accept 127.0.0.1, only localhost."),
            Some("http://localhost:8717"),
        ),
        ("gitlab", Some("public"), "http://127.0.0.1:8717", None, None),
        ("atlassian", None, "http://localhost:8717", None, None),
    ] {
        let provider = catalog.resolve(&settings(id, variant)).unwrap();
        let uri = format!("{at}/callback/{id}").parse().unwrap();
        let found = redirect::check(&provider, &uri);
        assert_eq!(found.as_ref().map(|unusable| unusable.why.as_str()), why, "{id} {variant:?} {at}");
        let works = found.as_ref().and_then(|unusable| unusable.instead.as_ref()).map(ToString::to_string);
        assert_eq!(works, instead.map(|at| format!("{at}/callback/{id}")), "{id} {variant:?} {at}");
        if let Some(found) = found {
            assert!(found.next.ends_with('.'), "{}", found.next);
            assert_eq!(found.next.contains("`web.url`"), instead.is_some(), "{}", found.next);
        }
    }
}

#[test]
fn a_redirect_uri_longer_than_the_provider_takes_is_told() {
    let provider = Catalog::built_in().resolve(&settings("microsoft", None)).unwrap();
    let of = |length: usize| format!("http://localhost:8717/{}", "x".repeat(length - 22)).parse().unwrap();
    assert_eq!(redirect::check(&provider, &of(256)), None);
    let found = redirect::check(&provider, &of(257)).unwrap();
    assert_eq!(
        found.to_string(),
        "Microsoft takes redirect URIs of at most 256 characters. Give it a shorter name in grantd.yaml."
    );
}

/// The address that is the default has to work at every provider, or `show` has to say what does.
#[test]
fn at_the_default_address_every_variant_works_or_says_what_helps() {
    let catalog = Catalog::built_in();
    let mut unusable = Vec::new();
    for entry in catalog.entries() {
        let id = &entry.definition().id;
        let names = entry.definition().variants.keys().map(|name| Some(name.as_str()));
        for variant in names.chain([None]) {
            let mut settings = settings(id.as_str(), variant);
            if variant.is_some_and(|name| name.starts_with("ghes")) {
                settings.vars.insert("host".to_owned(), "git.corp.example".to_owned());
            }
            let provider = catalog.resolve(&settings).unwrap();
            let uri = format!("http://localhost:8717/callback/{id}").parse().unwrap();
            unusable.extend(redirect::check(&provider, &uri).map(|_| format!("{id} {}", variant.unwrap_or("-"))));
        }
    }
    assert_eq!(unusable, ["github device", "google limited-input", "slack v2", "slack v2_user", "slack -"]);
}
