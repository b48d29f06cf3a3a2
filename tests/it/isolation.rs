//! Everybody acts for themself: what one user of the machine connects, no other user can use, see or take away, and no user
//! can keep the others from being served.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grantd::sandbox::browser::Browser;
use grantd::sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use crate::support::ask::{ask, ask_raw};
use crate::support::daemon::Output;
use crate::support::person::is_root;
use crate::support::{Answer, Daemon, Home, Launch, Person, World, eventually};

const UNKNOWN_CONNECTION: &str = "cx_AAAAAAAAAAAAAAAAAAAAAA";
const UNKNOWN_SESSION: &str = "cn_AAAAAAAAAAAAAAAAAAAAAA";

/// A machine with a group whose members may ask.
struct Machine {
    world: World,
    alice: Person,
    bob: Person,
    outsider: Person,
}

impl Machine {
    /// The daemon belongs to root.
    async fn new() -> Self {
        Self::of(Launch::default()).await
    }

    async fn of(launch: Launch) -> Self {
        let (group, gid) = some_group();
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let home = Home::new();
        home.knows_and(&sandbox, &format!(", mode: \"0660\", group: {group}"), "");
        let run = home.file("run");
        fs::create_dir(&run).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        if let Some((uid, gid)) = launch.user {
            give_away(home.path(), uid, gid);
        }
        let daemon = Daemon::launch(home, launch).await;
        let person = |uid, gid| Person { uid, gid };
        Self {
            world: World { sandbox, daemon },
            alice: person(41_001, gid),
            bob: person(41_002, gid),
            outsider: person(41_003, 41_003),
        }
    }

    fn socket(&self) -> PathBuf {
        self.world.daemon.home.socket()
    }

    async fn ask(&self, who: Person, method: &'static str, path: &str, body: Option<Value>) -> Answer {
        let (socket, path) = (self.socket(), path.to_owned());
        who.does(move || async move { ask(&socket, method, &path, body).await.unwrap() }).await
    }

    async fn token(&self, who: Person) -> Answer {
        self.ask(who, "POST", "/v1/token", Some(json!({"provider": "sandbox"}))).await
    }

    /// `who` connects an account in a browser that their own command opened.
    async fn connect(&self, who: Person) {
        let body = json!({"provider": "sandbox", "open": true});
        let session = self.ask(who, "POST", "/v1/connect", Some(body)).await;
        assert_eq!(session.status, 200, "{session:?}");
        let browser = Browser::new();
        let page = browser.open(&session.url("browser_url")).await.unwrap();
        let consent = browser.press(&page, "/start", &[]).await.unwrap();
        let account = browser.press(&consent, "allow", &[("account", "u-1001")]).await.unwrap();
        let done = browser.press(&account, "/confirm", &[]).await.unwrap();
        assert_eq!(done.status, 200, "{}", done.body);
    }

    fn run(&self, who: Person, args: &[&str]) -> Output {
        Output::of(Daemon::command(&self.world.daemon.home).args(args).uid(who.uid).gid(who.gid))
    }
}

/// A group of the system, by name and number.
fn some_group() -> (String, u32) {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let found = groups.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid = fields.get(2)?.parse().ok().filter(|gid| (1..60_000).contains(gid))?;
        Some((fields[0].to_owned(), gid))
    });
    found.unwrap()
}

fn give_away(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        for below in fs::read_dir(path).unwrap() {
            give_away(&below.unwrap().path(), uid, gid);
        }
    }
}

/// A body without what differs from request to request.
fn without_id(answer: &Answer) -> (u16, String) {
    let mut body = answer.json.clone();
    body.as_object_mut().unwrap().remove("request_id").expect("every problem has a request id");
    (answer.status, body.to_string())
}

