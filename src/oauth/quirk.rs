//! Turns our standard requests into what a provider wants, and its answers into what RFC 6749 says, as its definition tells.

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use oauth2::{HttpRequest, HttpResponse};
use serde_json::Value;
use zeroize::Zeroize as _;

use crate::model::provider::Provider;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::rules::{Encoding, Params};
use crate::oauth::answer;
use crate::oauth::rejection::{Refusal, Rejection, classify};

/// The request as this provider wants it.
#[must_use]
pub fn outgoing(provider: &Provider, mut request: HttpRequest) -> HttpRequest {
    for (name, value) in headers(&provider.token.headers) {
        request.headers_mut().insert(name, value);
    }
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    if provider.token.encoding == Encoding::Json {
        let json = json_from_form(request.body());
        request.body_mut().zeroize();
        *request.body_mut() = json;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request
}

/// The answer as the RFC would have it.
///
/// # Errors
/// If it is no token response: the rejection that the definition makes of it.
pub fn incoming(provider: &Provider, response: HttpResponse) -> Result<HttpResponse, Rejection> {
    let body: Option<Value> = serde_json::from_slice(response.body()).ok();
    let succeeded = response.status() == StatusCode::OK && body.as_ref().is_some_and(|body| is_success(provider, body));
    if !succeeded {
        let (code, sub) = match &body {
            Some(body) => (first_word(&provider.response.error, body), first_word(&provider.response.error_sub, body)),
            None => (None, None),
        };
        let refusal = Refusal { status: response.status(), headers: response.headers(), code, sub };
        return Err(classify(provider, &refusal));
    }
    let mut response = response;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Whether the body is a token response and no error in disguise: some providers answer errors with status 200.
fn is_success(provider: &Provider, body: &Value) -> bool {
    body.is_object()
        && answer::holds(provider.response.ok_when.as_ref(), body)
        && first_word(&provider.response.error, body).is_none()
}

pub(super) fn first_word<'v>(pointers: &[Pointer], body: &'v Value) -> Option<&'v str> {
    pointers.iter().find_map(|pointer| pointer.find(body)?.as_str())
}

/// A definition's headers, checked when it was loaded; one that is not a header is left out.
pub fn headers(params: &Params) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    params.iter().filter_map(|(name, value)| {
        Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?))
    })
}

fn json_from_form(form: &[u8]) -> Vec<u8> {
    let members: serde_json::Map<String, Value> = url::form_urlencoded::parse(form)
        .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
        .collect();
    Value::Object(members).to_string().into_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::client::ClientAuth;
    use crate::model::id::SlotName;
    use crate::model::provider::rules::{
        Api, AuthorizeRules, IssuerRules, Match, Presets, RedirectRules, RefreshRules, ResponseRules, ScopeRules,
        SlotPlace, SlotRule, TokenRules,
    };
    use crate::model::provider::{ClientKind, Endpoints, Identity, IdentitySource};

    pub(crate) fn plain_provider() -> Provider {
        let url = |path: &str| url::Url::parse(&format!("https://as.example/{path}")).unwrap();
        Provider {
            id: "plain".parse().unwrap(),
            definition: "plain".parse().unwrap(),
            name: "Plain".to_owned(),
            docs_url: None,
            setup_notes: Vec::new(),
            endpoints: Endpoints { authorize: url("authorize"), token: url("token"), device: None, jwks: None },
            issuer: IssuerRules { accept: vec!["https://as.example".to_owned()], ..IssuerRules::default() },
            client_auth: ClientAuth::Post,
            client_kind: ClientKind::Confidential,
            pkce: true,
            authorize: AuthorizeRules::default(),
            redirect: RedirectRules::default(),
            token: TokenRules::default(),
            response: ResponseRules::default(),
            slots: vec![SlotRule { name: SlotName::main(), places: vec![SlotPlace::default()] }],
            refresh: RefreshRules::default(),
            errors: Vec::new(),
            identity: Identity {
                source: IdentitySource::Token,
                account_id: "{/user/id}".parse().unwrap(),
                display: "{/user/name}".parse().unwrap(),
            },
            consent: crate::model::provider::ConsentRules::default(),
            revoke: None,
            revoke_wider: None,
            revoke_manual_url: None,
            scopes: ScopeRules::default(),
            presets: Presets::default(),
            api: Api::default(),
        }
    }

    fn answered(status: u16, body: &str) -> HttpResponse {
        http::Response::builder().status(status).body(body.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn an_error_inside_a_200_is_an_error() {
        let provider = plain_provider();
        let response = answered(200, r#"{"error":"invalid_grant"}"#);
        assert!(matches!(incoming(&provider, response), Err(Rejection::Consent { .. })));

        let mut slack = plain_provider();
        slack.response.ok_when = Some(Match { pointer: "/ok".parse().unwrap(), equals: Value::Bool(true) });
        let response = answered(200, r#"{"ok":false,"error":"invalid_grant"}"#);
        assert!(matches!(incoming(&slack, response), Err(Rejection::Consent { .. })));
        assert!(incoming(&slack, answered(200, r#"{"ok":true,"access_token":"x"}"#)).is_ok());
    }

    #[test]
    fn garbage_is_ambiguous_and_never_a_refusal() {
        for body in ["", "<html>", "{", "[]", "null", "7", "\u{feff}{}"] {
            let rejection = incoming(&plain_provider(), answered(200, body));
            assert!(matches!(rejection, Err(Rejection::Ambiguous(_))), "{body}: {rejection:?}");
        }
    }

    #[test]
    fn a_form_becomes_json_where_the_provider_wants_it() {
        let mut provider = plain_provider();
        provider.token.encoding = Encoding::Json;
        let request = http::Request::post("https://as.example/token")
            .body(b"grant_type=refresh_token&refresh_token=a%2Bb%20c".to_vec())
            .unwrap();
        let request = outgoing(&provider, request);
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body, serde_json::json!({"grant_type": "refresh_token", "refresh_token": "a+b c"}));
        assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
    }
}
