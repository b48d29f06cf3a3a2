//! The wire: connections, and bodies that can be slow, cut short or endless.
//!
//! A token counts as delivered when the kernel has taken the last byte of its answer. Hyper does not tell, so
//! the stream under it does: a body hands its parcel to the connection with its last frame, and the next flush that
//! succeeds after that is the proof.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::sandbox::answer::{Answer, Broken, Damage, Parcel, pace};
use crate::sandbox::machine::Machine;
use crate::sandbox::routes;

/// How long open requests may take when the sandbox stops.
const DRAIN: Duration = Duration::from_millis(500);
/// The pause after a failed accept, which is nearly always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What is sent before a cut has the time to arrive, else the reset could overtake it.
const BEFORE_CUT: Duration = Duration::from_millis(20);
const FILLER: &[u8] = &[b'x'; 16 * 1024];

/// Serves until `stop`, then gives open requests a moment.
pub(super) async fn serve(listener: TcpListener, machine: Arc<Machine>, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let hard_stop = CancellationToken::new();
    let _ends_connections = hard_stop.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (machine, out, hard_stop) = (Arc::clone(&machine), Outbox::default(), hard_stop.clone());
        let stream = Stream { inner: stream, out: out.clone() };
        let service = service_fn(move |request| answer(Arc::clone(&machine), out.clone(), request));
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                // An error is a client that left or a connection that the script broke.
                _ = connection => {}
                () = hard_stop.cancelled() => {}
            }
        });
    }
    drop(listener);
    let _ = timeout(DRAIN, graceful.shutdown()).await;
}

/// Answers on a task of its own: like a real provider, the sandbox finishes what it began when the client hangs up.
async fn answer(machine: Arc<Machine>, out: Outbox, request: Request<Incoming>) -> Result<Response<Reply>, Broken> {
    let answer = tokio::spawn(routes::answer(machine, request)).await.map_err(|_| Broken)??;
    let Answer { status, headers, body, damage, parcel } = answer;
    let mut response = Response::new(Reply::new(body, damage, parcel, out));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Parcels whose last byte was written but not yet flushed.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Vec<Parcel>>>);

impl Outbox {
    fn post(&self, parcel: Parcel) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(parcel);
    }

    fn flushed(&self) {
        let parcels = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for parcel in parcels {
            if let Some(receipt) = parcel.receipt {
                receipt.delivered();
            }
        }
    }
}

/// A connection that knows when its bytes are out.
struct Stream {
    inner: TcpStream,
    out: Outbox,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Hyper flushes once its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.out.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The body of an answer, with what the script does to it.
struct Reply {
    data: Bytes,
    /// What `Content-Length` says; `None` leaves it out.
    announced: Option<u64>,
    filler: u64,
    at_a_time: usize,
    pause: Duration,
    cut: bool,
    pausing: Option<Pin<Box<Sleep>>>,
    parcel: Option<Parcel>,
    out: Outbox,
}

impl Reply {
    fn new(data: Bytes, damage: Damage, parcel: Parcel, out: Outbox) -> Self {
        let mut reply = Self {
            announced: Some(data.len() as u64),
            data,
            filler: 0,
            at_a_time: usize::MAX,
            pause: Duration::ZERO,
            cut: false,
            pausing: None,
            parcel: Some(parcel),
            out,
        };
        match damage {
            Damage::None => {}
            Damage::Truncate(bytes) => {
                // At least one byte is missing, or it would be no cut; an empty body announces one it does not have.
                reply.announced = Some(reply.data.len().max(1) as u64);
                reply.data.truncate(bytes.min(reply.data.len().saturating_sub(1)));
                reply.cut = true;
                // Without a first byte to wait for, the headers are what needs the time.
                reply.pausing = reply.data.is_empty().then(|| Box::pin(sleep(BEFORE_CUT)));
            }
            Damage::Slow(per_second) => (reply.at_a_time, reply.pause) = pace(per_second),
            Damage::Huge(bytes) => {
                reply.announced = None;
                reply.filler = bytes;
            }
        }
        reply
    }

    /// The next piece; the last one of a whole body takes the parcel with it.
    fn next(&mut self) -> Option<Bytes> {
        if self.filler > 0 {
            let length = FILLER.len().min(usize::try_from(self.filler).unwrap_or(usize::MAX));
            self.filler -= length as u64;
            return Some(Bytes::from_static(&FILLER[..length]));
        }
        if self.data.is_empty() {
            return None;
        }
        let piece = self.data.split_to(self.at_a_time.min(self.data.len()));
        if self.data.is_empty() && !self.cut {
            self.hand_over();
        } else if !self.pause.is_zero() {
            self.pausing = Some(Box::pin(sleep(self.pause)));
        }
        Some(piece)
    }
}

impl Reply {
    fn hand_over(&mut self) {
        let Some(mut parcel) = self.parcel.take() else { return };
        // The request counts as answered before the client can know, or its next one could seem to overlap.
        parcel.presentation = None;
        self.out.post(parcel);
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(pausing) = &mut self.pausing {
            ready!(pausing.as_mut().poll(cx));
            self.pausing = None;
        }
        if let Some(piece) = self.next() {
            if self.cut {
                self.pausing = Some(Box::pin(sleep(BEFORE_CUT)));
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(self.cut.then_some(Err(Broken)))
    }

    fn is_end_stream(&self) -> bool {
        !self.cut && self.filler == 0 && self.data.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
