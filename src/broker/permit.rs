//! Asks the policy for the use cases, and makes of a refusal what the caller is told.

use std::borrow::Cow;
use std::sync::Arc;

use tracing::info;

use crate::broker::Broker;
use crate::broker::cache::{Held, Shelf};
use crate::broker::error::BrokerError;
use crate::broker::registry::Configured;
use crate::broker::token::TokenRequest;
use crate::model::caller::Caller;
use crate::model::connection::Account;
use crate::model::id::{ProviderId, SlotName};
use crate::model::rule::Ceiling;
use crate::model::scope::ScopeSet;
use crate::policy::{self, Action, Decision, Refusal, Target, Use};

/// Stands for what holds for every configured caller, and for several rules of one.
const CONFIGURED: &str = "configured callers";

/// Whether a caller may ask for such a token at all, whichever account is meant.
pub(super) fn asking<'c>(caller: &'c Caller, configured: &Configured, request: &TokenRequest) -> Decision<'c> {
    asking_for(caller, configured, request.slot.as_ref(), &request.scopes)
}

fn asking_for<'c>(
    caller: &'c Caller,
    configured: &Configured,
    slot: Option<&SlotName>,
    wanted: &ScopeSet,
) -> Decision<'c> {
    let (owner, provider, scopes) = (&caller.subject, &configured.provider.id, &configured.provider.scopes);
    policy::decide(caller, Action::Use(Use { owner, provider, account: None, slot, wanted, granted: None, scopes }))
}

/// Whether a caller may have a token that is good for `granted`.
pub(super) fn handing_out<'c>(
    caller: &'c Caller,
    configured: &Configured,
    request: &TokenRequest,
    (held, slot): (&Held, &SlotName),
    granted: &ScopeSet,
) -> Decision<'c> {
    let Target { owner, provider, account, label } = Target::of(&held.connection);
    let scopes = &configured.provider.scopes;
    let whole = caller.rules.as_ref().map(|_| scopes.with_silent(granted, &held.connection.scopes));
    let wish = Use {
        owner,
        provider,
        account: Some((account, label)),
        slot: Some(slot),
        wanted: &request.scopes,
        granted: Some(whole.as_ref().unwrap_or(granted)),
        scopes,
    };
    policy::decide(caller, Action::Use(wish))
}

/// What of a shelf is the caller's: a connection that is not, and a slot that is not, are as if they were not there.
pub(super) fn visible(caller: &Caller, shelf: Arc<Shelf>) -> Arc<Shelf> {
    if caller.rules.is_none() {
        return shelf;
    }
    let seen = |held: &Arc<Held>| {
        let target = Target::of(&held.connection);
        if !policy::decide(caller, Action::See(target)).is_allowed() {
            return None;
        }
        let mut held = Held::clone(held);
        held.grants.retain(|grant| policy::sees_slot(caller, &target, &grant.granted.slot));
        Some(Arc::new(held))
    };
    Arc::new(shelf.iter().filter_map(seen).collect())
}

/// What a caller may have a person asked for: of what the operator configured, no more than some rule of its goes up to.
pub(super) fn within(caller: &Caller, configured: &Configured, asked: ScopeSet) -> ScopeSet {
    let Some(rules) = &caller.rules else { return asked };
    let mut reachable = ScopeSet::default();
    for rule in rules.at(&configured.provider.id) {
        let Some(ceilings) = rule.ceilings.as_ref().filter(|_| !rule.allow_broader) else { return asked };
        for ceiling in ceilings.values() {
            let Ceiling::Scopes { reach, .. } = ceiling else { return asked };
            reachable = reachable.union(reach);
        }
    }
    let beyond = configured.provider.scopes.beyond(&reachable, &asked);
    asked.iter().filter(|scope| !beyond.contains(scope)).cloned().collect()
}

