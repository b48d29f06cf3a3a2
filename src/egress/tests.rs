//! What a server sees of us, byte by byte, and what becomes of its answers.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::*;
use crate::oauth::quirk::tests::plain_provider;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// A deadline that a test can wait for.
const SHORT: Duration = Duration::from_millis(300);

fn egress_within(set: impl FnOnce(&mut Deadlines)) -> Egress {
    let mut egress = Egress::open().unwrap();
    set(&mut egress.deadlines);
    egress
}

async fn server(scheme: &str) -> (TcpListener, Provider) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = provider_at(scheme, listener.local_addr().unwrap().port());
    (listener, provider)
}

fn provider_at(scheme: &str, port: u16) -> Provider {
    let mut provider = plain_provider();
    provider.endpoints.token = format!("{scheme}://127.0.0.1:{port}/token").parse().unwrap();
    provider
}

fn request(provider: &Provider) -> HttpRequest {
    let uri = provider.endpoints.token.as_str();
    http::Request::post(uri).body(b"grant_type=refresh_token".to_vec()).unwrap()
}

/// Everything that arrives until the other side closes.
async fn all_of(mut stream: TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    let _ = stream.read_to_end(&mut seen).await;
    seen
}

async fn read_request(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"grant_type=refresh_token") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "the request ended early");
    }
}

#[tokio::test]
async fn the_permit_runs_while_the_connection_is_held_and_before_the_first_byte() {
    let (listener, provider) = server("http").await;
    let (egress, granted) = (Egress::open().unwrap(), AtomicBool::new(false));
    let (accepted, on_accepted) = oneshot::channel();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        accepted.send(()).unwrap();
        let _ = stream.peek(&mut [0]).await.unwrap();
        assert!(granted.load(Ordering::SeqCst), "a byte came before the permit");
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
    };
    let permit = async {
        on_accepted.await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        granted.store(true, Ordering::SeqCst);
        true
    };
    let (answer, ()) = tokio::join!(egress.send_when(&provider, request(&provider), permit), serving);
    assert_eq!(answer.unwrap().body(), b"{}");
}

#[tokio::test]
async fn a_refusal_hangs_up_and_sends_nothing() {
    let (listener, provider) = server("http").await;
    let egress = Egress::open().unwrap();
    let seen = async { all_of(listener.accept().await.unwrap().0).await };
    let (answer, seen) = tokio::join!(egress.send_when(&provider, request(&provider), ready(false)), seen);
    assert_eq!(answer.unwrap_err(), TransportError::NotPermitted);
    assert_eq!(seen, b"");
}

#[tokio::test]
async fn one_permit_is_good_for_one_request() {
    let (listener, provider) = server("http").await;
    let egress = Egress::open().unwrap();
    let http = egress.to_when(&provider, ready(true));
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
    };
    let (first, ()) = tokio::join!(http(request(&provider)), serving);
    assert!(first.is_ok());
    assert_eq!(http(request(&provider)).await.unwrap_err(), TransportError::NotPermitted);
}

