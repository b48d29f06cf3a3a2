//! The daemon is killed inside a device flow: what can be kept is kept, no code that has brought its tokens is sent again, and
//! whoever waits is told the truth. Between two lines of the code it is killed by the failpoints `device.*` of `make chaos`.

use std::time::Duration;

use grantd::clock::{Clock as _, SystemClock};
use grantd::sandbox::{Endpoint, Fault, Kind, Options, Secret, What, When};
use rusqlite::Connection as Sqlite;
use serde_json::{Value, json};

use crate::device::{Flow, GRANT_TYPE, hasty, polls};
use crate::support::{World, ask, eventually};

/// Longer than any test.
const NEVER: What = What::Delay(Duration::from_secs(600));
/// The request is processed, and the answer is on its way for longer than the test lasts.
const ON_ITS_WAY: What = What::Slow(1);

impl World {
    fn tokens_asked(&self, what: What) {
        let grant_type = Some(GRANT_TYPE.to_owned());
        self.sandbox.script(Fault { at: Endpoint::Token, when: When::Next(1), grant_type, what });
    }

    fn count(&self, sql: &str) -> i64 {
        let store = Sqlite::open(self.daemon.home.store()).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        store.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// The person has said yes, the tokens have come, and whose they are is not known yet.
    async fn without_an_account(&self) -> Flow {
        self.sandbox.script(Fault { at: Endpoint::Userinfo, when: When::Always, grant_type: None, what: NEVER });
        let flow = Flow::begin(self).await;
        flow.enter("allow", "u-1002").await;
        eventually("what came is kept", async || {
            self.count("SELECT count(*) FROM device_openings WHERE answer IS NOT NULL") == 1
        })
        .await;
        flow
    }

    fn presented(&self) -> usize {
        polls(self).len()
    }

    /// No token stands open in any file of the daemon's.
    fn assert_sealed(&self) {
        for file in std::fs::read_dir(self.daemon.home.file("state")).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                assert!(
                    !bytes.windows(6).any(|window| window == b"_MARK_"),
                    "a secret lies open in {}",
                    path.display()
                );
            }
        }
    }
}

#[tokio::test]
async fn a_code_that_was_given_to_a_dead_daemon_costs_nothing() {
    let mut world = World::with(hasty()).await;
    world.sandbox.script(Fault { at: Endpoint::Device, when: When::Next(1), grant_type: None, what: ON_ITS_WAY });
    let socket = world.daemon.home.socket();
    let body = json!({"provider": "sandbox", "device": true});
    let asking = tokio::spawn(async move { ask::ask(&socket, "POST", "/v1/connect", Some(body)).await });
    eventually("it is given", async || world.sandbox.ledger().of(Kind::Issued, Secret::Device).count() == 1).await;
    world.daemon.kill();
    assert!(asking.await.unwrap().is_err(), "nobody has a code to enter");
    world.sandbox.clear_faults();
    world.daemon.restart().await;
    assert_eq!(world.count("SELECT count(*) FROM sessions"), 0);
    let flow = Flow::begin(&world).await;
    flow.enter("allow", "u-1001").await;
    flow.becomes(&world, "awaiting_confirmation").await;
    assert_eq!(flow.confirm(&world).await.text("status"), "completed");
    world.assert_sound();
}

#[tokio::test]
async fn an_answer_that_nobody_got_is_not_called_the_persons_delay() {
    for kill in [true, false] {
        let mut world = World::with(hasty()).await;
        let flow = Flow::begin(&world).await;
        world.tokens_asked(if kill { ON_ITS_WAY } else { What::DropAfterProcessing });
        flow.enter("allow", "u-1001").await;
        eventually("the tokens are given", async || world.live_grants() == 1).await;
        if kill {
            world.daemon.kill();
            world.sandbox.clear_faults();
            world.daemon.restart().await;
        }
        let told = flow.becomes(&world, "code_refused").await;
        assert_eq!(told.json["done"], true, "{told:?}");
        assert!(
            world.daemon.log().contains("no longer knows a device code before its time"),
            "the operator is told why"
        );
        let accepted = world.sandbox.ledger().of(Kind::Issued, Secret::Access).count();
        assert_eq!(accepted, 1, "the code was taken once");
        let sent = world.presented();
        Flow::begin(&world).await;
        eventually("another code is asked about", async || world.presented() >= sent + 2).await;
        let (first, _) = polls(&world)[0];
        assert_eq!(polls(&world)[..sent].iter().filter(|(code, _)| *code == first).count(), sent);
        assert!(polls(&world)[sent..].iter().all(|(code, _)| *code != first), "it is never sent again");
    }
}

#[tokio::test]
async fn what_came_is_kept_before_anybody_is_asked_whose_it_is() {
    let mut world = World::with(hasty()).await;
    let flow = world.without_an_account().await;
    let (sent, killed_at) = (world.presented(), SystemClock.now().as_millis());
    world.daemon.kill();
    world.assert_sealed();
    world.sandbox.clear_faults();
    world.daemon.restart().await;
    let waits = flow.becomes(&world, "awaiting_confirmation").await;
    assert_eq!(waits.json["account"]["id"], "u-1002");
    assert_eq!(world.daemon.token(json!({})).await.status, 409, "nothing serves yet");
    assert_eq!(world.count("SELECT count(*) FROM device_openings"), 0);
    assert_eq!(flow.confirm(&world).await.text("status"), "completed");
    assert_eq!(world.presented(), sent, "the code was spent, and is not sent again");
    assert!(world.count("SELECT issued_at FROM grants") <= killed_at, "its life counts from when it was asked for");
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn what_came_too_late_for_the_person_is_given_back_by_the_next_run() {
    let mut world = World::with(hasty()).await;
    let flow = world.without_an_account().await;
    world.daemon.kill();
    let store = Sqlite::open(world.daemon.home.store()).unwrap();
    store.execute("UPDATE sessions SET expires_at = created_at + 1", []).unwrap();
    drop(store);
    world.sandbox.clear_faults();
    assert_eq!(world.live_grants(), 1);
    world.daemon.restart().await;
    eventually("it is given back", async || world.live_grants() == 0).await;
    flow.becomes(&world, "expired").await;
    world.assert_nothing_kept("nobody could say yes in time").await;
}

#[tokio::test]
async fn an_account_that_waits_for_a_yes_waits_for_it_after_a_crash_too() {
    let mut world = World::with(Options { device_ttl: Duration::from_secs(60), ..hasty() }).await;
    let flow = Flow::begin(&world).await;
    flow.enter("allow", "u-1002").await;
    flow.becomes(&world, "awaiting_confirmation").await;
    let sent = world.presented();
    world.daemon.kill();
    world.assert_sealed();
    world.daemon.restart().await;
    let waits = flow.standing(&world).await;
    assert_eq!((waits.text("status"), &waits.json["account"]["id"]), ("awaiting_confirmation", &json!("u-1002")));
    assert_eq!(waits.json["proof"], Value::Null);
    assert_eq!(flow.confirm(&world).await.text("status"), "completed");
    assert_eq!(world.presented(), sent);
    world.assert_renewable().await;
    world.assert_sound();
}
