//! Speaks to the daemon: HTTP/1.1 over its Unix socket, after a look at who listens there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::api::wire::ProblemBody;
use crate::cli::exit::{CliError, ExitCode};

/// The longest answer that is read, in bytes: room for many thousands of connections.
const ANSWER_MAX: usize = 32 * 1024 * 1024;
/// How long an answer may take, besides what the daemon was asked to wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user that the system's daemon runs as.
const DAEMON_USER: &str = "grantd";

/// The daemon at one socket. Each request takes a connection of its own, so that a daemon that restarts in between is
/// no failure.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A request that brought no result.
#[derive(Debug)]
pub enum Failure {
    /// The daemon answered with an error.
    Problem(Problem),
    /// There was no answer, or none that makes sense.
    Broken(CliError),
}

/// What the daemon says is wrong.
#[derive(Debug)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// When to try again, in seconds.
    pub retry_after: Option<u64>,
    /// The rest.
    pub body: Box<ProblemBody>,
}

impl Client {
    /// The daemon that listens at `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// `GET`, read as `T`. `wait` is what the daemon was asked to wait for.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, Failure> {
        read(&self.send(Method::GET, path, Bytes::new(), wait).await?)
    }

    /// `DELETE`, read as `T`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(&self.send(Method::DELETE, path, Bytes::new(), Duration::ZERO).await?)
    }

    /// `PATCH` of JSON, read as `T`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).expect("the wire shapes have text keys and no failing serializer");
        read(&self.send(Method::PATCH, path, body.into(), Duration::ZERO).await?)
    }

    /// `POST` of JSON, read as `T`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        read(&self.post_raw(path, body, Duration::ZERO).await?)
    }

    /// `POST` of JSON; the answer as it came. It may hold a token and is wiped when it is dropped.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn post_raw(
        &self,
        path: &str,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let body = serde_json::to_vec(body).expect("the wire shapes have text keys and no failing serializer");
        self.send(Method::POST, path, body.into(), wait).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        wait: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let exchanged = timeout(PATIENCE + wait, self.exchange(method, path, body)).await;
        exchanged.unwrap_or_else(|_| Err(self.broken("it did not answer in time")))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let stream = self.dial().await.map_err(Failure::Broken)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error.to_string()))?;
        let talk = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let read = Limited::new(body, ANSWER_MAX).collect().await;
            Ok::<_, hyper::Error>((head, read))
        };
        // The connection drives itself while we wait, and is dropped with us: nothing runs on behind a cancelled command.
        let mut connection = std::pin::pin!(connection);
        let mut talk = std::pin::pin!(talk);
        let talked = tokio::select! {
            biased;
            talked = talk.as_mut() => talked,
            _ = connection.as_mut() => talk.await,
        };
        let (head, read) = talked.map_err(|error| self.broken(&error.to_string()))?;
        let collected = read.map_err(|error| self.broken(&error.to_string()))?;
        let bytes = Zeroizing::new(collected.to_bytes().to_vec());
        if head.status.is_success() {
            return Ok(bytes);
        }
        let retry_after = head.headers.get(RETRY_AFTER);
        Err(Failure::Problem(Problem {
            status: head.status,
            retry_after: retry_after.and_then(|value| value.to_str().ok()?.parse().ok()),
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        }))
    }

    async fn dial(&self) -> Result<UnixStream, CliError> {
        let stream = self.open().await.map_err(|error| unreachable(&self.socket, &error))?;
        let server = stream.peer_cred().map_err(|error| unreachable(&self.socket, &error))?.uid();
        let own = rustix::process::geteuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        if is_trusted(server, own, &self.socket, &passwd) {
            return Ok(stream);
        }
        let message = format!(
            "the program that listens at {} belongs to uid {server}, which is neither you nor root nor `{DAEMON_USER}`",
            self.socket.display()
        );
        Err(CliError::new(ExitCode::Unreachable, message).hint("It could be an impostor, so nothing was sent."))
    }

    /// A full backlog says "try again", which passes quickly.
    async fn open(&self) -> io::Result<UnixStream> {
        for _ in 0..20 {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(50)).await,
                result => return result,
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn broken(&self, why: &str) -> Failure {
        let message = format!("the daemon at {} did not answer properly: {why}", self.socket.display());
        Failure::Broken(CliError::new(ExitCode::Unreachable, message))
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(error) => error,
            Failure::Problem(problem) => problem.into(),
        }
    }
}

