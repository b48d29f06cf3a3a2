//! One refresh of one grant: arm, send once, store by compare-and-set, and only then let anybody see it.
//!
//! It runs as a flight, on a task of its own. Whoever asked may hang up; a shutdown waits for it. Nothing is sent unless the
//! intent is durable, and a pair that the provider gave is written again and again until it is kept.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::broker::disconnect::Upstream;
use crate::broker::error::BrokerError;
use crate::broker::registry::Configured;
use crate::broker::schedule::{self, AMBIGUOUS, Attempt, Life};
use crate::broker::vault::Owner;
use crate::broker::{Broker, random_share};
use crate::model::connection::{Connection, State};
use crate::model::id::{SlotName, TokenId, Version};
use crate::model::provider::rules::OnMissingToken;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::oauth::answer::{SlotAnswer, TokenAnswer};
use crate::oauth::exchange::{self, As};
use crate::oauth::rejection::Rejection;
use crate::oauth::transport::EXCHANGE_DEADLINE;
use crate::store::records::{Armed, Failure, Grant, GrantKey, Lease, NewGrant, Replaced};

/// How long a refresh holds the right to spend a refresh token: the exchange, and time to store what it brought.
const LEASE: Duration = Duration::from_secs(90);
const _: () = assert!(LEASE.as_secs() > EXCHANGE_DEADLINE.as_secs() + 45);

/// How long something that only an operator can mend is left alone.
const OPERATOR_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause between attempts to give back what nobody wants.
const GIVE_BACK_WAIT_MAX: Duration = Duration::from_secs(60);

/// What became of a refresh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Landed {
    /// Nothing new, for this reason. The store knows when to try again.
    Failed(NotRenewed),
    /// The grant is another one than it was: look again.
    Renewed,
}

/// Why a refresh brought nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotRenewed {
    /// A person has to act; the connection says so.
    NeedsPerson,
    /// The provider could not be reached or refused for now.
    Provider,
    /// The provider refuses our registration.
    Registration,
    /// The store or the keyring cannot be used now: nothing was sent.
    Store,
    /// The provider did not answer in time.
    Timeout,
}

impl Broker {
    /// Refreshes the grant if it is still at version `seen`.
    pub(super) async fn renew(self: Arc<Self>, key: GrantKey, seen: Version) -> Landed {
        let (connection, grant) = match self.store.grant(&key).await {
            Ok(Some(found)) => found,
            Ok(None) => return Landed::Renewed,
            Err(error) => return unusable(&key, &error),
        };
        if grant.version != seen || matches!(connection.state, State::Revoked | State::NeedsReconnect(_)) {
            self.forget(&connection);
            return Landed::Renewed;
        }
        let Some(configured) = self.registry().providers.get(&connection.provider).cloned() else {
            warn!(connection.id = %connection.id, provider.id = %connection.provider,
                "Cannot renew `{}`: the provider is no longer configured", connection.id);
            self.put_off(&key, &connection, &grant, "unconfigured").await;
            return Landed::Failed(NotRenewed::Registration);
        };
        let landed = self.exchange(&configured, &connection, &grant, &key).await;
        self.forget(&connection);
        landed
    }

    async fn exchange(
        self: &Arc<Self>,
        configured: &Arc<Configured>,
        connection: &Connection,
        grant: &Grant,
        key: &GrantKey,
    ) -> Landed {
        let Some(sealed) = &grant.content.refresh else {
            return Landed::Failed(NotRenewed::NeedsPerson);
        };
        let read = grant.version;
        let token = match Owner::connection(connection, read).open_refresh(&self.keyring, &grant.slot, sealed) {
            Ok(token) => token,
            Err(error) => {
                self.put_off(key, connection, grant, "damaged").await;
                return unusable(key, &error);
            }
        };
        let lease = Lease { boot: self.boot.clone(), until: self.clock.now().after(LEASE) };
        let recovery = match self.store.arm(key, read, &lease, self.clock.now()).await {
            Ok(Armed::Yes { recovery }) => recovery,
            Ok(Armed::Gone | Armed::Moved) => return Landed::Renewed,
            Ok(Armed::Held { .. }) => return Landed::Failed(NotRenewed::Store),
            Err(error) => return unusable(key, &error),
        };
        let sent_at = self.clock.now();
        let http = self.egress.to(&configured.provider);
        let whom = As { provider: &configured.provider, client: &configured.client };
        match exchange::refresh(whom, &token, &http).await {
            Ok(answer) => self.keep(configured, connection, grant, key, answer, sent_at).await,
            Err(rejection) => {
                let recovery = recovery || grant.last_failure.as_deref() == Some(AMBIGUOUS);
                self.note_failure(configured, connection, grant, key, &rejection, recovery).await
            }
        }
    }

