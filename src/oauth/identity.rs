//! Which account a grant belongs to: told by the token response, by a verified ID token, or by an API.

use http::header::{ACCEPT, AUTHORIZATION, HeaderValue, USER_AGENT};
use oauth2::{HttpRequest, HttpResponse};
use serde_json::Value;
use url::Url;

use crate::model::connection::Account;
use crate::model::provider::{IdentitySource, Provider};
use crate::model::time::Timestamp;
use crate::oauth::answer::TokenAnswer;
use crate::oauth::id_token::{self, Expected, IdTokenError};
use crate::oauth::quirk;
use crate::oauth::transport::{Transport, TransportError};

/// Why the account is not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// The answer does not name an account.
    #[error("the provider named no account")]
    Absent,
    /// The ID token is missing or not believed.
    #[error("the ID token {0}")]
    IdToken(#[from] IdTokenError),
    /// The provider did not answer the question, or not with an account.
    #[error("the provider did not tell the account: {0}")]
    Unanswered(&'static str),
}

/// What the identity is asked with.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// Our client id, the audience of an ID token.
    pub client_id: &'a str,
    /// The nonce that was sent, if any.
    pub nonce: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// The longest name of an account that is kept, in characters.
const NAME_MAX: usize = 256;

/// Finds the account that a token response belongs to.
///
/// # Errors
/// If it is not told, or told by something that is not to be believed.
pub async fn of(asked: Asked<'_>, answer: &TokenAnswer, http: &Transport<'_>) -> Result<Account, IdentityError> {
    let told = match &asked.provider.identity.source {
        IdentitySource::Token => answer.body.0.clone(),
        IdentitySource::Http { url, headers } => {
            let bearer = format!("Bearer {}", answer.slots[0].access.expose());
            let mut request = get(url);
            if let Ok(mut bearer) = HeaderValue::from_str(&bearer) {
                bearer.set_sensitive(true);
                request.headers_mut().insert(AUTHORIZATION, bearer);
            }
            for (name, value) in quirk::headers(&headers.iter().cloned().collect()) {
                request.headers_mut().insert(name, value);
            }
            json(http(request).await)?
        }
        IdentitySource::IdToken(rules) => {
            let token = answer.body.0.get("id_token").and_then(Value::as_str).ok_or(IdentityError::Absent)?;
            let jwks = asked.provider.endpoints.jwks.as_ref().ok_or(IdTokenError::Keys)?;
            let keys = body(http(get(jwks)).await)?;
            let expected = Expected {
                issuer: &asked.provider.issuer,
                rules,
                client_id: asked.client_id,
                nonce: asked.nonce,
                now: asked.now,
            };
            id_token::verify(token, &keys, &expected)?
        }
    };
    account(asked.provider, &told).ok_or(IdentityError::Absent)
}

/// The account that a JSON value tells of; `None` without an id.
#[must_use]
pub fn account(provider: &Provider, told: &Value) -> Option<Account> {
    let id = provider.identity.account_id.fill(told).filter(|id| !id.trim_matches(':').is_empty())?;
    let name = provider.identity.display.fill(told).map(|name| clean(&name)).filter(|name| !name.is_empty());
    let id = clean(&id);
    Some(Account { name: name.unwrap_or_else(|| id.clone()), id })
}

/// Without control and direction characters, which could fake a line in a log or turn a name around on a page.
fn clean(text: &str) -> String {
    let direction = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    text.chars().filter(|c| !c.is_control() && !direction(*c)).take(NAME_MAX).collect()
}

fn get(url: &Url) -> HttpRequest {
    let mut request = http::Request::new(Vec::new());
    *request.uri_mut() = url.as_str().parse().unwrap_or_default();
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("grantd"));
    request
}

fn body(answer: Result<HttpResponse, TransportError>) -> Result<Vec<u8>, IdentityError> {
    let response = answer.map_err(|_| IdentityError::Unanswered("no answer"))?;
    if !response.status().is_success() {
        return Err(IdentityError::Unanswered("an error status"));
    }
    Ok(response.into_body())
}

fn json(answer: Result<HttpResponse, TransportError>) -> Result<Value, IdentityError> {
    serde_json::from_slice(&body(answer)?).map_err(|_| IdentityError::Unanswered("not JSON"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::quirk::tests::plain_provider;

    #[test]
    fn an_account_needs_an_id_and_may_lack_a_name() {
        let provider = plain_provider();
        let told = |value: Value| account(&provider, &value).map(|account| (account.id, account.name));
        let pair = |id: &str, name: &str| Some((id.to_owned(), name.to_owned()));
        assert_eq!(told(json!({"user": {"id": 7, "name": "ada"}})), pair("7", "ada"));
        assert_eq!(told(json!({"user": {"id": "7", "name": null}})), pair("7", "7"));
        assert_eq!(told(json!({"user": {"name": "ada"}})), None);
        assert_eq!(told(json!({"user": {"id": ""}})), None);
        assert_eq!(told(json!("text")), None);
    }

    #[test]
    fn a_name_cannot_turn_the_line_around() {
        let hostile = json!({"user": {"id": 7, "name": "a\u{202e}b\nc\u{0}"}});
        assert_eq!(account(&plain_provider(), &hostile).unwrap().name, "abc");
    }
}