#[tokio::test]
async fn what_one_user_connects_is_not_there_for_another() {
    if !is_root("what other users see") {
        return;
    }
    let machine = Machine::new().await;
    let (alice, bob) = (machine.alice, machine.bob);
    machine.connect(alice).await;
    let hers = machine.token(alice).await;
    assert_eq!(hers.status, 200, "{hers:?}");
    assert!(machine.world.is_live(&hers.json["access_token"]).await);
    let connection = hers.text("connection").to_owned();

    let his = machine.token(bob).await;
    assert_eq!((his.status, his.text("error")), (409, "connection_required"));
    for account in ["u-1001", "ada@sandbox.example"] {
        let body = json!({"provider": "sandbox", "account": account, "connect": false});
        let named = machine.ask(bob, "POST", "/v1/token", Some(body)).await;
        let body = json!({"provider": "sandbox", "account": "nobody@sandbox.example", "connect": false});
        let unknown = machine.ask(bob, "POST", "/v1/token", Some(body)).await;
        assert_eq!(without_id(&named), without_id(&unknown));
    }
    let list = machine.ask(bob, "GET", "/v1/connections", None).await;
    assert_eq!((list.status, &list.json["connections"]), (200, &json!([])));
    let all = machine.ask(bob, "GET", "/v1/connections?all=true", None).await;
    assert_eq!(all.status, 403, "{all:?}");

    let session = machine.ask(alice, "POST", "/v1/connect", Some(json!({"provider": "sandbox"}))).await;
    let session = session.text("connect_id").to_owned();
    for (not_his, not_there) in [
        (format!("/v1/connections/{connection}"), format!("/v1/connections/{UNKNOWN_CONNECTION}")),
        (format!("/v1/connect/{session}"), format!("/v1/connect/{UNKNOWN_SESSION}")),
        (format!("/v1/connect/{session}?wait=1"), format!("/v1/connect/{UNKNOWN_SESSION}?wait=1")),
    ] {
        for method in ["GET", "DELETE"] {
            let refused = machine.ask(bob, method, &not_his, None).await;
            let missing = machine.ask(bob, method, &not_there, None).await;
            assert_eq!(refused.status, 404, "{method} {not_his}: {refused:?}");
            assert_eq!(without_id(&refused), without_id(&missing), "{method} {not_his}");
        }
    }
    let rename = async |id: &str| {
        machine
            .ask(bob, "PATCH", &format!("/v1/connections/{id}"), Some(json!({"label": "mine", "default": true})))
            .await
    };
    let (refused, missing) = (rename(&connection).await, rename(UNKNOWN_CONNECTION).await);
    assert_eq!((refused.status, without_id(&refused)), (404, without_id(&missing)));
    let again = |id: &str| Some(json!({"provider": "sandbox", "reconnect": id}));
    let refused = machine.ask(bob, "POST", "/v1/connect", again(&connection)).await;
    let missing = machine.ask(bob, "POST", "/v1/connect", again(UNKNOWN_CONNECTION)).await;
    assert_eq!(without_id(&refused), without_id(&missing));
    assert_eq!(refused.status, 404);

    let still = machine.ask(alice, "GET", &format!("/v1/connect/{session}"), None).await;
    assert_eq!((still.status, still.text("status")), (200, "pending"), "nothing that he tried has changed it");
    assert_eq!(machine.token(alice).await.json["access_token"], hers.json["access_token"]);
}

#[tokio::test]
async fn root_administers_and_is_not_thereby_given_a_token() {
    if !is_root("what root sees of other users") {
        return;
    }
    let machine = Machine::new().await;
    machine.connect(machine.alice).await;
    let hers = machine.token(machine.alice).await;
    let connection = hers.text("connection");
    let daemon = &machine.world.daemon;

    let all = daemon.get("/v1/connections?all=true").await;
    let listed = &all.json["connections"][0];
    assert_eq!((all.status, &listed["id"], &listed["account"]["id"]), (200, &json!(connection), &json!("u-1001")));
    assert!(listed["subject"].to_string().contains("41001"), "{listed}");
    let one = daemon.get(&format!("/v1/connections/{connection}")).await;
    assert_eq!(one.status, 200);
    for answer in [&all, &one] {
        assert!(!answer.json.to_string().contains("_MARK_"), "{answer:?}");
    }
    assert_eq!(daemon.get("/v1/connections").await.json["connections"], json!([]), "none of them is root's own");
    for account in [Value::Null, json!("u-1001"), json!(connection)] {
        let own = daemon.token(json!({"account": account})).await;
        assert_ne!(own.status, 200, "{own:?}");
        assert!(!own.json.to_string().contains("_MARK_"));
    }
    assert_eq!(daemon.token(json!({})).await.status, 409);

    let gone = daemon.delete(&format!("/v1/connections/{connection}")).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(machine.token(machine.alice).await.status, 409);
    assert!(!machine.world.is_live(&hers.json["access_token"]).await);
}

