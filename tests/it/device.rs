//! A person connects by a code that is entered elsewhere: grantd asks at the provider's pace until it is decided, and nothing
//! serves before whoever began it has seen the account and said yes.

mod at_the_question;
mod definitions;
mod kills;
mod renewal;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::Duration;

use grantd::sandbox::browser::{Browser, Page};
use grantd::sandbox::{DeviceSecret, Endpoint, Fault, Fingerprint, Kind, Options, Secret, What, When};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use url::Url;

use crate::support::journey::assert_says;
use crate::support::person::is_root;
use crate::support::{Answer, Daemon, Person, World, ask, eventually};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A device flow as the one who began it knows it.
struct Flow {
    id: String,
    proof: String,
    begun: Answer,
}

impl Flow {
    async fn begin(world: &World) -> Self {
        let begun = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "device": true})).await;
        assert_eq!(begun.status, 200, "{begun:?}");
        Self { id: begun.text("connect_id").to_owned(), proof: begun.text("proof").to_owned(), begun }
    }

    fn path(&self, step: &str) -> String {
        format!("/v1/connect/{}{step}", self.id)
    }

    async fn standing(&self, world: &World) -> Answer {
        world.daemon.get(&self.path("")).await
    }

    /// Waits until the session says so.
    async fn becomes(&self, world: &World, status: &str) -> Answer {
        eventually(status, || async { self.standing(world).await.text("status") == status }).await;
        self.standing(world).await
    }

    async fn confirm(&self, world: &World) -> Answer {
        world.daemon.post(&self.path("/confirm"), json!({"proof": self.proof})).await
    }

    /// Enters the code on another device and decides.
    async fn enter(&self, decision: &str, account: &str) -> Page {
        enter(&self.begun.json["device"], decision, account).await
    }
}

async fn enter(device: &Value, decision: &str, account: &str) -> Page {
    let browser = Browser::new();
    let page: Url = device["verification_uri"].as_str().unwrap().parse().unwrap();
    let form = browser.open(&page).await.unwrap();
    let asked = browser.press(&form, "/device", &[("user_code", device["user_code"].as_str().unwrap())]).await.unwrap();
    browser.press(&asked, decision, &[("account", account)]).await.unwrap()
}

fn hasty() -> Options {
    Options { device_interval: Duration::from_secs(1), ..Options::default() }
}

/// When each device code was presented, in milliseconds.
fn polls(world: &World) -> Vec<(Fingerprint, i64)> {
    let ledger = world.sandbox.ledger();
    ledger.of(Kind::Presented, Secret::Device).map(|entry| (entry.fingerprint, entry.at_ms)).collect()
}

#[tokio::test]
async fn the_account_is_shown_and_serves_only_after_the_yes_of_whoever_began() {
    let world = World::with(hasty()).await;
    let flow = Flow::begin(&world).await;
    let device = &flow.begun.json["device"];
    assert_eq!(flow.begun.text("status"), "opened");
    assert_eq!(device["user_code"], flow.begun.json["user_code"]);
    assert_eq!((&device["interval"], flow.begun.json["device_flow"].as_bool()), (&json!(1), Some(true)));
    assert!(device["expires_at"].as_i64() < flow.begun.json["connect_expires_at"].as_i64(), "time to say yes is left");
    assert_eq!(flow.standing(&world).await.json["proof"], Value::Null, "it is given once");

    assert_says(&flow.enter("allow", "u-1002").await, &["You can go back to your device"]);
    let waits = flow.becomes(&world, "awaiting_confirmation").await;
    assert_eq!(waits.json["account"]["id"], "u-1002");
    assert_eq!(waits.json["granted"], json!(["email", "openid", "profile"]));
    assert_eq!(world.daemon.token(json!({})).await.status, 409, "nothing serves yet");

    for wrong in ["guessed", &flow.proof[1..], &flow.id] {
        let refused = world.daemon.post(&flow.path("/confirm"), json!({"proof": wrong})).await;
        assert_eq!((refused.status, refused.text("error")), (403, "wrong_proof"), "{wrong}");
    }
    assert_eq!(world.daemon.token(json!({})).await.status, 409);
    let done = flow.confirm(&world).await;
    assert_eq!((done.status, done.text("status")), (200, "completed"), "{done:?}");
    assert_eq!(flow.confirm(&world).await.status, 410, "once");

    let token = world.daemon.token(json!({})).await;
    assert_eq!((token.status, &token.json["account"]["id"]), (200, &json!("u-1002")));
    assert!(world.is_live(&token.json["access_token"]).await);
    world.assert_renewable().await;
    world.assert_sound();
    for never in ["dc_MARK_", &flow.proof] {
        assert!(!world.daemon.log().contains(never), "{never} is in the log");
    }
}

