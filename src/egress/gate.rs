//! The gate between a connection that stands and the first byte on it: a layer around the HTTP client's connector.
//!
//! The gate of a request travels in a task-local, because the connector sees an address and nothing of the request. It works
//! since the client dials within the future that sends. If that ever changed, the connector would find no gate, and a
//! connector without a gate gives no connection: nothing is sent by accident.

use std::cell::Cell;
use std::error::Error;
use std::future::Future;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    static GATE: Cell<Option<Barrier>>;
}

/// The connector's side of a gate.
struct Barrier {
    reached: oneshot::Sender<()>,
    opened: oneshot::Receiver<()>,
}

/// The sender's side of a gate. Dropped, it never opens.
pub(super) struct Gate {
    reached: oneshot::Receiver<()>,
    opener: oneshot::Sender<()>,
}

impl Gate {
    /// Waits until the connection stands. False if there will be none.
    pub(super) async fn reached(&mut self) -> bool {
        (&mut self.reached).await.is_ok()
    }

    /// Lets the request go.
    pub(super) fn open(self) {
        // Nobody waits there any more: the exchange tells why.
        let _ = self.opener.send(());
    }
}

/// Puts a gate before the first connection that `exchange` makes. It gets no second one.
pub(super) fn before<F: Future>(exchange: F) -> (impl Future<Output = F::Output>, Gate) {
    let (reached, on_reached) = oneshot::channel();
    let (opener, opened) = oneshot::channel();
    let barrier = Barrier { reached, opened };
    (GATE.scope(Cell::new(Some(barrier)), exchange), Gate { reached: on_reached, opener })
}

/// Makes every connection wait at the gate of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct GateLayer;

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, connector: S) -> Gated<S> {
        Gated { connector }
    }
}

/// A connector behind gates.
#[derive(Clone, Debug)]
pub(super) struct Gated<S> {
    connector: S,
}

/// There was no gate, or it did not open.
#[derive(Debug, thiserror::Error)]
#[error("the gate is closed")]
struct Closed;

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, A> Service<A> for Gated<S>
where
    S: Service<A, Error = BoxError>,
    S::Response: Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, address: A) -> Self::Future {
        let barrier = GATE.try_with(Cell::take).ok().flatten();
        let dialling = self.connector.call(address);
        Box::pin(async move {
            let Some(barrier) = barrier else { return Err(Closed.into()) };
            let connection = dialling.await?;
            barrier.reached.send(()).map_err(|()| Closed)?;
            barrier.opened.await.map_err(|_| Closed)?;
            Ok(connection)
        })
    }
}
