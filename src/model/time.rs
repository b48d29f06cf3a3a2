//! Points in time as values: arithmetic that cannot overflow, and no way to ask what time it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The point `seconds` seconds after the Unix epoch.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This much later; the end of time if that cannot be told.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This much earlier; the beginning of time if that cannot be told.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long from `earlier` to this point; zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// How long from `now` until this point; zero if it has passed.
    #[must_use]
    pub fn until(self, now: Self) -> Duration {
        self.since(now)
    }
}

/// A point on a clock that nobody can set: how long after the system started, or after whatever that clock counts from. It
/// means nothing after a restart of the system.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uptime(Duration);

impl Uptime {
    /// The point this long after the clock began.
    #[must_use]
    pub const fn from_duration(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// This much later; the end of time if that cannot be told.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long from `earlier` to this point; zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long from `now` until this point; zero if it has passed.
    #[must_use]
    pub const fn until(self, now: Self) -> Duration {
        self.since(now)
    }
}

/// One moment by two clocks: the one that is written down, and the one that nobody can set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// Time since the system started, with the time it slept.
    pub boot: Uptime,
}

/// One moment by every clock there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Readings {
    /// The wall clock, which can be set.
    pub wall: Timestamp,
    /// Time since the system started, with the time it slept.
    pub boot: Uptime,
    /// Time since the system started, without the time it slept.
    pub mono: Uptime,
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_overflowing() {
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert_eq!(Timestamp::from_secs(i64::MAX), end);
        assert_eq!(Timestamp::from_millis(i64::MIN).since(end), Duration::ZERO);
    }

    #[test]
    fn seconds_round_down_on_both_sides_of_the_epoch() {
        for (millis, seconds) in [(1999, 1), (2000, 2), (-1, -1), (-1000, -1)] {
            assert_eq!(Timestamp::from_millis(millis).as_secs(), seconds, "{millis}");
        }
    }
}