#[tokio::test]
async fn a_person_who_says_no_ends_it_at_the_provider_and_here() {
    let world = World::with(hasty()).await;
    let flow = Flow::begin(&world).await;
    assert_says(&flow.enter("deny", "u-1001").await, &["Denied"]);
    assert_eq!(flow.becomes(&world, "denied").await.json["done"], true);
    assert_eq!(flow.confirm(&world).await.status, 410);

    let other = Flow::begin(&world).await;
    other.enter("allow", "u-1001").await;
    other.becomes(&world, "awaiting_confirmation").await;
    let declined = world.daemon.post(&other.path("/decline"), json!({})).await;
    assert_eq!((declined.status, declined.text("status")), (200, "denied"));
    assert_eq!(other.confirm(&world).await.status, 410);
    eventually("what was given is given back", || async { world.live_grants() == 0 }).await;
    world.assert_nothing_kept("two times no").await;
}

#[tokio::test]
async fn a_code_that_nobody_enters_ends_with_its_time() {
    let world = World::with(Options { device_ttl: Duration::from_secs(3), ..hasty() }).await;
    let flow = Flow::begin(&world).await;
    flow.becomes(&world, "expired").await;
    assert!(!polls(&world).is_empty());
    world.assert_nothing_kept("the code has died").await;
}

#[tokio::test]
async fn the_interval_is_kept_and_grows_when_the_provider_says_so() {
    let world = World::with(hasty()).await;
    world.sandbox.script(Fault {
        at: Endpoint::Token,
        when: When::Next(1),
        grant_type: Some(GRANT_TYPE.to_owned()),
        what: What::OAuthError("slow_down".to_owned()),
    });
    let flow = Flow::begin(&world).await;
    eventually("three polls", || async { polls(&world).len() >= 3 }).await;
    let at: Vec<i64> = polls(&world).iter().map(|(_, at)| *at).collect();
    for pair in at.windows(2) {
        assert!(pair[1] - pair[0] >= 5_990, "one second, and five more: {at:?}");
    }
    let ledger = world.sandbox.ledger();
    assert!(
        ledger.entries().iter().filter(|entry| entry.outcome == "slow_down").count() <= 1,
        "we were never too fast"
    );
    flow.enter("allow", "u-1001").await;
    flow.becomes(&world, "awaiting_confirmation").await;
}

#[tokio::test]
async fn a_provider_that_breaks_down_meanwhile_is_asked_again() {
    let world = World::with(hasty()).await;
    for what in [What::DropBeforeProcessing, What::Garbage] {
        let grant_type = Some(GRANT_TYPE.to_owned());
        world.sandbox.script(Fault { at: Endpoint::Token, when: When::Next(1), grant_type, what });
    }
    let flow = Flow::begin(&world).await;
    flow.enter("allow", "u-1001").await;
    flow.becomes(&world, "awaiting_confirmation").await;
    assert_eq!(flow.confirm(&world).await.text("status"), "completed");
}

#[tokio::test]
async fn who_cancels_stops_the_polling() {
    let world = World::with(hasty()).await;
    let flow = Flow::begin(&world).await;
    eventually("the first poll", || async { !polls(&world).is_empty() }).await;
    let (code, _) = polls(&world)[0];
    let cancelled = world.daemon.delete(&flow.path("")).await;
    assert_eq!(cancelled.text("status"), "cancelled");
    let count = |code: Fingerprint| polls(&world).iter().filter(|(seen, _)| *seen == code).count();
    let before = count(code);

    // Another flow tells the time.
    Flow::begin(&world).await;
    eventually("three polls of another", || async {
        polls(&world).iter().filter(|(seen, _)| *seen != code).count() >= 3
    })
    .await;
    assert!(count(code) <= before + 1, "at most one was under way");
    assert_eq!(flow.standing(&world).await.text("status"), "cancelled");
}

