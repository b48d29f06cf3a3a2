//! An old copy of the database that is put back is noticed: what lives is served, and no refresh token that may have been
//! spent is sent before an administrator has said so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grantd::sandbox::{Options, Rotation};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{Answer, World, eventually};

/// Ends the daemon as a service manager does.
async fn stop(world: &mut World) {
    world.daemon.signal("TERM");
    assert_eq!(world.daemon.ended().await.code(), Some(0), "{}", world.daemon.log());
}

/// Has the token replaced, as a caller does to whom the upstream answered 401.
async fn renew(world: &World, account: &str) -> Answer {
    let account = json!({"account": account});
    let before = world.daemon.token(account.clone()).await;
    assert_eq!(before.status, 200, "{before:?}");
    let mut asked = account;
    asked["rejected"] = before.json["token_id"].clone();
    let after = world.daemon.token(asked).await;
    if after.status == 200 {
        assert_ne!(after.json["token_id"], before.json["token_id"]);
    }
    after
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_dir() {
            copy_all(&file.path(), &to.join(file.file_name()));
        } else {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// A world whose grant was renewed since the copy was made that lies in the returned directory. The daemon is stopped.
async fn outlived(mut world: World) -> (World, PathBuf) {
    assert_eq!(world.connect("u-1001").await.status, 200);
    stop(&mut world).await;
    let old = world.daemon.home.file("old");
    copy_all(&world.daemon.home.file("state"), &old);
    // What the schedule finds in it is overdue.
    let copy = rusqlite::Connection::open(old.join("grantd.db")).unwrap();
    assert_eq!(copy.execute("UPDATE grants SET renew_at = 1, due_at = 1", []).unwrap(), 1);
    drop(copy);
    world.daemon.restart().await;
    for _ in 0..3 {
        assert_eq!(renew(&world, "u-1001").await.status, 200);
    }
    stop(&mut world).await;
    (world, old)
}

/// Waits until the schedule has looked at the grant and left it alone.
async fn is_left_alone(world: &World) {
    let store = world.daemon.home.store();
    eventually("the schedule has passed over the grant", || async {
        let read_only = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = rusqlite::Connection::open_with_flags(&store, read_only).unwrap();
        let failure = database.query_row("SELECT last_failure FROM grants", [], |row| row.get::<_, Option<String>>(0));
        failure.unwrap().as_deref() == Some("held")
    })
    .await;
}

#[tokio::test]
async fn an_old_copy_serves_what_lives_and_sends_nothing_until_it_is_accepted() {
    type PutBack = fn(state: &Path, old: &Path);
    let ways: [(PutBack, &str); 3] = [
        (|state, old| assert!(fs::copy(old.join("grantd.db"), state.join("grantd.db")).unwrap() > 0), "older_copy"),
        (|state, old| fs::rename(old.join("grantd.db"), state.join("grantd.db")).unwrap(), "older_copy"),
        (
            |state, old| {
                fs::remove_dir_all(state).unwrap();
                copy_all(old, state);
            },
            "other_file",
        ),
    ];
    for (put_back, reason) in ways {
        let (mut world, old) = outlived(World::new().await).await;
        put_back(&world.daemon.home.file("state"), &old);
        let sent = world.sandbox.ledger().refreshes().count();
        for _ in 0..2 {
            world.daemon.restart().await;
            assert_eq!(world.daemon.token(json!({})).await.status, 200, "what lives is served");
            assert_ne!(renew(&world, "u-1001").await.status, 200);
            is_left_alone(&world).await;
        }
        assert_eq!(world.sandbox.ledger().refreshes().count(), sent, "nothing is sent");
        assert_eq!(world.sandbox.ledger().double_presentations(), &[][..]);
        assert_eq!(world.daemon.get("/v1/connections").await.json["held"], reason);
        assert!(world.daemon.log().contains(reason) && world.daemon.log().contains("grantd restore"));
        assert!(world.daemon.run(&["status"]).err.contains("grantd restore"));

        // Somebody who connects meanwhile is renewed as ever.
        assert_eq!(world.connect("u-1002").await.status, 200);
        assert_eq!(renew(&world, "u-1002").await.status, 200);

        let shown = world.daemon.get("/v1/restore").await;
        let expected = json!({"state": "held", "reason": reason, "connections": 1, "more": false});
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&shown.json[field], value, "{field}: {shown:?}");
        }
        let refused = world.daemon.run(&["restore", "--accept"]);
        assert_eq!((refused.code, refused.out.as_str()), (2, ""), "nobody was asked: {}", refused.err);
        let accepted = world.daemon.run(&["restore", "--accept", "--yes"]);
        assert_eq!(accepted.code, 0, "{}", accepted.err);
        assert_eq!(accepted.out, "Accepted. Accounts that are renewed again: 1\n");

        // The refresh token of the copy was spent, as was to be expected.
        eventually("it is tried, and refused", || async {
            world.sandbox.ledger().double_presentations().iter().any(|double| double.after_delivery)
        })
        .await;
        stop(&mut world).await;
        world.daemon.restart().await;
        assert_eq!(world.daemon.get("/v1/restore").await.json, json!({"state": "none"}));
    }
}

#[tokio::test]
async fn where_refresh_tokens_work_many_times_an_old_copy_goes_on() {
    let options = Options { rotation: Rotation::MultiValid, ..Options::default() };
    let world =
        World::arranged(options, |home, _| home.redefine("rotation: single_use", "rotation: multi_valid")).await;
    let (mut world, old) = outlived(world).await;
    fs::rename(old.join("grantd.db"), world.daemon.home.store()).unwrap();
    world.daemon.restart().await;
    assert_eq!(renew(&world, "u-1001").await.status, 200);
    let shown = world.daemon.get("/v1/restore").await;
    assert_eq!((&shown.json["state"], &shown.json["connections"]), (&json!("held"), &json!(0)), "{shown:?}");
}

#[tokio::test]
async fn no_way_to_end_looks_like_an_old_copy() {
    let options = Options { access_ttl: Duration::from_secs(2), rotation: Rotation::MultiValid, ..Options::default() };
    let mut world = World::with(options).await;
    world.connect("u-1001").await;
    for round in 0..36 {
        // In the middle of renewals, and of whatever else the daemon does by itself.
        let asked = world.daemon.token(json!({"min_ttl": 2}));
        drop(tokio::time::timeout(Duration::from_millis(u64::from(getrandom::u32().unwrap() % 80)), asked).await);
        sleep(Duration::from_millis(u64::from(getrandom::u32().unwrap() % 100))).await;
        if round % 6 == 5 {
            stop(&mut world).await;
        } else {
            world.daemon.kill();
        }
        world.daemon.restart().await;
        let shown = world.daemon.get("/v1/restore").await;
        assert_eq!(shown.json, json!({"state": "none"}), "round {round}: {}", world.daemon.log());
    }
    assert!(world.sandbox.ledger().refreshed() > 3, "there was something to lose track of");
}
