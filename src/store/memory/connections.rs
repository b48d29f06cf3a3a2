//! Connections in memory: listed, confirmed, named, revoked.

use crate::model::connection::{Connection, State};
use crate::model::id::{ConnectionId, SlotName, Version};
use crate::model::time::Timestamp;
use crate::store::memory::Content;
use crate::store::records::{
    Armed, ConfirmedConnection, Extent, Grant, GrantKey, Lease, Named, Naming, StoredConnection, Unfinished,
};
use crate::store::rules;

impl Content {
    /// Those that are not revoked, in the order of `key`.
    pub(super) fn listed<K: Ord>(
        &self,
        keep: impl Fn(&Connection) -> bool,
        key: impl Fn(&Connection) -> K,
    ) -> Vec<StoredConnection> {
        let mut listed: Vec<_> = self
            .connections
            .values()
            .filter(|stored| stored.connection.state != State::Revoked && keep(&stored.connection))
            .cloned()
            .collect();
        listed.sort_by_key(|stored| key(&stored.connection));
        listed
    }

    /// Whether the connection may be written: nothing moved since it was read, and no other has the account.
    pub(super) fn admits(&self, confirmed: &ConfirmedConnection) -> bool {
        let new = &confirmed.connection;
        let is_same = |other: &Connection| {
            (&other.subject, &other.provider) == (&new.subject, &new.provider) && other.state != State::Revoked
        };
        let taken = self
            .connections
            .values()
            .map(|stored| &stored.connection)
            .any(|other| other.id != new.id && is_same(other) && other.account.id == new.account.id);
        let fits = match (confirmed.replaces, self.connections.get(&new.id)) {
            (None, None) => true,
            (Some(epoch), Some(old)) => is_same(&old.connection) && old.connection.epoch == epoch,
            (None, Some(_)) | (Some(_), None) => false,
        };
        fits && !taken
    }

    /// Writes what was confirmed over what was there. The connection keeps what it is called.
    pub(super) fn keep(&mut self, confirmed: &ConfirmedConnection) {
        let mut grants: Vec<_> = confirmed
            .grants
            .iter()
            .map(|(slot, new)| Grant::new(slot.clone(), confirmed.version(), new.clone()))
            .collect();
        grants.sort_by(|one, other| one.slot.cmp(&other.slot));
        let mut connection = confirmed.connection.clone();
        if let Some(StoredConnection { connection: old, .. }) = self.connections.get(&connection.id) {
            connection.created_at = old.created_at;
            connection.used_at = old.used_at;
            connection.label.clone_from(&old.label);
            connection.is_default = old.is_default;
        }
        self.warned.remove(&connection.id);
        self.claims.remove(&connection.id);
        self.connections.insert(connection.id.clone(), StoredConnection { connection, grants });
    }

    pub(super) fn name(&mut self, id: &ConnectionId, naming: &Naming) -> Named {
        let Some(mut named) = self.serving(id).map(|stored| stored.connection.clone()) else {
            return Named::Gone;
        };
        if let Some(label) = &naming.label {
            let others = self.listed(|it| it.subject == named.subject, |it| it.id.clone());
            let others = others.iter().map(|stored| &stored.connection);
            if label.as_ref().is_some_and(|label| rules::is_taken(label, &named, others)) {
                return Named::Taken;
            }
            named.label.clone_from(label);
        }
        named.is_default = naming.is_default.unwrap_or(named.is_default);
        if named.is_default {
            let there = self.connections.values_mut().map(|stored| &mut stored.connection);
            for other in there.filter(|it| it.subject == named.subject && it.provider == named.provider) {
                other.is_default = false;
            }
        }
        if let Some(stored) = self.serving(id) {
            stored.connection = named.clone();
        }
        Named::Yes(Box::new(named))
    }

    fn serving(&mut self, id: &ConnectionId) -> Option<&mut StoredConnection> {
        self.connections.get_mut(id).filter(|stored| stored.connection.state != State::Revoked)
    }

    pub(super) fn revoke(&mut self, id: &ConnectionId, extent: Extent) -> Option<StoredConnection> {
        let stored = self.serving(id)?;
        let connection = &mut stored.connection;
        connection.state = State::Revoked;
        connection.epoch = connection.epoch.next();
        (connection.label, connection.is_default) = (None, false);
        let ended = stored.clone();
        if extent == Extent::Wider {
            self.wider.insert(id.clone());
        }
        Some(ended)
    }

    pub(super) fn forget_grants(&mut self, id: &ConnectionId, slots: &[SlotName]) {
        if let Some(stored) = self.connections.get_mut(id)
            && stored.connection.state == State::Revoked
        {
            stored.grants.retain(|grant| !slots.contains(&grant.slot));
        }
    }

    pub(super) fn unfinished_revocations(&self) -> Vec<Unfinished> {
        let unfinished =
            |stored: &&StoredConnection| stored.connection.state == State::Revoked && !stored.grants.is_empty();
        let extent = |id| if self.wider.contains(id) { Extent::Wider } else { Extent::Alone };
        let stored = self.connections.values().filter(unfinished);
        stored.map(|stored| Unfinished { ended: stored.clone(), extent: extent(&stored.connection.id) }).collect()
    }

    pub(super) fn arm_last(&mut self, key: &GrantKey, read: Version, lease: &Lease, now: Timestamp) -> Armed {
        let Some((connection, grant)) = self.grant(key) else {
            return Armed::Gone;
        };
        let armed = rules::arm_last(connection, grant, read, lease, now);
        if matches!(armed, Armed::Yes { .. }) {
            grant.lease = Some(lease.clone());
        }
        armed
    }

    pub(super) fn disarm_last(&mut self, key: &GrantKey, read: Version) {
        if let Some((connection, grant)) = self.grant(key)
            && connection.state == State::Revoked
            && grant.version == read
        {
            grant.lease = None;
        }
    }
}
