//! A provider, a store and the broker between them, in this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use grantd::broker::audit::AuditParts;
use grantd::broker::registry::{Configured, Registry};
use grantd::broker::token::{Handout, TokenRequest};
use grantd::broker::vault::Owner;
use grantd::broker::{Broker, Parts};
use grantd::catalog::{Catalog, Settings};
use grantd::clock::{Clock, SystemClock};
use grantd::egress::Egress;
use grantd::model::caller::Caller;
use grantd::model::client::Client;
use grantd::model::connection::{Account, Connection, State};
use grantd::model::grant_type::GrantType;
use grantd::model::id::{ConnectId, ConnectionId, Epoch, InstanceId, ProviderId, SlotName, TokenId, random_bytes};
use grantd::model::scope::ScopeSet;
use grantd::model::secret::ClientSecret;
use grantd::model::session::{CONNECT_TTL, ConnectSession, Progress};
use grantd::model::subject::Subject;
use grantd::model::time::{Timestamp, Uptime};
use grantd::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET, Options, Sandbox, definition as sandbox_definition};
use grantd::seal::{Keyring, RootKey};
use grantd::store::Store;
use grantd::store::journal::Journal;
use grantd::store::records::{
    Confirmed, ConfirmedConnection, Ends, Installation, NewGrant, Opening, Pending, first_version,
};
use grantd::store::spool::Spool;
use grantd::store::sqlite::SqliteStore;
use url::Url;

use crate::Result;

/// Without `openid`: signing an ID token would cost the sandbox as much as everything else together costs us.
const SCOPES: [&str; 2] = ["email", "profile"];

/// A clock that goes as the system's does, and can be put ahead.
#[derive(Debug, Default)]
pub(crate) struct Ahead(AtomicU64);

impl Ahead {
    pub(crate) fn put(&self, ahead: Duration) {
        self.0.store(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().after(self.ahead())
    }

    fn boot(&self) -> Uptime {
        SystemClock.boot().after(self.ahead())
    }

    fn mono(&self) -> Uptime {
        SystemClock.mono().after(self.ahead())
    }
}

/// The sandbox's definition, with a budget that is never used up.
pub(crate) fn definition(url: &Url) -> String {
    sandbox_definition(url).replace("refresh:\n", "refresh:\n  per_second: 1000000\n")
}

/// Everything but the broker.
pub(crate) struct Engine {
    pub(crate) sandbox: Sandbox,
    pub(crate) clock: Arc<Ahead>,
    pub(crate) store: Arc<SqliteStore>,
    spool: PathBuf,
    root: RootKey,
    keyring: Keyring,
}

impl Engine {
    pub(crate) async fn open(path: &Path, root: &RootKey) -> Result<Self> {
        let clock = Arc::new(Ahead::default());
        let sandbox = Sandbox::start(Options { clock: clock.clone(), ..Options::default() }).await?;
        let store = SqliteStore::open(path)?;
        let instance = InstanceId::random();
        let new = Installation { instance: instance.clone(), keyring: Keyring::create(&instance).lock(root) };
        store.install(new).await?;
        let root = RootKey::parse(root.to_text().as_bytes())?;
        let keyring = unlock(&store, &root).await?;
        let spool = path.with_extension("spool");
        Ok(Self { sandbox, clock, store: Arc::new(store), spool, root, keyring })
    }

    /// The broker as the daemon builds it.
    pub(crate) async fn broker(&self) -> Result<Arc<Broker>> {
        let settings = Settings::plain(provider(), DEFAULT_CLIENT);
        let definition = definition(self.sandbox.url());
        let configured = Configured {
            provider: Catalog::read("sandbox.yaml", &definition)?.resolve(&settings)?,
            client: Client {
                id: DEFAULT_CLIENT.to_owned(),
                secret: Some(ClientSecret::new(DEFAULT_SECRET)?),
                key: None,
            },
            scopes: BTreeMap::new(),
        };
        let providers = BTreeMap::from([(provider(), Arc::new(configured))]);
        let broker = Broker::new(Parts {
            registry: Registry { web_url: "http://localhost:8717".parse()?, providers, callers: Arc::default() },
            store: self.store.clone(),
            keyring: unlock(&self.store, &self.root).await?,
            clock: self.clock.clone(),
            egress: Egress::open()?,
            spool: Spool::open(&self.spool)?,
            audit: AuditParts {
                journal: Journal::open(&self.spool.with_extension("db"))?,
                keep: Duration::from_secs(86_400 * 90),
                copy: false,
            },
            cache_entries: 10_000,
            open_sessions: 20,
        });
        broker.take_up_audit().await?;
        Ok(broker)
    }

