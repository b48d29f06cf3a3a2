//! A lane leads to one token endpoint as one client: who may send now, and who is told to come again, and when.
//!
//! A lane is shut for one of three reasons. *Broken*: the endpoint cannot be reached, so one probe at a time finds out when it
//! can. *Throttled*: the provider asked for a pause, in `Retry-After` (RFC 9110 section 10.2.3) or with a bare 429. *Registration*:
//! it refuses our client id or secret, which says nothing about any grant; where it does not say whether it means the client or a
//! grant, [`doubt`] finds out. Besides, a lane has a budget of refreshes per second
//! and a number of places. Callers who wait now go before background work in both.
//!
//! Everything here is a value: the time is an argument, and a wait is an answer.

mod breaker;
pub mod doubt;
pub mod early;
mod gate;
mod window;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use crate::broker::lane::breaker::Breaker;
use crate::broker::lane::doubt::{Doubts, Meant};
use crate::broker::lane::gate::Gate;
use crate::broker::lane::window::Window;
use crate::store::records::GrantKey;

/// How many refreshes a second a lane takes where the definition does not say: nobody is slowed.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(1000).expect("it is not zero");
const SECOND: Duration = Duration::from_secs(1);
/// How many places background work has at most.
const BACKGROUND_PLACES: usize = 64;
/// How many there are in all: callers always have those that background work cannot take.
const PLACES: usize = 128;
/// How soon to come again when every place is taken.
const FULL: Duration = Duration::from_millis(50);
/// The shortest and the longest that a provider's `Retry-After` is believed.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// The first and the longest pause after a refusal without `Retry-After`.
const THROTTLED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// How long a refused registration is left alone: an operator has to act.
const REGISTRATION: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(120), Duration::from_secs(240), Duration::from_secs(300)];
/// While other grants were answered this recently, the registration cannot be all wrong …
const ANSWERED_LATELY: Duration = Duration::from_secs(10);
/// … unless it is refused this often in a row.
const REFUSED_IN_A_ROW: u32 = 3;
/// A provider that was silent this often in a row is called unreachable.
const SILENT_AFTER: u32 = 3;

/// Who wants to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Priority {
    /// Work of the schedule: nobody waits for it.
    Background,
    /// A caller waits for the token now.
    Caller,
}

/// What became of what was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A token, or a definite word on this one grant: the provider works.
    Answered,
    /// Our registration was refused.
    Registration,
    /// Refused for now, and for how long if the provider said so.
    Throttled(Option<Duration>),
    /// Our registration or one grant was refused: the provider works, and there is nothing else to learn from it.
    Unclear,
    /// Not sent, no answer, or an answer that makes no sense.
    Unreachable,
}

/// Nothing may be sent now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wait {
    /// When to ask again. It is no promise that it works then.
    pub until: Instant,
    /// Why.
    pub why: Why,
}

/// Why nothing may be sent now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// The endpoint could not be reached lately.
    Broken,
    /// This second's refreshes are used up.
    Budget,
    /// Every place is taken.
    Full,
    /// The provider refuses our registration.
    Registration,
    /// The provider asked for a pause.
    Throttled,
}

/// What is wrong with a lane, for whoever looks at it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// What.
    pub why: Why,
    /// Since when.
    pub since: Instant,
    /// When it is tried again, if that is known and to come.
    pub until: Option<Instant>,
}

/// Every lane there is.
#[derive(Debug, Default)]
pub struct Lanes(Mutex<HashMap<Key, Arc<Lane>>>);

/// Token endpoint and client id.
type Key = (Url, Box<str>);

impl Lanes {
    /// The lane to `endpoint` as `client_id`, with a budget of `per_second` from now on.
    pub fn lane(&self, endpoint: &Url, client_id: &str, per_second: Option<NonZeroU32>) -> Arc<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry((endpoint.clone(), client_id.into())).or_default();
        lane.inner().per_second = per_second.unwrap_or(PER_SECOND);
        Arc::clone(lane)
    }

    /// Lets everybody whose registration was refused try again: the operator may have changed it. A breaker and a pause that
    /// the provider asked for stay, because they say nothing about us.
    pub fn reset_registration(&self) {
        for lane in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            lane.reset_registration();
        }
    }

    /// Forgets the lanes that nobody can take any more. Whoever is on one stays on it.
    pub fn retain(&self, keep: impl Fn(&Url, &str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(endpoint, client), _| keep(endpoint, client));
    }
}

/// The way to one token endpoint as one client.
#[derive(Debug, Default)]
pub struct Lane(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    breaker: Breaker,
    silent: Option<Silent>,
    registration: Gate,
    refused_in_a_row: u32,
    doubts: Doubts,
    answered_at: Option<Instant>,
    throttled: Throttled,
    per_second: NonZeroU32,
    sent: Window,
    callers: usize,
    background: usize,
}

