//! An access token with its lifetime, and how fresh it is at a given moment.

use std::time::Duration;

use crate::model::id::{Generation, TokenId};
use crate::model::scope::ScopeSet;
use crate::model::secret::AccessToken;
use crate::model::time::Timestamp;

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

impl IssuedToken {
    /// How fresh the token is for a caller who wants to use it for `min_ttl`.
    ///
    /// A wish that the provider cannot grant is not asked for again and again: where tokens do not live comfortably longer
    /// than `min_ttl`, half of their lifetime is enough.
    #[must_use]
    pub fn freshness(&self, min_ttl: Duration, now: Timestamp) -> Freshness {
        let Some(expires_at) = self.expires_at else {
            return Freshness::Fresh;
        };
        if now >= expires_at.before(EXPIRY_MARGIN) {
            return Freshness::Dead;
        }
        let lifetime = expires_at.since(self.issued_at);
        let wanted = if min_ttl <= lifetime.mul_f32(0.9) { min_ttl } else { lifetime / 2 };
        if expires_at.until(now) < wanted {
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
        }
    }

    #[test]
    fn a_token_is_fresh_then_due_then_dead() {
        use Freshness::{Dead, Due, Fresh};
        for (now, expected) in
            [(0, Fresh), (40_000, Fresh), (40_001, Due), (99_499, Due), (99_500, Dead), (200_000, Dead)]
        {
            let now_at = Timestamp::from_millis(now);
            assert_eq!(token(Some(100)).freshness(Duration::from_secs(60), now_at), expected, "at {now} ms");
        }
    }

    #[test]
    fn a_wish_beyond_what_the_provider_gives_is_met_by_half_of_it() {
        use Freshness::{Due, Fresh};
        let hour = Duration::from_secs(3600);
        for (now, expected) in [(0, Fresh), (5, Fresh), (6, Due)] {
            assert_eq!(token(Some(10)).freshness(hour, Timestamp::from_secs(now)), expected, "at {now} s");
        }
    }

    #[test]
    fn a_token_without_expiry_stays_fresh() {
        let far = Timestamp::from_millis(i64::MAX);
        assert_eq!(token(None).freshness(Duration::MAX, far), Freshness::Fresh);
    }
}
