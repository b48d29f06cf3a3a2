//! When a grant is renewed, and when that can wait: pure rules, spread so that what was born together does not fall due
//! together.

use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use crate::model::id::Version;
use crate::model::provider::rules::{RefreshMode, RefreshRules, Rotation};
use crate::model::time::Timestamp;
use crate::store::records::{GrantKey, NewGrant};

/// A token that lives shorter than this is renewed at half of its life.
const SHORT: Duration = Duration::from_secs(300);
/// Where in the life of a longer token it is renewed: between these, by a hash of the grant.
const SPREAD: std::ops::Range<f64> = 0.60..0.85;
/// A connection that nobody has used for so long is only kept alive.
const IDLE: Duration = Duration::from_secs(7 * DAY);
/// Which share of a refresh token's life is left to pass before it is used to stay alive.
const KEEP_ALIVE_SHARE: f64 = 0.8;
/// The longest time a refresh token is left unused, however long the provider says that it lives.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(30 * DAY);
/// How long a token that was handed out counts as in use: the minute within which the last use is known, and a slow call.
const IN_USE: Duration = Duration::from_secs(90);
/// Less than this is left of no token because it is in use.
const LEFT_AT_LEAST: Duration = Duration::from_secs(120);
const DAY: u64 = 24 * 3600;

/// What a renewal time is counted from.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// When the request for the token was sent.
    pub issued_at: Timestamp,
    /// When the access token dies.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token dies, as far as known.
    pub refresh_expires_at: Option<Timestamp>,
}

impl Life {
    /// The life of a stored grant.
    #[must_use]
    pub const fn of(grant: &NewGrant) -> Self {
        Self { issued_at: grant.issued_at, expires_at: grant.expires_at, refresh_expires_at: grant.refresh_expires_at }
    }
}

/// When a grant is to be renewed; `None` for never by itself.
#[must_use]
pub fn renew_at(rules: &RefreshRules, key: &GrantKey, version: Version, life: Life) -> Option<Timestamp> {
    let ahead = match (rules.mode, life.expires_at) {
        (RefreshMode::Ahead, Some(expires_at)) => {
            let lifetime = expires_at.since(life.issued_at);
            Some(life.issued_at.after(lifetime.mul_f64(share(rules, lifetime, spread(key, version)))))
        }
        _ => None,
    };
    [ahead, keep_alive_at(rules, life)].into_iter().flatten().min()
}

/// What to do with a grant whose time to be renewed has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Leave it until then: nobody uses it, and it stays alive so long.
    Postpone(Timestamp),
    /// Renew it.
    Renew,
}

/// How much a grant is wanted that has come due.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// When a token of its connection was last handed out, or a person last consented, whichever is later.
    pub wanted_at: Timestamp,
    /// Whether the last attempt failed or its outcome is unknown. What is in doubt is never left lying.
    pub unsettled: bool,
}

/// Whether a grant that has come due is renewed now. One that nobody has used for a week is renewed only to keep its refresh
/// token alive, if it is known how long that lives; where nothing is known it might die of being unused, and is renewed as ever.
/// One whose token was handed out a moment ago, and would die in somebody's hand, waits for a quiet moment.
/// This is for the schedule: a refresh that a caller waits for is never put off.
#[must_use]
pub fn when_due(rules: &RefreshRules, life: Life, demand: Demand, now: Timestamp) -> Due {
    if demand.unsettled {
        return Due::Renew;
    }
    if now.since(demand.wanted_at) < IDLE {
        let quiet_at = quiet_at(rules, life, demand.wanted_at).filter(|at| *at > now);
        return quiet_at.map_or(Due::Renew, Due::Postpone);
    }
    match keep_alive_at(rules, life) {
        Some(at) if at > now => Due::Postpone(at),
        _ => Due::Renew,
    }
}

/// From when on a refresh cuts nobody off who has just been handed the access token that it kills, or else has to come.
fn quiet_at(rules: &RefreshRules, life: Life, wanted_at: Timestamp) -> Option<Timestamp> {
    let latest = life.expires_at.filter(|_| rules.kills_access)?.before(LEFT_AT_LEAST);
    Some(wanted_at.after(IN_USE).min(latest))
}

/// When a refresh token has to be used at the latest so that it does not die of being unused; `None` where nothing says that
/// it could, or how soon.
fn keep_alive_at(rules: &RefreshRules, life: Life) -> Option<Timestamp> {
    let wanted = rules.keepalive.map(Duration::from_secs);
    let lifetime = lapses_at(rules, life).map(|at| at.since(life.issued_at).mul_f64(KEEP_ALIVE_SHARE));
    let span = [wanted, lifetime].into_iter().flatten().min()?;
    Some(life.issued_at.after(span.min(KEEP_ALIVE_MAX)))
}

