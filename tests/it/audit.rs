//! Every decision and every act leaves its entry in the audit log: as many grants as were handed out, whatever kills the daemon,
//! no secret in any of them, and nothing that is done to the log goes unnoticed.

mod survives;

use grantd::sandbox::Options;
use grantd::sandbox::browser::Browser;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::ask::ask;
use crate::support::{World, eventually};

const ADA: &str = "u-1001";

impl World {
    /// Every entry, as `grantd audit export` prints it.
    fn exported(&self) -> Vec<Value> {
        let output = self.daemon.run(&["audit", "export"]);
        assert_eq!((output.code, output.err.as_str()), (0, ""), "{}", output.out);
        output.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["entry"].clone()).collect()
    }

    fn acts(&self, act: &str) -> Vec<Value> {
        self.exported().into_iter().filter(|entry| entry["act"] == act).collect()
    }

    /// What `grantd audit verify` says, and its exit code.
    fn verified(&self) -> (i32, String) {
        let output = self.daemon.run(&["audit", "verify"]);
        (output.code, output.out)
    }
}

fn fingerprint(token: &str) -> String {
    hex::encode(&Sha256::digest(token)[..8])
}

#[tokio::test]
async fn each_act_leaves_its_entry_and_no_secret() {
    let mut world = World::new().await;
    let me = format!("uid:{}", rustix::process::geteuid().as_raw());

    // Refused, with the session that was made for it; given up; connected.
    let refused = world.daemon.token(json!({"scopes": ["email"]})).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let cancelled = world.daemon.delete(&format!("/v1/connect/{}", refused.text("connect_id"))).await;
    assert!(cancelled.status < 300, "{cancelled:?}");
    assert_eq!(world.connect(ADA).await.status, 200);
    let token = world.daemon.token(json!({})).await;
    assert_eq!(token.status, 200, "{token:?}");
    let browser = Browser::new();
    let page = world.come_back(&browser, "u-1002").await;
    browser.press(&page, "/decline", &[]).await.unwrap();
    let connection = token.text("connection").to_owned();
    let path = format!("/v1/connections/{connection}");
    let named = ask(&world.daemon.home.socket(), "PATCH", &path, Some(json!({"label": "work"}))).await.unwrap();
    assert_eq!(named.status, 200, "{named:?}");
    assert_eq!(world.daemon.post("/v1/providers/sandbox/release", json!({})).await.status, 200);
    world.daemon.signal("HUP");
    eventually("the configuration is read again", async || !world.acts("configuration_reloaded").is_empty()).await;
    assert_eq!(world.daemon.delete(&path).await.status, 200);
    world.daemon.signal("TERM");
    assert_eq!(world.daemon.ended().await.code(), Some(0));
    world.daemon.restart().await;

    let entries = world.exported();
    let told: Vec<&str> = entries.iter().map(|entry| entry["act"].as_str().unwrap()).collect();
    assert_eq!(
        told,
        [
            "daemon_started",
            "connect_started",
            "token_refused",
            "connect_ended",
            "connect_started",
            "connect_confirmed",
            "token_granted",
            "connect_started",
            "connect_ended",
            "grant_revoked",
            "account_named",
            "provider_released",
            "configuration_reloaded",
            "disconnected",
            "grant_revoked",
            "daemon_stopped",
            "daemon_started",
        ]
    );
    let of = |act: &str| entries.iter().find(|entry| entry["act"] == act).unwrap();
    for (act, expected) in [
        (
            "token_refused",
            json!({"caller": me, "tenant": "local", "subject": me, "provider": "sandbox", "scopes": "email",
                "code": "connection_required", "request_id": refused.json["request_id"]}),
        ),
        ("connect_ended", json!({"session": refused.json["connect_id"], "code": "cancelled"})),
        (
            "token_granted",
            json!({"caller": me, "subject": me, "provider": "sandbox", "account": ADA, "connection": connection,
                "slot": "main", "scopes": token.json["scope"], "rule": "own", "token_id": token.json["token_id"],
                "fingerprint": fingerprint(token.text("access_token"))}),
        ),
        ("connect_confirmed", json!({"caller": me, "account": ADA, "connection": connection})),
        ("account_named", json!({"caller": me, "connection": connection, "rule": "own"})),
        ("provider_released", json!({"provider": "sandbox", "rule": "administrator"})),
        ("disconnected", json!({"caller": me, "connection": connection, "account": ADA, "rule": "own"})),
    ] {
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&of(act)[field], value, "{field} of {act}: {}", of(act));
        }
    }
    let pid = i64::from(std::process::id());
    assert_eq!(of("token_granted")["pid"], pid, "a hint for people");
    let fate = &entries[14];
    assert_eq!((&fate["connection"], &fate["code"]), (&json!(connection), &json!("confirmed")), "{fate}");
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(entry["seq"], at as u64 + 1);
        assert!(!entry.to_string().contains("_MARK_"), "{entry}");
    }
    let log = world.daemon.log();
    assert_eq!(log.matches("\"message\":\"audit: token_granted\"").count(), 1, "the second copy");
    assert_eq!(world.verified().0, 0, "{}", world.verified().1);
}

