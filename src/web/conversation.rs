//! One connection, from its first byte to its last: HTTP/1.1 with limits on size and time, and an end that cuts nobody short.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use warp::reply::Response;

/// The longest head of a request, in bytes: four times the longest query.
const HEAD_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the head of a request, also while a browser keeps the connection idle.
    head: Duration,
    /// For the whole connection. A browser opens a new one without anybody noticing.
    life: Duration,
    /// For an answer under way when the connection has to end.
    drain: Duration,
}

impl Patience {
    pub(crate) const USUAL: Self =
        Self { head: Duration::from_secs(15), life: Duration::from_secs(300), drain: Duration::from_secs(10) };
}

/// Answers what comes in on `stream` until either side ends it, or `shutdown` does.
pub(crate) async fn hold<I, S>(stream: I, service: S, patience: Patience, shutdown: &CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<http::Request<Incoming>, Response = Response, Error = Infallible> + Clone,
{
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = pin!(serving);
    tokio::select! {
        // How a connection ends is the browser's business.
        _ = serving.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(patience.life) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(patience.drain, serving).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use warp::Filter;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(40);
    const PATIENT: Patience = Patience { head: LONG, life: LONG, drain: LONG };

    /// A browser's end of a connection to a server that takes a moment for every answer.
    fn connect(patience: Patience, shutdown: &CancellationToken) -> DuplexStream {
        let (ours, browser) = tokio::io::duplex(256 * 1024);
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            let slow = warp::any().then(|| async {
                tokio::time::sleep(SHORT).await;
                "answered".to_owned()
            });
            hold(ours, warp::service(slow), patience, &shutdown).await;
        });
        browser
    }

    /// Everything until the server hangs up; fails if it never does.
    async fn rest(browser: &mut DuplexStream) -> String {
        let mut text = String::new();
        let read = browser.read_to_string(&mut text);
        tokio::time::timeout(LONG / 6, read).await.expect("the server hangs up").unwrap();
        text
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_not_waited_for() {
        let patience = Patience { head: SHORT, ..PATIENT };
        for sent in ["", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
            let mut browser = connect(patience, &CancellationToken::new());
            browser.write_all(sent.as_bytes()).await.unwrap();
            assert!(!rest(&mut browser).await.contains("answered"), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        for line in [format!("X-Long: {}\r\n", "x".repeat(2 * HEAD_MAX)), "X-Many: y\r\n".repeat(HEADERS_MAX + 1)] {
            let mut browser = connect(PATIENT, &CancellationToken::new());
            let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{line}\r\n");
            browser.write_all(head.as_bytes()).await.unwrap();
            assert!(rest(&mut browser).await.starts_with("HTTP/1.1 431 "));
        }
    }

    #[tokio::test]
    async fn an_answer_under_way_is_finished_when_the_daemon_goes_down() {
        let shutdown = CancellationToken::new();
        let mut browser = connect(PATIENT, &shutdown);
        browser.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        tokio::time::sleep(SHORT / 4).await;
        shutdown.cancel();
        assert!(rest(&mut browser).await.ends_with("answered"));
    }

    #[tokio::test]
    async fn a_connection_that_is_kept_for_too_long_ends() {
        let mut browser = connect(Patience { life: SHORT, ..PATIENT }, &CancellationToken::new());
        assert_eq!(rest(&mut browser).await, "");
    }
}
