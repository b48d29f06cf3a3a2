//! Old copies put back in every way, and everything that is none of that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection as Sqlite;
use tempfile::TempDir;

use crate::clock::{Clock as _, ManualClock};
use crate::model::connection::Connection;
use crate::model::id::{InstanceId, Version};
use crate::store::Store as _;
use crate::store::conformance::fixtures::{
    NOW, alice, bob, connect, connected, connection, content, first, key, later,
};
use crate::store::records::{HoldReason, Installation, Replaced, Setback};
use crate::store::sqlite::SqliteStore;

struct State(TempDir);

impl State {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.directory()).unwrap();
        home
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn database(&self) -> PathBuf {
        self.directory().join("grantd.db")
    }

    fn mark(&self) -> PathBuf {
        self.directory().join("grantd.db.mark")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open_by(Arc::new(ManualClock::at(NOW)), &self.database()).unwrap()
    }

    /// Opens it, asks whether it is held, and closes it.
    async fn why(&self) -> Option<HoldReason> {
        let store = self.open();
        let hold = store.hold().await.unwrap();
        store.close().await.unwrap();
        hold.map(|hold| hold.why)
    }

    /// An installed store with one connection, closed.
    async fn made(&self) -> Connection {
        let store = self.open();
        install(&store).await;
        let made = connected(&store).await;
        store.close().await.unwrap();
        made
    }

    /// Replaces the grant once.
    async fn renewed(&self, made: &Connection, read: Version) {
        let store = self.open();
        renew(&store, made, read).await;
        store.close().await.unwrap();
    }

    fn copy_to(&self, name: &str) -> PathBuf {
        let to = self.0.path().join(name);
        copy_all(&self.directory(), &to);
        to
    }
}

async fn install(store: &SqliteStore) {
    let installation = Installation { instance: InstanceId::random(), keyring: vec![1] };
    assert!(store.install(installation).await.unwrap());
}

