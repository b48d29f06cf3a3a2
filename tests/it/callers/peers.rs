//! Who a caller is to the kernel: the process that connected, by user, group and unit, whoever holds the connection since, and
//! by the rules of now.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::callers::{CALLERS, LABEL, READER, STRANGER, Site};
use crate::support::person::{is_root, skipped};
use crate::support::{Daemon, Home, Launch, eventually};

const WHOAMI: &str = "GET /v1/whoami HTTP/1.1\r\nHost: x\r\n\r\n";

/// Asks on a connection that stays open. The caller's name, or the error.
fn name_on(stream: &mut UnixStream) -> String {
    stream.write_all(WHOAMI.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
        if let Some(name) = body.map(name_in) {
            return name;
        }
        assert!(read > 0, "{text}");
    }
}

fn name_in(body: serde_json::Value) -> String {
    body["caller"].as_str().or_else(|| body["error"].as_str()).unwrap().to_owned()
}

/// `curl` on the socket of a daemon, as a process of its own.
fn curl(home: &Home) -> String {
    format!("exec curl -sS --unix-socket '{}' http://localhost/v1/whoami", home.socket().display())
}

/// Who a process is that runs this command line in `sh`, after `setpriv` with these arguments.
fn name_of(setpriv: &[&str], line: &str) -> String {
    let told = Command::new("setpriv").args(setpriv).args(["sh", "-c", line]).output().unwrap();
    let body = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
    name_in(body)
}

#[tokio::test]
async fn a_connection_stays_that_of_the_process_that_made_it() {
    if !is_root("descriptors that go to other users") {
        return;
    }
    let site = Site::new(CALLERS).await;
    let socket = site.world.daemon.home.socket();
    let mut stream = READER.does(move || async move { UnixStream::connect(socket).unwrap() }).await;
    assert_eq!(name_on(&mut stream), "reader", "this process is root, and was the reader when it connected");
    // A process of somebody else, which has nothing but the descriptor.
    let handed: OwnedFd = stream.try_clone().unwrap().into();
    let last = WHOAMI.replace("Host: x\r\n", "Host: x\r\nConnection: close\r\n").replace("\r\n", "\\r\\n");
    let told = Command::new("sh")
        .args(["-c", &format!("printf '{last}' >&0; cat <&0")])
        .uid(STRANGER.uid)
        .gid(STRANGER.gid)
        .stdin(Stdio::from(handed))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    let body = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{told:?}")).1;
    assert_eq!(name_in(serde_json::from_str(body).unwrap()), "reader");
}

#[tokio::test]
async fn new_rules_hold_for_the_next_request_on_a_connection_that_is_open() {
    if !is_root("a reload under the connections of other users") {
        return;
    }
    let site = Site::new(CALLERS).await;
    let daemon = &site.world.daemon;
    let open = async |who: crate::support::Person| {
        let socket = daemon.home.socket();
        who.does(move || async move { UnixStream::connect(socket).unwrap() }).await
    };
    let (mut reader, mut stranger) = (open(READER).await, open(STRANGER).await);
    assert_eq!((name_on(&mut reader), name_on(&mut stranger)), ("reader".to_owned(), "uid:43000".to_owned()));
    let reload = async |from: &str, to: &str, took: &str| {
        let seen = daemon.log().matches(took).count();
        daemon.home.edit("config/grantd.yaml", |text| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        });
        daemon.signal("HUP");
        eventually("the reload", async || daemon.log().matches(took).count() > seen).await;
    };
    reload("uid: 42001", "uid: 43000", "Took the new configuration").await;
    assert_eq!((name_on(&mut reader), name_on(&mut stranger)), ("uid:42001".to_owned(), "reader".to_owned()));
    assert_eq!(site.token(READER, serde_json::json!({})).await.status, 409);
    assert_eq!(site.token(STRANGER, serde_json::json!({})).await.status, 200);

    reload("uid: 43000", "uid: no-number", "Keeping the old configuration").await;
    assert_eq!(name_on(&mut stranger), "reader");
    reload("uid: no-number", "uid: 42004, gid: 42004", "Took the new configuration").await;
    assert_eq!(name_on(&mut stranger), "uid:43000");
    assert_eq!(site.ask(LABEL, "GET", "/v1/whoami", None).await.text("caller"), "reader", "two names beat one");
}

#[tokio::test]
async fn a_supplementary_group_counts_and_two_callers_at_once_are_nobody() {
    if !is_root("groups of other users") {
        return;
    }
    let callers = format!("{CALLERS}  ops: {{peer: {{gid: 42051}}, allow: []}}\n");
    let site = Site::new(&callers).await;
    let home = &site.world.daemon.home;
    let line = curl(home);
    for (uid, gid, groups, expected) in [
        ("43000", "43000", "--groups=42050", "group"),
        ("43000", "42050", "--clear-groups", "group"),
        ("43000", "43000", "--groups=42052", "uid:43000"),
        ("43000", "42050", "--groups=42051", "peer_denied"),
        ("42001", "42050", "--groups=42051", "reader"),
        ("0", "0", "--groups=42050", "uid:0"),
    ] {
        let (reuid, regid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
        assert_eq!(name_of(&[&reuid, &regid, groups], &line), expected, "{uid} {gid} {groups}");
    }
    assert!(site.world.daemon.log().contains("`group` and `ops`"), "the operator hears which two");
}

/// A control group, as systemd would make it for a unit. It goes when it is dropped.
struct Cgroup {
    top: PathBuf,
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// `None` where this process may make none.
    fn root() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let top = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (at, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(at))
        })?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let is_top = own.lines().any(|line| line == "0::/");
        let probe = top.join(format!("grantd-it-{}", std::process::id()));
        let may = is_top && fs::create_dir(&probe).is_ok() && fs::remove_dir(&probe).is_ok();
        may.then_some(Self { top, made: Vec::new() })
    }

    /// The line that puts a shell into the group at `path`.
    fn enter(&mut self, path: &str) -> String {
        let mut directory = self.top.clone();
        for group in path.split('/') {
            directory.push(group);
            if fs::create_dir(&directory).is_ok() {
                self.made.push(directory.clone());
            }
        }
        format!("echo $$ > '{}/cgroup.procs' && ", directory.display())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in self.made.iter().rev() {
            drop(fs::remove_dir(directory));
        }
    }
}

