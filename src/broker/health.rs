//! How each provider is doing, as far as the guards know, and an operator's word that it is to be tried again now.

use std::sync::Arc;
use std::time::Instant;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::lane::{Trouble, Why};
use crate::broker::registry::{Configured, Registry};
use crate::broker::verdict::{CLIENT_OR_GRANT, REGISTRATION, SUSPECT, UNCONFIGURED};
use crate::model::caller::Caller;
use crate::model::id::ProviderId;
use crate::model::time::Timestamp;
use crate::store::StoreError;

/// How a provider is doing. Of several troubles the one that an operator has to mend first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProviderState {
    /// Nothing is known to be wrong.
    Ok,
    /// It refuses our client id or secret.
    RegistrationRefused,
    /// It rejected so many connections at once that nobody is sent to reconnect.
    Frozen,
    /// It cannot be reached, or answers nothing that makes sense.
    Unreachable,
    /// It asked for a pause.
    Throttled,
}

impl ProviderState {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Ok, Self::RegistrationRefused, Self::Frozen, Self::Unreachable, Self::Throttled];

    /// A stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RegistrationRefused => "registration_refused",
            Self::Frozen => "frozen",
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
        }
    }
}

/// How a provider is doing, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Health {
    /// How.
    pub state: ProviderState,
    /// Since when, if something is wrong.
    pub since: Option<Timestamp>,
    /// When it is tried again, or believed again if it is frozen; absent if nobody knows.
    pub until: Option<Timestamp>,
}

/// What a release changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Released {
    /// How the provider was doing before.
    pub state: ProviderState,
    /// How many grants waited and are tried now.
    pub grants: usize,
}

impl Broker {
    /// How a provider is doing.
    #[must_use]
    pub fn health(&self, configured: &Configured) -> Health {
        let (now, wall) = (Instant::now(), self.clock.now());
        let ago = |then: Instant| wall.before(now.saturating_duration_since(then));
        let ahead = |then: Instant| wall.after(then.saturating_duration_since(now));
        let found =
            |state, since, until: Option<Instant>| Health { state, since: Some(ago(since)), until: until.map(ahead) };
        let trouble = self.lane(configured).trouble(now);
        if let Some(Trouble { why: Why::Registration, since, until }) = trouble {
            return found(ProviderState::RegistrationRefused, since, until);
        }
        if let Some((since, until)) = self.incidents.frozen_span(&configured.provider.id, now) {
            return found(ProviderState::Frozen, since, Some(until));
        }
        match trouble {
            Some(Trouble { why: Why::Throttled, since, until }) => found(ProviderState::Throttled, since, until),
            Some(Trouble { since, until, .. }) => found(ProviderState::Unreachable, since, until),
            None => Health { state: ProviderState::Ok, since: None, until: None },
        }
    }

    /// An operator has looked into what was wrong: from now on the provider's rejections are believed, a refused registration
    /// is tried again, and what waited because of either is due now. A pause that the provider asked for is kept.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] unless an administrator asks; [`BrokerError::UnknownProvider`].
    pub async fn release_provider(&self, caller: &Caller, provider: &ProviderId) -> Result<Released, BrokerError> {
        self.administers(caller, "release_provider")?;
        let registry = self.registry();
        let configured = registry.providers.get(provider).ok_or(BrokerError::UnknownProvider)?;
        let Health { state, .. } = self.health(configured);
        self.lane(configured).reset_registration();
        let was_frozen = self.incidents.release(provider, Instant::now());
        let mut grants = self.store.retry(provider, SUSPECT, self.clock.now()).await?;
        if grants > 0 && !was_frozen {
            // It was frozen before a restart: the first suspect that is looked at would freeze it again.
            self.incidents.recall(provider, Instant::now());
            self.incidents.release(provider, Instant::now());
        }
        for class in [CLIENT_OR_GRANT, REGISTRATION] {
            grants += self.store.retry(provider, class, self.clock.now()).await?;
        }
        self.cache.clear();
        self.release_noted(caller, provider);
        tracing::warn!(caller = %caller.name, provider.id = %provider, grants,
            "{provider} was released: its rejections are believed, and what waited is tried now");
        Ok(Released { state, grants })
    }

    /// After a reload: what waited for the operator to correct the configuration waits no longer.
    pub(super) fn retry_corrected(self: &Arc<Self>, registry: Arc<Registry>) {
        let broker = Arc::clone(self);
        self.tasks.spawn(async move {
            for provider in registry.providers.keys() {
                if let Err(error) = broker.retry_after_correction(provider).await {
                    tracing::warn!(provider.id = %provider, %error, "What waits at {provider} is tried in its turn, not now");
                }
            }
        });
    }

    async fn retry_after_correction(&self, provider: &ProviderId) -> Result<(), StoreError> {
        let mut grants = 0;
        for class in [CLIENT_OR_GRANT, REGISTRATION, UNCONFIGURED] {
            grants += self.store.retry(provider, class, self.clock.now()).await?;
        }
        if grants > 0 {
            // What memory says of when to try again is no longer true.
            self.cache.clear();
        }
        Ok(())
    }
}
