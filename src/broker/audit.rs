//! Writes down each decision and each act. A token is not handed out unless its entry is written.
//!
//! An entry goes into the journal beside the database, which is one write into the page cache; [`chain`] moves it into the
//! store behind everybody's back, [`search`] and [`verify`] read there.

pub mod chain;
pub mod search;
#[cfg(test)]
mod tests;
pub mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{error, info};

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::permit;
use crate::broker::revocation::Fate;
use crate::broker::token::{Handout, TokenRequest};
use crate::model::audit::{Act, Entry};
use crate::model::caller::Caller;
use crate::model::connection::Connection;
use crate::model::id::{ProviderId, RequestId, SlotName};
use crate::model::session::{ConnectFailure, ConnectSession};
use crate::model::time::Timestamp;
use crate::policy::{self, Decision};
use crate::store::StoreError;
use crate::store::audit::Head;
use crate::store::journal::Journal;
use crate::store::records::{ConfirmedConnection, Extent};

/// What the audit log is made of.
#[derive(Debug)]
pub struct AuditParts {
    /// Where entries are written first.
    pub journal: Journal,
    /// How long they are kept.
    pub keep: Duration,
    /// Whether each is written into the daemon's own log too.
    pub copy: bool,
}

/// The journal, and how far the chain in the store has come.
pub(super) struct Audit {
    journal: Arc<Journal>,
    keep: Duration,
    copy: bool,
    /// As it was written last; `None` until it is read, and when nobody knows. Whoever has the lock moves, prunes or verifies.
    head: tokio::sync::Mutex<Option<Head>>,
    /// Whether the last record could not be written: it is logged once.
    failing: AtomicBool,
    /// The same for moving.
    stuck: AtomicBool,
}

impl Audit {
    pub(super) fn new(parts: AuditParts) -> Self {
        Self {
            journal: Arc::new(parts.journal),
            keep: parts.keep,
            copy: parts.copy,
            head: tokio::sync::Mutex::default(),
            failing: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
        }
    }
}

impl Broker {
    /// Writes down what became of a token request. A token whose entry cannot be written is not handed out.
    pub(super) fn token_told(
        &self,
        caller: &Caller,
        request: &TokenRequest,
        outcome: Result<Handout, BrokerError>,
    ) -> Result<Handout, BrokerError> {
        let handout = match outcome {
            Ok(handout) => handout,
            Err(error) => {
                self.token_refused(caller, request, &error);
                return Err(error);
            }
        };
        let granted = &*handout.granted;
        let entry = Entry {
            provider: Some(granted.provider.as_str().into()),
            account: Some(granted.account.id.as_str().into()),
            connection: Some(granted.connection.as_str().into()),
            slot: Some(granted.slot.as_str().into()),
            scopes: Some(granted.scope.as_str().into()),
            rule: Some(handout.rule.as_ref().into()),
            token_id: Some(granted.token.token_id.as_str().into()),
            fingerprint: Some(granted.fingerprint.as_str().into()),
            ..Entry::new(Act::TokenGranted).by(caller)
        };
        match self.write_down(entry, handout.now.wall) {
            Ok(()) => Ok(handout),
            Err(why) => {
                Err(BrokerError::Store(StoreError::Busy(format!("the audit journal cannot be written: {why}"))))
            }
        }
    }

    fn token_refused(&self, caller: &Caller, request: &TokenRequest, error: &BrokerError) {
        let id = request.id.get_or_init(RequestId::random);
        let scopes = request.scopes.to_string();
        let rule = match error {
            BrokerError::Denied { rule } => Some((*rule).into()),
            BrokerError::GrantBroader { rule } | BrokerError::ScopeDenied { rule, .. } => Some(rule.as_str().into()),
            // What is not the caller's is told as if it were not there.
            BrokerError::UnknownAccount | BrokerError::UnknownProvider | BrokerError::UnknownSlot => {
                caller.rules.as_ref().map(|_| policy::DEFAULT_DENY.into())
            }
            _ => None,
        };
        self.jot(Entry {
            provider: Some(request.provider.as_str().into()),
            account: request.account.as_deref().map(Into::into),
            slot: request.slot.as_ref().map(|slot| slot.as_str().into()),
            scopes: (!scopes.is_empty()).then(|| scopes.as_str().into()),
            rule,
            code: Some(error.code().into()),
            request_id: Some(id.as_str().into()),
            ..Entry::new(Act::TokenRefused).by(caller)
        });
    }

    pub(super) fn connect_noted(&self, caller: &Caller, session: &ConnectSession) {
        let (registry, scopes) = (self.registry(), session.scopes.to_string());
        let configured = registry.providers.get(&session.provider);
        let rule = configured.map(|configured| permit::connecting(caller, configured, &session.scopes));
        self.jot(Entry {
            scopes: Some(scopes.as_str().into()),
            rule: rule.as_ref().map(|rule| rule.as_ref().into()),
            connection: session.reconnect.as_ref().map(|id| id.as_str().into()),
            uid: caller.peer.map(|peer| peer.uid),
            pid: caller.peer.and_then(|peer| peer.pid),
            ..of_session(Act::ConnectStarted, session)
        });
    }

    pub(super) fn confirmed_noted(&self, session: &ConnectSession, confirmed: &ConfirmedConnection) {
        for (slot, grant) in &confirmed.grants {
            let scopes = grant.scopes.to_string();
            self.jot(Entry {
                account: Some(confirmed.connection.account.id.as_str().into()),
                connection: Some(confirmed.connection.id.as_str().into()),
                slot: Some(slot.as_str().into()),
                scopes: Some(scopes.as_str().into()),
                token_id: Some(grant.token_id.as_str().into()),
                ..of_session(Act::ConnectConfirmed, session)
            });
        }
    }

