//! Keeps what a provider gave, whatever happens: the old refresh token may be dead, so this pair is all there is.
//!
//! The pair is written by compare-and-set on the version whose refresh token was spent for it. If the store does not take it
//! at once, it goes into a spool file, sealed as it would be in the store; it serves from memory; and writing goes on behind.
//! A daemon that stops meanwhile finds it in the spool when it starts.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::broker::pair::Pair;
use crate::broker::quarantine::is_held;
use crate::broker::registry::Configured;
use crate::broker::revocation::Upstream;
use crate::broker::vault::Owner;
use crate::model::id::{ConnectionId, SlotName};
use crate::store::StoreError;
use crate::store::records::{GrantKey, Replaced};
use crate::store::spool::{RecordName, Spooled};

/// How long the store may take before the pair goes into the spool as well.
const PATIENCE: Duration = Duration::from_millis(250);
/// The first pause between attempts to store, doubled with each.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The longest pause between attempts to give back what nobody wants.
const GIVE_BACK_WAIT_MAX: Duration = Duration::from_secs(60);

impl Broker {
    /// Keeps a pair. Returns as soon as it may be handed out: when it is stored, or else spooled, or else when it is plain
    /// that neither can be done now.
    pub(super) async fn keep(self: &Arc<Self>, pair: Pair) {
        let pair = Arc::new(pair);
        self.unsettled.add_pair(&pair);
        if self.settle_once(&pair, false).await {
            return;
        }
        let spooled = self.spool(&pair).await;
        self.expose(&pair);
        self.settle_behind(pair, spooled);
    }

    /// Takes up what an earlier run of the daemon could not store. To be called before anything is handed out or renewed.
    pub async fn take_up_spool(self: &Arc<Self>) {
        let spool = Arc::clone(&self.spool);
        let records = match tokio::task::spawn_blocking(move || spool.records()).await {
            Ok(Ok(records)) => records,
            Ok(Err(error)) => {
                return error!(%error, "Cannot read the spool; what it holds is taken up at the next start");
            }
            Err(_) => return,
        };
        for name in records.unreadable {
            // Its refresh token was spent for what lies there: it is not sent again before somebody has looked.
            self.unsettled.add_failure(&name.key());
        }
        for (name, bytes) in records.readable {
            self.take_up(&name, &bytes).await;
        }
    }

