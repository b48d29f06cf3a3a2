//! A server in front of the sandbox's token endpoint that says any bytes at any pace. It notes every refresh token that comes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grantd::sandbox::Fingerprint;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// What is done with a refresh. Everything else is passed on.
#[derive(Clone, Debug)]
pub enum Play {
    /// It goes to the sandbox, and the answer comes back.
    Pass,
    /// Nobody listens any more.
    Down,
    /// These bytes are the answer. The sandbox hears of nothing.
    Say(Vec<u8>),
    /// These bytes, one at a time, so far apart.
    Drip(Vec<u8>, Duration),
    /// These bytes, and then the others again and again for as long as anybody reads.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing at all.
    Silence,
    /// The sandbox answers, and so many bytes of the answer come back, in this frame.
    Cut(Frame, usize),
    /// As `Cut`, for one refresh that is no second attempt; the others pass, and so does everything after it.
    CutOnce(Frame, usize),
}

/// How the length of a body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug)]
pub enum Frame {
    Length,
    Chunked,
    UntilClose,
}

pub struct Front {
    stage: Arc<Stage>,
    port: u16,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

struct Stage {
    /// The sandbox.
    behind: SocketAddr,
    play: Mutex<Play>,
    /// When each refresh token came.
    presented: Mutex<BTreeMap<Fingerprint, Vec<Instant>>>,
    /// How many are being answered now, and whether the same one was there twice at once.
    open: Mutex<BTreeMap<Fingerprint, usize>>,
    overlapped: Mutex<bool>,
    /// How much was written to whoever read on and on.
    streamed: Mutex<u64>,
    /// What the sandbox said last.
    last: Mutex<Vec<u8>>,
}

impl Front {
    pub async fn before(behind: SocketAddr) -> Self {
        let stage = Arc::new(Stage {
            behind,
            play: Mutex::new(Play::Pass),
            presented: Mutex::default(),
            open: Mutex::default(),
            overlapped: Mutex::new(false),
            streamed: Mutex::default(),
            last: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = Mutex::new(Some(tokio::spawn(accept(listener, Arc::clone(&stage)))));
        Self { stage, port, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub async fn play(&self, play: Play) {
        let down = matches!(play, Play::Down);
        *self.stage.play.lock().unwrap() = play;
        let accepting = self.accepting.lock().unwrap().take();
        let listening = match accepting {
            Some(task) if down => {
                task.abort();
                drop(task.await);
                None
            }
            Some(task) => Some(task),
            None if down => None,
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
                Some(tokio::spawn(accept(listener, Arc::clone(&self.stage))))
            }
        };
        *self.accepting.lock().unwrap() = listening;
    }

    /// How much of an endless answer has been taken.
    pub fn streamed(&self) -> u64 {
        *self.stage.streamed.lock().unwrap()
    }

    /// Whether everything goes to the sandbox and back.
    pub fn is_passing(&self) -> bool {
        matches!(*self.stage.play.lock().unwrap(), Play::Pass)
    }

    /// What the sandbox said last, whole.
    pub fn last_answer(&self) -> Vec<u8> {
        self.stage.last.lock().unwrap().clone()
    }

    /// Fails if a refresh token came while it was being answered.
    pub fn assert_one_at_a_time(&self, name: &str) {
        assert!(!*self.stage.overlapped.lock().unwrap(), "{name}: sent again while it was unanswered");
    }

    /// Fails if a refresh token came while it was being answered, or again at once although nobody made it due.
    pub fn assert_patient(&self, name: &str) {
        self.assert_one_at_a_time(name);
        for times in self.stage.presented.lock().unwrap().values() {
            for pair in times.windows(2) {
                let pause = pair[1] - pair[0];
                assert!(pause > Duration::from_millis(250), "{name}: sent again after {pause:?}");
            }
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().unwrap().take() {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, stage: Arc<Stage>) {
    while let Ok((stream, _)) = listener.accept().await {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.serve(stream).await });
    }
}

impl Stage {
    async fn serve(&self, mut client: TcpStream) {
        let Some(request) = read_request(&mut client).await else { return };
        let Some(token) = refresh_token(&request) else {
            drop(client.write_all(&self.ask_sandbox(&request).await).await);
            return;
        };
        let attempt = {
            let mut presented = self.presented.lock().unwrap();
            let times = presented.entry(token).or_default();
            times.push(Instant::now());
            times.len()
        };
        {
            let mut open = self.open.lock().unwrap();
            let count = open.entry(token).or_default();
            *count += 1;
            *self.overlapped.lock().unwrap() |= *count > 1;
        }
        let play = self.next_play(attempt);
        let closing = self.answer(&mut client, &request, play).await;
        // Whoever reads the last byte may come back before this thread runs again.
        *self.open.lock().unwrap().get_mut(&token).unwrap() -= 1;
        if let Some(last) = closing {
            drop(client.write_all(&last).await);
        }
        drop(client.shutdown().await);
    }

    fn next_play(&self, attempt: usize) -> Play {
        let mut play = self.play.lock().unwrap();
        match play.clone() {
            Play::CutOnce(..) if attempt > 1 => Play::Pass,
            Play::CutOnce(frame, at) => {
                *play = Play::Pass;
                Play::Cut(frame, at)
            }
            play => play,
        }
    }

    /// Plays. What is left to say at the end is returned.
    async fn answer(&self, client: &mut TcpStream, request: &[u8], play: Play) -> Option<Vec<u8>> {
        match play {
            Play::Pass | Play::Down | Play::CutOnce(..) => Some(self.ask_sandbox(request).await),
            Play::Say(bytes) => Some(bytes),
            Play::Cut(frame, at) => {
                let mut whole = framed(&self.ask_sandbox(request).await, frame);
                whole.truncate(at);
                Some(whole)
            }
            Play::Silence => {
                drop(client.read(&mut [0; 16]).await);
                None
            }
            Play::Drip(bytes, pause) => {
                for byte in bytes {
                    // Whoever hangs up is noticed at once.
                    let gone = timeout(pause, client.read(&mut [0; 16])).await.is_ok();
                    if gone || client.write_all(&[byte]).await.is_err() {
                        break;
                    }
                }
                None
            }
            Play::Endless(head, more) => {
                drop(client.write_all(&head).await);
                while client.write_all(&more).await.is_ok() {
                    *self.streamed.lock().unwrap() += more.len() as u64;
                }
                None
            }
        }
    }

    async fn ask_sandbox(&self, request: &[u8]) -> Vec<u8> {
        let mut sandbox = TcpStream::connect(self.behind).await.unwrap();
        // One request a connection, so that the answer ends where the connection does.
        let text = String::from_utf8(request.to_vec()).unwrap();
        let (line, rest) = text.split_once("\r\n").unwrap();
        sandbox.write_all(format!("{line}\r\nConnection: close\r\n{rest}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        drop(sandbox.read_to_end(&mut answer).await);
        self.last.lock().unwrap().clone_from(&answer);
        answer
    }
}

async fn read_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        if let Some(head) = find(&request, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if request.len() >= head + 4 + length {
                return Some(request);
            }
        }
        if client.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
}

fn refresh_token(request: &[u8]) -> Option<Fingerprint> {
    let body = find(request, b"\r\n\r\n")? + 4;
    url::form_urlencoded::parse(&request[body..])
        .find(|(name, _)| name == "refresh_token")
        .map(|(_, value)| Fingerprint::of(&value))
}

/// A good answer in another frame, without the ID token, which nobody needs and which is long.
pub fn framed(answer: &[u8], frame: Frame) -> Vec<u8> {
    let head = find(answer, b"\r\n\r\n").expect("the sandbox answers");
    let mut body: serde_json::Map<String, Value> = serde_json::from_slice(&answer[head + 4..]).unwrap();
    body.remove("id_token");
    let body = Value::Object(body).to_string().into_bytes();
    let length = match frame {
        Frame::Length => format!("Content-Length: {}\r\n", body.len()),
        Frame::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Frame::UntilClose => String::new(),
    };
    let mut whole =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{length}Connection: close\r\n\r\n").into_bytes();
    match frame {
        Frame::Length | Frame::UntilClose => whole.extend_from_slice(&body),
        Frame::Chunked => {
            for piece in body.chunks(100) {
                whole.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                whole.extend_from_slice(piece);
                whole.extend_from_slice(b"\r\n");
            }
            whole.extend_from_slice(b"0\r\n\r\n");
        }
    }
    whole
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
