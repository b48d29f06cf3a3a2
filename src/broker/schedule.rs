//! When a grant is renewed, and when it is tried again after a failure: pure rules, spread so that what was born together
//! does not fall due together.

use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use crate::model::connection::{ReconnectReason, State};
use crate::model::id::Version;
use crate::model::provider::rules::{AfterAmbiguous, RefreshMode, RefreshRules};
use crate::model::time::Timestamp;
use crate::oauth::rejection::Rejection;
use crate::store::records::{Failure, GrantKey};

/// A token that lives shorter than this is renewed at half of its life.
const SHORT: Duration = Duration::from_secs(300);
/// Where in the life of a longer token it is renewed: between these, by a hash of the grant.
const SPREAD: std::ops::Range<f64> = 0.60..0.85;
/// The first wait after a failure, doubled with each further one.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest wait while the access token lives.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The longest wait once it is dead and callers go without.
const BACKOFF_MAX_DEAD: Duration = Duration::from_secs(60);
/// How long a registration that the provider refuses is left alone: an operator has to act, and nothing is lost meanwhile.
const REGISTRATION_PAUSE: Duration = Duration::from_secs(60);

/// What a renewal time is counted from.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// When the request for the token was sent.
    pub issued_at: Timestamp,
    /// When the access token dies.
    pub expires_at: Option<Timestamp>,
}

/// When a grant is to be renewed; `None` for never by itself.
#[must_use]
pub fn renew_at(rules: &RefreshRules, key: &GrantKey, version: Version, life: Life) -> Option<Timestamp> {
    let keepalive = rules.keepalive.map(|seconds| life.issued_at.after(Duration::from_secs(seconds)));
    let ahead = match (rules.mode, life.expires_at) {
        (RefreshMode::Ahead, Some(expires_at)) => {
            let lifetime = expires_at.since(life.issued_at);
            Some(life.issued_at.after(lifetime.mul_f64(share(rules, lifetime, spread(key, version)))))
        }
        _ => None,
    };
    [ahead, keepalive].into_iter().flatten().min()
}

/// Which share of its life a token serves before it is renewed. Where a refresh kills the access token at once, as late as
/// the definition's lead allows: whoever was just handed the old one is cut off.
fn share(rules: &RefreshRules, lifetime: Duration, spread: f64) -> f64 {
    if lifetime < SHORT {
        return 0.5;
    }
    if rules.kills_access {
        let lead = Duration::from_secs(rules.lead).min(lifetime / 5).as_secs_f64();
        return 1.0 - lead * (1.0 + 0.2 * spread) / lifetime.as_secs_f64();
    }
    SPREAD.start + (SPREAD.end - SPREAD.start) * spread
}

/// A number from 0 to 1 that belongs to this version of this grant.
fn spread(key: &GrantKey, version: Version) -> f64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (key, version).hash(&mut hasher);
    f64::from(u16::try_from(hasher.finish() >> 48).unwrap_or(u16::MAX)) / f64::from(u16::MAX)
}

/// How things stood when a refresh failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// How many had failed in a row before.
    pub failures: u32,
    /// Whether an earlier attempt with this refresh token may have been answered, and the answer lost.
    pub recovery: bool,
    /// Whether the access token is dead.
    pub dead: bool,
    /// When it failed.
    pub now: Timestamp,
    /// A number from 0 to 1, for the jitter.
    pub random: f64,
}

/// The class that marks an attempt whose outcome is unknown: the next one is a recovery.
pub const AMBIGUOUS: &str = "ambiguous";

/// What a failed refresh makes of the connection. Only a definite word of the provider ends it.
#[must_use]
pub fn after_failure(rules: &RefreshRules, rejection: &Rejection, attempt: Attempt) -> Failure {
    let retry = |class, wait: Duration| Failure {
        // Whatever happens next with this refresh token, its answer may have been lost already.
        class: if attempt.recovery { AMBIGUOUS } else { class },
        state: State::RefreshFailed,
        retry_at: Some(attempt.now.after(wait)),
    };
    let end = |class, reason| Failure { class, state: State::NeedsReconnect(reason), retry_at: None };
    match rejection {
        Rejection::Ambiguous(_) => match rules.after_ambiguous {
            AfterAmbiguous::Safe => retry(AMBIGUOUS, backoff(attempt)),
            AfterAmbiguous::Once => retry(AMBIGUOUS, backoff(attempt).min(BACKOFF_BASE * 5)),
        },
        Rejection::Consent { .. } | Rejection::Denied | Rejection::Restart { .. } if attempt.recovery => {
            end("lost_response", ReconnectReason::LostResponse)
        }
        Rejection::Consent { .. } | Rejection::Denied | Rejection::Restart { .. } => {
            end("rejected", ReconnectReason::RefreshTokenInvalid)
        }
        Rejection::Registration { .. } => retry("registration", REGISTRATION_PAUSE),
        Rejection::Retry { after } => {
            retry("throttled", after.map_or_else(|| backoff(attempt), |after| after.max(backoff(attempt))))
        }
        Rejection::Unsent(_) => retry("unsent", backoff(attempt)),
        Rejection::UserAction { .. } => end("user_action", ReconnectReason::UserAction),
    }
}

