//! Forecast and upkeep: people are told in good time when they will be needed, and what nobody uses is only kept alive.

use std::time::Duration;

use grantd::clock::{Clock as _, SystemClock};
use grantd::sandbox::{BodyKind, Endpoint, Fault, IssueRefresh, Options, Rotation, What, When};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{Home, World, eventually};

const ADA: &str = "u-1001";
const DAY: i64 = 24 * 3600;

/// Adds a line to the section `refresh` of the definition.
fn rule(home: &Home, line: &str) {
    home.redefine("  lead: 60\n", &format!("  lead: 60\n  {line}\n"));
}

impl World {
    /// A world in which Ada is connected at a provider with one more rule for refreshing.
    async fn ruled(options: Options, line: &str, jobs: &str) -> Self {
        let world = Self::arranged(options, |home, _| {
            rule(home, line);
            home.set(jobs);
        })
        .await;
        assert_eq!(world.connect(ADA).await.status, 200);
        world
    }

    async fn only(&self) -> Value {
        let connections = self.connections().await;
        assert_eq!(connections.len(), 1, "{connections:?}");
        connections[0].clone()
    }

    /// Changes the store behind the daemon's back.
    fn change(&self, sql: &str) {
        let store = rusqlite::Connection::open(self.daemon.home.store()).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(store.execute(sql, []).unwrap(), 1, "{sql}");
    }

    fn status(&self) -> String {
        let output = self.daemon.run(&["status"]);
        assert_eq!(output.code, 0, "{output:?}");
        output.out
    }