#[tokio::test]
async fn whoever_asked_may_hang_up() {
    let world = World::with(hasty()).await;
    let body = json!({"provider": "sandbox", "device": true}).to_string();
    let mut stream = UnixStream::connect(world.daemon.home.socket()).await.unwrap();
    let request =
        format!("POST /v1/connect HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually("the provider has given a code", || async {
        world.sandbox.ledger().of(Kind::Issued, Secret::Device).count() == 1
    })
    .await;
    drop(stream);

    eventually("it is polled", || async { !polls(&world).is_empty() }).await;
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    let column = |name: &str| {
        store.query_row(&format!("SELECT {name} FROM sessions"), [], |row| row.get::<_, String>(0)).unwrap()
    };
    let device =
        json!({"user_code": column("user_code"), "verification_uri": world.sandbox.url().join("device").unwrap()});
    enter(&device, "allow", "u-1001").await;
    let path = format!("/v1/connect/{}", column("id"));
    eventually("the account came", || async {
        world.daemon.get(&path).await.text("status") == "awaiting_confirmation"
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_goes_on_with_the_same_code() {
    let mut world = World::with(hasty()).await;
    let flow = Flow::begin(&world).await;
    eventually("the first poll", || async { !polls(&world).is_empty() }).await;
    world.daemon.kill();
    for file in std::fs::read_dir(world.daemon.home.file("state")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(8).any(|window| window == b"dc_MARK_"),
                "a device code lies open in {}",
                path.display()
            );
        }
    }
    flow.enter("allow", "u-1002").await;
    world.daemon.restart().await;
    flow.becomes(&world, "awaiting_confirmation").await;
    assert_eq!(flow.confirm(&world).await.text("status"), "completed");
    assert!(world.is_live(&world.daemon.token(json!({})).await.json["access_token"]).await);
    world.assert_sound();
}

#[tokio::test]
async fn a_daemon_that_stops_waits_for_nobody_and_goes_on_later() {
    let mut world = World::with(Options { device_interval: Duration::from_secs(120), ..Options::default() }).await;
    let flow = Flow::begin(&world).await;
    world.daemon.signal("TERM");
    assert!(world.daemon.ended().await.success());
    assert!(!world.daemon.log().contains("did not finish before the deadline"), "{}", world.daemon.log());
    world.daemon.restart().await;
    assert_eq!(flow.standing(&world).await.text("status"), "opened");
    assert_eq!(world.daemon.delete(&flow.path("")).await.status, 200);
    assert!(polls(&world).is_empty(), "its time had not come");
}

#[tokio::test]
async fn another_user_sees_nothing_and_confirms_nothing() {
    if !is_root("the device flow of other users") {
        return;
    }
    let world = World::arranged(hasty(), |home, sandbox| {
        home.knows_and(sandbox, ", mode: \"0660\"", "");
        std::fs::create_dir(home.file("run")).unwrap();
        std::os::unix::fs::chown(home.file("run"), Some(0), Some(0)).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(home.file("run"), open).unwrap();
    })
    .await;
    let flow = Flow::begin(&world).await;
    flow.enter("allow", "u-1001").await;
    flow.becomes(&world, "awaiting_confirmation").await;

    let mallory = Person { uid: 41_009, gid: 0 };
    let proof = json!({"proof": flow.proof, "url": "http://localhost/callback/sandbox?code=c&state=s"});
    for (method, step) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/confirm"),
        ("POST", "/decline"),
        ("POST", "/start"),
        ("POST", "/callback"),
    ] {
        let (socket, path, body) = (world.daemon.home.socket(), flow.path(step), proof.clone());
        let body = (method == "POST").then_some(body);
        let answer = mallory.does(move || async move { ask::ask(&socket, method, &path, body).await.unwrap() }).await;
        assert_eq!((answer.status, answer.text("error")), (404, "not_found"), "{method} {step}: {answer:?}");
    }
    assert_eq!(flow.confirm(&world).await.text("status"), "completed", "nothing has happened to it");
}

