//! The store in memory: what a test uses, and what the other backends are held against. It forgets everything.

mod audit;
mod connections;
mod sessions;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::model::claims::Claims;
use crate::model::connection::{Connection, State};
use crate::model::id::{ConnectId, ConnectionId, ProviderId, SlotName, Version};
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::store::memory::sessions::Session;
use crate::store::records::{
    Armed, Confirmed, ConfirmedConnection, DeviceAnswer, DeviceOpening, Ending, Extent, Failure, Grant, GrantKey, Hold,
    Installation, Lease, Named, Naming, NewGrant, Opening, Pending, PendingGrant, Replaced, Replan, Setback,
    StoredConnection, Unfinished,
};
use crate::store::{Store, StoreError, rules};

/// Everything behind one lock, so that every call is one step.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    closed: bool,
    installation: Option<Installation>,
    hold: Option<Hold>,
    setback: Option<Setback>,
    sessions: BTreeMap<ConnectId, Session>,
    connections: BTreeMap<ConnectionId, StoredConnection>,
    warned: BTreeMap<ConnectionId, Timestamp>,
    claims: BTreeMap<ConnectionId, Claims>,
    audit: audit::Log,
    /// Which of the revoked are to take more than themselves.
    wider: BTreeSet<ConnectionId>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the store, as opening an old copy does.
    pub fn put_on_hold(&self, hold: Hold) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hold = Some(hold);
    }

    fn content(&self) -> Result<MutexGuard<'_, Content>, StoreError> {
        let content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if content.closed {
            return Err(StoreError::Busy("it is closed".into()));
        }
        Ok(content)
    }
}

impl Content {
    fn session(&mut self, id: &ConnectId) -> Option<&mut Session> {
        self.sessions.get_mut(id)
    }

    fn grant(&mut self, key: &GrantKey) -> Option<(&mut Connection, &mut Grant)> {
        let stored = self.connections.get_mut(&key.connection)?;
        let grant = stored.grants.iter_mut().find(|grant| grant.slot == key.slot)?;
        Some((&mut stored.connection, grant))
    }

    fn due_times<'a>(&'a self, provider: &'a ProviderId) -> impl Iterator<Item = (Timestamp, GrantKey)> + 'a {
        self.connections.values().filter(move |stored| stored.connection.provider == *provider).flat_map(|stored| {
            stored.grants.iter().filter_map(|grant| {
                let key = GrantKey { connection: stored.connection.id.clone(), slot: grant.slot.clone() };
                Some((rules::due_at(&stored.connection.state, grant)?, key))
            })
        })
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        Ok(self.content()?.installation.clone())
    }

    async fn install(&self, installation: Installation) -> Result<bool, StoreError> {
        let mut content = self.content()?;
        let is_free = content.installation.is_none();
        content.installation.get_or_insert(installation);
        Ok(is_free)
    }

    async fn probe(&self, _now: Timestamp) -> Result<(), StoreError> {
        self.content().map(drop)
    }

    async fn hold(&self) -> Result<Option<Hold>, StoreError> {
        Ok(self.content()?.hold)
    }

    async fn release_hold(&self) -> Result<bool, StoreError> {
        Ok(self.content()?.release_hold())
    }

    async fn setback(&self) -> Result<Option<Setback>, StoreError> {
        Ok(self.content()?.setback)
    }

    async fn note_setback(&self, setback: Option<Setback>) -> Result<(), StoreError> {
        self.content()?.setback = setback;
        Ok(())
    }

    async fn put_session(&self, session: &ConnectSession) -> Result<(), StoreError> {
        self.content()?.put_session(session, Progress::Pending, None)
    }

    async fn put_device_session(&self, session: &ConnectSession, opening: &DeviceOpening) -> Result<(), StoreError> {
        self.content()?.put_session(session, Progress::Opened, Some(opening.clone()))
    }

    async fn device_opening(&self, id: &ConnectId) -> Result<Option<DeviceOpening>, StoreError> {
        Ok(self.content()?.session(id).and_then(|held| held.device.clone()))
    }

    async fn keep_device_answer(&self, id: &ConnectId, answer: &DeviceAnswer) -> Result<bool, StoreError> {
        let mut content = self.content()?;
        let Some(device) = content.session(id).and_then(|held| held.device.as_mut()) else { return Ok(false) };
        device.answer = Some(answer.clone());
        Ok(true)
    }

