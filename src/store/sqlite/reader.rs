//! The threads that read, each with a connection of its own, so that a long list holds up no refresh.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::sqlite::OpenError;
use crate::store::sqlite::job::{Job, Message};
use crate::store::sqlite::schema;

/// How many there are.
pub(super) const READERS: usize = 2;

/// Starts the readers. What is sent is done by whichever is free.
pub(super) fn start(path: &Path) -> Result<(Sender<Message>, Vec<JoinHandle<()>>), OpenError> {
    let (sender, queue) = channel();
    let queue = Arc::new(Mutex::new(queue));
    let readers = (0..READERS)
        .map(|_| {
            let connection = schema::connect_reader(path)?;
            let queue = Arc::clone(&queue);
            spawn("grantd-read", move || run(&connection, &queue))
                .map_err(|source| OpenError::Io { path: path.to_owned(), source })
        })
        .collect::<Result<_, _>>()?;
    Ok((sender, readers))
}

pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn run(connection: &Connection, queue: &Mutex<Receiver<Message>>) {
    while let Some(mut job) = next(queue) {
        // The thread outlives a job that panics: its transaction is rolled back on the way, and whoever waits is told that
        // there is no answer.
        let looked = catch_unwind(AssertUnwindSafe(|| {
            let outcome = look(connection, job.as_mut()).map_err(StoreError::from);
            job.answer(outcome.as_ref().copied());
        }));
        if looked.is_err() {
            tracing::error!("A read of the store panicked");
        }
    }
}

fn next(queue: &Mutex<Receiver<Message>>) -> Option<Box<dyn Job>> {
    match queue.lock().unwrap_or_else(PoisonError::into_inner).recv() {
        Ok(Message::Work(job)) => Some(job),
        Ok(Message::Close) | Err(_) => None,
    }
}

/// In one transaction, so that a connection and its grants are of the same moment.
fn look(connection: &Connection, job: &mut dyn Job) -> Result<(), rusqlite::Error> {
    let moment = connection.unchecked_transaction()?;
    job.run(connection);
    moment.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{files, job};

    #[tokio::test]
    async fn a_reader_outlives_a_job_that_panics() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grantd.db");
        let lock = files::lock(&path).unwrap();
        files::prepare(&path, &lock).unwrap();
        let _writer = schema::connect_writer(&path).unwrap();
        let (queue, readers) = start(&path).unwrap();
        // More often than there are readers.
        for _ in 0..=READERS {
            let panicked: Result<(), StoreError> = job::submit(&queue, |_| panic!("on purpose")).await;
            assert!(matches!(panicked, Err(StoreError::Busy(_))), "{panicked:?}");
        }
        let read = job::submit(&queue, |db| Ok(db.query_row("SELECT 7", [], |row| row.get::<_, i64>(0))?)).await;
        assert_eq!(read.unwrap(), 7);
        drop(queue);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    }
}