#[tokio::test]
async fn without_a_connection_nobody_is_asked_for_a_permit() {
    let asked = AtomicBool::new(false);
    let permit = || async {
        asked.store(true, Ordering::SeqCst);
        true
    };
    let egress = Egress::open().unwrap();

    let (listener, closed) = server("http").await;
    drop(listener);
    let refused = egress.send_when(&closed, request(&closed), permit()).await;
    assert_eq!(refused.unwrap_err(), TransportError::Unsent("no connection"));

    let (listener, garbage) = server("https").await;
    let talking = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 smtp.example ready\r\n").await.unwrap();
        all_of(stream).await;
    };
    let (no_tls, ()) = tokio::join!(egress.send_when(&garbage, request(&garbage), permit()), talking);
    assert_eq!(no_tls.unwrap_err(), TransportError::Unsent("no connection"));

    let (listener, mute) = server("https").await;
    let hasty = egress_within(|deadlines| deadlines.connect = SHORT);
    let silent = async { all_of(listener.accept().await.unwrap().0).await };
    let (no_answer, _) = tokio::join!(hasty.send_when(&mute, request(&mute), permit()), silent);
    assert_eq!(no_answer.unwrap_err(), TransportError::Unsent("no connection in time"));

    let elsewhere = egress.send_when(&plain_provider(), request(&closed), permit()).await;
    assert_eq!(elsewhere.unwrap_err(), TransportError::NotAllowed);
    assert!(!asked.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_permit_may_take_longer_than_dialling_and_not_for_ever() {
    let too_long = Err(TransportError::Unsent("the connection was held too long"));
    let dialling = Duration::from_secs(2);
    for (takes, longest, expected) in [(dialling + SHORT, PERMIT_DEADLINE, Ok(())), (SHORT * 2, SHORT, too_long)] {
        let (listener, provider) = server("http").await;
        let egress = egress_within(|deadlines| (deadlines.connect, deadlines.permit) = (dialling, longest));
        let permit = async {
            sleep(takes).await;
            true
        };
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.peek(&mut [0]).await.unwrap();
            let _ = stream.write_all(OK).await;
            all_of(stream).await
        };
        let (answer, seen) = tokio::join!(egress.send_when(&provider, request(&provider), permit), serving);
        assert_eq!(seen.is_empty(), expected.is_err(), "after {takes:?}");
        assert_eq!(answer.map(drop), expected, "after {takes:?}");
    }
}

#[tokio::test]
async fn what_happens_after_the_permit_may_have_arrived() {
    let (listener, provider) = server("http").await;
    let egress = Egress::open().unwrap();
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", b"\0\0\0\0"] {
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(answer).await.unwrap();
        };
        let (answered, ()) = tokio::join!(egress.send(&provider, request(&provider)), serving);
        assert_eq!(answered.unwrap_err(), TransportError::Lost("the connection broke"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_bound_and_the_server_is_hung_up_on() {
    let (listener, provider) = server("http").await;
    let egress = Egress::open().unwrap();
    let large = "an answer larger than any token response";
    let kilobyte = "x".repeat(1024);
    let line = format!("{kilobyte}\r\n");
    for (name, head, again, expected) in [
        ("a body of 10 GB", "HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n", kilobyte.clone(), large),
        ("chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", format!("400\r\n{line}"), large),
        ("a body until it closes", "HTTP/1.1 200 OK\r\n\r\n", kilobyte.clone(), large),
        ("headers", "HTTP/1.1 200 OK\r\n", format!("a: {line}"), "the connection broke"),
        ("one header", "HTTP/1.1 200 OK\r\na: ", kilobyte.clone(), "the connection broke"),
        (
            "trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            format!("a: {line}"),
            "the connection broke",
        ),
    ] {
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut taken = 0;
            while stream.write_all(again.as_bytes()).await.is_ok() {
                taken += again.len();
            }
            taken
        };
        let (answer, taken) = tokio::join!(egress.send(&provider, request(&provider)), serving);
        assert_eq!(answer.unwrap_err(), TransportError::Lost(expected), "{name}");
        // What the kernel buffers on its own is some megabytes.
        assert!(taken < 64 << 20, "{name}: {taken} bytes were taken");
    }
}

#[tokio::test]
async fn an_answer_that_trickles_ends_at_the_deadline() {
    let egress = egress_within(|deadlines| deadlines.exchange = SHORT);
    for (name, head, again) in [
        ("body", "HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n", " "),
        ("header", "HTTP/1.1 200 OK\r\na: ", "x"),
        ("interim answers", "", "HTTP/1.1 102 Processing\r\n\r\n"),
        ("nothing", "", ""),
    ] {
        let (listener, provider) = server("http").await;
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let mut rest = [0; 1];
            let trickle = async {
                while writer.write_all(again.as_bytes()).await.is_ok() {
                    sleep(SHORT / 30).await;
                }
            };
            tokio::select! {
                () = trickle => {}
                _ = reader.read(&mut rest) => {}
            }
        };
        let (answer, ()) = tokio::join!(egress.send(&provider, request(&provider)), serving);
        assert_eq!(answer.unwrap_err(), TransportError::Lost("no answer in time"), "{name}");
    }
}
