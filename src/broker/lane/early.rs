//! How often a grant is renewed before it is due because a caller asks for it.
//!
//! A caller that reports every token as rejected, or wants more life than the provider gives, would otherwise make the daemon
//! spend one refresh token after another. Some providers count refreshes for each grant.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use crate::broker::lane::window::Window;
use crate::store::records::GrantKey;

const HOUR: Duration = Duration::from_secs(3600);
/// How many grants are remembered; those that nobody asks for are forgotten first.
const GRANTS_MAX: usize = 16_384;

/// The early renewals of the last hour, by grant.
#[derive(Debug)]
pub struct EarlyLimit(Mutex<Cache<GrantKey, Window>>);

impl Default for EarlyLimit {
    fn default() -> Self {
        Self::remembering(GRANTS_MAX)
    }
}

impl EarlyLimit {
    fn remembering(grants: usize) -> Self {
        Self(Mutex::new(Cache::new(grants)))
    }

    /// Takes one of the `per_hour` early renewals that the grant has in any hour; there is no limit without it.
    ///
    /// # Errors
    /// When the next one may be taken.
    pub fn admit(&self, key: &GrantKey, per_hour: Option<NonZeroU32>, now: Instant) -> Result<(), Instant> {
        let Some(per_hour) = per_hour else { return Ok(()) };
        let most = usize::try_from(per_hour.get()).unwrap_or(usize::MAX);
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut window) = grants.get_mut(key) {
            if let Some(again) = window.again_at(most, HOUR, now) {
                return Err(again);
            }
            window.take(now);
            return Ok(());
        }
        let mut window = Window::default();
        window.take(now);
        grants.insert(key.clone(), window);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{ConnectionId, SlotName};

    fn key() -> GrantKey {
        GrantKey { connection: ConnectionId::random(), slot: SlotName::main() }
    }

    #[test]
    fn six_in_any_hour_and_the_seventh_is_told_when() {
        let (limit, key, start) = (EarlyLimit::default(), key(), Instant::now());
        let minute = |minutes: u64| start + Duration::from_secs(60 * minutes);
        for minutes in 0..6 {
            assert_eq!(limit.admit(&key, NonZeroU32::new(6), minute(minutes)), Ok(()));
        }
        assert_eq!(limit.admit(&key, NonZeroU32::new(6), minute(30)), Err(minute(60)));
        assert_eq!(limit.admit(&key, NonZeroU32::new(6), minute(60)), Ok(()));
        assert_eq!(limit.admit(&key, NonZeroU32::new(6), minute(60)), Err(minute(61)));
    }

    #[test]
    fn grants_do_not_share_it_and_without_a_limit_nothing_is_counted() {
        let (limit, one, now) = (EarlyLimit::default(), key(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(limit.admit(&one, None, now), Ok(()));
        }
        let slot = GrantKey { slot: "user".parse().unwrap(), ..one.clone() };
        for key in [&one, &slot, &key()] {
            assert_eq!(limit.admit(key, NonZeroU32::new(1), now), Ok(()));
            assert!(limit.admit(key, NonZeroU32::new(1), now).is_err());
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let (limit, now) = (EarlyLimit::remembering(100), Instant::now());
        for _ in 0..10_000 {
            assert_eq!(limit.admit(&key(), NonZeroU32::new(6), now), Ok(()));
        }
        assert!(limit.0.lock().unwrap().len() <= 100);
    }
}
