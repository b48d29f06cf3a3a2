//! The only way out to the network: https only, no redirects, no retries, known hosts, bounded answers, deadlines.
//!
//! A request goes in three steps, each with a deadline of its own: dial (name, TCP, TLS), ask for the permit while the
//! connection is held, and exchange. Until the permit is given not a byte of the request is written, so a provider that cannot
//! be reached costs nothing that would have to be undone.

mod gate;
#[cfg(test)]
mod tests;

use std::future::{Future, ready};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use oauth2::{HttpRequest, HttpResponse};
use reqwest::redirect;
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use crate::egress::gate::GateLayer;
use crate::model::provider::Provider;
use crate::oauth::transport::{ANSWER_MAX, Answer, EXCHANGE_DEADLINE, PERMIT_DEADLINE, TransportError};

/// How long making a connection may take: name, TCP and TLS.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How much a provider may send over HTTP/2 before it is read, in bytes.
const HTTP2_WINDOW: u32 = 256 * 1024;

/// The way out.
#[derive(Clone, Debug)]
pub struct Egress {
    client: reqwest::Client,
    deadlines: Deadlines,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    connect: Duration,
    permit: Duration,
    exchange: Duration,
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
            .connector_layer(GateLayer)
            .http2_initial_stream_window_size(HTTP2_WINDOW)
            .http2_initial_connection_window_size(HTTP2_WINDOW)
            // A kept connection may be dead, and then nobody can tell whether the request arrived. A refresh token that
            // can be spent once is worth a handshake. The gate relies on it too: without a pool, hyper dials in our own task.
            .pool_max_idle_per_host(0)
            .build()?;
        let deadlines = Deadlines { connect: CONNECT_DEADLINE, permit: PERMIT_DEADLINE, exchange: EXCHANGE_DEADLINE };
        Ok(Self { client, deadlines })
    }

    /// The way to one provider.
    pub fn to<'a>(&'a self, provider: &'a Provider) -> impl Fn(HttpRequest) -> Answer<'a> + Send + Sync + 'a {
        move |request| Box::pin(self.send(provider, request))
    }

    /// The way to one provider for one request that needs a permit, as [`send_when`](Self::send_when) has it. There is one
    /// permit: a second request is not sent.
    pub fn to_when<'a>(
        &'a self,
        provider: &'a Provider,
        permit: impl Future<Output = bool> + Send + 'a,
    ) -> impl Fn(HttpRequest) -> Answer<'a> + Send + Sync + 'a {
        let permit: Mutex<Option<BoxFuture<'a, bool>>> = Mutex::new(Some(Box::pin(permit)));
        move |request| {
            let permit = permit.lock().unwrap_or_else(PoisonError::into_inner).take();
            Box::pin(async move {
                let permit = permit.ok_or(TransportError::NotPermitted)?;
                self.send_when(provider, request, permit).await
            })
        }
    }

    /// Sends a request to one of the provider's own endpoints, once.
    ///
    /// # Errors
    /// A [`TransportError`], which tells whether the provider can have seen the request.
    pub async fn send(&self, provider: &Provider, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        self.send_when(provider, request, ready(true)).await
    }

    /// Sends a request to one of the provider's own endpoints, once, if `permit` comes out true. It runs when the connection
    /// stands, TLS included, and is never run if there is none. When it ends is the earliest moment at which a byte of the
    /// request can leave; whoever counts from sending reads the clock as the last thing in there.
    ///
    /// # Errors
    /// A [`TransportError`], which tells whether the provider can have seen the request: `NotPermitted` if the permit came out
    /// false, `Unsent` if there was no connection or the permit took longer than [`PERMIT_DEADLINE`], `Lost` for everything
    /// after that.
    pub async fn send_when(
        &self,
        provider: &Provider,
        request: HttpRequest,
        permit: impl Future<Output = bool> + Send,
    ) -> Result<HttpResponse, TransportError> {
        let url: Url = request.uri().to_string().parse().map_err(|_| TransportError::NotAllowed)?;
        if !is_allowed(provider, &url) {
            return Err(TransportError::NotAllowed);
        }
        failpoint_async!("egress.dial", Err(TransportError::Unsent("failpoint")));
        let (exchange, mut gate) = gate::before(self.exchange(url, request));
        let mut exchange = pin!(exchange);
        let dialling = async {
            tokio::select! {
                biased;
                ended = &mut exchange => Err(ended.err()),
                stands = gate.reached() => if stands { Ok(()) } else { Err(None) },
            }
        };
        match timeout(self.deadlines.connect, dialling).await {
            Ok(Ok(())) => {}
            Ok(Err(Some(Broken::Http(error)))) if error.is_builder() => {
                return Err(TransportError::Unsent("not a request"));
            }
            Ok(Err(_)) => return Err(TransportError::Unsent("no connection")),
            Err(_) => return Err(TransportError::Unsent("no connection in time")),
        }
        let held_since = Instant::now();
        if !permit.await {
            return Err(TransportError::NotPermitted);
        }
        if held_since.elapsed() > self.deadlines.permit {
            return Err(TransportError::Unsent("the connection was held too long"));
        }
        gate.open();
        match timeout(self.deadlines.exchange, exchange).await {
            Ok(answered) => answered.map_err(|broken| TransportError::Lost(broken.as_str())),
            Err(_) => Err(TransportError::Lost("no answer in time")),
        }
    }

    async fn exchange(&self, url: Url, request: HttpRequest) -> Result<HttpResponse, Broken> {
        let (parts, body) = request.into_parts();
        let mut answer = self.client.request(parts.method, url).headers(parts.headers).body(body).send().await?;
        failpoint_async!("egress.answer", Err(Broken::Struck));
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(Broken::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        failpoint_async!("egress.body", Err(Broken::Struck));
        let mut response = http::Response::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// Why an exchange ended without an answer.
enum Broken {
    Http(reqwest::Error),
    #[cfg(feature = "failpoints")]
    Struck,
    TooLarge,
}

impl Broken {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Http(_) => "the connection broke",
            #[cfg(feature = "failpoints")]
            Self::Struck => "failpoint",
            Self::TooLarge => "an answer larger than any token response",
        }
    }
}

impl From<reqwest::Error> for Broken {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error)
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
