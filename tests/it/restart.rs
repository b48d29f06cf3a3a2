//! However the daemon ends, what it was given is still there: it serves again at once, and no refresh token is lost that
//! reached it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grantd::sandbox::browser::{Browser, Page};
use grantd::sandbox::{BodyKind, Endpoint, Fault, Kind, Options, Rotation, Secret, What, When};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use url::Url;

use crate::support::ask::ask;
use crate::support::daemon::Output;
use crate::support::{Daemon, Home, Launch, World, eventually};

/// Tokens that live for two seconds: at any moment a refresh is near.
fn short_lived(rotation: Rotation) -> Options {
    Options { access_ttl: Duration::from_secs(2), rotation, ..Options::default() }
}

async fn a_moment() {
    sleep(Duration::from_millis(u64::from(getrandom::u32().unwrap() % 500))).await;
}

/// Stops the daemon in peace and looks at what it left.
async fn is_whole(world: &mut World) {
    world.daemon.signal("TERM");
    assert_eq!(world.daemon.ended().await.code(), Some(0), "{}", world.daemon.log());
    let database = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// Where an old refresh token is dead at once, an answer that a kill destroyed costs the grant, and nothing else does.
#[tokio::test]
async fn a_kill_costs_a_grant_only_if_it_destroyed_the_answer() {
    let rotation = Rotation::SingleUse { kills_family: true, grace: Duration::ZERO };
    let mut world = World::with(short_lived(rotation)).await;
    assert_eq!(world.connect("u-1001").await.status, 200);
    for round in 0..10 {
        let in_transit = round % 3 == 0;
        if in_transit {
            // The provider has rotated, and its answer arrives a byte at a time.
            let rotated = world.sandbox.ledger().refreshed();
            world.sandbox.script(Fault::of_refresh(When::Next(1), What::Slow(20)));
            eventually("a refresh is in transit", || async { world.sandbox.ledger().refreshed() > rotated }).await;
        } else {
            a_moment().await;
        }
        world.daemon.kill();
        world.sandbox.clear_faults();
        // What was sent before the kill is worked on all the same.
        sleep(Duration::from_millis(200)).await;
        let destroyed = replacements_given(&world) > replacements_stored(&world);
        assert!(destroyed || !in_transit, "round {round}");
        world.daemon.restart().await;
        let lost = !brings_another_token(&world).await;
        assert_eq!(lost, destroyed, "round {round}: {:?}", world.sandbox.ledger().refusals());
        if lost {
            reconnect(&world).await;
        }
    }
    is_whole(&mut world).await;
}

/// How often the provider has replaced the tokens of the newest grant.
fn replacements_given(world: &World) -> usize {
    let newest = world.sandbox.grants().last().unwrap().id;
    let ledger = world.sandbox.ledger();
    let issued = ledger.of(Kind::Issued, Secret::Access);
    issued.filter(|entry| entry.grant == Some(newest) && entry.grant_type == Some("refresh_token")).count()
}

/// How often the store has: the first pair is generation 1.
fn replacements_stored(world: &World) -> usize {
    let read_only = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(world.daemon.home.store(), read_only).unwrap();
    let generation: i64 = database.query_row("SELECT generation FROM grants", [], |row| row.get(0)).unwrap();
    usize::try_from(generation - 1).unwrap()
}

/// Whether the grant can be refreshed; if not, then because a person has to connect again.
async fn brings_another_token(world: &World) -> bool {
    let mut old = Value::Null;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let body = json!({"min_ttl": 0, "connect": false, "rejected": old});
        let answer = world.daemon.token(body).await;
        match answer.status {
            200 if old.is_null() => old = answer.json["token_id"].clone(),
            200 if answer.json["token_id"] != old => return true,
            409 => {
                assert_eq!(answer.text("error"), "reconnect_required", "{answer:?}");
                return false;
            }
            _ => {
                assert!(Instant::now() < deadline, "{answer:?}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn reconnect(world: &World) {
    let browser = Browser::new();
    let list = world.daemon.get("/v1/connections").await;
    let body = json!({"provider": "sandbox", "reconnect": list.json["connections"][0]["id"]});
    let session = world.daemon.post("/v1/connect", body).await;
    let page = browser.open(&session.url("connect_url")).await.unwrap();
    let consent = browser.press(&page, "/start", &[]).await.unwrap();
    let account = browser.press(&consent, "allow", &[("account", "u-1001")]).await.unwrap();
    assert_eq!(browser.press(&account, "/confirm", &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn after_a_kill_the_stored_token_is_served_at_once_even_without_the_provider() {
    let mut world = World::new().await;
    world.connect("u-1001").await;
    let before = world.daemon.token(json!({})).await;
    world.sandbox.script(Fault::new(Endpoint::Token, When::Always, What::Status { code: 503, body: BodyKind::Empty }));
    for _ in 0..3 {
        world.daemon.kill();
        world.daemon.restart().await;
        let after = world.daemon.token(json!({})).await;
        assert_eq!((after.status, &after.json["access_token"]), (200, &before.json["access_token"]));
    }
    assert_eq!(world.sandbox.ledger().refreshed(), 0);
}

#[tokio::test]
async fn a_connect_session_can_be_finished_whenever_the_daemon_was_killed_meanwhile() {
    for killed_before in 0..5 {
        let mut world = World::new().await;
        let browser = Browser::new();
        let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
        let mut page: Option<Page> = None;
        for step in 0..5 {
            if step == killed_before {
                for _ in 0..2 {
                    world.daemon.kill();
                    world.daemon.restart().await;
                }
            }
            let next = match (step, &page) {
                (1, Some(page)) => browser.press(page, "/start", &[]).await,
                (2, Some(page)) => browser.press(page, "allow", &[("account", "u-1001")]).await,
                (3, Some(page)) => browser.press(page, "/confirm", &[]).await,
                _ => browser.open(&session.url("connect_url")).await,
            };
            let next = next.unwrap();
            assert_eq!(next.status, 200, "killed before {killed_before}, step {step}: {}", next.body);
            page = Some(next);
        }
        let ended = world.daemon.get(&format!("/v1/connect/{}", session.text("connect_id"))).await;
        assert_eq!(ended.text("status"), "completed", "killed before step {killed_before}");
        let token = world.daemon.token(json!({})).await;
        assert!(world.is_live(&token.json["access_token"]).await);
    }
}

/// Goes on from whatever the page shows, as a person does who presses reload; `None` while nobody answers.
async fn go_on(browser: &Browser, link: &Url) -> Option<String> {
    let page = browser.open(link).await.ok()?;
    for (button, filled) in [("/confirm", None), ("/start", Some(("account", "u-1001")))] {
        if page.forms().iter().any(|form| form.action.ends_with(button)) {
            let pressed = browser.press(&page, button, &[]).await.ok()?;
            if let Some(filled) = filled {
                browser.press(&pressed, "allow", &[filled]).await.ok()?;
            }
            return None;
        }
    }
    Some(page.body)
}

#[tokio::test]
async fn kills_at_any_moment_of_connecting_leave_a_way_to_the_end() {
    let mut world = World::new().await;
    let mut kills = 0;
    while kills < 12 {
        let browser = Arc::new(Browser::new());
        let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
        assert_eq!(session.status, 200, "{session:?}");
        let link = session.url("connect_url");
        let person = tokio::spawn({
            let (browser, link) = (Arc::clone(&browser), link.clone());
            async move {
                while go_on(&browser, &link).await.is_none() {
                    sleep(Duration::from_millis(5)).await;
                }
            }
        });
        for _ in 0..3 {
            sleep(Duration::from_millis(u64::from(getrandom::u32().unwrap() % 60))).await;
            world.daemon.kill();
            world.daemon.restart().await;
            kills += 1;
        }
        tokio::time::timeout(Duration::from_secs(20), person).await.expect("the session ends").unwrap();
    }
    // Whatever became of those, an undisturbed one works, and what was stored serves.
    assert_eq!(world.connect("u-1002").await.status, 200);
    let token = world.daemon.token(json!({"account": "u-1002"})).await;
    assert!(world.is_live(&token.json["access_token"]).await, "{token:?}");
    is_whole(&mut world).await;
}

#[tokio::test]
async fn sigterm_finishes_a_refresh_that_is_under_way_and_answers_who_waits() {
    let mut world = World::new().await;
    world.connect("u-1001").await;
    let before = world.daemon.token(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_secs(2))));
    let socket = world.daemon.home.socket();
    let body = json!({"provider": "sandbox", "rejected": before.json["token_id"]});
    let waiting = tokio::spawn(async move { ask(&socket, "POST", "/v1/token", Some(body)).await });
    eventually("the provider was asked", || async { world.sandbox.ledger().refreshes().count() == 1 }).await;
    world.daemon.signal("TERM");
    let began = Instant::now();
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(world.daemon.ended().await.code(), Some(0), "{}", world.daemon.log());
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(!world.daemon.home.socket().exists(), "no socket is left that leads nowhere");

    world.daemon.restart().await;
    let after = world.daemon.token(json!({})).await;
    assert_eq!(after.json["access_token"], answer.json["access_token"]);
    assert_eq!((world.sandbox.ledger().refreshed(), world.sandbox.ledger().double_presentations()), (1, &[][..]));
}

#[tokio::test]
async fn sigterm_does_not_wait_for_idle_callers_or_long_polls() {
    let mut world = World::new().await;
    let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    let (socket, path) = (world.daemon.home.socket(), format!("/v1/connect/{}?wait=60", session.text("connect_id")));
    let idle = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let polling = tokio::spawn(async move { ask(&socket, "GET", &path, None).await });
    sleep(Duration::from_millis(300)).await;
    world.daemon.signal("TERM");
    // Not cut off when its time is over: answered at once, so that it can ask the next daemon.
    let answer = polling.await.unwrap().expect("the long poll is answered");
    assert_eq!((answer.status, answer.text("status")), (200, "pending"));
    assert_eq!(world.daemon.ended().await.code(), Some(0), "{}", world.daemon.log());
    assert!(!world.daemon.log().contains("did not finish in time"), "{}", world.daemon.log());
    drop(idle);
}

/// A second daemon with the files of the first, except for what is given.
fn second(first: &Home, socket: &Path, port: u16, store: &Path) -> (Home, Output) {
    let home = Home::new();
    home.write(
        "config/grantd.yaml",
        &format!(
            "socket: {{path: {}}}\nweb: {{url: \"http://localhost:{port}\"}}\nstore: {{path: {}}}\nproviders: {{}}\n",
            socket.display(),
            store.display(),
        ),
    );
    let environment = vec![("HOME", first.path().into())];
    let output = Daemon::refused(&home, &Launch { environment, ..Launch::default() });
    (home, output)
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_does_not_notice() {
    let world = World::new().await;
    world.connect("u-1001").await;
    let before = world.daemon.token(json!({})).await;
    let first = &world.daemon.home;
    let other = Home::new();
    let (_, refused) = second(first, &other.socket(), other.port, &first.store());
    assert!(refused.code > 0 && refused.err.contains("another grantd uses this store"), "{refused:?}");
    assert!(!other.socket().exists(), "nothing is left behind");
    let (_, refused) = second(first, &first.socket(), other.port, &other.store());
    assert!(refused.code > 0 && refused.err.contains("grantd.sock"), "{refused:?}");
    assert!(!other.store().exists(), "no store is made for a daemon that cannot listen");
    let (_, refused) = second(first, &other.socket(), first.port, &other.store());
    assert!(refused.code > 0 && refused.err.contains(&first.port.to_string()), "{refused:?}");
    assert!(!other.socket().exists() && !other.store().exists());

    let after = world.daemon.token(json!({})).await;
    assert_eq!(after.json["access_token"], before.json["access_token"]);
    let refreshed = world.daemon.token(json!({"rejected": after.json["token_id"]})).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
}

/// Everything below a directory except the configuration.
fn written(home: &Home) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![home.path().to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(home.path()).unwrap().display().to_string();
            match below.as_str() {
                "config" => {}
                "state" => open.push(path),
                _ => {
                    found.push(below);
                    open.extend(path.is_dir().then_some(path));
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn a_web_port_that_is_taken_is_said_so_and_nothing_is_written() {
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let home = Home::new();
        home.configure("  {}\n");
        let Ok(_taken) = TcpListener::bind((address, home.port)) else { continue };
        let refused = Daemon::refused(&home, &Launch::default());
        assert!(refused.code > 0, "{refused:?}");
        assert!(refused.err.contains(&format!("port {} is taken", home.port)), "{refused:?}");
        assert_eq!(written(&home), Vec::<String>::new());
    }
}
