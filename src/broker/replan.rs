//! What is done when the wall clock was set or the system slept: memory is dropped, and what was planned is planned again.
//!
//! Times in the store are wall clock times. When the clock is set back, what was written before says that tokens live longer
//! than they do. Those that seem to have been issued in the future are found in the store and given up; the others are read
//! as if the clock had not been set back. How far it was is kept beside the store, so that a restart forgets nothing and an
//! old copy that is put back is read in the same way.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::renew::LEASE;
use crate::broker::ticker::{Ticker, TimeEvent};
use crate::clock::Clock;
use crate::model::time::{Moment, Timestamp, Uptime};
use crate::model::token::{self, FUTURE_MARGIN};
use crate::store::StoreError;
use crate::store::records::{Replan, Setback};

/// Over how long renewals are spread that all became due in one moment.
const SPREAD: Duration = Duration::from_secs(300);

/// The longest that a provider may keep us waiting after a failure. Who waits longer was put off by another clock.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// No access token lives longer: ten years.
const ANY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// For how long what was under way when the clock was set may still write times by the old one.
const STRAGGLERS: Duration = Duration::from_secs(120);

/// What the broker knows about its clocks.
#[derive(Debug)]
pub(super) struct Timing(Mutex<Known>);

#[derive(Debug)]
struct Known {
    ticker: Ticker,
    setback: Option<Setback>,
    /// Whether the store has still to be told of the setback.
    unnoted: bool,
    /// The store has to be looked through until then; `None` if it has been.
    unplanned: Option<Uptime>,
    /// Whether the clock has been set back since it was looked through.
    set_back: bool,
}

impl Timing {
    /// The clocks as they are now. The store may come from a time when they were others.
    pub(super) fn new(clock: &dyn Clock) -> Self {
        let readings = clock.readings();
        Self(Mutex::new(Known {
            ticker: Ticker::new(readings),
            setback: None,
            unnoted: false,
            unplanned: Some(readings.boot),
            set_back: false,
        }))
    }

    /// An earlier run has seen how far the clock was set back. What was put back since has times of the clock as it was,
    /// whatever they say.
    fn recall(&self, noted: Setback, put_back_at: Option<Timestamp>) {
        let mut known = self.known();
        let until = put_back_at.map_or(noted.until, |at| noted.until.max(at));
        known.setback = Some(Setback { until, ..noted });
        known.unnoted = until != noted.until;
    }

    /// The clock was set back while nobody was looking, nobody knows by how much, and how long ago what is stored was written:
    /// nothing of it is believed to live.
    fn mistrust(&self, clock: &dyn Clock) {
        let mut known = self.known();
        known.setback = Some(Setback { until: clock.now(), by: ANY_LIFETIME });
        (known.unnoted, known.set_back) = (true, true);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the clocks and says what happened to them.
    fn observe(&self, clock: &dyn Clock) -> Option<TimeEvent> {
        let mut known = self.known();
        // Read under the lock: readings that overtake each other would look like a clock that runs backwards.
        let readings = clock.readings();
        let event = known.ticker.observe(readings)?;
        if let TimeEvent::Jumped { by } = event {
            let setback = after_jump(known.setback, by, readings.wall);
            known.unnoted |= setback != known.setback;
            known.setback = setback;
            known.set_back |= by < 0;
        }
        known.unplanned = Some(readings.boot.after(STRAGGLERS));
        Some(event)
    }

    /// When a token with these stored times dies, by the clock that nobody can set.
    pub(super) fn dies_at(&self, issued_at: Timestamp, expires_at: Option<Timestamp>, now: Moment) -> Option<Uptime> {
        let setback = self.known().setback;
        let wall = match setback {
            Some(setback) if issued_at < setback.until => now.wall.after(setback.by),
            // No margin: what is known to have been set back made every one of these times.
            Some(_) if issued_at > now.wall => return expires_at.and(Some(now.boot)),
            _ => now.wall,
        };
        token::dies_at(issued_at, expires_at, Moment { wall, ..now })
    }
}

/// How far behind the clock is after another jump. A jump forward makes good what was lost, and no more.
fn after_jump(setback: Option<Setback>, by: i64, now: Timestamp) -> Option<Setback> {
    let behind = setback.map_or(Duration::ZERO, |setback| setback.by);
    let step = Duration::from_millis(by.unsigned_abs());
    if by < 0 {
        return Some(Setback { until: now, by: behind + step });
    }
    setback.and_then(|setback| Some(Setback { by: behind.checked_sub(step).filter(|by| !by.is_zero())?, ..setback }))
}

impl Broker {
    /// Compares the wall clock with what an earlier run has seen of it. If it was set back meanwhile, what is stored is
    /// renewed before it is handed out; if it was set back before, it is known how far. To be called before anything is
    /// handed out.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn check_clock(&self) -> Result<(), StoreError> {
        let (seen, now) = (self.store.wall_before().await?, self.clock.now());
        if let Some(seen) = seen.filter(|seen| now < seen.before(FUTURE_MARGIN)) {
            let behind = seen.since(now);
            warn!(
                "The clock was set back by {behind:?} or more since the last run: every stored token is renewed before it is handed out"
            );
            self.timing.mistrust(&*self.clock);
            return Ok(());
        }
        let Some(noted) = self.store.setback().await? else { return Ok(()) };
        // Found by this clock. One that was found later than now was found by another, and is known to this one by then.
        let put_back_at = self.store.hold().await?.map(|hold| hold.found_at).filter(|at| *at <= now);
        self.timing.recall(noted, put_back_at);
        Ok(())
    }

