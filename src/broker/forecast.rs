//! When a connection will need a person if nothing changes: pure rules on what is known of the life of its grants.

use std::time::Duration;

use crate::broker::schedule::{self, Life};
use crate::model::connection::{Connection, ReconnectReason, State};
use crate::model::provider::rules::{RefreshRules, Rotation};
use crate::model::time::Timestamp;
use crate::store::records::{Ends, Grant, StoredConnection};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long before the date a warning is given, in days; the most urgent last.
pub const WARNING_DAYS: [u32; 3] = [14, 7, 1];

/// When a connection will need a person, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forecast {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: Why,
}

/// Why a connection will need a person.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// The provider ends the access a fixed time after the person agreed, however it is used.
    ConsentEnds,
    /// It needs a person already; its state says why.
    NeedsReconnect,
    /// The access token ends, and there is no refresh token.
    NoRefreshToken,
    /// The refresh token ends because it is not renewed: that fails, or is not planned in time.
    NotRenewed,
    /// The refresh token ends at a fixed time and is never replaced.
    RefreshTokenEnds,
}

impl Why {
    /// Every reason, for the commands and the documents.
    pub const ALL: [Self; 5] =
        [Self::ConsentEnds, Self::NeedsReconnect, Self::NoRefreshToken, Self::NotRenewed, Self::RefreshTokenEnds];

    /// The stable word, in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsentEnds => "consent_ends",
            Self::NeedsReconnect => "needs_reconnect",
            Self::NoRefreshToken => "no_refresh_token",
            Self::NotRenewed => "not_renewed",
            Self::RefreshTokenEnds => "refresh_token_ends",
        }
    }

    /// The rest of a sentence for the person who will have to act.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ConsentEnds => "the provider ends the access a fixed time after you agreed",
            Self::NeedsReconnect => "it has to be connected again",
            Self::NoRefreshToken => "the access ends, and the provider gave no way to renew it",
            Self::NotRenewed => "the access ends because it could not be renewed",
            Self::RefreshTokenEnds => "the provider gave the access for a fixed time",
        }
    }
}

/// What a forecast is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// When the person consented.
    pub confirmed_at: Timestamp,
    /// Whether there is a refresh token.
    pub renewable: bool,
    /// How long the tokens live.
    pub life: Life,
    /// When it is to be renewed.
    pub renew_at: Option<Timestamp>,
    /// Whether the last refresh brought nothing.
    pub failing: bool,
}

impl Facts {
    /// What is stored of a grant.
    #[must_use]
    pub const fn of(connection: &Connection, grant: &Grant) -> Self {
        Self {
            confirmed_at: connection.confirmed_at,
            renewable: grant.content.refresh.is_some(),
            life: Life::of(&grant.content),
            renew_at: grant.content.renew_at,
            failing: grant.failures > 0,
        }
    }
}

/// When a grant will need a person if nothing changes; `None` if nothing is known that ends it.
#[must_use]
pub fn needs_person_at(rules: &RefreshRules, facts: &Facts) -> Option<Forecast> {
    let lapses = lapses(rules, facts.renewable, facts.life)
        .filter(|at| facts.failing || facts.renew_at.is_none_or(|renew_at| renew_at >= *at))
        .map(|at| Forecast { at, why: Why::NotRenewed });
    earliest([fixed(rules, facts.confirmed_at, facts.renewable, facts.life), lapses])
}

/// The same in the form that is stored with a grant, so that what is ending can be found without reading everything.
#[must_use]
pub fn ends(rules: &RefreshRules, confirmed_at: Timestamp, renewable: bool, life: Life) -> Ends {
    Ends {
        at: fixed(rules, confirmed_at, renewable, life).map(|forecast| forecast.at),
        unless_renewed: lapses(rules, renewable, life),
    }
}

/// When a connection will need a person: the earliest of its grants, or now.
#[must_use]
pub fn of_connection(rules: &RefreshRules, stored: &StoredConnection, now: Timestamp) -> Option<Forecast> {
    match state(stored, now) {
        State::Revoked => None,
        State::NeedsReconnect(_) => Some(Forecast { at: now, why: Why::NeedsReconnect }),
        State::Active | State::RefreshFailed => {
            earliest(stored.grants.iter().map(|grant| needs_person_at(rules, &Facts::of(&stored.connection, grant))))
        }
    }
}

/// How a connection stands for whoever looks at it: one whose token died and cannot be renewed needs a person, although no
/// refresh ever failed.
#[must_use]
pub fn state(stored: &StoredConnection, now: Timestamp) -> State {
    let is_dead = |grant: &Grant| {
        grant.content.refresh.is_none() && grant.content.expires_at.is_some_and(|expires_at| expires_at <= now)
    };
    match &stored.connection.state {
        State::Active | State::RefreshFailed if stored.grants.iter().any(is_dead) => {
            State::NeedsReconnect(ReconnectReason::NoRefreshToken)
        }
        state => state.clone(),
    }
}

/// For which point in time the most urgent warning is due that has come, and how many days before the date it is; `None`
/// while the date is further away than that. Compared with the warning before, it says whether another one is to be given: a
/// date that has moved far away makes its warnings due again.
#[must_use]
pub fn warning(at: Timestamp, now: Timestamp) -> Option<(Timestamp, u32)> {
    WARNING_DAYS.iter().rev().map(|days| (at.before(DAY * *days), *days)).find(|(due, _)| *due <= now)
}