async fn renew(store: &SqliteStore, made: &Connection, read: Version) {
    let replaced = store.replace_grant(&key(made), read, &content(None)).await.unwrap();
    assert_eq!(replaced, Replaced::Yes { version: read.next() });
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn an_old_copy_is_held_however_it_is_put_back() {
    type PutBack = fn(&State, &Path);
    let ways: [(PutBack, HoldReason); 4] = [
        (|state, old| assert!(fs::copy(old.join("grantd.db"), state.database()).unwrap() > 0), HoldReason::Older),
        (|state, old| fs::rename(old.join("grantd.db"), state.database()).unwrap(), HoldReason::Older),
        (
            |state, old| {
                fs::remove_dir_all(state.directory()).unwrap();
                copy_all(old, &state.directory());
            },
            HoldReason::OtherFile,
        ),
        (
            |state, old| {
                fs::copy(old.join("grantd.db"), state.database()).unwrap();
                fs::remove_file(state.mark()).unwrap();
            },
            HoldReason::MarkMissing,
        ),
    ];
    for (put_back, why) in ways {
        let state = State::new();
        let made = state.made().await;
        let old = state.copy_to("old");
        state.renewed(&made, first(&made)).await;
        put_back(&state, &old);
        assert_eq!(state.why().await, Some(why));
        assert_eq!(state.why().await, Some(why), "it stays held over a restart");

        let store = state.open();
        assert!(store.release_hold().await.unwrap());
        assert!(!store.release_hold().await.unwrap() && store.hold().await.unwrap().is_none());
        store.close().await.unwrap();
        assert_eq!(state.why().await, None, "{why:?} was accepted for good");
    }
}

#[tokio::test]
async fn what_comes_after_is_not_held_whatever_the_clock_says() {
    let state = State::new();
    let made = state.made().await;
    let store = state.open();
    let mut early = content(None);
    // By a clock that went ahead, and has been set back since.
    early.issued_at = later(100);
    store.replace_grant(&key(&made), first(&made), &early).await.unwrap();
    store.close().await.unwrap();
    fs::write(state.mark(), "damaged").unwrap();
    let store = state.open();
    let hold = store.hold().await.unwrap().unwrap();
    assert!(hold.before > early.issued_at && hold.found_at == NOW, "{hold:?}");
    assert_eq!(hold.why, HoldReason::MarkMissing, "a damaged mark counts as missing");
}

#[tokio::test]
async fn a_mark_of_another_installation_holds_and_one_left_behind_by_a_deleted_store_does_not() {
    let (one, other) = (State::new(), State::new());
    one.made().await;
    other.made().await;
    fs::copy(other.mark(), one.mark()).unwrap();
    assert_eq!(one.why().await, Some(HoldReason::OtherInstance));
    for gone in [other.database(), other.directory().join("grantd.db.lock")] {
        fs::remove_file(gone).unwrap();
    }
    other.made().await;
    assert_eq!(other.why().await, None);
}

/// The times are those of two lines of history that branch at an old copy.
#[tokio::test]
async fn a_copy_from_before_the_hold_is_older_than_everything_after_it() {
    let state = State::new();
    let made = state.made().await;
    let old = state.copy_to("old");
    for (count, read) in [first(&made), first(&made).next(), first(&made).next().next()].into_iter().enumerate() {
        state.renewed(&made, read).await;
        if count == 1 {
            state.copy_to("later");
        }
    }
    fs::copy(old.join("grantd.db"), state.database()).unwrap();
    state.open().release_hold().await.unwrap();
    assert_eq!(state.why().await, None);
    fs::copy(state.0.path().join("later/grantd.db"), state.database()).unwrap();
    assert_eq!(state.why().await, Some(HoldReason::Older));
}

#[tokio::test]
async fn ordinary_life_holds_nothing() {
    let state = State::new();
    assert_eq!(state.why().await, None);
    let made = state.made().await;
    let mut read = first(&made);
    for _ in 0..5 {
        state.renewed(&made, read).await;
        read = read.next();
        assert_eq!(state.why().await, None);
    }
    let mark = fs::read(state.mark()).unwrap();
    state.renewed(&made, read).await;
    fs::write(state.mark(), mark).unwrap();
    assert_eq!(state.why().await, None, "a mark that is behind, as after a power cut");
}

/// Whatever is in the files when the machine stops, in each of the steps in which a mark comes into being.
#[tokio::test]
async fn a_mark_that_never_came_to_be_is_not_missed() {
    let state = State::new();
    let store = state.open();
    let installed = state.0.path().join("installed");
    install(&store).await;
    store.close().await.unwrap();
    fs::copy(state.database(), &installed).unwrap();
    for (marked, with_mark) in [(0, false), (0, true), (1, true)] {
        fs::copy(&installed, state.database()).unwrap();
        let set = format!("UPDATE history SET marked = {marked}");
        Sqlite::open(state.database()).unwrap().execute(&set, []).unwrap();
        if !with_mark {
            fs::remove_file(state.mark()).unwrap();
        }
        assert_eq!(state.why().await, None, "{marked} {with_mark}");
    }
}

#[tokio::test]
async fn only_what_happens_to_grants_is_counted_and_in_the_same_step() {
    let state = State::new();
    let store = state.open();
    install(&store).await;
    let count = || {
        let db = Sqlite::open(state.database()).unwrap();
        db.query_row("SELECT commits FROM history", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let made = connected(&store).await;
    let after_connecting = count();
    store.probe(NOW).await.unwrap();
    assert!(after_connecting > 0 && count() == after_connecting);
    renew(&store, &made, first(&made)).await;
    assert_eq!(count(), after_connecting + 1);
    connect(&store, &connection(&bob(), "github", "2"), None).await;
    connect(&store, &connection(&alice(), "google", "3"), None).await;
    assert_eq!(count(), after_connecting + 3);
}

#[tokio::test]
async fn the_latest_time_on_the_wall_is_remembered() {
    let state = State::new();
    assert_eq!(state.open().wall_before().await.unwrap(), None);
    let clock = Arc::new(ManualClock::at(NOW));
    let store = SqliteStore::open_by(clock.clone(), &state.database()).unwrap();
    install(&store).await;
    clock.advance(Duration::from_secs(60));
    store.probe(NOW).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(state.open().wall_before().await.unwrap(), Some(later(60)));
    assert_eq!(
        state.open().wall_before().await.unwrap(),
        Some(later(60)),
        "a clock that was set back does not undo it"
    );
}

#[tokio::test]
async fn a_setback_is_known_after_a_restart_and_to_an_old_copy() {
    let (state, clock) = (State::new(), Arc::new(ManualClock::at(NOW)));
    let open = || SqliteStore::open_by(clock.clone(), &state.database()).unwrap();
    let store = open();
    install(&store).await;
    let made = connected(&store).await;
    store.close().await.unwrap();
    let copy = state.0.path().join("copy");
    fs::copy(state.database(), &copy).unwrap();

    clock.jump(-3_600_000);
    let setback = Setback { until: clock.now(), by: Duration::from_secs(3600) };
    let store = open();
    store.note_setback(Some(setback)).await.unwrap();
    renew(&store, &made, first(&made)).await;
    drop(store);
    let store = open();
    assert_eq!(store.setback().await.unwrap(), Some(setback));
    assert_eq!(store.wall_before().await.unwrap(), Some(clock.now()), "what is known to have been set is no surprise");
    store.close().await.unwrap();

    fs::copy(&copy, state.database()).unwrap();
    let store = open();
    assert_eq!(store.hold().await.unwrap().map(|hold| hold.why), Some(HoldReason::Older));
    assert_eq!(store.setback().await.unwrap(), Some(setback), "the copy does not change it");
    store.note_setback(None).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(open().setback().await.unwrap(), None, "made good");
}

#[tokio::test]
async fn a_setback_is_noted_while_the_database_is_locked_and_by_nobody_who_has_closed_it() {
    let state = State::new();
    state.made().await;
    let store = state.open();
    let locked = Sqlite::open(state.database()).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    let setback = Some(Setback { until: NOW, by: Duration::from_secs(60) });
    store.note_setback(setback).await.unwrap();
    drop(locked);
    store.close().await.unwrap();
    store.note_setback(None).await.unwrap_err();
    assert_eq!(state.open().setback().await.unwrap(), setback);
}