    pub(super) fn ended_noted(&self, session: &ConnectSession, failure: ConnectFailure) {
        self.jot(Entry { code: Some(failure.as_str().into()), ..of_session(Act::ConnectEnded, session) });
    }

    pub(super) fn disconnected_noted(&self, caller: &Caller, rule: &str, ended: &Connection, extent: Extent) {
        self.jot(Entry {
            rule: Some(rule.into()),
            what: (extent == Extent::Wider).then(|| "wider".into()),
            ..of_connection(Act::Disconnected, ended, caller)
        });
    }

    /// What became of a grant at the provider, once that is certain. By nobody: it may be finished long after it was asked for.
    pub(super) fn revocation_noted(&self, ended: &Connection, slot: &SlotName, fate: Fate) {
        if fate == Fate::Pending {
            return;
        }
        self.jot(Entry {
            provider: Some(ended.provider.as_str().into()),
            account: Some(ended.account.id.as_str().into()),
            connection: Some(ended.id.as_str().into()),
            slot: Some(slot.as_str().into()),
            code: Some(fate.as_str().into()),
            ..Entry::new(Act::GrantRevoked).about(&ended.subject)
        });
    }

    /// The same for what no connection ever had.
    pub(super) fn return_noted(&self, session: &ConnectSession, slot: &SlotName, fate: Fate) {
        if fate == Fate::Pending {
            return;
        }
        self.jot(Entry {
            slot: Some(slot.as_str().into()),
            code: Some(fate.as_str().into()),
            ..of_session(Act::GrantRevoked, session)
        });
    }

    pub(super) fn naming_noted(&self, caller: &Caller, rule: &str, named: &Connection) {
        self.jot(Entry { rule: Some(rule.into()), ..of_connection(Act::AccountNamed, named, caller) });
    }

    pub(super) fn restore_noted(&self, caller: &Caller) {
        self.jot(Entry { rule: Some(ADMINISTRATOR.into()), ..Entry::new(Act::RestoreAccepted).by(caller) });
    }

    pub(super) fn release_noted(&self, caller: &Caller, provider: &ProviderId) {
        self.jot(Entry {
            provider: Some(provider.as_str().into()),
            rule: Some(ADMINISTRATOR.into()),
            ..Entry::new(Act::ProviderReleased).by(caller)
        });
    }

    /// Lets an act on a connection pass, or notes that somebody may not do it.
    pub(super) fn pass_noted(
        &self,
        caller: &Caller,
        what: &'static str,
        decision: &Decision<'_>,
        on: &Connection,
    ) -> Result<(), BrokerError> {
        permit::pass(caller, decision, BrokerError::NotFound)
            .inspect_err(|refused| self.refusal_noted(caller, what, decision.rule(), refused, Some(on)))
    }

    /// An act that somebody may not do. `on` is the connection it was to be done to.
    pub(super) fn refusal_noted(
        &self,
        caller: &Caller,
        what: &'static str,
        rule: &str,
        refused: &BrokerError,
        on: Option<&Connection>,
    ) {
        let code = refused.code();
        self.jot(Entry {
            provider: on.map(|connection| connection.provider.as_str().into()),
            connection: on.map(|connection| connection.id.as_str().into()),
            what: Some(what.into()),
            rule: Some(rule.into()),
            code: Some(code.into()),
            ..Entry::new(Act::ActRefused).by(caller)
        });
    }

    /// Something that the daemon did, or the operator by a signal.
    pub(super) fn daemon_noted(&self, act: Act) {
        self.jot(Entry::new(act));
    }

    /// The daemon serves from now on.
    pub fn serving_noted(&self) {
        self.daemon_noted(Act::DaemonStarted);
    }

    /// Writes an entry about something that is so whether or not it can be written.
    fn jot(&self, entry: Entry<'_>) {
        // That it could not be written has been logged.
        let _ = self.write_down(entry, self.clock.now());
    }

    fn write_down(&self, mut entry: Entry<'_>, now: Timestamp) -> std::io::Result<()> {
        let written = self.audit.journal.append(&mut entry, now);
        match &written {
            Ok(()) if self.audit.failing.load(Ordering::Relaxed) => {
                self.audit.failing.store(false, Ordering::Relaxed);
                info!("The audit journal can be written again");
            }
            Ok(()) => {}
            Err(why) if !self.audit.failing.swap(true, Ordering::Relaxed) => error!(
                error = %why,
                "The audit journal cannot be written: no token is handed out until it can. Is the disk full?"
            ),
            Err(_) => {}
        }
        written
    }
}

/// The rule of what administrators alone may do.
const ADMINISTRATOR: &str = "administrator";

fn of_session(act: Act, session: &ConnectSession) -> Entry<'_> {
    Entry {
        caller: Some(session.caller.as_str().into()),
        provider: Some(session.provider.as_str().into()),
        session: Some(session.id.as_str().into()),
        ..Entry::new(act).about(&session.subject)
    }
}

/// By the caller, about the connection's subject.
fn of_connection<'a>(act: Act, connection: &'a Connection, caller: &'a Caller) -> Entry<'a> {
    Entry {
        provider: Some(connection.provider.as_str().into()),
        account: Some(connection.account.id.as_str().into()),
        connection: Some(connection.id.as_str().into()),
        ..Entry::new(act).by(caller).about(&connection.subject)
    }
}
