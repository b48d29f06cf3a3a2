//! Connect sessions in memory: how they are compared, how they end, and how one becomes a connection.

use crate::model::session::{ConnectSession, Progress};
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::memory::Content;
use crate::store::records::{Confirmed, ConfirmedConnection, DeviceOpening, Opening, Pending, PendingGrant};

/// A connect session with what is kept beside it until it ends.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) session: ConnectSession,
    pub(super) opening: Option<Opening>,
    pub(super) device: Option<DeviceOpening>,
    pub(super) pending: Option<Pending>,
    /// What is still to be given back.
    pub(super) unreturned: Vec<PendingGrant>,
    pub(super) ended_at: Option<Timestamp>,
}

impl Session {
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && self.session.expires_at > now
    }

    pub(super) fn asks_for_the_same(&self, like: &ConnectSession) -> bool {
        let it = &self.session;
        it.subject == like.subject
            && it.caller == like.caller
            && it.provider == like.provider
            && it.scopes == like.scopes
            && it.reconnect == like.reconnect
            && self.device.is_none()
            && !matches!(it.progress, Progress::AwaitingConfirmation { .. })
    }

    pub(super) fn end(&mut self, progress: Progress, now: Timestamp) -> Option<Pending> {
        self.session.progress = progress;
        self.ended_at = Some(now);
        (self.opening, self.device) = (None, None);
        self.pending.take()
    }
}

impl Content {
    pub(super) fn put_session(
        &mut self,
        session: &ConnectSession,
        progress: Progress,
        device: Option<DeviceOpening>,
    ) -> Result<(), StoreError> {
        if self.sessions.contains_key(&session.id) {
            return Err(StoreError::Damaged("a session of this name is there".into()));
        }
        let session = ConnectSession { progress, ..session.clone() };
        let held = Session { session, opening: None, device, pending: None, unreturned: Vec::new(), ended_at: None };
        self.sessions.insert(held.session.id.clone(), held);
        Ok(())
    }

    pub(super) fn confirm(&mut self, confirmed: &ConfirmedConnection, now: Timestamp) -> Confirmed {
        let is_admitted = self.admits(confirmed);
        let Some(held) = self.session(&confirmed.session).filter(|held| held.pending.is_some() && held.is_open(now))
        else {
            return Confirmed::NotWaiting;
        };
        if !is_admitted {
            return Confirmed::Stale;
        }
        let completed = Progress::Completed {
            connection: confirmed.connection.id.clone(),
            account: confirmed.connection.account.clone(),
        };
        held.end(completed, now);
        self.keep(confirmed);
        Confirmed::Yes
    }
}
