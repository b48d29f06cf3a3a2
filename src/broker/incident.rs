//! The guard against condemning many at once: when a provider rejects grant after grant, something is wrong with it or with
//! us, and sending everybody to the browser would be worse than waiting.
//!
//! The rules, for each provider by itself:
//! 1. Within five minutes at most 5 % of its connections, but no fewer than 5 and no more than 20, are condemned. The next
//!    rejection freezes the provider: it and every further one is only suspected.
//! 2. While it is frozen, one suspect a minute is tried again.
//! 3. It thaws when a suspect has been renewed *and* no rejection has come for two minutes. That somebody else is renewed says
//!    nothing: an operator's mistake often hits a part of the connections, and the rest goes on as ever. One suspect renewed
//!    beside others that are still rejected says little too: behind one name there may be many servers.
//! 4. After an hour, or when an operator says so, rejections are believed again, however many, until five minutes pass
//!    without one. Then the guard is as in the beginning.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::id::{ConnectionId, ProviderId};

/// How far back condemned connections count, and how long it has to be quiet until the guard is as in the beginning.
const SPAN: Duration = Duration::from_secs(300);
/// The fewest and the most that are believed within that time.
const BELIEVED: (usize, usize) = (5, 20);
/// How far connections need be counted: with more of them, no more are believed.
pub const SIZE_MAX: usize = BELIEVED.1 * 20;
/// How often a suspect is tried.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// How long no rejection may have come for a renewed suspect to end it: two probes.
const QUIET: Duration = Duration::from_secs(120);
/// How long a provider is frozen at most.
const FROZEN_MAX: Duration = Duration::from_secs(3600);

/// Whether a confirmed rejection is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The connection needs a person.
    Believe,
    /// It is one of too many: it stays as it is, under suspicion.
    Freeze,
}

/// Which providers reject too many, and whom.
#[derive(Debug, Default)]
pub struct Incidents(Mutex<HashMap<ProviderId, Guard>>);

#[derive(Debug)]
enum Guard {
    /// The connections that were condemned lately.
    Watching(Vec<(ConnectionId, Instant)>),
    Frozen(Frozen),
    /// Every rejection is believed; when the last one came.
    Released(Instant),
}

#[derive(Debug)]
struct Frozen {
    since: Instant,
    rejected_at: Instant,
    probed_at: Option<Instant>,
    suspect_renewed: bool,
}

impl Incidents {
    /// Whether to condemn `connection`, whose rejection is definite and confirmed. The provider has `size` connections.
    pub fn admit(&self, provider: &ProviderId, connection: &ConnectionId, size: usize, now: Instant) -> Verdict {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = guards.entry(provider.clone()).or_insert_with(|| Guard::Watching(Vec::new()));
        guard.move_on(now);
        match guard {
            Guard::Watching(condemned) => {
                if condemned.iter().any(|(known, _)| known == connection) {
                    return Verdict::Believe;
                }
                if condemned.len() < (size / 20).clamp(BELIEVED.0, BELIEVED.1) {
                    condemned.push((connection.clone(), now));
                    return Verdict::Believe;
                }
                *guard = Guard::Frozen(Frozen::new(now));
                Verdict::Freeze
            }
            Guard::Frozen(frozen) => {
                frozen.rejected_at = now;
                frozen.suspect_renewed = false;
                Verdict::Freeze
            }
            Guard::Released(rejected_at) => {
                *rejected_at = now;
                Verdict::Believe
            }
        }
    }

