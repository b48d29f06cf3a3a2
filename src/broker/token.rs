//! One token request: decide, look in the cache, refresh once, answer.

use std::borrow::Cow;
use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::broker::account::Choice;
pub use crate::broker::cache::Granted;
use crate::broker::cache::{Held, HeldGrant, Key, KeyRef, Shelf};
use crate::broker::choice::{self, Chosen, Failure, Lack, Step};
use crate::broker::connect::ConnectRequest;
use crate::broker::elsewhere::{NotGiven, Wish};
use crate::broker::error::BrokerError;
use crate::broker::lane::Priority;
use crate::broker::permit;
use crate::broker::quarantine::is_held;
use crate::broker::registry::Configured;
use crate::broker::renew::{Errand, Landed, NotRenewed};
use crate::model::caller::Caller;
use crate::model::connection::ReconnectReason;
use crate::model::id::{ProviderId, RequestId, SlotName, TokenId};
use crate::model::provider::resources::Resource;
use crate::model::scope::ScopeSet;
use crate::model::time::Moment;
use crate::model::token::Freshness;
use crate::store::StoreError;
use crate::store::records::{GrantKey, StoredConnection};

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// At which provider.
    pub provider: ProviderId,
    /// Which account there, by id, name or label; the default if absent, or else the only one.
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
    /// Names the request, once somebody has to be told of it: a refusal.
    pub id: OnceLock<RequestId>,
}

/// What a caller gets.
#[derive(Clone, Debug)]
pub struct Handout {
    /// The token and its account.
    pub granted: Arc<Granted>,
    /// When the answer was made.
    pub now: Moment,
    /// The rule by which it was handed out.
    pub rule: Cow<'static, str>,
}

impl Broker {
    /// Hands out an access token that lives.
    ///
    /// # Errors
    /// A [`BrokerError`]; those that need a person carry a connect session unless `request.connect` is false.
    pub async fn token(self: &Arc<Self>, caller: &Caller, request: &TokenRequest) -> Result<Handout, BrokerError> {
        if let Some(handout) = self.at_once(caller, request) {
            return self.token_told(caller, request, Ok(handout));
        }
        // In a box, so that the request that ends above, and nearly all do, does not carry what the others need.
        let outcome = Box::pin(self.after_waiting(caller, request)).await;
        self.token_told(caller, request, outcome)
    }

    /// The usual end: everything needed is in memory, and the token has life enough.
    fn at_once(self: &Arc<Self>, caller: &Caller, request: &TokenRequest) -> Option<Handout> {
        let registry = self.registry.load();
        let configured = registry.providers.get(&request.provider)?;
        if !permit::asking(caller, configured, request).is_allowed() {
            return None;
        }
        let shelf = self.cache.get(&KeyRef { subject: &caller.subject, provider: &request.provider })?;
        let shelf = permit::visible(caller, shelf);
        let Chosen { held, grant, elsewhere } = choice::choose(request, &configured.provider, &shelf).ok()?;
        let now = self.clock.moment();
        if let Some(resource) = &elsewhere {
            let granted = self.further_at_once(held, grant, wish(request, resource), now)?;
            let (meant, scopes) = ((held, &granted.slot), &granted.token.scopes);
            let decision = permit::handing_out(caller, configured, request, meant, scopes);
            if !decision.is_allowed() || !configured.provider.scopes.covers(scopes, &request.scopes) {
                return None;
            }
            held.used.touch(now.wall);
            return Some(Handout { rule: permit::rule_of(caller, &decision), granted, now });
        }
        let Granted { slot, token, .. } = &*grant.granted;
        let decision = permit::handing_out(caller, configured, request, (held, slot), &token.scopes);
        if !decision.is_allowed() {
            return None;
        }
        if choice::next_step(grant, request, &configured.provider.refresh, None, now) != Step::HandOut {
            return None;
        }
        held.used.touch(now.wall);
        self.renew_behind(held, grant, now);
        Some(Handout { granted: Arc::clone(&grant.granted), now, rule: permit::rule_of(caller, &decision) })
    }

    async fn after_waiting(self: &Arc<Self>, caller: &Caller, request: &TokenRequest) -> Result<Handout, BrokerError> {
        let first = self.hand_out(caller, request).await;
        let Err(error) = first else { return first };
        let Some(prompt) = error.prompt().filter(|_| !request.wait.is_zero()) else { return Err(error) };
        tokio::select! {
            connected = self.wait_for_end(&prompt.session.id, request.wait) => {
                if connected { self.hand_out(caller, request).await } else { Err(error) }
            }
            handout = self.after_another_session(caller, request) => Ok(handout),
        }
    }

