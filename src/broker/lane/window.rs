//! At most so many within a span of time, whichever span of that length one looks at.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When things happened, as far back as it matters. A token bucket would let through twice its burst in the first span; this
/// never lets through more than what is allowed.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Instant>);

impl Window {
    /// `None` if one more may happen now, else when it may. `most` is at least one.
    pub(super) fn again_at(&mut self, most: usize, span: Duration, now: Instant) -> Option<Instant> {
        while self.0.front().is_some_and(|&then| now.saturating_duration_since(then) >= span) {
            self.0.pop_front();
        }
        let last_in_the_way = self.0.len().checked_sub(most.max(1))?;
        self.0.get(last_in_the_way).map(|&then| then + span)
    }

    /// One more has happened.
    pub(super) fn take(&mut self, now: Instant) {
        self.0.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_second_holds_more_than_is_allowed() {
        let (start, mut window, mut taken) = (Instant::now(), Window::default(), Vec::new());
        for millis in (0..5_000).step_by(7) {
            let now = start + Duration::from_millis(millis);
            match window.again_at(10, SECOND, now) {
                None => {
                    window.take(now);
                    taken.push(now);
                }
                Some(again) => assert!(again > now && again <= now + SECOND),
            }
        }
        assert!(taken.len() >= 45, "{} in five seconds: what is allowed is used", taken.len());
        for &first in &taken {
            let within = taken.iter().filter(|&&then| then >= first && then < first + SECOND).count();
            assert!(within <= 10, "{within} in one second");
        }
    }

    #[test]
    fn the_time_to_come_again_is_the_first_at_which_it_works() {
        let (start, mut window) = (Instant::now(), Window::default());
        for millis in [0, 100, 200] {
            window.take(start + Duration::from_millis(millis));
        }
        let now = start + Duration::from_millis(300);
        assert_eq!(window.again_at(4, SECOND, now), None);
        assert_eq!(window.again_at(3, SECOND, now), Some(start + SECOND));
        assert_eq!(window.again_at(2, SECOND, now), Some(start + Duration::from_millis(1100)));
        assert_eq!(window.again_at(3, SECOND, start + SECOND), None);
    }
}
