//! What only a file can do: be opened again, be locked, linked, damaged, cut off by a crash, and read by a thief.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection as Sqlite;
use tempfile::TempDir;

use super::{OpenError, SqliteStore, grants, replan, schema, upkeep};
use crate::model::connection::Connection;
use crate::model::id::{Generation, InstanceId, SlotName, Version};
use crate::seal::{Keyring, Place};
use crate::store::conformance::fixtures::{
    NOW, alice, bob, boot, confirmation, connect, connected, connection, content, first, is_armed, key, later, lease,
    opening, provider, session, waiting,
};
use crate::store::records::{Armed, Confirmed, Installation, Replaced};
use crate::store::{Store, StoreError};

/// A directory of its own for the store, gone with the test.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("grantd.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path()).unwrap()
    }

    /// Behind the store's back, while it is closed.
    fn change(&self, sql: &str) {
        Sqlite::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.0.path()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refused(path: &Path) -> String {
    match SqliteStore::open(path).unwrap_err() {
        OpenError::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_store_that_is_opened_again_holds_everything() {
    let place = Directory::new();
    let store = place.open();
    let installation = Installation { instance: InstanceId::random(), keyring: vec![7; 300] };
    assert!(store.install(installation.clone()).await.unwrap());
    let made = connected(&store).await;
    let (asked, opened) = (session(&alice()), opening());
    store.put_session(&asked).await.unwrap();
    assert!(store.open_session(&asked.id, &opened, NOW).await.unwrap());
    let awaited = session(&bob());
    waiting(&store, &awaited, "1").await;
    store.close().await.unwrap();
    drop(store);

    let store = place.open();
    assert_eq!(store.installation().await.unwrap().unwrap().keyring, installation.keyring);
    assert_eq!(store.connection(&made.id).await.unwrap().unwrap().connection, made);
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(later(1800)));
    assert!(store.take_opening(&opened.state).await.unwrap().is_some());
    assert_eq!(store.pending(&awaited.id).await.unwrap().unwrap().grants.len(), 2);
}

#[tokio::test]
async fn what_a_dead_run_had_armed_is_due_at_once() {
    let place = Directory::new();
    let store = place.open();
    let made = connected(&store).await;
    connect(&store, &connection(&bob(), "github", "2"), Some(later(1800))).await;
    let armed = store.arm(&key(&made), first(&made), &lease(&boot(), 90), NOW).await.unwrap();
    assert!(is_armed(&armed));
    drop(store);

    let store = place.open();
    assert_eq!(store.due(&provider("github"), NOW, 10).await.unwrap(), [key(&made)]);
    let armed = store.arm(&key(&made), first(&made), &lease(&boot(), 90), NOW).await.unwrap();
    assert!(matches!(armed, Armed::Yes { recovery: true }), "{armed:?}");
    assert!(store.due(&provider("github"), NOW, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_told_which_file_is_locked() {
    let place = Directory::new();
    let store = place.open();
    let error = SqliteStore::open(&place.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    let StoreError::Busy(why) = StoreError::from(error) else { panic!("not busy") };
    assert!(why.contains("grantd.db.lock"), "{why}");
    store.probe(NOW).await.unwrap();
    drop(store);
    place.open().probe(NOW).await.unwrap();
}

#[tokio::test]
async fn closing_leaves_one_file_behind_with_its_lock_and_its_mark() {
    let place = Directory::new();
    let store = place.open();
    connected(&store).await;
    assert!(place.files().len() >= 4, "database, lock, log and index");
    store.close().await.unwrap();
    let expected = ["grantd.db", "grantd.db.lock", "grantd.db.mark"].map(|name| place.0.path().join(name));
    assert_eq!(place.files(), expected);
}

#[tokio::test]
async fn nobody_else_can_read_the_files() {
    let place = Directory::new();
    for path in [place.path(), place.0.path().join("grantd.db.lock")] {
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    }
    let store = place.open();
    connected(&store).await;
    for file in place.files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn links_and_things_that_are_no_files_are_refused() {
    let place = Directory::new();
    let elsewhere = place.0.path().join("elsewhere");
    for name in ["grantd.db.lock", "grantd.db"] {
        let link = place.0.path().join(name);
        symlink(&elsewhere, &link).unwrap();
        assert_eq!(refused(&place.path()), "is a symbolic link", "{name}");
        assert!(!elsewhere.exists(), "{name}");
        fs::remove_file(link).unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path(), rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(refused(&place.path()), "is not a regular file");
    assert!(matches!(SqliteStore::open(Path::new("/")), Err(OpenError::Refused { .. })));
    let nowhere = place.0.path().join("nowhere/grantd.db");
    assert!(matches!(SqliteStore::open(&nowhere), Err(OpenError::Io { .. })));
}

#[tokio::test]
async fn a_directory_may_be_a_link() {
    let place = Directory::new();
    let link = place.0.path().join("link");
    fs::create_dir(place.0.path().join("real")).unwrap();
    symlink("real", &link).unwrap();
    SqliteStore::open(&link.join("grantd.db")).unwrap().probe(NOW).await.unwrap();
}

#[test]
fn a_newer_or_a_foreign_database_is_left_alone() {
    let newer = Directory::new();
    drop(newer.open());
    newer.change("PRAGMA user_version = 99");
    let foreign = Directory::new();
    foreign.change("CREATE TABLE theirs (x)");
    for (place, says) in [(newer, "format 99"), (foreign, "another program")] {
        let before = fs::read(place.path()).unwrap();
        let error = SqliteStore::open(&place.path()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(fs::read(place.path()).unwrap() == before, "{says}: something was written");
    }
}

#[tokio::test]
async fn a_store_that_is_gone_or_cut_short_is_not_replaced_by_an_empty_one() {
    let place = Directory::new();
    place.open().close().await.unwrap();
    let whole = fs::read(place.path()).unwrap();
    for keep in [None, Some(0), Some(1), Some(99), Some(511), Some(4096)] {
        match keep {
            None => fs::remove_file(place.path()).unwrap(),
            Some(keep) => fs::write(place.path(), &whole[..keep]).unwrap(),
        }
        let error = SqliteStore::open(&place.path()).unwrap_err();
        assert!(matches!(error, OpenError::Refused { .. } | OpenError::Damaged(_)), "{keep:?}: {error:?}");
        assert_eq!(fs::metadata(place.path()).ok().map(|file| file.len()), keep.map(|keep| keep as u64));
    }
    fs::write(place.path(), &whole).unwrap();
    place.open().close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_not_replaced() {
    let place = Directory::new();
    let store = place.open();
    for number in 0..40 {
        connect(&store, &connection(&alice(), "github", &number.to_string()), None).await;
    }
    store.close().await.unwrap();
    drop(store);
    let whole = fs::read(place.path()).unwrap();
    let mut scribbled = whole.clone();
    for page in 2..12 {
        scribbled[page * 4096..page * 4096 + 64].fill(0xaa);
    }
    for (name, bytes) in [
        ("not a database", b"hello, world".repeat(100)),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("scribbled over", scribbled),
    ] {
        fs::write(place.path(), &bytes).unwrap();
        let error = SqliteStore::open(&place.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{name}: {error:?}");
        assert!(fs::read(place.path()).unwrap() == bytes, "{name}: something was written");
    }
}

#[tokio::test]
async fn one_row_that_makes_no_sense_hides_no_other() {
    for damage in [
        "UPDATE connections SET state = 'asleep' WHERE tenant || user = 'localuid:1000'",
        "UPDATE connections SET state = 'needs_reconnect' WHERE user = 'uid:1000'",
        "UPDATE connections SET scopes = 'a  b' WHERE user = 'uid:1000'",
        "UPDATE connections SET epoch = -1 WHERE user = 'uid:1000'",
        "UPDATE grants SET lease_until = 5 WHERE connection = (SELECT id FROM connections WHERE user = 'uid:1000')",
        "UPDATE grants SET token_id = '' WHERE connection = (SELECT id FROM connections WHERE user = 'uid:1000')",
    ] {
        let place = Directory::new();
        let (damaged, whole) = (connection(&alice(), "github", "1"), connection(&bob(), "github", "1"));
        let store = place.open();
        for made in [&damaged, &whole] {
            connect(&store, made, Some(NOW)).await;
        }
        drop(store);
        place.change(damage);

        let store = place.open();
        let of_damaged = store.connection(&damaged.id).await;
        assert!(matches!(of_damaged, Err(StoreError::Damaged(_))), "{damage}: {of_damaged:?}");
        let at = store.connections_at(&alice(), &provider("github")).await;
        assert!(matches!(at, Err(StoreError::Damaged(_))), "{damage}");
        let armed = store.arm(&key(&damaged), first(&damaged), &lease(&boot(), 90), NOW).await;
        assert!(matches!(armed, Err(StoreError::Damaged(_))), "{damage}: {armed:?}");

        let page = store.connections(None, 10).await.unwrap();
        assert_eq!(page.len(), 1, "{damage}");
        assert_eq!(page[0].connection, whole);
        assert!(store.due(&provider("github"), NOW, 10).await.unwrap().contains(&key(&whole)), "{damage}");
    }
}

#[test]
fn what_is_due_and_what_was_left_behind_is_answered_from_an_index() {
    let place = Directory::new();
    drop(place.open());
    let file = Sqlite::open(place.path()).unwrap();
    let plan = |statement: &str| -> Vec<String> {
        let mut explained = file.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let steps = explained.query_map([], |row| row.get("detail")).unwrap();
        steps.collect::<Result<_, _>>().unwrap()
    };
    for statement in [
        grants::DUE.replace("?1", "''").replace("?2", "0").replace("?3", "10"),
        grants::SERVING.replace("?1", "''").replace("?2", "10"),
        "SELECT min(due_at) FROM grants WHERE provider = '' AND due_at IS NOT NULL".to_owned(),
    ] {
        let steps: Vec<_> = plan(&statement).into_iter().filter(|step| step.contains("grants")).collect();
        assert!(steps.len() == 1 && steps[0].contains("COVERING INDEX grants_due"), "{steps:?}");
    }
    for (statement, index) in [(upkeep::ENDING, "grants_ending"), (upkeep::NEEDING_PERSON, "grants_ending")] {
        let steps =
            plan(&["?1", "?2", "?3", "?4", "?5"].iter().fold(statement.to_owned(), |sql, at| sql.replace(at, "0")));
        assert!(steps.iter().any(|step| step.contains(index)), "{steps:?}");
        assert!(!steps.iter().any(|step| step == "SCAN grants" || step == "SCAN connections"), "{steps:?}");
    }
    let steps = plan(grants::RECOVER);
    assert!(steps.iter().any(|step| step.contains("INDEX grants_leased")), "{steps:?}");
    assert!(!steps.iter().any(|step| step == "SCAN grants"), "{steps:?}");
    for (step, index) in replan::steps().iter().zip(["grants_leased", "grants_issued", "grants_failing"]) {
        let names = [":leased_until", ":believed_until", ":waits_until", ":spread", ":now"];
        let steps = plan(&names.iter().fold(step.clone(), |step, name| step.replace(name, "7")));
        assert!(steps.iter().any(|step| step.contains(index)), "{steps:?}");
        assert!(!steps.iter().any(|step| step == "SCAN grants"), "{steps:?}");
    }
}

#[test]
fn the_settings_are_in_force() {
    let place = Directory::new();
    drop(place.open());
    let settings = |connection: &Sqlite| {
        [
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "secure_delete",
            "trusted_schema",
            "cell_size_check",
            "mmap_size",
        ]
        .map(|name| {
            let setting =
                connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0));
            match setting.unwrap() {
                rusqlite::types::Value::Integer(number) => number.to_string(),
                rusqlite::types::Value::Text(text) => text,
                other => panic!("{name}: {other:?}"),
            }
        })
    };
    let expected = ["wal", "2", "1", "1", "0", "1", "0"];
    let writer = schema::connect_writer(&place.path()).unwrap();
    assert_eq!(settings(&writer), expected);
    let reader = schema::connect_reader(&place.path()).unwrap();
    assert_eq!(settings(&reader), expected);
    assert!(reader.execute("DELETE FROM grants", []).is_err(), "a reader cannot write");
}

#[tokio::test]
async fn secrets_are_nowhere_in_the_files() {
    const MARK: &str = "RT_MARK_7f3a_not_to_be_found";
    let place = Directory::new();
    let store = place.open();
    let keyring = Keyring::create(&InstanceId::random());
    let made = connection(&alice(), "github", "583231");
    let seal = |connection: &Connection, version: Version| {
        let place = Place {
            tenant: &connection.subject.tenant,
            provider: &connection.provider,
            owner: connection.id.as_str(),
            column: "refresh/main",
            version,
        };
        keyring.seal(&place, MARK.as_bytes())
    };
    let mut confirmed = confirmation(&store, &made, None, None).await;
    let mut secret = content(None);
    secret.refresh = Some(seal(&made, first(&made)));
    secret.access = seal(&made, first(&made));
    confirmed.grants = vec![(SlotName::main(), secret.clone())];
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    secret.refresh = Some(seal(&made, first(&made).next()));
    store.replace_grant(&key(&made), first(&made), &secret).await.unwrap();

    let hits = |needle: &[u8]| {
        place
            .files()
            .into_iter()
            .filter(|file| fs::read(file).unwrap().windows(needle.len()).any(|window| window == needle))
            .count()
    };
    assert!(hits(made.id.as_str().as_bytes()) > 0, "the search finds what is there");
    assert_eq!(hits(MARK.as_bytes()), 0);
    store.close().await.unwrap();
    assert_eq!(hits(MARK.as_bytes()), 0);
    assert!(hits(made.id.as_str().as_bytes()) > 0);
}

/// The test starts itself once more as a process that writes and says what was acknowledged, and kills it.
#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    const FILE: &str = "GRANTD_TEST_STORE_TO_WRITE";
    if let Ok(path) = std::env::var(FILE) {
        return write_until_killed(Path::new(&path)).await;
    }
    for _ in 0..3 {
        let place = Directory::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg(
                concat!(module_path!(), "::a_killed_process_loses_nothing_that_was_acknowledged")
                    .split_once("::")
                    .unwrap()
                    .1,
            )
            .env(FILE, place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut said = said.filter_map(|line| line.rsplit_once("acknowledged ")?.1.parse().ok());
        let mut acknowledged: u64 = said.nth(20).unwrap();
        child.kill().unwrap();
        acknowledged = said.last().unwrap_or(acknowledged);
        child.wait().unwrap();

        let store = place.open();
        let made = store.connections(None, 1).await.unwrap().remove(0);
        let Generation(stored) = made.grants[0].version.generation;
        assert!((acknowledged..=acknowledged + 1).contains(&stored), "{stored} after {acknowledged}");
    }
}

#[expect(clippy::print_stdout, reason = "the only way to tell the parent")]
async fn write_until_killed(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    let made = connected(&store).await;
    let mut version = first(&made);
    loop {
        let replaced = store.replace_grant(&key(&made), version, &content(None)).await.unwrap();
        assert_eq!(replaced, Replaced::Yes { version: version.next() });
        version = version.next();
        println!("acknowledged {}", version.generation.0);
    }
}
