//! The circuit breaker: a token endpoint that cannot be reached is left alone, and asked again by one probe at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::broker::lane::gate::Gate;

/// How far back it looks.
const SPAN: Duration = Duration::from_secs(30);
/// How finely it counts.
const GRAIN: Duration = Duration::from_secs(1);
/// It never opens for fewer failures than these.
const FAILURES: u32 = 10;
/// How long it is open before each probe.
const WAITS: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_secs(60),
];

/// Opens at ten failures that are at least half of what was tried within thirty seconds.
#[derive(Debug)]
pub(super) struct Breaker {
    counts: VecDeque<Count>,
    pub(super) gate: Gate,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    answered: u32,
    failed: u32,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self { counts: VecDeque::new(), gate: Gate::new(&WAITS) }
    }

    /// The provider said something, whatever it was.
    pub(super) fn answered(&mut self, probe: bool, now: Instant) {
        if probe && self.gate.is_shut() {
            self.gate.open();
            self.counts.clear();
        }
        self.count(now).answered += 1;
    }

    /// The provider could not be reached or said nothing that makes sense.
    pub(super) fn failed(&mut self, probe: bool, now: Instant) {
        if probe {
            self.gate.shut_longer(now);
        }
        self.count(now).failed += 1;
        let (failed, all) = self
            .counts
            .iter()
            .fold((0, 0), |(failed, all), count| (failed + count.failed, all + count.failed + count.answered));
        if failed >= FAILURES && failed * 2 >= all {
            self.gate.shut(now);
        }
    }

    fn count(&mut self, now: Instant) -> &mut Count {
        self.counts.retain(|count| now.saturating_duration_since(count.since) < SPAN);
        let current = self.counts.back().is_some_and(|count| now.saturating_duration_since(count.since) < GRAIN);
        if !current {
            self.counts.push_back(Count { since: now, answered: 0, failed: 0 });
        }
        self.counts.back_mut().expect("one was pushed when there was none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn it_opens_at_ten_failures_that_are_half_of_thirty_seconds() {
        // Answers, failures, seconds between two of them, and whether that opens it.
        for (answered, failed, gap, opens) in [
            (0, 9, 0, false),
            (0, 10, 0, true),
            (10, 10, 0, true),
            (11, 10, 0, false),
            (0, 10, 3, true),
            (0, 10, 4, false),
            (100, 100, 0, true),
            (1000, 500, 0, false),
        ] {
            let (start, mut breaker) = (Instant::now(), Breaker::new());
            for _ in 0..answered {
                breaker.answered(false, start);
            }
            for number in 0..failed {
                breaker.failed(false, after(start, number * gap));
            }
            assert_eq!(breaker.gate.is_shut(), opens, "{answered} answered, {failed} failed, {gap} s apart");
        }
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let (start, mut breaker) = (Instant::now(), Breaker::new());
        for _ in 0..9 {
            breaker.failed(false, start);
        }
        breaker.failed(false, after(start, 30));
        assert!(!breaker.gate.is_shut());
        assert!(breaker.counts.len() <= 31);
    }

    #[test]
    fn the_waits_between_probes_grow_to_a_minute() {
        let (start, mut breaker) = (Instant::now(), Breaker::new());
        for _ in 0..10 {
            breaker.failed(false, start);
        }
        let mut now = start;
        for seconds in [5, 10, 20, 40, 60, 60, 60] {
            let until = breaker.gate.again_at(now).unwrap();
            assert_eq!(until - now, Duration::from_secs(seconds));
            now = until;
            assert_eq!(breaker.gate.again_at(now), None);
            assert!(breaker.gate.pass());
            assert!(breaker.gate.again_at(now).is_some(), "one probe at a time");
            breaker.failed(true, now);
        }
    }

    #[test]
    fn only_the_probe_closes_it_and_then_it_counts_anew() {
        let (start, mut breaker) = (Instant::now(), Breaker::new());
        for _ in 0..20 {
            breaker.failed(false, start);
        }
        breaker.answered(false, start);
        assert!(breaker.gate.is_shut(), "an answer to what was sent before does not close it");
        breaker.gate.pass();
        breaker.answered(true, after(start, 5));
        for _ in 0..9 {
            breaker.failed(false, after(start, 5));
        }
        assert!(!breaker.gate.is_shut());
    }
}
