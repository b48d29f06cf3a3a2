//! One token request: decide, look in the cache, refresh once, answer.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
pub use crate::broker::cache::Granted;
use crate::broker::cache::{Held, HeldGrant, Key, KeyRef, Shelf};
use crate::broker::choice::{self, Failure, Lack, Step};
use crate::broker::connect::ConnectRequest;
use crate::broker::error::BrokerError;
use crate::broker::renew::{Landed, NotRenewed};
use crate::broker::vault::Owner;
use crate::model::caller::Caller;
use crate::model::connection::{Account, ReconnectReason};
use crate::model::id::{ProviderId, SlotName, TokenId};
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::token::IssuedToken;
use crate::policy::{self, Action};
use crate::store::StoreError;
use crate::store::records::{GrantKey, StoredConnection};

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// At which provider.
    pub provider: ProviderId,
    /// Which account there, by id or name; the only one if absent.
    pub account: Option<String>,
    /// Which slot, where a connection has several; the provider's first if absent.
    pub slot: Option<SlotName>,
    /// What the token must be allowed to do: a requirement.
    pub scopes: ScopeSet,
    /// How long it should live at least: best effort.
    pub min_ttl: Duration,
    /// The token that the upstream refused.
    pub rejected: Option<TokenId>,
    /// How long to wait for a person who is about to connect.
    pub wait: Duration,
    /// What it is for, in the caller's words; for the connect page.
    pub purpose: Option<String>,
    /// Whether a connect session may be made if there is nothing to hand out.
    pub connect: bool,
}

/// What a caller gets.
#[derive(Clone, Debug)]
pub struct Handout {
    /// The token and its account.
    pub granted: Arc<Granted>,
    /// When the answer was made.
    pub now: Timestamp,
}

impl Broker {
    /// Hands out an access token that lives.
    ///
    /// # Errors
    /// A [`BrokerError`]; those that need a person carry a connect session unless `request.connect` is false.
    pub async fn token(self: &Arc<Self>, caller: &Caller, request: TokenRequest) -> Result<Handout, BrokerError> {
        if let Some(handout) = self.at_once(caller, &request) {
            return Ok(handout);
        }
        // In a box, so that the request that ends above, and nearly all do, does not carry what the others need.
        Box::pin(self.after_waiting(caller, request)).await
    }

    /// The usual end: everything needed is in memory, and the token has life enough.
    fn at_once(self: &Arc<Self>, caller: &Caller, request: &TokenRequest) -> Option<Handout> {
        let registry = self.registry.load();
        let configured = registry.providers.get(&request.provider)?;
        if !policy::decide(caller, Action::Use(&caller.subject)).allowed {
            return None;
        }
        let shelf = self.cache.get(&KeyRef { subject: &caller.subject, provider: &request.provider })?;
        let (held, grant) = choice::choose(request, &configured.provider, &shelf).ok()?;
        let now = self.clock.now();
        if choice::next_step(grant, request, None, now) != Step::HandOut {
            return None;
        }
        self.renew_behind(held, grant, now);
        Some(Handout { granted: Arc::clone(&grant.granted), now })
    }

    async fn after_waiting(self: &Arc<Self>, caller: &Caller, request: TokenRequest) -> Result<Handout, BrokerError> {
        let first = self.hand_out(caller, &request).await;
        let Err(error) = first else { return first };
        let Some(prompt) = error.prompt().filter(|_| !request.wait.is_zero()) else { return Err(error) };
        if self.wait_for_end(&prompt.session.id.clone(), request.wait).await {
            return self.hand_out(caller, &request).await;
        }
        Err(error)
    }

    async fn hand_out(self: &Arc<Self>, caller: &Caller, request: &TokenRequest) -> Result<Handout, BrokerError> {
        let registry = self.registry();
        let configured = registry.providers.get(&request.provider).ok_or(BrokerError::UnknownProvider)?;
        let decision = policy::decide(caller, Action::Use(&caller.subject));
        if !decision.allowed {
            return Err(BrokerError::Denied { rule: decision.rule });
        }
        let mut flown = None;
        loop {
            let shelf = self.shelf(caller, &request.provider).await?;
            let (held, grant) = match choice::choose(request, &configured.provider, &shelf) {
                Ok(chosen) => chosen,
                Err(lack) => return Err(self.lacking(caller, request, &shelf, lack).await?),
            };
            let now = self.clock.now();
            match choice::next_step(grant, request, flown, now) {
                Step::HandOut => {
                    self.renew_behind(held, grant, now);
                    return Ok(Handout { granted: Arc::clone(&grant.granted), now });
                }
                Step::Fail(failure) => return Err(self.failed(caller, request, held, grant, failure).await?),
                Step::Refresh => flown = Some(self.fly(held, grant).await?),
            }
        }
    }

    /// The caller's connections at the provider: from memory, or read and opened.
    async fn shelf(&self, caller: &Caller, provider: &ProviderId) -> Result<Arc<Shelf>, BrokerError> {
        if let Some(shelf) = self.cache.get(&KeyRef { subject: &caller.subject, provider }) {
            return Ok(shelf);
        }
        let key = Key { subject: caller.subject.clone(), provider: provider.clone() };
        let started = self.cache.start();
        let stored = self.store.connections_at(&key.subject, &key.provider).await?;
        let shelf: Arc<Shelf> = Arc::new(stored.into_iter().map(|stored| self.opened(stored)).collect());
        self.cache.put(started, key, Arc::clone(&shelf));
        Ok(shelf)
    }

