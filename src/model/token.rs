//! An access token with its lifetime, and how fresh it is at a given moment.

use std::time::Duration;

use crate::model::id::{Generation, TokenId};
use crate::model::scope::ScopeSet;
use crate::model::secret::AccessToken;
use crate::model::time::{Moment, Timestamp, Uptime};

/// What a provider issued (RFC 6749 section 5.1), as callers may have it.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token.
    pub access_token: AccessToken,
    /// Names this version of it.
    pub token_id: TokenId,
    /// Which replacement of the grant brought it.
    pub generation: Generation,
    /// What it may do, as far as the provider told.
    pub scopes: ScopeSet,
    /// When the request for it was sent.
    pub issued_at: Timestamp,
    /// When it dies, counted from when the request for it was sent; `None` if it does not expire by time.
    pub expires_at: Option<Timestamp>,
    /// The same by the clock that nobody can set, for whoever holds it in memory: [`dies_at`] of what was stored, or the
    /// uptime at which the request was sent plus the lifetime.
    pub dies_at: Option<Uptime>,
}

/// What may be done with a token now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// Past its expiry, or so close that it may die on the way: never hand it out.
    Dead,
    /// Alive, but with less life left than was asked for.
    Due,
    /// Alive for at least as long as was asked for.
    Fresh,
}

/// How long before its expiry a token already counts as dead: the time a request may be on its way, and the clocks of
/// two machines apart. Short, because some providers issue tokens for seconds.
pub const EXPIRY_MARGIN: Duration = Duration::from_millis(500);

/// How far in the future a token may have been issued before its times are no longer believed: clocks are set back by a
/// moment all the time.
pub const FUTURE_MARGIN: Duration = Duration::from_secs(5);

/// How far the two clocks may be apart before the wall clock's expiry is no longer repeated to callers.
const APART: Duration = Duration::from_secs(2);

/// When a token that was stored with these times dies, by the clock that nobody can set. It never lives longer than it was
/// given, and one that was issued in the future is dead: the clock was set back, and nobody knows how old it is.
#[must_use]
pub fn dies_at(issued_at: Timestamp, expires_at: Option<Timestamp>, now: Moment) -> Option<Uptime> {
    let expires_at = expires_at?;
    if issued_at > now.wall.after(FUTURE_MARGIN) {
        return Some(now.boot);
    }
    let left = expires_at.until(now.wall).min(expires_at.since(issued_at));
    Some(now.boot.after(left))
}

impl IssuedToken {
    /// How long the token lives by whichever clock gives it less; `None` if it does not expire by time.
    #[must_use]
    pub fn left(&self, now: Moment) -> Option<Duration> {
        let by_wall = self.expires_at?.until(now.wall);
        Some(self.dies_at.map_or(by_wall, |dies_at| dies_at.until(now.boot).min(by_wall)))
    }

    /// When it dies, in terms of the wall clock as it is now: as it was written down, unless the wall clock has been set
    /// back since then.
    #[must_use]
    pub fn ends_at(&self, now: Moment) -> Option<Timestamp> {
        let (written, left) = (self.expires_at?, self.left(now)?);
        Some(if written.until(now.wall) > left + APART { now.wall.after(left) } else { written })
    }

    /// How fresh the token is for a caller who wants to use it for `min_ttl`, by whichever clock gives it less time.
    ///
    /// A wish that the provider cannot grant is not asked for again and again: where tokens do not live comfortably longer
    /// than `min_ttl`, half of their lifetime is enough.
    #[must_use]
    pub fn freshness(&self, min_ttl: Duration, now: Moment) -> Freshness {
        let (Some(expires_at), Some(left)) = (self.expires_at, self.left(now)) else {
            return Freshness::Fresh;
        };
        if left <= EXPIRY_MARGIN {
            return Freshness::Dead;
        }
        let lifetime = expires_at.since(self.issued_at);
        let wanted = if min_ttl <= lifetime.mul_f32(0.9) { min_ttl } else { lifetime / 2 };
        if left < wanted {
            return Freshness::Due;
        }
        Freshness::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expires_at: Option<i64>) -> IssuedToken {
        IssuedToken {
            access_token: AccessToken::new("t").unwrap(),
            token_id: TokenId::random(),
            generation: Generation(1),
            scopes: ScopeSet::default(),
            issued_at: Timestamp::from_secs(0),
            expires_at: expires_at.map(Timestamp::from_secs),
            dies_at: expires_at.map(|at| up(at * 1000)),
        }
    }

