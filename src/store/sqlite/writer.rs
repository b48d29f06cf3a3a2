//! The one thread that writes: whatever waits in its queue shares one transaction and one sync of the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::store::StoreError;
use crate::store::sqlite::error::leaves_connection_whole;
use crate::store::sqlite::files::Lock;
use crate::store::sqlite::history::{self, History};
use crate::store::sqlite::job::{Job, Message};
use crate::store::sqlite::schema;

/// How many jobs share a transaction at most.
const BATCH_MAX: usize = 256;

pub(super) struct Writer {
    pub(super) path: PathBuf,
    /// `None` after an error of the disk: what it left in memory is not to be trusted.
    pub(super) connection: Option<Connection>,
    /// Told of every commit.
    pub(super) history: History,
    /// What is wrong with the file, once something is: nothing is written to it any more.
    pub(super) damage: Option<String>,
    pub(super) queue: Receiver<Message>,
    /// They end before the writer does, so that it is the last to leave the file.
    pub(super) readers: Vec<JoinHandle<()>>,
    /// Given back when everything else is closed.
    pub(super) lock: Lock,
    /// Told how closing went.
    pub(super) closed: oneshot::Sender<Result<(), StoreError>>,
}

impl Writer {
    pub(super) fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            // The thread outlives a job that panics: the connection is dropped on the way, which rolls back, and opened again.
            if catch_unwind(AssertUnwindSafe(|| self.commit(batch.jobs))).is_err() {
                tracing::error!("A write to the store panicked; nobody knows what became of it");
            }
            if batch.last {
                break;
            }
        }
        self.close();
    }

    /// Waits for work, then takes what else is there. The time a commit takes is the time the next batch has to gather.
    fn next_batch(&self) -> Option<Batch> {
        let mut batch = Batch::default();
        batch.take(self.queue.recv().ok()?);
        while !batch.last && batch.jobs.len() < BATCH_MAX {
            match self.queue.try_recv() {
                Ok(message) => batch.take(message),
                Err(_) => break,
            }
        }
        Some(batch)
    }

    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        let outcome = self.transact(&mut jobs);
        failpoint!("writer.answered");
        for job in jobs {
            job.answer(outcome.as_ref().copied());
        }
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        if let Some(what) = &self.damage {
            return Err(StoreError::Damaged(what.clone()));
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                failpoint!("writer.reopen", Err(StoreError::Busy("failpoint".into())));
                self.connect_again()?
            }
        };
        let outcome = transact(&connection, &self.history, jobs);
        if let Ok(commits) = outcome {
            self.history.note(&connection, commits);
        }
        if outcome.as_ref().err().is_none_or(leaves_connection_whole) {
            self.connection = Some(connection);
        }
        outcome.map(drop).map_err(|error| StoreError::Busy(error.to_string()))
    }

    /// Opens the file again after an error of the disk, and looks at what is there before anything is written to it. Damage is
    /// for good: it does not go away by itself, and an operator has to look.
    fn connect_again(&mut self) -> Result<Connection, StoreError> {
        let opened = schema::connect_writer(&self.path).map_err(StoreError::from);
        let checked = opened.and_then(|connection| self.history.check(&connection).map(|()| connection));
        if let Err(StoreError::Damaged(what)) = &checked {
            tracing::error!(
                what,
                "The store is damaged: nothing is written to it any more. Stop grantd and restore a backup"
            );
            self.damage = Some(what.clone());
        }
        checked
    }

    fn close(mut self) {
        for reader in self.readers.drain(..) {
            // A reader that panicked has nothing left to close.
            let _ = reader.join();
        }
        let outcome = self.connection.take().map_or(Ok(()), |connection| {
            failpoint!("writer.checkpoint", Err(struck(rusqlite::ffi::SQLITE_IOERR_FSYNC)));
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            connection.close().map_err(|(_, error)| error)
        });
        self.history.close();
        drop(self.lock);
        let _ = self.closed.send(outcome.map_err(StoreError::from));
    }
}

#[derive(Default)]
struct Batch {
    jobs: Vec<Box<dyn Job>>,
    last: bool,
}

impl Batch {
    fn take(&mut self, message: Message) {
        match message {
            Message::Work(job) => self.jobs.push(job),
            Message::Close => self.last = true,
        }
    }
}

