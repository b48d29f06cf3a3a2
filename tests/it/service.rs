//! As a service: what the daemon and a service manager say to each other, and what an operator has to correct before it starts.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use grantd::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET, Options, Sandbox, definition};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::ask::ask;
use crate::support::daemon::Output;
use crate::support::launch::Kept;
use crate::support::person::skipped;
use crate::support::{Daemon, Home, Launch, World, eventually};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// The service manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(home: &Home) -> Self {
        let path = home.file("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        Self { socket, path }
    }

    fn variable(&self) -> (&'static str, OsString) {
        ("NOTIFY_SOCKET", self.path.clone().into())
    }

    /// The next message, if one comes in time.
    fn hears(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).unwrap();
        let mut message = [0; 4096];
        match self.socket.recv(&mut message) {
            Ok(length) => Some(String::from_utf8(message[..length].to_vec()).unwrap()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next message that has this line, and those before it.
    fn waits_for(&self, line: &str) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut heard = Vec::new();
        loop {
            let message = self.hears(deadline.saturating_duration_since(Instant::now()));
            let Some(message) = message else { panic!("`{line}` never came, only {heard:?}") };
            let found = message.lines().any(|heard| heard == line);
            heard.push(message);
            if found {
                return heard;
            }
        }
    }
}

fn write_private(path: &Path, text: &str) {
    drop(fs::remove_file(path));
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
}

fn make_directory(path: &Path) {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).unwrap();
}

#[tokio::test]
async fn it_says_when_it_is_ready_reloading_and_stopping() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let home = Home::new();
    home.knows(&sandbox);
    let manager = Manager::new(&home);
    let launch = Launch { environment: vec![manager.variable()], ..Launch::default() };
    let mut child = Kept(launch.spawn(&home));
    let ready = manager.waits_for("READY=1").pop().unwrap();
    // At that very moment it answers.
    let health = ask(&home.socket(), "GET", "/v1/health", None).await.unwrap();
    assert_eq!(health.status, 200);
    assert!(ready.lines().any(|line| line.starts_with("STATUS=") && line.contains("1 provider")), "{ready}");

    let signal = |name: &str| Command::new("kill").args([name, &child.0.id().to_string()]).status().unwrap();
    assert!(signal("-HUP").success());
    let reloading = manager.waits_for("RELOADING=1").pop().unwrap();
    let at: Option<u64> = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse().ok());
    assert!(at.is_some_and(|at| at > 0), "{reloading}");
    manager.waits_for("READY=1");
    assert!(signal("-TERM").success());
    manager.waits_for("STOPPING=1");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn the_watchdog_is_fed_while_the_store_can_be_written_and_not_while_it_cannot() {
    let home = Home::new();
    home.configure("  {}\n");
    let manager = Manager::new(&home);
    let environment = vec![manager.variable(), ("WATCHDOG_USEC", "1000000".into())];
    let daemon = Daemon::launch(home, Launch { environment, ..Launch::default() }).await;
    for _ in 0..3 {
        manager.waits_for("WATCHDOG=1");
    }

    let database = rusqlite::Connection::open(daemon.home.store()).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // What was under way when the lock was taken may still be said.
    while manager.hears(Duration::from_millis(400)).is_some() {}
    // Longer than SQLite waits for a lock, so that a probe fails and another begins.
    let until = Instant::now() + Duration::from_secs(7);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let heard = manager.hears(left);
        assert!(heard.as_ref().is_none_or(|heard| !heard.contains("WATCHDOG=1")), "fed while nothing can be stored");
    }
    assert!(daemon.log().contains("Not feeding the watchdog"), "{}", daemon.log());
    database.execute_batch("ROLLBACK").unwrap();
    manager.waits_for("WATCHDOG=1");
}

/// Runs the daemon with standard input as the socket that is handed over, the way a service manager numbers it.
const HAND_OVER: [&str; 3] = ["sh", "-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\""];

