//! Whatever becomes of the file of the store: nothing is sent that cannot be noted, nothing the provider gave is lost, and a
//! store that is not whole is refused, never replaced by an empty one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use grantd::sandbox::{Fault, Options, Rotation, What, When};
use rusqlite::Connection as Sqlite;
use serde_json::json;
use tokio::time::sleep;

use crate::support::dice::{self, Dice, tell};
use crate::support::person::{is_root, skipped};
use crate::support::{Daemon, Launch, World, eventually_within};

const ADA: &str = "u-1001";
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the store waits for a lock.
const LOCKED: Duration = Duration::from_secs(8);

async fn connected() -> World {
    let world = World::new().await;
    assert_eq!(world.connect(ADA).await.status, 200);
    world
}

fn make_due(path: &Path) {
    let store = Sqlite::open(path).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    store.execute("UPDATE grants SET renew_at = 0, due_at = 0", []).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_somebody_locks_the_database_nothing_is_sent_and_memory_serves() {
    for how in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let world = connected().await;
        let first = world.live_token(json!({})).await;
        make_due(&world.daemon.home.store());
        let other = Sqlite::open(world.daemon.home.store()).unwrap();
        other.busy_timeout(Duration::from_secs(10)).unwrap();
        other.execute_batch(how).unwrap();
        let sent = world.refreshes();
        let until = tokio::time::Instant::now() + LOCKED;
        while tokio::time::Instant::now() < until {
            let served = world.live_token(json!({})).await;
            assert!(served.json["token_id"] == first.json["token_id"] || world.refreshed() > 0, "{served:?}");
            sleep(Duration::from_millis(200)).await;
        }
        let refused = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
        assert!(sent <= world.refreshes(), "{how}");
        let may_have_raced = usize::from(world.refreshed() > 0);
        assert!(world.refreshes() <= sent + may_have_raced, "{how}: sent although it could not be noted");
        assert!(refused.status == 503 || may_have_raced == 1, "{how}: {refused:?}");
        other.execute_batch("ROLLBACK").unwrap();
        make_due(&world.daemon.home.store());
        eventually_within(PATIENCE, "it is renewed", async || {
            let token = world.daemon.token(json!({})).await;
            token.status == 200 && token.json["token_id"] != first.json["token_id"]
        })
        .await;
        assert_eq!(world.invalid_grants(), 0, "{how}");
        world.assert_renewable().await;
        world.assert_sound();
    }
}

/// The provider has answered, and the store cannot be written: what it gave is served as soon as it is kept, and is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_provider_gave_while_the_database_was_locked_is_kept_afterwards() {
    let world = connected().await;
    let first = world.live_token(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_secs(1))));
    make_due(&world.daemon.home.store());
    eventually_within(PATIENCE, "it is sent", async || world.refreshes() == 1).await;
    let other = Sqlite::open(world.daemon.home.store()).unwrap();
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    eventually_within(PATIENCE, "it is answered", async || world.refreshed() == 1).await;
    sleep(LOCKED).await;
    assert_eq!(world.daemon.token(json!({})).await.status, 200);
    assert_eq!(world.refreshes(), 1, "it is not sent again");
    other.execute_batch("ROLLBACK").unwrap();
    eventually_within(PATIENCE, "it is served", async || {
        world.daemon.token(json!({})).await.json["token_id"] != first.json["token_id"]
    })
    .await;
    assert_eq!((world.refreshes(), world.invalid_grants()), (1, 0));
    world.assert_renewable().await;
    world.assert_sound();
}

/// The files of a store at rest.
async fn at_rest(world: &mut World) -> PathBuf {
    world.daemon.signal("TERM");
    assert!(world.daemon.ended().await.success());
    world.daemon.home.store()
}

