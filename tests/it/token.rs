//! A token request: what is answered from memory, when the provider is asked, and what a caller is told if there is no token.

mod commands;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use grantd::clock::{Clock as _, SystemClock};
use grantd::sandbox::{BodyKind, Endpoint, Fault, Options, SandboxUser, What, When};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{World, ask, eventually};

const ADA: &str = "u-1001";
const GRACE: &str = "u-1002";

fn living(seconds: u64) -> Options {
    Options { access_ttl: Duration::from_secs(seconds), ..Options::default() }
}

fn down() -> What {
    What::Status { code: 503, body: BodyKind::Text }
}

impl World {
    /// A world in which Ada is connected.
    async fn with_ada(options: Options) -> Self {
        let world = Self::with(options).await;
        assert_eq!(world.connect(ADA).await.status, 200);
        world
    }

    /// How many connect sessions the store holds.
    fn sessions(&self) -> i64 {
        let store = rusqlite::Connection::open(self.daemon.home.store()).unwrap();
        store.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap()
    }
}

#[tokio::test]
async fn what_is_in_memory_is_answered_without_the_provider() {
    let world = World::with_ada(Options::default()).await;
    let first = world.live_token(json!({})).await;
    let entries = world.sandbox.ledger().entries().len();
    for _ in 0..200 {
        assert_eq!(world.daemon.token(json!({})).await.json["access_token"], first.json["access_token"]);
    }
    assert_eq!(world.sandbox.ledger().entries().len(), entries);
    world.assert_sound();
}

#[tokio::test]
async fn what_is_in_memory_is_answered_while_the_database_is_locked() {
    let world = World::with_ada(Options::default()).await;
    let first = world.live_token(json!({})).await;
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    store.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for _ in 0..20 {
        let started = Instant::now();
        let answer = world.daemon.token(json!({})).await;
        assert_eq!(answer.json["access_token"], first.json["access_token"], "{answer:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "it waited for the database");
    }
    store.execute_batch("COMMIT").unwrap();
    world.assert_sound();
}

#[tokio::test]
async fn a_refresh_that_cannot_be_noted_is_not_sent() {
    let world = World::with_ada(Options::default()).await;
    let first = world.live_token(json!({})).await;
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    store.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let refused = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
    assert_eq!((refused.status, refused.text("error")), (503, "store_unavailable"), "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(world.refreshes(), 0);
    store.execute_batch("COMMIT").unwrap();

    let renewed = world.live_token(json!({"rejected": first.json["token_id"]})).await;
    assert_ne!(renewed.json["token_id"], first.json["token_id"]);
    assert_eq!(world.refreshed(), 1);
    world.assert_sound();
}

#[tokio::test]
async fn what_the_provider_gave_is_kept_until_it_can_be_stored() {
    let world = World::with_ada(Options::default()).await;
    let first = world.live_token(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_millis(1500))));
    let body = json!({"provider": "sandbox", "rejected": first.json["token_id"]});
    let socket = world.daemon.home.socket();
    let waiting = tokio::spawn(async move { ask::ask(&socket, "POST", "/v1/token", Some(body)).await.unwrap() });
    eventually("it is sent", async || world.refreshes() == 1).await;
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    store.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let renewed = waiting.await.unwrap();
    assert_eq!(renewed.status, 200, "it serves from memory: {renewed:?}");
    assert_ne!(renewed.json["token_id"], first.json["token_id"]);
    // Longer than the daemon waits for a lock.
    sleep(Duration::from_secs(6)).await;
    assert_eq!(world.live_token(json!({})).await.json["token_id"], renewed.json["token_id"]);
    let refused = world.daemon.token(json!({"rejected": renewed.json["token_id"]})).await;
    assert_eq!(refused.text("error"), "store_unavailable", "what is not stored yet is not spent: {refused:?}");
    assert_eq!(spooled(&world), 1);
    store.execute_batch("COMMIT").unwrap();

    eventually("it is stored", async || spooled(&world) == 0).await;
    assert_eq!(world.live_token(json!({})).await.json["token_id"], renewed.json["token_id"]);
    assert_eq!(world.refreshes(), 1);
    world.assert_renewable().await;
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_stored_before_a_stop_or_a_crash_is_stored_after_it() {
    for crash in [false, true] {
        let mut world = World::with_ada(Options::default()).await;
        let first = world.live_token(json!({})).await;
        let store = world.daemon.home.store();
        let (locked, when_locked) = tokio::sync::oneshot::channel();
        world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_millis(1000))));
        let lock = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(500));
            let store = rusqlite::Connection::open(store).unwrap();
            store.execute_batch("BEGIN EXCLUSIVE").unwrap();
            locked.send(()).unwrap();
            store
        });
        let renewed = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        when_locked.await.unwrap();
        let lock = lock.await.unwrap();
        assert_eq!((world.refreshes(), spooled(&world)), (1, 1));
        if crash {
            world.daemon.kill();
        } else {
            world.daemon.signal("TERM");
            assert!(world.daemon.ended().await.success());
        }
        assert_eq!(spooled(&world), 1);
        drop(lock);
        world.daemon.restart().await;
        assert_eq!(world.live_token(json!({})).await.json["token_id"], renewed.json["token_id"]);
        assert_eq!((world.refreshes(), spooled(&world)), (1, 0));
        world.assert_renewable().await;
        world.assert_sound();
    }
}

