//! Time as the daemon sees it goes wrong, and no dead token is handed out: clocks that are set, systems that sleep.
//!
//! The broker runs here on a clock of its own, and the provider on another one that tells the true time.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use grantd::broker::audit::AuditParts;
use grantd::broker::registry::{Configured, Registry};
use grantd::broker::token::{Handout, TokenRequest};
use grantd::broker::vault::Owner;
use grantd::broker::{Broker, Parts};
use grantd::catalog::{Catalog, Settings};
use grantd::clock::{Clock as _, ManualClock};
use grantd::egress::Egress;
use grantd::model::caller::Caller;
use grantd::model::client::Client;
use grantd::model::connection::{Account, Connection, State};
use grantd::model::grant_type::GrantType;
use grantd::model::id::{ConnectId, ConnectionId, Epoch, InstanceId, SlotName, TokenId, random_bytes};
use grantd::model::scope::ScopeSet;
use grantd::model::secret::ClientSecret;
use grantd::model::session::{ConnectSession, Progress};
use grantd::model::subject::Subject;
use grantd::model::time::Timestamp;
use grantd::sandbox::browser::Browser;
use grantd::sandbox::{self, DEFAULT_CLIENT, DEFAULT_SECRET, Options, Sandbox};
use grantd::seal::Keyring;
use grantd::store::Store;
use grantd::store::journal::Journal;
use grantd::store::records::{
    Confirmed, ConfirmedConnection, Ends, NewGrant, Opening, Pending, PendingGrant, first_version,
};
use grantd::store::spool::Spool;
use grantd::store::sqlite::SqliteStore;

use crate::support::eventually;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;
const TEN_YEARS_MS: i64 = 10 * 365 * 24 * HOUR_MS;
const ACCOUNTS: [&str; 3] = ["1", "2", "3"];

/// Two clocks, a provider on the true one, and a broker on the other.
struct Stand {
    truth: Arc<ManualClock>,
    clock: Arc<ManualClock>,
    sandbox: Sandbox,
    broker: Arc<Broker>,
    browser: Browser,
    _directory: tempfile::TempDir,
}

impl Stand {
    /// With these accounts connected, whose tokens live an hour.
    async fn new() -> Self {
        let (truth, clock) = (Arc::new(ManualClock::at(NOW)), Arc::new(ManualClock::at(NOW)));
        let options = Options { clock: Arc::clone(&truth) as _, access_ttl: HOUR, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&directory.path().join("grantd.db")).unwrap());
        let keyring = Keyring::create(&InstanceId::random());
        for account in ACCOUNTS {
            connect(&*store, &keyring, &sandbox, account).await;
        }
        let broker = Broker::new(Parts {
            registry: registry(&sandbox, directory.path()),
            store,
            keyring,
            clock: Arc::clone(&clock) as _,
            egress: Egress::open().unwrap(),
            spool: Spool::open(&directory.path().join("spool")).unwrap(),
            audit: AuditParts {
                journal: Journal::open(&directory.path().join("grantd.db")).unwrap(),
                keep: Duration::from_secs(86_400 * 90),
                copy: false,
            },
            cache_entries: 100,
            open_sessions: 10,
        });
        Self { truth, clock, sandbox, broker, browser: Browser::new(), _directory: directory }
    }

    fn pass(&self, span: Duration) {
        self.truth.advance(span);
        self.clock.advance(span);
    }

    fn sleep(&self, span: Duration) {
        self.truth.suspend(span);
        self.clock.suspend(span);
    }

    async fn token(&self, account: &str) -> Handout {
        let caller = Caller {
            name: "test".parse().unwrap(),
            subject: Subject::from_uid(1000),
            admin: false,
            peer: None,
            rules: None,
        };
        let request = TokenRequest {
            provider: "sandbox".parse().unwrap(),
            account: Some(account.to_owned()),
            slot: None,
            scopes: ScopeSet::default(),
            min_ttl: Duration::from_secs(60),
            rejected: None,
            wait: Duration::ZERO,
            purpose: None,
            connect: false,
            id: OnceLock::new(),
        };
        self.broker.token(&caller, &request).await.unwrap()
    }

    /// Everybody asks at once, and gets a token that the provider accepts and whose life is not told longer than it is.
    async fn assert_served(&self, when: &str) {
        let me = self.sandbox.url().join("api/me").unwrap();
        let asking = ACCOUNTS.iter().flat_map(|account| (0..4).map(|_| self.token(account)));
        for handout in join_all(asking).await {
            let token = &handout.granted.token;
            let accepted = self.browser.with_bearer(token.access_token.expose(), &me).await;
            assert_eq!(accepted, Some(200), "a dead token was handed out {when}");
            let told = token.left(handout.now).unwrap();
            assert!(told > Duration::ZERO && told <= HOUR, "{told:?} {when}");
            let ends_at = token.ends_at(handout.now).unwrap();
            assert!(ends_at.until(self.clock.now()) <= told + Duration::from_secs(2), "{ends_at:?} {when}");
        }
    }

    /// Each grant has been refreshed at most so often since this was reset.
    fn assert_refreshed(&self, since: usize, each: std::ops::RangeInclusive<usize>, when: &str) -> usize {
        let ledger = self.sandbox.ledger();
        let refreshed = ledger.refreshed() - since;
        let bounds = each.start() * ACCOUNTS.len()..=each.end() * ACCOUNTS.len();
        assert!(bounds.contains(&refreshed), "{refreshed} refreshes {when}");
        assert!(ledger.double_presentations().is_empty(), "{when}: {:?}", ledger.double_presentations());
        ledger.refreshed()
    }

    async fn tick(&self) {
        self.broker.keep_time().await.unwrap();
    }
}

