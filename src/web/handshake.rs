//! The beginning of a connection over https: the TLS handshake, and a word to a browser that came without.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::Tls;

/// How long a handshake may take, from the moment the connection is accepted.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// How a TLS handshake begins (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// How much of a request in plain http is read before the connection is closed, in bytes.
const PLAIN_MAX: u64 = 64 * 1024;

/// The handshake, with the certificate of now. `None` if it does not come about within `patience`; who speaks plain http is told
/// where to go.
pub(super) async fn accept(
    tls: &Tls,
    stream: TcpStream,
    origin: &str,
    patience: Duration,
) -> Option<TlsStream<TcpStream>> {
    let shaking = async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE_RECORD => TlsAcceptor::from(tls.current()).accept(stream).await.ok(),
            Ok(1) => {
                drop(refuse_plain(stream, origin).await);
                None
            }
            _ => None,
        }
    };
    tokio::time::timeout(patience, shaking).await.ok().flatten()
}

/// Tells a browser that came with http where the pages are, and reads what it still sends: a connection that is closed with
/// bytes unread is reset, and the answer with it.
async fn refuse_plain(mut stream: TcpStream, origin: &str) -> std::io::Result<()> {
    let body = format!("These pages are served over https: open {origin}/ instead.\n");
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await?;
    match tokio::io::copy(&mut stream.take(PLAIN_MAX), &mut tokio::io::sink()).await {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::ManualClock;
    use crate::model::time::Timestamp;
    use crate::tls::TlsFrom;

    const ORIGIN: &str = "https://localhost:8717";

    fn tls(dir: &tempfile::TempDir) -> Tls {
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        Tls::open(TlsFrom::Own(dir.path().to_owned()), Arc::new(clock)).unwrap()
    }

    #[tokio::test]
    async fn plain_http_is_told_where_the_pages_are() {
        let dir = tempfile::tempdir().unwrap();
        let tls = tls(&dir);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let browser = tokio::spawn(async move {
            let mut browser = TcpStream::connect(address).await.unwrap();
            browser.write_all(b"GET /connect/cn_x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            browser.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let (stream, _) = listener.accept().await.unwrap();
        assert!(accept(&tls, stream, ORIGIN, DEADLINE).await.is_none());
        let answer = browser.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.ends_with("open https://localhost:8717/ instead.\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_handshake_that_does_not_come_to_its_end_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let tls = tls(&dir);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for sent in [&b""[..], &[HANDSHAKE_RECORD, 3, 1]] {
            let mut browser = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            browser.write_all(sent).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            assert!(accept(&tls, stream, ORIGIN, Duration::from_millis(40)).await.is_none(), "{sent:?}");
        }
    }
}
