//! A provider's second revocation endpoint, which takes everything that a person ever gave. The sandbox has none.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use grantd::sandbox::Sandbox;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// The endpoint. It goes with the test.
pub struct Desk {
    port: u16,
    state: Arc<State>,
}

struct State {
    status: AtomicU16,
    /// The next answers; the usual status when there is none left.
    next: Mutex<VecDeque<u16>>,
    asked: AtomicUsize,
    /// Where a sandbox ends grants, and whose.
    ends: Mutex<Option<(Url, &'static str)>>,
}

impl Desk {
    /// Opens it. It answers 200.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            status: AtomicU16::new(200),
            next: Mutex::default(),
            asked: AtomicUsize::new(0),
            ends: Mutex::new(None),
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(serving.answer(stream).await);
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> Url {
        format!("http://127.0.0.1:{}/revoke-all", self.port).parse().unwrap()
    }

    /// The status from now on.
    pub fn answers(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// The next answers, in turn.
    pub fn answers_next(&self, statuses: &[u16]) {
        self.state.next.lock().unwrap().extend(statuses);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// What it does when it answers 200: it ends every grant that this person gave.
    pub fn ends_everything_of(&self, sandbox: &Sandbox, sub: &'static str) {
        let revoke = sandbox.url().join("_sandbox/revoke").unwrap();
        *self.state.ends.lock().unwrap() = Some((revoke, sub));
    }
}

impl State {
    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head: Vec<u8> = Vec::new();
        let mut more = [0; 4096];
        while !head.windows(6).any(|bytes| bytes == b"token=") {
            match stream.read(&mut more).await? {
                0 => return Ok(()),
                count => head.extend(&more[..count]),
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let next = self.next.lock().unwrap().pop_front();
        let status = next.unwrap_or_else(|| self.status.load(Ordering::SeqCst));
        let ends = self.ends.lock().unwrap().clone().filter(|_| status == 200);
        if let Some((revoke, sub)) = ends {
            end(&revoke, sub).await?;
        }
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }
}

/// Asks the sandbox's control endpoint, and waits until it has done it.
async fn end(revoke: &Url, sub: &str) -> std::io::Result<()> {
    let host = format!("{}:{}", revoke.host_str().unwrap(), revoke.port().unwrap());
    let body = format!("{{\"sub\":\"{sub}\"}}");
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: {host}\r\nx-sandbox: 1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        revoke.path(),
        body.len()
    );
    let mut stream = TcpStream::connect(&host).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}