const UNITS: &str = "\
callers:
  issues: {peer: {unit: grantd-it-issues.service}, on_behalf_of: 41001, allow: [{provider: sandbox}]}
  own: {peer: {user_unit: grantd-it-own.service, uid: 43000}, allow: []}
  user: {peer: {uid: 42001}, allow: []}
";

#[tokio::test]
async fn a_unit_is_where_systemd_put_the_process_and_no_user_can_fake_it() {
    if !is_root("units") {
        return;
    }
    let Some(mut cgroup) = Cgroup::root() else {
        return skipped("units", "this process may make no control groups");
    };
    let site = Site::new(UNITS).await;
    let home = &site.world.daemon.home;
    let slice = "grantd-it.slice";
    let manager = |uid: u32| format!("user.slice/user-{uid}.slice/user@{uid}.service");
    for (path, uid, expected) in [
        (format!("{slice}/grantd-it-issues.service"), 43_000, "issues"),
        (format!("{slice}/grantd-it-issues.service/worker"), 43_000, "issues"),
        (format!("{slice}/grantd-it-issues.service"), 42_001, "issues"),
        // An administrator that runs in a caller's unit is that caller.
        (format!("{slice}/grantd-it-issues.service"), 0, "issues"),
        (format!("{slice}/grantd-it-other.service"), 43_000, "uid:43000"),
        (format!("{slice}/grantd-it-other.service"), 42_001, "user"),
        (format!("{slice}/grantd-it-other.service/grantd-it-issues.service"), 43_000, "uid:43000"),
        (format!("{}/{slice}/grantd-it-issues.service", manager(43_000)), 43_000, "uid:43000"),
        (format!("{}/{slice}/grantd-it-own.service", manager(43_000)), 43_000, "own"),
        (format!("{}/{slice}/grantd-it-own.service", manager(43_001)), 43_000, "uid:43000"),
        (format!("{slice}/grantd-it-own.service"), 43_000, "uid:43000"),
    ] {
        let enter = cgroup.enter(&path);
        let ids = format!("--reuid={uid} --regid={uid} --clear-groups");
        let line = format!("{enter}exec setpriv {ids} sh -c \"{}\"", curl(home));
        assert_eq!(name_of(&["--clear-groups"], &line), expected, "{uid} in {path}");
    }
}

/// Connects and ends at once; what it leaves behind asks.
const LEAVE: &str = "
import os, socket, sys
stream = socket.socket(socket.AF_UNIX)
stream.connect(sys.argv[1])
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    os.read(reader, 1)
    stream.sendall(b'GET /v1/whoami HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n')
    answer = b''
    while part := stream.recv(4096):
        answer += part
    print(answer.decode())
";

#[tokio::test]
async fn who_connects_and_is_gone_is_not_taken_for_somebody_outside_the_unit() {
    if !is_root("a process that ends before it is looked at") {
        return;
    }
    if Command::new("python3").arg("-c").arg("").output().is_err() {
        return skipped("a process that ends before it is looked at", "there is no python3");
    }
    let site = Site::new(UNITS).await;
    let daemon = &site.world.daemon;
    // It cannot look before the process has ended.
    daemon.signal("STOP");
    let mut leaving =
        Command::new("python3").args(["-c", LEAVE]).arg(daemon.home.socket()).stdout(Stdio::piped()).spawn().unwrap();
    assert!(leaving.wait().unwrap().success());
    daemon.signal("CONT");
    let mut told = String::new();
    leaving.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.0 403") && told.contains("peer_denied"), "{told}");
    assert!(daemon.log().contains("may have been `issues`"), "the operator hears why");
}

#[tokio::test]
async fn a_daemon_that_cannot_tell_users_apart_does_not_start() {
    if !is_root("user namespaces") {
        return;
    }
    let apart = Command::new("unshare").args(["-U", "-r", "true"]).output();
    if !apart.is_ok_and(|ended| ended.status.success()) {
        return skipped("user namespaces", "this process may make none");
    }
    let launch = || Launch { through: vec!["unshare", "-U", "-r"], ..Launch::default() };
    let home = Home::new();
    home.configure_and("  {}\n", ", mode: \"0660\"", "");
    let refused = Daemon::refused(&home, &launch());
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.err.contains("PrivateUsers=no") && !home.store().exists(), "{refused:?}");

    let home = Home::new();
    home.configure("  {}\n");
    let daemon = Daemon::launch(home, launch()).await;
    assert_eq!(daemon.get("/v1/health").await.status, 200, "nobody else can connect to a socket of one's own");
}
