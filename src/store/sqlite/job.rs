//! One piece of work for a thread of the store, and the way its outcome takes back to whoever waits.

use std::sync::mpsc::Sender;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::store::StoreError;
use crate::store::sqlite::error::closed;

/// What a thread is sent.
pub(super) enum Message {
    /// Do this.
    Work(Box<dyn Job>),
    /// Finish what came before this, and end.
    Close,
}

/// Work that can be done and answered without knowing what it is.
pub(super) trait Job: Send {
    /// Does the work. Says whether what it wrote is to stay.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Tells the outcome, or why it is void. Nobody need be listening any more.
    fn answer(self: Box<Self>, durable: Result<(), &StoreError>);
}

struct Task<T, W> {
    work: Option<W>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W> Job for Task<T, W>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        let outcome = work(connection);
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, durable: Result<(), &StoreError>) {
        let outcome = match durable {
            Ok(()) => self.outcome.unwrap_or_else(|| Err(closed())),
            Err(error) => Err(copy(error)),
        };
        // Whoever asked may have gone; what was written is written.
        let _ = self.reply.send(outcome);
    }
}

/// Sends `work` to the thread behind `queue` and waits. Once it is sent it will be done, whether or not anybody still waits.
pub(super) async fn submit<T, W>(queue: &Sender<Message>, work: W) -> Result<T, StoreError>
where
    T: Send + 'static,
    W: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
{
    let (reply, outcome) = oneshot::channel();
    let task = Task { work: Some(work), outcome: None, reply };
    queue.send(Message::Work(Box::new(task))).map_err(|_| closed())?;
    outcome.await.unwrap_or_else(|_| Err(closed()))
}

fn copy(error: &StoreError) -> StoreError {
    match error {
        StoreError::Busy(why) => StoreError::Busy(why.clone()),
        StoreError::Damaged(what) => StoreError::Damaged(what.clone()),
    }
}
