//! The numbers with which providers refuse, in our words: what the definition says about each. A provider's own text never
//! comes here.
//!
//! Of a grant the store keeps the number of its last failure, and the words are looked up when somebody looks. Of a provider as
//! a whole the last one is kept in memory, like everything else about how it is doing: it is about our registration or about a
//! person who was connecting, so no grant has it, and the next refusal brings it again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::broker::Broker;
use crate::broker::registry::Configured;
use crate::model::id::ProviderId;
use crate::model::time::Timestamp;
use crate::oauth::refused::Refused;
use crate::oauth::rejection::Rejection;

/// A number and what it means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explained {
    /// The provider's number for an error, which its definition knows.
    pub number: u32,
    /// What the definition says: what it means, and what to do.
    pub sentence: String,
}

/// The last refusal of each provider that its definition explains. An answer ends it.
#[derive(Debug, Default)]
pub struct LastRefusals(Mutex<HashMap<ProviderId, (u32, Timestamp)>>);

impl LastRefusals {
    fn note(&self, provider: &ProviderId, number: u32, at: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(provider.clone(), (number, at));
    }

    fn last(&self, provider: &ProviderId) -> Option<(u32, Timestamp)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(provider).copied()
    }

    /// The provider gave a token.
    pub fn answered(&self, provider: &ProviderId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(provider);
    }

    /// The operator has changed the configuration: what was refused may not be any more.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Broker {
    /// The last refusal of a provider that was about our registration, its own trouble or somebody who was connecting, and when
    /// it came; `None` if there is none that its definition explains, or a token has come since.
    #[must_use]
    pub fn last_refusal(&self, configured: &Configured) -> Option<(Explained, Timestamp)> {
        let (number, at) = self.refusals.last(&configured.provider.id)?;
        Some((explained(configured, number)?, at))
    }

    /// What a number means at a provider, by its definition as it is now.
    pub(super) fn explain(&self, provider: &ProviderId, number: Option<u32>) -> Option<Explained> {
        explained(self.registry().providers.get(provider)?, number?)
    }

    /// A refresh was refused. What is about the one grant stands with the grant.
    pub(super) fn note_refused_refresh(&self, provider: &ProviderId, refused: &Refused) {
        if matches!(refused.rejection, Rejection::Registration { .. } | Rejection::Retry { .. }) {
            self.note_refused_connecting(provider, refused);
        }
    }

    /// An account could not be connected: there is no grant that it could stand with.
    pub(super) fn note_refused_connecting(&self, provider: &ProviderId, refused: &Refused) {
        if let Some(number) = refused.known_number() {
            self.refusals.note(provider, number, self.clock.now());
        }
    }
}

fn explained(configured: &Configured, number: u32) -> Option<Explained> {
    let sentence = configured.provider.response.sentence(number)?.to_owned();
    Some(Explained { number, sentence })
}