/// How many pairs lie beside the store.
fn spooled(world: &World) -> usize {
    let mut spool = world.daemon.home.store().into_os_string();
    spool.push(".spool");
    let names = std::fs::read_dir(spool).unwrap().map(|file| file.unwrap().file_name());
    names.filter(|name| !name.as_encoded_bytes().starts_with(b".")).count()
}

#[tokio::test]
async fn a_wish_for_more_life_costs_one_refresh() {
    let world = World::with_ada(Options::default()).await;
    let first = world.live_only(Duration::from_secs(40)).await;
    sleep(Duration::from_millis(5500)).await;
    assert_eq!(world.live_token(json!({"min_ttl": 20})).await.json["token_id"], first.json["token_id"]);
    assert_eq!(world.refreshes(), 1);

    let wishes = join_all((0..20).map(|_| world.live_token(json!({"min_ttl": 35})))).await;
    let ids: HashSet<&str> = wishes.iter().map(|answer| answer.text("token_id")).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(!ids.contains(first.text("token_id")));
    assert!(wishes.iter().all(|answer| answer.json["expires_in"].as_u64() >= Some(34)));
    assert_eq!(world.refreshes(), 2);
    world.assert_sound();
}

#[tokio::test]
async fn a_wish_for_more_than_the_provider_gives_is_met_as_well_as_it_can_be() {
    let world = World::with_ada(living(60)).await;
    for _ in 0..50 {
        let answer = world.live_token(json!({"min_ttl": 3600})).await;
        assert!(answer.json["expires_in"].as_u64() >= Some(30), "{answer:?}");
    }
    assert_eq!(world.refreshes(), 0);
    world.assert_sound();
}

#[tokio::test]
async fn fifty_reports_of_one_rejected_token_cost_one_refresh() {
    let world = World::with_ada(Options::default()).await;
    let first = world.live_token(json!({})).await;
    let report = json!({"rejected": first.json["token_id"]});
    let answers = join_all((0..50).map(|_| world.daemon.token(report.clone()))).await;
    let tokens: HashSet<&str> = answers.iter().map(|answer| answer.text("access_token")).collect();
    assert_eq!(tokens.len(), 1);
    assert!(!tokens.contains(first.text("access_token")));
    assert_eq!(world.refreshes(), 1);

    // By now it is an old one.
    let late = world.live_token(report).await;
    assert_eq!(late.json["access_token"], answers[0].json["access_token"]);
    assert_eq!(world.refreshes(), 1);
    world.assert_sound();
}

#[tokio::test]
async fn scopes_are_a_requirement() {
    let world = World::with_ada(Options::default()).await;
    let covered = world.live_token(json!({"scopes": ["email", "profile"]})).await;
    assert_eq!(covered.json["scope"], "email openid profile");

    let missing = world.daemon.token(json!({"scopes": ["email", "repo"], "purpose": "tools/call create_issue"})).await;
    assert_eq!((missing.status, missing.text("error")), (409, "insufficient_scope"), "{missing:?}");
    assert_eq!(missing.json["missing_scopes"], json!(["repo"]));
    assert_eq!(missing.json["reason"], "scope_upgrade");
    assert_eq!(missing.json["provider"], "sandbox");
    assert_eq!(missing.headers["cache-control"], "no-store");
    assert_prompt(&world, &missing.json);
    assert_eq!(world.refreshes(), 0);
    world.assert_sound();
}

