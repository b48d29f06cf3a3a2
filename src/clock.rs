//! Where the shell gets now from; everything below it takes the time as an argument.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::model::time::{Moment, Readings, Timestamp, Uptime};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;

    /// How long the system has been up, with the time it slept.
    fn boot(&self) -> Uptime;

    /// How long the system has been up, without the time it slept.
    fn mono(&self) -> Uptime;

    /// Now, by the wall clock and by one that nobody can set.
    fn moment(&self) -> Moment {
        Moment { wall: self.now(), boot: self.boot() }
    }

    /// Now, by every clock, as close together as they can be read.
    fn readings(&self) -> Readings {
        let mut readings = self.read_all();
        for _ in 0..READ_AGAIN {
            if self.mono().since(readings.mono) < READ_TOGETHER {
                break;
            }
            readings = self.read_all();
        }
        readings
    }

    /// Now, by one clock after the other. Whoever reads can be held up in between.
    #[doc(hidden)]
    fn read_all(&self) -> Readings {
        let mono = self.mono();
        Readings { wall: self.now(), boot: self.boot(), mono }
    }
}

/// How long reading all clocks may take, for them to count as read together.
const READ_TOGETHER: Duration = Duration::from_millis(100);

/// How often clocks are read again that were not read together. On a machine so busy the last reading has to do.
const READ_AGAIN: usize = 3;

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn boot(&self) -> Uptime {
        uptime(BOOT)
    }

    fn mono(&self) -> Uptime {
        uptime(ClockId::Monotonic)
    }
}

#[cfg(any(target_os = "android", target_os = "linux"))]
const BOOT: ClockId = ClockId::Boottime;
/// Where there is no such clock, waking up looks like a clock that was set, which is met in the same way.
#[cfg(not(any(target_os = "android", target_os = "linux")))]
const BOOT: ClockId = ClockId::Monotonic;

fn uptime(clock: ClockId) -> Uptime {
    let read = clock_gettime(clock);
    let seconds = Duration::from_secs(u64::try_from(read.tv_sec).unwrap_or_default());
    Uptime::from_duration(seconds + Duration::from_nanos(u64::try_from(read.tv_nsec).unwrap_or_default()))
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock(Mutex<Readings>);

impl ManualClock {
    /// A clock that shows `now`, on a system that has been up for a day.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        let up = Uptime::from_duration(Duration::from_secs(24 * 60 * 60));
        Self(Mutex::new(Readings { wall: now, boot: up, mono: up }))
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        self.change(|hands| {
            hands.mono = hands.mono.after(span);
            asleep(hands, span);
        });
    }

    /// Lets time pass while the system sleeps.
    pub fn suspend(&self, span: Duration) {
        self.change(|hands| asleep(hands, span));
    }

    /// Sets the wall clock `by` milliseconds forward or, below zero, back.
    pub fn jump(&self, by: i64) {
        self.change(|hands| hands.wall = Timestamp::from_millis(hands.wall.as_millis().saturating_add(by)));
    }

    fn change(&self, change: impl FnOnce(&mut Readings)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn hands(&self) -> Readings {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn asleep(hands: &mut Readings, span: Duration) {
    hands.boot = hands.boot.after(span);
    hands.wall = hands.wall.after(span);
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands().wall
    }

    fn boot(&self) -> Uptime {
        self.hands().boot
    }

    fn mono(&self) -> Uptime {
        self.hands().mono
    }

    fn moment(&self) -> Moment {
        let Readings { wall, boot, mono: _ } = self.hands();
        Moment { wall, boot }
    }

    fn read_all(&self) -> Readings {
        self.hands()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_clocks_agree_and_go_on() {
        let (first, second) = (SystemClock.readings(), SystemClock.readings());
        assert!(first.boot >= first.mono, "{first:?}");
        assert!(second.boot >= first.boot && second.mono >= first.mono, "{first:?} {second:?}");
        assert!(first.wall > Timestamp::from_secs(1_700_000_000), "{first:?}");
    }

    #[test]
    fn each_hand_of_a_manual_clock_moves_when_it_should() {
        let clock = ManualClock::at(Timestamp::from_secs(1000));
        let before = clock.readings();
        clock.advance(Duration::from_secs(10));
        clock.suspend(Duration::from_secs(100));
        clock.jump(-50_000);
        let after = clock.readings();
        assert_eq!(after.mono.since(before.mono), Duration::from_secs(10));
        assert_eq!(after.boot.since(before.boot), Duration::from_secs(110));
        assert_eq!(after.wall, Timestamp::from_secs(1060));
    }
}
