//! The one thread that writes: whatever waits in its queue shares one transaction and one sync of the disk.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::store::StoreError;
use crate::store::sqlite::error::leaves_connection_whole;
use crate::store::sqlite::files::Lock;
use crate::store::sqlite::job::{Job, Message};
use crate::store::sqlite::schema;

/// How many jobs share a transaction at most.
const BATCH_MAX: usize = 256;

pub(super) struct Writer {
    pub(super) path: PathBuf,
    /// `None` after an error of the disk: what it left in memory is not to be trusted.
    pub(super) connection: Option<Connection>,
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
            self.commit(batch.jobs);
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
        for job in jobs {
            job.answer(outcome.as_ref().copied());
        }
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => schema::connect_writer(&self.path)?,
        };
        let outcome = transact(&connection, jobs);
        if outcome.as_ref().err().is_none_or(leaves_connection_whole) {
            self.connection = Some(connection);
        }
        outcome.map_err(|error| StoreError::Busy(error.to_string()))
    }

    fn close(mut self) {
        for reader in self.readers.drain(..) {
            // A reader that panicked has nothing left to close.
            let _ = reader.join();
        }
        let outcome = self.connection.take().map_or(Ok(()), |connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            connection.close().map_err(|(_, error)| error)
        });
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
/// After an error nothing of them may be believed to be durable.
fn transact(connection: &Connection, jobs: &mut [Box<dyn Job>]) -> Result<(), rusqlite::Error> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let done = jobs.iter_mut().try_for_each(|job| attempt(connection, job.as_mut()));
    let outcome = done.and_then(|()| connection.execute_batch("COMMIT"));
    if outcome.is_err() && !connection.is_autocommit() {
        // If this fails as well, the connection is dropped, and that rolls back.
        let _ = connection.execute_batch("ROLLBACK");
    }
    outcome
}

/// Fails if the transaction itself is lost: a full disk, for one, makes SQLite roll back everything on its own.
fn attempt(connection: &Connection, job: &mut dyn Job) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
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
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::store::sqlite::{files, job};

    type Work = Box<dyn FnOnce(&Connection) -> Result<(), StoreError> + Send>;

    fn writer(path: &Path) -> (Writer, Sender<Message>) {
        let (sender, queue) = channel();
        files::prepare(path).unwrap();
        let connection = schema::connect_writer(path).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        let writer = Writer {
            path: path.to_owned(),
            connection: Some(connection),
            queue,
            readers: Vec::new(),
            lock: files::lock(path).unwrap(),
            closed: oneshot::channel().0,
        };
        (writer, sender)
    }

    fn probe(at: i64) -> impl FnOnce(&Connection) -> Result<(), StoreError> + Send {
        move |db| {
            db.execute(
                "INSERT INTO sessions (id, tenant, user, caller, provider, scopes, user_code, progress, created_at, expires_at)
                 VALUES (?1, '', '', '', '', '', '', 'pending', 0, 0)",
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