impl From<Problem> for CliError {
    /// The description in the daemon's words; commands that know more say more.
    fn from(problem: Problem) -> Self {
        let code = exit_code(problem.status, &problem.body.error);
        if problem.body.error == "unknown_provider" {
            return Self::new(code, "no such provider is configured")
                .hint("Check the name, or add the provider to the configuration file.");
        }
        let message = match problem.body.error_description.trim_end_matches('.') {
            "" => format!("the daemon answered {}", problem.status),
            description => description.to_owned(),
        };
        let mut error = Self::new(code, message);
        if let Some(seconds) = problem.retry_after {
            error = error.hint(format!("Try again in {seconds} s."));
        } else if let (ExitCode::Failure, Some(id)) = (code, &problem.body.request_id) {
            error = error.hint(format!("The daemon's log has more under {id}."));
        }
        error
    }
}

fn exit_code(status: StatusCode, code: &str) -> ExitCode {
    match (status.as_u16(), code) {
        (409, _) => ExitCode::Connect,
        (401 | 403, _) => ExitCode::Denied,
        (429, _) => ExitCode::Limited,
        (_, "provider_error" | "provider_unavailable" | "provider_timeout") => ExitCode::Provider,
        (503, _) => ExitCode::Unreachable,
        (400..=499, _) => ExitCode::Usage,
        _ => ExitCode::Failure,
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|_| {
        let message = "the daemon's answer makes no sense: is it of another version?";
        Failure::Broken(CliError::new(ExitCode::Failure, message))
    })
}

/// Whether the listener may be believed: root's (systemd makes the socket), our own, or the daemon's user where the
/// system keeps its sockets. The owner of the socket file proves nothing: whoever can make one owns it.
fn is_trusted(server: u32, own: u32, socket: &Path, passwd: &str) -> bool {
    let is_system = socket.starts_with("/run/grantd") || socket.starts_with("/var/run/grantd");
    server == 0 || server == own || (is_system && uid_of(DAEMON_USER, passwd) == Some(server))
}

fn uid_of(user: &str, passwd: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn unreachable(socket: &Path, error: &io::Error) -> CliError {
    let at = socket.display();
    let (message, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("no daemon is running: there is no socket at {at}"),
            "Start one with `grantd serve`, or say in GRANTD_SOCKET where its socket is. To look around first: `grantd demo`.",
        ),
        io::ErrorKind::ConnectionRefused => {
            (format!("no daemon is running: nobody listens at {at}"), "Start one with `grantd serve`.")
        }
        io::ErrorKind::PermissionDenied => (
            format!("you may not use the daemon at {at}"),
            "An administrator can add you to the group `grantd-clients`; then log in again.",
        ),
        _ => (format!("the daemon at {at} cannot be reached: {error}"), "Is `grantd serve` running there?"),
    };
    CliError::new(ExitCode::Unreachable, message).hint(hint)
}

#[cfg(test)]
pub(crate) mod fake {
    use std::convert::Infallible;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http::Response;
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use serde_json::Value;
    use tokio_util::sync::{CancellationToken, DropGuard};
    use tower_service::Service;

    use crate::api::serve::{Asked, Limits, serve};

    type Script = dyn Fn(&str, &Value) -> (u16, Value) + Send + Sync;

    /// A daemon that answers `METHOD path` and a body from a script, and remembers what it was asked.
    pub(crate) struct Daemon {
        dir: tempfile::TempDir,
        asked: Arc<Mutex<Vec<String>>>,
        _shutdown: DropGuard,
    }