/// Exponential, with full jitter above half a base: it never asks again at once.
fn backoff(attempt: Attempt) -> Duration {
    let most = if attempt.dead { BACKOFF_MAX_DEAD } else { BACKOFF_MAX };
    let ceiling = BACKOFF_BASE.saturating_mul(1 << attempt.failures.min(16)).min(most);
    BACKOFF_BASE / 2 + ceiling.mul_f64(attempt.random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{ConnectionId, Generation, SlotName};
    use crate::oauth::rejection::Code;

    fn key() -> GrantKey {
        GrantKey { connection: ConnectionId::random(), slot: SlotName::main() }
    }

    fn at(seconds: i64) -> Life {
        Life { issued_at: Timestamp::from_secs(0), expires_at: Some(Timestamp::from_secs(seconds)) }
    }

    #[test]
    fn an_hours_token_is_renewed_between_60_and_85_percent_and_a_cohort_is_spread() {
        let times: Vec<i64> = (0..10_000)
            .map(|_| renew_at(&RefreshRules::default(), &key(), Version::default(), at(3600)).unwrap().as_secs())
            .collect();
        assert!(times.iter().all(|time| (2160..=3060).contains(time)));
        let mut per_second = std::collections::HashMap::new();
        for time in times {
            *per_second.entry(time).or_insert(0) += 1;
        }
        assert!(per_second.values().max().unwrap() < &60, "10,000 over 900 s are 11 a second");
    }

    #[test]
    fn a_short_token_is_renewed_at_half_of_its_life() {
        let time = renew_at(&RefreshRules::default(), &key(), Version::default(), at(10)).unwrap();
        assert_eq!(time.as_secs(), 5);
    }

    #[test]
    fn where_a_refresh_kills_the_old_token_it_comes_late() {
        let rules = RefreshRules { kills_access: true, lead: 600, ..RefreshRules::default() };
        let time = renew_at(&rules, &key(), Version::default(), at(28_800)).unwrap().as_secs();
        assert!((28_800 - 720..=28_800 - 600).contains(&time), "{time}");
    }

    #[test]
    fn a_token_that_does_not_expire_is_renewed_to_keep_it_alive_or_never() {
        let life = Life { issued_at: Timestamp::from_secs(0), expires_at: None };
        let never = RefreshRules::default();
        assert_eq!(renew_at(&never, &key(), Version::default(), life), None);
        let kept = RefreshRules { keepalive: Some(86_400), ..never };
        assert_eq!(renew_at(&kept, &key(), Version::default(), life), Some(Timestamp::from_secs(86_400)));
    }

    #[test]
    fn the_next_generation_has_its_own_place() {
        let key = key();
        let places: std::collections::HashSet<_> = (0..20)
            .map(|generation| Version { generation: Generation(generation), ..Version::default() })
            .map(|version| renew_at(&RefreshRules::default(), &key, version, at(3600)))
            .collect();
        assert!(places.len() > 10);
    }

    fn attempt() -> Attempt {
        Attempt { failures: 0, recovery: false, dead: false, now: Timestamp::from_secs(1000), random: 1.0 }
    }

    #[test]
    fn only_a_definite_rejection_needs_a_person() {
        let code = || Code::read("x");
        for (rejection, ends) in [
            (Rejection::Ambiguous("x"), false),
            (Rejection::Registration { code: code() }, false),
            (Rejection::Retry { after: None }, false),
            (Rejection::Unsent("x"), false),
            (Rejection::Consent { code: code() }, true),
            (Rejection::UserAction { code: code() }, true),
        ] {
            let failure = after_failure(&RefreshRules::default(), &rejection, attempt());
            assert_eq!(matches!(failure.state, State::NeedsReconnect(_)), ends, "{rejection:?}");
            assert_eq!(failure.retry_at.is_none(), ends, "{rejection:?}");
        }
    }

    #[test]
    fn a_rejection_after_a_lost_answer_is_called_by_its_name() {
        let rejection = Rejection::Consent { code: Code::read("invalid_grant") };
        let lost = after_failure(&RefreshRules::default(), &rejection, Attempt { recovery: true, ..attempt() });
        assert_eq!(lost.state, State::NeedsReconnect(ReconnectReason::LostResponse));
    }

    #[test]
    fn a_lost_answer_is_not_forgotten_over_other_failures() {
        for rejection in [
            Rejection::Ambiguous("x"),
            Rejection::Registration { code: Code::read("x") },
            Rejection::Retry { after: None },
            Rejection::Unsent("x"),
        ] {
            let class =
                |recovery| after_failure(&RefreshRules::default(), &rejection, Attempt { recovery, ..attempt() }).class;
            assert_eq!(class(true), AMBIGUOUS, "{rejection:?}");
            assert_eq!(class(false) == AMBIGUOUS, matches!(rejection, Rejection::Ambiguous(_)), "{rejection:?}");
        }
    }

    #[test]
    fn the_wait_grows_and_has_a_ceiling_and_honours_the_provider() {
        let wait = |failures, dead, rejection: &Rejection| {
            let attempt = Attempt { failures, dead, ..attempt() };
            after_failure(&RefreshRules::default(), rejection, attempt).retry_at.unwrap().since(attempt.now).as_secs()
        };
        let unsent = Rejection::Unsent("x");
        assert!(wait(0, false, &unsent) < wait(3, false, &unsent));
        assert_eq!(wait(30, false, &unsent), 300);
        assert_eq!(wait(30, true, &unsent), 60);
        let asked = Rejection::Retry { after: Some(Duration::from_secs(120)) };
        assert_eq!(wait(0, true, &asked), 120);
    }
}