#[tokio::test]
async fn the_commands_of_one_user_show_nothing_of_another() {
    if !is_root("the commands of other users") {
        return;
    }
    let machine = Machine::new().await;
    machine.connect(machine.alice).await;
    let hers = machine.run(machine.alice, &["token", "sandbox"]);
    assert_eq!(hers.code, 0, "{hers:?}");
    assert!(machine.world.is_live(&json!(hers.out.trim())).await);
    let status = machine.run(machine.alice, &["status"]);
    assert!(status.code == 0 && status.out.contains("ada@sandbox.example"), "{status:?}");

    let his = machine.run(machine.bob, &["token", "sandbox"]);
    assert_eq!((his.code, &*his.out), (3, ""), "{his:?}");
    let status = machine.run(machine.bob, &["status"]);
    assert!(!format!("{status:?}").contains("ada@"), "{status:?}");
    let connection = machine.token(machine.alice).await.text("connection").to_owned();
    let taken = machine.run(machine.bob, &["disconnect", &connection]);
    assert_ne!(taken.code, 0, "{taken:?}");
    assert_eq!(machine.run(machine.alice, &["token", "sandbox"]).out, hers.out);

    let outside = machine.run(machine.outsider, &["token", "sandbox"]);
    assert_eq!((outside.code, &*outside.out), (7, ""), "{outside:?}");
}

#[tokio::test]
async fn who_is_not_in_the_group_cannot_connect_and_nobody_is_nobody() {
    if !is_root("users outside the group") {
        return;
    }
    let machine = Machine::new().await;
    let socket = machine.socket();
    let dialled = machine.outsider.does(move || async move { UnixStream::connect(socket).await.map(drop) }).await;
    assert_eq!(dialled.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);

    let overflow = Person { uid: 65_534, ..machine.alice };
    for path in ["/v1/whoami", "/v1/health"] {
        let refused = machine.ask(overflow, "GET", path, None).await;
        assert_eq!((refused.status, refused.text("error")), (403, "peer_denied"), "{path}");
    }
    assert_eq!(machine.token(machine.alice).await.status, 409);
}

#[tokio::test]
async fn a_daemon_that_is_nobody_does_not_start() {
    if !is_root("a daemon that is nobody") {
        return;
    }
    let home = Home::new();
    home.configure("  {}\n");
    give_away(home.path(), 65_534, 65_534);
    let refused = Daemon::refused(&home, &Launch { user: Some((65_534, 65_534)), ..Launch::default() });
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.err.contains("65534") && !home.file(".local").exists(), "{refused:?}");
}

#[tokio::test]
async fn a_link_works_in_the_browser_of_its_person_and_in_no_other() {
    if !is_root("the browsers of other users") {
        return;
    }
    let machine = Machine::new().await;
    let session = machine.ask(machine.alice, "POST", "/v1/connect", Some(json!({"provider": "sandbox"}))).await;
    let link = session.url("connect_url");
    for stranger in [machine.bob, machine.outsider, Person { uid: 0, gid: 0 }] {
        let link = link.clone();
        let page = stranger.does(move || async move { Browser::new().open(&link).await.unwrap() }).await;
        assert_eq!(page.status, 403, "{stranger:?}: {}", page.body);
        assert!(page.forms().is_empty() && !page.body.contains(session.text("user_code")), "{}", page.body);
    }
    let connected = machine.alice.does(move || async move {
        let browser = Browser::new();
        let page = browser.open(&link).await.unwrap();
        let consent = browser.press(&page, "/start", &[]).await.unwrap();
        let account = browser.press(&consent, "allow", &[("account", "u-1001")]).await.unwrap();
        browser.press(&account, "/confirm", &[]).await.unwrap().status
    });
    assert_eq!(connected.await, 200);
    assert_eq!(machine.token(machine.alice).await.status, 200);
}

