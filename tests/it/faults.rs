//! Whatever a provider does, a refresh that failed is put in its class, who can be served is served, the memory of the
//! daemon stays what it was, and no connection is lost over it.

mod front;
mod table;

use std::fs;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use grantd::clock::{Clock as _, SystemClock};
use grantd::sandbox::{Options, Rotation, Sandbox};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::faults::front::{Frame, Front, Play, framed};
use crate::faults::table::{AMBIGUOUS, REGISTRATION, Row};
use crate::support::{Daemon, Home, World, eventually_within};

const ADA: &str = "u-1001";
/// How many connections are refreshed in turn while answers break off.
const CUT_SIDE_BY_SIDE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);
/// How far the memory of the daemon may grow over an answer, in kilobytes.
const GROWTH_MAX: u64 = 32 * 1024;
/// The longest that a provider is left alone because it asked for it, in seconds.
const PAUSE_MAX: i64 = 3600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_be_throttled_is_a_pause_of_an_hour_at_most() {
    survive_all(table::throttled()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_however_odd_costs_a_connection() {
    survive_all(table::answers()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_do_not_come_or_do_not_end_cost_neither_a_connection_nor_memory() {
    survive_all(table::connections()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_break_off_cost_nothing_where_the_old_refresh_token_stays_good() {
    survive_all(table::cut()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}", trap.local_addr().unwrap());
    survive_all(table::redirects(&to)).await;
    let visited = tokio::time::timeout(Duration::from_millis(100), trap.accept()).await;
    assert!(visited.is_err(), "somebody else was sent the refresh token");
}

/// A world whose token endpoint is the front.
async fn staged(rotation: Rotation) -> (World, Front) {
    let sandbox = Sandbox::start(Options { rotation, ..Options::default() }).await.unwrap();
    let front = Front::before(sandbox.url().socket_addrs(|| None).unwrap()[0]).await;
    let home = Home::new();
    home.knows(&sandbox);
    home.tell(rotation);
    home.redefine(&format!("token: {}token", sandbox.url()), &format!("token: {}/token", front.url()));
    let daemon = Daemon::start(home).await;
    let world = World { sandbox, daemon };
    assert_eq!(world.connect(ADA).await.status, 200);
    (world, front)
}

async fn survive_all(rows: Vec<Row>) {
    stream::iter(rows).for_each_concurrent(6, survive).await;
}

async fn survive(row: Row) {
    let Row { name, play, class, rotates } = row;
    let rotation = match rotates {
        true => Rotation::MultiValid,
        false => Rotation::SingleUse { kills_family: true, grace: Duration::ZERO },
    };
    let (mut world, front) = staged(rotation).await;
    let first = world.live_token(json!({})).await;
    // Once as it should be, so that what is measured is not the first time.
    let first = world.live_token(json!({"rejected": first.json["token_id"]})).await;
    let memory = peak_memory(&world);
    front.play(play).await;

    let asked = Instant::now();
    let refused = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
    let took = asked.elapsed();
    assert!(took < PATIENCE, "{name}: {took:?}");
    assert!(matches!(refused.status, 502..=504), "{name}: {refused:?}");
    assert!(refused.json.get("connect_url").is_none(), "{name}: {refused:?}");
    assert_eq!(refused.status == 502, class == REGISTRATION, "{name}: {refused:?}");
    assert_eq!(world.state().await, "refresh_failed", "{name}");
    let failed = failure(&world);
    assert_eq!(failed.class, class, "{name}");
    assert!((0..=PAUSE_MAX + 60).contains(&failed.pause), "{name}: left alone for {} s", failed.pause);
    // Whoever has not seen it fail is served from what lives.
    for _ in 0..5 {
        assert_eq!(world.live_token(json!({})).await.json["token_id"], first.json["token_id"], "{name}");
    }
    let more = if took < Duration::from_secs(5) { 5 } else { 0 };
    for _ in 0..more {
        let again = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
        assert!(matches!(again.status, 502..=504), "{name}: {again:?}");
    }
    let growth = peak_memory(&world).saturating_sub(memory);
    assert!(growth < GROWTH_MAX, "{name}: {growth} kB more, {} bytes were sent", front.streamed());

    front.assert_patient(&name);
    front.play(Play::Pass).await;
    if failed.pause > 10 {
        // What a provider asks of everybody is kept in memory only.
        world.daemon.restart().await;
    }
    eventually_within(PATIENCE, &name, async || {
        make_due(&world);
        world.state().await == "active"
    })
    .await;
    let renewed = world.live_token(json!({})).await;
    assert_ne!(renewed.json["token_id"], first.json["token_id"], "{name}");
    assert_eq!(world.invalid_grants(), 0, "{name}");
    front.assert_one_at_a_time(&name);
    world.assert_renewable().await;
    world.assert_sound();
}

/// How the last refresh of the only connection failed.
struct Failed {
    class: String,
    /// How long it is left alone from now, in seconds.
    pause: i64,
}

fn failure(world: &World) -> Failed {
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    let now = SystemClock.now().as_millis();
    store
        .query_row("SELECT last_failure, renew_at FROM grants", [], |row| {
            // A pause that has just passed is one of nothing.
            Ok(Failed { class: row.get(0)?, pause: (row.get::<_, i64>(1)? - now).max(0) / 1000 })
        })
        .unwrap()
}

/// Makes every grant that is left alone for a while due now, as if time had passed.
fn make_due(world: &World) {
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    store.execute("UPDATE grants SET renew_at = 0, due_at = 0 WHERE last_failure IS NOT NULL", []).unwrap();
}

/// The most memory that the daemon has had, in kilobytes.
fn peak_memory(world: &World) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_a_length_that_breaks_off_at_any_byte_is_ambiguous() {
    cut_everywhere(Frame::Length).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_chunks_that_breaks_off_at_any_byte_is_ambiguous() {
    cut_everywhere(Frame::Chunked).await;
}

/// Some connections are refreshed again and again, and each time the answer breaks off one byte later.
async fn cut_everywhere(frame: Frame) {
    let (mut world, front) = staged(Rotation::MultiValid).await;
    let first = world.live_token(json!({})).await;
    world.live_token(json!({"rejected": first.json["token_id"]})).await;
    let offsets = framed(&front.last_answer(), frame).len();
    world.stock(CUT_SIDE_BY_SIDE, Duration::from_secs(3600)).await;
    let mut last = vec![Value::Null; CUT_SIDE_BY_SIDE];
    let mut turns = (0..CUT_SIDE_BY_SIDE).cycle();
    for offset in 0..offsets {
        // It works as a rule: two are renewed in between.
        let mut clean = 2;
        let deadline = Instant::now() + PATIENCE;
        while clean > 0 || !front.is_passing() {
            assert!(Instant::now() < deadline, "cut at {offset}: nothing is renewed any more");
            let index = turns.next().unwrap();
            let before = last[index].take();
            let account = format!("stock-{index}");
            let answer = world.daemon.token(json!({"account": account, "rejected": before})).await;
            assert!(matches!(answer.status, 200 | 503), "cut at {offset}: {answer:?}");
            // One that waits for its next attempt is asked for what it has.
            last[index] = answer.json["token_id"].clone();
            if clean > 0 && answer.status == 200 && !before.is_null() {
                clean -= 1;
                if clean == 0 {
                    front.play(Play::CutOnce(frame, offset)).await;
                }
            }
        }
    }
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    let mut classes = store.prepare("SELECT DISTINCT last_failure FROM grants WHERE last_failure IS NOT NULL").unwrap();
    let classes = classes.query_map([], |row| row.get::<_, String>(0)).unwrap();
    assert!(classes.map(Result::unwrap).all(|class| class == AMBIGUOUS));
    front.assert_patient("cut everywhere");
    eventually_within(PATIENCE, "all are renewed", async || {
        make_due(&world);
        world.connections().await.iter().all(|listed| listed["state"] == "active")
    })
    .await;
    let stored: i64 = store.query_row("SELECT sum(generation - 1) FROM grants", [], |row| row.get(0)).unwrap();
    assert_eq!(world.refreshed(), offsets + usize::try_from(stored).unwrap(), "no answer that broke off was taken");
    assert_eq!(world.invalid_grants(), 0);
    front.assert_one_at_a_time("cut everywhere");
    world.assert_renewable().await;
    world.assert_sound();
}