    async fn device_sessions(&self) -> Result<Vec<(ConnectSession, DeviceOpening)>, StoreError> {
        let content = self.content()?;
        let waiting = content.sessions.values();
        Ok(waiting.filter_map(|held| Some((held.session.clone(), held.device.clone()?))).collect())
    }

    async fn session(&self, id: &ConnectId) -> Result<Option<ConnectSession>, StoreError> {
        Ok(self.content()?.session(id).map(|held| held.session.clone()))
    }

    async fn same_session(&self, like: &ConnectSession, now: Timestamp) -> Result<Option<ConnectSession>, StoreError> {
        Ok(self
            .content()?
            .sessions
            .values()
            .filter(|held| held.is_open(now) && held.asks_for_the_same(like))
            .map(|held| held.session.clone())
            .reduce(|one, other| if other.created_at > one.created_at { other } else { one }))
    }

    async fn open_sessions(&self, subject: &Subject, now: Timestamp) -> Result<usize, StoreError> {
        Ok(self
            .content()?
            .sessions
            .values()
            .filter(|held| held.is_open(now) && held.session.subject == *subject)
            .count())
    }

    async fn open_session(&self, id: &ConnectId, opening: &Opening, now: Timestamp) -> Result<bool, StoreError> {
        let mut content = self.content()?;
        let Some(held) = content.session(id) else {
            return Ok(false);
        };
        let can_open = matches!(held.session.progress, Progress::Pending | Progress::Opened);
        if !can_open || held.device.is_some() || !held.is_open(now) {
            return Ok(false);
        }
        held.session.progress = Progress::Opened;
        held.opening = Some(opening.clone());
        Ok(true)
    }

    async fn opening(&self, id: &ConnectId) -> Result<Option<Opening>, StoreError> {
        Ok(self.content()?.session(id).and_then(|held| held.opening.clone()))
    }

    async fn take_opening(&self, state: &[u8; 32]) -> Result<Option<(ConnectSession, Opening)>, StoreError> {
        Ok(self.content()?.sessions.values_mut().find_map(|held| {
            let opening = held.opening.take_if(|opening| opening.state == *state)?;
            Some((held.session.clone(), opening))
        }))
    }

    async fn await_confirmation(&self, id: &ConnectId, pending: &Pending, now: Timestamp) -> Result<bool, StoreError> {
        let mut content = self.content()?;
        let Some(held) = content.session(id) else {
            return Ok(false);
        };
        if held.session.progress != Progress::Opened || !held.is_open(now) {
            return Ok(false);
        }
        held.session.progress =
            Progress::AwaitingConfirmation { account: pending.account.clone(), granted: pending.granted.clone() };
        (held.opening, held.device) = (None, None);
        let mut pending = pending.clone();
        pending.grants.sort_by(|one, other| one.slot.cmp(&other.slot));
        held.pending = Some(pending);
        Ok(true)
    }

    async fn pending(&self, id: &ConnectId) -> Result<Option<Pending>, StoreError> {
        Ok(self.content()?.session(id).and_then(|held| held.pending.clone()))
    }

    async fn fail_session(
        &self,
        id: &ConnectId,
        failure: ConnectFailure,
        now: Timestamp,
    ) -> Result<Option<Option<Pending>>, StoreError> {
        let mut content = self.content()?;
        let held = content.session(id).filter(|held| held.ended_at.is_none());
        Ok(held.map(|held| {
            let pending = held.end(Progress::Failed(failure), now);
            held.unreturned.extend(pending.iter().flat_map(|pending| pending.grants.clone()));
            pending
        }))
    }

    async fn keep_unwanted(&self, id: &ConnectId, grants: &[PendingGrant]) -> Result<(), StoreError> {
        let mut content = self.content()?;
        let held = content.session(id).ok_or_else(|| StoreError::Damaged("no session of this name is there".into()))?;
        held.unreturned.extend(grants.iter().cloned());
        Ok(())
    }

    async fn forget_pending(&self, id: &ConnectId, grants: &[PendingGrant]) -> Result<(), StoreError> {
        if let Some(held) = self.content()?.session(id) {
            held.unreturned.retain(|kept| !grants.iter().any(|grant| grant.is_same(kept)));
        }
        Ok(())
    }

    async fn unreturned(&self) -> Result<Vec<(ConnectSession, Vec<PendingGrant>)>, StoreError> {
        let content = self.content()?;
        let unreturned = content.sessions.values().filter(|held| !held.unreturned.is_empty());
        Ok(unreturned.map(|held| (held.session.clone(), held.unreturned.clone())).collect())
    }