    /// Looks at the clocks, and if they did something unusual plans again. To be called every second, and harmless at any
    /// other time.
    ///
    /// # Errors
    /// If the store cannot be used; what was not done is done the next time.
    pub async fn keep_time(&self) -> Result<(), BrokerError> {
        self.look_at_clocks();
        // What is planned again does not wait for it: a disk that takes no mark may take the rest.
        let noted = self.note_setback().await;
        let (until, set_back) = {
            let known = self.timing.known();
            (known.unplanned, known.set_back)
        };
        let Some(until) = until else { return Ok(noted?) };
        self.replan(set_back).await?;
        let mut known = self.timing.known();
        // It may have happened again meanwhile.
        if known.unplanned == Some(until) && self.clock.boot() >= until {
            (known.unplanned, known.set_back) = (None, false);
        }
        drop(known);
        Ok(noted?)
    }

    /// Looks at the clocks before anything is judged by them. What memory holds is dropped if they did something unusual.
    pub(super) fn look_at_clocks(&self) {
        let Some(event) = self.timing.observe(&*self.clock) else { return };
        self.cache.clear();
        match event {
            TimeEvent::Jumped { by } => {
                let direction = if by < 0 { "back" } else { "forward" };
                let by = Duration::from_millis(by.unsigned_abs());
                warn!("The clock was set {direction} by {by:?}; everything is planned again");
            }
            TimeEvent::Resumed { after } => {
                warn!("The system slept for {after:?}; everything is looked at again");
            }
        }
    }

    /// Tells the store how far the clock was set back, unless it knows.
    async fn note_setback(&self) -> Result<(), StoreError> {
        let (setback, unnoted) = {
            let known = self.timing.known();
            (known.setback, known.unnoted)
        };
        if !unnoted {
            return Ok(());
        }
        self.store.note_setback(setback).await?;
        let mut known = self.timing.known();
        // It may have been set again meanwhile.
        known.unnoted &= known.setback != setback;
        Ok(())
    }