    fn warnings(&self) -> usize {
        self.daemon.log().lines().filter(|line| line.contains("needs its person soon")).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_the_provider_has_set_is_told_from_the_first_day() {
    let world = World::ruled(Options::default(), "expires_after: 2592000", "").await;
    let listed = world.only().await;
    let (confirmed_at, id) = (listed["confirmed_at"].as_i64().unwrap(), listed["id"].as_str().unwrap());
    assert_eq!(listed["needs_person_at"], confirmed_at + 30 * DAY, "{listed}");
    assert_eq!(listed["needs_person_because"], "consent_ends");
    let shown = world.daemon.get(&format!("/v1/connections/{id}")).await;
    assert_eq!(shown.json, listed);
    let status = world.status();
    assert!(status.contains("the provider ends the access 30 days after you agreed"), "{status}");

    let first = world.live_token(json!({})).await;
    world.live_token(json!({"rejected": first.json["token_id"]})).await;
    assert_eq!(world.only().await["needs_person_at"], confirmed_at + 30 * DAY, "refreshing changes nothing");
    world.change("UPDATE connections SET confirmed_at = 0");
    assert!(world.status().contains("needs you now"), "{}", world.status());
    assert_eq!(world.connect(ADA).await.status, 200);
    let again = world.only().await;
    assert_eq!((&again["id"], again["needs_person_at"].as_i64() >= Some(confirmed_at + 30 * DAY)), (&json!(id), true));
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_stays_the_same_ends_when_its_answer_said() {
    let options =
        Options { rotation: Rotation::Static, refresh_ttl: Some(Duration::from_secs(604_800)), ..Options::default() };
    let world = World::arranged(options, |home, _| home.redefine("rotation: single_use", "rotation: static")).await;
    assert_eq!(world.connect(ADA).await.status, 200);
    let listed = world.only().await;
    assert_eq!(listed["needs_person_at"], listed["slots"][0]["refresh_expires_at"], "{listed}");
    assert_eq!(listed["needs_person_because"], "refresh_token_ends");
    let first = world.live_token(json!({})).await;
    world.live_token(json!({"rejected": first.json["token_id"]})).await;
    assert_eq!(world.only().await["needs_person_at"], listed["needs_person_at"], "the token is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_begins_anew_with_each_token_matters_only_while_renewing_fails() {
    let options = Options { refresh_ttl: Some(Duration::from_secs(604_800)), ..Options::default() };
    let world = World::with(options).await;
    assert_eq!(world.connect(ADA).await.status, 200);
    assert_eq!(world.only().await["needs_person_at"], Value::Null);

    world.sandbox.script(Fault::new(Endpoint::Token, When::Always, What::Status { code: 503, body: BodyKind::Text }));
    world.change("UPDATE grants SET renew_at = 0, due_at = 0");
    eventually("it fails", async || world.state().await == "refresh_failed").await;
    let failing = world.only().await;
    assert_eq!(failing["needs_person_because"], "not_renewed", "{failing}");
    assert_eq!(failing["needs_person_at"], failing["slots"][0]["refresh_expires_at"]);
    assert!(world.status().contains("the access ends because it could not be renewed"));

    world.sandbox.clear_faults();
    eventually("it recovers", async || world.state().await == "active").await;
    assert_eq!(world.only().await["needs_person_at"], Value::Null);
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_died_without_a_refresh_token_says_that_it_needs_its_person() {
    let options = Options { issue_refresh: IssueRefresh::OfflineAccessOnly, ..Options::default() };
    let world = World::with(options).await;
    assert_eq!(world.connect(ADA).await.status, 200);
    let alive = world.only().await;
    assert_eq!((&alive["state"], &alive["needs_person_because"]), (&json!("active"), &json!("no_refresh_token")));
    assert_eq!(alive["needs_person_at"], alive["slots"][0]["expires_at"]);
    assert!(world.status().contains("the provider gave no way to renew it"));

    world.change("UPDATE grants SET expires_at = 1000, ends_at = 1000");
    let dead = world.only().await;
    assert_eq!((&dead["state"], &dead["reason"]), (&json!("needs_reconnect"), &json!("no_refresh_token")), "{dead}");
    assert_eq!(dead["needs_person_because"], "needs_reconnect");
    assert!(dead["needs_person_at"].as_i64() <= Some(SystemClock.now().as_secs()));
    assert_eq!(world.daemon.token(json!({})).await.text("error"), "reconnect_required");
    assert!(world.status().contains("needs you"), "{}", world.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_is_logged_once_and_again_when_it_becomes_urgent() {
    let jobs = "jobs: {forecast: \"* * * * * *\"}\n";
    let mut world = World::ruled(Options::default(), "expires_after: 518400", jobs).await;
    eventually("six days ahead it warns", async || world.warnings() == 1).await;
    let log = world.daemon.log();
    assert!(log.contains("a fixed time after you agreed") && log.contains("consent_ends"), "{log}");
    sleep(Duration::from_millis(2500)).await;
    world.daemon.restart().await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.warnings(), 1, "once, also after a restart");

    let half_a_day = format!("ends_at - {}", (5 * DAY + DAY / 2) * 1000);
    world.change(&format!("UPDATE grants SET ends_at = {half_a_day}"));
    world.change(&format!("UPDATE connections SET confirmed_at = confirmed_at - {}", (5 * DAY + DAY / 2) * 1000));
    eventually("the last day it warns again", async || world.warnings() == 2).await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.warnings(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_is_seen_at_once_and_survives_a_restart() {
    let mut world = World::new().await;
    assert_eq!(world.connect(ADA).await.status, 200);
    assert_eq!(world.only().await["used_at"], Value::Null);
    let before = SystemClock.now().as_secs();
    world.live_token(json!({})).await;
    let used_at = world.only().await["used_at"].as_i64().unwrap();
    assert!((before..=SystemClock.now().as_secs()).contains(&used_at), "{used_at}");
    assert!(world.status().contains("just now") || world.status().contains("1 min ago"), "{}", world.status());

    world.daemon.signal("TERM");
    assert!(world.daemon.ended().await.success());
    world.daemon.restart().await;
    assert_eq!(world.only().await["used_at"], used_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_is_written_while_the_daemon_runs() {
    let jobs = "jobs: {usage: \"* * * * * *\"}\n";
    let world = World::ruled(Options::default(), "keepalive: 864000", jobs).await;
    world.live_token(json!({})).await;
    let written = || -> Option<i64> {
        let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
        store.query_row("SELECT used_at / 1000 FROM connections", [], |row| row.get(0)).unwrap()
    };
    eventually("it is written", async || written().is_some()).await;
    assert_eq!(written(), world.only().await["used_at"].as_i64());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_is_left_alone_until_its_token_would_die_and_serves_whoever_comes_back() {
    let world = World::ruled(Options::default(), "keepalive: 864000", "").await;
    let long_ago = (SystemClock.now().as_secs() - 8 * DAY) * 1000;
    world.change(&format!("UPDATE connections SET confirmed_at = {long_ago}"));
    world.change("UPDATE grants SET renew_at = 0, due_at = 0, expires_at = 1000");
    let renew_at = async || world.only().await["slots"][0]["renew_at"].as_i64().unwrap();
    let soon = SystemClock.now().as_secs() + 9 * DAY;
    eventually("it is put off", async || renew_at().await > soon).await;
    assert_eq!(world.refreshes(), 0);

    world.live_token(json!({})).await;
    assert_eq!(world.refreshed(), 1, "refreshed for whoever came back");
    assert!(renew_at().await < soon);
    world.change("UPDATE grants SET renew_at = 0, due_at = 0");
    eventually("in use it is renewed as ever", async || world.refreshed() == 2).await;
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_known_about_its_life_even_an_unused_token_is_renewed() {
    let world = World::new().await;
    assert_eq!(world.connect(ADA).await.status, 200);
    let long_ago = (SystemClock.now().as_secs() - 80 * DAY) * 1000;
    world.change(&format!("UPDATE connections SET confirmed_at = {long_ago}"));
    world.change("UPDATE grants SET renew_at = 0, due_at = 0");
    eventually("it is renewed", async || world.refreshed() == 1).await;
    world.assert_sound();
}
