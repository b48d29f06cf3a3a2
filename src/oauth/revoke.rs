//! Taking a grant back at the provider (RFC 7009, or what the provider has instead).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use oauth2::{HttpRequest, HttpResponse};
use serde_json::Value;

use crate::model::provider::rules::{Encoding, TokenKind};
use crate::model::provider::{Revoke, RevokeAuth, RevokeMethod};
use crate::model::secret::{AccessToken, RefreshToken};
use crate::oauth::exchange::As;
use crate::oauth::transport::{Transport, TransportError};
use crate::oauth::{answer, assertion};

/// What became of a revocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// The provider said that it is gone.
    Yes,
    /// The provider refused for good, or has no way: a person can do it by hand.
    No,
    /// The provider could not be asked: later.
    Later,
}

/// Revokes one grant as the definition says.
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
        return Revoked::No;
    };
    match http(request).await {
        Ok(response) => outcome(whom, rules, &response),
        Err(TransportError::NotAllowed) => Revoked::No,
        Err(TransportError::Lost(_) | TransportError::NotPermitted | TransportError::Unsent(_)) => Revoked::Later,
    }
}

fn outcome(whom: As<'_>, rules: &Revoke, response: &HttpResponse) -> Revoked {
    let status = response.status();
    if rules.ok_http.contains(&status.as_u16()) {
        let condition = whom.provider.response.ok_when.as_ref();
        let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        let fine = condition.is_none() || answer::holds(condition, &body);
        return if fine { Revoked::Yes } else { Revoked::No };
    }
    if status.is_server_error() || status.as_u16() == 429 {
        return Revoked::Later;
    }
    Revoked::No
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
            members.extend(assertion::params(whom).ok()?.into_iter().map(|(name, value)| (name.to_owned(), value)));
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