#[tokio::test]
async fn what_is_not_connected_comes_with_everything_a_person_needs() {
    let world = World::new().await;
    let answer = world.daemon.token(json!({})).await;
    assert_eq!((answer.status, answer.text("error")), (409, "connection_required"), "{answer:?}");
    assert_eq!(answer.json["reason"], "not_connected");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.json.get("access_token").is_none());
    assert_prompt(&world, &answer.json);

    let again = world.daemon.token(json!({})).await;
    assert_eq!(again.json["connect_url"], answer.json["connect_url"], "one tab, not two");
    assert_ne!(again.json["request_id"], answer.json["request_id"]);
    world.assert_sound();
}

/// The link, the code and the elicitation belong together and lead to our own page.
fn assert_prompt(world: &World, problem: &Value) {
    let text = |field: &str| problem[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {problem}"));
    let url = format!("http://localhost:{}/connect/{}", world.daemon.home.port, text("connect_id"));
    assert_eq!(text("connect_url"), url);
    assert!(problem["connect_expires_at"].is_i64(), "{problem}");
    assert!(!text("error_description").is_empty() && !text("request_id").is_empty());
    let elicitation = problem["elicitation"].as_object().unwrap();
    let fields: Vec<&str> = elicitation.keys().map(String::as_str).collect();
    assert_eq!(fields, ["elicitationId", "message", "mode", "url"]);
    assert_eq!(elicitation["mode"], "url");
    assert_eq!(elicitation["elicitationId"], problem["connect_id"]);
    assert_eq!(elicitation["url"], problem["connect_url"]);
    let message = elicitation["message"].as_str().unwrap();
    assert!(message.contains("Sandbox") && message.contains(text("user_code")), "{message}");
}

#[tokio::test]
async fn whoever_only_wants_to_know_makes_no_session() {
    let world = World::new().await;
    let answer = world.daemon.token(json!({"connect": false})).await;
    assert_eq!((answer.status, answer.text("error")), (409, "connection_required"));
    for absent in ["connect_url", "connect_id", "user_code", "elicitation"] {
        assert!(answer.json.get(absent).is_none(), "{answer:?}");
    }
    assert_eq!(world.sessions(), 0);
    world.connect(ADA).await;
    assert_eq!(world.sessions(), 1);
    let answer = world.daemon.token(json!({"connect": false, "scopes": ["repo"]})).await;
    assert_eq!((answer.status, answer.text("error")), (409, "insufficient_scope"));
    assert_eq!(world.sessions(), 1);
    world.assert_sound();
}

#[tokio::test]
async fn an_account_is_named_by_id_or_by_name() {
    let world = World::with_ada(Options::default()).await;
    world.connect(GRACE).await;
    for (account, id) in [(ADA, ADA), ("ada@sandbox.example", ADA), (GRACE, GRACE), ("grace@sandbox.example", GRACE)] {
        let answer = world.live_token(json!({"account": account})).await;
        assert_eq!(answer.json["account"]["id"], id, "{account}");
    }
    let unknown = world.daemon.token(json!({"account": "nobody"})).await;
    assert_eq!((unknown.status, unknown.text("error")), (404, "unknown_account"), "{unknown:?}");

    let ambiguous = world.daemon.token(json!({})).await;
    assert_eq!((ambiguous.status, ambiguous.text("error")), (409, "account_ambiguous"), "{ambiguous:?}");
    let mut listed = ambiguous.json["accounts"].as_array().unwrap().clone();
    for (one, connection) in listed.iter_mut().zip(world.connections().await) {
        assert_eq!(one.as_object_mut().unwrap().remove("connection").as_ref(), Some(&connection["id"]));
    }
    let expected = [(ADA, "ada@sandbox.example"), (GRACE, "grace@sandbox.example")];
    assert_eq!(listed, expected.map(|(id, name)| json!({"id": id, "name": name})));

    let elsewhere = world.daemon.post("/v1/token", json!({"provider": "github"})).await;
    assert_eq!((elsewhere.status, elsewhere.text("error")), (404, "unknown_provider"), "{elsewhere:?}");
    world.assert_sound();
}

#[tokio::test]
async fn a_token_is_handed_out_until_it_dies_and_never_after() {
    let world = World::with_ada(Options::default()).await;
    world.live_only(Duration::from_secs(4)).await;
    world.sandbox.script(Fault::of_refresh(When::Always, down()));
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut handed_out = 0;
    let refused = loop {
        assert!(Instant::now() < deadline, "a dead token is still handed out");
        let asked = SystemClock.now();
        let answer = world.daemon.token(json!({"min_ttl": 0})).await;
        if answer.status != 200 {
            break answer;
        }
        world.assert_lived(asked, &answer).await;
        handed_out += 1;
        sleep(Duration::from_millis(20)).await;
    };
    assert!(handed_out > 5, "{handed_out}");
    assert_eq!((refused.status, refused.text("error")), (503, "provider_unavailable"), "{refused:?}");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    for _ in 0..20 {
        assert_eq!(world.daemon.token(json!({"min_ttl": 0})).await.status, 503);
    }
    assert_eq!(world.state().await, "refresh_failed");

    world.sandbox.clear_faults();
    world.sandbox.adjust(|options| options.access_ttl = Duration::from_secs(3600));
    eventually("the connection serves again", async || world.daemon.token(json!({"min_ttl": 0})).await.status == 200)
        .await;
    world.live_token(json!({"min_ttl": 0})).await;
    world.assert_sound();
}

#[tokio::test]
async fn an_answer_has_what_is_documented_and_nothing_more() {
    let world = World::with_ada(Options::default()).await;
    let answer = world.live_token(json!({"a_field_of_tomorrow": [1, 2]})).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "application/json");
    let fields: Vec<&str> = answer.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "access_token",
            "account",
            "connection",
            "expires_at",
            "expires_in",
            "provider",
            "scope",
            "token_id",
            "token_type"
        ]
    );
    let left = answer.json["expires_in"].as_u64().unwrap();
    assert!((3500..=3600).contains(&left), "{left}");
    assert!(answer.text("connection").starts_with("cx_") && answer.text("token_id").starts_with("tk_"));
    world.assert_sound();
}

