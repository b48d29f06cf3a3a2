//! Who is meant where a provider refuses our client and a dead grant in the same words: what it says of other grants tells.
//!
//! A grant that was refused, and is refused again after the client was taken for another one, is dead. If several are refused
//! and none is renewed in between, or all there are, it is the client. Otherwise nobody knows yet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::store::records::GrantKey;

/// So many grants that are refused one after the other show that the client is meant.
pub const SEVERAL: usize = 3;
/// How long a refusal counts: longer than a grant waits for the next attempt.
const REMEMBERED: Duration = Duration::from_secs(1200);

/// Who is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Meant {
    /// Our registration: an operator has to act.
    Client,
    /// This one grant.
    Grant,
    /// Nobody knows yet.
    Unknown,
}

/// Which grants were refused in such words lately.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    refused: HashMap<GrantKey, Refused>,
    /// When our client was taken last.
    vouched_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    first: Instant,
    last: Instant,
}

impl Doubts {
    /// The provider has refused `grant`, one of `all` that are renewed there.
    pub(super) fn refuse(&mut self, grant: &GrantKey, all: usize, now: Instant) -> Meant {
        self.refused.retain(|_, refused| now.saturating_duration_since(refused.last) < REMEMBERED);
        let refused = self.refused.entry(grant.clone()).or_insert(Refused { first: now, last: now });
        refused.last = now;
        let is_vouched = self.vouched_at.is_some_and(|at| at > refused.first);
        let since = self.refused.values().filter(|refused| self.vouched_at.is_none_or(|at| refused.last > at)).count();
        match since {
            1 if is_vouched => Meant::Grant,
            _ if since >= all.clamp(1, SEVERAL) => Meant::Client,
            _ if is_vouched => Meant::Grant,
            _ => Meant::Unknown,
        }
    }

    /// The provider takes our client.
    pub(super) const fn vouch(&mut self, now: Instant) {
        self.vouched_at = Some(now);
    }

    /// This grant was renewed.
    pub(super) fn renewed(&mut self, grant: &GrantKey) {
        self.refused.remove(grant);
    }

    /// An operator has corrected something: nothing of before counts.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{ConnectionId, SlotName};

    /// A provider with some grants, and the seconds that have passed.
    struct Case {
        doubts: Doubts,
        grants: Vec<GrantKey>,
        start: Instant,
    }

    impl Case {
        fn of(count: usize) -> Self {
            let grant = || GrantKey { connection: ConnectionId::random(), slot: SlotName::main() };
            Self { doubts: Doubts::default(), grants: (0..count).map(|_| grant()).collect(), start: Instant::now() }
        }

        fn refuse(&mut self, grant: usize, at: u64) -> Meant {
            self.doubts.refuse(&self.grants[grant], self.grants.len(), self.start + Duration::from_secs(at))
        }

        fn vouch(&mut self, at: u64) {
            self.doubts.vouch(self.start + Duration::from_secs(at));
        }
    }

    #[test]
    fn a_grant_that_is_refused_before_and_after_another_was_renewed_is_dead() {
        let mut case = Case::of(2);
        assert_eq!(case.refuse(0, 0), Meant::Unknown);
        assert_eq!(case.refuse(0, 60), Meant::Unknown, "however often it is refused");
        case.vouch(70);
        assert_eq!(case.refuse(0, 120), Meant::Grant);
        assert_eq!(case.refuse(0, 130), Meant::Grant);
    }

    #[test]
    fn that_the_client_was_good_before_says_nothing() {
        let mut case = Case::of(5);
        case.vouch(0);
        assert_eq!(case.refuse(0, 1), Meant::Unknown);
        assert_eq!(case.refuse(1, 2), Meant::Unknown);
        assert_eq!(case.refuse(2, 3), Meant::Client);
    }

    #[test]
    fn several_that_are_refused_in_a_row_mean_the_client_and_so_do_all_if_there_are_fewer() {
        for (count, needed) in [(1, 1), (2, 2), (3, 3), (4, 3), (1000, 3)] {
            let mut case = Case::of(count);
            for grant in 0..needed {
                let expected = if grant + 1 == needed { Meant::Client } else { Meant::Unknown };
                assert_eq!(case.refuse(grant, 1), expected, "{grant} of {count}");
            }
        }
        let mut case = Case::of(10);
        case.refuse(0, 0);
        case.vouch(1);
        assert_eq!(
            [case.refuse(1, 2), case.refuse(2, 3), case.refuse(0, 4)],
            [Meant::Unknown, Meant::Unknown, Meant::Client]
        );
    }

    #[test]
    fn the_only_grant_is_dead_if_our_client_was_taken_for_something_else() {
        let mut case = Case::of(1);
        assert_eq!(case.refuse(0, 0), Meant::Client);
        case.vouch(10);
        assert_eq!(case.refuse(0, 60), Meant::Grant);
    }

    #[test]
    fn a_refusal_is_forgotten_when_the_grant_is_renewed_or_time_passes_or_an_operator_acts() {
        for why in ["it is renewed", "time passes", "an operator acts"] {
            let mut case = Case::of(5);
            case.refuse(0, 0);
            case.vouch(1);
            let mut at = 2;
            match why {
                "it is renewed" => case.doubts.renewed(&case.grants[0]),
                "time passes" => at = REMEMBERED.as_secs(),
                _ => case.doubts.clear(),
            }
            assert_eq!(case.refuse(0, at), Meant::Unknown, "{why}");
        }
    }
}
