//! One life of the daemon: a broker on a runtime of its own, on a store that outlives it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use grantd::broker::audit::AuditParts;
use grantd::broker::error::BrokerError;
use grantd::broker::registry::{Configured, Registry};
use grantd::broker::token::{Handout, TokenRequest};
use grantd::broker::{Broker, Parts};
use grantd::catalog::{Catalog, Settings};
use grantd::clock::ManualClock;
use grantd::egress::Egress;
use grantd::model::caller::Caller;
use grantd::model::client::Client;
use grantd::model::id::{InstanceId, TokenId};
use grantd::model::scope::ScopeSet;
use grantd::model::secret::ClientSecret;
use grantd::model::subject::Subject;
use grantd::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET};
use grantd::seal::{Keyring, RootKey};
use grantd::store::Store;
use grantd::store::journal::Journal;
use grantd::store::records::Installation;
use grantd::store::spool::Spool;
use grantd::store::sqlite::{OpenError, SqliteStore};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// How long a caller waits: longer than anything that is scripted takes.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long stopping may take.
const STOP: Duration = Duration::from_secs(20);

/// What opens the store, in every life.
pub struct Keys {
    root: RootKey,
    instance: InstanceId,
    locked: Vec<u8>,
}

impl Keys {
    pub fn make() -> Self {
        let (root, instance) = (RootKey::generate(), InstanceId::random());
        let locked = Keyring::create(&instance).lock(&root);
        Self { root, instance, locked }
    }

    pub fn ring(&self) -> Keyring {
        Keyring::unlock(&self.root, &self.instance, &self.locked).unwrap()
    }
}

/// A daemon's broker while it lives.
pub struct Life {
    pub broker: Arc<Broker>,
    pub store: Arc<dyn Store>,
    runtime: Runtime,
}

impl Life {
    /// Starts as the daemon does.
    pub fn start(home: &Path, keys: &Keys, clock: &Arc<ManualClock>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store: Arc<dyn Store> = Arc::new(open(home, clock));
        let spool = Spool::open(&home.join("spool")).unwrap();
        let broker = runtime.block_on(async {
            let installation = Installation { instance: keys.instance.clone(), keyring: keys.locked.clone() };
            store.install(installation).await.unwrap();
            let broker = Broker::new(Parts {
                registry: registry(home),
                store: Arc::clone(&store),
                keyring: keys.ring(),
                clock: Arc::clone(clock) as _,
                egress: Egress::open().unwrap(),
                spool,
                audit: AuditParts {
                    journal: Journal::open(&home.join("grantd.db")).unwrap(),
                    keep: Duration::from_secs(86_400 * 90),
                    copy: false,
                },
                cache_entries: 100,
                open_sessions: 10,
            });
            broker.check_clock().await.unwrap();
            broker.take_up_spool().await;
            broker.take_up_audit().await.unwrap();
            // The first tick comes at once.
            broker.keep_time().await.unwrap();
            broker
        });
        Self { broker, store, runtime }
    }

    /// Runs something on the daemon's runtime and waits for it.
    pub fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Starts something that may not survive the daemon.
    pub fn start_behind(&self, what: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(what);
    }

    /// Stops in peace.
    pub fn stop(self) {
        self.runtime.block_on(self.broker.drain(STOP));
        self.vanish();
    }

    /// Is gone. What a thread is writing is written, as the kernel would.
    pub fn vanish(self) {
        let Self { broker, store, runtime } = self;
        drop((broker, store));
        let started = Instant::now();
        runtime.shutdown_timeout(STOP);
        assert!(started.elapsed() < STOP, "a thread of the daemon does not end");
    }
}

/// Asks for a token as a caller does. `None` if there is no answer.
pub async fn ask(
    broker: &Arc<Broker>,
    account: String,
    min_ttl: Duration,
    rejected: Option<TokenId>,
) -> Option<Result<Handout, BrokerError>> {
    let request = TokenRequest {
        provider: "sandbox".parse().unwrap(),
        account: Some(account),
        slot: None,
        scopes: ScopeSet::default(),
        min_ttl,
        rejected,
        wait: Duration::ZERO,
        purpose: None,
        connect: false,
        id: OnceLock::new(),
    };
    timeout(PATIENCE, broker.token(&caller(), &request)).await.ok()
}

/// Who asks for everything.
pub fn caller() -> Caller {
    Caller { name: "test".parse().unwrap(), subject: Subject::from_uid(1000), admin: true, peer: None, rules: None }
}

/// Opens the store as soon as the life before has let go of it.
fn open(home: &Path, clock: &Arc<ManualClock>) -> SqliteStore {
    let mut refused = None;
    for _ in 0..500 {
        match SqliteStore::open_by(Arc::clone(clock) as _, &home.join("grantd.db")) {
            Ok(store) => return store,
            Err(error @ (OpenError::InUse(_) | OpenError::Busy(_))) => refused = Some(error),
            Err(other) => panic!("the store cannot be opened: {other}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the store stays locked: {refused:?}")
}

fn registry(home: &Path) -> Registry {
    let definitions = home.join("providers.d");
    assert!(fs::exists(&definitions).unwrap());
    let catalog = Catalog::load(Some(&definitions)).unwrap();
    let provider = catalog.resolve(&Settings::plain("sandbox".parse().unwrap(), DEFAULT_CLIENT)).unwrap();
    let secret = Some(ClientSecret::new(DEFAULT_SECRET).unwrap());
    let client = Client { id: DEFAULT_CLIENT.to_owned(), secret, key: None };
    let configured = Configured { provider, client, scopes: BTreeMap::new() };
    let providers = BTreeMap::from([("sandbox".parse().unwrap(), Arc::new(configured))]);
    Registry { web_url: "http://localhost:8717".parse().unwrap(), providers, callers: Arc::default() }
}