    async fn overdue_sessions(&self, now: Timestamp) -> Result<Vec<ConnectId>, StoreError> {
        let content = self.content()?;
        let mut overdue: Vec<_> = content
            .sessions
            .values()
            .filter(|held| held.ended_at.is_none() && held.session.expires_at <= now)
            .map(|held| (held.session.expires_at, held.session.id.clone()))
            .collect();
        overdue.sort();
        Ok(overdue.into_iter().map(|(_, id)| id).collect())
    }

    async fn prune_sessions(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut content = self.content()?;
        let had = content.sessions.len();
        content
            .sessions
            .retain(|_, held| !held.unreturned.is_empty() || held.ended_at.is_none_or(|ended_at| ended_at >= before));
        Ok(had - content.sessions.len())
    }

    async fn confirm(&self, confirmed: &ConfirmedConnection, now: Timestamp) -> Result<Confirmed, StoreError> {
        Ok(self.content()?.confirm(confirmed, now))
    }

    async fn connection(&self, id: &ConnectionId) -> Result<Option<StoredConnection>, StoreError> {
        Ok(self.content()?.connections.get(id).cloned())
    }

    async fn connections_at(
        &self,
        subject: &Subject,
        provider: &ProviderId,
    ) -> Result<Vec<StoredConnection>, StoreError> {
        Ok(self
            .content()?
            .listed(|it| it.subject == *subject && it.provider == *provider, |it| (it.created_at, it.id.clone())))
    }

    async fn connections_of(&self, subject: &Subject) -> Result<Vec<StoredConnection>, StoreError> {
        Ok(self
            .content()?
            .listed(|it| it.subject == *subject, |it| (it.provider.clone(), it.created_at, it.id.clone())))
    }

    async fn connections(
        &self,
        after: Option<&ConnectionId>,
        limit: usize,
    ) -> Result<Vec<StoredConnection>, StoreError> {
        let mut page = self.content()?.listed(|it| after.is_none_or(|after| it.id > *after), |it| it.id.clone());
        page.truncate(limit);
        Ok(page)
    }

    async fn name(&self, id: &ConnectionId, naming: &Naming) -> Result<Named, StoreError> {
        Ok(self.content()?.name(id, naming))
    }

    async fn revoke(
        &self,
        id: &ConnectionId,
        extent: Extent,
        _now: Timestamp,
    ) -> Result<Option<StoredConnection>, StoreError> {
        Ok(self.content()?.revoke(id, extent))
    }

    async fn forget_grants(&self, id: &ConnectionId, slots: &[SlotName]) -> Result<(), StoreError> {
        self.content()?.forget_grants(id, slots);
        Ok(())
    }

    async fn unfinished_revocations(&self) -> Result<Vec<Unfinished>, StoreError> {
        Ok(self.content()?.unfinished_revocations())
    }

    async fn arm_last(
        &self,
        key: &GrantKey,
        read: Version,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Armed, StoreError> {
        Ok(self.content()?.arm_last(key, read, lease, now))
    }

    async fn disarm_last(&self, key: &GrantKey, read: Version) -> Result<(), StoreError> {
        self.content()?.disarm_last(key, read);
        Ok(())
    }

    async fn keep_claims(&self, id: &ConnectionId, claims: &Claims) -> Result<(), StoreError> {
        self.content()?.claims.insert(id.clone(), claims.clone());
        Ok(())
    }

    async fn claims(&self, id: &ConnectionId) -> Result<Option<Claims>, StoreError> {
        Ok(self.content()?.claims.get(id).cloned())
    }

    async fn due(&self, provider: &ProviderId, now: Timestamp, limit: usize) -> Result<Vec<GrantKey>, StoreError> {
        let content = self.content()?;
        let mut due: Vec<_> = content.due_times(provider).filter(|(at, _)| *at <= now).collect();
        due.sort_by(|(at, key), (other_at, other)| {
            (at, &key.connection, &key.slot).cmp(&(other_at, &other.connection, &other.slot))
        });
        Ok(due.into_iter().take(limit).map(|(_, key)| key).collect())
    }

    async fn next_due(&self, provider: &ProviderId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.content()?.due_times(provider).map(|(at, _)| at).min())
    }

    async fn serving(&self, provider: &ProviderId, limit: usize) -> Result<usize, StoreError> {
        Ok(self.content()?.due_times(provider).take(limit).count())
    }

