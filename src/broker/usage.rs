//! When connections were last used: noted in memory on every token that is handed out, written now and then.
//!
//! The hot path pays for one load and, once a minute, one store; it takes no lock. Busy connections cost one write an hour.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::schedule::{self, Demand, Due, Life};
use crate::model::connection::Connection;
use crate::model::id::ConnectionId;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::records::{Grant, GrantKey};

/// How exact the last use is in memory, in milliseconds.
const GRAIN_MILLIS: i64 = 60_000;
/// How far the last use has to move before it is written.
const WRITE_AFTER: Duration = Duration::from_secs(3600);
/// How many are written in one transaction.
const BATCH: usize = 500;

/// When one connection was last used.
#[derive(Debug)]
pub struct LastUse(AtomicI64);

impl LastUse {
    /// Notes that a token was handed out.
    pub fn touch(&self, now: Timestamp) {
        let now = now.as_millis();
        // Two who meet here write nearly the same; neither needs to know of the other.
        if now.saturating_sub(self.0.load(Ordering::Relaxed)) >= GRAIN_MILLIS {
            self.0.store(now, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Option<Timestamp> {
        let millis = self.0.load(Ordering::Relaxed);
        (millis != NEVER).then(|| Timestamp::from_millis(millis))
    }
}

const NEVER: i64 = i64::MIN;

/// The last use of every connection that is in memory.
#[derive(Debug, Default)]
pub struct Usage(Mutex<HashMap<ConnectionId, Noted>>);

#[derive(Debug)]
struct Noted {
    last: Arc<LastUse>,
    /// As it is stored.
    written: Option<Timestamp>,
}

impl Usage {
    /// The last use of a connection that is brought into memory, to be kept beside it and touched.
    #[must_use]
    pub fn of(&self, connection: &Connection) -> Arc<LastUse> {
        let noted = || Noted {
            last: Arc::new(LastUse(AtomicI64::new(connection.used_at.map_or(NEVER, Timestamp::as_millis)))),
            written: connection.used_at,
        };
        Arc::clone(&self.noted().entry(connection.id.clone()).or_insert_with(noted).last)
    }

    /// When a connection was last used, to the minute.
    #[must_use]
    pub fn last(&self, connection: &Connection) -> Option<Timestamp> {
        let in_memory = self.noted().get(&connection.id).and_then(|noted| noted.last.get());
        in_memory.max(connection.used_at)
    }

    /// What has moved by at least so much since it was written. What is held nowhere else and has nothing to write goes.
    fn moved(&self, by: Duration) -> Vec<(ConnectionId, Timestamp)> {
        let mut moved = Vec::new();
        self.noted().retain(|id, noted| {
            let is_held = Arc::strong_count(&noted.last) > 1;
            let Some(last) = noted.last.get() else { return is_held };
            let span = if is_held { by } else { Duration::ZERO };
            let is_due = noted.written.is_none_or(|written| last > written && last.since(written) >= span);
            if is_due {
                moved.push((id.clone(), last));
            }
            is_held || is_due
        });
        moved
    }

    fn wrote(&self, written: &[(ConnectionId, Timestamp)]) {
        let mut all = self.noted();
        for (id, at) in written {
            if let Some(noted) = all.get_mut(id) {
                noted.written = Some(*at);
            }
        }
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<ConnectionId, Noted>> {
        // Every entry is whole between any two statements that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Writes when connections were last used, as far as that has moved by an hour.
    ///
    /// # Errors
    /// If the store cannot be used; what was not written is written the next time.
    pub async fn write_usage(&self) -> Result<(), BrokerError> {
        Ok(self.write_moved(WRITE_AFTER).await?)
    }

    /// The same for everything that has moved at all, before the store closes.
    pub(super) async fn write_all_usage(&self) -> Result<(), StoreError> {
        self.write_moved(Duration::ZERO).await
    }

    async fn write_moved(&self, by: Duration) -> Result<(), StoreError> {
        for batch in self.usage.moved(by).chunks(BATCH) {
            self.store.note_used(batch).await?;
            self.usage.wrote(batch);
        }
        Ok(())
    }

    /// Puts off a renewal that has come due if nobody uses the connection. Says whether it did. For the schedule only: what
    /// a caller waits for is renewed.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub(super) async fn postpone_idle(
        &self,
        key: &GrantKey,
        connection: &Connection,
        grant: &Grant,
    ) -> Result<bool, StoreError> {
        let registry = self.registry();
        let Some(configured) = registry.providers.get(&connection.provider) else { return Ok(false) };
        let wanted_at =
            self.usage.last(connection).map_or(connection.confirmed_at, |used| used.max(connection.confirmed_at));
        let demand = Demand { wanted_at, unsettled: grant.failures > 0 || grant.lease.is_some() };
        match schedule::when_due(&configured.provider.refresh, Life::of(&grant.content), demand, self.clock.now()) {
            Due::Renew => Ok(false),
            Due::Postpone(at) => self.store.postpone(key, grant.version, at).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::connection::{Account, State};
    use crate::model::grant_type::GrantType;
    use crate::model::id::Epoch;
    use crate::model::scope::ScopeSet;
    use crate::model::subject::Subject;

    fn connection(used_at: Option<i64>) -> Connection {
        Connection {
            id: ConnectionId::random(),
            subject: Subject::from_uid(1),
            provider: "p".parse().unwrap(),
            account: Account { id: "1".to_owned(), name: "a".to_owned() },
            label: None,
            is_default: false,
            state: State::Active,
            epoch: Epoch(1),
            grant_type: GrantType::AuthorizationCode,
            scopes: ScopeSet::default(),
            created_at: at(0),
            confirmed_at: at(0),
            given_at: at(0),
            used_at: used_at.map(at),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn a_use_is_noted_once_a_minute_and_never_moves_back() {
        let (usage, made) = (Usage::default(), connection(None));
        let last = usage.of(&made);
        assert_eq!(usage.last(&made), None);
        for (now, expected) in [(100, 100), (159, 100), (160, 160), (90, 160)] {
            last.touch(at(now));
            assert_eq!(usage.last(&made), Some(at(expected)), "{now}");
        }
        assert_eq!(usage.last(&connection(Some(50))), Some(at(50)), "what is stored counts where memory knows nothing");
    }

    #[test]
    fn the_first_use_is_written_at_once_and_then_one_an_hour() {
        let (usage, made) = (Usage::default(), connection(None));
        let last = usage.of(&made);
        assert!(usage.moved(WRITE_AFTER).is_empty(), "nobody has used it");
        for (now, is_written) in [(100, true), (200, false), (3699, false), (3760, true)] {
            last.touch(at(now));
            let moved = usage.moved(WRITE_AFTER);
            assert_eq!(!moved.is_empty(), is_written, "{now}");
            usage.wrote(&moved);
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let (usage, made) = (Usage::default(), connection(Some(0)));
        usage.of(&made).touch(at(7200));
        assert_eq!(usage.moved(WRITE_AFTER), [(made.id.clone(), at(7200))]);
        assert_eq!(usage.moved(WRITE_AFTER), [(made.id, at(7200))]);
    }

    #[test]
    fn what_left_the_memory_is_written_and_forgotten() {
        let (usage, made) = (Usage::default(), connection(Some(0)));
        usage.of(&made).touch(at(120));
        let moved = usage.moved(WRITE_AFTER);
        assert_eq!(moved, [(made.id.clone(), at(120))], "whoever comes back reads it from the store");
        usage.wrote(&moved);
        assert!(usage.moved(WRITE_AFTER).is_empty());
        assert!(usage.noted().is_empty());
        let held = usage.of(&made);
        assert!(usage.moved(WRITE_AFTER).is_empty());
        assert_eq!((usage.noted().len(), held.get()), (1, Some(at(0))));
    }
}