    /// Whether a suspect of the provider may be tried now. If so, it is the only one for a minute; if the provider is not
    /// frozen, always.
    ///
    /// # Errors
    /// When to come again.
    pub fn probe(&self, provider: &ProviderId, now: Instant) -> Result<(), Instant> {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guard) = guards.get_mut(provider) else { return Ok(()) };
        guard.move_on(now);
        let Guard::Frozen(frozen) = guard else { return Ok(()) };
        let next = frozen.probed_at.unwrap_or(frozen.since) + PROBE_EVERY;
        if now < next {
            return Err(next);
        }
        frozen.probed_at = Some(now);
        Ok(())
    }

    /// A suspect of the provider was renewed after all.
    pub fn suspect_renewed(&self, provider: &ProviderId, now: Instant) {
        self.with(provider, now, |guard| {
            if let Guard::Frozen(frozen) = guard {
                frozen.suspect_renewed = true;
            }
        });
    }

    /// There is a suspect. If nothing is known of the provider, it was frozen before a restart, and is so again.
    pub fn recall(&self, provider: &ProviderId, now: Instant) {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guards.entry(provider.clone()).or_insert_with(|| Guard::Frozen(Frozen::new(now)));
    }

    /// An operator has looked: what the provider says is believed. Says whether it was frozen.
    pub fn release(&self, provider: &ProviderId, now: Instant) -> bool {
        self.with(provider, now, |guard| {
            let frozen = matches!(guard, Guard::Frozen(_));
            if frozen {
                *guard = Guard::Released(now);
            }
            frozen
        })
        .unwrap_or_default()
    }

    /// Since when the provider is frozen, and until when at most; `None` if it is not.
    #[must_use]
    pub fn frozen_span(&self, provider: &ProviderId, now: Instant) -> Option<(Instant, Instant)> {
        self.with(provider, now, |guard| match guard {
            Guard::Frozen(frozen) => Some((frozen.since, frozen.since + FROZEN_MAX)),
            Guard::Watching(_) | Guard::Released(_) => None,
        })?
    }

    /// Whether the provider is frozen.
    #[must_use]
    pub fn is_frozen(&self, provider: &ProviderId, now: Instant) -> bool {
        self.with(provider, now, |guard| matches!(guard, Guard::Frozen(_))).unwrap_or_default()
    }

    /// The providers that are frozen, and since when.
    #[must_use]
    pub fn frozen(&self, now: Instant) -> Vec<(ProviderId, Instant)> {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guards
            .iter_mut()
            .filter_map(|(provider, guard)| {
                guard.move_on(now);
                if let Guard::Frozen(frozen) = guard { Some((provider.clone(), frozen.since)) } else { None }
            })
            .collect()
    }

    fn with<T>(&self, provider: &ProviderId, now: Instant, look: impl FnOnce(&mut Guard) -> T) -> Option<T> {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = guards.get_mut(provider)?;
        guard.move_on(now);
        Some(look(guard))
    }
}

impl Guard {
    /// What the time alone changes.
    fn move_on(&mut self, now: Instant) {
        if let Self::Frozen(frozen) = self {
            if frozen.suspect_renewed && now.saturating_duration_since(frozen.rejected_at) >= QUIET {
                *self = Self::Watching(Vec::new());
            } else if now.saturating_duration_since(frozen.since) >= FROZEN_MAX {
                *self = Self::Released(frozen.since + FROZEN_MAX);
            }
        }
        match self {
            Self::Watching(condemned) => {
                condemned.retain(|(_, then)| now.saturating_duration_since(*then) < SPAN);
            }
            Self::Released(rejected_at) if now.saturating_duration_since(*rejected_at) >= SPAN => {
                *self = Self::Watching(Vec::new());
            }
            Self::Frozen(_) | Self::Released(_) => {}
        }
    }
}

