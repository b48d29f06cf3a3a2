//! What is known here and not in the store yet: pairs that the provider gave and failures that were seen, while the store
//! cannot be written. As long as a grant is in here it is not refreshed: what the store says of it is no longer true.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::broker::cache::{Held, HeldGrant};
use crate::broker::pair::Pair;
use crate::model::connection::State;
use crate::model::id::ConnectionId;
use crate::store::records::GrantKey;

/// What waits to be stored, by grant.
#[derive(Debug, Default)]
pub struct Unsettled {
    entries: Mutex<HashMap<GrantKey, Entry>>,
    removed: Notify,
}

#[derive(Debug)]
enum Entry {
    Failure,
    Pair(Arc<Pair>),
}

impl Unsettled {
    /// A pair that has to be stored.
    pub fn add_pair(&self, pair: &Arc<Pair>) {
        self.entries().insert(pair.key.clone(), Entry::Pair(Arc::clone(pair)));
    }

    /// A failure that has to be noted.
    pub fn add_failure(&self, key: &GrantKey) {
        self.entries().insert(key.clone(), Entry::Failure);
    }

    /// The store knows it now, or it no longer matters.
    pub fn remove(&self, key: &GrantKey) {
        self.entries().remove(key);
        self.removed.notify_waiters();
    }

    /// The connection was connected again: what was known of its grants before no longer matters.
    pub fn connected_again(&self, connection: &ConnectionId) {
        self.entries().retain(|key, _| key.connection != *connection);
        self.removed.notify_waiters();
    }

    /// Waits until the store knows of this grant what is known here. `false` if that takes longer than `patience`.
    pub async fn settled(&self, key: &GrantKey, patience: Duration) -> bool {
        let settled = async {
            loop {
                let mut removed = pin!(self.removed.notified());
                removed.as_mut().enable();
                if !self.contains(key) {
                    return;
                }
                removed.await;
            }
        };
        timeout(patience, settled).await.is_ok()
    }

    /// The pair that is to be stored for this grant.
    #[must_use]
    pub fn pair(&self, key: &GrantKey) -> Option<Arc<Pair>> {
        match self.entries().get(key)? {
            Entry::Pair(pair) => Some(Arc::clone(pair)),
            Entry::Failure => None,
        }
    }

    /// Whether the store is behind in what it says of this grant.
    #[must_use]
    pub fn contains(&self, key: &GrantKey) -> bool {
        self.entries().contains_key(key)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// What was read from the store, brought up to date.
    #[must_use]
    pub fn over(&self, held: Held) -> Held {
        let entries = self.entries();
        if entries.is_empty() {
            return held;
        }
        let newer: Vec<HeldGrant> = held
            .grants
            .iter()
            .filter_map(|grant| {
                let key = GrantKey { connection: held.connection.id.clone(), slot: grant.granted.slot.clone() };
                match entries.get(&key) {
                    Some(Entry::Pair(pair)) if pair.read == grant.version => Some(pair.opened.clone()),
                    _ => None,
                }
            })
            .collect();
        newer.into_iter().fold(held, Held::with)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<GrantKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The same connection after one of its grants was renewed. What was found wanting before is not, any more.
    #[must_use]
    pub fn with(mut self, renewed: HeldGrant) -> Self {
        self.connection.state = State::Active;
        if let Some(grant) = self.grants.iter_mut().find(|grant| grant.granted.slot == renewed.granted.slot) {
            *grant = renewed;
        }
        self
    }
}
