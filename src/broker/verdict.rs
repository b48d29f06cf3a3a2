//! What a failed refresh means for a connection: pure. Only a definite word of the provider ends it, and only when the
//! provider has said it twice.

use std::time::Duration;

use crate::model::connection::{ReconnectReason, State};
use crate::model::provider::rules::{AfterAmbiguous, RefreshRules};
use crate::model::time::Timestamp;
use crate::oauth::rejection::Rejection;
use crate::store::records::Failure;

/// The first wait after a failure, doubled with each further one.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest wait while the access token lives.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The longest wait once it is dead and callers go without.
const BACKOFF_MAX_DEAD: Duration = Duration::from_secs(60);
/// How often at least a refresh token is tried again while it may still be in its grace after a lost answer.
const TRIES_WITHIN_GRACE: u32 = 4;
/// When a rejection is confirmed: a provider that is made of many machines may not know its own newest token yet.
const CONFIRM: std::ops::Range<Duration> = Duration::from_secs(5)..Duration::from_secs(10);
/// How long a registration that the provider refuses is left alone: an operator has to act, and nothing is lost meanwhile.
const REGISTRATION_PAUSE: Duration = Duration::from_secs(60);
/// When a connection is tried again whose rejection came together with too many others to be believed.
const INCIDENT_PAUSE: std::ops::Range<Duration> = Duration::from_secs(300)..Duration::from_secs(900);

/// How things stood when a refresh failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// How many had failed in a row before.
    pub failures: u32,
    /// Whether an earlier attempt with this refresh token may have been answered, and the answer lost.
    pub uncertain: bool,
    /// How often the provider had refused this refresh token for good before.
    pub rejections: u32,
    /// Whether the access token is dead.
    pub dead: bool,
    /// When it failed.
    pub now: Timestamp,
    /// A number from 0 to 1, for the jitter.
    pub random: f64,
}

/// What a failed refresh makes of the connection.
#[must_use]
pub fn judge(rules: &RefreshRules, rejection: &Rejection, attempt: Attempt) -> Failure {
    let retry = |class, wait: Duration| Failure {
        class,
        number: None,
        state: State::RefreshFailed,
        retry_at: Some(attempt.now.after(wait)),
        // Whatever comes next, an answer that was lost stays lost.
        uncertain: attempt.uncertain,
        rejections: attempt.rejections,
    };
    match rejection {
        Rejection::Ambiguous(_) => {
            Failure { uncertain: true, ..retry("ambiguous", backoff_after_loss(rules, attempt)) }
        }
        Rejection::ClientOrGrant { .. } => retry(CLIENT_OR_GRANT, REGISTRATION_PAUSE.max(backoff(attempt))),
        Rejection::Consent { .. } | Rejection::Denied | Rejection::Restart { .. } => refused(rules, attempt),
        Rejection::Registration { .. } => retry(REGISTRATION, REGISTRATION_PAUSE),
        Rejection::Retry { after } => {
            let asked = after.map(|after| after.wait(attempt.now)).unwrap_or_default();
            retry("throttled", asked.max(backoff(attempt)))
        }
        Rejection::Unsent(_) => retry("unsent", backoff(attempt)),
        Rejection::UserAction { .. } => end("user_action", ReconnectReason::UserAction, attempt),
    }
}

/// The provider does not take the refresh token. If an answer to it was lost before, that is why; otherwise it is asked once
/// more before anybody is troubled.
fn refused(rules: &RefreshRules, attempt: Attempt) -> Failure {
    if attempt.uncertain && rules.after_ambiguous == AfterAmbiguous::Once {
        return end("lost_response", ReconnectReason::LostResponse, attempt);
    }
    if attempt.rejections > 0 {
        return end("rejected", ReconnectReason::RefreshTokenInvalid, attempt);
    }
    Failure {
        class: "rejected",
        number: None,
        state: State::RefreshFailed,
        retry_at: Some(attempt.now.after(within(&CONFIRM, attempt.random))),
        uncertain: attempt.uncertain,
        rejections: 1,
    }
}

fn end(class: &'static str, reason: ReconnectReason, attempt: Attempt) -> Failure {
    Failure {
        class,
        number: None,
        state: State::NeedsReconnect(reason),
        retry_at: None,
        uncertain: attempt.uncertain,
        rejections: attempt.rejections.saturating_add(1),
    }
}

/// The class of a connection whose rejection came together with too many others.
pub const SUSPECT: &str = "suspect_incident";
/// The class of a grant that was not renewed because the provider refuses our registration or this grant, and nobody knows which.
pub const CLIENT_OR_GRANT: &str = "client_or_grant";
/// The class of a grant that was not renewed because the provider refuses our registration.
pub const REGISTRATION: &str = "registration";
/// The class of a grant whose provider is not configured.
pub const UNCONFIGURED: &str = "unconfigured";

/// What is done instead of ending a connection while so many are refused at once that the provider, or our registration
/// there, is the likelier cause.
#[must_use]
pub fn suspended(failure: &Failure, attempt: Attempt) -> Failure {
    Failure {
        class: SUSPECT,
        state: State::RefreshFailed,
        retry_at: Some(suspect_again(attempt.now, attempt.random)),
        ..failure.clone()
    }
}

/// When a suspect has its turn again; `random` is a number from 0 to 1.
#[must_use]
pub fn suspect_again(now: Timestamp, random: f64) -> Timestamp {
    now.after(within(&INCIDENT_PAUSE, random))
}

fn within(range: &std::ops::Range<Duration>, random: f64) -> Duration {
    range.start + (range.end - range.start).mul_f64(random.clamp(0.0, 1.0))
}

