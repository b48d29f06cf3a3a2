//! Who may have what: one pure function from caller and action to a decision that names its rule.

pub mod callers;
pub mod weigh;

use crate::model::caller::Caller;
use crate::model::connection::{Account, Connection};
use crate::model::id::{ProviderId, SlotName};
use crate::model::provider::rules::ScopeRules;
use crate::model::rule::Rule;
use crate::model::scope::ScopeSet;
use crate::model::subject::Subject;
use crate::policy::weigh::Weighed;

/// What a caller wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Take the steps of a connect session that are the person's: be taken for them in a browser, see and confirm the account.
    Attend(&'a Subject),
    /// End a connection.
    Disconnect(Target<'a>),
    /// Change what a connection is called, and whether it is meant when a caller names none.
    Name(Target<'a>),
    /// See that a connection exists and how it stands, never its tokens.
    See(Target<'a>),
    /// Be handed an access token, or make a connect session.
    Use(Use<'a>),
}

/// A connection that something is done with.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Whose it is.
    pub owner: &'a Subject,
    /// At which provider.
    pub provider: &'a ProviderId,
    /// Which account there.
    pub account: &'a Account,
    /// What its subject calls it.
    pub label: Option<&'a str>,
}

/// A token or a connect session that is asked for. What is not known yet stands against no rule.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Whose account it is.
    pub owner: &'a Subject,
    /// At which provider.
    pub provider: &'a ProviderId,
    /// Which account there, with its label, once that is known.
    pub account: Option<(&'a Account, Option<&'a str>)>,
    /// Which slot, once that is known.
    pub slot: Option<&'a SlotName>,
    /// The scopes that are required.
    pub wanted: &'a ScopeSet,
    /// What the token is good for that would be handed out, once that is known.
    pub granted: Option<&'a ScopeSet>,
    /// How the provider means its scopes.
    pub scopes: &'a ScopeRules,
}

/// The answer, and the rule that gave it, for the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision<'r> {
    /// It may.
    Allowed {
        /// The rule.
        rule: &'r str,
    },
    /// It may not.
    Refused {
        /// The rule that came closest, or what stands for all of them.
        rule: &'r str,
        /// In which way.
        refusal: Refusal,
    },
}

/// How a refusal is to be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// As if it were not there.
    Absent,
    /// The token would be good for these scopes too, which the caller may not have.
    Broader(ScopeSet),
    /// It is there, and not for this caller to do.
    Forbidden,
    /// These of the required scopes are above the ceiling.
    Scopes(ScopeSet),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("no rule is about it"),
            Self::Broader(scopes) => write!(f, "the token would be good for more than the rule goes up to: {scopes}"),
            Self::Forbidden => f.write_str("a configured caller looks and uses, and does nothing else"),
            Self::Scopes(scopes) => write!(f, "it asks for more than the rule goes up to: {scopes}"),
        }
    }
}

/// Stands for all rules of a caller where none of them was about what was asked.
pub const DEFAULT_DENY: &str = "default deny";
/// The rule of a subject for what is its own.
pub const OWN: &str = "own";

impl<'r> Decision<'r> {
    /// The rule that gave it.
    #[must_use]
    pub const fn rule(&self) -> &'r str {
        match self {
            Self::Allowed { rule } | Self::Refused { rule, .. } => rule,
        }
    }

    /// Whether it may.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl<'a> Target<'a> {
    /// This connection.
    #[must_use]
    pub fn of(connection: &'a Connection) -> Self {
        Self {
            owner: &connection.subject,
            provider: &connection.provider,
            account: &connection.account,
            label: connection.label.as_ref().map(crate::model::label::Label::as_str),
        }
    }
}

/// Decides. A subject does everything with what is its own; a configured caller does what its rules allow and nothing else;
/// an administrator sees and ends what is others', and is given nobody's token for it.
#[must_use]
pub fn decide<'c>(caller: &'c Caller, action: Action<'_>) -> Decision<'c> {
    let owner = match action {
        Action::Attend(owner) | Action::Use(Use { owner, .. }) => owner,
        Action::Disconnect(target) | Action::Name(target) | Action::See(target) => target.owner,
    };
    let own = caller.subject == *owner;
    match (&caller.rules, action) {
        (None, _) if own => Decision::Allowed { rule: OWN },
        (None, Action::Disconnect(_) | Action::See(_)) if caller.admin => Decision::Allowed { rule: "administrator" },
        (Some(rules), Action::Use(wish)) if own => weigh::use_of(rules, &wish),
        (Some(_), Action::Attend(_)) if own => {
            Decision::Refused { rule: "a person's step", refusal: Refusal::Forbidden }
        }
        (Some(rules), Action::See(target)) if own => match weigh::about(rules, &target).next() {
            Some(rule) => Decision::Allowed { rule: &rule.name },
            None => absent(),
        },
        (Some(rules), Action::Disconnect(target) | Action::Name(target)) if own => {
            match weigh::about(rules, &target).next() {
                Some(_) => Decision::Refused { rule: "tokens only", refusal: Refusal::Forbidden },
                None => absent(),
            }
        }
        _ => absent(),
    }
}

/// What each rule at the provider says, in order; empty for a caller without rules.
pub fn each_rule<'c>(caller: &'c Caller, wish: &'c Use<'_>) -> impl Iterator<Item = (&'c Rule, Weighed)> {
    let rules = caller.rules.as_deref().map_or(&[][..], |rules| rules.at(wish.provider));
    rules.iter().map(|rule| (rule, weigh::weigh(rule, wish)))
}

/// Whether a slot of a connection is the caller's to see.
#[must_use]
pub fn sees_slot(caller: &Caller, target: &Target<'_>, slot: &SlotName) -> bool {
    match &caller.rules {
        None => true,
        Some(rules) => weigh::about(rules, target).any(|rule| rule.ceiling(slot).is_some()),
    }
}

const fn absent() -> Decision<'static> {
    Decision::Refused { rule: DEFAULT_DENY, refusal: Refusal::Absent }
}

#[cfg(test)]
mod tests;