/// Starts it with a file that something has happened to. Either it refuses, and changes nothing, or what it serves is right.
async fn refuses_or_serves_right(world: &mut World, token: &serde_json::Value, what: &str) -> bool {
    let path = world.daemon.home.store();
    let before = fs::read(&path).ok();
    world.daemon.revive();
    let started = world.daemon.starts().await;
    if !started {
        assert!(fs::read(&path).ok() == before, "{what}: a store that is refused is left as it is");
        return false;
    }
    let listed = world.daemon.get("/v1/connections").await;
    let answer = world.daemon.token(json!({"connect": false})).await;
    match answer.status {
        200 => assert_eq!(answer.json["access_token"], *token, "{what}: a token that is not ours"),
        404 | 409 => panic!("{what}: it looks as if nobody had ever connected: {answer:?} {listed:?}"),
        _ => assert!(matches!(answer.status, 500..=504), "{what}: {answer:?}"),
    }
    world.daemon.kill();
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_flipped_bytes_is_refused_or_serves_what_is_whole() {
    let seed = dice::seed();
    tell(&format!("flipped bytes: seed={seed}"));
    let mut dice = Dice::of(seed);
    let mut world = connected().await;
    let token = world.live_token(json!({})).await.json["access_token"].clone();
    let path = at_rest(&mut world).await;
    let whole = fs::read(&path).unwrap();
    let mut refused = 0;
    for round in 0..24 {
        let mut bytes = whole.clone();
        // The first page is what says that it is ours at all.
        let at = if round < 6 { dice.below(100) } else { dice.below(whole.len() as u64) };
        let at = usize::try_from(at).unwrap();
        let bits = u8::try_from(1 + dice.below(255)).unwrap();
        bytes[at] ^= bits;
        fs::write(&path, &bytes).unwrap();
        let served = refuses_or_serves_right(&mut world, &token, &format!("byte {at} ^ {bits:#x}")).await;
        refused += usize::from(!served);
        leave_only(&path, &whole);
    }
    tell(&format!("flipped bytes: {refused} of 24 refused"));
    assert!(refuses_or_serves_right(&mut world, &token, "whole again").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_lacks_its_end_or_is_another_one_is_refused() {
    let mut world = connected().await;
    let token = world.live_token(json!({})).await.json["access_token"].clone();
    let path = at_rest(&mut world).await;
    let whole = fs::read(&path).unwrap();
    for keep in [1, 99, 100, 1000, 4096, 8192, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..keep]).unwrap();
        let served = refuses_or_serves_right(&mut world, &token, &format!("{keep} bytes are left")).await;
        assert!(!served, "{keep} of {} bytes are enough", whole.len());
        leave_only(&path, &whole);
    }
    // Nothing may have stood in the last byte.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    refuses_or_serves_right(&mut world, &token, "the last byte is missing").await;
    leave_only(&path, &whole);
    for (what, bytes) in [("zeros", vec![0; whole.len()]), ("text", b"# notes\n".repeat(1000))] {
        fs::write(&path, bytes).unwrap();
        assert!(!refuses_or_serves_right(&mut world, &token, what).await, "{what}");
        leave_only(&path, &whole);
    }
    assert!(refuses_or_serves_right(&mut world, &token, "whole again").await);
}

/// Another installation's file, with the same account: its tokens are sealed for somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_another_installation_is_refused() {
    let (mut ours, mut theirs) = (connected().await, connected().await);
    let token = ours.live_token(json!({})).await.json["access_token"].clone();
    let (path, other) = (at_rest(&mut ours).await, at_rest(&mut theirs).await);
    let whole = fs::read(&path).unwrap();
    fs::copy(&other, &path).unwrap();
    assert!(!refuses_or_serves_right(&mut ours, &token, "another installation's").await);
    leave_only(&path, &whole);
    assert!(refuses_or_serves_right(&mut ours, &token, "whole again").await);
}

/// Puts the whole file back, without what SQLite kept beside the broken one.
fn leave_only(path: &Path, whole: &[u8]) {
    for ending in ["-wal", "-shm"] {
        drop(fs::remove_file(path.with_extension(format!("db{ending}"))));
    }
    fs::write(path, whole).unwrap();
}

