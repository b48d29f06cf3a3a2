//! Refreshing: ahead of time, one at a time, and whatever goes wrong at the provider costs no connection that could live.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use grantd::sandbox::browser::Browser;
use grantd::sandbox::{BodyKind, Endpoint, Fault, Kind, Options, Rotation, Secret, What, When};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::{World, ask, eventually, eventually_within};

const ADA: &str = "u-1001";
const PATIENCE: Duration = Duration::from_secs(60);
const SINGLE_USE: Rotation = Rotation::SingleUse { kills_family: true, grace: Duration::ZERO };

fn rotating(rotation: Rotation) -> Options {
    Options { rotation, ..Options::default() }
}

impl World {
    async fn rotating(rotation: Rotation) -> Self {
        let world = Self::arranged(rotating(rotation), |home, _| home.tell(rotation)).await;
        assert_eq!(world.connect(ADA).await.status, 200);
        world
    }

    /// Makes every grant due now, as if time had passed.
    fn let_time_pass(&self) {
        let store = rusqlite::Connection::open(self.daemon.home.store()).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        store.execute("UPDATE grants SET renew_at = 0, due_at = 0", []).unwrap();
    }
}

#[tokio::test]
async fn tokens_are_renewed_ahead_of_their_end_with_nobody_asking() {
    let world = World::rotating(SINGLE_USE).await;
    world.live_only(Duration::from_secs(6)).await;
    eventually_within(PATIENCE, "three renewals", async || world.refreshed() >= 4).await;
    let ledger = world.sandbox.ledger();
    let issued: Vec<i64> = ledger.of(Kind::Issued, Secret::Access).map(|entry| entry.at_ms).collect();
    for pair in issued.windows(2).skip(1).take(3) {
        let age = pair[1] - pair[0];
        assert!((2_500..6_000).contains(&age), "renewed after {age} ms");
    }
    world.live_token(json!({"min_ttl": 0})).await;
    assert_eq!(world.invalid_grants(), 0);
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn an_hours_token_is_left_alone_until_its_time() {
    let world = World::rotating(SINGLE_USE).await;
    let slot = world.connections().await[0]["slots"][0].clone();
    let (renew_at, expires_at) = (slot["renew_at"].as_i64().unwrap(), slot["expires_at"].as_i64().unwrap());
    assert!((500..=1500).contains(&(expires_at - renew_at)), "{slot}");
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.refreshes(), 0);

    world.let_time_pass();
    eventually("it is renewed", async || world.refreshed() == 1).await;
    eventually("it is served", async || world.state().await == "active").await;
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn every_kind_of_rotation_is_lived_with() {
    for rotation in [
        Rotation::Static,
        Rotation::MultiValid,
        SINGLE_USE,
        Rotation::SingleUse { kills_family: false, grace: Duration::from_secs(30) },
    ] {
        let world = World::rotating(rotation).await;
        for round in 1..=5 {
            world.assert_renewable().await;
            assert_eq!(world.refreshed(), round, "{rotation:?}");
        }
        assert_eq!(world.invalid_grants(), 0, "{rotation:?}");
        let sent: BTreeMap<_, usize> = world.sandbox.ledger().refreshes().fold(BTreeMap::new(), |mut sent, entry| {
            *sent.entry(entry.fingerprint).or_default() += 1;
            sent
        });
        // The newest one each time; where answers do not repeat it, the old one is the newest.
        let expected = if rotation == Rotation::Static { vec![5] } else { vec![1; 5] };
        assert_eq!(sent.into_values().collect::<Vec<_>>(), expected, "{rotation:?}");
        world.assert_sound();
    }
}

#[tokio::test]
async fn a_refresh_that_kills_the_old_access_token_cuts_nobody_off_twice() {
    let world = World::with(Options { kills_access_on_refresh: true, ..Options::default() }).await;
    world.connect(ADA).await;
    let first = world.live_token(json!({})).await;
    world.live_token(json!({"rejected": first.json["token_id"]})).await;
    assert!(!world.is_live(&first.json["access_token"]).await);
    world.live_token(json!({})).await;
    world.assert_sound();
}

/// A fault at the token endpoint.
struct Trouble {
    name: &'static str,
    what: What,
    /// Whether the provider rotates before the answer is lost: with a token that can be used once nobody could recover.
    processed: bool,
    status: u16,
}

fn troubles() -> Vec<Trouble> {
    let status = |code, body| What::Status { code, body };
    let oauth = |code: &str| What::OAuthError(code.to_owned());
    let row = |name, what, processed, status| Trouble { name, what, processed, status };
    vec![
        row("500", status(500, BodyKind::Json), false, 503),
        row("502 with a page", status(502, BodyKind::Html), false, 503),
        row("503 with nothing", status(503, BodyKind::Empty), false, 503),
        row("404", status(404, BodyKind::Text), false, 503),
        row("a redirect", status(302, BodyKind::Html), false, 503),
        row("200 with nothing", status(200, BodyKind::Empty), false, 503),
        row("200 with other JSON", status(200, BodyKind::Json), false, 503),
        row("throttled", What::RetryAfter { code: 429, value: "1".to_owned() }, false, 503),
        row("throttled in nonsense", What::RetryAfter { code: 429, value: "soon".to_owned() }, false, 503),
        row("garbage", What::Garbage, false, 503),
        row("a page", What::Html, false, 503),
        row("too much", What::Huge(5_000_000), false, 503),
        row("dropped before", What::DropBeforeProcessing, false, 503),
        row("dropped after", What::DropAfterProcessing, true, 503),
        row("cut off", What::Truncate(40), true, 503),
        row("cut off at once", What::Truncate(0), true, 503),
        row("temporarily_unavailable", oauth("temporarily_unavailable"), false, 503),
        row("server_error", oauth("server_error"), false, 503),
        row("an unknown code", oauth("never_heard_of"), false, 503),
        row("invalid_client", oauth("invalid_client"), false, 502),
        row("unauthorized_client", oauth("unauthorized_client"), false, 502),
    ]
}

#[tokio::test]
async fn no_trouble_at_the_provider_costs_a_connection() {
    stream::iter(troubles()).for_each_concurrent(4, survive).await;
}

async fn survive(trouble: Trouble) {
    let Trouble { name, what, processed, status } = trouble;
    let world = World::rotating(if processed { Rotation::MultiValid } else { SINGLE_USE }).await;
    let first = world.live_token(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Always, what));

    let refused = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
    assert_eq!(refused.status, status, "{name}: {refused:?}");
    assert_eq!(refused.headers.contains_key("retry-after"), status == 503, "{name}");
    assert!(refused.json.get("connect_url").is_none(), "{name}: {refused:?}");
    assert_eq!(world.state().await, "refresh_failed", "{name}");
    // Whoever has not seen it fail is served from what lives.
    for _ in 0..5 {
        assert_eq!(world.live_token(json!({})).await.json["token_id"], first.json["token_id"], "{name}");
    }
    // At once the provider is not asked again, whoever asks.
    let sent = world.refreshes();
    for _ in 0..20 {
        assert_ne!(world.daemon.token(json!({"rejected": first.json["token_id"]})).await.status, 409, "{name}");
    }
    assert!(world.refreshes() <= sent + 2, "{name}: {} refreshes", world.refreshes());

    world.sandbox.clear_faults();
    if status == 502 {
        // An operator has to act, so it is left alone for a minute.
        let sent = world.refreshes();
        sleep(Duration::from_millis(2500)).await;
        assert_eq!(world.refreshes(), sent, "{name}");
        world.let_time_pass();
    }
    eventually_within(PATIENCE, name, async || world.state().await == "active").await;
    let renewed = world.live_token(json!({})).await;
    assert_ne!(renewed.json["token_id"], first.json["token_id"], "{name}");
    assert_eq!(world.invalid_grants(), 0, "{name}");
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_while_the_others_are_served() {
    for what in [What::Slow(400), What::Delay(Duration::from_secs(1))] {
        let world = World::rotating(SINGLE_USE).await;
        let first = world.live_token(json!({})).await;
        world.sandbox.script(Fault::of_refresh(When::Next(1), what));
        let body = json!({"provider": "sandbox", "rejected": first.json["token_id"]});
        let socket = world.daemon.home.socket();
        let waiting = tokio::spawn(async move { ask::ask(&socket, "POST", "/v1/token", Some(body)).await.unwrap() });
        eventually("it is sent", async || world.refreshes() == 1).await;
        assert_eq!(world.live_token(json!({})).await.json["token_id"], first.json["token_id"]);
        assert!(!waiting.is_finished());
        let renewed = waiting.await.unwrap();
        assert_eq!(renewed.status, 200, "{renewed:?}");
        assert_ne!(renewed.json["token_id"], first.json["token_id"]);
        assert_eq!(world.refreshes(), 1);
        world.assert_renewable().await;
        world.assert_sound();
    }
}

#[tokio::test]
async fn what_the_provider_ended_needs_a_person_and_comes_back_as_the_same_connection() {
    let world = World::rotating(SINGLE_USE).await;
    let first = world.live_token(json!({})).await;
    assert_eq!(world.sandbox.revoke_user(ADA), 1);
    // The caller is the first to know.
    let dead = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
    eventually_within(PATIENCE, "it needs a person", async || world.state().await == "needs_reconnect").await;
    assert_ne!(dead.status, 200, "{dead:?}");
    let answer = world.daemon.token(json!({})).await;
    assert_eq!((answer.status, answer.text("error")), (409, "reconnect_required"), "{answer:?}");
    assert_eq!(answer.json["reason"], "refresh_token_invalid");
    assert_eq!(answer.json["account"], json!({"id": ADA, "name": "ada@sandbox.example"}));
    assert!(answer.json.get("access_token").is_none());
    let listed = world.connections().await;
    assert_eq!(listed[0]["reason"], "refresh_token_invalid");
    assert_eq!(listed[0]["id"], first.json["connection"]);

    let sent = world.refreshes();
    for _ in 0..10 {
        assert_eq!(world.daemon.token(json!({})).await.json["connect_url"], answer.json["connect_url"]);
    }
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(world.refreshes(), sent, "a dead refresh token is not sent again");

    let browser = Browser::new();
    let page = browser.open(&answer.url("connect_url")).await.unwrap();
    let consent = browser.press(&page, "/start", &[]).await.unwrap();
    let back = browser.press(&consent, "allow", &[("account", ADA)]).await.unwrap();
    assert_eq!(browser.press(&back, "/confirm", &[]).await.unwrap().status, 200);
    let revived = world.live_token(json!({})).await;
    assert_eq!(revived.json["connection"], first.json["connection"]);
    assert_eq!(world.state().await, "active");
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test]
async fn a_token_that_can_be_used_once_and_whose_successor_was_lost_is_called_that() {
    for between in [None, Some(What::RetryAfter { code: 429, value: "1".to_owned() }), Some(What::DropBeforeProcessing)]
    {
        let world = World::rotating(SINGLE_USE).await;
        let first = world.live_token(json!({})).await;
        world.sandbox.script(Fault::of_refresh(When::Next(1), What::DropAfterProcessing));
        if let Some(what) = between.clone() {
            world.sandbox.script(Fault::of_refresh(When::Next(1), what));
        }
        let lost = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
        assert_eq!(lost.status, 503, "{lost:?}");
        world.live_token(json!({})).await;
        eventually_within(PATIENCE, "it needs a person", async || world.state().await == "needs_reconnect").await;
        let answer = world.daemon.token(json!({})).await;
        assert_eq!(answer.json["reason"], "lost_response", "after {between:?}: {answer:?}");
        assert_eq!(world.connections().await[0]["reason"], "lost_response");
        world.connect(ADA).await;
        world.assert_renewable().await;
        world.assert_sound();
    }
}

#[tokio::test]
async fn a_lost_answer_costs_nothing_where_the_old_token_stays_good() {
    for rotation in [
        Rotation::Static,
        Rotation::MultiValid,
        Rotation::SingleUse { kills_family: true, grace: Duration::from_secs(60) },
    ] {
        let world = World::rotating(rotation).await;
        let first = world.live_token(json!({})).await;
        world.sandbox.script(Fault::of_refresh(When::Next(1), What::DropAfterProcessing));
        assert_eq!(world.daemon.token(json!({"rejected": first.json["token_id"]})).await.status, 503);
        eventually_within(PATIENCE, "it is renewed", async || world.state().await == "active").await;
        assert_eq!(world.invalid_grants(), 0, "{rotation:?}");
        world.assert_renewable().await;
        world.assert_sound();
    }
}

/// What is scripted for the refresh and for the revocations, and what the person who disconnects is told.
type Parting = (What, &'static [(u16, u32)], &'static str);

#[tokio::test]
async fn what_a_refresh_brings_after_the_connection_ended_does_not_stay_alive() {
    let cases: [Parting; 4] = [
        (What::Delay(Duration::from_secs(1)), &[], "revoked"),
        (What::Slow(300), &[], "revoked"),
        // The old token is not taken back: only the new one is left to end the grant with.
        (What::Slow(300), &[(400, 1)], "by_hand"),
        (What::Slow(300), &[(400, 1), (503, 2)], "by_hand"),
    ];
    for (what, revocations, told) in cases {
        let world = World::rotating(SINGLE_USE).await;
        let first = world.live_token(json!({})).await;
        world.sandbox.script(Fault::of_refresh(When::Next(1), what.clone()));
        for &(code, times) in revocations {
            let refused = What::Status { code, body: BodyKind::Empty };
            world.sandbox.script(Fault::new(Endpoint::Revoke, When::Next(times), refused));
        }
        let body = json!({"provider": "sandbox", "rejected": first.json["token_id"]});
        let socket = world.daemon.home.socket();
        let waiting = tokio::spawn(async move { ask::ask(&socket, "POST", "/v1/token", Some(body)).await.unwrap() });
        eventually("it is sent", async || world.refreshes() == 1).await;
        let gone = world.daemon.delete(&format!("/v1/connections/{}", first.text("connection"))).await;
        assert_eq!(gone.text("upstream"), told, "{what:?} {revocations:?}");
        assert_eq!(world.daemon.token(json!({})).await.text("error"), "connection_required");

        let late = waiting.await.unwrap();
        assert_eq!((late.status, late.text("error")), (409, "connection_required"), "{late:?}");
        eventually_within(PATIENCE, "the provider holds nothing any more", async || {
            world.sandbox.grants().iter().all(|grant| grant.ended.is_some())
        })
        .await;
        assert!(world.connections().await.is_empty());
        world.assert_sound();
    }
}

#[tokio::test]
async fn a_cohort_born_together_does_not_fall_due_together() {
    let mut world = World::new().await;
    world.stock(1000, Duration::from_secs(3600)).await;
    let mut due: Vec<i64> =
        world.connections().await.iter().map(|listed| listed["slots"][0]["renew_at"].as_i64().unwrap()).collect();
    assert_eq!(due.len(), 1000);
    due.sort_unstable();
    assert!(due[999] - due[0] > 800, "all within {} s", due[999] - due[0]);
    let most = due.chunk_by(|a, b| a / 30 == b / 30).map(<[i64]>::len).max().unwrap();
    assert!(most < 100, "{most} within half a minute");
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_that_expire_together_none_is_served_dead() {
    let lifetime = Duration::from_secs(10);
    let mut world = World::with(Options { access_ttl: lifetime, ..Options::default() }).await;
    world.stock(1000, lifetime).await;
    world.sandbox.adjust(|options| options.access_ttl = Duration::from_secs(3600));
    let mut asked = 0;
    let deadline = Instant::now() + 3 * PATIENCE;
    while world.refreshed() < 1000 {
        assert!(Instant::now() < deadline, "{} were renewed", world.refreshed());
        let account = format!("stock-{}", asked % 1000);
        let answer = world.live_token(json!({"account": account, "min_ttl": 1})).await;
        assert_eq!(answer.json["account"]["id"], account);
        asked += 37;
    }
    eventually("all are stored", async || world.connections().await.iter().all(|listed| listed["state"] == "active"))
        .await;
    assert_eq!(world.invalid_grants(), 0);
    assert_eq!(world.refreshes(), 1000);
    world.assert_sound();
}
