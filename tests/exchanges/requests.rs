//! What each provider is asked: the authorization request and the refresh request, by its compiled-in definition.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use grantd::catalog::{Catalog, Settings};
use grantd::model::claims::Claims;
use grantd::model::grant_type::GrantType;
use grantd::model::provider::Provider;
use grantd::model::scope::ScopeSet;
use grantd::model::secret::RefreshToken;
use grantd::model::time::Timestamp;
use grantd::oauth::authorize::{self, Authorization};
use grantd::oauth::exchange::{self, As, Spend};
use grantd::oauth::transport::Answer;
use oauth2::HttpRequest;
use serde_json::Value;

use crate::replay::client;

type Pairs = BTreeMap<String, String>;

fn provider(id: &str, variant: Option<&str>) -> Provider {
    let mut settings =
        Settings { variant: variant.map(str::to_owned), ..Settings::plain(id.parse().unwrap(), "client") };
    if variant.is_some_and(|variant| variant.starts_with("ghes")) {
        settings.vars.insert("host".to_owned(), "git.corp.example".to_owned());
    }
    Catalog::built_in().resolve(&settings).unwrap()
}

/// The parameters that are not the same for every provider.
fn authorization(provider: &Provider, claims: Option<&Claims>) -> Pairs {
    let slots = provider.slots.iter().map(|slot| (slot.name.clone(), ScopeSet::read("one two", ' ')));
    let ask = Authorization {
        provider,
        client_id: "client",
        redirect_uri: "http://localhost:8717/callback/x",
        scopes: &slots.collect(),
        reconsent: claims.is_some(),
        claims,
    };
    let request = authorize::request(&ask);
    assert_eq!(request.verifier.is_some(), provider.pkce);
    let mut query: Pairs = request.url.query_pairs().into_owned().collect();
    for own in ["response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"] {
        query.remove(own);
    }
    query
}

fn pairs(listed: &[(&str, &str)]) -> Pairs {
    listed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn each_provider_is_asked_for_what_it_needs_to_be_asked_for() {
    let google =
        [("access_type", "offline"), ("include_granted_scopes", "false"), ("prompt", "consent"), ("scope", "one two")];
    for (id, variant, expected) in [
        ("github", None, &[("scope", "offline_access one two")][..]),
        ("github", Some("app"), &[]),
        ("github", Some("ghes"), &[("scope", "offline_access one two")]),
        ("google", None, &google),
        ("google", Some("desktop"), &google),
        ("microsoft", None, &[("response_mode", "query"), ("scope", "offline_access one two")]),
        ("slack", None, &[("scope", "one,two"), ("user_scope", "one,two")]),
        ("slack", Some("v2_user"), &[("scope", "one,two")]),
        ("slack", Some("pkce"), &[("user_scope", "one,two")]),
        ("notion", None, &[("owner", "user")]),
    ] {
        assert_eq!(authorization(&provider(id, variant), None), pairs(expected), "{id} {variant:?}");
    }
}

#[test]
fn a_challenge_goes_back_to_microsoft_and_to_nobody_else() {
    let claims = Claims::new("{\"access_token\":{\"acrs\":{\"essential\":true,\"value\":\"c1\"}}}").unwrap();
    for entry in Catalog::built_in().entries() {
        let id = entry.definition().id.as_str();
        let sent = authorization(&provider(id, None), Some(&claims)).remove("claims");
        assert_eq!(sent.as_deref(), (id == "microsoft").then_some(claims.as_str()), "{id}");
    }
}

/// What a refresh sends: the `Authorization` header and the members of the body.
fn refresh(provider: &Provider, grant_type: GrantType) -> (Option<String>, Pairs) {
    let client = client(provider);
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let http = move |request: HttpRequest| -> Answer<'static> {
        *note.lock().unwrap() = Some(request);
        Box::pin(std::future::ready(Ok(http::Response::new(Vec::new()))))
    };
    let (token, granted) = (RefreshToken::new("_MARK_r").unwrap(), ScopeSet::read("Mail.Read User.Read", ' '));
    let whom = As { provider, client: &client, now: Timestamp::from_secs(1_800_000_000) };
    let spend = Spend { token: &token, slot: &provider.slots[0].name, granted: &granted, grant_type, resource: None };
    assert!(exchange::refresh(whom, spend, &http).now_or_never().unwrap().is_err(), "an empty answer is none");
    let request = seen.lock().unwrap().take().unwrap();
    assert_eq!((request.method().as_str(), request.uri().query()), ("POST", None));
    assert_eq!(request.headers()["accept"], "application/json");
    let body = match request.headers()["content-type"].to_str().unwrap() {
        "application/json" => {
            let body: BTreeMap<String, Value> = serde_json::from_slice(request.body()).unwrap();
            body.into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect()
        }
        kind => {
            assert_eq!(kind, "application/x-www-form-urlencoded");
            url::form_urlencoded::parse(request.body()).into_owned().collect()
        }
    };
    let header = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    (header, body)
}