#[tokio::test]
async fn a_token_without_expiry_has_no_expiry_fields_and_is_not_renewed() {
    let world = World::arranged(Options::default(), |home, _| {
        home.redefine("refresh:\n", "slots:\n  - name: main\n    places: [{expires_in: /not_told}]\nrefresh:\n");
    })
    .await;
    world.connect(ADA).await;
    let answer = world.live_token(json!({"min_ttl": 3600})).await;
    for absent in ["expires_in", "expires_at"] {
        assert!(answer.json.get(absent).is_none(), "{answer:?}");
    }
    let slot = world.connections().await[0]["slots"][0].clone();
    assert_eq!(slot, json!({"slot": "main", "scope": "email openid profile"}));
    assert_eq!(world.refreshes(), 0);
    world.assert_sound();
}

#[tokio::test]
async fn who_and_what_there_is_can_be_asked() {
    let world = World::with_ada(Options::default()).await;
    let uid = rustix::process::getuid().as_raw();

    let who = world.daemon.get("/v1/whoami").await.json;
    assert_eq!(who["subject"], json!({"tenant": "local", "user": format!("uid:{uid}")}));
    assert_eq!(who["peer"]["uid"], uid);
    assert_eq!(who["peer"]["pid"], std::process::id());

    let providers = world.daemon.get("/v1/providers").await.json;
    assert_eq!(
        providers,
        json!({"providers": [{
            "id": "sandbox", "name": "Sandbox", "scopes": {"main": ["email", "openid", "profile"]}, "revoke": "grant",
            "state": "ok",
        }]})
    );

    for path in ["/v1/health", "/v1/health?deep=true"] {
        let health = world.daemon.get(path).await;
        assert_eq!((health.status, health.text("status")), (200, "ok"));
        assert_eq!(health.text("version"), env!("CARGO_PKG_VERSION"));
    }

    let connections = world.connections().await;
    let id = connections[0]["id"].as_str().unwrap();
    let one = world.daemon.get(&format!("/v1/connections/{id}")).await;
    assert_eq!(one.json, connections[0]);
    assert_eq!(one.json["account"], json!({"id": ADA, "name": "ada@sandbox.example"}));
    assert_eq!((one.text("provider"), one.text("state")), ("sandbox", "active"));
    assert_eq!(one.json["scopes"], json!(["email", "openid", "profile"]));
    assert!(one.json.get("reason").is_none());
    let slot = &one.json["slots"][0];
    assert!(slot["renew_at"].as_i64() > one.json["created_at"].as_i64(), "{one:?}");
    assert!(slot["expires_at"].as_i64() > slot["renew_at"].as_i64(), "{one:?}");
    assert!(!one.json.to_string().contains("_MARK_"), "a secret is shown: {one:?}");

    let other = world.daemon.get("/v1/connections/cx_notmine").await;
    assert_eq!((other.status, other.text("error")), (404, "not_found"), "{other:?}");
    world.assert_sound();
}

