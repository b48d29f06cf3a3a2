//! The definitions that are compiled in, held against the device flows that GitHub, Google and Microsoft document: what is sent,
//! and what each answer means.

use std::collections::BTreeMap;
use std::sync::Mutex;

use grantd::catalog::{Catalog, Settings};
use grantd::model::client::Client;
use grantd::model::id::SlotName;
use grantd::model::provider::Provider;
use grantd::model::scope::ScopeSet;
use grantd::model::secret::{ClientSecret, DeviceCode};
use grantd::model::time::Timestamp;
use grantd::oauth::device::{self, Polled};
use grantd::oauth::exchange::As;
use grantd::oauth::transport::Answer;
use serde_json::{Value, json};

/// The variants that have a device flow, and whether their client has a secret.
const FLOWS: [(&str, &str, bool); 5] = [
    ("github", "oauth-app", true),
    ("github", "app", true),
    ("github", "device", false),
    ("google", "limited-input", true),
    ("microsoft", "public", false),
];

fn provider(id: &str, variant: &str) -> Provider {
    let plain = Settings::plain(id.parse().unwrap(), "client-id");
    Catalog::built_in().resolve(&Settings { variant: Some(variant.to_owned()), ..plain }).unwrap()
}

fn client(has_secret: bool) -> Client {
    let secret = has_secret.then(|| ClientSecret::new("client-secret").unwrap());
    Client { id: "client-id".to_owned(), secret, key: None }
}

/// What was sent.
struct Exchange {
    url: String,
    form: BTreeMap<String, String>,
    accepts: String,
}

fn answered(status: u16, body: &Value) -> Answer<'static> {
    let response = http::Response::builder().status(status).body(body.to_string().into_bytes()).unwrap();
    Box::pin(std::future::ready(Ok(response)))
}

async fn polled(provider: &Provider, has_secret: bool, status: u16, answer: Value) -> (Exchange, Polled) {
    let (client, seen) = (client(has_secret), Mutex::new(None));
    let http = |request: http::Request<Vec<u8>>| {
        *seen.lock().unwrap() = Some(exchange(&request));
        answered(status, &answer)
    };
    let polled = device::poll(
        As { provider, client: &client, now: Timestamp::from_secs(0) },
        &DeviceCode::new("d").unwrap(),
        &http,
    )
    .await;
    (seen.into_inner().unwrap().unwrap(), polled)
}

