//! Asks until it is decided: at the provider's pace and never faster, less often when there is no answer, and no longer than
//! the code lives (RFC 8628 section 3.5).

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::model::time::Timestamp;
use crate::oauth::answer::TokenAnswer;
use crate::oauth::device::Polled;
use crate::oauth::refused::Refused;

/// How much longer the pauses get when the provider finds them too short.
const STEP: Duration = Duration::from_secs(5);
/// The longest pause after polls without an answer, unless the interval itself is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How long the pauses between two polls are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval: Duration,
    unanswered: u32,
}

/// How it ended.
#[derive(Debug)]
pub enum Followed {
    /// The person said no.
    Denied,
    /// Nobody said anything while the code lived.
    Expired,
    /// The provider no longer knows the code, and its time is not over. It was spent, as a rule: the answer to a poll was lost.
    Gone,
    /// It will never bring anything.
    Refused(Refused),
    /// Whoever follows it stopped.
    Stopped,
    /// The person said yes.
    Tokens {
        /// What came.
        answer: TokenAnswer,
        /// When it was asked for; lifetimes count from here.
        sent_at: Timestamp,
    },
}

impl Pace {
    /// The pace that the provider asked for.
    #[must_use]
    pub const fn of(interval: Duration) -> Self {
        Self { interval, unanswered: 0 }
    }

    /// The pace of one who goes on after a break: whether the provider has asked for more meanwhile is not known.
    #[must_use]
    pub fn resumed(interval: Duration) -> Self {
        Self::of(interval.saturating_add(STEP))
    }

    fn pause(self) -> Duration {
        let doubled = self.interval.saturating_mul(1 << self.unanswered.min(8));
        doubled.min(BACKOFF_MAX).max(self.interval)
    }

    fn slow_down(&mut self, asked: Option<Duration>) {
        self.interval = self.interval.saturating_add(STEP).max(asked.unwrap_or_default());
    }
}

/// Polls with `ask` until the person has decided or the code dies at `until`. `rest` waits for so long and says whether to
/// go on.
pub async fn follow<N, R, Resting, A, Asking>(mut pace: Pace, until: Timestamp, now: N, rest: R, ask: A) -> Followed
where
    N: Fn() -> Timestamp,
    R: Fn(Duration) -> Resting,
    Resting: Future<Output = ControlFlow<()>>,
    A: Fn() -> Asking,
    Asking: Future<Output = Polled>,
{
    let mut pause = pace.pause();
    loop {
        if rest(pause.min(until.until(now()))).await.is_break() {
            return Followed::Stopped;
        }
        let sent_at = now();
        if sent_at >= until {
            return Followed::Expired;
        }
        let polled = ask().await;
        let answered = !matches!(polled, Polled::Unanswered(_));
        pace.unanswered = if answered { 0 } else { pace.unanswered.saturating_add(1) };
        let mut at_least = Duration::ZERO;
        match polled {
            Polled::Denied => return Followed::Denied,
            Polled::Expired if now() < until => return Followed::Gone,
            Polled::Expired => return Followed::Expired,
            Polled::Refused(refused) => return Followed::Refused(refused),
            Polled::Tokens(answer) => return Followed::Tokens { answer, sent_at },
            Polled::Later { after } => at_least = after.map_or(STEP, |after| after.wait(now())),
            Polled::Pending | Polled::Unanswered(_) => {}
            Polled::SlowDown { interval } => pace.slow_down(interval),
        }
        pause = pace.pause().max(at_least);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::ready;

    use super::*;
    use crate::oauth::rejection::Rejection;
    use crate::oauth::retry_after::RetryAfter;

    /// Plays a provider's answers by a clock that only moves while somebody rests. The pauses, and how it ended.
    async fn played(pace: Pace, lifetime: u64, answers: Vec<Polled>) -> (Vec<u64>, Followed) {
        let (now, pauses) = (Cell::new(Timestamp::from_secs(0)), RefCell::new(Vec::new()));
        let answers = RefCell::new(answers.into_iter());
        let rest = |pause: Duration| {
            now.set(now.get().after(pause));
            pauses.borrow_mut().push(pause.as_secs());
            ready(ControlFlow::Continue(()))
        };
        let ask = || ready(answers.borrow_mut().next().unwrap_or(Polled::Pending));
        let followed =
            follow(pace, Timestamp::from_secs(0).after(Duration::from_secs(lifetime)), || now.get(), rest, ask);
        let followed = followed.await;
        (pauses.into_inner(), followed)
    }

    fn pace() -> Pace {
        Pace::of(Duration::from_secs(5))
    }

    #[tokio::test]
    async fn the_interval_is_kept_and_the_code_outlived_by_nothing() {
        let (pauses, followed) = played(pace(), 12, vec![]).await;
        assert_eq!(pauses, [5, 5, 2]);
        assert!(matches!(followed, Followed::Expired), "{followed:?}");
    }

    #[tokio::test]
    async fn a_code_that_is_gone_before_its_time_has_not_expired() {
        let silence = Polled::Unanswered("reset");
        let (_, followed) = played(pace(), 900, vec![Polled::Pending, silence, Polled::Expired]).await;
        assert!(matches!(followed, Followed::Gone), "{followed:?}");
    }

    #[tokio::test]
    async fn whoever_is_told_to_slow_down_does_so_for_good() {
        let slower = |interval: Option<u64>| Polled::SlowDown { interval: interval.map(Duration::from_secs) };
        let answers =
            vec![Polled::Pending, slower(None), Polled::Pending, slower(Some(30)), slower(Some(1)), Polled::Denied];
        let (pauses, followed) = played(pace(), 900, answers).await;
        assert_eq!(pauses, [5, 5, 10, 10, 30, 35]);
        assert!(matches!(followed, Followed::Denied), "{followed:?}");
    }

    #[tokio::test]
    async fn without_an_answer_it_asks_less_and_less_and_with_one_as_before() {
        let silence = || Polled::Unanswered("no connection");
        let answers = vec![silence(), silence(), silence(), silence(), silence(), Polled::Pending, Polled::Expired];
        let (pauses, _) = played(pace(), 900, answers).await;
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60, 5]);
    }

    #[tokio::test]
    async fn a_provider_that_asks_for_a_pause_gets_it_once() {
        let later = |seconds| Polled::Later { after: Some(RetryAfter::In(Duration::from_secs(seconds))) };
        let answers = vec![later(90), later(1), Polled::Refused(Rejection::Denied.into())];
        let (pauses, followed) = played(pace(), 900, answers).await;
        assert_eq!(pauses, [5, 90, 5]);
        assert!(matches!(followed, Followed::Refused(_)), "{followed:?}");
    }

    #[tokio::test]
    async fn who_goes_on_after_a_break_takes_it_slower() {
        let (pauses, _) = played(Pace::resumed(Duration::from_secs(5)), 900, vec![Polled::Denied]).await;
        assert_eq!(pauses, [10]);
    }

    #[tokio::test]
    async fn whoever_stops_sends_nothing_more() {
        let asked = Cell::new(false);
        let ask = || {
            asked.set(true);
            ready(Polled::Pending)
        };
        let stop = |_| ready(ControlFlow::Break(()));
        let followed = follow(pace(), Timestamp::from_secs(900), Timestamp::default, stop, ask).await;
        assert!(matches!(followed, Followed::Stopped) && !asked.get());
    }
}
