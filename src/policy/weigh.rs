//! Holds what is asked for against the rules of a configured caller, one by one.

use crate::model::rule::{Ceiling, Rule, Rules};
use crate::model::scope::ScopeSet;
use crate::policy::{DEFAULT_DENY, Decision, Refusal, Target, Use};

/// What one rule says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Weighed {
    /// It allows it.
    Allows,
    /// It is about other accounts.
    OtherAccount,
    /// It is about other slots.
    OtherSlot,
    /// The token would be good for these too.
    Broader(ScopeSet),
    /// These are above its ceiling.
    Above(ScopeSet),
}

/// What the rules say together: the first that allows it decides. Two rules are never added up.
pub(super) fn use_of<'r>(rules: &'r Rules, wish: &Use<'_>) -> Decision<'r> {
    let mut refused = Decision::Refused { rule: DEFAULT_DENY, refusal: Refusal::Absent };
    for rule in rules.at(wish.provider) {
        let refusal = match weigh(rule, wish) {
            Weighed::Allows => return Decision::Allowed { rule: &rule.name },
            Weighed::OtherAccount | Weighed::OtherSlot => continue,
            Weighed::Broader(scopes) => Refusal::Broader(scopes),
            Weighed::Above(scopes) => Refusal::Scopes(scopes),
        };
        // The rule that came closest is told: one that would do but for the grant, or else the first.
        let closer = matches!(
            (&refused, &refusal),
            (Decision::Refused { refusal: Refusal::Absent, .. }, _)
                | (Decision::Refused { refusal: Refusal::Scopes(_), .. }, Refusal::Broader(_))
        );
        if closer {
            refused = Decision::Refused { rule: &rule.name, refusal };
        }
    }
    refused
}

/// The rules that are about a connection.
pub(super) fn about<'r>(rules: &'r Rules, target: &Target<'_>) -> impl Iterator<Item = &'r Rule> {
    rules.at(target.provider).iter().filter(|rule| rule.is_about(target.account, target.label))
}

/// What one rule says.
pub(super) fn weigh(rule: &Rule, wish: &Use<'_>) -> Weighed {
    if wish.account.is_some_and(|(account, label)| !rule.is_about(account, label)) {
        return Weighed::OtherAccount;
    }
    let Some(slot) = wish.slot else { return in_any_slot(rule, wish) };
    rule.ceiling(slot).map_or(Weighed::OtherSlot, |ceiling| under(ceiling, rule, wish))
}

/// Before it is known which slot is meant, a rule stands for the slot in which it goes furthest.
fn in_any_slot(rule: &Rule, wish: &Use<'_>) -> Weighed {
    let Some(ceilings) = &rule.ceilings else { return Weighed::Allows };
    let mut found = Weighed::OtherSlot;
    for ceiling in ceilings.values() {
        match under(ceiling, rule, wish) {
            Weighed::Allows => return Weighed::Allows,
            other if found == Weighed::OtherSlot => found = other,
            _ => {}
        }
    }
    found
}

fn under(ceiling: &Ceiling, rule: &Rule, wish: &Use<'_>) -> Weighed {
    let Ceiling::Scopes { reach, .. } = ceiling else { return Weighed::Allows };
    let above = wish.scopes.beyond(reach, wish.wanted);
    if !above.is_empty() {
        return Weighed::Above(above);
    }
    match wish.granted {
        Some(granted) if !rule.allow_broader => match wish.scopes.beyond(reach, granted) {
            broader if broader.is_empty() => Weighed::Allows,
            broader => Weighed::Broader(broader),
        },
        _ => Weighed::Allows,
    }
}