    /// Connects so many accounts, each of a subject of its own, with tokens that live for `life` and are due after `due`.
    pub(crate) async fn connect(&self, count: u32, life: Duration, due: Duration) -> Result<Vec<Caller>> {
        let issued_at = self.clock.now();
        let callers = stream::iter(0..count).map(|number| async move {
            let caller = caller(number)?;
            self.connect_one(&caller, number, issued_at, life, due).await?;
            Result::Ok(caller)
        });
        callers.buffered(256).try_collect().await
    }

    /// As [`connect`](Self::connect), for one subject.
    pub(crate) async fn connect_one(
        &self,
        caller: &Caller,
        number: u32,
        issued_at: Timestamp,
        life: Duration,
        due: Duration,
    ) -> Result<()> {
        let issued = self.sandbox.give(DEFAULT_CLIENT, "u-1001", &SCOPES).ok_or("no such client")?;
        let scopes = ScopeSet::read(&SCOPES.join(" "), ' ');
        let account = Account { id: number.to_string(), name: format!("{number}@sandbox.example") };
        let connection = Connection {
            id: ConnectionId::random(),
            subject: caller.subject.clone(),
            provider: provider(),
            account: account.clone(),
            label: None,
            is_default: false,
            state: State::Active,
            epoch: Epoch(1),
            grant_type: GrantType::AuthorizationCode,
            scopes: scopes.clone(),
            created_at: issued_at,
            confirmed_at: issued_at,
            given_at: issued_at,
            used_at: Some(issued_at),
        };
        let (slot, version) = (SlotName::main(), first_version(connection.epoch));
        let owner = Owner::connection(&connection, version);
        let grant = NewGrant {
            token_id: TokenId::random(),
            access: owner.seal_access(&self.keyring, &slot, &issued.access),
            refresh: issued.refresh.map(|token| owner.seal_refresh(&self.keyring, &slot, &token)),
            scopes: scopes.clone(),
            issued_at,
            expires_at: Some(issued_at.after(life)),
            refresh_expires_at: None,
            renew_at: Some(issued_at.after(due)),
            ends: Ends::default(),
        };
        let session = ConnectSession {
            id: ConnectId::random(),
            subject: caller.subject.clone(),
            caller: caller.name.clone(),
            purpose: None,
            provider: provider(),
            scopes: scopes.clone(),
            reconnect: None,
            grant_type: GrantType::AuthorizationCode,
            user_code: "WDJB-MJHT".into(),
            progress: Progress::Pending,
            created_at: issued_at,
            expires_at: issued_at.after(CONNECT_TTL),
        };
        let opening = Opening {
            state: random_bytes(),
            browser: random_bytes(),
            verifier: None,
            nonce: None,
            redirect_uri: String::new(),
            token_endpoint: String::new(),
        };
        let pending = Pending { account, granted: scopes, browser: opening.browser, grants: Vec::new() };
        self.store.put_session(&session).await?;
        self.store.open_session(&session.id, &opening, issued_at).await?;
        self.store.await_confirmation(&session.id, &pending, issued_at).await?;
        let confirmed =
            ConfirmedConnection { session: session.id, connection, replaces: None, grants: vec![(slot, grant)] };
        match self.store.confirm(&confirmed, issued_at).await? {
            Confirmed::Yes => Ok(()),
            refused => Err(format!("not connected: {refused:?}").into()),
        }
    }
}

async fn unlock(store: &SqliteStore, root: &RootKey) -> Result<Keyring> {
    let installation = store.installation().await?.ok_or("a store without an installation")?;
    Ok(Keyring::unlock(root, &installation.instance, &installation.keyring)?)
}

fn provider() -> ProviderId {
    "sandbox".parse().expect("a name")
}

fn caller(number: u32) -> Result<Caller> {
    Ok(Caller {
        name: "bench".parse()?,
        subject: Subject::from_uid(100_000 + number),
        admin: false,
        peer: None,
        rules: None,
    })
}

/// Asks for the caller's token; `rejected` is the answer whose token the upstream refuses.
pub(crate) async fn ask(
    broker: &Arc<Broker>,
    caller: &Caller,
    rejected: Option<&Handout>,
) -> std::result::Result<Handout, grantd::broker::error::BrokerError> {
    let request = TokenRequest {
        provider: provider(),
        account: None,
        slot: None,
        scopes: ScopeSet::default(),
        min_ttl: Duration::ZERO,
        rejected: rejected.map(|handout| handout.granted.token.token_id.clone()),
        wait: Duration::ZERO,
        purpose: None,
        connect: false,
        id: OnceLock::new(),
    };
    broker.token(caller, &request).await
}