/// Nothing that makes sense has come for a while. With few grants the breaker has no reason to open; it is still worth telling.
#[derive(Clone, Copy, Debug)]
struct Silent {
    since: Instant,
    failures: u32,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            breaker: Breaker::new(),
            silent: None,
            registration: Gate::new(&REGISTRATION),
            refused_in_a_row: 0,
            doubts: Doubts::default(),
            answered_at: None,
            throttled: Throttled::default(),
            per_second: PER_SECOND,
            sent: Window::default(),
            callers: 0,
            background: 0,
        }
    }
}

impl Lane {
    /// Takes a place on the lane and a share of its budget.
    ///
    /// # Errors
    /// When to come again, and why not now.
    pub fn admit(self: &Arc<Self>, who: Priority, now: Instant) -> Result<Place, Wait> {
        let mut inner = self.inner();
        if let Some(wait) = inner.hindrance(who, now) {
            return Err(wait);
        }
        inner.sent.take(now);
        *inner.places(who) += 1;
        let probe = Probe { breaker: inner.breaker.gate.pass(), registration: inner.registration.pass() };
        drop(inner);
        Ok(Place { lane: Arc::clone(self), who, probe })
    }

    /// Why [`Lane::admit`] would refuse now, without taking anything.
    #[must_use]
    pub fn hindrance(&self, who: Priority, now: Instant) -> Option<Wait> {
        self.inner().hindrance(who, now)
    }

    /// What is wrong with the endpoint or with our registration there, the one first that only an operator can mend. Being
    /// busy is nothing wrong.
    #[must_use]
    pub fn trouble(&self, now: Instant) -> Option<Trouble> {
        self.inner().trouble(now)
    }

    /// Lets a registration that was refused try again at once.
    pub fn reset_registration(&self) {
        let mut inner = self.inner();
        inner.registration.open();
        inner.refused_in_a_row = 0;
        inner.doubts.clear();
    }

    /// Our client was taken for something that is not sent on the lane: a code was redeemed.
    pub fn vouch(&self, now: Instant) {
        let mut inner = self.inner();
        inner.doubts.vouch(now);
        inner.registration.open();
    }

    /// Our client was refused in so many words when a code was redeemed. No grant can have been meant.
    pub fn distrust(&self, now: Instant) {
        self.inner().registration.shut(now);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Of everything that stands in the way, what takes longest.
    fn hindrance(&mut self, who: Priority, now: Instant) -> Option<Wait> {
        let budget = self.budget(who);
        [
            (self.registration.again_at(now), Why::Registration),
            (self.breaker.gate.again_at(now), Why::Broken),
            (self.throttled.until.filter(|&until| now < until), Why::Throttled),
            (self.is_full(who).then(|| now + FULL), Why::Full),
            (self.sent.again_at(budget, SECOND, now), Why::Budget),
        ]
        .into_iter()
        .filter_map(|(until, why)| Some(Wait { until: until?, why }))
        .max_by_key(|wait| wait.until)
    }

    fn trouble(&self, now: Instant) -> Option<Trouble> {
        let gate = |gate: &Gate, why| Some(Trouble { why, since: gate.shut_since()?, until: gate.probed_at(now) });
        let silent = self.silent.filter(|silent| silent.failures >= SILENT_AFTER);
        gate(&self.registration, Why::Registration)
            .or_else(|| {
                let shut = gate(&self.breaker.gate, Why::Broken)?;
                Some(Trouble { since: silent.map_or(shut.since, |silent| silent.since.min(shut.since)), ..shut })
            })
            .or_else(|| Some(Trouble { why: Why::Broken, since: silent?.since, until: None }))
            .or_else(|| {
                let until = self.throttled.until.filter(|&until| now < until);
                Some(Trouble { why: Why::Throttled, since: self.throttled.since?, until: Some(until?) })
            })
    }

    /// The last quarter is the callers'; a budget of one cannot be divided.
    fn budget(&self, who: Priority) -> usize {
        let all = usize::try_from(self.per_second.get()).unwrap_or(usize::MAX);
        match who {
            Priority::Caller => all,
            Priority::Background => (all - all.div_ceil(4)).max(1),
        }
    }

    const fn is_full(&self, who: Priority) -> bool {
        let all = self.callers + self.background;
        match who {
            Priority::Caller => all >= PLACES,
            Priority::Background => all >= PLACES || self.background >= BACKGROUND_PLACES,
        }
    }

    const fn places(&mut self, who: Priority) -> &mut usize {
        match who {
            Priority::Background => &mut self.background,
            Priority::Caller => &mut self.callers,
        }
    }

    fn note(&mut self, probe: Probe, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Unreachable => {
                self.breaker.failed(probe.breaker, now);
                self.silent.get_or_insert(Silent { since: now, failures: 0 }).failures += 1;
            }
            _ => {
                self.breaker.answered(probe.breaker, now);
                self.silent = None;
            }
        }
        match outcome {
            Outcome::Answered => {
                self.answered_at = Some(now);
                self.refused_in_a_row = 0;
                self.throttled.answered(now);
                self.doubts.vouch(now);
                if probe.registration {
                    self.registration.open();
                }
            }
            Outcome::Registration => self.refused(probe, now),
            Outcome::Throttled(_) | Outcome::Unclear | Outcome::Unreachable => {
                if let Outcome::Throttled(after) = outcome {
                    self.throttled.refused(after, now);
                }
                if probe.registration {
                    self.registration.probe_again();
                }
            }
        }
    }

