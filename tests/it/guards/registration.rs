//! A provider that refuses our registration says nothing about anybody's grant.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use grantd::sandbox::{DEFAULT_SECRET, Options};
use serde_json::json;
use tokio::time::sleep;

use crate::guards::{ADA, HOUR, PATIENCE};
use crate::support::ask::ask;
use crate::support::person::is_root;
use crate::support::{Person, World, eventually, eventually_within};

impl World {
    async fn reload(&self) {
        let taken = |log: String| log.matches("Took the new configuration").count();
        let before = taken(self.daemon.log());
        self.daemon.signal("HUP");
        eventually("the configuration is taken", async || taken(self.daemon.log()) > before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_stops_the_refreshes_until_it_is_right_and_costs_nobody_anything() {
    const ALL: usize = 100;
    /// As many as may be under way before the first answer has come.
    const AT_ONCE: usize = 64;
    let mut world = World::new().await;
    world.stock(ALL, HOUR).await;
    world.daemon.home.write("config/secret", "cs_MARK_another-secret\n");
    world.reload().await;
    world.make_due();
    eventually_within(PATIENCE, "it is noticed", async || {
        world.provider_state("sandbox").await == "registration_refused"
    })
    .await;
    eventually("who was under way has landed", async || world.in_state("refresh_failed").await > 0).await;
    sleep(Duration::from_secs(2)).await;
    let sent = world.refreshes();
    assert!((1..=AT_ONCE).contains(&sent), "{sent}");
    for index in 0..ALL {
        world.live_token(json!({"account": format!("stock-{index}")})).await;
    }
    // A caller who needs another token is told what is wrong, and the provider is not asked for that.
    let refused = world.refuse("stock-7").await;
    assert!(matches!(refused.status, 502 | 503), "{refused:?}");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.refreshes(), sent, "nothing is sent while it is refused");
    assert_eq!(world.in_state("needs_reconnect").await, 0);
    assert_eq!(world.invalid_grants(), 0);
    let alarms = world.alarms();
    assert!(alarms.iter().any(|alarm| alarm.contains("refuses our registration")), "{alarms:?}");
    let told = world.read_status().await;
    assert!(told.out.contains("sandbox: refuses our client id or secret"), "{told:?}");

    world.daemon.home.write("config/secret", &format!("{DEFAULT_SECRET}\n"));
    world.reload().await;
    // Without the reload the pause would have lasted a minute; what had been tried waited as long.
    eventually_within(Duration::from_secs(45), "all are renewed", async || world.refreshed() == ALL).await;
    eventually("all are well", async || world.in_state("active").await == ALL).await;
    assert_eq!(world.provider_state("sandbox").await, "ok");
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_that_a_provider_is_in_trouble_and_administrators_how_long_and_end_it() {
    if !is_root("what others are told of a provider") {
        return;
    }
    let world = World::arranged(Options::default(), |home, sandbox| {
        home.knows_and(sandbox, ", mode: \"0660\", group: root", "");
        let run = home.file("run");
        fs::create_dir(&run).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    })
    .await;
    assert_eq!(world.connect(ADA).await.status, 200);
    world.refuse_refreshes("invalid_client");
    assert_eq!(world.refuse(ADA).await.status, 502);

    let as_another = async |method: &'static str, path: &'static str| {
        let socket = world.daemon.home.socket();
        let person = Person { uid: 41_001, gid: 0 };
        person.does(move || async move { ask(&socket, method, path, None).await.unwrap() }).await
    };
    let hers = as_another("GET", "/v1/providers").await.json["providers"][0].clone();
    assert_eq!((&hers["state"], hers.get("since"), hers.get("until")), (&json!("registration_refused"), None, None));
    let all = world.daemon.get("/v1/providers").await.json["providers"][0].clone();
    let (since, until) = (all["since"].as_i64().unwrap(), all["until"].as_i64().unwrap());
    assert!((55..=65).contains(&(until - since)), "{all}");

    let denied = as_another("POST", "/v1/providers/sandbox/release").await;
    assert_eq!((denied.status, denied.text("error")), (403, "access_denied"), "{denied:?}");
    assert_eq!(world.provider_state("sandbox").await, "registration_refused");
    let unknown = world.daemon.post("/v1/providers/nonesuch/release", json!({})).await;
    assert_eq!((unknown.status, unknown.text("error")), (404, "unknown_provider"), "{unknown:?}");

    world.sandbox.clear_faults();
    let released = world.daemon.post("/v1/providers/sandbox/release", json!({})).await;
    assert_eq!(released.json, json!({"provider": "sandbox", "state": "registration_refused", "grants": 1}));
    eventually_within(Duration::from_secs(45), "it is renewed", async || world.state().await == "active").await;
    assert_eq!(world.provider_state("sandbox").await, "ok");
    world.assert_sound();
}