/// What ends it whatever is done.
fn fixed(rules: &RefreshRules, confirmed_at: Timestamp, renewable: bool, life: Life) -> Option<Forecast> {
    if !renewable {
        return life.expires_at.map(|at| Forecast { at, why: Why::NoRefreshToken });
    }
    let consent = rules.expires_after.map(|seconds| confirmed_at.after(Duration::from_secs(seconds)));
    let token = life.refresh_expires_at.filter(|_| rules.rotation == Rotation::Static);
    earliest([
        consent.map(|at| Forecast { at, why: Why::ConsentEnds }),
        token.map(|at| Forecast { at, why: Why::RefreshTokenEnds }),
    ])
}

/// What ends it unless it is renewed before.
fn lapses(rules: &RefreshRules, renewable: bool, life: Life) -> Option<Timestamp> {
    schedule::lapses_at(rules, life).filter(|_| renewable)
}

fn earliest(forecasts: impl IntoIterator<Item = Option<Forecast>>) -> Option<Forecast> {
    forecasts.into_iter().flatten().min_by_key(|forecast| forecast.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAYS: i64 = 24 * HOUR;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// Consented at 0, refreshed an hour ago at day 2, to be renewed half an hour later.
    fn facts(refresh_expires_at: Option<i64>) -> Facts {
        let life = Life {
            issued_at: at(2 * DAYS),
            expires_at: Some(at(2 * DAYS + HOUR)),
            refresh_expires_at: refresh_expires_at.map(at),
        };
        let renew_at = Some(at(2 * DAYS + HOUR / 2));
        Facts { confirmed_at: at(0), renewable: true, life, renew_at, failing: false }
    }

    fn rules(rotation: Rotation, expires_after: Option<u64>, idle_after: Option<u64>) -> RefreshRules {
        RefreshRules { rotation, expires_after, idle_after, ..RefreshRules::default() }
    }

    #[test]
    fn the_date_follows_from_what_is_known_of_the_refresh_token() {
        const DAY: u64 = DAYS as u64;
        let healthy = facts;
        let failing = |refresh_dies| Facts { failing: true, ..facts(refresh_dies) };
        let unplanned = |refresh_dies| Facts { renew_at: None, ..facts(refresh_dies) };
        let bare = Facts { renewable: false, ..facts(None) };
        let endless = Facts { life: Life { expires_at: None, ..bare.life }, ..bare };
        let (single, same) = (Rotation::SingleUse, Rotation::Static);
        for (what, rules, facts, expected) in [
            ("nothing is known", rules(single, None, None), healthy(None), None),
            ("nothing is known, and it fails", rules(single, None, None), failing(None), None),
            (
                "no refresh token",
                rules(single, Some(9 * DAY), None),
                bare,
                Some((2 * DAYS + HOUR, Why::NoRefreshToken)),
            ),
            ("a token for ever", rules(single, None, None), endless, None),
            (
                "from the consent",
                rules(single, Some(30 * DAY), None),
                healthy(None),
                Some((30 * DAYS, Why::ConsentEnds)),
            ),
            (
                "a token that stays",
                rules(same, None, None),
                healthy(Some(7 * DAYS)),
                Some((7 * DAYS, Why::RefreshTokenEnds)),
            ),
            (
                "the earlier of both",
                rules(same, Some(5 * DAY), None),
                healthy(Some(7 * DAYS)),
                Some((5 * DAYS, Why::ConsentEnds)),
            ),
            ("each token anew", rules(single, None, None), healthy(Some(9 * DAYS)), None),
            ("but it fails", rules(single, None, None), failing(Some(9 * DAYS)), Some((9 * DAYS, Why::NotRenewed))),
            (
                "but nobody does it",
                rules(single, None, None),
                unplanned(Some(9 * DAYS)),
                Some((9 * DAYS, Why::NotRenewed)),
            ),
            (
                "but too late",
                rules(single, None, None),
                healthy(Some(2 * DAYS + 9)),
                Some((2 * DAYS + 9, Why::NotRenewed)),
            ),
            ("dies unused, and is used", rules(same, None, Some(180 * DAY)), healthy(None), None),
            (
                "dies unused, and using it fails",
                rules(same, None, Some(180 * DAY)),
                failing(None),
                Some((182 * DAYS, Why::NotRenewed)),
            ),
        ] {
            let found = needs_person_at(&rules, &facts);
            assert_eq!(found.map(|forecast| (forecast.at.as_secs(), forecast.why)), expected, "{what}");

            let ends = ends(&rules, facts.confirmed_at, facts.renewable, facts.life);
            let late = |lapses: &Timestamp| facts.failing || facts.renew_at.is_none_or(|renew_at| renew_at >= *lapses);
            let stored = [ends.at, ends.unless_renewed.filter(late)].into_iter().flatten().min();
            assert_eq!(stored, found.map(|forecast| forecast.at), "{what}, as stored");
        }
    }

    #[test]
    fn a_warning_is_due_fourteen_seven_and_one_day_before() {
        let date = at(100 * DAYS);
        for (now, expected) in [
            (85 * DAYS, None),
            (86 * DAYS, Some((86, 14))),
            (93 * DAYS - 1, Some((86, 14))),
            (93 * DAYS, Some((93, 7))),
            (99 * DAYS, Some((99, 1))),
            (200 * DAYS, Some((99, 1))),
        ] {
            let found = warning(date, at(now)).map(|(due, days)| (due.as_secs() / DAYS, days));
            assert_eq!(found, expected, "{now}");
        }
    }

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: std::collections::HashSet<_> = Why::ALL.into_iter().map(Why::as_str).collect();
        assert_eq!(words.len(), Why::ALL.len());
    }
}
