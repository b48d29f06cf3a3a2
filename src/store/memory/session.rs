//! A connect session in memory, with what is kept beside it until it ends.

use crate::model::session::{ConnectSession, Progress};
use crate::model::time::Timestamp;
use crate::store::records::{Opening, Pending};

#[derive(Debug)]
pub(super) struct Session {
    pub(super) session: ConnectSession,
    pub(super) opening: Option<Opening>,
    pub(super) pending: Option<Pending>,
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
            && !matches!(it.progress, Progress::AwaitingConfirmation { .. })
    }

    pub(super) fn end(&mut self, progress: Progress, now: Timestamp) -> Option<Pending> {
        self.session.progress = progress;
        self.ended_at = Some(now);
        self.opening = None;
        self.pending.take()
    }
}
