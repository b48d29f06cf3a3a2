//! A cached token over the Unix socket, against an empty route of the same HTTP stack on a socket of the same kind.
//!
//! Three processes: the daemon as it is shipped, a server whose only route answers a constant of the same size, and this one,
//! which sends the same request to both over kept-alive connections. Rounds alternate, so that whatever else the machine does
//! hits both. The last line is `requests_ratio=… p99_ratio=…`: requests per second of the daemon over those of the empty route
//! (more is better), and its 99th percentile over the empty route's (less is better); each is the median over the rounds.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grantd::sandbox::browser::Browser;
use grantd::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET, Options, Sandbox, definition};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::time::sleep;
use warp::Filter as _;

/// How many rounds of each, and how long each lasts.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
/// How many kept-alive connections ask at once: alone for the latency of one caller, and many for the throughput.
const CONNECTIONS: [usize; 2] = [1, 16];

const REQUEST: &str = "POST /v1/token HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                       content-length: 22\r\n\r\n{\"provider\":\"sandbox\"}";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("--empty-route") => serve_empty_route(Path::new(&args.next().ok_or("a socket")?), args.next()),
        // `cargo test --benches` only wants to know that it starts.
        Some("--test") => Ok(()),
        _ => Builder::new_current_thread().enable_all().build()?.block_on(compare()),
    }
}

async fn compare() -> Result<()> {
    let home = Home::make()?;
    let sandbox = Sandbox::start(Options::default()).await?;
    let daemon = home.start_daemon(&sandbox)?;
    let body = connect(&home, &sandbox).await?;
    let empty = home.start_empty_route(&body)?;
    wait_for(&home.empty_socket()).await?;

    let (mut requests_ratio, mut p99_ratio) = (0.0, f64::INFINITY);
    for connections in CONNECTIONS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let empty = load(&home.empty_socket(), &empty, connections).await?;
            let daemon = load(&home.socket(), &daemon, connections).await?;
            rounds.push((empty, daemon));
        }
        let median = |pick: fn(&(Load, Load)) -> f64| median_of(rounds.iter().map(pick).collect());
        for (name, pick) in [("empty route", 0), ("cached token", 1)] {
            let of = |value: fn(&Load) -> f64| {
                median_of(rounds.iter().map(|round| value(if pick == 0 { &round.0 } else { &round.1 })).collect())
            };
            println!(
                "{connections:>3} connections  {name:<12}  {:>7.0} requests/s  p50 {:>4.0} µs  p99 {:>5.0} µs  server CPU {:>4.1} µs a request",
                of(|load| load.per_second),
                of(|load| load.p50),
                of(|load| load.p99),
                of(|load| load.cpu),
            );
        }
        requests_ratio = median(|(empty, daemon)| daemon.per_second / empty.per_second);
        p99_ratio = median(|(empty, daemon)| daemon.p99 / empty.p99);
    }
    println!("requests_ratio={requests_ratio:.2} p99_ratio={p99_ratio:.2}");
    Ok(())
}

/// What one round measured; times in microseconds.
struct Load {
    per_second: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
}

/// Asks as fast as the answers come, on so many connections.
async fn load(socket: &Path, server: &Server, connections: usize) -> Result<Load> {
    let cpu = server.cpu()?;
    let started = Instant::now();
    let callers: Vec<_> =
        (0..connections).map(|_| tokio::spawn(ask_until(socket.to_owned(), started + ROUND))).collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await?.map_err(|error| error.to_string())?);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = server.cpu()?.saturating_sub(cpu);
    times.sort_unstable();
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into the list")]
        let index = ((times.len() - 1) as f64 * share) as usize;
        times[index] as f64 / 1000.0
    };
    let count = times.len() as f64;
    Ok(Load { per_second: count / elapsed, p50: at(0.50), p99: at(0.99), cpu: cpu.as_secs_f64() * 1e6 / count })
}

