//! The audit log over a real database: what was written is there once, and whatever is done to it is found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::Connection as Sqlite;

use super::*;
use crate::broker::Parts;
use crate::broker::audit::search::{From, Wanted};
use crate::broker::audit::verify::Finding;
use crate::broker::registry::Registry;
use crate::clock::{Clock, ManualClock};
use crate::egress::Egress;
use crate::model::id::InstanceId;
use crate::model::subject::Subject;
use crate::seal::{Keyring, RootKey};
use crate::store::Store;
use crate::store::spool::Spool;
use crate::store::sqlite::SqliteStore;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// One installation, over many runs.
struct Desk {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    instance: InstanceId,
    root: RootKey,
    keyring: Vec<u8>,
}

impl Desk {
    fn new() -> Self {
        let (instance, root) = (InstanceId::random(), RootKey::generate());
        let keyring = Keyring::create(&instance).lock(&root);
        let directory = tempfile::tempdir().unwrap();
        Self { directory, clock: Arc::new(ManualClock::at(START)), instance, root, keyring }
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("grantd.db")
    }

    fn sql(&self) -> Sqlite {
        Sqlite::open(self.database()).unwrap()
    }

    async fn run(&self) -> Arc<Broker> {
        let broker = Broker::new(Parts {
            registry: Registry {
                web_url: "http://localhost:8717".parse().unwrap(),
                providers: BTreeMap::new(),
                callers: Arc::default(),
            },
            store: Arc::new(SqliteStore::open(&self.database()).unwrap()) as Arc<dyn Store>,
            keyring: Keyring::unlock(&self.root, &self.instance, &self.keyring).unwrap(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            egress: Egress::open().unwrap(),
            spool: Spool::open(&self.directory.path().join("spool")).unwrap(),
            audit: AuditParts { journal: Journal::open(&self.database()).unwrap(), keep: 3 * DAY, copy: false },
            cache_entries: 1,
            open_sessions: 1,
        });
        broker.take_up_audit().await.unwrap();
        broker
    }

    /// So many entries on each of so many days.
    async fn lived(&self, days: u32, entries: usize) {
        let broker = self.run().await;
        for _ in 0..days {
            (0..entries).for_each(|_| broker.serving_noted());
            broker.settle_audit().await;
            self.clock.advance(DAY);
        }
        broker.store.close().await.unwrap();
    }

    async fn verdict(&self) -> (Finding, u64) {
        let broker = self.run().await;
        let verdict = broker.verify_audit(&administrator()).await.unwrap();
        broker.store.close().await.unwrap();
        (verdict.finding, verdict.last.seq)
    }
}

fn administrator() -> Caller {
    Caller { name: "uid:0".parse().unwrap(), subject: Subject::from_uid(0), admin: true, peer: None, rules: None }
}

async fn numbers(broker: &Broker) -> Vec<u64> {
    let page = broker.audit_page(&administrator(), From::Behind(0), 1000, &Wanted::default()).await.unwrap();
    page.entries.iter().map(|(entry, _)| entry.seq).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_the_log_is_found() {
    type Tamper = fn(&Sqlite);
    let table: [(Tamper, Finding); 17] = [
        (
            |db| done(db, "UPDATE audit SET entry = replace(entry, 'started', 'stopped') WHERE seq = 5"),
            Finding::Changed { seq: 5 },
        ),
        (
            |db| done(db, "UPDATE audit SET entry = replace(entry, '\"at\":1', '\"at\":2') WHERE seq = 5"),
            Finding::Changed { seq: 5 },
        ),
        (|db| done(db, "UPDATE audit SET entry = 'nonsense' WHERE seq = 1"), Finding::Changed { seq: 1 }),
        (|db| done(db, "UPDATE audit SET hash = zeroblob(32) WHERE seq = 7"), Finding::Changed { seq: 7 }),
        (|db| done(db, "UPDATE audit SET hash = x'00' WHERE seq = 12"), Finding::Changed { seq: 12 }),
        (|db| done(db, "DELETE FROM audit WHERE seq = 6"), Finding::Missing { from: 6, to: 6 }),
        (|db| done(db, "DELETE FROM audit WHERE seq < 5"), Finding::Missing { from: 1, to: 4 }),
        (|db| done(db, "DELETE FROM audit WHERE seq > 9"), Finding::Truncated { from: 10, to: 12 }),
        (|db| done(db, "DELETE FROM audit"), Finding::Truncated { from: 1, to: 12 }),
        (
            |db| done(db, "INSERT INTO audit SELECT 13, hash, entry FROM audit WHERE seq = 12"),
            Finding::Added { seq: 13 },
        ),
        (
            |db| {
                done(db, "UPDATE audit SET seq = 100 WHERE seq = 5");
                done(db, "UPDATE audit SET seq = 5 WHERE seq = 6");
                done(db, "UPDATE audit SET seq = 6 WHERE seq = 100");
            },
            Finding::Changed { seq: 5 },
        ),
        (|db| done(db, "DELETE FROM audit_checkpoints WHERE seq = 4"), Finding::Checkpoint { seq: 4 }),
        (
            |db| done(db, "UPDATE audit_checkpoints SET mac = zeroblob(32) WHERE seq = 4"),
            Finding::Checkpoint { seq: 4 },
        ),
        (|db| done(db, "UPDATE audit_checkpoints SET seq = 5 WHERE seq = 4"), Finding::Checkpoint { seq: 4 }),
        (|db| done(db, "DELETE FROM audit_head"), Finding::Head),
        (
            |db| {
                done(db, "DELETE FROM audit WHERE seq > 9");
                done(db, "UPDATE audit_head SET seq = 9, hash = (SELECT hash FROM audit WHERE seq = 9)");
            },
            Finding::Head,
        ),
        (
            |db| {
                // As if they had been dropped for their age.
                done(db, "UPDATE audit_head SET base_seq = 4, base_hash = (SELECT hash FROM audit WHERE seq = 4)");
                done(db, "DELETE FROM audit WHERE seq <= 4");
            },
            Finding::Head,
        ),
    ];
    for (at, (tamper, finding)) in table.into_iter().enumerate() {
        let desk = Desk::new();
        desk.lived(3, 4).await;
        assert_eq!(desk.verdict().await, (Finding::Intact, 12), "{at}");
        let db = desk.sql();
        tamper(&db);
        drop(db);
        assert_eq!(desk.verdict().await.0, finding, "{at}");
        // What is written afterwards does not heal it.
        desk.lived(1, 2).await;
        let healed = desk.verdict().await.0 == Finding::Intact;
        // What somebody put behind the end has been written over.
        assert_eq!(healed, matches!(finding, Finding::Added { .. }), "{at}, after more entries");
    }
}

fn done(db: &Sqlite, sql: &str) {
    assert!(db.execute(sql, []).unwrap() > 0, "{sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_log_that_somebody_else_made_up_is_found() {
    let (desk, other) = (Desk::new(), Desk::new());
    desk.lived(2, 3).await;
    other.lived(2, 5).await;
    for table in ["audit", "audit_checkpoints", "audit_head"] {
        let db = desk.sql();
        db.execute("ATTACH ?1 AS other", [other.database().to_str().unwrap()]).unwrap();
        db.execute_batch(&format!("DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM other.{table}"))
            .unwrap();
    }
    assert_eq!(desk.verdict().await.0, Finding::Checkpoint { seq: 5 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_the_daemon_runs_is_found_even_if_it_was_true_once() {
    let desk = Desk::new();
    let broker = desk.run().await;
    broker.serving_noted();
    broker.settle_audit().await;
    let old: (i64, Vec<u8>, i64, Vec<u8>) = desk
        .sql()
        .query_row("SELECT seq, hash, at, mac FROM audit_head", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    (0..3).for_each(|_| broker.serving_noted());
    broker.settle_audit().await;
    let db = desk.sql();
    done(&db, "DELETE FROM audit WHERE seq > 1");
    db.execute(
        "UPDATE audit_head SET seq = ?1, hash = ?2, at = ?3, mac = ?4",
        rusqlite::params![old.0, old.1, old.2, old.3],
    )
    .unwrap();
    let verdict = broker.verify_audit(&administrator()).await.unwrap();
    assert_eq!(verdict.finding, Finding::Head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_left_in_the_journal_is_taken_up_once() {
    let desk = Desk::new();
    let broker = desk.run().await;
    (0..3).for_each(|_| broker.serving_noted());
    broker.settle_audit().await;
    (0..2).for_each(|_| broker.serving_noted());
    let journal: Vec<Vec<u8>> =
        crate::store::journal::SUFFIXES.iter().map(|end| std::fs::read(beside(&desk, end)).unwrap()).collect();
    broker.settle_audit().await;
    broker.store.close().await.unwrap();
    drop(broker);
    // The store has them, and the daemon died before the journal was emptied.
    for (end, bytes) in crate::store::journal::SUFFIXES.iter().zip(journal) {
        std::fs::write(beside(&desk, end), bytes).unwrap();
    }
    let broker = desk.run().await;
    broker.serving_noted();
    assert_eq!(numbers(&broker).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(broker.verify_audit(&administrator()).await.unwrap().finding, Finding::Intact);
}

fn beside(desk: &Desk, end: &str) -> PathBuf {
    desk.directory.path().join(format!("grantd.db{end}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_days_go_and_the_rest_can_be_verified() {
    let desk = Desk::new();
    desk.lived(6, 2).await;
    let broker = desk.run().await;
    // Of six days, those that ended more than three days ago.
    broker.prune_audit().await.unwrap();
    assert_eq!(numbers(&broker).await, [7, 8, 9, 10, 11, 12]);
    let verdict = broker.verify_audit(&administrator()).await.unwrap();
    assert_eq!((verdict.finding, verdict.first, verdict.last.seq), (Finding::Intact, 7, 12));
    broker.prune_audit().await.unwrap();
    assert_eq!(numbers(&broker).await.len(), 6, "there is nothing more to drop");
    desk.clock.advance(30 * DAY);
    broker.serving_noted();
    broker.settle_audit().await;
    broker.prune_audit().await.unwrap();
    assert_eq!(numbers(&broker).await, [13]);
    broker.store.close().await.unwrap();
    drop(broker);
    assert_eq!(desk.verdict().await, (Finding::Intact, 13));
    // The beginning is signed: what is taken away there is not taken for age.
    done(&desk.sql(), "UPDATE audit_checkpoints SET mac = zeroblob(32)");
    assert_eq!(desk.verdict().await.0, Finding::Checkpoint { seq: 12 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_on_where_the_last_one_ended_and_only_administrators_see_them() {
    let desk = Desk::new();
    let broker = desk.run().await;
    (0..7).for_each(|_| broker.serving_noted());
    let page = |from| {
        let broker = Arc::clone(&broker);
        async move { broker.audit_page(&administrator(), from, 3, &Wanted::default()).await.unwrap() }
    };
    let (mut from, mut seen) = (From::Behind(0), Vec::new());
    loop {
        let page = page(from).await;
        seen.push(page.entries.len());
        from = From::Behind(page.next);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, [3, 3, 1]);
    let last = page(From::Last(2)).await;
    assert_eq!((last.entries[0].0.seq, last.next, last.more), (6, 7, false));
    let rare = Wanted { code: Some("nothing".to_owned()), ..Wanted::default() };
    let none = broker.audit_page(&administrator(), From::Behind(0), 3, &rare).await.unwrap();
    assert!(none.entries.is_empty() && none.next == 7 && !none.more);
    let other = Caller { admin: false, ..administrator() };
    assert!(matches!(
        broker.audit_page(&other, From::Behind(0), 3, &Wanted::default()).await,
        Err(BrokerError::Denied { .. })
    ));
    assert!(matches!(broker.verify_audit(&other).await, Err(BrokerError::Denied { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_cannot_be_written_entries_wait_in_the_journal() {
    let desk = Desk::new();
    let broker = desk.run().await;
    broker.serving_noted();
    broker.settle_audit().await;
    let other = desk.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    broker.serving_noted();
    broker.settle_audit().await;
    broker.serving_noted();
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(numbers(&broker).await, [1, 2, 3]);
    assert_eq!(broker.verify_audit(&administrator()).await.unwrap().finding, Finding::Intact);
}
