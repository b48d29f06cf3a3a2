//! Many connections at once, put into the store of a daemon that is not running, as if a person had confirmed each.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use grantd::broker::schedule::{self, Life};
use grantd::broker::vault::Owner;
use grantd::clock::{Clock as _, SystemClock};
use grantd::model::connection::{Account, Connection, State};
use grantd::model::grant_type::GrantType;
use grantd::model::id::{ConnectId, ConnectionId, Epoch, SlotName, TokenId, random_bytes};
use grantd::model::provider::rules::RefreshRules;
use grantd::model::scope::ScopeSet;
use grantd::model::session::{CONNECT_TTL, ConnectSession, Progress};
use grantd::model::subject::Subject;
use grantd::sandbox::{DEFAULT_CLIENT, Fingerprint, Issued};
use grantd::seal::{Keyring, RootKey};
use grantd::store::Store as _;
use grantd::store::records::{
    Confirmed, ConfirmedConnection, Ends, GrantKey, NewGrant, Opening, Pending, PendingGrant, first_version,
};
use grantd::store::sqlite::SqliteStore;

use crate::support::World;

const SCOPES: &str = "email openid profile";

impl World {
    /// Stops the daemon, adds so many connections of the caller, with the accounts `stock-0`, `stock-1` and so on, and
    /// starts it again. All tokens are issued now, with the lifetime that the sandbox gives.
    pub async fn stock(&mut self, count: usize, lifetime: Duration) {
        self.daemon.signal("TERM");
        assert!(self.daemon.ended().await.success());
        self.stock_while_away(0..count, lifetime).await;
        self.daemon.restart().await;
    }

    /// As [`stock`](Self::stock), with the accounts of these numbers, while the daemon is not running. Tells the first access
    /// token of each.
    pub async fn stock_while_away(&self, indexes: Range<usize>, lifetime: Duration) -> Vec<Fingerprint> {
        let stock = Stock::open(self).await;
        let added = stream::iter(indexes).map(|index| stock.add(self, index, lifetime));
        let tokens = added.buffered(100).collect().await;
        stock.store.close().await.unwrap();
        tokens
    }
}

struct Stock {
    store: SqliteStore,
    keyring: Keyring,
    subject: Subject,
}

impl Stock {
    async fn open(world: &World) -> Self {
        let home = &world.daemon.home;
        let store = SqliteStore::open(&home.store()).unwrap();
        let root = RootKey::parse(&fs::read(home.file(".local/state/grantd/root.key")).unwrap()).unwrap();
        let installation = store.installation().await.unwrap().unwrap();
        let keyring = Keyring::unlock(&root, &installation.instance, &installation.keyring).unwrap();
        let subject = Subject::from_uid(rustix::process::getuid().as_raw());
        Self { store, keyring, subject }
    }

    async fn add(&self, world: &World, index: usize, lifetime: Duration) -> Fingerprint {
        let scopes: Vec<&str> = SCOPES.split(' ').collect();
        let issued = world.sandbox.give(DEFAULT_CLIENT, "u-1001", &scopes).unwrap();
        let token = Fingerprint::of(issued.access.expose());
        let now = SystemClock.now();
        let account = Account { id: format!("stock-{index}"), name: format!("stock-{index}@sandbox.example") };
        let connection = Connection {
            id: ConnectionId::random(),
            subject: self.subject.clone(),
            provider: "sandbox".parse().unwrap(),
            account: account.clone(),
            label: None,
            is_default: false,
            state: State::Active,
            epoch: Epoch(1),
            grant_type: GrantType::AuthorizationCode,
            scopes: ScopeSet::read(SCOPES, ' '),
            created_at: now,
            confirmed_at: now,
            given_at: now,
            used_at: None,
        };
        let grant = self.sealed(&connection, issued, lifetime);
        let session = ConnectSession {
            id: ConnectId::random(),
            subject: self.subject.clone(),
            caller: "stock".parse().unwrap(),
            purpose: None,
            provider: connection.provider.clone(),
            scopes: connection.scopes.clone(),
            reconnect: None,
            grant_type: GrantType::AuthorizationCode,
            user_code: "WDJB-MJHT".to_owned(),
            progress: Progress::Pending,
            created_at: now,
            expires_at: now.after(CONNECT_TTL),
        };
        let opening = Opening {
            state: random_bytes(),
            browser: random_bytes(),
            verifier: None,
            nonce: None,
            redirect_uri: "http://localhost/callback".to_owned(),
            token_endpoint: "http://localhost/token".to_owned(),
        };
        let pending = Pending {
            account,
            granted: connection.scopes.clone(),
            browser: opening.browser,
            grants: vec![PendingGrant {
                slot: SlotName::main(),
                access: grant.access.clone(),
                refresh: grant.refresh.clone(),
                scopes: grant.scopes.clone(),
                issued_at: grant.issued_at,
                expires_at: grant.expires_at,
                refresh_expires_at: None,
            }],
        };
        self.store.put_session(&session).await.unwrap();
        assert!(self.store.open_session(&session.id, &opening, now).await.unwrap());
        assert!(self.store.await_confirmation(&session.id, &pending, now).await.unwrap());
        let confirmed = ConfirmedConnection {
            session: session.id,
            connection,
            replaces: None,
            grants: vec![(SlotName::main(), grant)],
        };
        assert_eq!(self.store.confirm(&confirmed, now).await.unwrap(), Confirmed::Yes);
        token
    }

    fn sealed(&self, connection: &Connection, issued: Issued, lifetime: Duration) -> NewGrant {
        let (slot, version, now) = (SlotName::main(), first_version(connection.epoch), SystemClock.now());
        let owner = Owner::connection(connection, version);
        let key = GrantKey { connection: connection.id.clone(), slot: slot.clone() };
        let life = Life { issued_at: now, expires_at: Some(now.after(lifetime)), refresh_expires_at: None };
        NewGrant {
            token_id: TokenId::random(),
            access: owner.seal_access(&self.keyring, &slot, &issued.access),
            refresh: issued.refresh.map(|token| owner.seal_refresh(&self.keyring, &slot, &token)),
            scopes: connection.scopes.clone(),
            issued_at: now,
            expires_at: life.expires_at,
            refresh_expires_at: None,
            renew_at: schedule::renew_at(&RefreshRules::default(), &key, version, life),
            ends: Ends::default(),
        }
    }
}
