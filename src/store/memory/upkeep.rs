//! Upkeep in memory: when connections were last used, what is put off, and what will need a person.

use crate::model::connection::State;
use crate::model::id::{ConnectionId, Version};
use crate::model::time::Timestamp;
use crate::store::memory::Content;
use crate::store::records::{Ending, GrantKey, HELD, StoredConnection};
use crate::store::rules;

impl Content {
    pub(super) fn note_used(&mut self, used: &[(ConnectionId, Timestamp)]) {
        for (id, at) in used {
            if let Some(stored) = self.connections.get_mut(id) {
                stored.connection.used_at = stored.connection.used_at.max(Some(*at));
            }
        }
    }

    pub(super) fn release_hold(&mut self) -> bool {
        let grants = self.connections.values_mut().flat_map(|stored| &mut stored.grants);
        for grant in grants.filter(|grant| grant.last_failure.as_deref() == Some(HELD)) {
            (grant.failures, grant.last_failure) = (0, None);
            grant.content.renew_at = Some(Timestamp::default());
        }
        self.hold.take().is_some()
    }

    pub(super) fn postpone(&mut self, key: &GrantKey, read: Version, renew_at: Timestamp) -> bool {
        let Some((connection, grant)) = self.grant(key) else {
            return false;
        };
        let can_wait = rules::can_wait(connection, grant, read);
        if can_wait {
            grant.content.renew_at = Some(renew_at);
        }
        can_wait
    }

    pub(super) fn ending(&self, before: Timestamp, after: Option<&Ending>, limit: usize) -> Vec<Ending> {
        let place = |ending: &Ending| (ending.at, ending.key.connection.clone(), ending.key.slot.clone());
        let mut ending: Vec<Ending> = self
            .connections
            .values()
            .filter(|stored| rules::is_serving(&stored.connection.state))
            .flat_map(|stored| self.endings(stored))
            .filter(|ending| ending.at <= before && after.is_none_or(|after| place(ending) > place(after)))
            .collect();
        ending.sort_by_key(place);
        ending.truncate(limit);
        ending
    }

    pub(super) fn count_needing_person(&self, before: Timestamp) -> usize {
        let needs_person = |stored: &&StoredConnection| match &stored.connection.state {
            State::NeedsReconnect(_) => true,
            State::Active | State::RefreshFailed => self.endings(stored).any(|ending| ending.at <= before),
            State::Revoked => false,
        };
        self.connections.values().filter(needs_person).count()
    }

    fn endings(&self, stored: &StoredConnection) -> impl Iterator<Item = Ending> {
        let id = &stored.connection.id;
        let warned = self.warned.get(id).copied();
        stored.grants.iter().filter_map(move |grant| {
            let key = GrantKey { connection: id.clone(), slot: grant.slot.clone() };
            Some(Ending { at: rules::needs_person_at(grant)?, key, warned })
        })
    }
}
