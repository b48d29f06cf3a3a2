//! What must survive a restart, in the broker's words. Secrets arrive sealed; no backend can read one.
//!
//! Every write is durable when it returns, and is done even if whoever asked for it stops waiting. Questions of time are answered by the `now` that is handed in, which a backend
//! shared by several nodes replaces by its own clock.

pub mod audit;
#[cfg(test)]
mod conformance;
pub mod journal;
pub mod mark;
pub mod memory;
pub mod records;
mod rules;
pub mod spool;
pub mod sqlite;

use async_trait::async_trait;

use crate::model::claims::Claims;
use crate::model::connection::Connection;
use crate::model::id::{ConnectId, ConnectionId, InstanceId, ProviderId, SlotName, Version};
use crate::model::session::{ConnectFailure, ConnectSession};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::store::audit::AuditLog;
use crate::store::records::{
    Armed, Confirmed, ConfirmedConnection, DeviceAnswer, DeviceOpening, Ending, Extent, Failure, Grant, GrantKey, Hold,
    Installation, Lease, Named, Naming, NewGrant, Opening, Pending, PendingGrant, Replaced, Replan, Setback,
    StoredConnection, Unfinished,
};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is locked by somebody else, or full, or closing: later. As a rule nothing was changed. If it was the commit
    /// itself that failed, that cannot be told; compare-and-set makes it safe to try again.
    #[error("the store cannot be used now: {0}")]
    Busy(String),
    /// What is stored cannot be what was written: nothing was changed, and an operator has to look.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// What must survive a restart.