#[test]
fn each_provider_is_refreshed_in_its_own_manner() {
    let plain = [("grant_type", "refresh_token"), ("refresh_token", "_MARK_r")];
    let secret = [("client_id", "client"), ("client_secret", "_MARK_secret")];
    let public = [("client_id", "client")];
    let scope = [("scope", "Mail.Read User.Read offline_access")];
    for (id, variant, basic, expected) in [
        ("github", None, false, [&plain[..], &secret].concat()),
        ("google", None, false, [&plain[..], &secret].concat()),
        ("google", Some("desktop"), false, [&plain[..], &secret].concat()),
        ("microsoft", None, false, [&plain[..], &secret, &scope].concat()),
        ("microsoft", Some("public"), false, [&plain[..], &public, &scope].concat()),
        ("slack", None, false, [&plain[..], &secret].concat()),
        ("slack", Some("pkce"), false, [&plain[..], &public].concat()),
        ("notion", None, true, plain.to_vec()),
    ] {
        let (header, body) = refresh(&provider(id, variant), GrantType::AuthorizationCode);
        assert_eq!(body, pairs(&expected), "{id} {variant:?}");
        assert_eq!(header.is_some_and(|header| header.starts_with("Basic ")), basic, "{id} {variant:?}");
    }
}

#[test]
fn what_came_of_a_device_flow_is_refreshed_as_the_client_proved_itself_there() {
    let plain = [("grant_type", "refresh_token"), ("refresh_token", "_MARK_r"), ("client_id", "client")];
    let secret = [("client_secret", "_MARK_secret")];
    let scope = [("scope", "Mail.Read User.Read offline_access")];
    for (id, variant, expected) in [
        ("github", None, plain.to_vec()),
        ("github", Some("app"), plain.to_vec()),
        ("github", Some("device"), plain.to_vec()),
        ("google", Some("limited-input"), [&plain[..], &secret].concat()),
        ("microsoft", Some("public"), [&plain[..], &scope].concat()),
    ] {
        let (header, body) = refresh(&provider(id, variant), GrantType::DeviceCode);
        assert_eq!((header, body), (None, pairs(&expected)), "{id} {variant:?}");
    }
}

#[test]
fn a_certificate_signs_in_place_of_the_secret() {
    let (header, mut body) = refresh(&provider("microsoft", Some("certificate")), GrantType::AuthorizationCode);
    assert_eq!(header, None);
    assert!(body.remove("client_assertion").is_some_and(|assertion| assertion.split('.').count() == 3));
    let expected = [
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_id", "client"),
        ("grant_type", "refresh_token"),
        ("refresh_token", "_MARK_r"),
        ("scope", "Mail.Read User.Read offline_access"),
    ];
    assert_eq!(body, pairs(&expected));
}
