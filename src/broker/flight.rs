//! Single flight: callers who want the same refresh share one.
//!
//! Providers that rotate refresh tokens take a second use of the old one for theft and may revoke everything (RFC 9700
//! section 4.14). Two refreshes of one grant must therefore never overlap, and a refresh that has begun must finish even when
//! nobody waits for it any more: it runs on a task of its own.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// One run at a time per key; everyone who asks meanwhile shares its outcome.
#[derive(Debug)]
pub struct Flights<K, V> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    tasks: TaskTracker,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Flights whose tasks are counted by `tasks`, so that a shutdown can wait for them.
    #[must_use]
    pub fn new(tasks: TaskTracker) -> Self {
        Self { under_way: Arc::default(), tasks }
    }

    /// Joins the run for `key`, or starts it. `None` if the run panicked.
    pub async fn join<F>(&self, key: &K, run: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut outcome = self.start(key, run);
        outcome.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Starts the run for `key` unless there is one, and does not wait for it.
    pub fn start<F>(&self, key: &K, run: impl FnOnce() -> F) -> watch::Receiver<Option<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = under_way.get(key).filter(|_| is_shared()) {
            return outcome.clone();
        }
        let (sender, outcome) = watch::channel(None);
        under_way.insert(key.clone(), outcome.clone());
        let landing = Landing { under_way: Arc::clone(&self.under_way), key: key.clone() };
        let run = run();
        self.tasks.spawn(async move {
            let landed = run.await;
            // Out of the map first: whoever asks from now on sees what this run has changed, or starts a new one.
            drop(landing);
            sender.send_replace(Some(landed));
        });
        outcome
    }

    /// Whether there is a run for `key`.
    #[must_use]
    pub fn is_under_way(&self, key: &K) -> bool {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// How many runs there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Whether whoever comes later joins the run. Always, unless a test has turned that off to see what it is good for.
fn is_shared() -> bool {
    failpoint!("control.many_flights", false);
    true
}

/// Takes the run out of the map however it ends, a panic included.
struct Landing<K: Eq + Hash, V> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn flights() -> Flights<&'static str, usize> {
        Flights::new(TaskTracker::new())
    }

    #[tokio::test]
    async fn a_hundred_callers_share_one_run() {
        let (flights, runs) = (Arc::new(flights()), Arc::new(AtomicUsize::new(0)));
        let callers = (0..100).map(|_| {
            let (flights, runs) = (Arc::clone(&flights), Arc::clone(&runs));
            tokio::spawn(async move {
                flights
                    .join(&"key", || async move {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        runs.fetch_add(1, Ordering::SeqCst)
                    })
                    .await
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            assert_eq!(caller.await.unwrap(), Some(0));
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn a_run_goes_on_when_its_caller_hangs_up() {
        let (flights, runs) = (flights(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&runs);
        let hung_up = flights.join(&"key", || async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            counted.fetch_add(1, Ordering::SeqCst)
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), hung_up).await.is_err());
        flights.tasks.close();
        flights.tasks.wait().await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_panic_frees_the_key_and_is_told_to_whoever_waits() {
        let flights = flights();
        assert_eq!(flights.join(&"key", || async { panic!("on purpose") }).await, None);
        assert_eq!(flights.join(&"key", || async { 7 }).await, Some(7));
    }
}