    /// Waits until the token can be had because another session was finished: one that already belonged to a browser when
    /// this was asked for.
    async fn after_another_session(self: &Arc<Self>, caller: &Caller, request: &TokenRequest) -> Handout {
        let asks_nobody = TokenRequest { connect: false, ..request.clone() };
        let mut changes = self.sessions.subscribe();
        loop {
            if let Ok(handout) = self.hand_out(caller, &asks_nobody).await {
                return handout;
            }
            if changes.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    async fn hand_out(self: &Arc<Self>, caller: &Caller, request: &TokenRequest) -> Result<Handout, BrokerError> {
        let registry = self.registry();
        let configured = registry.providers.get(&request.provider).ok_or(BrokerError::UnknownProvider)?;
        permit::pass_asking(caller, configured, request)?;
        let mut flown = None;
        loop {
            let shelf = permit::visible(caller, self.shelf(caller, &request.provider).await?);
            let Chosen { held, grant, elsewhere } = match choice::choose(request, &configured.provider, &shelf) {
                Ok(chosen) => chosen,
                Err(lack) => return Err(self.lacking(caller, request, &shelf, lack).await?),
            };
            let now = self.clock.moment();
            if let Some(resource) = &elsewhere {
                match self.hand_out_elsewhere(caller, request, configured, (held, grant), resource).await? {
                    Some(handout) => return Ok(handout),
                    None => continue,
                }
            }
            let Granted { slot, token, .. } = &*grant.granted;
            let decision = permit::handing_out(caller, configured, request, (held, slot), &token.scopes);
            permit::pass(caller, &decision, BrokerError::UnknownAccount)?;
            match choice::next_step(grant, request, &configured.provider.refresh, flown, now) {
                Step::HandOut => {
                    held.used.touch(now.wall);
                    self.renew_behind(held, grant, now);
                    let rule = permit::rule_of(caller, &decision);
                    return Ok(Handout { granted: Arc::clone(&grant.granted), now, rule });
                }
                Step::Fail(failure) => return Err(self.failed(caller, request, held, grant, failure).await?),
                Step::Refresh => flown = Some(self.fly(held, grant, now).await?),
            }
        }
    }

    /// A token for another resource than the one of the grant's own token. `None` if the grant has changed meanwhile.
    async fn hand_out_elsewhere(
        self: &Arc<Self>,
        caller: &Caller,
        request: &TokenRequest,
        configured: &Configured,
        (held, grant): (&Held, &HeldGrant),
        resource: &Resource,
    ) -> Result<Option<Handout>, BrokerError> {
        if self.is_stopping() {
            return Err(BrokerError::ShuttingDown);
        }
        if !grant.renewable {
            return Err(self.failed(caller, request, held, grant, Failure::NoRefreshToken).await?);
        }
        let missing = match self.further(configured, held, grant, wish(request, resource), self.clock.moment()).await {
            Ok(granted) => {
                let missing = configured.provider.scopes.missing(&granted.token.scopes, &request.scopes);
                let now = self.clock.moment();
                if missing.is_empty() {
                    let (meant, scopes) = ((held, &granted.slot), &granted.token.scopes);
                    let decision = permit::handing_out(caller, configured, request, meant, scopes);
                    permit::pass(caller, &decision, BrokerError::UnknownAccount)?;
                    let rule = permit::rule_of(caller, &decision);
                    held.used.touch(now.wall);
                    return Ok(Some(Handout { granted, now, rule }));
                }
                missing
            }
            Err(NotGiven::Moved) => {
                self.forget(&held.connection);
                return Ok(None);
            }
            Err(NotGiven::NotNow(why)) => {
                return Err(self.failed(caller, request, held, grant, Failure::Landed(why)).await?);
            }
            Err(NotGiven::Refused) => request.scopes.clone(),
        };
        Err(self.lacking(caller, request, &Shelf::default(), Lack::Scopes(held, missing)).await?)
    }

    /// The caller's connections at the provider: from memory, or read and opened.
    async fn shelf(&self, caller: &Caller, provider: &ProviderId) -> Result<Arc<Shelf>, BrokerError> {
        if let Some(shelf) = self.cache.get(&KeyRef { subject: &caller.subject, provider }) {
            return Ok(shelf);
        }
        let key = Key { subject: caller.subject.clone(), provider: provider.clone() };
        self.look_at_clocks();
        let started = self.cache.start();
        let stored = self.store.connections_at(&key.subject, &key.provider).await?;
        let shelf: Arc<Shelf> =
            Arc::new(stored.into_iter().map(|stored| Arc::new(self.unsettled.over(self.opened(stored)))).collect());
        self.cache.put(started, key, Arc::clone(&shelf));
        Ok(shelf)
    }

    /// Opens what is stored. A grant that does not open is left out, loudly: it is damaged, and the others serve.
    fn opened(&self, stored: StoredConnection) -> Held {
        let StoredConnection { connection, grants } = stored;
        let stored = grants.len();
        let grants: Vec<HeldGrant> = grants
            .into_iter()
            .filter_map(|grant| {
                let opened = self
                    .opened_grant(&connection, &grant.slot, grant.version, &grant.content)
                    .inspect_err(|error| {
                        tracing::error!(connection.id = %connection.id, slot = %grant.slot, %error, "Cannot open a stored grant of `{}`", connection.id);
                    })
                    .ok()?;
                Some(HeldGrant { failing: grant.failures > 0, ..opened })
            })
            .collect();
        Held { used: self.usage.of(&connection), connection, is_damaged: grants.len() < stored, grants }
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
            // What is wrong has been logged; a person who agrees to more would not mend it.
            Lack::Damaged => BrokerError::Internal,
            Lack::AccountAmbiguous => BrokerError::AccountAmbiguous { accounts: choices(request, shelf) },
            Lack::NotConnected => {
                BrokerError::ConnectionRequired { provider, prompt: self.prompt(caller, request, None).await? }
            }
            Lack::Reconnect(held, reason) => self.reconnect(caller, request, held, reason).await?,
            Lack::Scopes(held, missing) => {
                let prompt = self.prompt(caller, request, Some(held)).await?;
                BrokerError::InsufficientScope { provider, missing, prompt }
            }
            Lack::SeveralResources(resources) => BrokerError::SeveralResources { resources },
            Lack::UnknownAccount => BrokerError::UnknownAccount,
            Lack::UnknownSlot => BrokerError::UnknownSlot,
        })
    }