/// All of `jobs` in one transaction, each in a savepoint of its own so that one that fails undoes nobody else's work.
/// After an error nothing of them may be believed to be durable. Gives how far the database has come.
fn transact(connection: &Connection, history: &History, jobs: &mut [Box<dyn Job>]) -> Result<u64, rusqlite::Error> {
    failpoint!("writer.begin", Err(struck(rusqlite::ffi::SQLITE_BUSY)));
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let held = history.write_hold(connection);
    let done = held.and_then(|()| jobs.iter_mut().try_for_each(|job| attempt(connection, job.as_mut())));
    let outcome = done.and_then(|()| {
        let commits = history::commits(connection)?;
        commit(connection).map(|()| commits)
    });
    if outcome.is_err() && !connection.is_autocommit() {
        // If this fails as well, the connection is dropped, and that rolls back.
        let _ = connection.execute_batch("ROLLBACK");
    }
    outcome
}

fn commit(connection: &Connection) -> Result<(), rusqlite::Error> {
    failpoint!("writer.commit", Err(struck(rusqlite::ffi::SQLITE_IOERR_FSYNC)));
    connection.execute_batch("COMMIT")?;
    // Fails as a disk does that has kept what it says it has not.
    failpoint!("writer.committed", Err(struck(rusqlite::ffi::SQLITE_IOERR_FSYNC)));
    Ok(())
}

/// What SQLite would say.
#[cfg(feature = "failpoints")]
fn struck(code: std::ffi::c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some("failpoint".to_owned()))
}

