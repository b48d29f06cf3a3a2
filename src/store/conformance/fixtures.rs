//! Sessions, connections and grants to try a store with. Their sealed values are any bytes: no store looks into them.

use std::time::Duration;

use crate::model::connection::{Account, Connection, State};
use crate::model::grant_type::GrantType;
use crate::model::id::{
    BootId, ConnectId, ConnectionId, Epoch, ProviderId, SlotName, TokenId, UserId, Version, random_bytes,
};
use crate::model::scope::ScopeSet;
use crate::model::session::{CONNECT_TTL, ConnectSession, Progress};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::seal::Sealed;
use crate::store::Store;
use crate::store::records::{
    Armed, Confirmed, ConfirmedConnection, DeviceOpening, Ends, GrantKey, Lease, NewGrant, Opening, Pending,
    PendingGrant, first_version,
};

/// When the tests take place.
pub(in crate::store) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(in crate::store) fn later(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

pub(in crate::store) fn alice() -> Subject {
    Subject::from_uid(1000)
}

pub(in crate::store) fn bob() -> Subject {
    Subject { user: UserId::from_uid(1001), ..alice() }
}

pub(in crate::store) fn provider(name: &str) -> ProviderId {
    name.parse().unwrap()
}

pub(in crate::store) fn scopes(text: &str) -> ScopeSet {
    ScopeSet::read(text, ' ')
}

pub(in crate::store) fn session(subject: &Subject) -> ConnectSession {
    ConnectSession {
        id: ConnectId::random(),
        subject: subject.clone(),
        caller: "issue-reader".parse().unwrap(),
        purpose: Some("tools/call \"create_issue\"; DROP TABLE sessions".into()),
        provider: provider("github"),
        scopes: scopes("repo read:user"),
        reconnect: None,
        grant_type: GrantType::AuthorizationCode,
        user_code: "WDJB-MJHT".into(),
        progress: Progress::Pending,
        created_at: NOW,
        expires_at: NOW.after(CONNECT_TTL),
    }
}

pub(in crate::store) fn opening() -> Opening {
    Opening {
        state: random_bytes(),
        browser: random_bytes(),
        verifier: Some(sealed()),
        nonce: Some("n-0S6_WzA2Mj".into()),
        redirect_uri: "http://localhost:8717/callback/github".into(),
        token_endpoint: "https://github.com/login/oauth/access_token".into(),
    }
}

pub(in crate::store) fn device_opening() -> DeviceOpening {
    DeviceOpening {
        code: sealed(),
        browser: random_bytes(),
        token_endpoint: "https://github.com/login/oauth/access_token".into(),
        interval: Duration::from_secs(5),
        expires_at: later(900),
        answer: None,
    }
}

pub(in crate::store) fn account(id: &str) -> Account {
    Account { id: id.into(), name: format!("name of {id}") }
}

pub(in crate::store) fn pending(id: &str) -> Pending {
    let grant = |slot: &str| PendingGrant {
        slot: slot.parse().unwrap(),
        access: sealed(),
        refresh: Some(sealed()),
        scopes: scopes("repo"),
        issued_at: NOW,
        expires_at: Some(later(3600)),
        refresh_expires_at: None,
    };
    Pending {
        account: account(id),
        granted: scopes("repo"),
        browser: random_bytes(),
        grants: vec![grant("user"), grant("bot")],
    }
}

pub(in crate::store) fn sealed() -> Sealed {
    Sealed::from_bytes(random_bytes::<330>().to_vec())
}

pub(in crate::store) fn content(renew_at: Option<Timestamp>) -> NewGrant {
    NewGrant {
        token_id: TokenId::random(),
        access: sealed(),
        refresh: Some(sealed()),
        scopes: scopes("repo"),
        issued_at: NOW,
        expires_at: Some(later(3600)),
        refresh_expires_at: Some(later(86_400)),
        renew_at,
        ends: Ends::default(),
    }
}

pub(in crate::store) fn connection(subject: &Subject, at: &str, account_id: &str) -> Connection {
    Connection {
        id: ConnectionId::random(),
        subject: subject.clone(),
        provider: provider(at),
        account: account(account_id),
        label: None,
        is_default: false,
        state: State::Active,
        epoch: Epoch(1),
        grant_type: GrantType::AuthorizationCode,
        scopes: scopes("repo"),
        created_at: NOW,
        confirmed_at: NOW,
        given_at: NOW,
        used_at: None,
    }
}

pub(in crate::store) fn lease(boot: &BootId, seconds: u64) -> Lease {
    Lease { boot: boot.clone(), until: later(seconds) }
}

pub(in crate::store) fn boot() -> BootId {
    BootId::random()
}

pub(in crate::store) fn key(connection: &Connection) -> GrantKey {
    slot_key(connection, SlotName::main())
}

pub(in crate::store) fn slot_key(connection: &Connection, slot: SlotName) -> GrantKey {
    GrantKey { connection: connection.id.clone(), slot }
}

pub(in crate::store) fn first(connection: &Connection) -> Version {
    first_version(connection.epoch)
}

/// A session that waits for its confirmation.
pub(in crate::store) async fn waiting(store: &dyn Store, session: &ConnectSession, account_id: &str) {
    store.put_session(session).await.unwrap();
    assert!(store.open_session(&session.id, &opening(), NOW).await.unwrap());
    assert!(store.await_confirmation(&session.id, &pending(account_id), NOW).await.unwrap());
}

/// What confirms `connection` in a session of its own.
pub(in crate::store) async fn confirmation(
    store: &dyn Store,
    connection: &Connection,
    replaces: Option<Epoch>,
    renew_at: Option<Timestamp>,
) -> ConfirmedConnection {
    let session = session(&connection.subject);
    waiting(store, &session, &connection.account.id).await;
    ConfirmedConnection {
        session: session.id,
        connection: connection.clone(),
        replaces,
        grants: vec![(SlotName::main(), content(renew_at))],
    }
}

/// Keeps `connection`, new, with one grant that is to be renewed then.
pub(in crate::store) async fn connect(store: &dyn Store, connection: &Connection, renew_at: Option<Timestamp>) {
    let confirmed = confirmation(store, connection, None, renew_at).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
}

/// A connection of alice's at GitHub that is stored.
pub(in crate::store) async fn connected(store: &dyn Store) -> Connection {
    let connection = connection(&alice(), "github", "583231");
    connect(store, &connection, Some(later(1800))).await;
    connection
}

pub(in crate::store) fn is_armed(armed: &Armed) -> bool {
    matches!(armed, Armed::Yes { .. })
}
