//! The accept loop: takes in peers of the Unix socket within limits, serves them HTTP/1.1, and lets them finish at the end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::api::census::{Census, Place};
use crate::api::deadline::{Deadlines, Pace, Paced};
use crate::api::eager::Eager;
use crate::api::kernel;
use crate::api::peer::Asker;
use crate::model::caller::Peer;

/// The longest request line and headers together, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// How long to let descriptors come free before accepting again.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a peer that is refused may take to ask, and again to hear why it is not answered.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many peers may be hearing it at once.
const LEAVING_MAX: usize = 64;
/// What a peer hears for whom there is no place.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
Retry-After: 1\r\nConnection: close\r\nContent-Length: 85\r\n\r\n\
{\"error\":\"too_many_connections\",\"error_description\":\"Too many connections are open.\"}";

/// What a peer hears whose user the kernel cannot name.
const NOBODY: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
Connection: close\r\nContent-Length: 99\r\n\r\n\
{\"error\":\"peer_denied\",\"error_description\":\"This user id stands for anybody, so it is not served.\"}";

/// How much is served at once, and how long for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections in all.
    pub connections: usize,
    /// The most connections of one user.
    pub per_uid: usize,
    /// How slow a peer may be.
    pub deadlines: Deadlines,
    /// How long peers have to finish at the end.
    pub drain: Duration,
}

impl Limits {
    /// What this process can bear: half of its file descriptors stay free for the store, the providers and the pages.
    #[must_use]
    pub fn for_this_process() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let half = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        Self {
            connections: half.clamp(16, 4096),
            per_uid: half.clamp(16, 256),
            deadlines: Deadlines::default(),
            drain: Duration::from_secs(10),
        }
    }
}

/// A request and who asks.
#[derive(Debug)]
pub struct Asked<B> {
    /// Who asks, known since the connection was made.
    pub asker: Asker,
    /// What for.
    pub request: Request<B>,
}

/// Serves until `shutdown`, then stops accepting, lets requests under way finish, and returns when all have or when
/// their time is over. The service must always be ready.
///
/// # Errors
/// Only if the listener cannot be used at all. No peer can end the loop.
pub async fn serve<S, B>(
    listener: std::os::unix::net::UnixListener,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()>
where
    S: Service<Asked<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let own_uid = geteuid().as_raw();
    let census = Census::new(limits.connections, limits.per_uid);
    let tasks = TaskTracker::new();
    let leaving = Arc::new(Semaphore::new(LEAVING_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                recover(&error).await;
                continue;
            }
        };
        let (asker, place) = match identify(&stream, own_uid, &census) {
            Ok(known) => known,
            Err(why) => {
                refuse(stream, why, &leaving);
                continue;
            }
        };
        let guest = Guest { asker: asker.looked_at(kernel::process(&stream)), _place: place };
        tasks.spawn(Eager::new(attend(stream, service.clone(), guest, limits, shutdown.child_token())));
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// One connection's peer and the place it takes.
struct Guest {
    asker: Asker,
    _place: Place,
}

async fn attend<S, B>(stream: UnixStream, service: S, guest: Guest, limits: Limits, shutdown: CancellationToken)
where
    S: Service<Asked<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let pace = Arc::new(Pace::default());
    let stream = Paced::new(stream, Arc::clone(&pace), limits.deadlines);
    // One connection serves one request at a time, so its service need not be cloned for each.
    let service = RefCell::new(service);
    let Guest { asker, _place } = guest;
    let uid = asker.peer.uid;
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = pace.busy();
        let answer = service.borrow_mut().call(Asked { asker: asker.clone(), request });
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(limits.drain, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::warn!("a connection did not finish in time"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, uid, "connection ended early");
    }
}

/// Who is there, if there is a place for them; otherwise what they are told.
fn identify(stream: &UnixStream, own_uid: u32, census: &Arc<Census>) -> Result<(Asker, Place), &'static [u8]> {
    let credentials = stream.peer_cred().map_err(|_| NOBODY)?;
    let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
    let Some(asker) = Asker::new(peer, own_uid) else {
        tracing::debug!(uid = peer.uid, "refused a peer that could be anybody");
        return Err(NOBODY);
    };
    let Some(place) = census.admit(peer.uid) else {
        tracing::debug!(uid = peer.uid, "refused a connection too many");
        return Err(FULL);
    };
    Ok((asker, place))
}

/// Says why and hangs up, once the peer has asked and heard it: a client library takes an answer that comes before its
/// request for an error, and a peer that is cut off while it still writes would see a broken pipe in place of the reason.
/// Of those who leave slowly there are only so many; one more is cut off.
fn refuse(mut stream: UnixStream, why: &'static [u8], leaving: &Arc<Semaphore>) {
    let Ok(place) = Arc::clone(leaving).try_acquire_owned() else { return };
    tokio::spawn(async move {
        let _place = place;
        // What is asked does not matter, and `readable` says yes before there is anything to read.
        let _ = timeout(FAREWELL, stream.read(&mut [0; 1024])).await;
        let _ = timeout(FAREWELL, farewell(&mut stream, why)).await;
    });
}