#[async_trait]
pub trait Store: AuditLog + Send + Sync + 'static {
    /// The installation this store belongs to; `None` in a new store.
    async fn installation(&self) -> Result<Option<Installation>, StoreError>;

    /// Makes the store this installation's, unless it is somebody's already. Says whether it did.
    async fn install(&self, installation: Installation) -> Result<bool, StoreError>;

    /// Reads and writes something of no consequence: fails when the store could not keep a token.
    async fn probe(&self, now: Timestamp) -> Result<(), StoreError>;

    // What an old copy must not do

    /// Whether the store may be an old copy, and which grants are held because of it. Costs nothing.
    async fn hold(&self) -> Result<Option<Hold>, StoreError>;

    /// Ends the hold, for good, and makes due what was put off as [`records::HELD`]. Says whether there was one.
    async fn release_hold(&self) -> Result<bool, StoreError>;

    /// The latest time that the wall clock is known to have shown before the store was opened, since it was last known to
    /// have been set; `None` if nobody knows. A clock that is behind it has been set back, and times in the store mean less
    /// than they say.
    async fn wall_before(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// How far the clock is known to have been set back, as it was noted last. An old copy of the store that was put back
    /// does not change it.
    async fn setback(&self) -> Result<Option<Setback>, StoreError>;

    /// Notes how far the clock has been set back, or that it is right again. Durable when it returns, once the store belongs
    /// to an installation.
    async fn note_setback(&self, setback: Option<Setback>) -> Result<(), StoreError>;

    // Connect sessions

    /// Keeps a new connect session, as `pending`.
    async fn put_session(&self, session: &ConnectSession) -> Result<(), StoreError>;

    /// Keeps a new connect session, as `opened`, that goes on by a device flow.
    async fn put_device_session(&self, session: &ConnectSession, opening: &DeviceOpening) -> Result<(), StoreError>;

    /// What the device flow of an opened session is gone on with; `None` if it has none, or has moved on.
    async fn device_opening(&self, id: &ConnectId) -> Result<Option<DeviceOpening>, StoreError>;

    /// Keeps what the device code of an opened session has brought, until the session moves on or ends. Says whether it still
    /// had one.
    async fn keep_device_answer(&self, id: &ConnectId, answer: &DeviceAnswer) -> Result<bool, StoreError>;

    /// Every session that goes on by a device flow, expired or not.
    async fn device_sessions(&self) -> Result<Vec<(ConnectSession, DeviceOpening)>, StoreError>;

    /// A connect session, unless it is not there. An expired one is returned as it is.
    async fn session(&self, id: &ConnectId) -> Result<Option<ConnectSession>, StoreError>;

    /// The latest session that has neither ended nor expired and asks for the same: same subject, caller, provider, scopes and
    /// reconnect. Not one that awaits confirmation: it belongs to a browser, which may be gone, and no other can finish it. Nor
    /// one that goes on by a device flow, which is a terminal's.
    async fn same_session(&self, like: &ConnectSession, now: Timestamp) -> Result<Option<ConnectSession>, StoreError>;

    /// How many sessions of this subject have neither ended nor expired.
    async fn open_sessions(&self, subject: &Subject, now: Timestamp) -> Result<usize, StoreError>;

    /// Keeps what the callback will be checked against and moves a pending or opened session to `opened`. An earlier
    /// opening of the same session is replaced. Says whether there was such a session that has not expired and does not go on
    /// by a device flow.
    async fn open_session(&self, id: &ConnectId, opening: &Opening, now: Timestamp) -> Result<bool, StoreError>;

    /// What the callback of an opened session will be checked against. To look only: whoever acts on it has to take it.
    async fn opening(&self, id: &ConnectId) -> Result<Option<Opening>, StoreError>;

    /// Takes the opening that belongs to this digest of a `state`: whoever comes second gets nothing, and so does who comes
    /// after the session has moved on or ended. It may have expired.
    async fn take_opening(&self, state: &[u8; 32]) -> Result<Option<(ConnectSession, Opening)>, StoreError>;

    /// Moves an opened session that has not expired to `awaiting_confirmation` and keeps what the provider gave, sealed.
    /// Other openings of the session are void. Says whether it could.
    async fn await_confirmation(&self, id: &ConnectId, pending: &Pending, now: Timestamp) -> Result<bool, StoreError>;

    /// What an `awaiting_confirmation` session holds.
    async fn pending(&self, id: &ConnectId) -> Result<Option<Pending>, StoreError>;

    /// Ends a session without a connection and returns what it held, so that it can be revoked; it is kept until it is
    /// forgotten. `None` if the session had already ended.
    async fn fail_session(
        &self,
        id: &ConnectId,
        failure: ConnectFailure,
        now: Timestamp,
    ) -> Result<Option<Option<Pending>>, StoreError>;

    /// Keeps what came for a session that cannot hold it, because nobody knows whose account it is or because the session has
    /// moved on or ended: it is to be given back, whatever becomes of the session. What the session holds stays as it is.
    async fn keep_unwanted(&self, id: &ConnectId, grants: &[PendingGrant]) -> Result<(), StoreError>;

    /// Wipes grants of a session that are to be given back: nothing more can be done about them at the provider.
    async fn forget_pending(&self, id: &ConnectId, grants: &[PendingGrant]) -> Result<(), StoreError>;

    /// What is to be given back and is not yet, by session: what is unwanted, and what a session held that ended without a
    /// connection.
    async fn unreturned(&self) -> Result<Vec<(ConnectSession, Vec<PendingGrant>)>, StoreError>;

    /// The sessions that have not ended and whose time is over.
    async fn overdue_sessions(&self, now: Timestamp) -> Result<Vec<ConnectId>, StoreError>;

    /// Forgets sessions that ended before `before` and hold nothing. Returns how many.
    async fn prune_sessions(&self, before: Timestamp) -> Result<usize, StoreError>;

    /// In one step: ends the session as completed, keeps the connection and its grants, and drops the grants of an
    /// earlier epoch. A connection keeps its subject, its provider, what it is called and when it was made; a subject has one
    /// connection for each account until it is revoked.
    async fn confirm(&self, confirmed: &ConfirmedConnection, now: Timestamp) -> Result<Confirmed, StoreError>;

    // Connections

    /// A connection with its grants, also when it is revoked.
    async fn connection(&self, id: &ConnectionId) -> Result<Option<StoredConnection>, StoreError>;

    /// One subject's connections at one provider that are not revoked, oldest first.
    async fn connections_at(
        &self,
        subject: &Subject,
        provider: &ProviderId,
    ) -> Result<Vec<StoredConnection>, StoreError>;

    /// One subject's connections that are not revoked, by provider and age.
    async fn connections_of(&self, subject: &Subject) -> Result<Vec<StoredConnection>, StoreError>;

    /// Every connection that is not revoked, in pages of at most `limit`, in order of id, behind `after`.
    async fn connections(
        &self,
        after: Option<&ConnectionId>,
        limit: usize,
    ) -> Result<Vec<StoredConnection>, StoreError>;

    /// Changes what a connection is called, in one step with the look whether another one answers to it.
    async fn name(&self, id: &ConnectionId, naming: &Naming) -> Result<Named, StoreError>;

    /// Ends a connection: state `revoked`, epoch plus one, no label and no default, in one step with noting what is to be
    /// revoked at the provider; returns it revoked, with its grants as they were. `None` if it is not there or had been
    /// revoked before.
    async fn revoke(
        &self,
        id: &ConnectionId,
        extent: Extent,
        now: Timestamp,
    ) -> Result<Option<StoredConnection>, StoreError>;

    /// Wipes these grants of a revoked connection, once nothing more can be done about them at the provider.
    async fn forget_grants(&self, id: &ConnectionId, slots: &[SlotName]) -> Result<(), StoreError>;

    /// Revoked connections that still have grants: revoking them at the provider has not been finished.
    async fn unfinished_revocations(&self) -> Result<Vec<Unfinished>, StoreError>;

    /// As [`arm`](Self::arm), for a connection that is revoked: what the refresh brings is revoked at once and never stored.
    async fn arm_last(&self, key: &GrantKey, read: Version, lease: &Lease, now: Timestamp)
    -> Result<Armed, StoreError>;

    /// Ends the lease of a revoked connection's grant: its refresh token was not spent after all.
    async fn disarm_last(&self, key: &GrantKey, read: Version) -> Result<(), StoreError>;

    /// Keeps what the provider wants to see proven in the next authorization of a connection, in place of what was kept
    /// before. It is forgotten when the connection is confirmed, or serves again.
    async fn keep_claims(&self, id: &ConnectionId, claims: &Claims) -> Result<(), StoreError>;

    /// What was kept so.
    async fn claims(&self, id: &ConnectionId) -> Result<Option<Claims>, StoreError>;

    // Refreshing

    /// At most `limit` grants of one provider whose time to be renewed has come, most urgent first: of connections that are
    /// active or failed to refresh, without a lease that runs. A lease left behind by a run that died is due at once when the store is
    /// opened again. Costs what is due, not what is stored.
    async fn due(&self, provider: &ProviderId, now: Timestamp, limit: usize) -> Result<Vec<GrantKey>, StoreError>;

    /// When the next grant of a provider will be due, which may be in the past.
    async fn next_due(&self, provider: &ProviderId) -> Result<Option<Timestamp>, StoreError>;

    /// How many grants of a provider are renewed at all; counting stops at `limit`.
    async fn serving(&self, provider: &ProviderId, limit: usize) -> Result<usize, StoreError>;

    /// Declares the intent to spend the refresh token of this version, and takes the lease for it. Nothing may be sent
    /// unless the answer is [`Armed::Yes`]. The lease of another run of the daemon is taken over.
    async fn arm(&self, key: &GrantKey, read: Version, lease: &Lease, now: Timestamp) -> Result<Armed, StoreError>;

    /// Replaces a grant by what the provider answered, if it is still the version that was read, and ends the lease. A
    /// connection that needed a person or had failed serves again.
    async fn replace_grant(&self, key: &GrantKey, read: Version, new: &NewGrant) -> Result<Replaced, StoreError>;

    /// Notes that a refresh brought nothing, if the grant is still the version that was read and not revoked, and ends the
    /// lease. Says whether it was.
    async fn record_failure(&self, key: &GrantKey, read: Version, failure: &Failure) -> Result<bool, StoreError>;

    /// Plans again what was written by a clock that was ahead of `plan.now`, a portion at a time; returns how many grants were
    /// changed, and zero when there is nothing left to change. Grants issued later than `plan.believed_until` count as issued
    /// now, dead now, and to be renewed within `plan.spread`. Failed ones that wait longer than `plan.waits_until` wait no
    /// longer than `plan.spread`. Leases end at `plan.leased_until`. Nothing is ever put off. Costs what is changed, not what
    /// is stored.
    async fn replan(&self, plan: &Replan) -> Result<usize, StoreError>;

    /// Makes due now what waits at a provider after a failure of this class, and returns how many grants that were. What is
    /// under way stays so. Costs what serves at the provider: it is for an operator's word, not for the schedule.
    async fn retry(&self, provider: &ProviderId, class: &'static str, now: Timestamp) -> Result<usize, StoreError>;

    // Upkeep

    /// Notes when tokens of these connections were last handed out. It never moves back.
    async fn note_used(&self, used: &[(ConnectionId, Timestamp)]) -> Result<(), StoreError>;

    /// Puts the renewal of a grant off until then, if the grant is still the version that was read, serves, and has no lease,
    /// not even one that a dead run left behind. Says whether it did.
    async fn postpone(&self, key: &GrantKey, read: Version, renew_at: Timestamp) -> Result<bool, StoreError>;

    /// At most `limit` grants that will need a person then or earlier, soonest first, behind `after`: of connections that are
    /// active or failed to refresh. Costs what is ending, not what is stored.
    async fn ending(&self, before: Timestamp, after: Option<&Ending>, limit: usize) -> Result<Vec<Ending>, StoreError>;

    /// Notes for which point in time the latest warning about each of these connections was due. A reconnect forgets it.
    async fn note_warned(&self, warned: &[(ConnectionId, Timestamp)]) -> Result<(), StoreError>;

    /// How many connections need a person, or will then or earlier. Costs what is ending, not what is stored.
    async fn count_needing_person(&self, before: Timestamp) -> Result<usize, StoreError>;

    /// How many grants [`due`](Self::due) would name without a limit.
    async fn count_due(&self, provider: &ProviderId, now: Timestamp) -> Result<usize, StoreError>;

    /// The grant as it is stored, whatever the state of its connection.
    async fn grant(&self, key: &GrantKey) -> Result<Option<(Connection, Grant)>, StoreError>;

    /// Finishes what is under way and closes. Every call after that is [`StoreError::Busy`], except another close.
    async fn close(&self) -> Result<(), StoreError>;

    /// The installation's name, for messages. A default so that backends need not repeat it.
    async fn instance(&self) -> Result<Option<InstanceId>, StoreError> {
        Ok(self.installation().await?.map(|installation| installation.instance))
    }
}
