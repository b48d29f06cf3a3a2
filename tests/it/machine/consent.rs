//! A person connects an account: what the browser would have brought is written into the store, and the broker confirms it.

use std::sync::Arc;
use std::time::Duration;

use grantd::broker::Broker;
use grantd::broker::vault::Owner;
use grantd::model::connection::Account;
use grantd::model::grant_type::GrantType;
use grantd::model::id::{ConnectId, ConnectionId, SlotName, random_bytes};
use grantd::model::scope::ScopeSet;
use grantd::model::session::{ConnectSession, Progress};
use grantd::model::subject::Subject;
use grantd::model::time::Timestamp;
use grantd::sandbox::Issued;
use grantd::seal::Keyring;
use grantd::store::Store;
use grantd::store::records::{Opening, Pending, PendingGrant};

/// What the browser shows to be the one that pressed the button.
const COOKIE: &str = "cookie";

/// The connection that comes of what the provider gave for this account.
pub async fn given(
    broker: &Arc<Broker>,
    store: &dyn Store,
    keyring: &Keyring,
    name: &str,
    issued: Issued,
    now: Timestamp,
) -> ConnectionId {
    let scopes = ScopeSet::read("read", ' ');
    let session = ConnectSession {
        id: ConnectId::random(),
        subject: Subject::from_uid(1000),
        caller: "test".parse().unwrap(),
        purpose: None,
        provider: "sandbox".parse().unwrap(),
        scopes: scopes.clone(),
        reconnect: None,
        grant_type: GrantType::AuthorizationCode,
        user_code: "WDJB-MJHT".to_owned(),
        progress: Progress::Pending,
        created_at: now,
        expires_at: now.after(Duration::from_secs(600)),
    };
    let browser = keyring.digest("browser", COOKIE.as_bytes());
    let opening = Opening {
        state: random_bytes(),
        browser,
        verifier: None,
        nonce: None,
        redirect_uri: String::new(),
        token_endpoint: String::new(),
    };
    let (owner, slot) = (Owner::session(&session), SlotName::main());
    let grant = PendingGrant {
        access: owner.seal_access(keyring, &slot, &issued.access),
        refresh: issued.refresh.map(|token| owner.seal_refresh(keyring, &slot, &token)),
        slot,
        scopes: scopes.clone(),
        issued_at: now,
        expires_at: issued.access_ttl.map(|ttl| now.after(ttl)),
        refresh_expires_at: None,
    };
    let account = Account { id: name.to_owned(), name: name.to_owned() };
    let pending = Pending { account, granted: scopes, browser, grants: vec![grant] };
    store.put_session(&session).await.unwrap();
    assert!(store.open_session(&session.id, &opening, now).await.unwrap());
    assert!(store.await_confirmation(&session.id, &pending, now).await.unwrap());
    match broker.confirm(&session.id, COOKIE).await.unwrap().progress {
        Progress::Completed { connection, .. } => connection,
        other => panic!("the account was not connected: {other:?}"),
    }
}