impl Frozen {
    const fn new(now: Instant) -> Self {
        Self { since: now, rejected_at: now, probed_at: None, suspect_renewed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        incidents: Incidents,
        provider: ProviderId,
        start: Instant,
    }

    impl Case {
        fn new() -> Self {
            Self { incidents: Incidents::default(), provider: "github".parse().unwrap(), start: Instant::now() }
        }

        /// A provider of a hundred connections that was frozen at second 0.
        fn frozen() -> Self {
            let case = Self::new();
            assert_eq!(case.condemned(100, 0), 5);
            case
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn reject(&self, size: usize, second: u64) -> Verdict {
            self.incidents.admit(&self.provider, &ConnectionId::random(), size, self.at(second))
        }

        /// How many of fifty rejections are believed.
        fn condemned(&self, size: usize, second: u64) -> usize {
            (0..50).filter(|_| self.reject(size, second) == Verdict::Believe).count()
        }

        fn is_frozen(&self, second: u64) -> bool {
            self.incidents.is_frozen(&self.provider, self.at(second))
        }
    }

    #[test]
    fn at_most_a_twentieth_is_condemned_and_no_fewer_than_5_and_no_more_than_20() {
        for (size, most) in [(0, 5), (1, 5), (100, 5), (139, 6), (200, 10), (400, 20), (1_000_000, 20)] {
            assert_eq!(Case::new().condemned(size, 0), most, "{size}");
        }
    }

    #[test]
    fn a_steady_trickle_of_rejections_is_no_incident() {
        let case = Case::new();
        for second in (0..36_000).step_by(60) {
            assert_eq!(case.reject(10, second), Verdict::Believe);
        }
        assert!(!case.is_frozen(36_000));
    }

    #[test]
    fn the_grants_of_one_connection_count_once() {
        let (case, connection) = (Case::new(), ConnectionId::random());
        for _ in 0..50 {
            let verdict = case.incidents.admit(&case.provider, &connection, 10, case.start);
            assert_eq!(verdict, Verdict::Believe);
        }
    }

    #[test]
    fn one_provider_does_not_freeze_another() {
        let case = Case::frozen();
        let other = "notion".parse().unwrap();
        assert!(case.is_frozen(0) && !case.incidents.is_frozen(&other, case.start));
        assert_eq!(case.incidents.admit(&other, &ConnectionId::random(), 100, case.start), Verdict::Believe);
        assert_eq!(case.incidents.frozen(case.start), [(case.provider.clone(), case.start)]);
    }

    #[test]
    fn one_suspect_a_minute_is_tried() {
        let case = Case::frozen();
        let probe = |second| case.incidents.probe(&case.provider, case.at(second));
        assert_eq!(probe(0), Err(case.at(60)));
        assert_eq!(probe(60), Ok(()));
        assert_eq!(probe(61), Err(case.at(120)));
        assert_eq!(probe(200), Ok(()));
        assert_eq!(case.incidents.probe(&"notion".parse().unwrap(), case.start), Ok(()));
    }

    #[test]
    fn it_thaws_when_a_suspect_is_renewed_and_two_minutes_are_quiet() {
        // When a suspect is renewed, when a rejection comes, and from when on the provider is no longer frozen.
        for (renewed, rejected, thaws) in [
            (&[130][..], &[][..], Some(130)),
            (&[60], &[], Some(120)),
            (&[60], &[70], None),
            (&[60, 130], &[70], Some(190)),
            (&[200], &[199], Some(319)),
            (&[], &[], None),
        ] {
            let case = Case::frozen();
            let mut thawed = None;
            for second in 0..3600 {
                if thawed.is_none() && !case.is_frozen(second) {
                    thawed = Some(second);
                }
                if renewed.contains(&second) {
                    case.incidents.suspect_renewed(&case.provider, case.at(second));
                    if thawed.is_none() && !case.is_frozen(second) {
                        thawed = Some(second);
                    }
                }
                if rejected.contains(&second) {
                    case.reject(100, second);
                }
            }
            assert_eq!(thawed, thaws, "renewed at {renewed:?}, rejected at {rejected:?}");
        }
    }

    #[test]
    fn once_thawed_the_guard_is_as_in_the_beginning() {
        let case = Case::frozen();
        case.incidents.suspect_renewed(&case.provider, case.at(130));
        assert_eq!(case.condemned(100, 131), 5);
        assert!(case.is_frozen(131));
    }

    #[test]
    fn after_an_hour_rejections_are_believed_until_five_minutes_are_quiet() {
        let case = Case::frozen();
        assert_eq!(case.reject(100, 3599), Verdict::Freeze);
        assert_eq!(case.condemned(100, 3600), 50);
        assert_eq!(case.condemned(100, 3899), 50, "no five minutes without one");
        assert_eq!(case.condemned(100, 4199), 5);
    }

    #[test]
    fn an_operator_ends_it_at_once() {
        let case = Case::frozen();
        assert!(case.incidents.release(&case.provider, case.at(10)));
        assert!(!case.incidents.release(&case.provider, case.at(10)), "it was not frozen any more");
        assert_eq!(case.condemned(100, 11), 50);
        assert!(!case.is_frozen(11));
        assert_eq!(case.condemned(100, 311), 5);
    }

    #[test]
    fn a_restart_does_not_forget_it() {
        let case = Case::new();
        case.incidents.recall(&case.provider, case.start);
        assert_eq!(case.condemned(100, 0), 0);
        assert!(case.incidents.probe(&case.provider, case.at(60)).is_ok());
    }
}