    fn doubt(&mut self, probe: Probe, grant: &GrantKey, all: usize, now: Instant) -> Meant {
        let meant = self.doubts.refuse(grant, all, now);
        if meant != Meant::Client {
            self.note(probe, Outcome::Unclear, now);
            return meant;
        }
        self.note(Probe { registration: false, ..probe }, Outcome::Unclear, now);
        if probe.registration {
            self.registration.shut_longer(now);
        } else {
            self.registration.shut(now);
        }
        meant
    }

    /// One grant that belongs to another client is refused like a wrong secret. While others are answered it must not stop them.
    fn refused(&mut self, probe: Probe, now: Instant) {
        self.refused_in_a_row += 1;
        if probe.registration {
            return self.registration.shut_longer(now);
        }
        let lately = self.answered_at.is_some_and(|then| now.saturating_duration_since(then) < ANSWERED_LATELY);
        if !lately || self.refused_in_a_row >= REFUSED_IN_A_ROW {
            self.registration.shut(now);
        }
    }
}

/// The pause that a provider has asked for.
#[derive(Debug, Default)]
struct Throttled {
    since: Option<Instant>,
    until: Option<Instant>,
    /// The last pause that we chose ourselves.
    chosen: Option<Duration>,
}

impl Throttled {
    fn refused(&mut self, after: Option<Duration>, now: Instant) {
        let paused = self.until.is_some_and(|until| now < until);
        let pause = match after {
            Some(after) => after.clamp(RETRY_AFTER.0, RETRY_AFTER.1),
            // Those who were under way together are refused together: that is one refusal.
            None if paused => return,
            None => *self.chosen.insert(self.chosen.map_or(THROTTLED.0, |last| (last * 2).min(THROTTLED.1))),
        };
        if !paused {
            self.since = Some(now);
        }
        self.until = self.until.max(Some(now + pause));
    }

    /// What was sent before the pause and answered in it says nothing.
    fn answered(&mut self, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            *self = Self::default();
        }
    }
}

/// A place on a lane; dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    lane: Arc<Lane>,
    who: Priority,
    /// What it finds out for everybody, until it is noted.
    probe: Probe,
}

/// Which gates wait for the outcome.
#[derive(Clone, Copy, Debug, Default)]
struct Probe {
    breaker: bool,
    registration: bool,
}

impl Place {
    /// Tells the lane what became of what was sent. The place stays taken until it is dropped. Without this, nothing was sent,
    /// and somebody else may probe.
    pub fn note(&mut self, outcome: Outcome, now: Instant) {
        let probe = std::mem::take(&mut self.probe);
        self.lane.inner().note(probe, outcome, now);
    }

    /// As [`Place::note`] with [`Outcome::Answered`], when `grant` was renewed.
    pub fn renewed(&mut self, grant: &GrantKey, now: Instant) {
        self.note(Outcome::Answered, now);
        self.lane.inner().doubts.renewed(grant);
    }

    /// As [`Place::note`], when the provider refused our client or `grant`, one of `all` that are renewed there, and did not say
    /// which. Says whether it must be the grant.
    pub fn doubt(&mut self, grant: &GrantKey, all: usize, now: Instant) -> bool {
        let probe = std::mem::take(&mut self.probe);
        self.lane.inner().doubt(probe, grant, all, now) == Meant::Grant
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let probe = self.probe;
        let mut inner = self.lane.inner();
        *inner.places(self.who) -= 1;
        if probe.breaker {
            inner.breaker.gate.probe_again();
        }
        if probe.registration {
            inner.registration.probe_again();
        }
    }
}

#[cfg(test)]
mod tests;
