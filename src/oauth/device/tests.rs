//! What is sent in the device flow, and how each answer is taken.

use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::model::client::Client;
use crate::model::secret::ClientSecret;
use crate::model::time::Timestamp;
use crate::oauth::quirk::tests::plain_provider;
use crate::oauth::transport::Answer;

fn provider() -> Provider {
    let mut provider = plain_provider();
    provider.endpoints.device = Some(Url::parse("https://as.example/device").unwrap());
    provider
}

fn client() -> Client {
    Client { id: "me".to_owned(), secret: Some(ClientSecret::new("s 1").unwrap()), key: None }
}

fn answered(status: u16, body: &Value) -> Answer<'static> {
    let response = http::Response::builder().status(status).body(body.to_string().into_bytes()).unwrap();
    Box::pin(std::future::ready(Ok(response)))
}

fn granted() -> Value {
    json!({"device_code": "d1", "user_code": "WDJB-MJHT", "verification_uri": "https://as.example/enter",
           "verification_uri_complete": "https://as.example/enter?c=WDJB-MJHT", "expires_in": 900, "interval": 5})
}

fn form(request: &HttpRequest) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(request.body()).into_owned().collect()
}

async fn asked(provider: &Provider, answer: Value) -> (HttpRequest, Result<DeviceAuthorization, Rejection>) {
    let (client, seen) = (client(), Mutex::new(None));
    let http = |request: HttpRequest| {
        *seen.lock().unwrap() = Some(request);
        answered(200, &answer)
    };
    let scopes = BTreeMap::from([(SlotName::main(), ScopeSet::read("repo gist", ' '))]);
    let authorized = authorize(As { provider, client: &client, now: Timestamp::from_secs(0) }, &scopes, &http).await;
    (seen.into_inner().unwrap().unwrap(), authorized.map_err(Rejection::from))
}

async fn polled(provider: &Provider, status: u16, answer: Value) -> (HttpRequest, Polled) {
    let (client, seen) = (client(), Mutex::new(None));
    let http = |request: HttpRequest| {
        *seen.lock().unwrap() = Some(request);
        answered(status, &answer)
    };
    let polled =
        poll(As { provider, client: &client, now: Timestamp::from_secs(0) }, &DeviceCode::new("d1").unwrap(), &http)
            .await;
    (seen.into_inner().unwrap().unwrap(), polled)
}

#[tokio::test]
async fn a_code_is_asked_for_with_the_scopes_and_read() {
    let mut provider = provider();
    provider.authorize.offline_scope = Some("offline_access".parse().unwrap());
    let (request, authorized) = asked(&provider, granted()).await;
    assert_eq!(request.uri(), "https://as.example/device");
    assert_eq!(form(&request)["scope"], "gist offline_access repo");
    assert_eq!(form(&request)["client_secret"], "s 1");
    assert!(!form(&request).contains_key("redirect_uri"));
    let authorized = authorized.unwrap();
    assert_eq!((authorized.user_code.as_str(), authorized.device_code.expose()), ("WDJB-MJHT", "d1"));
    assert_eq!((authorized.expires_in, authorized.interval), (Duration::from_secs(900), INTERVAL_DEFAULT));
    assert!(authorized.verification_uri_complete.is_some());
}

#[tokio::test]
async fn each_request_proves_the_client_as_the_definition_says() {
    let mut provider = provider();
    provider.device.request_auth = Some(ClientAuth::None);
    provider.device.poll_auth = Some(ClientAuth::Basic);
    let (request, _) = asked(&provider, granted()).await;
    assert!(!form(&request).contains_key("client_secret") && form(&request)["client_id"] == "me");
    let (request, _) = polled(&provider, 400, json!({"error": "authorization_pending"})).await;
    assert_eq!(request.headers()[AUTHORIZATION], "Basic bWU6cysx");
    assert!(!form(&request).contains_key("client_id"));
    assert_eq!((form(&request)["grant_type"].as_str(), form(&request)["device_code"].as_str()), (GRANT_TYPE, "d1"));
}

