//! The store in one SQLite file: one thread writes, with many jobs in one transaction, and a few read.

mod audit;
mod claims;
mod connections;
mod devices;
mod error;
mod files;
mod grants;
mod history;
mod installation;
mod job;
mod open_error;
mod reader;
mod replan;
mod rows;
mod schema;
mod sessions;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use rusqlite::Connection as Sqlite;
use tokio::sync::oneshot;

use crate::clock::{Clock, SystemClock};
use crate::model::claims::Claims;
use crate::model::connection::Connection;
use crate::model::id::{ConnectId, ConnectionId, ProviderId, SlotName, Version};
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::store::records::{
    Armed, Confirmed, ConfirmedConnection, DeviceAnswer, DeviceOpening, Ending, Extent, Failure, Grant, GrantKey, Hold,
    Installation, Lease, Named, Naming, NewGrant, Opening, Pending, PendingGrant, Replaced, Replan, Setback,
    StoredConnection, Unfinished,
};
use crate::store::sqlite::history::{History, SharedMark};
use crate::store::sqlite::job::Message;
use crate::store::sqlite::writer::Writer;
use crate::store::{Store, StoreError};

pub use self::open_error::OpenError;

/// A handle on the threads that have the file. Dropping it finishes what is under way, as [`Store::close`] does.
pub struct SqliteStore {
    writes: Sender<Message>,
    reads: Sender<Message>,
    closed: Mutex<Option<oneshot::Receiver<Result<(), StoreError>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// As it stands in the file: asked before every refresh.
    hold: Mutex<Option<Hold>>,
    wall: Option<Timestamp>,
    mark: SharedMark,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// As [`open_by`](Self::open_by), by the clock of the system.
    ///
    /// # Errors
    /// See there.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_by(Arc::new(SystemClock), path)
    }

    /// Opens the store at `path`, and makes it if it is not there. Its directory must exist; beside it come a file that ends
    /// in `.lock` and one that ends in `.mark`. A store that may be an old copy is held, by `clock`. Blocks while the file is
    /// checked.
    ///
    /// # Errors
    /// If another daemon has it, if it is no place for a store, of a later format or damaged.
    pub fn open_by(clock: Arc<dyn Clock>, path: &Path) -> Result<Self, OpenError> {
        let path = files::locate(path)?;
        let lock = files::lock(&path)?;
        files::prepare(&path, &lock)?;
        let connection = schema::connect_writer(&path)?;
        lock.mark()?;
        grants::recover(&connection)?;
        failpoint!("start.recovered");
        let history = History::open(&path, &connection, Arc::clone(&clock))?;
        let (hold, wall, mark) = (history.held(&connection)?, history.wall_before(), history.mark());

        let (reads, readers) = reader::start(&path)?;
        let (writes, queue) = channel();
        let (tell_closed, closed) = oneshot::channel();
        let writer = Writer {
            path: path.clone(),
            connection: Some(connection),
            history,
            damage: None,
            queue,
            readers,
            lock,
            closed: tell_closed,
        };
        let writer =
            reader::spawn("grantd-write", move || writer.run()).map_err(|source| OpenError::Io { path, source })?;
        Ok(Self {
            writes,
            reads,
            closed: Mutex::new(Some(closed)),
            writer: Mutex::new(Some(writer)),
            hold: Mutex::new(hold),
            wall,
            mark,
            clock,
        })
    }

    async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Sqlite) -> Result<T, StoreError> + Send + 'static,
    {
        job::submit(&self.writes, work).await
    }

    async fn read<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Sqlite) -> Result<T, StoreError> + Send + 'static,
    {
        job::submit(&self.reads, work).await
    }

    /// Asks every thread to finish. Harmless if they have.
    fn ask_to_close(&self) {
        for _ in 0..reader::READERS {
            let _ = self.reads.send(Message::Close);
        }
        let _ = self.writes.send(Message::Close);
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.ask_to_close();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // It has reported to whoever asked it to close.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        self.read(installation::installation).await
    }

    async fn install(&self, new: Installation) -> Result<bool, StoreError> {
        self.write(move |db| installation::install(db, &new)).await
    }

    async fn probe(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            db.prepare_cached("INSERT INTO probes (one, at) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET at = ?1")?
                .execute([now.as_millis()])?;
            Ok(())
        })
        .await?;
        self.read(|db| {
            db.query_row("SELECT at FROM probes", [], |_| Ok(()))?;
            Ok(())
        })
        .await
    }

    async fn hold(&self) -> Result<Option<Hold>, StoreError> {
        Ok(*self.hold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn release_hold(&self) -> Result<bool, StoreError> {
        let released = self.write(history::release).await?;
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(released)
    }

    async fn wall_before(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.wall)
    }

    async fn setback(&self) -> Result<Option<Setback>, StoreError> {
        Ok(self.mark.get().setback())
    }

    async fn note_setback(&self, setback: Option<Setback>) -> Result<(), StoreError> {
        let (mark, clock) = (self.mark.clone(), Arc::clone(&self.clock));
        // Not in the queue of those who write: a database that is locked does not keep the mark from being written.
        let noting = tokio::task::spawn_blocking(move || mark.get().note_setback(setback, clock.now()));
        let noted = noting.await.map_err(|error| StoreError::Busy(error.to_string()))?;
        noted.map_err(|error| StoreError::Busy(format!("the mark beside the store cannot be written: {error}")))
    }

    async fn put_session(&self, session: &ConnectSession) -> Result<(), StoreError> {
        let session = session.clone();
        self.write(move |db| sessions::put(db, &session, &Progress::Pending)).await
    }

    async fn put_device_session(&self, session: &ConnectSession, opening: &DeviceOpening) -> Result<(), StoreError> {
        let (session, opening) = (session.clone(), opening.clone());
        self.write(move |db| devices::put(db, &session, &opening)).await
    }

    async fn device_opening(&self, id: &ConnectId) -> Result<Option<DeviceOpening>, StoreError> {
        let id = id.clone();
        self.read(move |db| devices::opening(db, &id)).await
    }

    async fn keep_device_answer(&self, id: &ConnectId, answer: &DeviceAnswer) -> Result<bool, StoreError> {
        let (id, answer) = (id.clone(), answer.clone());
        self.write(move |db| devices::keep_answer(db, &id, &answer)).await
    }

    async fn device_sessions(&self) -> Result<Vec<(ConnectSession, DeviceOpening)>, StoreError> {
        self.read(devices::all).await
    }

    async fn session(&self, id: &ConnectId) -> Result<Option<ConnectSession>, StoreError> {
        let id = id.clone();
        self.read(move |db| sessions::session(db, &id)).await
    }

    async fn same_session(&self, like: &ConnectSession, now: Timestamp) -> Result<Option<ConnectSession>, StoreError> {
        let like = like.clone();
        self.read(move |db| sessions::same(db, &like, now)).await
    }

    async fn open_sessions(&self, subject: &Subject, now: Timestamp) -> Result<usize, StoreError> {
        let subject = subject.clone();
        self.read(move |db| sessions::count_open(db, &subject, now)).await
    }

    async fn open_session(&self, id: &ConnectId, opening: &Opening, now: Timestamp) -> Result<bool, StoreError> {
        let (id, opening) = (id.clone(), opening.clone());
        self.write(move |db| sessions::open(db, &id, &opening, now)).await
    }

    async fn opening(&self, id: &ConnectId) -> Result<Option<Opening>, StoreError> {
        let id = id.clone();
        self.read(move |db| sessions::opening(db, &id)).await
    }

    async fn take_opening(&self, state: &[u8; 32]) -> Result<Option<(ConnectSession, Opening)>, StoreError> {
        let state = *state;
        self.write(move |db| sessions::take_opening(db, &state)).await
    }

    async fn await_confirmation(&self, id: &ConnectId, pending: &Pending, now: Timestamp) -> Result<bool, StoreError> {
        let (id, pending) = (id.clone(), pending.clone());
        self.write(move |db| sessions::await_confirmation(db, &id, &pending, now)).await
    }

    async fn pending(&self, id: &ConnectId) -> Result<Option<Pending>, StoreError> {
        let id = id.clone();
        self.read(move |db| sessions::pending(db, &id)).await
    }

    async fn fail_session(
        &self,
        id: &ConnectId,
        failure: ConnectFailure,
        now: Timestamp,
    ) -> Result<Option<Option<Pending>>, StoreError> {
        let id = id.clone();
        self.write(move |db| sessions::fail(db, &id, failure, now)).await
    }

    async fn keep_unwanted(&self, id: &ConnectId, grants: &[PendingGrant]) -> Result<(), StoreError> {
        let (id, grants) = (id.clone(), grants.to_vec());
        self.write(move |db| sessions::keep_unwanted(db, &id, &grants)).await
    }

    async fn forget_pending(&self, id: &ConnectId, grants: &[PendingGrant]) -> Result<(), StoreError> {
        let (id, grants) = (id.clone(), grants.to_vec());
        self.write(move |db| sessions::forget_pending(db, &id, &grants)).await
    }

    async fn unreturned(&self) -> Result<Vec<(ConnectSession, Vec<PendingGrant>)>, StoreError> {
        self.read(sessions::unreturned).await
    }

    async fn overdue_sessions(&self, now: Timestamp) -> Result<Vec<ConnectId>, StoreError> {
        self.read(move |db| sessions::overdue(db, now)).await
    }

    async fn prune_sessions(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.write(move |db| sessions::prune(db, before)).await
    }

    async fn confirm(&self, confirmed: &ConfirmedConnection, now: Timestamp) -> Result<Confirmed, StoreError> {
        let confirmed = confirmed.clone();
        self.write(move |db| connections::confirm(db, &confirmed, now)).await
    }

    async fn connection(&self, id: &ConnectionId) -> Result<Option<StoredConnection>, StoreError> {
        let id = id.clone();
        self.read(move |db| connections::stored(db, &id)).await
    }

    async fn connections_at(
        &self,
        subject: &Subject,
        provider: &ProviderId,
    ) -> Result<Vec<StoredConnection>, StoreError> {
        let (subject, provider) = (subject.clone(), provider.clone());
        self.read(move |db| connections::at(db, &subject, &provider)).await
    }

    async fn connections_of(&self, subject: &Subject) -> Result<Vec<StoredConnection>, StoreError> {
        let subject = subject.clone();
        self.read(move |db| connections::of(db, &subject)).await
    }

    async fn connections(
        &self,
        after: Option<&ConnectionId>,
        limit: usize,
    ) -> Result<Vec<StoredConnection>, StoreError> {
        let after = after.cloned();
        self.read(move |db| connections::page(db, after.as_ref(), limit)).await
    }

    async fn name(&self, id: &ConnectionId, naming: &Naming) -> Result<Named, StoreError> {
        let (id, naming) = (id.clone(), naming.clone());
        self.write(move |db| connections::name(db, &id, &naming)).await
    }

    async fn revoke(
        &self,
        id: &ConnectionId,
        extent: Extent,
        _now: Timestamp,
    ) -> Result<Option<StoredConnection>, StoreError> {
        let id = id.clone();
        self.write(move |db| connections::revoke(db, &id, extent)).await
    }

    async fn forget_grants(&self, id: &ConnectionId, slots: &[SlotName]) -> Result<(), StoreError> {
        let (id, slots) = (id.clone(), slots.to_vec());
        self.write(move |db| connections::forget_grants(db, &id, &slots)).await
    }

    async fn unfinished_revocations(&self) -> Result<Vec<Unfinished>, StoreError> {
        self.read(connections::unfinished_revocations).await
    }

    async fn arm_last(
        &self,
        key: &GrantKey,
        read: Version,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Armed, StoreError> {
        let (key, lease) = (key.clone(), lease.clone());
        self.write(move |db| grants::arm_last(db, &key, read, &lease, now)).await
    }

    async fn disarm_last(&self, key: &GrantKey, read: Version) -> Result<(), StoreError> {
        let key = key.clone();
        self.write(move |db| grants::disarm_last(db, &key, read)).await
    }

    async fn keep_claims(&self, id: &ConnectionId, claims: &Claims) -> Result<(), StoreError> {
        let (id, claims) = (id.clone(), claims.clone());
        self.write(move |db| claims::keep(db, &id, &claims)).await
    }

    async fn claims(&self, id: &ConnectionId) -> Result<Option<Claims>, StoreError> {
        let id = id.clone();
        self.read(move |db| claims::kept(db, &id)).await
    }

    async fn due(&self, provider: &ProviderId, now: Timestamp, limit: usize) -> Result<Vec<GrantKey>, StoreError> {
        let provider = provider.clone();
        self.read(move |db| grants::due(db, &provider, now, limit)).await
    }

    async fn next_due(&self, provider: &ProviderId) -> Result<Option<Timestamp>, StoreError> {
        let provider = provider.clone();
        self.read(move |db| grants::next_due(db, &provider)).await
    }

    async fn serving(&self, provider: &ProviderId, limit: usize) -> Result<usize, StoreError> {
        let provider = provider.clone();
        self.read(move |db| grants::serving(db, &provider, limit)).await
    }

    async fn arm(&self, key: &GrantKey, read: Version, lease: &Lease, now: Timestamp) -> Result<Armed, StoreError> {
        let (key, lease) = (key.clone(), lease.clone());
        self.write(move |db| grants::arm(db, &key, read, &lease, now)).await
    }

    async fn replace_grant(&self, key: &GrantKey, read: Version, new: &NewGrant) -> Result<Replaced, StoreError> {
        let (key, new) = (key.clone(), new.clone());
        self.write(move |db| grants::replace(db, &key, read, &new)).await
    }

    async fn record_failure(&self, key: &GrantKey, read: Version, failure: &Failure) -> Result<bool, StoreError> {
        let (key, failure) = (key.clone(), failure.clone());
        self.write(move |db| grants::record_failure(db, &key, read, &failure)).await
    }

    async fn replan(&self, plan: &Replan) -> Result<usize, StoreError> {
        let plan = *plan;
        self.write(move |db| replan::replan(db, &plan)).await
    }

    async fn retry(&self, provider: &ProviderId, class: &'static str, now: Timestamp) -> Result<usize, StoreError> {
        let provider = provider.clone();
        self.write(move |db| grants::retry(db, &provider, class, now)).await
    }

    async fn note_used(&self, used: &[(ConnectionId, Timestamp)]) -> Result<(), StoreError> {
        let used = used.to_vec();
        self.write(move |db| upkeep::note_used(db, &used)).await
    }

    async fn postpone(&self, key: &GrantKey, read: Version, renew_at: Timestamp) -> Result<bool, StoreError> {
        let key = key.clone();
        self.write(move |db| upkeep::postpone(db, &key, read, renew_at)).await
    }

    async fn ending(&self, before: Timestamp, after: Option<&Ending>, limit: usize) -> Result<Vec<Ending>, StoreError> {
        let after = after.cloned();
        self.read(move |db| upkeep::ending(db, before, after.as_ref(), limit)).await
    }

    async fn note_warned(&self, warned: &[(ConnectionId, Timestamp)]) -> Result<(), StoreError> {
        let warned = warned.to_vec();
        self.write(move |db| upkeep::note_warned(db, &warned)).await
    }

    async fn count_needing_person(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.read(move |db| upkeep::count_needing_person(db, before)).await
    }

    async fn count_due(&self, provider: &ProviderId, now: Timestamp) -> Result<usize, StoreError> {
        let provider = provider.clone();
        self.read(move |db| upkeep::count_due(db, &provider, now)).await
    }

    async fn grant(&self, key: &GrantKey) -> Result<Option<(Connection, Grant)>, StoreError> {
        let key = key.clone();
        self.read(move |db| grants::grant(db, &key)).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.ask_to_close();
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match closed {
            Some(closed) => closed.await.unwrap_or_else(|_| Err(error::closed())),
            None => Ok(()),
        }
    }
}

/// A version as SQLite can hold it.
fn number(count: u64) -> Result<i64, StoreError> {
    i64::try_from(count).map_err(|_| StoreError::Damaged("a version beyond 2^63".into()))
}

/// One row of a list that goes on without it if it makes no sense.
fn readable<T>(row: Result<T, StoreError>) -> Option<T> {
    row.inspect_err(|error| tracing::error!(%error, "a row was left out")).ok()
}