    async fn fly(self: &Arc<Self>, held: &Held, grant: &HeldGrant, now: Moment) -> Result<Landed, BrokerError> {
        if self.is_stopping() {
            return Err(BrokerError::ShuttingDown);
        }
        let key = key_of(held, grant);
        let (broker, version) = (Arc::clone(self), grant.version);
        let is_due = grant.renew_at.is_some_and(|at| at <= now.wall);
        let is_dead = grant.granted.token.freshness(Duration::ZERO, now) == Freshness::Dead;
        let run = || broker.renew(key.clone(), version, Errand::Asked { early: !is_due && !is_dead });
        self.flights.join(&key, run).await.ok_or(BrokerError::Internal)
    }

    /// A token that is handed out although its time to be renewed has come is renewed behind the caller's back.
    fn renew_behind(self: &Arc<Self>, held: &Held, grant: &HeldGrant, now: Moment) {
        let due = grant.renewable && grant.renew_at.is_some_and(|at| at <= now.wall);
        if !due || self.is_stopping() {
            return;
        }
        let Some(configured) = self.registry().providers.get(&held.connection.provider).cloned() else { return };
        // If there is no place, the schedule comes to it in its turn.
        if let Ok(place) = self.lane(&configured).admit(Priority::Background, Instant::now()) {
            self.start_renewal(&key_of(held, grant), grant.version, place);
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
        let retry_after = wait.clamp(RETRY_AFTER.0, RETRY_AFTER.1);
        Ok(match failure {
            Failure::NoRefreshToken => self.reconnect(caller, request, held, ReconnectReason::NoRefreshToken).await?,
            Failure::Landed(NotRenewed::Held) => {
                self.reconnect(caller, request, held, ReconnectReason::Restored).await?
            }
            Failure::Wait if self.is_kept_back(held, grant).await? => {
                self.reconnect(caller, request, held, ReconnectReason::Restored).await?
            }
            Failure::Wait | Failure::Landed(NotRenewed::Provider | NotRenewed::NeedsPerson) => {
                BrokerError::ProviderUnavailable { retry_after }
            }
            Failure::Landed(NotRenewed::Wait { pause }) => {
                BrokerError::ProviderUnavailable { retry_after: pause.clamp(RETRY_AFTER.0, RETRY_AFTER.1) }
            }
            Failure::Landed(NotRenewed::Store) => {
                BrokerError::Store(StoreError::Busy("a refresh was not sent, because it could not be noted".to_owned()))
            }
            Failure::Landed(NotRenewed::Registration) => BrokerError::ProviderError { code: "invalid_client" },
            Failure::Landed(NotRenewed::Timeout) => BrokerError::ProviderTimeout,
        })
    }

    /// Whether the grant is not renewed because the store may be an old copy.
    async fn is_kept_back(&self, held: &Held, grant: &HeldGrant) -> Result<bool, BrokerError> {
        let registry = self.registry();
        let Some(configured) = registry.providers.get(&held.connection.provider) else { return Ok(false) };
        let hold = self.store.hold().await?;
        Ok(is_held(hold.as_ref(), &configured.provider.refresh, grant.granted.token.issued_at))
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

/// The shortest and the longest that a caller is told to wait.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// What a caller is told to wait when nobody knows better.
const RETRY_UNKNOWN: Duration = Duration::from_secs(5);

const fn wish<'r>(request: &'r TokenRequest, resource: &'r Resource) -> Wish<'r> {
    Wish { resource, min_ttl: request.min_ttl, rejected: request.rejected.as_ref() }
}

fn key_of(held: &Held, grant: &HeldGrant) -> GrantKey {
    GrantKey { connection: held.connection.id.clone(), slot: grant.granted.slot.clone() }
}

/// What a caller has to choose from.
fn choices(request: &TokenRequest, shelf: &Shelf) -> Vec<Choice> {
    let choice = |held: &Held| Choice {
        account: held.connection.account.clone(),
        label: held.connection.label.clone(),
        connection: held.connection.id.clone(),
    };
    choice::meant(request, shelf).map(choice).collect()
}
