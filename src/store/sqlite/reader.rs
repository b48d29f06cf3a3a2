//! The threads that read, each with a connection of its own, so that a long list holds up no refresh.

use std::io;
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
        let outcome = look(connection, job.as_mut()).map_err(StoreError::from);
        job.answer(outcome.as_ref().copied());
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
