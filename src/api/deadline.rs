//! A stream that cuts peers who are too slow, from the moment they are accepted.
//!
//! hyper's own `header_read_timeout` also runs while a kept-alive connection is idle and makes a timer for each request, so
//! it is off. Here one timer per connection is left to run out and only then compared with what the deadline has become.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a peer may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From being accepted to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its headers.
    pub head: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
    /// For taking any part of an answer.
    pub write: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(5),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            write: Duration::from_secs(10),
        }
    }
}

/// What a connection is doing, told by its stream and by its service. Both live in one task, so no ordering is needed.
#[derive(Debug, Default)]
pub struct Pace(AtomicU64);

/// The lowest bits of the word say what is being waited for; the rest counts requests, so that no wait is taken for the
/// one before it.
const KIND: u64 = 0b11;
const FIRST_BYTE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
const IDLE: u64 = 3;

/// A request is being worked on for as long as this lives.
#[derive(Debug)]
pub struct Busy(Arc<Pace>);

impl Pace {
    /// The headers of a request are complete: the peer waits for us.
    #[must_use]
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.advance(BUSY);
        Busy(Arc::clone(self))
    }

    fn received(&self) {
        if matches!(self.0.load(Ordering::Relaxed) & KIND, FIRST_BYTE | IDLE) {
            self.advance(HEAD);
        }
    }

    fn advance(&self, kind: u64) {
        let next = (self.0.load(Ordering::Relaxed) & !KIND).wrapping_add(KIND + 1) | kind;
        self.0.store(next, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.advance(IDLE);
    }
}

/// A stream with deadlines. A peer that misses one gets its connection closed.
#[derive(Debug)]
pub struct Paced<S> {
    inner: S,
    pace: Arc<Pace>,
    deadlines: Deadlines,
    /// The wait that `until` belongs to.
    seen: Option<u64>,
    until: Option<Instant>,
    reading: Pin<Box<Sleep>>,
    /// `Some` while the peer does not take what we write.
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// Starts the clock for the first byte.
    pub fn new(inner: S, pace: Arc<Pace>, deadlines: Deadlines) -> Self {
        Self {
            inner,
            pace,
            seen: None,
            until: None,
            reading: Box::pin(sleep(deadlines.first_byte)),
            writing: None,
            deadlines,
        }
    }

    /// Ready when the peer has kept us waiting for too long.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now_waiting_for = self.pace.0.load(Ordering::Relaxed);
        if self.seen != Some(now_waiting_for) {
            self.seen = Some(now_waiting_for);
            self.until = match now_waiting_for & KIND {
                FIRST_BYTE => Some(self.reading.deadline()),
                HEAD => Some(Instant::now() + self.deadlines.head),
                IDLE => Some(Instant::now() + self.deadlines.idle),
                _ => None,
            };
        }
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        if self.reading.deadline() > until {
            self.reading.as_mut().reset(until);
        }
        while self.reading.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            self.reading.as_mut().reset(until);
        }
        Poll::Pending
    }

    fn bound_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.writing = None;
            return result;
        }
        let span = self.deadlines.write;
        let timer = self.writing.get_or_insert_with(|| Box::pin(sleep(span)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            if buf.filled().len() > before {
                self.pace.received();
            }
            return read;
        }
        match self.overdue(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bound_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bound_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.bound_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bound_write(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(40);
    const LONG: Duration = Duration::from_secs(60);

    fn patient() -> Deadlines {
        Deadlines { first_byte: LONG, head: LONG, idle: LONG, write: LONG }
    }

    async fn read_one<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<u8> {
        tokio::time::timeout(Duration::from_secs(5), stream.read_u8())
            .await
            .expect("the stream decides before the test does")
    }

    fn is_cut(read: io::Result<u8>) -> bool {
        read.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test]
    async fn a_peer_that_never_speaks_is_cut() {
        let (ours, _theirs) = duplex(64);
        let deadlines = Deadlines { first_byte: SHORT, ..patient() };
        let mut stream = Paced::new(ours, Arc::default(), deadlines);
        assert!(is_cut(read_one(&mut stream).await));
    }

    #[tokio::test]
    async fn a_head_that_trickles_in_is_cut_however_often_a_byte_comes() {
        let (ours, mut theirs) = duplex(64);
        let deadlines = Deadlines { head: SHORT * 2, ..patient() };
        let mut stream = Paced::new(ours, Arc::default(), deadlines);
        let trickle = tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SHORT / 4).await;
            }
        });
        let mut bytes = 0;
        let end = loop {
            match read_one(&mut stream).await {
                Ok(_) => bytes += 1,
                end => break end,
            }
            assert!(bytes < 100, "it is never cut");
        };
        assert!(is_cut(end) && bytes > 1);
        trickle.abort();
    }

    #[tokio::test]
    async fn a_peer_that_waits_for_us_is_not_cut_and_an_idle_one_is() {
        let (ours, mut theirs) = duplex(64);
        let pace = Arc::new(Pace::default());
        let deadlines = Deadlines { first_byte: SHORT, head: SHORT, idle: SHORT, write: LONG };
        let mut stream = Paced::new(ours, Arc::clone(&pace), deadlines);
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(read_one(&mut stream).await.unwrap(), b'x');
        let busy = pace.busy();
        let waited = tokio::time::timeout(SHORT * 4, stream.read_u8()).await;
        assert!(waited.is_err(), "cut while the answer was being made");
        drop(busy);
        assert!(is_cut(read_one(&mut stream).await));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_cut() {
        let (ours, _theirs) = duplex(8);
        let deadlines = Deadlines { write: SHORT, ..patient() };
        let mut stream = Paced::new(ours, Arc::default(), deadlines);
        let written = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&[0; 64])).await;
        assert_eq!(written.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