/// Nanoseconds of each answer.
async fn ask_until(socket: PathBuf, end: Instant) -> std::io::Result<Vec<u64>> {
    let mut stream = UnixStream::connect(socket).await?;
    let (mut times, mut buffer) = (Vec::with_capacity(1 << 18), vec![0; 4096]);
    loop {
        let asked = Instant::now();
        if asked >= end {
            return Ok(times);
        }
        stream.write_all(REQUEST.as_bytes()).await?;
        let mut read = 0;
        while !is_whole(&buffer[..read])? {
            let more = stream.read(&mut buffer[read..]).await?;
            if more == 0 {
                return Err(std::io::Error::other("the server closed the connection"));
            }
            read += more;
        }
        times.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Whether a whole 200 answer has arrived.
fn is_whole(answer: &[u8]) -> std::io::Result<bool> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(&answer[..head]).map_err(std::io::Error::other)?;
    if !text.starts_with("HTTP/1.1 200") {
        return Err(std::io::Error::other(text.to_owned()));
    }
    let length =
        text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    Ok(answer.len() >= head + 4 + length.unwrap_or(0))
}

fn median_of(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A home for the daemon, removed at the end.
struct Home(PathBuf);

impl Home {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("grantd-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        fs::create_dir(path.join("providers.d"))?;
        Ok(Self(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/grantd.sock")
    }

    fn empty_socket(&self) -> PathBuf {
        self.0.join("empty.sock")
    }

    fn start_daemon(&self, sandbox: &Sandbox) -> Result<Server> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let home = self.0.display();
        fs::write(self.0.join("providers.d/sandbox.yaml"), definition(sandbox.url()))?;
        fs::write(self.0.join("secret"), DEFAULT_SECRET)?;
        Command::new("chmod").args(["-R", "go-rwx"]).arg(&self.0).status()?;
        let config = self.0.join("grantd.yaml");
        fs::write(
            &config,
            format!(
                "socket: {{path: {home}/run/grantd.sock}}\nstore: {{path: {home}/state/grantd.db}}\n\
                 web: {{url: \"http://localhost:{port}\"}}\nlog: {{level: warn}}\n\
                 providers:\n  sandbox: {{client_id: {DEFAULT_CLIENT}, client_secret: {{file: {home}/secret}}}}\n"
            ),
        )?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_grantd"));
        Ok(Server(command.env("HOME", &self.0).args(["serve", "--config"]).arg(config).stdin(Stdio::null()).spawn()?))
    }

    fn start_empty_route(&self, body: &str) -> Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        Ok(Server(command.arg("--empty-route").arg(self.empty_socket()).arg(body).stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A server process, ended with the benchmark.
struct Server(Child);

impl Server {
    /// The processor time it has used so far, of the kernel for it included, in steps of ten milliseconds.
    fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("an unknown format of /proc/PID/stat")?;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Connects an account as a person would, and returns the answer that a caller gets from then on.
async fn connect(home: &Home, sandbox: &Sandbox) -> Result<String> {
    wait_for(&home.socket()).await?;
    let asked = ask_once(&home.socket()).await?;
    let asked: Value = serde_json::from_str(asked.split_once("\r\n\r\n").ok_or("an answer")?.1)?;
    let browser = Browser::new();
    let page = browser.open(&asked["connect_url"].as_str().ok_or("a link")?.parse()?).await?;
    let consent = browser.press(&page, "/start", &[]).await?;
    let account = browser.press(&consent, "allow", &[]).await?;
    browser.press(&account, "/confirm", &[]).await?;
    let answer = ask_once(&home.socket()).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer")?;
    if !head.starts_with("HTTP/1.1 200") || sandbox.ledger().entries().is_empty() {
        return Err(format!("no token to measure with: {head}").into());
    }
    Ok(body.to_owned())
}

async fn ask_once(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(REQUEST.replace("host: localhost", "host: localhost\r\nconnection: close").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn wait_for(socket: &Path) -> Result<()> {
    for _ in 0..500 {
        if UnixStream::connect(socket).await.is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(format!("nobody listens at {}", socket.display()).into())
}

/// The other server: warp on a Unix socket with one route, in as many threads as the daemon has.
fn serve_empty_route(socket: &Path, body: Option<String>) -> Result<()> {
    let body = Bytes::from(body.unwrap_or_default());
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = StdListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let answer = move || {
            let mut answer = http::Response::new(body.clone().into());
            answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
            answer as warp::reply::Response
        };
        let route = warp::path!("v1" / "token").and(warp::post()).map(answer);
        loop {
            let (stream, _) = listener.accept().await?;
            let service = TowerToHyperService::new(warp::service(route.clone()));
            tokio::spawn(async move {
                let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                drop(served.await);
                Ok::<(), Infallible>(())
            });
        }
    })
}