#[tokio::test]
async fn the_uid_of_the_daemon_administers() {
    if !is_root("a daemon of another user") {
        let world = World::new().await;
        let me = world.daemon.get("/v1/whoami").await;
        assert_eq!((&me.json["admin"], me.status), (&json!(true), 200));
        return;
    }
    let (_, gid) = some_group();
    let service = Person { uid: 41_100, gid };
    let machine = Machine::of(Launch { user: Some((service.uid, gid)), ..Launch::default() }).await;
    let root = Person { uid: 0, gid: 0 };
    for (who, admin, status) in [(service, true, 200), (root, true, 200), (machine.alice, false, 403)] {
        let me = machine.ask(who, "GET", "/v1/whoami", None).await;
        assert_eq!((me.status, &me.json["admin"]), (200, &json!(admin)), "{who:?}");
        assert_eq!(me.json["peer"]["uid"], json!(who.uid));
        assert_eq!(machine.ask(who, "GET", "/v1/connections?all=true", None).await.status, status, "{who:?}");
    }
    machine.connect(machine.alice).await;
    assert_eq!(machine.token(service).await.status, 409, "administering is no claim to a token");
    let connection = machine.token(machine.alice).await.text("connection").to_owned();
    let path = format!("/v1/connections/{connection}");
    let renamed = machine.ask(service, "PATCH", &path, Some(json!({"default": true}))).await;
    assert_eq!(renamed.status, 404, "nor to a say in which token her programs get");
    assert_eq!(machine.ask(service, "DELETE", &path, None).await.status, 200);
}

/// Opens connections that have asked once and then rest. Tells how many were turned away.
async fn rest_on(socket: &Path, count: usize) -> (Vec<UnixStream>, usize) {
    let (mut resting, mut refused) = (Vec::new(), 0);
    for _ in 0..count {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        // A peer for whom there is no place is told so whether or not it has asked.
        drop(stream.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await);
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        if &head == b"HTTP/1.1 200" {
            resting.push(stream);
        } else {
            assert_eq!(&head, b"HTTP/1.1 503");
            refused += 1;
        }
    }
    (resting, refused)
}

#[tokio::test]
async fn three_hundred_idle_connections_of_one_user_keep_nobody_else_out() {
    if !is_root("whether one user can keep another out") {
        return;
    }
    let machine = Machine::new().await;
    let socket = machine.socket();
    let (resting, refused) = machine
        .alice
        .does(move || async move {
            let (resting, refused) = rest_on(&socket, 300).await;
            (resting.into_iter().map(|stream| stream.into_std().unwrap()).collect::<Vec<_>>(), refused)
        })
        .await;
    assert_eq!((resting.len(), refused), (256, 44));

    assert_eq!(machine.token(machine.bob).await.status, 409);
    assert_eq!(machine.world.daemon.get("/v1/health").await.status, 200);
    let full = machine.ask(machine.alice, "GET", "/v1/health", None).await;
    assert_eq!((full.status, full.text("error")), (503, "too_many_connections"));
    assert!(full.headers.contains_key("retry-after"));

    drop(resting);
    eventually("her places come free", || async {
        machine.ask(machine.alice, "GET", "/v1/health", None).await.status == 200
    })
    .await;
}

/// Writes one byte a second, and returns how many were taken when the connection was cut.
async fn trickle(stream: &mut UnixStream, text: &[u8]) -> usize {
    let mut sent = 0;
    let mut answer = [0; 512];
    for byte in text.iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sent += 1;
        if timeout(Duration::from_secs(1), stream.read(&mut answer)).await.is_ok() {
            break;
        }
        assert!(sent < 60, "it is never cut");
    }
    sent
}

