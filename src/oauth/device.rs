//! The device flow (RFC 8628): asking for a code that a person enters on another device, and asking what came of it.
//!
//! Each is one request and one answer. When to ask again is decided in [`follow`].

pub mod follow;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use oauth2::{HttpRequest, HttpResponse};
use serde_json::Value;
use url::{Host, Url};

use crate::model::client::ClientAuth;
use crate::model::grant_type::GrantType;
use crate::model::id::SlotName;
use crate::model::provider::Provider;
use crate::model::provider::rules::ErrorClass;
use crate::model::scope::ScopeSet;
use crate::model::secret::DeviceCode;
use crate::oauth::answer::{self, TokenAnswer};
use crate::oauth::assertion;
use crate::oauth::authorize::{self, Authorization};
use crate::oauth::exchange::As;
use crate::oauth::quirk::{self, first_word, is_success};
use crate::oauth::refused::Refused;
use crate::oauth::rejection::{Refusal, Rejection, class_of, classify};
use crate::oauth::retry_after::RetryAfter;
use crate::oauth::transport::{Transport, TransportError};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// How long to wait between two polls when the provider does not say (section 3.2).
const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// The shortest and the longest interval that is believed.
const INTERVAL_BELIEVED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// No code is waited for longer. Google's live half an hour, which is the longest.
const LIFETIME_MAX: Duration = Duration::from_secs(1800);
/// The longest code that a person can be asked to type, in characters.
const USER_CODE_MAX: usize = 64;

/// What a device authorization response brought (section 3.2).
#[derive(Debug)]
pub struct DeviceAuthorization {
    /// What the tokens are asked for with.
    pub device_code: DeviceCode,
    /// What the person enters: visible ASCII.
    pub user_code: String,
    /// Where the person enters it.
    pub verification_uri: Url,
    /// The same with the code in it, for a QR code.
    pub verification_uri_complete: Option<Url>,
    /// How long both codes live from when the request was sent.
    pub expires_in: Duration,
    /// How long to wait between two polls at least.
    pub interval: Duration,
}