/// The rule that decided, for whoever keeps it longer than the caller. Costs nothing for a caller without rules.
pub(super) fn rule_of(caller: &Caller, decision: &Decision<'_>) -> Cow<'static, str> {
    match caller.rules {
        None if decision.is_allowed() => Cow::Borrowed(policy::OWN),
        _ => Cow::Owned(decision.rule().to_owned()),
    }
}

/// Lets what is allowed pass. The operator hears which rule refused; `absent` is what a caller is told of what is not there.
pub(super) fn pass(caller: &Caller, decision: &Decision<'_>, absent: BrokerError) -> Result<(), BrokerError> {
    let Decision::Refused { rule, refusal } = decision else { return Ok(()) };
    info!(caller = %caller.name, subject = %caller.subject, rule, "Refused `{}`: {refusal}", caller.name);
    Err(match refusal.clone() {
        Refusal::Absent => absent,
        Refusal::Broader(_) => BrokerError::GrantBroader { rule: (*rule).to_owned() },
        Refusal::Forbidden => BrokerError::Denied { rule: CONFIGURED },
        Refusal::Scopes(denied) => BrokerError::ScopeDenied { denied, rule: (*rule).to_owned() },
    })
}

/// Lets a caller ask for a token.
///
/// # Errors
/// The same as for a provider or a slot that is not there, if it is not the caller's.
pub(super) fn pass_asking(caller: &Caller, configured: &Configured, request: &TokenRequest) -> Result<(), BrokerError> {
    let decision = asking(caller, configured, request);
    let absent = match (&decision, &request.slot) {
        (Decision::Refused { refusal: Refusal::Absent, .. }, Some(_)) => {
            match asking_for(caller, configured, None, &request.scopes) {
                Decision::Refused { refusal: Refusal::Absent, .. } => BrokerError::UnknownProvider,
                _ => BrokerError::UnknownSlot,
            }
        }
        _ => BrokerError::UnknownProvider,
    };
    pass(caller, &decision, absent)
}

/// Lets a caller have a person asked to connect.
///
/// # Errors
/// The same as for a provider that is not there, if it is not the caller's.
pub(super) fn pass_connecting(caller: &Caller, configured: &Configured, wanted: &ScopeSet) -> Result<(), BrokerError> {
    pass(caller, &asking_for(caller, configured, None, wanted), BrokerError::UnknownProvider)
}

/// The rule by which a caller has a person asked for these scopes, or what stands for all of its rules if it takes several.
pub(super) fn connecting(caller: &Caller, configured: &Configured, scopes: &ScopeSet) -> Cow<'static, str> {
    match asking_for(caller, configured, None, scopes) {
        decision if decision.is_allowed() => rule_of(caller, &decision),
        _ => Cow::Borrowed(CONFIGURED),
    }
}

impl Broker {
    /// Lets a caller take the steps of a connect session that are the person's.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] for a configured caller: it asks for a person, and is none.
    pub fn may_attend(&self, caller: &Caller) -> Result<(), BrokerError> {
        pass(caller, &policy::decide(caller, Action::Attend(&caller.subject)), BrokerError::NotFound)
    }

    /// Whether anything at a provider is the caller's.
    #[must_use]
    pub fn sees_provider(&self, caller: &Caller, provider: &ProviderId) -> bool {
        caller.rules.as_ref().is_none_or(|rules| !rules.at(provider).is_empty())
    }

    /// Whether a slot of a provider is the caller's.
    #[must_use]
    pub fn sees_slot(&self, caller: &Caller, provider: &ProviderId, slot: &SlotName) -> bool {
        let named =
            |rules: &crate::model::rule::Rules| rules.at(provider).iter().any(|rule| rule.ceiling(slot).is_some());
        caller.rules.as_ref().is_none_or(|rules| named(rules))
    }

    /// Whether an account that came of a session is the caller's. It may have no label yet.
    #[must_use]
    pub fn sees_account(&self, caller: &Caller, provider: &ProviderId, account: &Account) -> bool {
        let target = Target { owner: &caller.subject, provider, account, label: None };
        policy::decide(caller, Action::See(target)).is_allowed()
    }
}