#[tokio::test]
async fn what_makes_no_sense_is_told_with_its_field_and_changes_nothing() {
    let world = World::arranged(hasty(), |home, _| {
        home.edit("config/providers.d/sandbox.yaml", |text| text + "default_variant: web\nvariants:\n  web: {about: As it is.}\n  bare: {about: Without devices., set: {endpoints: {device: null}}}\n");
        let client = home.client();
        home.configure(&format!("  sandbox: {{{client}}}\n  bare: {{definition: sandbox, variant: bare, {client}}}\n"));
    })
    .await;
    for (body, field) in [
        (json!({"provider": "bare", "device": true}), "device"),
        (json!({"provider": "sandbox", "device": "yes"}), "device"),
        (json!({"provider": "sandbox", "device": true, "open": true}), "open"),
    ] {
        let refused = world.daemon.post("/v1/connect", body.clone()).await;
        assert_eq!((refused.status, refused.text("field")), (400, field), "{body}: {refused:?}");
    }
    assert_eq!(world.daemon.post("/v1/connect", json!({"provider": "nowhere", "device": true})).await.status, 404);
    assert_eq!(world.sandbox.ledger().of(Kind::Issued, Secret::Device).count(), 0);

    let flow = Flow::begin(&world).await;
    for (step, body, status) in [
        ("/confirm", json!({}), 400),
        ("/confirm", json!({"proof": 7}), 400),
        ("/confirm", json!({"proof": ""}), 400),
        ("/confirm", json!({"proof": "a\nb"}), 400),
        ("/confirm", json!({"proof": flow.proof}), 410),
        ("/callback", json!({"url": "x"}), 400),
        ("/callback", json!({"url": "http://localhost/callback/sandbox?code=c&state=s", "proof": flow.proof}), 410),
        ("/start", json!({}), 410),
        ("/finish", json!({}), 404),
    ] {
        let refused = world.daemon.post(&flow.path(step), body.clone()).await;
        assert_eq!(refused.status, status, "{step} {body}: {refused:?}");
    }
    assert_eq!(world.daemon.get(&flow.path("/confirm")).await.status, 405);
    assert_eq!(world.daemon.post("/v1/connect/cn_nobody/confirm", json!({"proof": "p"})).await.status, 404);
    assert_eq!(flow.standing(&world).await.text("status"), "opened");

    let page = Browser::new().open(&flow.begun.url("connect_url")).await.unwrap();
    assert_says(&page, &["Go on in the terminal"]);
    assert!(page.forms().is_empty(), "a browser cannot take it over");
    let other = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    assert_ne!(other.text("connect_id"), flow.id, "a link is for another session");
}

#[tokio::test]
async fn a_provider_that_gives_no_code_is_told_apart_from_one_that_refuses_us() {
    let world = World::with(hasty()).await;
    for (what, status, error) in [
        (What::OAuthError("unauthorized_client".to_owned()), 502, "provider_error"),
        (What::OAuthError("invalid_client".to_owned()), 502, "provider_error"),
        (What::DropBeforeProcessing, 503, "provider_unavailable"),
        (What::Html, 503, "provider_unavailable"),
    ] {
        world.sandbox.script(Fault { at: Endpoint::Device, when: When::Next(1), grant_type: None, what: what.clone() });
        let refused = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "device": true})).await;
        assert_eq!((refused.status, refused.text("error")), (status, error), "{what:?}: {refused:?}");
    }
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    let sessions: i64 = store.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(sessions, 0);
}

#[tokio::test]
async fn a_client_without_its_secret_can_be_polled_for_where_the_definition_says_so() {
    let world = World::arranged(Options { device_secret: DeviceSecret::Never, ..hasty() }, |home, _| {
        home.redefine("redirect:\n", "device: {request_auth: none, poll_auth: none}\nredirect:\n");
    })
    .await;
    let flow = Flow::begin(&world).await;
    flow.enter("allow", "u-1001").await;
    flow.becomes(&world, "awaiting_confirmation").await;
    assert_eq!(flow.confirm(&world).await.text("status"), "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_shows_the_code_waits_and_names_the_account() {
    let world = World::with(hasty()).await;
    let mut command = Daemon::command(&world.daemon.home);
    command.args(["connect", "sandbox", "--device", "--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line_with = |what: &str| loop {
        let mut line = String::new();
        assert_ne!(told.read_line(&mut line).unwrap(), 0, "no line with {what}");
        if line.contains(what) {
            return line.trim().to_owned();
        }
    };
    let (page, code) = tokio::task::block_in_place(|| (line_with("http://"), line_with("-")));
    enter(&json!({"user_code": code, "verification_uri": page}), "allow", "u-1002").await;
    let ended = tokio::task::block_in_place(|| child.wait().unwrap());
    let (mut out, mut rest) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    told.read_to_string(&mut rest).unwrap();
    assert!(ended.success(), "{out} {rest}");
    assert!(out.starts_with("Connected sandbox as grace@sandbox.example (cx_"), "{out}");
    assert!(rest.contains("grace@sandbox.example") && rest.contains("may be used for: email openid profile"), "{rest}");
}