/// What a poll brought, named for what happens next (section 3.5).
#[derive(Debug)]
pub enum Polled {
    /// The person said no.
    Denied,
    /// The code is gone: start again.
    Expired,
    /// The provider has no time now: later, and not before `after` if it said so.
    Later {
        /// What the provider asked for.
        after: Option<RetryAfter>,
    },
    /// The person has not decided yet.
    Pending,
    /// It will never bring anything: our registration is wrong, or something has to be done at the provider.
    Refused(Refused),
    /// Not decided yet, and asked too often.
    SlowDown {
        /// The interval from now on, where the provider names it.
        interval: Option<Duration>,
    },
    /// The person said yes.
    Tokens(TokenAnswer),
    /// There was no answer, or none that makes sense: ask less often.
    Unanswered(&'static str),
}

/// Asks for a device code (section 3.1).
///
/// # Errors
/// A [`Refused`]; [`Rejection::Unsent`] if the provider has no device flow.
pub async fn authorize(
    whom: As<'_>,
    scopes: &BTreeMap<SlotName, ScopeSet>,
    http: &Transport<'_>,
) -> Result<DeviceAuthorization, Refused> {
    let provider = whom.provider;
    let endpoint = provider.endpoints.device.as_ref().ok_or(Rejection::Unsent("there is no device flow"))?;
    let asked = Authorization {
        provider,
        client_id: &whom.client.id,
        redirect_uri: "",
        scopes,
        reconsent: false,
        claims: None,
    };
    let members = authorize::scope_params(&asked);
    let auth = provider.device.request_auth.unwrap_or(provider.client_auth);
    let request = request(whom, endpoint, auth, members)?;
    let response = http(request).await.map_err(Rejection::from)?;
    let body = quirk::body(provider, &response).unwrap_or_default();
    if response.status().is_success() && is_success(provider, &body) {
        return read(provider, &body).ok_or_else(|| Rejection::Ambiguous("an answer without a device code").into());
    }
    Err(Refused::read(provider, classify(provider, &refusal(provider, &response, &body)), &body))
}

/// Asks once what the person decided (section 3.4).
pub async fn poll(whom: As<'_>, code: &DeviceCode, http: &Transport<'_>) -> Polled {
    let provider = whom.provider;
    let members =
        vec![("grant_type".to_owned(), GRANT_TYPE.to_owned()), ("device_code".to_owned(), code.expose().to_owned())];
    let auth = provider.token_auth(GrantType::DeviceCode);
    let request = match request(whom, &provider.endpoints.token, auth, members) {
        Ok(request) => request,
        Err(rejection) => return Polled::Refused(rejection.into()),
    };
    match http(request).await {
        Ok(response) => understood(provider, &response),
        Err(TransportError::Lost(why) | TransportError::Unsent(why)) => Polled::Unanswered(why),
        Err(error @ (TransportError::NotAllowed | TransportError::NotPermitted)) => {
            Polled::Refused(Rejection::from(error).into())
        }
    }
}

fn understood(provider: &Provider, response: &HttpResponse) -> Polled {
    let body = quirk::body(provider, response).unwrap_or_default();
    if response.status() == http::StatusCode::OK && is_success(provider, &body) {
        let tokens = answer::read(provider, body);
        return tokens.map_or(Polled::Unanswered("an answer without an access token"), Polled::Tokens);
    }
    let refusal = refusal(provider, response, &body);
    match class_of(provider, &refusal) {
        Some(ErrorClass::Denied) => Polled::Denied,
        Some(ErrorClass::Pending) => Polled::Pending,
        Some(ErrorClass::Reauth | ErrorClass::RestartLogin) => Polled::Expired,
        Some(ErrorClass::SlowDown) => {
            let interval = body.get("interval").and_then(answer::lifetime);
            Polled::SlowDown { interval: interval.map(believed) }
        }
        Some(
            ErrorClass::ClientOrGrant | ErrorClass::Misconfigured | ErrorClass::Transient | ErrorClass::UserAction,
        )
        | None => match classify(provider, &refusal) {
            Rejection::Retry { after } => Polled::Later { after },
            Rejection::Ambiguous(why) => Polled::Unanswered(why),
            rejection => Polled::Refused(Refused::read(provider, rejection, &body)),
        },
    }
}

fn refusal<'r>(provider: &Provider, response: &'r HttpResponse, body: &'r Value) -> Refusal<'r> {
    Refusal {
        status: response.status(),
        headers: response.headers(),
        code: first_word(&provider.response.error, body),
        sub: first_word(&provider.response.error_sub, body),
    }
}

fn read(provider: &Provider, body: &Value) -> Option<DeviceAuthorization> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let typed =
        |code: &&str| (1..=USER_CODE_MAX).contains(&code.len()) && code.bytes().all(|b| matches!(b, 0x21..=0x7e));
    let verification_uri = provider.device.verification_uri.iter().find_map(|pointer| pointer.find(body)?.as_str())?;
    let interval = body.get("interval").and_then(answer::lifetime).unwrap_or(INTERVAL_DEFAULT);
    Some(DeviceAuthorization {
        device_code: DeviceCode::new(text("device_code")?).ok()?,
        user_code: text("user_code").filter(typed)?.to_owned(),
        verification_uri: page(verification_uri)?,
        verification_uri_complete: text("verification_uri_complete").and_then(page),
        expires_in: body.get("expires_in").and_then(answer::lifetime)?.min(LIFETIME_MAX),
        interval: believed(interval),
    })
}

fn believed(interval: Duration) -> Duration {
    interval.clamp(INTERVAL_BELIEVED.0, INTERVAL_BELIEVED.1)
}

/// A page that a person can be sent to: over TLS, or on this machine.
fn page(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_here = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let is_fit = url.scheme() == "https" || (url.scheme() == "http" && is_here);
    is_fit.then_some(url)
}

/// A request of the client's as this provider wants it.
fn request(
    whom: As<'_>,
    to: &Url,
    auth: ClientAuth,
    mut members: Vec<(String, String)>,
) -> Result<HttpRequest, Rejection> {
    const NOT_A_REQUEST: Rejection = Rejection::Unsent("not a request");
    let secret = whom.client.secret.as_ref().map_or("", |secret| secret.expose());
    let mut request = http::Request::post(to.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if auth == ClientAuth::Basic {
        let part = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = STANDARD.encode(format!("{}:{}", part(&whom.client.id), part(secret)));
        let mut credential = HeaderValue::from_str(&format!("Basic {pair}")).map_err(|_| NOT_A_REQUEST)?;
        credential.set_sensitive(true);
        request = request.header(AUTHORIZATION, credential);
    } else {
        members.push(("client_id".to_owned(), whom.client.id.clone()));
    }
    match auth {
        ClientAuth::Basic | ClientAuth::None => {}
        ClientAuth::Post => members.push(("client_secret".to_owned(), secret.to_owned())),
        ClientAuth::PrivateKeyJwt => {
            members.extend(assertion::params(whom, auth)?.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
    }
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&members).finish();
    let request = request.body(body.into_bytes()).map_err(|_| NOT_A_REQUEST)?;
    Ok(quirk::outgoing(whom.provider, request))
}

#[cfg(test)]
mod tests;