    /// Writes what the provider gave, until it is kept: the old refresh token may already be dead.
    async fn keep(
        self: &Arc<Self>,
        configured: &Arc<Configured>,
        connection: &Connection,
        grant: &Grant,
        key: &GrantKey,
        answer: TokenAnswer,
        sent_at: Timestamp,
    ) -> Landed {
        // A refresh answer holds one grant, whichever slot it would stand in on connecting.
        let mut slots = answer.slots;
        let index = slots.iter().position(|found| found.slot == key.slot).unwrap_or_default();
        let new = self.content(configured, connection, grant, key, slots.swap_remove(index), sent_at);
        let mut wait = Duration::from_millis(50);
        loop {
            match self.store.replace_grant(key, grant.version, &new).await {
                Ok(Replaced::Yes { version }) => {
                    info!(connection.id = %connection.id, provider.id = %connection.provider, slot = %key.slot,
                        generation = version.generation.0, token.id = %new.token_id,
                        "Renewed `{}` at {}", connection.account.name, connection.provider);
                    return Landed::Renewed;
                }
                Ok(Replaced::Gone) => {
                    info!(connection.id = %connection.id, "`{}` was disconnected while it was being renewed", connection.id);
                    let (broker, configured, connection) =
                        (Arc::clone(self), Arc::clone(configured), connection.clone());
                    let (slot, version) = (key.slot.clone(), grant.version.next());
                    self.tasks
                        .spawn(async move { broker.give_back(&configured, &connection, version, &slot, &new).await });
                    return Landed::Renewed;
                }
                Ok(Replaced::Stale { current }) => {
                    error!(connection.id = %connection.id, generation = current.generation.0,
                        "`{}` was replaced by somebody else while it was being renewed", connection.id);
                    return Landed::Renewed;
                }
                Err(error) => {
                    error!(connection.id = %connection.id, %error, "Cannot store the renewed grant of `{}`; trying again", connection.id);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    /// Revokes what came for a connection that is no more. Nobody else knows of it, so it is tried until the provider answers.
    async fn give_back(
        &self,
        configured: &Configured,
        connection: &Connection,
        version: Version,
        slot: &SlotName,
        new: &NewGrant,
    ) {
        let mut wait = Duration::from_secs(1);
        loop {
            let owner = Owner::connection(connection, version);
            let outcome = self.revoke_upstream(configured, owner, slot, &new.access, new.refresh.as_ref()).await;
            if outcome != Upstream::Pending {
                return;
            }
            if timeout(wait, self.stopping.cancelled()).await.is_ok() {
                warn!(connection.id = %connection.id, provider.id = %connection.provider,
                    "What {} gave for `{}` after it was disconnected could not be given back", connection.provider, connection.id);
                return;
            }
            wait = (wait * 2).min(GIVE_BACK_WAIT_MAX);
        }
    }

    fn content(
        &self,
        configured: &Configured,
        connection: &Connection,
        grant: &Grant,
        key: &GrantKey,
        slot: SlotAnswer,
        sent_at: Timestamp,
    ) -> NewGrant {
        let rules = &configured.provider.refresh;
        let version = grant.version.next();
        let owner = Owner::connection(connection, version);
        let expires_at = slot.expires_in.map(|lifetime| sent_at.after(lifetime));
        // Without a new refresh token the old one stays good (RFC 6749 section 6); it is sealed again for its new version.
        let old = || {
            let sealed = grant.content.refresh.as_ref()?;
            Owner::connection(connection, grant.version).open_refresh(&self.keyring, &grant.slot, sealed).ok()
        };
        let came = slot.refresh.is_some();
        if !came && rules.on_missing_token == OnMissingToken::Suspect {
            warn!(connection.id = %connection.id, provider.id = %connection.provider,
                "{} gave no new refresh token, which it always should; the old one is kept and may be dead", configured.provider.name);
        }
        let refresh = slot.refresh.or_else(old);
        let refresh_expires_at = match slot.refresh_expires_in {
            Some(lifetime) => Some(sent_at.after(lifetime)),
            None if came => None,
            None => grant.content.refresh_expires_at,
        };
        NewGrant {
            token_id: TokenId::random(),
            access: owner.seal_access(&self.keyring, &key.slot, &slot.access),
            refresh: refresh.map(|token| owner.seal_refresh(&self.keyring, &key.slot, &token)),
            scopes: slot.scopes.unwrap_or_else(|| grant.content.scopes.clone()),
            issued_at: sent_at,
            expires_at,
            refresh_expires_at,
            renew_at: schedule::renew_at(rules, key, version, Life { issued_at: sent_at, expires_at }),
        }
    }

    async fn note_failure(
        &self,
        configured: &Configured,
        connection: &Connection,
        grant: &Grant,
        key: &GrantKey,
        rejection: &Rejection,
        recovery: bool,
    ) -> Landed {
        let now = self.clock.now();
        let dead = grant.content.expires_at.is_some_and(|expires_at| expires_at <= now);
        let attempt = Attempt { failures: grant.failures, recovery, dead, now, random: random_share() };
        let failure = schedule::after_failure(&configured.provider.refresh, rejection, attempt);
        match &failure.state {
            State::NeedsReconnect(reason) => warn!(connection.id = %connection.id, provider.id = %connection.provider,
                reason = reason.as_str(), "`{}` at {} has to be connected again: {rejection}", connection.account.name, connection.provider),
            _ if matches!(rejection, Rejection::Registration { .. }) => error!(connection.id = %connection.id,
                provider.id = %connection.provider,
                "{} refuses our registration: check client id and secret of `{}`: {rejection}", configured.provider.name, connection.provider),
            _ => {
                warn!(connection.id = %connection.id, provider.id = %connection.provider, failures = grant.failures + 1,
                "Could not renew `{}` at {}: {rejection}", connection.account.name, connection.provider)
            }
        }
        if let Err(error) = self.store.record_failure(key, grant.version, &failure).await {
            warn!(connection.id = %connection.id, %error, "Could not note that `{}` was not renewed", connection.id);
        }
        Landed::Failed(match (&failure.state, rejection) {
            (State::NeedsReconnect(_), _) => NotRenewed::NeedsPerson,
            (_, Rejection::Registration { .. }) => NotRenewed::Registration,
            (_, Rejection::Ambiguous("no answer in time")) => NotRenewed::Timeout,
            _ => NotRenewed::Provider,
        })
    }

    /// Leaves a grant alone for a while that cannot be renewed before an operator has acted. It stays as it is.
    async fn put_off(&self, key: &GrantKey, connection: &Connection, grant: &Grant, class: &'static str) {
        let retry_at = Some(self.clock.now().after(OPERATOR_PAUSE));
        let failure = Failure { class, state: connection.state.clone(), retry_at };
        if let Err(error) = self.store.record_failure(key, grant.version, &failure).await {
            warn!(connection.id = %connection.id, %error, "Could not put off renewing `{}`", connection.id);
        }
    }

    /// Renews whatever is due, at most [`FLIGHTS_MAX`] at once: as one lands the next one starts. Returns how many were
    /// started, when nothing is due any more; each is started once, so one that fails waits for its next time.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn renew_due(self: &Arc<Self>) -> Result<usize, BrokerError> {
        let mut started = HashSet::new();
        while !self.is_stopping() {
            let room = FLIGHTS_MAX.saturating_sub(self.flights.count());
            if room > 0 && self.start_due(room, &mut started).await? == 0 {
                break;
            }
            tokio::time::sleep(NEXT_LOOK).await;
        }
        Ok(started.len())
    }

    /// Starts at most `room` renewals that are due and not among `started`. Returns how many.
    async fn start_due(self: &Arc<Self>, room: usize, started: &mut HashSet<GrantKey>) -> Result<usize, BrokerError> {
        let now = self.clock.now();
        let mut count = 0;
        // Those that fly and have not noted their intent yet are still due: asked for no more, the store could name only them.
        for key in self.store.due(now, room + FLIGHTS_MAX).await? {
            if count == room || !started.insert(key.clone()) {
                continue;
            }
            count += 1;
            let Some((_, grant)) = self.store.grant(&key).await? else { continue };
            // Somebody may have asked for it meanwhile, and what was due is fresh; what a dead run left behind is due anyway.
            let is_due = grant.lease.is_some() || grant.content.renew_at.is_some_and(|at| at <= now);
            if is_due {
                self.start_renewal(&key, grant.version);
            }
        }
        Ok(count)
    }
}

/// How soon the schedule looks again whether a renewal has landed and made room.
const NEXT_LOOK: Duration = Duration::from_millis(10);

/// How many renewals the schedule starts at once; callers who wait are not counted.
const FLIGHTS_MAX: usize = 64;

/// Which scopes an answer means: what it says, or what was asked for (RFC 6749 section 5.1).
pub(super) fn granted_scopes(answer: &SlotAnswer, asked: &ScopeSet) -> ScopeSet {
    answer.scopes.clone().unwrap_or_else(|| asked.clone())
}

fn unusable(key: &GrantKey, error: &impl std::error::Error) -> Landed {
    error!(connection.id = %key.connection, slot = %key.slot, %error, "Cannot renew `{}`: nothing was sent", key.connection);
    Landed::Failed(NotRenewed::Store)
}
