//! Taking a grant back at the provider (RFC 7009, or what the provider has instead).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use oauth2::{HttpRequest, HttpResponse};
use serde_json::Value;

use crate::model::provider::rules::{Encoding, ErrorClass, TokenKind};
use crate::model::provider::{Provider, Revoke, RevokeAuth, RevokeMethod};
use crate::model::secret::{AccessToken, RefreshToken};
use crate::oauth::exchange::As;
use crate::oauth::rejection::{self, Refusal};
use crate::oauth::transport::{Transport, TransportError};
use crate::oauth::{answer, assertion, quirk};

/// What became of a revocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// The provider did not know the token any more.
    Gone,
    /// The provider could not be asked, or not now: later. To ask twice does no harm.
    Later,
    /// The provider refused for good: a person can do it by hand.
    Refused,
    /// The provider said that it is gone.
    Yes,
}

/// Revokes one grant as the rules say.
pub async fn revoke(
    whom: As<'_>,
    rules: &Revoke,
    access: &AccessToken,
    refresh: Option<&RefreshToken>,
    http: &Transport<'_>,
) -> Revoked {
    let token = match (rules.token, refresh) {
        (TokenKind::Refresh, Some(refresh)) => refresh.expose(),
        _ => access.expose(),
    };
    let Some(request) = request(whom, rules, token) else {
        return Revoked::Refused;
    };
    match http(request).await {
        Ok(response) => outcome(whom.provider, rules, &response),
        Err(TransportError::NotAllowed) => Revoked::Refused,
        Err(TransportError::Lost(_) | TransportError::NotPermitted | TransportError::Unsent(_)) => Revoked::Later,
    }
}

/// Whether it is the access token that is shown to the provider, which may not know one that has died.
#[must_use]
pub fn shows_access(rules: &Revoke, has_refresh: bool) -> bool {
    rules.token == TokenKind::Access || !has_refresh
}

fn outcome(provider: &Provider, rules: &Revoke, response: &HttpResponse) -> Revoked {
    let status = response.status();
    let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    if rules.ok_http.contains(&status.as_u16()) && answer::holds(provider.response.ok_when.as_ref(), &body) {
        return Revoked::Yes;
    }
    let code = quirk::first_word(&provider.response.error, &body);
    let sub = quirk::first_word(&provider.response.error_sub, &body);
    if rules.gone_http.contains(&status.as_u16())
        || code.is_some_and(|code| rules.gone_code.iter().any(|it| it == code))
    {
        return Revoked::Gone;
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Revoked::Later;
    }
    let refusal = Refusal { status, headers: response.headers(), code, sub };
    match rejection::class_of(provider, &refusal) {
        Some(ErrorClass::Transient) => Revoked::Later,
        _ => Revoked::Refused,
    }
}

