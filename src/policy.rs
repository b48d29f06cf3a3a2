//! Who may have what: one pure function from caller and action to a decision that names its rule.

use crate::model::caller::Caller;
use crate::model::subject::Subject;

/// What a caller wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// End a connection.
    Disconnect(&'a Subject),
    /// Change what a connection is called, and whether it is meant when a caller names none.
    Name(&'a Subject),
    /// See that a connection exists and how it stands, never its tokens.
    See(&'a Subject),
    /// Be handed an access token, or make a connect session.
    Use(&'a Subject),
}

/// The answer, and the rule that gave it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Whether it may.
    pub allowed: bool,
    /// The rule, for the operator.
    pub rule: &'static str,
}

/// Decides. A subject does everything with what is its own; an administrator sees and ends what is others', and is given
/// nobody's token for it.
#[must_use]
pub fn decide(caller: &Caller, action: Action<'_>) -> Decision {
    let (Action::Disconnect(owner) | Action::Name(owner) | Action::See(owner) | Action::Use(owner)) = action;
    if caller.subject == *owner {
        return Decision { allowed: true, rule: "own" };
    }
    match action {
        Action::Disconnect(_) | Action::See(_) if caller.admin => Decision { allowed: true, rule: "administrator" },
        _ => Decision { allowed: false, rule: "default deny" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, admin: bool) -> Caller {
        Caller { name: format!("uid:{uid}").parse().unwrap(), subject: Subject::from_uid(uid), admin, peer: None }
    }

    #[test]
    fn everybody_has_their_own_and_an_administrator_has_no_ones_token() {
        let (own, other) = (Subject::from_uid(1000), Subject::from_uid(1001));
        for (admin, action, allowed) in [
            (false, Action::Use(&own), true),
            (false, Action::See(&own), true),
            (false, Action::Disconnect(&own), true),
            (false, Action::Name(&own), true),
            (false, Action::Name(&other), false),
            (true, Action::Name(&other), false),
            (false, Action::Use(&other), false),
            (false, Action::See(&other), false),
            (false, Action::Disconnect(&other), false),
            (true, Action::Use(&own), true),
            (true, Action::Use(&other), false),
            (true, Action::See(&other), true),
            (true, Action::Disconnect(&other), true),
        ] {
            assert_eq!(decide(&caller(1000, admin), action).allowed, allowed, "admin {admin}: {action:?}");
        }
    }
}