fn registry(sandbox: &Sandbox, directory: &std::path::Path) -> Registry {
    std::fs::write(directory.join("sandbox.yaml"), sandbox::definition(sandbox.url())).unwrap();
    let catalog = Catalog::load(Some(directory)).unwrap();
    let provider = catalog.resolve(&Settings::plain("sandbox".parse().unwrap(), DEFAULT_CLIENT)).unwrap();
    let secret = Some(ClientSecret::new(DEFAULT_SECRET).unwrap());
    let client = Client { id: DEFAULT_CLIENT.to_owned(), secret, key: None };
    let configured = Configured { provider, client, scopes: BTreeMap::new() };
    let providers = BTreeMap::from([("sandbox".parse().unwrap(), Arc::new(configured))]);
    Registry { web_url: "http://localhost:8717".parse().unwrap(), providers, callers: Arc::default() }
}

/// Stores a connection as if a person had just confirmed it.
async fn connect(store: &dyn Store, keyring: &Keyring, sandbox: &Sandbox, account: &str) {
    let issued = sandbox.give(DEFAULT_CLIENT, "u-1001", &["read"]).unwrap();
    let account = Account { id: account.to_owned(), name: account.to_owned() };
    let connection = Connection {
        id: ConnectionId::random(),
        subject: Subject::from_uid(1000),
        provider: "sandbox".parse().unwrap(),
        account: account.clone(),
        label: None,
        is_default: false,
        state: State::Active,
        epoch: Epoch(1),
        grant_type: GrantType::AuthorizationCode,
        scopes: ScopeSet::read("read", ' '),
        created_at: NOW,
        confirmed_at: NOW,
        given_at: NOW,
        used_at: None,
    };
    let (slot, owner) = (SlotName::main(), Owner::connection(&connection, first_version(connection.epoch)));
    let access = owner.seal_access(keyring, &slot, &issued.access);
    let refresh = issued.refresh.map(|token| owner.seal_refresh(keyring, &slot, &token));
    let (scopes, expires_at) = (connection.scopes.clone(), Some(NOW.after(HOUR)));

    let session = ConnectSession {
        id: ConnectId::random(),
        subject: connection.subject.clone(),
        caller: "test".parse().unwrap(),
        purpose: None,
        provider: connection.provider.clone(),
        scopes: scopes.clone(),
        reconnect: None,
        grant_type: GrantType::AuthorizationCode,
        user_code: "WDJB-MJHT".to_owned(),
        progress: Progress::Pending,
        created_at: NOW,
        expires_at: NOW.after(HOUR),
    };
    let opening = Opening {
        state: random_bytes(),
        browser: random_bytes(),
        verifier: None,
        nonce: None,
        redirect_uri: String::new(),
        token_endpoint: String::new(),
    };
    let waiting = PendingGrant {
        slot: slot.clone(),
        access: access.clone(),
        refresh: refresh.clone(),
        scopes: scopes.clone(),
        issued_at: NOW,
        expires_at,
        refresh_expires_at: None,
    };
    let pending = Pending { account, granted: scopes.clone(), browser: random_bytes(), grants: vec![waiting] };
    store.put_session(&session).await.unwrap();
    assert!(store.open_session(&session.id, &opening, NOW).await.unwrap());
    assert!(store.await_confirmation(&session.id, &pending, NOW).await.unwrap());
    let grant = NewGrant {
        token_id: TokenId::random(),
        access,
        refresh,
        scopes,
        issued_at: NOW,
        expires_at,
        refresh_expires_at: None,
        renew_at: Some(NOW.after(HOUR * 3 / 4)),
        ends: Ends::default(),
    };
    let confirmed =
        ConfirmedConnection { session: session.id, connection, replaces: None, grants: vec![(slot, grant)] };
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_costs_one_refresh_for_each_token_and_serves_no_dead_one() {
    for by in [HOUR_MS, -HOUR_MS, TEN_YEARS_MS, -TEN_YEARS_MS] {
        let stand = Stand::new().await;
        stand.tick().await;
        stand.assert_served("before").await;
        stand.pass(Duration::from_secs(600));
        let start = stand.assert_refreshed(0, 0..=0, "before");

        stand.clock.jump(by);
        stand.assert_served(&format!("before anybody noticed {by}")).await;
        stand.tick().await;
        stand.assert_served(&format!("after {by}")).await;
        stand.tick().await;
        stand.assert_served(&format!("again after {by}")).await;
        let jumped = stand.assert_refreshed(start, 1..=1, &format!("after {by}"));

        stand.pass(Duration::from_secs(1200));
        stand.tick().await;
        stand.assert_served(&format!("a while after {by}")).await;
        stand.assert_refreshed(jumped, 0..=0, &format!("a while after {by}"));

        stand.clock.jump(-by);
        stand.tick().await;
        stand.assert_served(&format!("after {by} was undone")).await;
        stand.assert_served(&format!("again after {by} was undone")).await;
        let undone = stand.assert_refreshed(jumped, 0..=1, &format!("after {by} was undone"));

        stand.pass(HOUR);
        stand.tick().await;
        stand.assert_served(&format!("an hour after {by} was undone")).await;
        stand.assert_refreshed(undone, 1..=1, &format!("an hour after {by} was undone"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_by_less_than_a_tokens_age_lengthens_no_life() {
    for ticks in [true, false] {
        let stand = Stand::new().await;
        stand.pass(HOUR * 2 / 3);
        if ticks {
            stand.assert_served("before").await;
        }
        stand.clock.jump(-HOUR_MS / 6);
        if ticks {
            stand.tick().await;
        }
        stand.assert_served("after it was set back").await;
        stand.assert_refreshed(0, 0..=0, "after it was set back");
        stand.pass(HOUR / 3);
        stand.assert_served("after it has died by the true time").await;
        stand.assert_refreshed(0, 1..=1, "after it has died by the true time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_slept_hands_out_nothing_that_died_meanwhile() {
    for noticed in [true, false] {
        let stand = Stand::new().await;
        stand.assert_served("before").await;
        stand.sleep(HOUR * 8);
        if noticed {
            stand.tick().await;
        }
        stand.assert_served("after it woke up").await;
        stand.assert_refreshed(0, 1..=1, "after it woke up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asks_for_does_not_wait_for_the_time_to_come_round_again() {
    let stand = Stand::new().await;
    stand.pass(Duration::from_secs(60));
    stand.clock.jump(-TEN_YEARS_MS);
    stand.broker.renew_due().await.unwrap();
    stand.assert_refreshed(0, 0..=0, "before anybody noticed");
    stand.tick().await;
    stand.pass(Duration::from_secs(300));
    stand.broker.renew_due().await.unwrap();
    let all = || async { stand.sandbox.ledger().refreshed() >= ACCOUNTS.len() };
    eventually("all are renewed", all).await;
    let renewed = stand.assert_refreshed(0, 1..=1, "five minutes later");
    stand.tick().await;
    stand.broker.renew_due().await.unwrap();
    stand.assert_served("in the end").await;
    stand.assert_refreshed(renewed, 0..=0, "in the end");
}