/// Fails if the transaction itself is lost: a full disk, for one, makes SQLite roll back everything on its own.
fn attempt(connection: &Connection, job: &mut dyn Job) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
    failpoint!("writer.job");
    let keep = job.run(connection);
    if connection.is_autocommit() {
        let lost = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
        return Err(rusqlite::Error::SqliteFailure(lost, None));
    }
    if !keep {
        connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    connection.prepare_cached("RELEASE job")?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::sqlite::{files, job};

    type Work = Box<dyn FnOnce(&Connection) -> Result<(), StoreError> + Send>;

    fn writer(path: &Path) -> (Writer, Sender<Message>) {
        let (sender, queue) = channel();
        let lock = files::lock(path).unwrap();
        files::prepare(path, &lock).unwrap();
        let connection = schema::connect_writer(path).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        let writer = Writer {
            path: path.to_owned(),
            history: History::open(path, &connection, Arc::new(SystemClock)).unwrap(),
            connection: Some(connection),
            damage: None,
            queue,
            readers: Vec::new(),
            lock,
            closed: oneshot::channel().0,
        };
        (writer, sender)
    }

    fn probe(at: i64) -> impl FnOnce(&Connection) -> Result<(), StoreError> + Send {
        move |db| {
            db.execute(
                "INSERT INTO sessions (id, tenant, user, caller, provider, scopes, grant_type, user_code, progress, created_at, expires_at)
                 VALUES (?1, '', '', '', '', '', '', '', 'pending', 0, 0)",
                [at],
            )?;
            Ok(())
        }
    }

    /// Fails when the transaction is committed and not before.
    fn poison(db: &Connection) -> Result<(), StoreError> {
        db.execute_batch(
            "PRAGMA defer_foreign_keys = ON;
             INSERT INTO openings VALUES ('nobody', x'00', x'00', NULL, NULL, '', '');",
        )?;
        Ok(())
    }

    fn fail(db: &Connection) -> Result<(), StoreError> {
        probe(99)(db)?;
        Err(StoreError::Damaged("on purpose".into()))
    }

    async fn in_one_batch<const N: usize>(
        writer: &mut Writer,
        sender: &Sender<Message>,
        jobs: [Work; N],
    ) -> [Result<(), StoreError>; N] {
        let waiting = jobs.map(|work| {
            let sender = sender.clone();
            tokio::spawn(async move { job::submit(&sender, work).await })
        });
        tokio::task::yield_now().await;
        let batch = writer.next_batch().unwrap();
        assert_eq!(batch.jobs.len(), N);
        writer.commit(batch.jobs);
        let mut outcomes = Vec::new();
        for outcome in waiting {
            outcomes.push(outcome.await.unwrap());
        }
        outcomes.try_into().unwrap()
    }

    fn kept(path: &Path) -> Vec<String> {
        let file = Connection::open(path).unwrap();
        let mut statement = file.prepare("SELECT id FROM sessions ORDER BY id").unwrap();
        let ids = statement.query_map([], |row| row.get(0)).unwrap();
        ids.collect::<Result<_, _>>().unwrap()
    }

    #[tokio::test]
    async fn a_job_that_fails_undoes_nobody_elses_work() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grantd.db");
        let (mut writer, sender) = writer(&path);
        let outcomes =
            in_one_batch(&mut writer, &sender, [Box::new(probe(1)), Box::new(fail), Box::new(probe(2))]).await;
        assert!(matches!(outcomes, [Ok(()), Err(StoreError::Damaged(_)), Ok(())]), "{outcomes:?}");
        assert_eq!(kept(&path), ["1", "2"]);
    }

    #[tokio::test]
    async fn when_the_commit_fails_everybody_is_told_and_the_next_batch_goes_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grantd.db");
        let (mut writer, sender) = writer(&path);
        let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(1)), Box::new(poison)]).await;
        assert!(matches!(outcomes, [Err(StoreError::Busy(_)), Err(StoreError::Busy(_))]), "{outcomes:?}");
        assert!(kept(&path).is_empty());
        let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(2))]).await;
        assert!(matches!(outcomes, [Ok(())]), "{outcomes:?}");
        assert_eq!(kept(&path), ["2"]);
    }

    /// Behind everybody's back: whatever a failing disk does to a file.
    fn damage(path: &Path) {
        let file = Connection::open(path).unwrap();
        file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(file);
        let mut bytes = std::fs::read(path).unwrap();
        bytes[4096..].fill(0x5a);
        std::fs::write(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_an_error_left_damaged_is_never_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grantd.db");
        let (mut writer, sender) = writer(&path);
        let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(1)), Box::new(poison)]).await;
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
        assert!(writer.connection.is_none(), "what the connection remembers is not trusted");
        damage(&path);
        let before = std::fs::read(&path).unwrap();
        for at in 2..4 {
            let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(at))]).await;
            assert!(matches!(outcomes, [Err(StoreError::Damaged(_))]), "{outcomes:?}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[tokio::test]
    async fn a_file_that_has_forgotten_or_is_another_one_is_not_trusted_after_an_error() {
        for other_file in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("grantd.db");
            let (mut writer, sender) = writer(&path);
            let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(1)), Box::new(poison)]).await;
            assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
            if other_file {
                std::fs::copy(&path, directory.path().join("copy")).unwrap();
                std::fs::rename(directory.path().join("copy"), &path).unwrap();
            } else {
                Connection::open(&path).unwrap().execute("UPDATE history SET commits = -1", []).unwrap();
                writer.history.note(&Connection::open(&path).unwrap(), 1);
            }
            let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(2))]).await;
            assert!(matches!(outcomes, [Err(StoreError::Damaged(_))]), "{outcomes:?}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_busy_and_the_store_goes_on_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grantd.db");
        let (mut writer, sender) = writer(&path);
        writer.connection.as_ref().unwrap().execute_batch("PRAGMA max_page_count = 100").unwrap();
        let big = |db: &Connection| {
            db.execute("INSERT INTO installation VALUES (1, '', zeroblob(1000000))", [])?;
            Ok(())
        };
        let [small, big] = in_one_batch(&mut writer, &sender, [Box::new(probe(1)), Box::new(big)]).await;
        assert!(matches!(big, Err(StoreError::Busy(_))), "{big:?}");
        assert_eq!(kept(&path).len(), usize::from(small.is_ok()), "{small:?}");
        let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(2))]).await;
        assert!(matches!(outcomes, [Ok(())]), "{outcomes:?}");
    }

    #[tokio::test]
    async fn a_file_that_somebody_else_writes_to_is_busy_and_then_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grantd.db");
        let (mut writer, sender) = writer(&path);
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(1))]).await;
        assert!(matches!(outcomes, [Err(StoreError::Busy(_))]), "{outcomes:?}");
        other.execute_batch("ROLLBACK").unwrap();
        let outcomes = in_one_batch(&mut writer, &sender, [Box::new(probe(2))]).await;
        assert!(matches!(outcomes, [Ok(())]), "{outcomes:?}");
        assert_eq!(kept(&path), ["2"]);
    }
}
