//! Polls a future again at once that woke itself while it was polled, in place of going round through the scheduler.
//!
//! A request body is handed over only after somebody asked for it, so that every request with a body wakes its own connection.
//! The scheduler takes such a task to the end of the queue and wakes another thread to share the work, which costs more than
//! answering.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// How often in a row it is polled at most before others have their turn.
const AT_ONCE: usize = 8;

/// A future that is polled again while it wakes itself.
pub(super) struct Eager<F> {
    inner: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Where wakes of the inner future arrive.
#[derive(Debug, Default)]
struct Bell {
    /// The task.
    task: AtomicWaker,
    /// Whether the future is being polled: then whoever polls it looks at `rung` afterwards.
    polling: AtomicBool,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// The order matters: who does not see that the polling is over has rung before it was.
    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl<F> Eager<F> {
    pub(super) fn new(inner: F) -> Self {
        let bell = Arc::new(Bell::default());
        Self { inner: Box::pin(inner), waker: Waker::from(Arc::clone(&bell)), bell }
    }
}

impl<F: Future> Future for Eager<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.bell.task.register(cx.waker());
        for _ in 0..AT_ONCE {
            this.bell.polling.store(true, Ordering::SeqCst);
            this.bell.rung.store(false, Ordering::SeqCst);
            let polled = this.inner.as_mut().poll(&mut Context::from_waker(&this.waker));
            this.bell.polling.store(false, Ordering::SeqCst);
            if polled.is_ready() {
                return polled;
            }
            if !this.bell.rung.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Wakes itself so often before it is ready.
    fn self_waking(mut times: usize) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            if times == 0 {
                return Poll::Ready(());
            }
            times -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn what_wakes_itself_is_polled_at_once_and_lets_others_in_between_after_a_while() {
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        for (times, turns) in [(0, 1), (1, 1), (AT_ONCE - 1, 1), (AT_ONCE, 2), (3 * AT_ONCE, 4)] {
            let before = woken.0.load(Ordering::SeqCst);
            let mut eager = std::pin::pin!(Eager::new(self_waking(times)));
            let mut taken = 1;
            while eager.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                taken += 1;
            }
            assert_eq!(taken, turns, "{times}");
            assert_eq!(woken.0.load(Ordering::SeqCst) - before, turns - 1, "{times}: each turn was asked for");
        }
    }

    /// Whenever a wake comes, before, during or after a poll, it is not lost.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_is_lost() {
        const MESSAGES: usize = 50_000;
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let reading = tokio::spawn(Eager::new(async move {
            let mut sum = 0;
            while let Some(number) = receiver.recv().await {
                sum += number;
            }
            sum
        }));
        let writing = tokio::spawn(Eager::new(async move {
            for number in 0..MESSAGES {
                sender.send(number).await.unwrap();
            }
        }));
        let both = async { (reading.await.unwrap(), writing.await.unwrap()).0 };
        let sum = tokio::time::timeout(Duration::from_secs(60), both).await.expect("a wake was lost");
        assert_eq!(sum, MESSAGES * (MESSAGES - 1) / 2);
    }
}
