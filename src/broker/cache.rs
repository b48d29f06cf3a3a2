//! What serves without any IO: the grants of one subject at one provider, opened, in memory and bounded.
//!
//! An entry is dropped whenever something it was read from has changed, and read again when somebody asks. A reader that
//! started before the change must not put back what it saw: every drop moves a counter, and only a reader that finds the
//! counter where it was may keep its entry.

use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::Equivalent;

use crate::broker::usage::LastUse;
use crate::model::audit::Fingerprint;
use crate::model::connection::{Account, Connection};
use crate::model::id::{ConnectionId, ProviderId, SlotName, Version};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::model::token::IssuedToken;

/// Whose grants, and where.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    /// Whose.
    pub subject: Subject,
    /// Where.
    pub provider: ProviderId,
}

/// A [`Key`] that is borrowed, so that looking up copies nothing. It hashes as the key does, field by field.
#[derive(Clone, Copy, Debug, Hash)]
pub struct KeyRef<'a> {
    /// Whose.
    pub subject: &'a Subject,
    /// Where.
    pub provider: &'a ProviderId,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.subject == key.subject && *self.provider == key.provider
    }
}

/// The connections of one subject at one provider.
pub type Shelf = Vec<Arc<Held>>;

/// A connection whose grants have been opened.
#[derive(Clone, Debug)]
pub struct Held {
    /// The connection.
    pub connection: Connection,
    /// Its grants, by slot.
    pub grants: Vec<HeldGrant>,
    /// Whether a grant of it is stored that does not open.
    pub is_damaged: bool,
    /// When it was last used.
    pub used: Arc<LastUse>,
}

/// A grant that has been opened.
#[derive(Clone, Debug)]
pub struct HeldGrant {
    /// What is handed out.
    pub granted: Arc<Granted>,
    /// Which version it is.
    pub version: Version,
    /// Whether there is a refresh token behind it.
    pub renewable: bool,
    /// When it is to be renewed, or tried again.
    pub renew_at: Option<Timestamp>,
    /// Whether the last refresh brought nothing.
    pub failing: bool,
}

/// An access token and the account it is for: what a caller gets.
#[derive(Debug)]
pub struct Granted {
    /// The connection it comes from.
    pub connection: ConnectionId,
    /// The provider.
    pub provider: ProviderId,
    /// The account.
    pub account: Account,
    /// The slot.
    pub slot: SlotName,
    /// Its scopes as the answer tells them, separated by spaces (RFC 6749 section 3.3).
    pub scope: String,
    /// The token.
    pub token: IssuedToken,
    /// Its fingerprint, for the audit log.
    pub fingerprint: Fingerprint,
}

/// Shelves in memory, at most so many.
#[derive(Debug)]
pub struct Cache {
    shelves: quick_cache::sync::Cache<Key, Arc<Shelf>>,
    drops: Mutex<u64>,
}

/// Proof of when a reader started.
#[derive(Clone, Copy, Debug)]
pub struct Started(u64);

impl Cache {
    /// A cache of at most `entries` shelves.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self { shelves: quick_cache::sync::Cache::new(entries), drops: Mutex::new(0) }
    }

    /// The shelf, if it is here.
    #[must_use]
    pub fn get(&self, key: &KeyRef<'_>) -> Option<Arc<Shelf>> {
        self.shelves.get(key)
    }

    /// To be called before reading what will be put.
    #[must_use]
    pub fn start(&self) -> Started {
        Started(*self.drops.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what was read, unless something has been dropped since the reader started.
    pub fn put(&self, started: Started, key: Key, shelf: Arc<Shelf>) {
        let drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        if *drops == started.0 {
            self.shelves.insert(key, shelf);
        }
    }

    /// Changes one connection where it stands, so that the others on its shelf need not be read again. Does nothing if it is
    /// not here, or was connected again meanwhile.
    pub fn change(&self, connection: &Connection, change: impl FnOnce(Held) -> Held) {
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        *drops = drops.wrapping_add(1);
        let (subject, provider) = (&connection.subject, &connection.provider);
        let Some(shelf) = self.shelves.get(&KeyRef { subject, provider }) else { return };
        let same =
            |held: &Arc<Held>| (&held.connection.id, held.connection.epoch) == (&connection.id, connection.epoch);
        let Some(place) = shelf.iter().position(same) else { return };
        let mut changed = Shelf::clone(&shelf);
        changed[place] = Arc::new(change(Held::clone(&shelf[place])));
        let key = Key { subject: subject.clone(), provider: provider.clone() };
        self.shelves.insert(key, Arc::new(changed));
    }

    /// Drops everything.
    pub fn clear(&self) {
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        *drops = drops.wrapping_add(1);
        self.shelves.clear();
    }

    /// Drops a shelf because what it was read from has changed.
    pub fn drop_shelf(&self, subject: &Subject, provider: &ProviderId) {
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        *drops = drops.wrapping_add(1);
        self.shelves.remove(&KeyRef { subject, provider });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_started_before_a_change_does_not_bring_the_old_back() {
        let cache = Cache::new(10);
        let key = Key { subject: Subject::from_uid(1), provider: "github".parse().unwrap() };
        let held = || cache.get(&KeyRef { subject: &key.subject, provider: &key.provider });
        let started = cache.start();
        cache.drop_shelf(&key.subject, &key.provider);
        cache.put(started, key.clone(), Arc::default());
        assert!(held().is_none());

        let started = cache.start();
        cache.put(started, key.clone(), Arc::default());
        assert!(held().is_some());
        cache.drop_shelf(&key.subject, &key.provider);
        assert!(held().is_none());

        cache.put(cache.start(), key.clone(), Arc::default());
        let started = cache.start();
        cache.clear();
        cache.put(started, key.clone(), Arc::default());
        assert!(held().is_none());
    }
}