fn request(whom: As<'_>, rules: &Revoke, token: &str) -> Option<HttpRequest> {
    let mut members: Vec<(String, String)> =
        rules.body.iter().map(|(name, value)| (name.clone(), value.replace("{token}", token))).collect();
    let secret = whom.client.secret.as_ref();
    let mut request = http::Request::builder()
        .method(match rules.method {
            RevokeMethod::Delete => Method::DELETE,
            RevokeMethod::Post => Method::POST,
        })
        .uri(rules.url.as_str())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "grantd");
    let credential = match rules.auth {
        RevokeAuth::Basic => {
            let part = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", part(&whom.client.id), part(secret.map_or("", |secret| secret.expose())));
            Some(format!("Basic {}", STANDARD.encode(pair)))
        }
        RevokeAuth::Bearer => Some(format!("Bearer {token}")),
        RevokeAuth::None => None,
        RevokeAuth::Post => {
            members.push(("client_id".to_owned(), whom.client.id.clone()));
            members.extend(secret.map(|secret| ("client_secret".to_owned(), secret.expose().to_owned())));
            members.extend(
                assertion::params(whom, whom.provider.client_auth)
                    .ok()?
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value)),
            );
            None
        }
    };
    if let Some(credential) = credential {
        let mut credential = HeaderValue::from_str(&credential).ok()?;
        credential.set_sensitive(true);
        request = request.header(AUTHORIZATION, credential);
    }
    let (kind, body) = match rules.encoding {
        Encoding::Form => (
            "application/x-www-form-urlencoded",
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&members).finish(),
        ),
        Encoding::Json => {
            let members = members.into_iter().map(|(name, value)| (name, Value::String(value)));
            ("application/json", Value::Object(members.collect()).to_string())
        }
    };
    request.header(CONTENT_TYPE, kind).body(body.into_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::Client;
    use crate::model::provider::RevokeReach;
    use crate::model::provider::rules::ErrorRule;
    use crate::model::time::Timestamp;
    use crate::oauth::quirk::tests::plain_provider;
    use crate::oauth::transport::Answer;

    /// RFC 7009, and what a provider may have besides.
    fn rules() -> Revoke {
        Revoke {
            method: RevokeMethod::Post,
            url: "https://as.example/revoke".parse().unwrap(),
            auth: RevokeAuth::Post,
            encoding: Encoding::Form,
            body: [("token".to_owned(), "{token}".to_owned())].into(),
            token: TokenKind::Refresh,
            ok_http: vec![200],
            gone_http: vec![404],
            gone_code: vec!["token_revoked".to_owned()],
            reach: RevokeReach::Grant,
            takes: None,
        }
    }

    async fn made_of(answer: Result<(u16, &'static str), TransportError>) -> Revoked {
        let mut provider = plain_provider();
        provider.errors = vec![ErrorRule {
            code: vec!["busy".to_owned()],
            sub: Vec::new(),
            http: Vec::new(),
            class: ErrorClass::Transient,
        }];
        let client = Client { id: "id".to_owned(), secret: None, key: None };
        let http = |_: HttpRequest| -> Answer<'_> {
            let answered = answer
                .clone()
                .map(|(status, body)| http::Response::builder().status(status).body(body.as_bytes().to_vec()).unwrap());
            Box::pin(std::future::ready(answered))
        };
        let whom = As { provider: &provider, client: &client, now: Timestamp::default() };
        revoke(whom, &rules(), &AccessToken::new("at").unwrap(), None, &http).await
    }

    #[tokio::test]
    async fn an_answer_means_done_gone_refused_or_later() {
        use Revoked::{Gone, Later, Refused, Yes};
        for (answer, expected) in [
            (Ok((200, "")), Yes),
            (Ok((404, "")), Gone),
            (Ok((400, r#"{"error":"token_revoked"}"#)), Gone),
            (Ok((400, r#"{"error":"invalid_client"}"#)), Refused),
            (Ok((400, r#"{"error":"unsupported_token_type"}"#)), Refused),
            (Ok((401, "")), Refused),
            (Ok((302, "")), Refused),
            (Ok((204, "")), Refused),
            (Ok((400, r#"{"error":"busy"}"#)), Later),
            (Ok((400, r#"{"error":"temporarily_unavailable"}"#)), Later),
            (Ok((429, "")), Later),
            (Ok((503, "<html>")), Later),
            (Err(TransportError::Lost("reset")), Later),
            (Err(TransportError::Unsent("no connection")), Later),
            (Err(TransportError::NotPermitted), Later),
            (Err(TransportError::NotAllowed), Refused),
        ] {
            assert_eq!(made_of(answer.clone()).await, expected, "{answer:?}");
        }
    }

    #[test]
    fn the_token_that_is_shown_is_the_one_that_the_rules_name_if_it_is_there() {
        let refresh = rules();
        let access = Revoke { token: TokenKind::Access, ..rules() };
        assert!(!shows_access(&refresh, true) && shows_access(&refresh, false));
        assert!(shows_access(&access, true) && shows_access(&access, false));
    }
}
