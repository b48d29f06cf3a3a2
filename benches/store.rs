//! What keeping a token costs: arm and replace one after the other, 64 at a time, and reading a connection; and what writing down
//! that one was handed out adds to a request.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use grantd::model::audit::{Act, Entry};
use grantd::model::connection::{Account, Connection, State};
use grantd::model::grant_type::GrantType;
use grantd::model::id::{BootId, ConnectId, ConnectionId, Epoch, SlotName, TokenId, Version, random_bytes};
use grantd::model::scope::ScopeSet;
use grantd::model::session::{CONNECT_TTL, ConnectSession, Progress};
use grantd::model::subject::Subject;
use grantd::model::time::Timestamp;
use grantd::seal::Sealed;
use grantd::store::Store;
use grantd::store::journal::Journal;
use grantd::store::records::{
    Armed, ConfirmedConnection, Ends, GrantKey, Lease, NewGrant, Opening, Pending, Replaced, first_version,
};
use grantd::store::sqlite::SqliteStore;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const CONCURRENT: usize = 64;

/// A grant and the version it has now.
struct Held {
    key: GrantKey,
    version: Version,
}

fn sealed() -> Sealed {
    Sealed::from_bytes(random_bytes::<582>().to_vec())
}

fn content() -> NewGrant {
    NewGrant {
        token_id: TokenId::random(),
        access: sealed(),
        refresh: Some(sealed()),
        scopes: ScopeSet::read("repo read:user", ' '),
        issued_at: NOW,
        expires_at: Some(NOW.after(Duration::from_secs(3600))),
        refresh_expires_at: None,
        renew_at: Some(NOW.after(Duration::from_secs(1800))),
        ends: Ends::default(),
    }
}

async fn connect(store: &SqliteStore, number: usize) -> Held {
    let subject = Subject::from_uid(1000);
    let account = Account { id: number.to_string(), name: "octocat".into() };
    let session = ConnectSession {
        id: ConnectId::random(),
        subject: subject.clone(),
        caller: "bench".parse().expect("a name"),
        purpose: None,
        provider: "github".parse().expect("a name"),
        scopes: ScopeSet::default(),
        reconnect: None,
        grant_type: GrantType::AuthorizationCode,
        user_code: "WDJB-MJHT".into(),
        progress: Progress::Pending,
        created_at: NOW,
        expires_at: NOW.after(CONNECT_TTL),
    };
    let opening = Opening {
        state: random_bytes(),
        browser: random_bytes(),
        verifier: None,
        nonce: None,
        redirect_uri: String::new(),
        token_endpoint: String::new(),
    };
    let pending =
        Pending { account: account.clone(), granted: ScopeSet::default(), browser: random_bytes(), grants: Vec::new() };
    let connection = Connection {
        id: ConnectionId::random(),
        subject,
        provider: session.provider.clone(),
        account,
        label: None,
        is_default: false,
        state: State::Active,
        epoch: Epoch(1),
        grant_type: GrantType::AuthorizationCode,
        scopes: ScopeSet::default(),
        created_at: NOW,
        confirmed_at: NOW,
        given_at: NOW,
        used_at: None,
    };
    let held = Held {
        key: GrantKey { connection: connection.id.clone(), slot: SlotName::main() },
        version: first_version(connection.epoch),
    };
    let confirmed = ConfirmedConnection {
        session: session.id.clone(),
        connection,
        replaces: None,
        grants: vec![(SlotName::main(), content())],
    };
    store.put_session(&session).await.expect("put");
    store.open_session(&session.id, &opening, NOW).await.expect("open");
    store.await_confirmation(&session.id, &pending, NOW).await.expect("await");
    store.confirm(&confirmed, NOW).await.expect("confirm");
    held
}

/// What one refresh writes: the intent, and then the result.
async fn refresh(store: &SqliteStore, held: &mut Held, lease: &Lease) {
    let armed = store.arm(&held.key, held.version, lease, NOW).await.expect("arm");
    assert!(matches!(armed, Armed::Yes { .. }), "{armed:?}");
    let replaced = store.replace_grant(&held.key, held.version, &content()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Yes { .. }), "{replaced:?}");
    held.version = held.version.next();
}

fn store(criterion: &mut Criterion) {
    // Beside the build, because the system's temporary directory may be in memory.
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a directory");
    let store = Arc::new(SqliteStore::open(&directory.path().join("grantd.db")).expect("a store"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let mut grants: Vec<Held> = runtime.block_on(async {
        let mut grants = Vec::new();
        for number in 0..CONCURRENT {
            grants.push(connect(&store, number).await);
        }
        grants
    });
    let lease = Lease { boot: BootId::random(), until: NOW.after(Duration::from_secs(90)) };

    criterion.bench_function("arm and replace, one at a time", |bencher| {
        bencher.iter(|| runtime.block_on(refresh(&store, &mut grants[0], &lease)));
    });
    criterion.bench_function("arm and replace, 64 at a time, each", |bencher| {
        bencher.iter_custom(|rounds| {
            let started = Instant::now();
            let tasks: Vec<_> = grants
                .drain(..)
                .enumerate()
                .map(|(at, mut held)| {
                    let (store, lease) = (Arc::clone(&store), lease.clone());
                    let share = rounds / CONCURRENT as u64 + u64::from((at as u64) < rounds % CONCURRENT as u64);
                    runtime.spawn(async move {
                        for _ in 0..share {
                            refresh(&store, &mut held, &lease).await;
                        }
                        held
                    })
                })
                .collect();
            for task in tasks {
                grants.push(runtime.block_on(task).expect("a task"));
            }
            started.elapsed()
        });
    });
    criterion.bench_function("read a connection", |bencher| {
        bencher.iter(|| runtime.block_on(store.connection(&grants[0].key.connection)));
    });
}

/// What stands between a token in memory and its answer.
fn journal(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a directory");
    let journal = Journal::open(&directory.path().join("grantd.db")).expect("a journal");
    let entry = Entry {
        caller: Some("uid:1000".into()),
        tenant: Some("local".into()),
        subject: Some("uid:1000".into()),
        uid: Some(1000),
        pid: Some(4711),
        provider: Some("github".into()),
        account: Some("583231".into()),
        connection: Some("cx_h1cE3mIrDmSyQ2u0oWvZ5g".into()),
        slot: Some("main".into()),
        scopes: Some("repo read:user".into()),
        rule: Some("own".into()),
        token_id: Some("tk_h1cE3mIrDmSyQ2u0oWvZ5g".into()),
        fingerprint: Some("ba7816bf8f01cfea".into()),
        ..Entry::new(Act::TokenGranted)
    };
    let mut written = 0_u32;
    criterion.bench_function("append to the audit journal", |bencher| {
        bencher.iter(|| {
            journal.append(&mut entry.clone(), NOW).expect("append");
            written += 1;
            // As the schedule does, so that the disk is not filled.
            if written.is_multiple_of(50_000) {
                let which = journal.to_move().expect("something was written");
                journal.moved(which).expect("empty");
            }
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = store, journal
}
criterion_main!(benches);
