//! A clock that the trial sets forward, so that nobody waits for what a provider's own clock decides.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::model::time::{Timestamp, Uptime};

/// The system's clock, and by how many milliseconds it is ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead(AtomicU64);

impl Ahead {
    /// Lets time pass.
    pub(super) fn advance(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn by(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().after(self.by())
    }

    fn boot(&self) -> Uptime {
        SystemClock.boot().after(self.by())
    }

    fn mono(&self) -> Uptime {
        SystemClock.mono().after(self.by())
    }
}