#[tokio::test]
async fn the_second_copy_can_be_left_out_and_what_is_young_is_not_dropped() {
    let world = World::arranged(Options::default(), |home, _| {
        home.set("audit: {log: false, keep: 1}\njobs: {audit: \"* * * * * *\"}\n");
    })
    .await;
    assert_eq!(world.daemon.token(json!({"connect": false})).await.status, 409);
    assert_eq!(world.acts("token_refused").len(), 1);
    assert!(!world.daemon.log().contains("audit: token_refused"));
}

#[tokio::test]
async fn only_an_administrator_reads_it_and_what_is_asked_for_is_found() {
    let world = World::new().await;
    world.connect(ADA).await;
    for _ in 0..5 {
        assert_eq!(world.daemon.token(json!({})).await.status, 200);
    }
    let token = world.daemon.token(json!({})).await;
    assert_eq!(world.daemon.token(json!({"account": "nobody"})).await.status, 404);
    for (words, count) in [
        (vec!["--code", "unknown_account"], 1),
        (vec!["--act", "token_granted"], 6),
        (vec!["--act", "token_granted", "--limit", "2"], 2),
        (vec!["--fingerprint", &*fingerprint(token.text("access_token"))], 6),
        (vec!["--connection", token.text("connection"), "--since", "1h"], 7),
        (vec!["--since", "1h", "--until", "30m"], 0),
        (vec!["--caller", "uid:4711"], 0),
        (vec!["--provider", "sandbox", "--subject", "uid:4711"], 0),
    ] {
        let output = world.daemon.run(&[&["audit", "search", "--json"], &words[..]].concat());
        assert_eq!((output.code, output.out.lines().count()), (0, count), "{words:?}: {output:?}");
    }
    let tail = world.daemon.run(&["audit", "tail", "-n", "2"]);
    let lines: Vec<&str> = tail.out.lines().collect();
    assert_eq!(lines.len(), 3, "{tail:?}");
    assert!(
        lines[0].starts_with("TIME") && lines[1].contains(" token_granted ") && lines[2].contains("unknown_account")
    );
    for (path, status) in [
        ("/v1/audit?limit=0", 400),
        ("/v1/audit?limit=1001", 400),
        ("/v1/audit?last=1&after=1", 400),
        ("/v1/audit?act=theft", 400),
        ("/v1/audit?limit=2&after=3", 200),
    ] {
        assert_eq!(world.daemon.get(path).await.status, status, "{path}");
    }
    assert_eq!(world.daemon.post("/v1/audit", json!({})).await.status, 405);
}

#[tokio::test]
async fn what_somebody_does_to_the_database_is_told_with_an_exit_code() {
    let change =
        "UPDATE audit SET entry = replace(entry, 'token_granted', 'token_refused') WHERE entry LIKE '%granted%'";
    for (sql, is_running, said) in [
        (change, false, "is not what was written"),
        (change, true, "is not what was written"),
        ("DELETE FROM audit WHERE seq > 2", true, "the tail is missing: entries 3 to 4"),
        // The next run writes entries behind the gap.
        ("DELETE FROM audit WHERE seq > 2", false, "entries 3 to 4 not there, and later ones are"),
    ] {
        let mut world = World::new().await;
        world.connect(ADA).await;
        assert_eq!(world.daemon.token(json!({})).await.status, 200);
        let (code, out) = world.verified();
        assert!(code == 0 && out.starts_with("Intact: entries 1 to 4, "), "{out}");
        if !is_running {
            world.daemon.kill();
        }
        let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
        assert!(store.execute(sql, []).unwrap() > 0);
        drop(store);
        if !is_running {
            world.daemon.restart().await;
        }
        let (code, out) = world.verified();
        assert!(code == 1 && out.starts_with("BROKEN: ") && out.contains(said), "{out}");
        let json = world.daemon.run(&["audit", "verify", "--json"]);
        let verdict: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!((json.code, &verdict["intact"]), (1, &json!(false)));
    }
}