#[tokio::test]
async fn a_socket_that_is_handed_over_is_served_and_left_as_it_is() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let home = Home::new();
    home.knows_and(&sandbox, ", mode: \"0600\"", "");
    make_directory(&home.file("run"));
    let listener = UnixListener::bind(home.socket()).unwrap();
    fs::set_permissions(home.socket(), fs::Permissions::from_mode(0o660)).unwrap();
    let face = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        (found.ino(), found.mode(), found.uid(), found.gid())
    };
    let before = face(&home.socket());
    // The manager keeps its own descriptor, so a caller who comes while the daemon is away waits and is not refused.
    let input = Some(OwnedFd::from(listener.try_clone().unwrap()));
    let launch = Launch { through: HAND_OVER.to_vec(), input, ..Launch::default() };
    let daemon = Daemon::launch(home, launch).await;
    let mut world = World { sandbox, daemon };
    world.connect("u-1001").await;
    assert_eq!(world.daemon.token(json!({})).await.status, 200);
    assert_eq!(face(&world.daemon.home.socket()), before);

    world.daemon.signal("TERM");
    assert_eq!(world.daemon.ended().await.code(), Some(0), "{}", world.daemon.log());
    assert_eq!(face(&world.daemon.home.socket()), before, "it is the manager's to remove");
    let socket = world.daemon.home.socket();
    let body = Some(json!({"provider": "sandbox"}));
    let early = tokio::spawn(async move { ask(&socket, "POST", "/v1/token", body).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!early.is_finished(), "it waits in the manager's queue");
    world.daemon.restart().await;
    assert_eq!(early.await.unwrap().unwrap().status, 200);
    world.daemon.kill();
    assert_eq!(face(&world.daemon.home.socket()), before);
    drop(listener);
}

