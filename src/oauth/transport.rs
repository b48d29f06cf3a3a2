//! How a request is sent, and how that can fail: sorted by the one question that matters, can the provider have seen it?

use std::time::Duration;

use futures_util::future::BoxFuture;
use oauth2::{HttpRequest, HttpResponse};

/// Sends one request to one provider, once. The daemon's is `Egress::to`, a unit test's is a closure.
pub type Transport<'a> = dyn Fn(HttpRequest) -> Answer<'a> + Send + Sync + 'a;

/// What comes of sending a request.
pub type Answer<'a> = BoxFuture<'a, Result<HttpResponse, TransportError>>;

/// Why there is no response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TransportError {
    /// The request may have arrived, and the answer did not: whatever it asked for may have happened.
    #[error("the answer was lost: {0}")]
    Lost(&'static str),
    /// The definition does not allow this address. Nothing was sent.
    #[error("not an address of this provider")]
    NotAllowed,
    /// The connection stood, and whoever had to permit the request did not. Nothing was sent.
    #[error("not permitted")]
    NotPermitted,
    /// There was no connection to send on. Nothing was sent.
    #[error("not sent: {0}")]
    Unsent(&'static str),
}

/// The longest an exchange may take, from the moment the request may leave to the last byte of the answer. What comes before
/// has deadlines of its own, so that a slow handshake or a slow disk takes nothing from the time the provider has to answer.
pub const EXCHANGE_DEADLINE: Duration = Duration::from_secs(30);

/// The longest a connection that stands is held for a permit. After that the other side may have hung up, and sending would
/// turn something that never left into something that may have arrived.
pub const PERMIT_DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes.
pub const ANSWER_MAX: usize = 256 * 1024;
