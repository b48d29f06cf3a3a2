//! What the policy would say to a caller, rule by rule, for an administrator. Nothing is given, refreshed or noted.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::registry::Configured;
use crate::broker::restore::administrator;
use crate::model::caller::Caller;
use crate::model::connection::{Account, State};
use crate::model::id::{CallerName, ConnectionId, ProviderId, SlotName, UserId};
use crate::model::scope::ScopeSet;
use crate::model::subject::Subject;
use crate::policy::callers::Callers;
use crate::policy::weigh::Weighed;
use crate::policy::{self, Action, Decision, Refusal, Target, Use};
use crate::store::records::StoredConnection;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Of which caller: one of the configuration, or `uid:N` for a user that acts for itself.
    pub caller: CallerName,
    /// At which provider.
    pub provider: ProviderId,
    /// Which account there, by id, name or label.
    pub account: Option<String>,
    /// Which slot.
    pub slot: Option<SlotName>,
    /// The scopes that are required.
    pub scopes: ScopeSet,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// For whom the caller acts; `None` if that depends on the user that it runs as.
    pub subject: Option<Subject>,
    /// The account that is meant, if one is connected and it is clear which.
    pub found: Option<Found>,
    /// Every rule of the caller, in order, with what it says; `None` if it is about another provider.
    pub rules: Vec<(String, Option<Weighed>)>,
    /// The rule that decides.
    pub rule: String,
    /// How it is refused, if it is.
    pub refusal: Option<Refusal>,
}

/// What a token would be of.
#[derive(Clone, Debug)]
pub struct Found {
    /// The connection.
    pub connection: ConnectionId,
    /// Its account.
    pub account: Account,
    /// The slot, and what its token is good for; `None` if nothing is granted in the slot that is meant.
    pub grant: Option<(SlotName, ScopeSet)>,
    label: Option<String>,
}

impl Broker {
    /// What the policy would say.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] unless an administrator asks; if there is no such caller, provider or slot.
    pub async fn judge(&self, asker: &Caller, question: &Question) -> Result<Judgement, BrokerError> {
        administrator(asker)?;
        let registry = self.registry();
        let (caller, subject) = caller(&registry.callers, &question.caller).ok_or(BrokerError::UnknownCaller)?;
        let configured = registry.providers.get(&question.provider).ok_or(BrokerError::UnknownProvider)?;
        if question.slot.as_ref().is_some_and(|slot| configured.provider.slot(slot).is_none()) {
            return Err(BrokerError::UnknownSlot);
        }
        let found = match &subject {
            None => None,
            Some(subject) => {
                let stored = self.store.connections_at(subject, &question.provider).await?;
                found(&caller, configured, question, &stored)
            }
        };
        let grant = found.as_ref().and_then(|found| found.grant.as_ref());
        let wish = Use {
            owner: &caller.subject,
            provider: &question.provider,
            account: found.as_ref().map(|found| (&found.account, found.label.as_deref())),
            slot: question.slot.as_ref().or_else(|| grant.map(|(slot, _)| slot)),
            wanted: &question.scopes,
            granted: grant.map(|(_, scopes)| scopes),
            scopes: &configured.provider.scopes,
        };
        let (rule, refusal) = match policy::decide(&caller, Action::Use(wish)) {
            Decision::Allowed { rule } => (rule.to_owned(), None),
            Decision::Refused { rule, refusal } => (rule.to_owned(), Some(refusal)),
        };
        let rules = rules(&caller, &wish);
        Ok(Judgement { subject, found, rules, rule, refusal })
    }
}

/// The caller of this name as it acts, and for whom, if that can be told.
fn caller(callers: &Callers, name: &CallerName) -> Option<(Caller, Option<Subject>)> {
    if let Some(configured) = callers.named(name.as_str()) {
        let uid = configured.peer.uid;
        let subject = configured.on_behalf_of.clone().or_else(|| uid.map(Subject::from_uid));
        return Some((configured.acting(uid.unwrap_or(u32::MAX)), subject));
    }
    let uid = name.as_str().parse::<UserId>().ok()?.uid()?;
    let subject = Subject::from_uid(uid);
    Some((
        Caller { name: name.clone(), subject: subject.clone(), admin: false, peer: None, rules: None },
        Some(subject),
    ))
}

/// The connection that a request would mean: of those that are the caller's, or else, to say why it has none, of all.
fn found(caller: &Caller, configured: &Configured, question: &Question, stored: &[StoredConnection]) -> Option<Found> {
    let answers = |stored: &&StoredConnection| {
        let is_there = stored.connection.state != State::Revoked;
        is_there && question.account.as_deref().is_none_or(|account| stored.connection.answers_to(account))
    };
    let all: Vec<_> = stored.iter().filter(answers).collect();
    let seen =
        |stored: &StoredConnection| policy::decide(caller, Action::See(Target::of(&stored.connection))).is_allowed();
    let own: Vec<_> = all.iter().copied().filter(|stored| seen(stored)).collect();
    let among = if own.is_empty() { all } else { own };
    let default = || among.iter().find(|stored| question.account.is_none() && stored.connection.is_default);
    let meant = if among.len() == 1 { among.first() } else { default() }?;
    let connection = &meant.connection;
    Some(Found {
        connection: connection.id.clone(),
        account: connection.account.clone(),
        grant: grant(caller, configured, question, meant),
        label: connection.label.as_ref().map(ToString::to_string),
    })
}

fn grant(
    caller: &Caller,
    configured: &Configured,
    question: &Question,
    stored: &StoredConnection,
) -> Option<(SlotName, ScopeSet)> {
    let target = Target::of(&stored.connection);
    let seen = |slot: &SlotName| match &question.slot {
        Some(named) => slot == named,
        None => policy::sees_slot(caller, &target, slot),
    };
    let wanted: Vec<_> = stored.grants.iter().filter(|grant| seen(&grant.slot)).collect();
    let first = configured.provider.slots.iter().find_map(|rule| wanted.iter().find(|grant| grant.slot == rule.name));
    let grant = first.or_else(|| wanted.first())?;
    let (rules, granted) = (&configured.provider.scopes, &grant.content.scopes);
    let named = rules.wanted_resource(&question.scopes).ok().flatten();
    let resource = named.or_else(|| rules.main_resource(granted));
    let told = rules.at_resource(granted, resource.as_ref());
    Some((grant.slot.clone(), rules.with_silent(&told, &stored.connection.scopes)))
}

fn rules(caller: &Caller, wish: &Use<'_>) -> Vec<(String, Option<Weighed>)> {
    let mut said: Vec<_> =
        policy::each_rule(caller, wish).map(|(rule, said)| (rule.number, &rule.name, Some(said))).collect();
    for (_, rule) in caller.rules.iter().flat_map(|rules| rules.iter()) {
        if said.iter().all(|(number, ..)| *number != rule.number) {
            said.push((rule.number, &rule.name, None));
        }
    }
    said.sort_by_key(|(number, ..)| *number);
    said.into_iter().map(|(_, name, said)| (name.clone(), said)).collect()
}