    impl Daemon {
        pub(crate) fn start(script: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
            let asked = Arc::new(Mutex::new(Vec::new()));
            let service = Scripted { script: Arc::new(script), asked: Arc::clone(&asked) };
            let shutdown = CancellationToken::new();
            tokio::spawn(serve(listener, service, Limits::for_this_process(), shutdown.clone()));
            Self { dir, asked, _shutdown: shutdown.drop_guard() }
        }

        pub(crate) fn socket(&self) -> PathBuf {
            self.dir.path().join("s")
        }

        pub(crate) fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[derive(Clone)]
    struct Scripted {
        script: Arc<Script>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Service<Asked<Incoming>> for Scripted {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, Asked { request, .. }: Asked<Incoming>) -> Self::Future {
            let this = self.clone();
            Box::pin(async move {
                let asked = format!("{} {}", request.method(), request.uri());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (status, answer) = (this.script)(&asked, &body);
                this.asked.lock().unwrap().push(asked);
                let response = Response::builder().status(status).header("retry-after", "7");
                Ok(response.body(Full::from(answer.to_string())).unwrap())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::fake::Daemon;
    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_and_a_problem_keeps_its_code() {
        let daemon = Daemon::start(|asked, body| match asked {
            "POST /echo" => (200, body.clone()),
            _ => (429, json!({"error": "rate_limited", "error_description": "Slow down."})),
        });
        let client = Client::new(&daemon.socket());
        let echoed: Value = client.post("/echo", &json!({"a": 1})).await.unwrap();
        assert_eq!(echoed, json!({"a": 1}));
        let refused: CliError = client.get::<Value>("/other", Duration::ZERO).await.unwrap_err().into();
        assert_eq!(refused, CliError::new(ExitCode::Limited, "Slow down").hint("Try again in 7 s."));
    }

    #[tokio::test]
    async fn a_body_of_many_buffers_arrives_whole() {
        let daemon = Daemon::start(|_, body| (200, body.clone()));
        let long = json!({"text": "x".repeat(60_000)});
        let echoed: Value = Client::new(&daemon.socket()).post("/echo", &long).await.unwrap();
        assert_eq!(echoed, long);
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_said_to_be_so() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let client = Client::new(&socket);
        for expected in ["there is no socket at", "nobody listens at"] {
            let error: CliError = client.get::<Value>("/", Duration::ZERO).await.unwrap_err().into();
            assert_eq!(error.code, ExitCode::Unreachable);
            assert!(error.message.contains(expected) && error.hint.is_some(), "{error:?}");
            let _ = std::os::unix::net::UnixListener::bind(&socket);
        }
    }

    #[test]
    fn only_root_oneself_and_the_systems_daemon_are_believed() {
        let passwd = "root:x:0:0::/root:/bin/sh\ngrantd:x:990:990::/:/sbin/nologin\n";
        let (system, other) = (Path::new("/run/grantd/grantd.sock"), Path::new("/tmp/grantd.sock"));
        for (server, socket, expected) in [
            (0, other, true),
            (1000, other, true),
            (1001, other, false),
            (990, other, false),
            (990, system, true),
            (991, system, false),
        ] {
            assert_eq!(is_trusted(server, 1000, socket, passwd), expected, "{server} {socket:?}");
        }
        assert!(!is_trusted(990, 1000, system, "notgrantd:x:990:\ngrantd:x\n"));
    }

    #[test]
    fn every_status_has_its_exit_code() {
        for (status, error, code) in [
            (409, "reconnect_required", ExitCode::Connect),
            (401, "invalid_api_key", ExitCode::Denied),
            (403, "access_denied", ExitCode::Denied),
            (404, "unknown_provider", ExitCode::Usage),
            (400, "invalid_request", ExitCode::Usage),
            (429, "rate_limited", ExitCode::Limited),
            (502, "provider_error", ExitCode::Provider),
            (503, "provider_unavailable", ExitCode::Provider),
            (503, "shutting_down", ExitCode::Unreachable),
            (504, "provider_timeout", ExitCode::Provider),
            (500, "internal_error", ExitCode::Failure),
        ] {
            assert_eq!(exit_code(StatusCode::from_u16(status).unwrap(), error), code, "{error}");
        }
    }
}
