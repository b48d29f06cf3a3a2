//! The rules of a caller, held against the definitions of the providers: which slots there are, what scopes mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::registry::Configured;
use crate::config::Config;
use crate::config::callers::RuleConfig;
use crate::config::values::{Preset, ProviderChoice, ScopeChoice};
use crate::model::id::{CallerName, ProviderId, SlotName};
use crate::model::provider::Provider;
use crate::model::provider::rules::ScopesManagedBy;
use crate::model::rule::{Ceiling, Rule, Rules};
use crate::model::scope::ScopeSet;
use crate::yaml::{Segment, YamlError, nearest};

/// The longest name of an account, in characters.
const ACCOUNT_MAX: usize = 256;

/// One caller of the file.
pub(super) struct Section<'c> {
    pub(super) config: &'c Config,
    pub(super) name: &'c CallerName,
}

type Providers = BTreeMap<ProviderId, Arc<Configured>>;
type Ceilings = Option<BTreeMap<SlotName, Ceiling>>;

impl Section<'_> {
    /// An error at a member of this caller.
    pub(super) fn error(&self, member: &[Segment], message: impl Into<String>) -> YamlError {
        let path: Vec<Segment> = [Segment::from("callers"), Segment::from(self.name.as_str())]
            .into_iter()
            .chain(member.iter().cloned())
            .collect();
        self.config.error(&path, message)
    }

    /// The rules, each spelled out for every provider that it is about.
    pub(super) fn rules(&self, written: &[RuleConfig], providers: &Providers) -> Result<Rules, YamlError> {
        let mut rules = Rules::default();
        for (number, rule) in written.iter().enumerate() {
            let one = One { section: self, number, rule };
            one.check()?;
            match &rule.provider {
                ProviderChoice::One(id) => {
                    let configured = providers.get(id).ok_or_else(|| one.no_provider(id, providers))?;
                    let ceilings = one.ceilings(&configured.provider)?;
                    rules.push(id.clone(), one.rule(ceilings));
                }
                ProviderChoice::Any => {
                    for (id, configured) in providers {
                        if let Some(ceilings) = one.ceilings_anywhere(&configured.provider)? {
                            rules.push(id.clone(), one.rule(ceilings));
                        }
                    }
                }
            }
        }
        Ok(rules)
    }
}

/// One rule of the file.
struct One<'c> {
    section: &'c Section<'c>,
    number: usize,
    rule: &'c RuleConfig,
}