    /// Plans again what was planned by a clock that was ahead of this one. Costs nothing if there is nothing.
    async fn replan(&self, set_back: bool) -> Result<(), BrokerError> {
        let mut replanned = 0;
        // Where the clock was ever ahead, what seems to come from the future was not slewed there.
        let was_ahead = set_back || self.timing.known().setback.is_some();
        loop {
            let now = self.clock.now();
            let plan = Replan {
                now,
                believed_until: if was_ahead { now } else { now.after(FUTURE_MARGIN) },
                waits_until: now.after(if set_back { SPREAD } else { WAIT_MAX }),
                leased_until: now.after(LEASE),
                spread: SPREAD,
            };
            match self.store.replan(&plan).await? {
                0 => break,
                some => replanned += some,
            }
        }
        if replanned > 0 {
            self.cache.clear();
            info!(
                grants = replanned,
                "Planned {replanned} grants again that were stamped by a clock ahead of this one"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn what_was_written_before_a_setback_is_read_by_the_clock_that_wrote_it() {
        let start = Timestamp::from_secs(1_800_000_000);
        let (clock, minutes) = (ManualClock::at(start), |minutes: u64| Duration::from_secs(minutes * 60));
        let timing = Timing::new(&clock);
        let left = |issued_at: Timestamp| {
            let now = clock.moment();
            timing.dies_at(issued_at, Some(issued_at.after(minutes(180))), now).unwrap().since(now.boot)
        };
        let old = start.before(minutes(120));
        assert_eq!(left(old), minutes(60));

        clock.jump(-HOUR);
        timing.observe(&clock).unwrap();
        assert_eq!(left(old), minutes(60), "issued before");
        for ahead in [60, 30, 1] {
            assert_eq!(left(start.before(minutes(60 - ahead))), Duration::ZERO, "issued {ahead} minutes in the future");
        }
        assert_eq!(left(clock.now().after(Duration::from_secs(1))), Duration::ZERO, "issued in a second");
        assert_eq!(left(clock.now()), minutes(180), "issued at once");
        clock.advance(minutes(10));
        assert_eq!(left(old), minutes(50), "issued before, a little later");
        assert_eq!(left(clock.now()), minutes(180), "issued since");

        clock.jump(HOUR / 2);
        timing.observe(&clock).unwrap();
        assert_eq!(left(old), minutes(50), "half of it was made good");
        clock.jump(HOUR);
        timing.observe(&clock).unwrap();
        assert_eq!(left(old), minutes(20), "a clock that is ahead is believed");
        assert_eq!(left(clock.now()), minutes(180));
    }

    #[test]
    fn nothing_stored_is_believed_after_a_setback_that_nobody_saw() {
        let start = Timestamp::from_secs(1_800_000_000);
        let clock = ManualClock::at(start);
        let timing = Timing::new(&clock);
        timing.mistrust(&clock);
        let is_dead = |issued_at: Timestamp| {
            let expires_at = Some(issued_at.after(Duration::from_secs(30 * 24 * 3600)));
            timing.dies_at(issued_at, expires_at, clock.moment()).unwrap() <= clock.boot()
        };
        assert!(is_dead(start.before(Duration::from_secs(1))) && is_dead(start.after(Duration::from_secs(1))));
        clock.advance(Duration::from_secs(10));
        assert!(!is_dead(clock.now()), "what comes from now on is");
    }

    #[test]
    fn what_an_earlier_run_saw_is_not_forgotten_and_holds_for_a_copy_that_is_put_back() {
        let start = Timestamp::from_secs(1_800_000_000);
        let (clock, minutes) = (ManualClock::at(start), |minutes: u64| Duration::from_secs(minutes * 60));
        let noted = Setback { until: start.before(minutes(50)), by: minutes(60) };
        for (put_back_at, issued_before, expected) in [
            (None, 90, 30),
            (None, 40, 140),
            (Some(start), 90, 30),
            (Some(start), 40, 80),
            (Some(start.before(minutes(45))), 40, 140),
            (Some(start.before(minutes(55))), 40, 140),
        ] {
            let timing = Timing::new(&clock);
            timing.recall(noted, put_back_at);
            let (now, issued_at) = (clock.moment(), start.before(minutes(issued_before)));
            let left = timing.dies_at(issued_at, Some(issued_at.after(minutes(180))), now).unwrap().since(now.boot);
            assert_eq!(left, minutes(expected), "{put_back_at:?} {issued_before}");
            let is_news = put_back_at.is_some_and(|at| at > noted.until);
            assert_eq!(timing.known().unnoted, is_news, "{put_back_at:?}");
        }
    }

    #[test]
    fn jumps_add_up() {
        let now = Timestamp::from_secs(1_800_000_000);
        let behind = |jumps: &[i64]| {
            let last = jumps.iter().fold(None, |setback, by| after_jump(setback, *by, now));
            last.map(|setback| setback.by.as_secs())
        };
        for (jumps, expected) in [
            (&[-10_000][..], Some(10)),
            (&[-10_000, -10_000], Some(20)),
            (&[-10_000, 4_000], Some(6)),
            (&[-10_000, 10_000], None),
            (&[-10_000, 20_000, -5_000], Some(5)),
            (&[10_000], None),
        ] {
            assert_eq!(behind(jumps), expected, "{jumps:?}");
        }
    }
}