#[tokio::test]
async fn slow_peers_are_cut_and_hold_up_nobody() {
    let world = World::new().await;
    let socket = world.daemon.home.socket();
    let dial = || async { UnixStream::connect(&socket).await.unwrap() };

    let silent = async {
        let mut stream = dial().await;
        let read = timeout(Duration::from_secs(60), stream.read(&mut [0; 16])).await;
        assert!(matches!(read.expect("a silent peer is cut"), Ok(0) | Err(_)));
    };
    let slow_head = async {
        let mut stream = dial().await;
        assert!(trickle(&mut stream, b"GET /v1/health?a=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb").await > 2);
    };
    let slow_body = async {
        let mut stream = dial().await;
        let head = b"POST /v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        assert!(trickle(&mut stream, b" ").await > 2);
    };
    let deaf = async {
        let mut stream = dial().await;
        let request = b"GET /v1/providers HTTP/1.1\r\nHost: x\r\n\r\n".repeat(64);
        let asking = async { while stream.write_all(&request).await.is_ok() {} };
        timeout(Duration::from_secs(60), asking).await.expect("a peer that never reads is cut");
    };
    let over = std::sync::atomic::AtomicBool::new(false);
    let slow_ones = async {
        tokio::join!(silent, slow_head, slow_body, deaf);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let others = async {
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            let asked = timeout(Duration::from_secs(5), world.daemon.get("/v1/health")).await;
            assert_eq!(asked.expect("others are served meanwhile").status, 200);
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(slow_ones, others);
}

/// The processor time that a process has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

#[tokio::test]
async fn without_descriptors_it_waits_without_spinning_and_recovers() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let home = Home::new();
    home.knows(&sandbox);
    let through = vec!["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""];
    let daemon = Daemon::launch(home, Launch { through, ..Launch::default() }).await;
    let world = World { sandbox, daemon };
    world.connect("u-1001").await;
    let token = world.daemon.token(json!({})).await;
    assert_eq!(token.status, 200);

    // The pages have no cap of their own below the system's: every descriptor that is left goes to these.
    let mut visitors = Vec::new();
    for _ in 0..100 {
        visitors.push(TcpStream::connect(("127.0.0.1", world.daemon.home.port)).await.unwrap());
    }
    eventually("the descriptors run out", || async { world.daemon.log().contains("cannot accept") }).await;
    let (before, began) = (cpu_time(world.daemon.pid()), Instant::now());
    let socket = world.daemon.home.socket();
    let mut callers = Vec::new();
    for _ in 0..30 {
        callers.push(UnixStream::connect(&socket).await.unwrap());
    }
    sleep(Duration::from_secs(3)).await;
    let (used, passed) = (cpu_time(world.daemon.pid()) - before, began.elapsed());
    assert!(used < passed / 3, "{used:?} of processor time in {passed:?}");

    drop((visitors, callers));
    eventually("it serves again", || async {
        let asked = timeout(Duration::from_secs(2), ask(&socket, "GET", "/v1/health", None)).await;
        matches!(asked, Ok(Ok(answer)) if answer.status == 200)
    })
    .await;
    let rejected = world.daemon.token(json!({"rejected": token.json["token_id"]})).await;
    assert_eq!(rejected.status, 200, "it can refresh again: {rejected:?}");
    assert_ne!(rejected.json["access_token"], token.json["access_token"]);
}

#[tokio::test]
async fn a_peer_cannot_say_that_it_is_somebody_else() {
    let world = World::new().await;
    let socket = world.daemon.home.socket();
    for (header, status) in [
        (("authorization", "Bearer x"), 401),
        (("authorization", "Basic cm9vdDp4"), 401),
        (("origin", "http://localhost"), 403),
        (("x-forwarded-user", "root"), 200),
        (("x-remote-uid", "0"), 200),
    ] {
        let answer = ask_raw(&socket, "GET", "/v1/whoami", &[header], bytes::Bytes::new()).await.unwrap();
        assert_eq!(answer.status, status, "{header:?}");
        if status == 200 {
            assert_eq!(answer.json["peer"]["uid"], json!(rustix::process::geteuid().as_raw()));
        }
    }
}
