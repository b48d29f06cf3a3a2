//! The only way out to the network: https only, no redirects, no retries, known hosts, bounded answers, deadlines.

use std::time::Duration;

use oauth2::{HttpRequest, HttpResponse};
use reqwest::redirect;
use url::{Host, Url};

use crate::model::provider::Provider;
use crate::oauth::transport::{ANSWER_MAX, Answer, EXCHANGE_DEADLINE, TransportError};

/// How long making a connection may take: name, TCP and TLS.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// The way out.
#[derive(Clone, Debug)]
pub struct Egress {
    client: reqwest::Client,
}

/// The way out failed to open: the system's trust store cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct EgressError(#[from] reqwest::Error);

impl Egress {
    /// Opens the way out.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes an HTTP client")]
    pub fn open() -> Result<Self, EgressError> {
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(EXCHANGE_DEADLINE)
            // A kept connection may be dead, and then nobody can tell whether the request arrived. A refresh token that
            // can be spent once is worth a handshake.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client })
    }

    /// The way to one provider.
    pub fn to<'a>(&'a self, provider: &'a Provider) -> impl Fn(HttpRequest) -> Answer<'a> + Send + Sync + 'a {
        move |request| Box::pin(self.send(provider, request))
    }

    /// Sends a request to one of the provider's own endpoints, once.
    ///
    /// # Errors
    /// A [`TransportError`], which tells whether the provider can have seen the request.
    pub async fn send(&self, provider: &Provider, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let url: Url = request.uri().to_string().parse().map_err(|_| TransportError::NotAllowed)?;
        if !is_allowed(provider, &url) {
            return Err(TransportError::NotAllowed);
        }
        let (parts, body) = request.into_parts();
        let sent = self.client.request(parts.method, url).headers(parts.headers).body(body).send().await;
        let mut answer = sent.map_err(|error| failure(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(TransportError::Lost("an answer larger than any token response"));
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = http::Response::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// Whether the address has the scheme, host and port of one of the provider's endpoints, over TLS or on loopback.
fn is_allowed(provider: &Provider, url: &Url) -> bool {
    is_safe(url) && provider.hosts().any(|endpoint| endpoint.origin() == url.origin())
}

/// TLS, or no network at all (RFC 6749 section 3.2, RFC 8252 section 8.3).
#[must_use]
pub fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        },
        _ => false,
    }
}

/// Without a connection nothing was sent; with one it cannot be told.
fn failure(error: &reqwest::Error) -> TransportError {
    if error.is_connect() {
        return TransportError::Unsent("no connection");
    }
    if error.is_builder() {
        return TransportError::Unsent("not a request");
    }
    TransportError::Lost(if error.is_timeout() { "no answer in time" } else { "the connection broke" })
}