    async fn arm(&self, key: &GrantKey, read: Version, lease: &Lease, now: Timestamp) -> Result<Armed, StoreError> {
        let mut content = self.content()?;
        let Some((connection, grant)) = content.grant(key) else {
            return Ok(Armed::Gone);
        };
        let armed = rules::arm(connection, grant, read, lease, now);
        if matches!(armed, Armed::Yes { .. }) {
            grant.lease = Some(lease.clone());
        }
        Ok(armed)
    }

    async fn replace_grant(&self, key: &GrantKey, read: Version, new: &NewGrant) -> Result<Replaced, StoreError> {
        let mut content = self.content()?;
        let Some((connection, grant)) = content.grant(key) else {
            return Ok(Replaced::Gone);
        };
        let replaced = rules::replace(connection, grant, read);
        if let Replaced::Yes { version } = replaced {
            *grant = Grant::new(key.slot.clone(), version, new.clone());
            connection.state = State::Active;
            content.claims.remove(&key.connection);
        }
        Ok(replaced)
    }

    async fn record_failure(&self, key: &GrantKey, read: Version, failure: &Failure) -> Result<bool, StoreError> {
        let mut content = self.content()?;
        let Some((connection, grant)) = content.grant(key) else {
            return Ok(false);
        };
        if !matches!(rules::replace(connection, grant, read), Replaced::Yes { .. }) {
            return Ok(false);
        }
        grant.lease = None;
        grant.failures = grant.failures.saturating_add(1);
        grant.last_failure = Some(failure.class.into());
        grant.failure_number = failure.number;
        grant.uncertain = failure.uncertain;
        grant.rejections = failure.rejections;
        grant.content.renew_at = failure.retry_at;
        connection.state = failure.state.clone();
        Ok(true)
    }

    async fn replan(&self, plan: &Replan) -> Result<usize, StoreError> {
        let mut content = self.content()?;
        let grants = content.connections.values_mut().flat_map(|stored| &mut stored.grants);
        Ok(grants.zip(0_u32..).map(|(grant, at)| usize::from(rules::replan(grant, plan, at))).sum())
    }

    async fn retry(&self, provider: &ProviderId, class: &'static str, now: Timestamp) -> Result<usize, StoreError> {
        let mut content = self.content()?;
        let there = content.connections.values_mut().filter(|stored| stored.connection.provider == *provider);
        Ok(there.map(|stored| rules::retry(stored, class, now)).sum())
    }

    async fn note_used(&self, used: &[(ConnectionId, Timestamp)]) -> Result<(), StoreError> {
        self.content()?.note_used(used);
        Ok(())
    }

    async fn postpone(&self, key: &GrantKey, read: Version, renew_at: Timestamp) -> Result<bool, StoreError> {
        Ok(self.content()?.postpone(key, read, renew_at))
    }

    async fn ending(&self, before: Timestamp, after: Option<&Ending>, limit: usize) -> Result<Vec<Ending>, StoreError> {
        Ok(self.content()?.ending(before, after, limit))
    }

    async fn note_warned(&self, warned: &[(ConnectionId, Timestamp)]) -> Result<(), StoreError> {
        self.content()?.warned.extend(warned.iter().cloned());
        Ok(())
    }

    async fn count_needing_person(&self, before: Timestamp) -> Result<usize, StoreError> {
        Ok(self.content()?.count_needing_person(before))
    }

    async fn count_due(&self, provider: &ProviderId, now: Timestamp) -> Result<usize, StoreError> {
        Ok(self.content()?.due_times(provider).filter(|(at, _)| *at <= now).count())
    }

    async fn grant(&self, key: &GrantKey) -> Result<Option<(Connection, Grant)>, StoreError> {
        let mut content = self.content()?;
        Ok(content.grant(key).map(|(connection, grant)| (connection.clone(), grant.clone())))
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::HoldReason;

    #[tokio::test]
    async fn a_hold_lasts_until_it_is_released() {
        let store = MemoryStore::new();
        let at = Timestamp::from_secs(1);
        let hold = Hold { before: at, found_at: at, why: HoldReason::Older };
        store.put_on_hold(hold);
        assert_eq!(store.hold().await.unwrap(), Some(hold));
        assert!(store.release_hold().await.unwrap());
        assert!(!store.release_hold().await.unwrap() && store.hold().await.unwrap().is_none());
    }
}