    fn up(millis: i64) -> Uptime {
        Uptime::from_duration(Duration::from_millis(millis.unsigned_abs()))
    }

    fn at(millis: i64) -> Moment {
        moment(millis, millis)
    }

    fn moment(wall: i64, boot: i64) -> Moment {
        Moment { wall: Timestamp::from_millis(wall), boot: up(boot) }
    }

    #[test]
    fn a_token_is_fresh_then_due_then_dead() {
        use Freshness::{Dead, Due, Fresh};
        for (now, expected) in
            [(0, Fresh), (40_000, Fresh), (40_001, Due), (99_499, Due), (99_500, Dead), (200_000, Dead)]
        {
            assert_eq!(token(Some(100)).freshness(Duration::from_secs(60), at(now)), expected, "at {now} ms");
        }
    }

    #[test]
    fn a_wish_beyond_what_the_provider_gives_is_met_by_half_of_it() {
        use Freshness::{Due, Fresh};
        let hour = Duration::from_secs(3600);
        for (now, expected) in [(0, Fresh), (5, Fresh), (6, Due)] {
            assert_eq!(token(Some(10)).freshness(hour, at(now * 1000)), expected, "at {now} s");
        }
    }

    #[test]
    fn a_token_without_expiry_stays_fresh() {
        let far = at(i64::MAX);
        assert_eq!(token(None).freshness(Duration::MAX, far), Freshness::Fresh);
    }

    #[test]
    fn a_token_is_dead_when_either_clock_says_so() {
        use Freshness::{Dead, Due, Fresh};
        for (wall, boot, expected, left) in [
            (0, 0, Fresh, 100),
            (50_000, 0, Due, 50),
            (0, 50_000, Due, 50),
            (100_000, 0, Dead, 0),
            (0, 100_000, Dead, 0),
            (-400_000_000_000, 100_000, Dead, 0),
            (-400_000_000_000, 1_000, Fresh, 99),
            (400_000_000_000, 1_000, Dead, 0),
        ] {
            let (token, now) = (token(Some(100)), moment(wall, boot));
            assert_eq!(token.freshness(Duration::from_secs(60), now), expected, "{now:?}");
            assert_eq!(token.left(now), Some(Duration::from_secs(left)), "{now:?}");
        }
    }

    #[test]
    fn what_was_stored_lives_no_longer_than_it_was_given() {
        let (issued, expires) = (Timestamp::from_secs(1000), Some(Timestamp::from_secs(1100)));
        for (now, left) in [(1000, 100), (1060, 40), (1100, 0), (9999, 0), (996, 100), (994, 0), (-9999, 0)] {
            let now = moment(now * 1000, 5000);
            let dies_at = dies_at(issued, expires, now).unwrap();
            assert_eq!(dies_at.since(now.boot), Duration::from_secs(left), "{now:?}");
        }
        assert_eq!(dies_at(issued, None, at(0)), None);
    }

    #[test]
    fn the_expiry_is_told_as_written_unless_the_wall_clock_was_set_back() {
        for (wall, boot, ends) in [(10, 10, 100), (10, 9, 100), (10, 11, 100), (10, 60, 50), (60, 10, 100)] {
            let told = token(Some(100)).ends_at(moment(wall * 1000, boot * 1000));
            assert_eq!(told, Some(Timestamp::from_secs(ends)), "{wall} {boot}");
        }
    }
}