/// After a lost answer time may matter: some providers take a spent refresh token for a while longer.
fn backoff_after_loss(rules: &RefreshRules, attempt: Attempt) -> Duration {
    let wait = backoff(attempt);
    match rules.grace.map(|seconds| Duration::from_secs(seconds) / TRIES_WITHIN_GRACE) {
        Some(within) if attempt.failures < TRIES_WITHIN_GRACE => wait.min(within.max(BACKOFF_BASE / 2)),
        _ => wait,
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
    use crate::oauth::rejection::Code;
    use crate::oauth::retry_after::RetryAfter;

    fn attempt() -> Attempt {
        Attempt {
            failures: 0,
            uncertain: false,
            rejections: 0,
            dead: false,
            now: Timestamp::from_secs(1000),
            random: 1.0,
        }
    }

    fn refusal() -> Rejection {
        Rejection::Consent { code: Code::read("invalid_grant") }
    }

    fn every_other() -> [Rejection; 5] {
        [
            Rejection::Ambiguous("x"),
            Rejection::ClientOrGrant { code: Code::read("x") },
            Rejection::Registration { code: Code::read("x") },
            Rejection::Retry { after: None },
            Rejection::Unsent("x"),
        ]
    }

    #[test]
    fn only_a_definite_rejection_that_was_confirmed_needs_a_person() {
        let confirmed = Attempt { rejections: 1, ..attempt() };
        let ends = |rejection: &Rejection, attempt| {
            let failure = judge(&RefreshRules::default(), rejection, attempt);
            assert_eq!(failure.retry_at.is_none(), matches!(failure.state, State::NeedsReconnect(_)), "{failure:?}");
            failure.retry_at.is_none()
        };
        assert!(!ends(&refusal(), attempt()));
        assert!(ends(&refusal(), confirmed));
        assert!(ends(&Rejection::UserAction { code: Code::read("x") }, attempt()), "the provider asks for the person");
        for rejection in every_other() {
            assert!(!ends(&rejection, attempt()) && !ends(&rejection, confirmed), "{rejection:?}");
        }
    }

    #[test]
    fn a_rejection_is_confirmed_within_seconds_and_remembered_over_other_failures() {
        for random in [0.0, 0.5, 1.0] {
            let first = judge(&RefreshRules::default(), &refusal(), Attempt { random, ..attempt() });
            assert_eq!((first.class, first.rejections), ("rejected", 1));
            let wait = first.retry_at.unwrap().since(attempt().now);
            assert!((CONFIRM.start..=CONFIRM.end).contains(&wait), "{wait:?}");
        }
        for rejection in every_other() {
            let between = judge(&RefreshRules::default(), &rejection, Attempt { rejections: 1, ..attempt() });
            assert_eq!(between.rejections, 1, "{rejection:?}");
        }
    }

    #[test]
    fn a_rejection_after_a_lost_answer_is_called_by_its_name() {
        let state = |after_ambiguous| {
            let rules = RefreshRules { after_ambiguous, ..RefreshRules::default() };
            judge(&rules, &refusal(), Attempt { uncertain: true, rejections: 1, ..attempt() }).state
        };
        assert_eq!(state(AfterAmbiguous::Once), State::NeedsReconnect(ReconnectReason::LostResponse));
        let other = State::NeedsReconnect(ReconnectReason::RefreshTokenInvalid);
        assert_eq!(state(AfterAmbiguous::Safe), other, "a token that can be sent again was not lost");
    }

    #[test]
    fn a_lost_answer_is_not_forgotten_over_other_failures() {
        for rejection in every_other() {
            let judged = |uncertain| judge(&RefreshRules::default(), &rejection, Attempt { uncertain, ..attempt() });
            assert!(judged(true).uncertain, "{rejection:?}");
            assert_eq!(judged(false).uncertain, matches!(rejection, Rejection::Ambiguous(_)), "{rejection:?}");
        }
    }

    #[test]
    fn in_an_incident_nobody_is_condemned() {
        let condemned = judge(&RefreshRules::default(), &refusal(), Attempt { rejections: 1, ..attempt() });
        let held = suspended(&condemned, attempt());
        assert_eq!((held.class, &held.state, held.rejections), (SUSPECT, &State::RefreshFailed, 2));
        assert!(held.retry_at.unwrap().since(attempt().now) >= INCIDENT_PAUSE.start);
    }

    #[test]
    fn the_wait_grows_and_has_a_ceiling_and_honours_the_provider() {
        let wait = |failures, dead, rejection: &Rejection| {
            let attempt = Attempt { failures, dead, ..attempt() };
            judge(&RefreshRules::default(), rejection, attempt).retry_at.unwrap().since(attempt.now).as_secs()
        };
        let unsent = Rejection::Unsent("x");
        assert!(wait(0, false, &unsent) < wait(3, false, &unsent));
        assert_eq!(wait(30, false, &unsent), 300);
        assert_eq!(wait(30, true, &unsent), 60);
        let asked = Rejection::Retry { after: Some(RetryAfter::In(Duration::from_secs(120))) };
        assert_eq!(wait(0, true, &asked), 120);
    }

    #[test]
    fn a_spent_refresh_token_is_tried_again_within_its_grace() {
        let rules = RefreshRules { grace: Some(30), ..RefreshRules::default() };
        let waits: u64 = (0..TRIES_WITHIN_GRACE)
            .map(|failures| judge(&rules, &Rejection::Ambiguous("x"), Attempt { failures, ..attempt() }))
            .map(|failure| failure.retry_at.unwrap().since(attempt().now).as_secs())
            .sum();
        assert!(waits <= 30, "{waits}");
    }
}