#[tokio::test]
async fn systemd_itself_can_hand_over_the_socket() {
    const ACTIVATE: &str = "systemd-socket-activate";
    if Command::new(ACTIVATE).arg("--version").output().is_err() {
        return skipped("activation by systemd", "systemd-socket-activate is not installed");
    }
    let home = Home::new();
    home.configure("  {}\n");
    make_directory(&home.file("run"));
    let variable = |name: &str, value: &Path| format!("--setenv={name}={}", value.display());
    let mut activate = Command::new(ACTIVATE);
    activate
        .arg("--listen")
        .arg(home.socket())
        .arg(variable("HOME", home.path()))
        .arg(crate::support::launch::program())
        .args(["serve", "--config"])
        .arg(home.config())
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("XDG_STATE_HOME")
        .stderr(Stdio::null());
    let _running = Kept(activate.spawn().unwrap());
    let socket = home.socket();
    eventually("the daemon answers on systemd's socket", || async {
        ask(&socket, "GET", "/v1/health", None).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn what_is_handed_over_and_is_no_listening_unix_socket_is_refused() {
    let home = Home::new();
    home.configure("  {}\n");
    let tcp = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    for wrong in [OwnedFd::from(tcp), OwnedFd::from(stream), OwnedFd::from(fs::File::open("/dev/null").unwrap())] {
        let launch = Launch { through: HAND_OVER.to_vec(), input: Some(wrong), ..Launch::default() };
        let refused = Daemon::refused(&home, &launch);
        assert_eq!(refused.code, 78, "{refused:?}");
        assert!(refused.err.contains("handed over"), "{refused:?}");
        assert!(!home.file(".local").exists() && !home.store().exists(), "nothing is written");
    }
}

/// A home as a unit makes it: no `HOME`, only directories that the manager names.
fn as_a_unit(home: &Home) -> Launch {
    for below in ["unit", "unit/etc", "unit/lib", "unit/run", "unit/credentials", "unit/etc/providers.d"] {
        make_directory(&home.file(below));
    }
    fs::set_permissions(home.file("unit/lib"), fs::Permissions::from_mode(0o700)).unwrap();
    let variable = |name, below: &str| (name, home.file(below).into());
    Launch {
        arguments: Some(Vec::new()),
        environment: vec![
            variable("STATE_DIRECTORY", "unit/lib"),
            variable("RUNTIME_DIRECTORY", "unit/run"),
            variable("CONFIGURATION_DIRECTORY", "unit/etc"),
            variable("CREDENTIALS_DIRECTORY", "unit/credentials"),
            variable("GRANTD_SOCKET", "unit/run/grantd.sock"),
        ],
        without: vec!["HOME"],
        ..Launch::default()
    }
}

fn unit_configuration(home: &Home, more: &str) {
    let text = format!("web: {{url: \"http://localhost:{}\"}}\nproviders:\n{more}", home.port);
    home.write("unit/etc/grantd.yaml", &text);
}

#[tokio::test]
async fn the_directories_and_credentials_of_a_unit_are_used_and_no_others() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let home = Home::new();
    let launch = as_a_unit(&home);
    home.write("unit/etc/providers.d/sandbox.yaml", &definition(sandbox.url()));
    unit_configuration(
        &home,
        &format!("  sandbox: {{client_id: {DEFAULT_CLIENT}, client_secret: {{credential: sandbox}}}}\n"),
    );
    write_private(&home.file("unit/credentials/sandbox"), DEFAULT_SECRET);
    write_private(&home.file("unit/credentials/grantd.root"), KEY);
    let _running = Kept(launch.spawn(&home));
    let socket = home.file("unit/run/grantd.sock");
    eventually("it answers where the unit says", || async {
        ask(&socket, "GET", "/v1/health", None).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    assert!(home.file("unit/lib/grantd.db").exists());
    assert!(!home.file("unit/lib/root.key").exists(), "the key is the credential's and is not copied");
    assert!(!home.file(".local").exists() && !home.file("state/grantd.db").exists());
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o660, "the machine's socket is for a group");

    // The credential is the right one: the sandbox knows the client by it.
    let browser = grantd::sandbox::browser::Browser::new();
    let session = ask(&socket, "POST", "/v1/connect", Some(json!({"provider": "sandbox"}))).await.unwrap();
    let page = browser.open(&session.url("connect_url")).await.unwrap();
    let consent = browser.press(&page, "/start", &[]).await.unwrap();
    let account = browser.press(&consent, "allow", &[("account", "u-1001")]).await.unwrap();
    browser.press(&account, "/confirm", &[]).await.unwrap();
    let token = ask(&socket, "POST", "/v1/token", Some(json!({"provider": "sandbox"}))).await.unwrap();
    assert_eq!(token.status, 200, "{token:?}");
}

/// What is below a directory, with content.
fn snapshot(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(snapshot(&path));
        } else {
            let content = fs::read(&path).unwrap_or_default();
            found.push((path, content));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_machines_daemon_makes_no_root_key_by_itself() {
    let home = Home::new();
    let mut launch = as_a_unit(&home);
    unit_configuration(&home, "  {}\n");
    let before = snapshot(home.path());
    let refused = Daemon::refused(&home, &launch);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.err.contains("unit/lib/root.key") && refused.err.contains("grantd.root"), "{refused:?}");
    assert_eq!(snapshot(home.path()), before, "nothing is written");

    // The same if it is said in words and not by the environment.
    launch.arguments = Some(vec!["--system".into()]);
    launch.environment.push(("XDG_RUNTIME_DIR", home.path().into()));
    let refused = Daemon::refused(&home, &launch);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert_eq!(snapshot(home.path()), before, "nothing is written");
}

#[tokio::test]
async fn a_persons_daemon_makes_its_root_key_at_the_first_start_and_says_where() {
    let home = Home::new();
    home.configure("  {}\n");
    let mut daemon = Daemon::start(home).await;
    let key = daemon.home.file(".local/state/grantd/root.key");
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o400);
    let text = fs::read(&key).unwrap();
    assert!(daemon.log().contains(&key.display().to_string()), "{}", daemon.log());
    daemon.restart().await;
    assert_eq!(fs::read(&key).unwrap(), text, "it is made once");
}

/// A store with a connection in it that was closed in peace, and the place of its key.
async fn at_rest() -> (World, PathBuf) {
    let mut world = World::new().await;
    world.connect("u-1001").await;
    world.daemon.signal("TERM");
    assert_eq!(world.daemon.ended().await.code(), Some(0));
    let key = world.daemon.home.file(".local/state/grantd/root.key");
    (world, key)
}

fn refused_with(home: &Home) -> (Output, bool) {
    let before = snapshot(&home.file("state"));
    let refused = Daemon::refused(home, &Launch::default());
    (refused, snapshot(&home.file("state")) == before)
}

#[tokio::test]
async fn a_wrong_root_key_changes_nothing_and_both_keys_are_told_apart() {
    let (mut world, key) = at_rest().await;
    let right = fs::read_to_string(&key).unwrap();
    write_private(&key, OTHER_KEY);
    let (refused, unchanged) = refused_with(&world.daemon.home);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(unchanged, "the store is as it was, byte for byte");
    for text in [right.trim(), OTHER_KEY] {
        let key = grantd::seal::RootKey::parse(text.as_bytes()).unwrap();
        assert!(refused.err.contains(&key.fingerprint()), "{refused:?}");
        assert!(!refused.err.contains(text));
    }
    assert!(!world.daemon.home.socket().exists(), "no socket is left behind");

    for (wrong, mode) in [("not a key", 0o400), (right.trim(), 0o644), ("", 0o400), (&"0".repeat(64), 0o400)] {
        write_private(&key, wrong);
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let (refused, unchanged) = refused_with(&world.daemon.home);
        assert_eq!((refused.code, unchanged), (78, true), "{refused:?}");
        assert!(refused.err.contains("root.key"), "{refused:?}");
    }
    write_private(&key, &right);
    world.daemon.restart().await;
    let token = world.daemon.token(json!({})).await;
    assert_eq!(token.status, 200, "with the right key everything is there");

    // Also a store that was not closed in peace loses nothing to a wrong key.
    world.daemon.kill();
    write_private(&key, OTHER_KEY);
    assert_eq!(refused_with(&world.daemon.home).0.code, 78);
    write_private(&key, &right);
    world.daemon.restart().await;
    assert_eq!(world.daemon.token(json!({})).await.json["access_token"], token.json["access_token"]);
}

#[tokio::test]
async fn a_lost_root_key_is_not_replaced() {
    let (mut world, key) = at_rest().await;
    let right = fs::read_to_string(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let (refused, unchanged) = refused_with(&world.daemon.home);
    assert_eq!((refused.code, unchanged), (78, true), "{refused:?}");
    assert!(refused.err.contains("root.key") && refused.err.contains("grantd.db"), "{refused:?}");
    assert!(!key.exists());
    write_private(&key, &right);
    world.daemon.restart().await;
    assert_eq!(world.daemon.token(json!({})).await.status, 200);
}

#[tokio::test]
async fn a_reload_adds_a_provider_and_drops_nobody() {
    let world = World::new().await;
    world.connect("u-1001").await;
    let home = &world.daemon.home;
    let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    let poll = format!("/v1/connect/{}?wait=30", session.text("connect_id"));
    let (socket, cancelled) = (home.socket(), format!("/v1/connect/{}", session.text("connect_id")));
    let polling = tokio::spawn(async move { ask(&socket, "GET", &poll, None).await });
    let mut idle = UnixStream::connect(home.socket()).await.unwrap();
    let health = async |idle: &mut UnixStream| {
        idle.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let length = idle.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).contains(" 200 OK")
    };
    assert!(health(&mut idle).await);

    let lines = format!("{}  github: {{client_id: x}}\n", home.sandbox_line("sandbox"));
    let text = home.file("config/secret").display().to_string();
    let lines = lines.replace("client_id: x}", &format!("client_id: x, client_secret: {{file: {text}}}}}"));
    home.configure(&lines);
    world.daemon.signal("HUP");
    let provides = async |name: &str| world.daemon.get("/v1/providers").await.json.to_string().contains(name);
    eventually("the new provider is there", || provides("\"github\"")).await;
    assert!(health(&mut idle).await, "a connection from before is still served");
    assert!(!polling.is_finished());
    assert_eq!(world.daemon.token(json!({})).await.status, 200);

    // A bad file: the old configuration stays, and the log says where the fault is.
    for (bad, place) in [
        ("  sandbox: {client_id: x, client_sekret: y}\n", "client_sekret"),
        ("  sandbox: [\n", "grantd.yaml"),
        ("  nonesuch: {client_id: x}\n", "nonesuch"),
    ] {
        let told = world.daemon.log().matches("Keeping the old configuration").count();
        home.configure(bad);
        world.daemon.signal("HUP");
        eventually("it says why", || async {
            world.daemon.log().matches("Keeping the old configuration").count() > told
        })
        .await;
        let log = world.daemon.log();
        let line = log.lines().rfind(|line| line.contains("Keeping the old configuration")).unwrap();
        assert!(line.contains(place) && line.contains("grantd.yaml"), "{line}");
        assert!(provides("\"github\"").await && world.daemon.token(json!({})).await.status == 200);
    }
    fs::remove_file(home.config()).unwrap();
    world.daemon.signal("HUP");
    eventually("a missing file is said too", || async { world.daemon.log().contains("there is no configuration at") })
        .await;
    assert_eq!(world.daemon.token(json!({})).await.status, 200);

    assert_eq!(world.daemon.delete(&cancelled).await.status, 200);
    assert_eq!(polling.await.unwrap().unwrap().text("status"), "cancelled", "the long poll lived through it all");
}

#[test]
fn the_units_are_sound_and_closed() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let service = units.join("grantd.service");
    let looked =
        Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(&service).output();
    let Ok(looked) = looked else {
        return skipped("the units", "systemd-analyze is not installed");
    };
    let text = String::from_utf8_lossy(&looked.stdout);
    let exposure: Option<f64> = text.lines().find_map(|line| {
        line.split_once("exposure level for grantd.service: ")?.1.split_whitespace().next()?.parse().ok()
    });
    match exposure {
        Some(exposure) => assert!(exposure <= 1.5, "{text}"),
        None => skipped("the exposure of the unit", "this systemd-analyze cannot look at files"),
    }

    let place = tempfile::tempdir().unwrap();
    for (unit, name) in [("grantd.service", "grantd.service"), ("grantd.socket", "grantd.socket")] {
        let text = fs::read_to_string(units.join(unit)).unwrap();
        let text = text.replace("/usr/bin/grantd", env!("CARGO_BIN_EXE_grantd"));
        fs::write(place.path().join(name), text).unwrap();
    }
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args([place.path().join("grantd.service"), place.path().join("grantd.socket")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("grantd.s")).collect();
    assert!(ours.is_empty(), "{said}");
}