async fn farewell(stream: &mut UnixStream, why: &[u8]) -> io::Result<()> {
    stream.write_all(why).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// No error of `accept` ends the loop, and none makes it spin.
async fn recover(error: &io::Error) {
    let passing = [Errno::CONNABORTED, Errno::INTR, Errno::PROTO];
    if passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections now");
    sleep(BACK_OFF).await;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    /// Answers with the uid it was asked by; `/slow` takes its time.
    #[derive(Clone)]
    struct Echo;

    impl Service<Asked<Incoming>> for Echo {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, Asked { asker, request }: Asked<Incoming>) -> Self::Future {
            Box::pin(async move {
                if request.uri().path() == "/slow" {
                    sleep(Duration::from_millis(150)).await;
                }
                Ok(Response::new(Full::from(asker.peer.uid.to_string())))
            })
        }
    }

    struct Running {
        dir: tempfile::TempDir,
        shutdown: CancellationToken,
        task: JoinHandle<io::Result<()>>,
    }

    fn start(limits: Limits) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Echo, limits, shutdown.clone()));
        Running { dir, shutdown, task }
    }

    fn limits() -> Limits {
        Limits { connections: 8, per_uid: 8, deadlines: Deadlines::default(), drain: Duration::from_secs(5) }
    }

    async fn dial(dir: &Path) -> UnixStream {
        UnixStream::connect(dir.join("s")).await.unwrap()
    }

    async fn ask(stream: &mut UnixStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(stream).await
    }

    async fn rest(stream: &mut UnixStream) -> String {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        let _ = read.expect("the connection ends");
        String::from_utf8_lossy(&answer).into_owned()
    }

    const CLOSE: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_request_carries_the_kernels_word_for_who_asks() {
        let running = start(limits());
        let answer = ask(&mut dial(running.dir.path()).await, CLOSE).await;
        let uid = geteuid().as_raw();
        assert!(answer.ends_with(&format!("\r\n\r\n{uid}")), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_too_many_is_told_so_and_a_place_that_comes_free_is_given_again() {
        let running = start(Limits { per_uid: 1, ..limits() });
        let mut first = dial(running.dir.path()).await;
        first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        first.read_u8().await.unwrap();
        let refused = rest(&mut dial(running.dir.path()).await).await;
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        let (head, body) = refused.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
        drop(first);
        for attempt in 0.. {
            let answer = rest_of(&running).await;
            if answer.starts_with("HTTP/1.1 200") {
                break;
            }
            assert!(attempt < 100, "the place never comes free");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn who_is_refused_hears_why_however_late_the_request_is_written() {
        let running = start(Limits { per_uid: 1, ..limits() });
        let mut first = dial(running.dir.path()).await;
        first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        first.read_u8().await.unwrap();
        let mut second = dial(running.dir.path()).await;
        second.readable().await.unwrap();
        let refused = ask(&mut second, CLOSE).await;
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    }

    #[tokio::test]
    async fn who_is_refused_hears_why_also_through_a_client_that_takes_an_early_answer_for_an_error() {
        let running = start(Limits { per_uid: 1, ..limits() });
        let mut first = dial(running.dir.path()).await;
        first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        first.read_u8().await.unwrap();
        let second = dial(running.dir.path()).await;
        let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(second)).await.unwrap();
        tokio::spawn(connection);
        sleep(Duration::from_millis(50)).await;
        let request = Request::builder().uri("/").header("host", "x").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 503);
    }

    async fn rest_of(running: &Running) -> String {
        let mut stream = dial(running.dir.path()).await;
        let _ = stream.write_all(CLOSE.as_bytes()).await;
        rest(&mut stream).await
    }

    #[tokio::test]
    async fn headers_beyond_the_limit_are_refused() {
        let running = start(limits());
        let big = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        let answer = ask(&mut dial(running.dir.path()).await, &big).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn a_kept_alive_connection_may_rest_longer_than_a_head_may_take() {
        let deadlines = Deadlines { head: Duration::from_millis(30), ..Deadlines::default() };
        let running = start(Limits { deadlines, ..limits() });
        let mut stream = dial(running.dir.path()).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        sleep(Duration::from_millis(120)).await;
        let answers = ask(&mut stream, CLOSE).await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    }

    #[tokio::test]
    async fn without_descriptors_the_loop_rests_and_after_a_lost_peer_it_does_not() {
        for (errno, rests) in [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::CONNABORTED, false)] {
            let began = std::time::Instant::now();
            recover(&errno.into()).await;
            assert_eq!(began.elapsed() >= BACK_OFF, rests, "{errno}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_cut() {
        let deadlines = Deadlines { first_byte: Duration::from_millis(30), ..Deadlines::default() };
        let running = start(Limits { deadlines, ..limits() });
        assert_eq!(rest(&mut dial(running.dir.path()).await).await, "");
    }

    #[tokio::test]
    async fn at_the_end_a_request_under_way_is_answered_and_an_idle_peer_is_let_go() {
        let running = start(limits());
        let mut idle = dial(running.dir.path()).await;
        idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        idle.read_u8().await.unwrap();
        let mut slow = dial(running.dir.path()).await;
        slow.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        sleep(Duration::from_millis(50)).await;
        running.shutdown.cancel();
        assert!(rest(&mut slow).await.starts_with("HTTP/1.1 200"));
        let ended = tokio::time::timeout(Duration::from_secs(3), running.task).await;
        ended.expect("the loop ends").unwrap().unwrap();
        assert!(UnixStream::connect(running.dir.path().join("s")).await.is_err());
    }

    #[tokio::test]
    async fn a_peer_that_never_finishes_does_not_hold_up_the_end() {
        let drain = Duration::from_millis(50);
        let running = start(Limits { drain, ..limits() });
        let mut stuck = dial(running.dir.path()).await;
        stuck.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        running.shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(3), running.task).await;
        ended.expect("the loop ends").unwrap().unwrap();
    }
}