impl One<'_> {
    fn error(&self, member: &[Segment], message: impl Into<String>) -> YamlError {
        let path: Vec<Segment> =
            [Segment::from("allow"), Segment::Index(self.number)].into_iter().chain(member.iter().cloned()).collect();
        self.section.error(&path, message)
    }

    fn rule(&self, ceilings: Ceilings) -> Rule {
        Rule {
            number: self.number,
            name: format!("callers.{}.allow[{}]", self.section.name, self.number),
            accounts: self.rule.accounts.clone(),
            ceilings,
            allow_broader: self.rule.allow_broader,
        }
    }

    /// What can be said without knowing the provider.
    fn check(&self) -> Result<(), YamlError> {
        const NONE: &str = "expected at least one; leave it out for all of them";
        if self.rule.accounts.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.error(&["accounts".into()], NONE));
        }
        if self.rule.slots.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.error(&["slots".into()], NONE));
        }
        for (index, account) in self.rule.accounts.iter().flatten().enumerate() {
            if !(1..=ACCOUNT_MAX).contains(&account.chars().count()) {
                let message = "expected the provider's id of an account, or its label";
                return Err(self.error(&["accounts".into(), Segment::Index(index)], message));
            }
        }
        match (&self.rule.provider, &self.rule.scopes) {
            (ProviderChoice::Any, Some(ScopeChoice::List(_) | ScopeChoice::Slots(_))) => {
                let message = "expected a preset: scopes mean something else at each provider; write a rule for each";
                Err(self.error(&["scopes".into()], message))
            }
            (_, None) if self.rule.allow_broader => {
                let message =
                    "expected `scopes` beside it: without them there is nothing that a grant could be broader than";
                Err(self.error(&["allow_broader".into()], message))
            }
            _ => Ok(()),
        }
    }

    fn no_provider(&self, id: &ProviderId, providers: &Providers) -> YamlError {
        let near = nearest(id.as_str(), providers.keys().map(ProviderId::as_str));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        self.error(
            &["provider".into()],
            format!("expected a provider that is configured under `providers`, or `*`{hint}"),
        )
    }

    /// The slots of a provider that the rule is about, each with its ceiling.
    fn ceilings(&self, provider: &Provider) -> Result<Ceilings, YamlError> {
        for (index, slot) in self.rule.slots.iter().flatten().enumerate() {
            if provider.slot(slot).is_none() {
                let message = format!("no such slot; expected one of {}", names(provider));
                return Err(self.error(&["slots".into(), Segment::Index(index)], message));
            }
        }
        let Some(choice) = &self.rule.scopes else { return Ok(self.whole()) };
        if provider.scopes.managed_by == ScopesManagedBy::App {
            let message = format!(
                "expected nothing: {} fixes them in its own settings of the client and does not tell them, so nothing would hold \
                 a token to them",
                provider.name
            );
            return Err(self.error(&["scopes".into()], message));
        }
        let lists: BTreeMap<SlotName, ScopeSet> = match choice {
            ScopeChoice::List(scopes) => {
                self.slots(provider).into_iter().map(|slot| (slot.clone(), scopes.clone())).collect()
            }
            ScopeChoice::Slots(lists) => match lists.keys().find(|slot| !self.slots(provider).contains(slot)) {
                None => lists.clone(),
                Some(slot) => {
                    let message = format!("no such slot here; expected one of {}", names(provider));
                    return Err(self.error(&["scopes".into(), Segment::from(slot.as_str())], message));
                }
            },
            ScopeChoice::Preset(preset) => self.preset(provider, *preset).ok_or_else(|| {
                let message =
                    format!("{} has no preset `{}` for these slots; expected a list", provider.name, preset.as_str());
                self.error(&["scopes".into()], message)
            })?,
        };
        Ok(Some(lists.into_iter().map(|(slot, named)| (slot, ceiling(provider, named))).collect()))
    }

    /// The same where the rule is about every provider; `None` where it is about nothing, because the provider has no such slot
    /// or preset, or nobody knows what its tokens are good for.
    fn ceilings_anywhere(&self, provider: &Provider) -> Result<Option<Ceilings>, YamlError> {
        let slots = self.slots(provider);
        let Some(ScopeChoice::Preset(preset)) = &self.rule.scopes else {
            return Ok((!slots.is_empty()).then(|| {
                let some = self.rule.slots.as_ref().map(|_| slots.into_iter());
                some.map(|slots| slots.map(|slot| (slot.clone(), Ceiling::Whole)).collect())
            }));
        };
        if provider.scopes.managed_by == ScopesManagedBy::App {
            return Ok(None);
        }
        let Some(lists) = self.preset(provider, *preset) else { return Ok(None) };
        Ok(Some(Some(lists.into_iter().map(|(slot, named)| (slot, ceiling(provider, named))).collect())))
    }

    fn whole(&self) -> Ceilings {
        let slots = self.rule.slots.as_ref()?;
        Some(slots.iter().map(|slot| (slot.clone(), Ceiling::Whole)).collect())
    }

    /// The provider's slots that the rule is about.
    fn slots<'p>(&self, provider: &'p Provider) -> Vec<&'p SlotName> {
        let named = |slot: &SlotName| self.rule.slots.as_ref().is_none_or(|slots| slots.contains(slot));
        provider.slots.iter().map(|rule| &rule.name).filter(|slot| named(slot)).collect()
    }

    /// A ready list, as far as it is about the slots of the rule.
    fn preset(&self, provider: &Provider, preset: Preset) -> Option<BTreeMap<SlotName, ScopeSet>> {
        let lists = match preset {
            Preset::Default => &provider.presets.default,
            Preset::ReadOnly => &provider.presets.read_only,
            Preset::Full => &provider.presets.full,
        };
        let slots = self.slots(provider);
        let lists: BTreeMap<_, _> = lists
            .iter()
            .filter(|(slot, _)| slots.contains(slot))
            .map(|(slot, list)| (slot.clone(), list.clone()))
            .collect();
        (!lists.is_empty()).then_some(lists)
    }
}

/// What grantd asks for by itself, so that it can tell whose account it is and renew it, is always within.
fn ceiling(provider: &Provider, named: ScopeSet) -> Ceiling {
    let offline: ScopeSet = provider.authorize.offline_scope.iter().cloned().collect();
    let reach = provider.scopes.reach(&named.union(&provider.scopes.always).union(&offline));
    Ceiling::Scopes { named, reach }
}

fn names(provider: &Provider) -> String {
    provider.slots.iter().map(|slot| format!("`{}`", slot.name)).collect::<Vec<_>>().join(", ")
}
