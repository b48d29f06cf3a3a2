//! What a configured caller may have: rules, with the scopes that each of them goes up to.

use std::collections::BTreeMap;

use crate::model::connection::Account;
use crate::model::id::{ProviderId, SlotName};
use crate::model::scope::ScopeSet;

/// The rules of one caller, by provider, in the order of the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules(BTreeMap<ProviderId, Vec<Rule>>);

/// One rule at one provider. What it leaves open is not limited.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Which one of its caller's it is, counted from 0.
    pub number: usize,
    /// Where it stands, such as `callers.issue-reader.allow[0]`.
    pub name: String,
    /// Which accounts, by the provider's id or by the label that their subject gave. Not by their name at the provider: that
    /// may change, and somebody else may then have it.
    pub accounts: Option<Vec<String>>,
    /// Which slots, with the scopes that a token of each may have; `None` for all slots, whatever they may do.
    pub ceilings: Option<BTreeMap<SlotName, Ceiling>>,
    /// Whether a token may be handed out that is good for more than the ceiling: the provider gives no other.
    pub allow_broader: bool,
}

/// The scopes that a token may have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ceiling {
    /// No more than these.
    Scopes {
        /// As the operator named them.
        named: ScopeSet,
        /// By their full names, with everything that they include.
        reach: ScopeSet,
    },
    /// Whatever was granted.
    Whole,
}

impl Rules {
    /// Adds a rule at a provider, behind those that are there.
    pub fn push(&mut self, provider: ProviderId, rule: Rule) {
        self.0.entry(provider).or_default().push(rule);
    }

    /// The rules at a provider, in order.
    #[must_use]
    pub fn at(&self, provider: &ProviderId) -> &[Rule] {
        self.0.get(provider).map_or(&[], Vec::as_slice)
    }

    /// All rules with their providers.
    pub fn iter(&self) -> impl Iterator<Item = (&ProviderId, &Rule)> {
        self.0.iter().flat_map(|(provider, rules)| rules.iter().map(move |rule| (provider, rule)))
    }
}

impl Rule {
    /// Whether it is about this account.
    #[must_use]
    pub fn is_about(&self, account: &Account, label: Option<&str>) -> bool {
        let Some(accounts) = &self.accounts else { return true };
        accounts.iter().any(|name| *name == account.id || label == Some(name))
    }

    /// Up to where it goes in a slot; `None` if it is not about that slot.
    #[must_use]
    pub fn ceiling(&self, slot: &SlotName) -> Option<&Ceiling> {
        match &self.ceilings {
            None => Some(&Ceiling::Whole),
            Some(ceilings) => ceilings.get(slot),
        }
    }
}