#[tokio::test]
async fn disconnecting_ends_the_grant_here_and_at_the_provider() {
    let world = World::with_ada(Options::default()).await;
    let token = world.live_token(json!({})).await;
    let gone = world.daemon.delete(&format!("/v1/connections/{}", token.text("connection"))).await;
    assert_eq!(
        gone.json,
        json!({
            "connection": token.json["connection"], "upstream": "revoked", "reach": "grant",
            "slots": [{"slot": "main", "upstream": "revoked", "because": "confirmed"}],
        })
    );
    assert!(world.sandbox.grants().iter().all(|grant| grant.ended == Some("revoked_by_client")));
    assert!(!world.is_live(&token.json["access_token"]).await);
    assert_eq!(world.daemon.token(json!({})).await.text("error"), "connection_required");
    assert!(world.connections().await.is_empty());
    let again = world.daemon.delete(&format!("/v1/connections/{}", token.text("connection"))).await;
    assert_eq!(again.status, 404, "{again:?}");
    world.assert_sound();
}

#[tokio::test]
async fn disconnecting_from_a_provider_that_is_down_is_finished_later() {
    let world = World::arranged(Options::default(), |home, _| {
        home.set("jobs: {housekeep: \"* * * * * *\"}\n");
    })
    .await;
    world.connect(ADA).await;
    let token = world.live_token(json!({})).await;
    world.sandbox.script(Fault::new(Endpoint::Revoke, When::Always, down()));
    let gone = world.daemon.delete(&format!("/v1/connections/{}", token.text("connection"))).await;
    assert_eq!((gone.status, gone.text("upstream")), (200, "pending"), "{gone:?}");
    assert_eq!(world.daemon.token(json!({})).await.text("error"), "connection_required");
    sleep(Duration::from_millis(1500)).await;
    assert!(world.sandbox.grants().iter().all(|grant| grant.ended.is_none()));

    world.sandbox.clear_faults();
    eventually("the provider is told", async || {
        world.sandbox.grants().iter().all(|grant| grant.ended == Some("revoked_by_client"))
    })
    .await;
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    let grants = || store.query_row("SELECT count(*) FROM grants", [], |row| row.get::<_, i64>(0)).unwrap();
    eventually("the grant is wiped", async || grants() == 0).await;
    world.assert_sound();
}

#[tokio::test]
async fn whoever_waits_gets_the_token_as_soon_as_the_person_is_done() {
    let world = World::new().await;
    let body = json!({"provider": "sandbox", "wait": 60});
    let socket = world.daemon.home.socket();
    let waiting = tokio::spawn(async move { ask::ask(&socket, "POST", "/v1/token", Some(body)).await.unwrap() });
    eventually("the caller waits", async || world.sessions() == 1).await;
    world.connect(GRACE).await;
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, answer.json["account"]["id"].as_str()), (200, Some(GRACE)), "{answer:?}");
    world.assert_sound();
}

#[tokio::test]
async fn the_accounts_of_one_person_do_not_get_in_each_others_way() {
    let users = (0..5).map(|n| SandboxUser::new(&format!("u-{n}"), "U", &format!("u{n}@sandbox.example"))).collect();
    let world = World::with(Options { users, ..Options::default() }).await;
    for n in 0..5 {
        assert_eq!(world.connect(&format!("u-{n}")).await.status, 200);
    }
    let tokens = join_all((0..50).map(async |n| {
        let account = format!("u-{}", n % 5);
        let answer = world.live_token(json!({"account": account})).await;
        assert_eq!(answer.json["account"]["id"], account);
        answer.text("access_token").to_owned()
    }))
    .await;
    assert_eq!(tokens.into_iter().collect::<HashSet<_>>().len(), 5);
    world.assert_renewable().await;
    world.assert_sound();
}
