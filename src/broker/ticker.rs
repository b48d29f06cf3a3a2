//! Notices when the wall clock was set and when the system slept, from readings of three clocks: pure.

use std::time::Duration;

use crate::model::time::Readings;

/// How far the wall clock may move against the others between two readings before it counts as set. Slewing moves it by half
/// a thousandth of the time that passes.
const JUMP: Duration = Duration::from_secs(2);

/// How long a sleep has to be to count.
const SLEEP: Duration = Duration::from_secs(1);

/// What happened to time since the last reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeEvent {
    /// The wall clock was set, whether or not the system slept as well.
    Jumped {
        /// By so many milliseconds; below zero, back.
        by: i64,
    },
    /// The system slept.
    Resumed {
        /// For so long.
        after: Duration,
    },
}

/// Compares each reading with the one before. How much time lies between them does not matter.
#[derive(Clone, Copy, Debug)]
pub struct Ticker {
    last: Readings,
}

impl Ticker {
    /// Starts with a reading.
    #[must_use]
    pub const fn new(readings: Readings) -> Self {
        Self { last: readings }
    }

    /// Takes the next reading and says what happened since the last.
    pub fn observe(&mut self, readings: Readings) -> Option<TimeEvent> {
        let last = std::mem::replace(&mut self.last, readings);
        let wall = readings.wall.as_millis().saturating_sub(last.wall.as_millis());
        let (boot, mono) = (readings.boot.since(last.boot), readings.mono.since(last.mono));
        let by = wall.saturating_sub(i64::try_from(boot.as_millis()).unwrap_or(i64::MAX));
        if u128::from(by.unsigned_abs()) > JUMP.as_millis() {
            return Some(TimeEvent::Jumped { by });
        }
        let after = boot.saturating_sub(mono);
        (after > SLEEP).then_some(TimeEvent::Resumed { after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::model::time::Timestamp;

    const HOUR: i64 = 3_600_000;
    const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_happened_is_told_from_what_only_looks_like_it() {
        let eight_hours = seconds(8 * 3600);
        let jumped = |by| Some(TimeEvent::Jumped { by });
        let slept = |after| Some(TimeEvent::Resumed { after });
        for (name, passes, sleeps, set_by, expected) in [
            ("a tick", seconds(1), Duration::ZERO, 0, None),
            ("a tick that comes late", seconds(30), Duration::ZERO, 0, None),
            ("a tick that comes an hour late", seconds(3600), Duration::ZERO, 0, None),
            ("slewing forward", seconds(30), Duration::ZERO, 15, None),
            ("slewing back", seconds(30), Duration::ZERO, -15, None),
            ("a step that is no matter", seconds(1), Duration::ZERO, 2000, None),
            ("a leap second", seconds(1), Duration::ZERO, -1000, None),
            ("set forward by a little", seconds(1), Duration::ZERO, 2001, jumped(2001)),
            ("set back by a little", seconds(1), Duration::ZERO, -2001, jumped(-2001)),
            ("set forward by an hour", seconds(1), Duration::ZERO, HOUR, jumped(HOUR)),
            ("set back by an hour", seconds(1), Duration::ZERO, -HOUR, jumped(-HOUR)),
            ("set forward by ten years", seconds(1), Duration::ZERO, TEN_YEARS, jumped(TEN_YEARS)),
            ("set back by ten years", seconds(1), Duration::ZERO, -TEN_YEARS, jumped(-TEN_YEARS)),
            ("set back while a tick came late", seconds(30), Duration::ZERO, -HOUR, jumped(-HOUR)),
            ("eight hours of sleep", seconds(1), eight_hours, 0, slept(eight_hours)),
            ("a blink", seconds(1), seconds(1), 0, None),
            ("a nap", seconds(1), seconds(2), 0, slept(seconds(2))),
            ("a sleep and a clock that was set", seconds(1), eight_hours, -HOUR, jumped(-HOUR)),
        ] {
            let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
            let mut ticker = Ticker::new(clock.readings());
            clock.advance(passes);
            clock.suspend(sleeps);
            clock.jump(set_by);
            assert_eq!(ticker.observe(clock.readings()), expected, "{name}");
            clock.advance(seconds(1));
            assert_eq!(ticker.observe(clock.readings()), None, "once: {name}");
        }
    }

    #[test]
    fn years_of_slewing_are_no_jump() {
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let mut ticker = Ticker::new(clock.readings());
        for _ in 0..100_000 {
            clock.advance(seconds(10));
            clock.jump(5);
            assert_eq!(ticker.observe(clock.readings()), None);
        }
    }
}