    async fn take_up(self: &Arc<Self>, name: &RecordName, bytes: &[u8]) {
        let Spooled { key, read, content: new } = match Spooled::decode(bytes) {
            Ok(spooled) => spooled,
            Err(error) => return self.set_aside(name, &error.to_string()).await,
        };
        let stored = match self.store.connection(&key.connection).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return self.set_aside(name, "the store knows no such connection").await,
            Err(error) => {
                error!(connection.id = %key.connection, %error, "Cannot read the connection of a spooled grant; its file stays");
                return self.unsettled.add_failure(&key);
            }
        };
        let connection = stored.connection;
        let opened = match self.opened_grant(&connection, &key.slot, read.next(), &new) {
            Ok(opened) => opened,
            Err(error) => return self.set_aside(name, &error.to_string()).await,
        };
        info!(connection.id = %key.connection, slot = %key.slot, "Found what could not be stored before the last stop; storing it now");
        let pair = Arc::new(Pair { connection, key, read, new, opened });
        self.unsettled.add_pair(&pair);
        failpoint_async!("spool.replay");
        if !self.settle_once(&pair, true).await {
            self.settle_behind(pair, true);
        }
    }

    /// Goes on behind until the pair is stored or of no use. With a shutdown it ends as soon as the pair is in the spool.
    pub(super) fn settle_behind(self: &Arc<Self>, pair: Arc<Pair>, mut spooled: bool) {
        let broker = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut wait = WAIT_MIN;
            loop {
                if spooled && broker.is_stopping() {
                    return info!(connection.id = %pair.connection.id, "The renewed grant of `{}` is in the spool for the next start", pair.connection.id);
                }
                if timeout(wait, broker.stopping.cancelled()).await.is_ok() {
                    tokio::time::sleep(WAIT_MIN).await;
                }
                // One attempt that panics has failed like any other: this is all that knows of the pair.
                let attempt = AssertUnwindSafe(broker.settle_or_spool(&pair, &mut spooled)).catch_unwind();
                if attempt.await.unwrap_or(false) {
                    return;
                }
                wait = (wait * 2).min(WAIT_MAX);
            }
        });
    }

    /// Tries once to store the pair, or else to spool it unless it is. Says whether it is settled.
    async fn settle_or_spool(self: &Arc<Self>, pair: &Arc<Pair>, spooled: &mut bool) -> bool {
        let settled = AssertUnwindSafe(self.settle_once(pair, *spooled)).catch_unwind().await;
        if settled.unwrap_or(false) {
            return true;
        }
        *spooled = *spooled || self.spool(pair).await;
        false
    }

    /// Tries once to store the pair. Says whether that is over: the pair is stored, or of no use.
    async fn settle_once(self: &Arc<Self>, pair: &Arc<Pair>, spooled: bool) -> bool {
        failpoint_async!("keep.storing");
        let replaced = match self.store_pair(pair, spooled).await {
            Ok(replaced) => replaced,
            Err(error) => {
                error!(connection.id = %pair.connection.id, slot = %pair.key.slot, %error,
                    "Cannot store the renewed grant of `{}`; it is kept in memory, and storing it goes on", pair.connection.id);
                return false;
            }
        };
        failpoint_async!("keep.stored");
        if spooled && self.is_newer_than_store(pair, replaced).await {
            self.leave_to_operator(pair).await;
            return true;
        }
        failpoint_async!("keep.exposing");
        self.stored(pair, replaced).await;
        failpoint_async!("keep.exposed");
        // Before the next refresh can begin: it may need a record of the same name.
        if spooled {
            self.unspool(&pair.key).await;
        }
        self.unsettled.remove(&pair.key);
        true
    }

    /// Whether the store has not even come to where the pair was begun.
    async fn is_newer_than_store(&self, pair: &Pair, replaced: Replaced) -> bool {
        match replaced {
            Replaced::Yes { .. } => false,
            Replaced::Stale { current } => current < pair.read,
            Replaced::Gone => match self.store.connection(&pair.key.connection).await {
                Ok(Some(stored)) => stored.connection.epoch < pair.read.epoch,
                Ok(None) | Err(_) => false,
            },
        }
    }

    /// The store must be an old copy. What is newer waits in the spool for an operator while the grant is held; where the store
    /// goes on from what it has, it would one day be taken for the successor of something else, and is set aside. Either way
    /// the hold alone says whether the grant is renewed.
    async fn leave_to_operator(&self, pair: &Pair) {
        error!(connection.id = %pair.connection.id, "A spooled grant of `{}` is newer than what the store has", pair.connection.id);
        let registry = self.registry();
        let rules = registry.providers.get(&pair.connection.provider).map(|configured| &configured.provider.refresh);
        let goes_on = match (self.store.hold().await, rules) {
            (Ok(hold), Some(rules)) => !is_held(hold.as_ref(), rules, pair.new.issued_at),
            _ => false,
        };
        if goes_on {
            self.set_aside(&RecordName::of(&pair.key), "the store is an old copy that goes on from what it has").await;
        }
        self.unsettled.remove(&pair.key);
    }

    /// Sets aside what waits in the spool for an operator, who has decided that the store goes on from what it has.
    pub(super) async fn give_up_what_is_newer(&self) {
        let spool = Arc::clone(&self.spool);
        let Ok(Ok(records)) = tokio::task::spawn_blocking(move || spool.records()).await else { return };
        for (name, _) in records.readable {
            if !self.unsettled.contains(&name.key()) {
                self.set_aside(&name, "the store is an old copy that goes on from what it has").await;
            }
        }
    }

    /// One attempt. A store that does not answer is not waited for while the pair is nowhere else; the attempt goes on all the
    /// same, and if it succeeds after all, the next one finds our own pair there.
    async fn store_pair(&self, pair: &Pair, spooled: bool) -> Result<Replaced, StoreError> {
        let replace = self.store.replace_grant(&pair.key, pair.read, &pair.new);
        if spooled {
            return replace.await;
        }
        timeout(PATIENCE, replace).await.unwrap_or_else(|_| Err(StoreError::Busy("it takes too long".to_owned())))
    }

    async fn stored(self: &Arc<Self>, pair: &Arc<Pair>, replaced: Replaced) {
        let id = &pair.connection.id;
        match replaced {
            Replaced::Yes { version } => {
                self.expose(pair);
                info!(connection.id = %id, provider.id = %pair.connection.provider, slot = %pair.key.slot,
                    generation = version.generation.0, token.id = %pair.new.token_id,
                    "Renewed `{}` at {}", pair.connection.account.name, pair.connection.provider);
            }
            Replaced::Gone => {
                self.forget(&pair.connection);
                info!(connection.id = %id, "`{id}` was connected again or disconnected while it was being renewed");
                let (broker, pair) = (Arc::clone(self), Arc::clone(pair));
                self.tasks.spawn(async move { broker.give_back(&pair).await });
            }
            Replaced::Stale { current } if self.is_ours(pair).await => {
                self.expose(pair);
                info!(connection.id = %id, generation = current.generation.0, "The renewed grant of `{id}` was stored after all");
            }
            Replaced::Stale { current } => {
                self.forget(&pair.connection);
                error!(connection.id = %id, generation = current.generation.0,
                    "`{id}` was replaced by somebody else while it was being renewed; what this renewal brought is dropped");
            }
        }
    }

    /// Whether what the store has is this pair: an attempt whose outcome nobody learned had succeeded.
    async fn is_ours(&self, pair: &Pair) -> bool {
        match self.store.grant(&pair.key).await {
            Ok(Some((_, grant))) => grant.content.token_id == pair.new.token_id,
            Ok(None) | Err(_) => false,
        }
    }

    /// From now on the new token is handed out, and no longer the old one.
    fn expose(&self, pair: &Pair) {
        self.cache.change(&pair.connection, |held| held.with(pair.opened.clone()));
    }

    /// Revokes what came for a connection that is no more. Nobody else knows of it, so it is tried until the provider answers.
    async fn give_back(&self, pair: &Pair) {
        let connection = &pair.connection;
        let Some(configured) = self.registry().providers.get(&connection.provider).cloned() else {
            return warn!(connection.id = %connection.id, provider.id = %connection.provider,
                "What {} gave for `{}` cannot be given back: the provider is no longer configured", connection.provider, connection.id);
        };
        let mut wait = Duration::from_secs(1);
        loop {
            match self.give_back_once(&configured, pair, &pair.key.slot).await {
                Upstream::Pending => {}
                Upstream::ByHand => return,
                // If the connection has ended, this was the last that was alive of the grant.
                Upstream::Revoked => {
                    drop(self.store.forget_grants(&connection.id, std::slice::from_ref(&pair.key.slot)).await);
                    return;
                }
            }
            if timeout(wait, self.stopping.cancelled()).await.is_ok() {
                return warn!(connection.id = %connection.id, provider.id = %connection.provider,
                    "What {} gave for `{}` after it was disconnected could not be given back", connection.provider, connection.id);
            }
            wait = (wait * 2).min(GIVE_BACK_WAIT_MAX);
        }
    }

    async fn give_back_once(&self, configured: &Configured, pair: &Pair, slot: &SlotName) -> Upstream {
        let owner = Owner::connection(&pair.connection, pair.read.next());
        self.revoke_sealed(configured, owner, slot, &pair.new.access, pair.new.refresh.as_ref()).await.upstream()
    }

    /// Writes the pair beside the store. Says whether it is safe there.
    async fn spool(&self, pair: &Arc<Pair>) -> bool {
        failpoint_async!("keep.spooling", false);
        let (spool, written) = (Arc::clone(&self.spool), Arc::clone(pair));
        let put = tokio::task::spawn_blocking(move || {
            let record = Spooled { key: written.key.clone(), read: written.read, content: written.new.clone() };
            spool.put(&RecordName::of(&written.key), &record.encode())
        });
        let put = put.await;
        failpoint_async!("keep.spooled");
        match put {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                error!(connection.id = %pair.connection.id, %error,
                    "The renewed grant of `{}` is in memory only: it can be neither stored nor spooled", pair.connection.id);
                false
            }
            Err(_) => false,
        }
    }

    /// A person has consented again: what was to be stored for the connection before is of no use, and must not come back.
    pub(super) async fn connected_again<'a>(
        &self,
        connection: &ConnectionId,
        slots: impl Iterator<Item = &'a SlotName>,
    ) {
        self.unsettled.connected_again(connection);
        for slot in slots {
            self.unspool(&GrantKey { connection: connection.clone(), slot: slot.clone() }).await;
        }
    }

    async fn unspool(&self, key: &GrantKey) {
        failpoint_async!("keep.unspooling");
        let (spool, name) = (Arc::clone(&self.spool), RecordName::of(key));
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || spool.remove(&name)).await {
            warn!(connection.id = %key.connection, %error, "A spool file that is no longer needed could not be removed");
        }
    }

    async fn set_aside(&self, name: &RecordName, why: &str) {
        error!(file = %name, why, "A spool file cannot be used and is set aside");
        let (spool, name) = (Arc::clone(&self.spool), name.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || spool.set_aside(&name)).await {
            error!(%error, "A spool file that cannot be used could not be set aside either");
        }
    }
}
