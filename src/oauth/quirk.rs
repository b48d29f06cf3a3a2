//! Turns our standard requests into what a provider wants, and its answers into what RFC 6749 says, as its definition tells.

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use oauth2::{HttpRequest, HttpResponse};
use serde_json::Value;
use zeroize::Zeroize as _;

use crate::model::provider::Provider;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::refusals::ResponseFormat;
use crate::model::provider::rules::{Encoding, Params};
use crate::oauth::refused::Refused;
use crate::oauth::rejection::{Refusal, classify};
use crate::oauth::{answer, json};

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

/// The body of a successful answer, whatever it was written in.
///
/// # Errors
/// If it is none: the rejection that the definition makes of it, and what else it says.
pub fn incoming(provider: &Provider, response: &HttpResponse) -> Result<Value, Refused> {
    let refusal = |code, sub| Refusal { status: response.status(), headers: response.headers(), code, sub };
    let Some(body) = body(provider, response) else {
        return Err(classify(provider, &refusal(None, None)).into());
    };
    if response.status() == StatusCode::OK && is_success(provider, &body) {
        return Ok(body);
    }
    let (code, sub) = (first_word(&provider.response.error, &body), first_word(&provider.response.error_sub, &body));
    Err(Refused::read(provider, classify(provider, &refusal(code, sub)), &body))
}

/// What the body says; nothing if it cannot be read in one way only.
pub(super) fn body(provider: &Provider, response: &HttpResponse) -> Option<Value> {
    json::read(response.body()).or_else(|| match provider.response.format {
        ResponseFormat::Auto => form(response),
        ResponseFormat::Json => None,
    })
}

/// A form, if that is what the answer says it is. A page of a proxy never is.
fn form(response: &HttpResponse) -> Option<Value> {
    let kind = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let text = std::str::from_utf8(response.body()).ok()?;
    let mut members = serde_json::Map::new();
    for (name, value) in url::form_urlencoded::parse(text.trim_end().as_bytes()) {
        if members.insert(name.into_owned(), Value::String(value.into_owned())).is_some() {
            return None;
        }
    }
    (!members.is_empty()).then_some(Value::Object(members))
}

/// Whether the body is a token response and no error in disguise: some providers answer errors with status 200.
pub(super) fn is_success(provider: &Provider, body: &Value) -> bool {
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
    use crate::model::provider::assertion::AssertionRules;
    use crate::model::provider::rules::{
        Api, AuthorizeRules, DeviceRules, IssuerRules, Match, Presets, RedirectRules, RefreshRules, ResponseRules,
        ScopeRules, SlotPlace, SlotRule, TokenRules,
    };
    use crate::model::provider::{ClientKind, Endpoints, Identity, IdentitySource};
    use crate::oauth::rejection::Rejection;

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
            assertion: AssertionRules::default(),
            pkce: true,
            authorize: AuthorizeRules::default(),
            redirect: RedirectRules::default(),
            device: DeviceRules::default(),
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

    fn rejection(provider: &Provider, response: &HttpResponse) -> Option<Rejection> {
        incoming(provider, response).err().map(Rejection::from)
    }

    #[test]
    fn an_error_inside_a_200_is_an_error() {
        let provider = plain_provider();
        let response = answered(200, r#"{"error":"invalid_grant"}"#);
        assert!(matches!(rejection(&provider, &response), Some(Rejection::Consent { .. })));

        let mut slack = plain_provider();
        slack.response.ok_when = Some(Match { pointer: "/ok".parse().unwrap(), equals: Value::Bool(true) });
        let response = answered(200, r#"{"ok":false,"error":"invalid_grant"}"#);
        assert!(matches!(rejection(&slack, &response), Some(Rejection::Consent { .. })));
        assert!(incoming(&slack, &answered(200, r#"{"ok":true,"access_token":"x"}"#)).is_ok());
    }

    #[test]
    fn garbage_is_ambiguous_and_never_a_refusal() {
        let mut either = plain_provider();
        either.response.format = ResponseFormat::Auto;
        for provider in [plain_provider(), either] {
            for body in [
                "",
                "<html>",
                "{",
                "[]",
                "null",
                "7",
                "\u{feff}{}",
                "access_token=a",
                r#"{"access_token":"a","access_token":"b"}"#,
            ] {
                let rejection = rejection(&provider, &answered(200, body));
                assert!(matches!(rejection, Some(Rejection::Ambiguous(_))), "{body}: {rejection:?}");
            }
        }
    }

    #[test]
    fn a_form_is_read_where_the_definition_allows_it_and_the_answer_says_so() {
        let mut provider = plain_provider();
        let answer = |kind: &str, body: &str| {
            let mut answer = answered(200, body);
            answer.headers_mut().insert(CONTENT_TYPE, kind.parse().unwrap());
            answer
        };
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let good = answer(form, "access_token=a&scope=repo%2Cgist&token_type=bearer\n");
        assert!(matches!(rejection(&provider, &good), Some(Rejection::Ambiguous(_))), "only JSON is expected");

        provider.response.format = ResponseFormat::Auto;
        let read = serde_json::json!({"access_token": "a", "scope": "repo,gist", "token_type": "bearer"});
        assert_eq!(incoming(&provider, &good).unwrap(), read);
        let error = answer(form, "error=invalid_grant&error_description=x");
        assert!(matches!(rejection(&provider, &error), Some(Rejection::Consent { .. })));
        for (kind, body) in [
            ("text/html", "access_token=a"),
            (form, "access_token=a&access_token=b"),
            (form, ""),
            ("application/json", "access_token=a"),
        ] {
            let rejection = rejection(&provider, &answer(kind, body));
            assert!(matches!(rejection, Some(Rejection::Ambiguous(_))), "{kind} {body}");
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