fn exchange(request: &http::Request<Vec<u8>>) -> Exchange {
    assert!(!request.headers().contains_key("authorization"), "none of the three takes Basic here");
    Exchange {
        url: request.uri().to_string(),
        form: url::form_urlencoded::parse(request.body()).into_owned().collect(),
        accepts: request.headers()["accept"].to_str().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn each_gives_a_code_in_its_own_words() {
    for (id, variant, has_secret) in FLOWS {
        let (url, page) = match id {
            "github" => ("https://github.com/login/device/code", "https://github.com/login/device"),
            "google" => ("https://oauth2.googleapis.com/device/code", "https://www.google.com/device"),
            _ => {
                ("https://login.microsoftonline.com/common/oauth2/v2.0/devicecode", "https://microsoft.com/devicelogin")
            }
        };
        let (provider, client, seen) = (provider(id, variant), client(has_secret), Mutex::new(None));
        let named = if id == "google" { "verification_url" } else { "verification_uri" };
        let mut answer =
            json!({"device_code": "d", "user_code": "WDJB-MJHT", "expires_in": 900, "interval": 5, "message": "x"});
        answer[named] = json!(page);
        let http = |request: http::Request<Vec<u8>>| {
            *seen.lock().unwrap() = Some(exchange(&request));
            answered(200, &answer)
        };
        let scopes = BTreeMap::from([(SlotName::main(), ScopeSet::read("a b", ' '))]);
        let given = device::authorize(
            As { provider: &provider, client: &client, now: Timestamp::from_secs(0) },
            &scopes,
            &http,
        )
        .await
        .unwrap();
        assert_eq!(given.verification_uri.as_str(), page, "{id} {variant}");
        let sent = seen.into_inner().unwrap().unwrap();
        assert_eq!((&*sent.url, &*sent.accepts), (url, "application/json"));
        assert_eq!(sent.form["client_id"], "client-id");
        assert!(!sent.form.contains_key("client_secret"), "{id} {variant}: no code wants the secret");
        // A GitHub App has no scopes; the others ask for a refresh token where that is a scope.
        let scope = sent.form.get("scope").map(String::as_str);
        let expected = match (id, variant) {
            ("github", "app") => None,
            ("google", _) => Some("a b"),
            _ => Some("a b offline_access"),
        };
        assert_eq!(scope, expected, "{id} {variant}");
    }
}

#[tokio::test]
async fn only_google_wants_the_secret_with_the_tokens() {
    for (id, variant, has_secret) in FLOWS {
        let provider = provider(id, variant);
        let (sent, _) = polled(&provider, has_secret, 400, json!({"error": "authorization_pending"})).await;
        assert_eq!(sent.url, provider.endpoints.token.as_str());
        assert_eq!(sent.form.contains_key("client_secret"), id == "google", "{id} {variant}");
        assert_eq!(sent.form["client_id"], "client-id");
    }
}

#[tokio::test]
async fn every_documented_answer_means_what_it_should() {
    for (id, variant, status, answer, expected) in [
        ("github", "oauth-app", 200, json!({"error": "authorization_pending"}), "Pending"),
        ("github", "oauth-app", 200, json!({"error": "slow_down", "interval": 10}), "SlowDown { interval: Some(10s) }"),
        ("github", "oauth-app", 200, json!({"error": "expired_token"}), "Expired"),
        ("github", "oauth-app", 200, json!({"error": "token_expired"}), "Expired"),
        ("github", "oauth-app", 200, json!({"error": "incorrect_device_code"}), "Expired"),
        ("github", "oauth-app", 200, json!({"error": "access_denied"}), "Denied"),
        (
            "github",
            "device",
            200,
            json!({"error": "device_flow_disabled"}),
            "Refused(Registration { code: Code(\"device_flow_disabled\") })",
        ),
        (
            "github",
            "device",
            200,
            json!({"error": "incorrect_client_credentials"}),
            "Refused(Registration { code: Code(\"incorrect_client_credentials\") })",
        ),
        (
            "github",
            "app",
            200,
            json!({"error": "unsupported_grant_type"}),
            "Refused(Registration { code: Code(\"unsupported_grant_type\") })",
        ),
        ("github", "app", 429, json!({}), "Later { after: None }"),
        ("google", "limited-input", 428, json!({"error": "authorization_pending"}), "Pending"),
        ("google", "limited-input", 403, json!({"error": "slow_down"}), "SlowDown { interval: None }"),
        ("google", "limited-input", 403, json!({"error": "access_denied"}), "Denied"),
        ("google", "limited-input", 400, json!({"error": "expired_token"}), "Expired"),
        ("google", "limited-input", 400, json!({"error": "invalid_grant"}), "Expired"),
        (
            "google",
            "limited-input",
            401,
            json!({"error": "invalid_client"}),
            "Refused(Registration { code: Code(\"invalid_client\") })",
        ),
        (
            "google",
            "limited-input",
            403,
            json!({"error": "org_internal"}),
            "Refused(Registration { code: Code(\"org_internal\") })",
        ),
        ("google", "limited-input", 500, json!({"error": "internal_failure"}), "Later { after: None }"),
        ("microsoft", "public", 400, json!({"error": "authorization_pending", "error_codes": [70016]}), "Pending"),
        ("microsoft", "public", 400, json!({"error": "authorization_declined"}), "Denied"),
        ("microsoft", "public", 400, json!({"error": "bad_verification_code"}), "Expired"),
        ("microsoft", "public", 400, json!({"error": "expired_token"}), "Expired"),
        ("microsoft", "public", 503, json!({"error": "temporarily_unavailable"}), "Later { after: None }"),
    ] {
        let has_secret = FLOWS.iter().any(|flow| (flow.0, flow.1, flow.2) == (id, variant, true));
        let (_, polled) = polled(&provider(id, variant), has_secret, status, answer.clone()).await;
        let meant = match &polled {
            Polled::Refused(refused) => format!("Refused({:?})", refused.rejection),
            other => format!("{other:?}"),
        };
        assert_eq!(meant, expected, "{id} {variant}: {status} {answer}");
    }
}

#[test]
fn the_others_have_none() {
    for (id, variant) in [("google", "web"), ("google", "desktop"), ("microsoft", "web")] {
        assert!(provider(id, variant).endpoints.device.is_none(), "{id} {variant}");
    }
    for id in ["slack", "notion"] {
        let plain = Settings::plain(id.parse().unwrap(), "client-id");
        assert!(Catalog::built_in().resolve(&plain).unwrap().endpoints.device.is_none(), "{id}");
    }
}