    /// Opens what is stored. A grant that does not open is left out, loudly: it is damaged, and the others serve.
    fn opened(&self, stored: StoredConnection) -> Held {
        let StoredConnection { connection, grants } = stored;
        let grants = grants
            .into_iter()
            .filter_map(|grant| {
                let owner = Owner::connection(&connection, grant.version);
                let access_token = owner
                    .open_access(&self.keyring, &grant.slot, &grant.content.access)
                    .inspect_err(|error| {
                        tracing::error!(connection.id = %connection.id, slot = %grant.slot, %error, "Cannot open a stored grant of `{}`", connection.id);
                    })
                    .ok()?;
                Some(HeldGrant {
                    granted: Arc::new(Granted {
                        connection: connection.id.clone(),
                        provider: connection.provider.clone(),
                        account: connection.account.clone(),
                        slot: grant.slot,
                        scope: grant.content.scopes.to_string(),
                        token: IssuedToken {
                            access_token,
                            token_id: grant.content.token_id,
                            generation: grant.version.generation,
                            scopes: grant.content.scopes,
                            issued_at: grant.content.issued_at,
                            expires_at: grant.content.expires_at,
                        },
                    }),
                    version: grant.version,
                    renewable: grant.content.refresh.is_some(),
                    renew_at: grant.content.renew_at,
                    failing: grant.failures > 0,
                })
            })
            .collect();
        Held { connection, grants }
    }

    /// What the caller is told about what is lacking, with a link for the person who can mend it.
    async fn lacking(
        self: &Arc<Self>,
        caller: &Caller,
        request: &TokenRequest,
        shelf: &Shelf,
        lack: Lack<'_>,
    ) -> Result<BrokerError, BrokerError> {
        let provider = request.provider.clone();
        Ok(match lack {
            Lack::AccountAmbiguous => BrokerError::AccountAmbiguous { accounts: accounts(shelf) },
            Lack::NotConnected => {
                BrokerError::ConnectionRequired { provider, prompt: self.prompt(caller, request, None).await? }
            }
            Lack::Reconnect(held, reason) => self.reconnect(caller, request, held, reason).await?,
            Lack::Scopes(held, missing) => {
                let prompt = self.prompt(caller, request, Some(held)).await?;
                BrokerError::InsufficientScope { provider, missing, prompt }
            }
            Lack::UnknownAccount => BrokerError::UnknownAccount,
            Lack::UnknownSlot => BrokerError::UnknownSlot,
        })
    }

    async fn fly(self: &Arc<Self>, held: &Held, grant: &HeldGrant) -> Result<Landed, BrokerError> {
        if self.is_stopping() {
            return Err(BrokerError::ShuttingDown);
        }
        let key = key_of(held, grant);
        let (broker, version) = (Arc::clone(self), grant.version);
        let run = || broker.renew(key.clone(), version);
        self.flights.join(&key, run).await.ok_or(BrokerError::Internal)
    }

    /// A token that is handed out although its time to be renewed has come is renewed behind the caller's back.
    fn renew_behind(self: &Arc<Self>, held: &Held, grant: &HeldGrant, now: Timestamp) {
        let due = grant.renewable && grant.renew_at.is_some_and(|at| at <= now);
        if due && !self.is_stopping() {
            self.start_renewal(&key_of(held, grant), grant.version);
        }
    }

    async fn failed(
        self: &Arc<Self>,
        caller: &Caller,
        request: &TokenRequest,
        held: &Held,
        grant: &HeldGrant,
        failure: Failure,
    ) -> Result<BrokerError, BrokerError> {
        let wait = grant.renew_at.map_or(RETRY_UNKNOWN, |at| at.until(self.clock.now()));
        let retry_after = wait.clamp(Duration::from_secs(1), Duration::from_secs(3600));
        Ok(match failure {
            Failure::NoRefreshToken => self.reconnect(caller, request, held, ReconnectReason::NoRefreshToken).await?,
            Failure::Wait | Failure::Landed(NotRenewed::Provider | NotRenewed::NeedsPerson) => {
                BrokerError::ProviderUnavailable { retry_after }
            }
            Failure::Landed(NotRenewed::Store) => {
                BrokerError::Store(StoreError::Busy("a refresh was not sent, because it could not be noted".to_owned()))
            }
            Failure::Landed(NotRenewed::Registration) => BrokerError::ProviderError { code: "invalid_client" },
            Failure::Landed(NotRenewed::Timeout) => BrokerError::ProviderTimeout,
        })
    }

    async fn reconnect(
        self: &Arc<Self>,
        caller: &Caller,
        request: &TokenRequest,
        held: &Held,
        reason: ReconnectReason,
    ) -> Result<BrokerError, BrokerError> {
        Ok(BrokerError::ReconnectRequired {
            provider: held.connection.provider.clone(),
            account: held.connection.account.clone(),
            reason,
            prompt: self.prompt(caller, request, Some(held)).await?,
        })
    }

    async fn prompt(
        self: &Arc<Self>,
        caller: &Caller,
        request: &TokenRequest,
        held: Option<&Held>,
    ) -> Result<Option<Box<crate::broker::connect::Prompt>>, BrokerError> {
        if !request.connect {
            return Ok(None);
        }
        let ask = ConnectRequest {
            provider: request.provider.clone(),
            scopes: request.scopes.clone(),
            reconnect: held.map(|held| held.connection.id.clone()),
            purpose: request.purpose.clone(),
        };
        self.connect(caller, ask).await.map(|prompt| Some(Box::new(prompt)))
    }
}

/// What a caller is told to wait when nobody knows better.
const RETRY_UNKNOWN: Duration = Duration::from_secs(5);

fn key_of(held: &Held, grant: &HeldGrant) -> GrantKey {
    GrantKey { connection: held.connection.id.clone(), slot: grant.granted.slot.clone() }
}

fn accounts(shelf: &Shelf) -> Vec<Account> {
    shelf.iter().map(|held| held.connection.account.clone()).collect()
}