/// What is done to the file below a running daemon.
type Mischief = (&'static str, fn(&Path));

const MISCHIEF: [Mischief; 4] = [
    ("truncated to nothing", |path| fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap()),
    ("overwritten", |path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        file.write_all_at(&vec![0xa5; usize::try_from(length).unwrap()], 0).unwrap();
    }),
    ("removed", |path| fs::remove_file(path).unwrap()),
    ("replaced by an empty one", |path| {
        fs::remove_file(path).unwrap();
        fs::write(path, b"").unwrap();
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_damaged_below_a_running_daemon_costs_no_wrong_token_and_no_second_sending() {
    for (what, damage) in MISCHIEF {
        let world = connected().await;
        let first = world.live_token(json!({})).await;
        damage(&world.daemon.home.store());
        let mut last = first.json["token_id"].clone();
        for _ in 0..10 {
            let answer = world.daemon.token(json!({"connect": false, "rejected": last})).await;
            match answer.status {
                200 => {
                    assert!(world.is_live(&answer.json["access_token"]).await, "{what}: {answer:?}");
                    last = answer.json["token_id"].clone();
                }
                _ => assert!(matches!(answer.status, 500..=504), "{what}: {answer:?}"),
            }
        }
        assert_eq!(world.invalid_grants(), 0, "{what}");
        world.assert_sound();
    }
}

/// A small file system of its own, which goes with this.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nothing may be mounted: in a container even root need not have the right to.
    pub fn mount(at: PathBuf, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at))
    }

    /// Leaves not a byte.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.0.join("ballast")).unwrap();
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

/// When the disk is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Full {
    BeforeArm,
    AfterArm,
    /// And the daemon is killed before there is room again.
    AfterArmAndKilled,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_sends_nothing_that_cannot_be_noted_and_loses_nothing_that_came() {
    if !is_root("a full disk") {
        return;
    }
    for full in [Full::BeforeArm, Full::AfterArm, Full::AfterArmAndKilled] {
        let mut disk = None;
        let rotation = Rotation::SingleUse { kills_family: true, grace: Duration::ZERO };
        let options = Options { rotation, ..Options::default() };
        let mut world = World::arranged(options, |home, _| disk = SmallDisk::mount(home.file("state"), "3m")).await;
        let Some(disk) = disk else {
            return skipped("a full disk", "no file system can be mounted");
        };
        assert_eq!(world.connect(ADA).await.status, 200);
        let first = world.live_token(json!({})).await;
        let after_arm = full != Full::BeforeArm;
        if after_arm {
            world.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(Duration::from_secs(1))));
        } else {
            disk.fill();
        }
        let socket = world.daemon.home.socket();
        let body = json!({"provider": "sandbox", "rejected": first.json["token_id"]});
        let waiting =
            tokio::spawn(async move { crate::support::ask::ask(&socket, "POST", "/v1/token", Some(body)).await });
        if after_arm {
            eventually_within(PATIENCE, "it is sent", async || world.refreshes() == 1).await;
            disk.fill();
            eventually_within(PATIENCE, "it is answered", async || world.refreshed() == 1).await;
        }
        for _ in 0..20 {
            let served = world.daemon.token(json!({})).await;
            assert_eq!(served.status, 200, "{full:?}: {served:?}");
            sleep(Duration::from_millis(100)).await;
        }
        let sent = usize::from(after_arm);
        assert_eq!(world.refreshes(), sent, "{full:?}");
        let answer = waiting.await.unwrap().unwrap();
        assert_eq!(answer.status, if after_arm { 200 } else { 503 }, "{full:?}: {answer:?}");
        if full == Full::AfterArmAndKilled {
            world.daemon.kill();
        }
        disk.free();
        if full == Full::AfterArmAndKilled {
            world.daemon.restart().await;
            let kept = world.live_token(json!({})).await;
            assert_eq!(kept.json["token_id"], answer.json["token_id"], "it was in the room that is kept free");
        }
        eventually_within(PATIENCE, "it is renewed", async || {
            make_due(&world.daemon.home.store());
            world.daemon.token(json!({})).await.json["token_id"] != first.json["token_id"]
        })
        .await;
        assert_eq!(world.invalid_grants(), 0, "{full:?}");
        world.assert_renewable().await;
        world.assert_sound();
        drop(world);
        drop(disk);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_gone_is_not_replaced_by_an_empty_one() {
    let mut world = connected().await;
    let path = at_rest(&mut world).await;
    fs::remove_file(&path).unwrap();
    let refused = Daemon::refused(&world.daemon.home, &Launch::default());
    assert!(refused.code > 0 && refused.err.contains("restore it from a backup"), "{refused:?}");
    assert!(!path.exists(), "an empty store was made in the place of one that is gone");
}
