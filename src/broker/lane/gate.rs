//! Shut for a while, longer each time; when the time is over one probe may pass, and what becomes of it decides.

use std::time::{Duration, Instant};

/// How soon to come again while somebody else's probe is under way.
const PROBE_UNDER_WAY: Duration = Duration::from_secs(1);

/// A gate that is open until something shuts it.
#[derive(Debug)]
pub(super) struct Gate {
    /// How long it stays shut: the first time, the second …; the last one again and again.
    waits: &'static [Duration],
    shut: Option<Shut>,
}

#[derive(Debug)]
struct Shut {
    since: Instant,
    until: Instant,
    step: usize,
    probing: bool,
}

impl Gate {
    pub(super) const fn new(waits: &'static [Duration]) -> Self {
        Self { waits, shut: None }
    }

    pub(super) const fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    /// When to come again; `None` if one may pass now.
    pub(super) fn again_at(&self, now: Instant) -> Option<Instant> {
        let shut = self.shut.as_ref()?;
        if shut.probing { Some(now + PROBE_UNDER_WAY) } else { Some(shut.until).filter(|&until| now < until) }
    }

    /// Since when it is shut, whatever probes have found.
    pub(super) fn shut_since(&self) -> Option<Instant> {
        Some(self.shut.as_ref()?.since)
    }

    /// When the next probe may go, if that is to come.
    pub(super) fn probed_at(&self, now: Instant) -> Option<Instant> {
        Some(self.shut.as_ref()?.until).filter(|&until| now < until)
    }

    /// Somebody passes. Says whether it is the probe.
    pub(super) const fn pass(&mut self) -> bool {
        let Some(shut) = &mut self.shut else { return false };
        shut.probing = true;
        true
    }

    /// Shuts it for the first wait, unless it is shut already.
    pub(super) fn shut(&mut self, now: Instant) {
        if self.shut.is_none() {
            self.shut = Some(Shut { since: now, until: now + self.waits[0], step: 0, probing: false });
        }
    }

    /// The probe failed: shut for longer.
    pub(super) fn shut_longer(&mut self, now: Instant) {
        let Some(shut) = &mut self.shut else { return };
        let step = (shut.step + 1).min(self.waits.len() - 1);
        *shut = Shut { since: shut.since, until: now + self.waits[step], step, probing: false };
    }

    /// The probe told nothing: the next one may go at once.
    pub(super) const fn probe_again(&mut self) {
        if let Some(shut) = &mut self.shut {
            shut.probing = false;
        }
    }

    /// All is well.
    pub(super) fn open(&mut self) {
        self.shut = None;
    }
}