#[tokio::test]
async fn an_answer_that_a_person_cannot_use_is_no_answer() {
    let mut google = provider();
    google.device.verification_uri = vec!["/verification_url".parse().unwrap()];
    assert!(matches!(asked(&google, granted()).await.1, Err(Rejection::Ambiguous(_))));
    for (member, value) in [
        ("device_code", json!("")),
        ("user_code", json!("a\u{1b}[2Jb")),
        ("user_code", json!("x".repeat(65))),
        ("verification_uri", json!("http://as.example/enter")),
        ("verification_uri", json!("javascript:alert(1)")),
        ("expires_in", json!("soon")),
    ] {
        let mut answer = granted();
        answer[member] = value;
        let (_, authorized) = asked(&provider(), answer).await;
        assert!(matches!(authorized, Err(Rejection::Ambiguous(_))), "{member}: {authorized:?}");
    }
}

#[tokio::test]
async fn an_interval_is_believed_within_limits() {
    for (interval, expected) in [(json!(null), 5), (json!("8"), 8), (json!(0), 1), (json!(1e9), 300)] {
        let mut answer = granted();
        answer["interval"] = interval;
        assert_eq!(asked(&provider(), answer).await.1.unwrap().interval, Duration::from_secs(expected));
    }
}

#[tokio::test]
async fn every_answer_to_a_poll_is_named_for_what_happens_next() {
    // GitHub answers errors with status 200, Google with 428 and 403, Microsoft with words of its own.
    for (status, answer, expected) in [
        (400, json!({"error": "authorization_pending"}), "Pending"),
        (200, json!({"error": "authorization_pending"}), "Pending"),
        (428, json!({"error": "authorization_pending"}), "Pending"),
        (400, json!({"error": "slow_down"}), "SlowDown { interval: None }"),
        (200, json!({"error": "slow_down", "interval": 10}), "SlowDown { interval: Some(10s) }"),
        (403, json!({"error": "slow_down"}), "SlowDown { interval: None }"),
        (400, json!({"error": "expired_token"}), "Expired"),
        (400, json!({"error": "invalid_grant"}), "Expired"),
        (403, json!({"error": "access_denied"}), "Denied"),
        (
            401,
            json!({"error": "invalid_client"}),
            "Refused(Refused { rejection: Registration { code: Code(\"invalid_client\") }, hint: None, claims: None })",
        ),
        (503, json!({}), "Later { after: None }"),
        (502, json!({}), "Unanswered(\"an answer that is neither a token nor an error\")"),
        (200, json!({}), "Unanswered(\"an answer without an access token\")"),
        (200, json!([1]), "Unanswered(\"an answer that is neither a token nor an error\")"),
    ] {
        let (_, polled) = polled(&provider(), status, answer.clone()).await;
        assert_eq!(format!("{polled:?}"), expected, "{status} {answer}");
    }
    let (_, polled) = polled(&provider(), 200, json!({"access_token": "a"})).await;
    assert!(matches!(polled, Polled::Tokens(_)), "{polled:?}");
}

#[tokio::test]
async fn silence_is_told_from_what_may_never_be_sent() {
    let (provider, client) = (provider(), client());
    for (error, expected) in [
        (TransportError::Lost("reset"), "Unanswered(\"reset\")"),
        (TransportError::Unsent("no connection"), "Unanswered(\"no connection\")"),
        (
            TransportError::NotAllowed,
            "Refused(Refused { rejection: Unsent(\"not an address of this provider\"), hint: None, claims: None })",
        ),
    ] {
        let http = move |_: HttpRequest| -> Answer<'static> { Box::pin(std::future::ready(Err(error.clone()))) };
        let polled = poll(
            As { provider: &provider, client: &client, now: Timestamp::from_secs(0) },
            &DeviceCode::new("d").unwrap(),
            &http,
        )
        .await;
        assert_eq!(format!("{polled:?}"), expected);
    }
}
