//! Which grants are left alone while the store may be an old copy of itself.

use crate::model::provider::rules::{RefreshRules, Rotation};
use crate::model::time::Timestamp;
use crate::store::records::Hold;

/// Whether a grant's refresh token must not be sent: it may have been spent since the copy was made, and a provider whose
/// refresh tokens work once would take it for stolen and end the whole family (RFC 9700 section 4.14.2). Where they work many
/// times, sending it again is harmless. What was connected or renewed after the hold began is known to be current.
#[must_use]
pub fn is_held(hold: Option<&Hold>, rules: &RefreshRules, issued_at: Timestamp) -> bool {
    rules.rotation == Rotation::SingleUse && hold.is_some_and(|hold| issued_at < hold.before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::HoldReason;

    #[test]
    fn only_old_grants_whose_refresh_token_works_once_are_held() {
        let at = Timestamp::from_secs;
        let hold = Hold { before: at(100), found_at: at(100), why: HoldReason::Older };
        for (hold, rotation, issued_at, expected) in [
            (Some(&hold), Rotation::SingleUse, 99, true),
            (Some(&hold), Rotation::SingleUse, 100, false),
            (Some(&hold), Rotation::SingleUse, 101, false),
            (Some(&hold), Rotation::MultiValid, 99, false),
            (Some(&hold), Rotation::Static, 99, false),
            (None, Rotation::SingleUse, 99, false),
        ] {
            let rules = RefreshRules { rotation, ..RefreshRules::default() };
            assert_eq!(is_held(hold, &rules, at(issued_at)), expected, "{rotation:?} {issued_at}");
        }
    }
}