/// When a refresh token dies that is not used before. A lifetime that its answer brought counts anew with each token; where
/// the token stays the same it does not, and using it changes nothing.
#[must_use]
pub fn lapses_at(rules: &RefreshRules, life: Life) -> Option<Timestamp> {
    let lifetime = life.refresh_expires_at.filter(|_| rules.rotation != Rotation::Static);
    let idle = rules.idle_after.map(|seconds| life.issued_at.after(Duration::from_secs(seconds)));
    [lifetime, idle].into_iter().flatten().min()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{ConnectionId, Generation, SlotName};

    fn key() -> GrantKey {
        GrantKey { connection: ConnectionId::random(), slot: SlotName::main() }
    }

    fn at(seconds: i64) -> Life {
        Life {
            issued_at: Timestamp::from_secs(0),
            expires_at: Some(Timestamp::from_secs(seconds)),
            refresh_expires_at: None,
        }
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
        let life = Life { expires_at: None, ..at(0) };
        let never = RefreshRules::default();
        assert_eq!(renew_at(&never, &key(), Version::default(), life), None);
        let kept = RefreshRules { keepalive: Some(86_400), ..never };
        assert_eq!(renew_at(&kept, &key(), Version::default(), life), Some(Timestamp::from_secs(86_400)));
    }

    #[test]
    fn a_refresh_token_that_dies_before_the_access_token_is_used_before() {
        let life = Life { refresh_expires_at: Some(Timestamp::from_secs(1000)), ..at(3600) };
        let time = renew_at(&RefreshRules::default(), &key(), Version::default(), life);
        assert_eq!(time, Some(Timestamp::from_secs(800)));
    }

    const LONG: i64 = 100 * DAY as i64;

    fn due(rules: &RefreshRules, refresh_dies: Option<i64>, wanted: i64, unsettled: bool, now: i64) -> Due {
        let life = Life { refresh_expires_at: refresh_dies.map(Timestamp::from_secs), ..at(3600) };
        let demand = Demand { wanted_at: Timestamp::from_secs(wanted), unsettled };
        when_due(rules, life, demand, Timestamp::from_secs(now))
    }

    #[test]
    fn what_nobody_has_used_for_a_week_is_only_kept_alive() {
        const DAYS: i64 = DAY as i64;
        let postpone = |days: i64| Due::Postpone(Timestamp::from_secs(days * DAYS));
        let unknown = RefreshRules::default;
        let kept = |days: u64| RefreshRules { keepalive: Some(days * DAY), ..unknown() };
        let idles = |days: u64| RefreshRules { idle_after: Some(days * DAY), rotation: Rotation::Static, ..unknown() };
        for (what, rules, refresh_dies, expected) in [
            ("nothing is known", unknown(), None, Due::Renew),
            ("the definition says how often", kept(14), None, postpone(14)),
            ("at most thirty days", kept(90), None, postpone(30)),
            ("its life, with a margin", unknown(), Some(10 * DAYS), postpone(8)),
            ("the earlier of both", kept(14), Some(10 * DAYS), postpone(8)),
            ("unused for so long it dies", idles(20), None, postpone(16)),
            (
                "using it does not help",
                RefreshRules { rotation: Rotation::Static, ..unknown() },
                Some(10 * DAYS),
                Due::Renew,
            ),
            ("its life is nearly over", unknown(), Some(4000), Due::Renew),
        ] {
            let idle_since = -7 * DAYS;
            assert_eq!(due(&rules, refresh_dies, idle_since, false, 3600), expected, "{what}");
            assert_eq!(due(&rules, refresh_dies, idle_since, true, 3600), Due::Renew, "{what}, in doubt");
            assert_eq!(due(&rules, refresh_dies, idle_since + 3601, false, 3600), Due::Renew, "{what}, used");
        }
    }

    #[test]
    fn a_token_that_would_die_in_somebodys_hand_waits_for_a_quiet_moment_but_not_for_ever() {
        let kills = RefreshRules { kills_access: true, ..RefreshRules::default() };
        let postpone = |at| Due::Postpone(Timestamp::from_secs(at));
        for (what, rules, wanted, now, expected) in [
            ("nobody has it", &kills, 2900, 3000, Due::Renew),
            ("somebody has it", &kills, 2950, 3000, postpone(3040)),
            ("somebody always has it", &kills, 3470, 3470, postpone(3480)),
            ("it is high time", &kills, 3480, 3480, Due::Renew),
            ("a clock that was set back", &kills, LONG, 3000, postpone(3480)),
            ("the old one lives on", &RefreshRules::default(), 2950, 3000, Due::Renew),
        ] {
            assert_eq!(due(rules, None, wanted, false, now), expected, "{what}");
            assert_eq!(due(rules, None, wanted, true, now), Due::Renew, "{what}, in doubt");
        }
    }

    #[test]
    fn what_was_put_off_is_renewed_when_its_time_comes() {
        let rules = RefreshRules { keepalive: Some(14 * DAY), ..RefreshRules::default() };
        assert_eq!(due(&rules, None, -LONG, false, 14 * DAY as i64), Due::Renew);
        let reactive = RefreshRules { mode: RefreshMode::Reactive, ..rules };
        assert_eq!(due(&reactive, None, -LONG, false, 14 * DAY as i64), Due::Renew, "its only renewal is this one");
        assert_eq!(due(&RefreshRules::default(), None, LONG, false, 0), Due::Renew, "a clock that was set back");
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
}
