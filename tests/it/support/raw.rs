//! Requests byte for byte, as no well-behaved client would send them.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What came back before the other end hung up.
#[derive(Debug)]
pub struct RawAnswer {
    /// 0 if there was no answer.
    pub status: u16,
    head: String,
    pub body: String,
}

impl RawAnswer {
    /// The values of a header, in order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The one value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let values = self.headers(name);
        assert!(values.len() < 2, "{name} stands {} times", values.len());
        values.first().copied().unwrap_or_default()
    }

    /// The names of all headers, in lower case.
    pub fn names(&self) -> Vec<String> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.map(|(name, _)| name.to_ascii_lowercase()).collect()
    }

    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }
}

/// Sends these bytes and reads until the other end hangs up. The request should say `Connection: close`.
pub async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> RawAnswer {
    // Whoever refuses in the middle of a long request may hang up before it has read all of it.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    drop(read.expect("the answer ends"));
    RawAnswer::read(&answer)
}

/// Sends a request to a port of this machine. Lines end with CRLF; an empty line and `body` follow the head.
pub async fn to_port(port: u16, head: &[&str], body: &str) -> RawAnswer {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut text = head.join("\r\n");
    text.push_str("\r\nConnection: close\r\n\r\n");
    text.push_str(body);
    exchange(stream, text.as_bytes()).await
}
