//! A token for another resource of a grant, where one access token serves one resource only.
//!
//! It comes by a refresh that names the scopes there. Such a refresh leaves the refresh token and the token of the grant as
//! they are, so nothing of it needs to be stored or to survive: what it brings is kept in memory for as long as it lives, is
//! shared by all who ask for it, and is renewed ahead of its end while somebody uses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::broker::Broker;
use crate::broker::cache::{Granted, Held, HeldGrant};
use crate::broker::flight::Flights;
use crate::broker::lane::{Outcome, Place};
use crate::broker::refusal::outcome;
use crate::broker::registry::Configured;
use crate::broker::renew::{Landed, NotRenewed, refrained};
use crate::broker::schedule::{self, Life};
use crate::broker::vault::Owner;
use crate::model::audit::Fingerprint;
use crate::model::connection::{Connection, State};
use crate::model::id::{ConnectionId, Epoch, SlotName, TokenId};
use crate::model::provider::resources::Resource;
use crate::model::secret::RefreshToken;
use crate::model::time::{Moment, Timestamp};
use crate::model::token::{Freshness, IssuedToken};
use crate::oauth::answer::SlotAnswer;
use crate::oauth::exchange::{self, As, Spend};
use crate::oauth::refused::Refused;
use crate::oauth::rejection::Rejection;
use crate::store::records::{Grant, GrantKey};

/// For how long a refusal is believed before the provider is asked again.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Tokens for other resources, in memory, and those that are on their way.
#[derive(Debug)]
pub(super) struct Elsewhere {
    known: quick_cache::sync::Cache<Key, Known>,
    flights: Flights<Key, Result<Arc<Further>, NotGiven>>,
}

/// Which grant, as the person gave it last, and which resource.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    connection: ConnectionId,
    epoch: Epoch,
    slot: SlotName,
    resource: Resource,
}

#[derive(Clone, Debug)]
enum Known {
    Token(Arc<Further>),
    RefusedUntil(Instant),
}

/// A token for another resource.
#[derive(Debug)]
pub(super) struct Further {
    granted: Arc<Granted>,
    renew_at: Option<Timestamp>,
}

/// Why there is no token for another resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NotGiven {
    /// The grant is another one by now: look again.
    Moved,
    /// The provider could not be used, or not now.
    NotNow(NotRenewed),
    /// The provider gives none for this resource: the person has to consent.
    Refused,
}

/// What a caller wants of a token for another resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'r> {
    pub(super) resource: &'r Resource,
    /// How long it should live at least: best effort.
    pub(super) min_ttl: Duration,
    /// The token that the upstream refused.
    pub(super) rejected: Option<&'r TokenId>,
}

impl Elsewhere {
    /// At most so many tokens. Flights are counted by `tasks`.
    pub(super) fn new(entries: usize, tasks: TaskTracker) -> Self {
        Self { known: quick_cache::sync::Cache::new(entries), flights: Flights::new(tasks) }
    }
}

impl Key {
    fn of(held: &Held, grant: &HeldGrant, resource: &Resource) -> Self {
        Self {
            connection: held.connection.id.clone(),
            epoch: held.connection.epoch,
            slot: grant.granted.slot.clone(),
            resource: resource.clone(),
        }
    }

    fn grant(&self) -> GrantKey {
        GrantKey { connection: self.connection.clone(), slot: self.slot.clone() }
    }
}

impl Further {
    fn is_good(&self, wish: Wish<'_>, now: Moment) -> bool {
        !self.is_rejected(wish) && self.granted.token.freshness(wish.min_ttl, now) == Freshness::Fresh
    }

    /// Whether it is better than none.
    fn serves(&self, wish: Wish<'_>, now: Moment) -> bool {
        !self.is_rejected(wish) && self.lives(now)
    }

    fn lives(&self, now: Moment) -> bool {
        self.granted.token.freshness(Duration::ZERO, now) != Freshness::Dead
    }

    fn is_rejected(&self, wish: Wish<'_>) -> bool {
        wish.rejected == Some(&self.granted.token.token_id)
    }
}

impl Broker {
    /// The token for another resource, if memory has one that is good enough. One whose time has come is renewed behind the
    /// caller's back.
    pub(super) fn further_at_once(
        self: &Arc<Self>,
        held: &Held,
        grant: &HeldGrant,
        wish: Wish<'_>,
        now: Moment,
    ) -> Option<Arc<Granted>> {
        let key = Key::of(held, grant, wish.resource);
        let Some(Known::Token(further)) = self.elsewhere.known.get(&key) else { return None };
        if !further.is_good(wish, now) {
            return None;
        }
        if further.renew_at.is_some_and(|at| at <= now.wall) && !self.is_stopping() {
            let broker = Arc::clone(self);
            let fetched = key.clone();
            drop(self.elsewhere.flights.start(&key, || broker.fetch(fetched)));
        }
        Some(Arc::clone(&further.granted))
    }

    /// The token for another resource: from memory, or from the provider.
    pub(super) async fn further(
        self: &Arc<Self>,
        configured: &Configured,
        held: &Held,
        grant: &HeldGrant,
        wish: Wish<'_>,
        now: Moment,
    ) -> Result<Arc<Granted>, NotGiven> {
        if let Some(granted) = self.further_at_once(held, grant, wish, now) {
            return Ok(granted);
        }
        let key = Key::of(held, grant, wish.resource);
        let known = match self.elsewhere.known.get(&key) {
            Some(Known::RefusedUntil(until)) if Instant::now() < until => return Err(NotGiven::Refused),
            Some(Known::Token(further)) => Some(further),
            _ => None,
        };
        // Another one before the last has died is more than the provider reckons with.
        let early = known.as_ref().is_some_and(|further| further.lives(now));
        let admitted = if early { self.may_be_early(configured, &key.grant()) } else { Ok(()) };
        let fetched = match admitted {
            Err(pause) => Err(NotGiven::NotNow(NotRenewed::Wait { pause })),
            Ok(()) => {
                let (broker, fetched) = (Arc::clone(self), key.clone());
                let flight = self.elsewhere.flights.join(&key, || broker.fetch(fetched));
                flight.await.unwrap_or(Err(NotGiven::NotNow(NotRenewed::Provider)))
            }
        };
        let now = self.clock.moment();
        match (fetched, known) {
            (Ok(further), _) if further.serves(wish, now) => Ok(Arc::clone(&further.granted)),
            // Dead on arrival: asking again would go on for ever.
            (Ok(_), _) => Err(NotGiven::NotNow(NotRenewed::Provider)),
            (Err(NotGiven::NotNow(_)), Some(further)) if further.serves(wish, now) => Ok(Arc::clone(&further.granted)),
            (Err(why), _) => Err(why),
        }
    }

    /// Gets a token for the resource and keeps it in memory.
    async fn fetch(self: Arc<Self>, key: Key) -> Result<Arc<Further>, NotGiven> {
        let (connection, grant) = self.serving(&key).await?;
        let Some(configured) = self.registry().providers.get(&connection.provider).cloned() else {
            return Err(NotGiven::NotNow(NotRenewed::Registration));
        };
        let sealed = grant.content.refresh.as_ref().ok_or(NotGiven::NotNow(NotRenewed::NeedsPerson))?;
        let token = Owner::connection(&connection, grant.version)
            .open_refresh(&self.keyring, &grant.slot, sealed)
            .map_err(|error| unusable(&key, &error))?;
        let place = self.place_for_caller(&configured).await.map_err(|wait| NotGiven::NotNow(refrained(wait)))?;
        let began = Instant::now();
        let fetched = self.ask_for(&configured, &connection, &grant, &key, &token, place).await;
        let landed = match &fetched {
            Ok(_) => Landed::Renewed,
            Err(NotGiven::NotNow(why)) => Landed::Failed(*why),
            Err(NotGiven::Moved | NotGiven::Refused) => Landed::Failed(NotRenewed::NeedsPerson),
        };
        self.meter.refreshed(&connection.provider, landed, began.elapsed());
        // Nobody is handed what comes after a disconnect, however long they have waited for it.
        let fetched = match fetched {
            Ok(further) => self.serving(&key).await.map(|_| further),
            refused => refused,
        };
        match &fetched {
            Ok(further) => self.elsewhere.known.insert(key, Known::Token(Arc::clone(further))),
            Err(NotGiven::Refused) => {
                self.elsewhere.known.insert(key, Known::RefusedUntil(Instant::now() + REFUSED_FOR));
            }
            Err(NotGiven::Moved | NotGiven::NotNow(_)) => {}
        }
        fetched
    }

    /// The grant as it is stored, if it is still the one that is meant and serves.
    async fn serving(&self, key: &Key) -> Result<(Connection, Grant), NotGiven> {
        let (connection, grant) = match self.store.grant(&key.grant()).await {
            Ok(Some(found)) => found,
            Ok(None) => return Err(NotGiven::Moved),
            Err(error) => return Err(unusable(key, &error)),
        };
        let has_ended = matches!(connection.state, State::Revoked | State::NeedsReconnect(_));
        if connection.epoch == key.epoch && !has_ended { Ok((connection, grant)) } else { Err(NotGiven::Moved) }
    }

    async fn ask_for(
        &self,
        configured: &Configured,
        connection: &Connection,
        grant: &Grant,
        key: &Key,
        token: &RefreshToken,
        mut place: Place,
    ) -> Result<Arc<Further>, NotGiven> {
        let sent = self.clock.moment();
        let whom = As { provider: &configured.provider, client: &configured.client, now: sent.wall };
        let granted = &grant.content.scopes;
        let grant_type = connection.grant_type;
        let spend = Spend { token, slot: &key.slot, granted, grant_type, resource: Some(&key.resource) };
        let answer = exchange::refresh(whom, spend, &self.egress.to(&configured.provider)).await;
        let heard =
            answer.as_ref().map_or_else(|refused| outcome(&refused.rejection, self.clock.now()), |_| Outcome::Answered);
        place.note(heard, Instant::now());
        match answer {
            Ok(answer) => Ok(Arc::new(further(configured, connection, grant, key, answer, sent))),
            Err(refused) => Err(self.not_given(connection, key, &refused).await),
        }
    }

    async fn not_given(&self, connection: &Connection, key: &Key, refused: &Refused) -> NotGiven {
        warn!(connection.id = %key.connection, provider.id = %connection.provider,
            "{} gave no token of `{}` for {}: {refused}", connection.provider, connection.account.name, key.resource);
        if let Some(claims) = &refused.claims {
            self.keep_claims(&key.connection, claims).await;
        }
        match &refused.rejection {
            Rejection::Consent { .. }
            | Rejection::Denied
            | Rejection::Restart { .. }
            | Rejection::UserAction { .. } => NotGiven::Refused,
            Rejection::ClientOrGrant { .. } | Rejection::Registration { .. } => {
                NotGiven::NotNow(NotRenewed::Registration)
            }
            Rejection::Ambiguous("no answer in time") => NotGiven::NotNow(NotRenewed::Timeout),
            Rejection::Ambiguous(_) | Rejection::Retry { .. } | Rejection::Unsent(_) => {
                NotGiven::NotNow(NotRenewed::Provider)
            }
        }
    }
}

/// What is handed out of an answer. A refresh token in it is of no use: the one that was sent goes on working.
fn further(
    configured: &Configured,
    connection: &Connection,
    grant: &Grant,
    key: &Key,
    answer: SlotAnswer,
    sent: Moment,
) -> Further {
    let scopes = answer
        .scopes
        .unwrap_or_else(|| configured.provider.scopes.at_resource(&grant.content.scopes, Some(&key.resource)));
    let (issued_at, expires_at) = (sent.wall, answer.expires_in.map(|lifetime| sent.wall.after(lifetime)));
    let life = Life { issued_at, expires_at, refresh_expires_at: None };
    let granted = Granted {
        connection: connection.id.clone(),
        provider: connection.provider.clone(),
        account: connection.account.clone(),
        slot: key.slot.clone(),
        scope: scopes.to_string(),
        fingerprint: Fingerprint::of(&answer.access),
        token: IssuedToken {
            access_token: answer.access,
            token_id: TokenId::random(),
            generation: grant.version.generation,
            scopes,
            issued_at,
            expires_at,
            dies_at: answer.expires_in.map(|lifetime| sent.boot.after(lifetime)),
        },
    };
    let renew_at =
        expires_at.and_then(|_| schedule::renew_at(&configured.provider.refresh, &key.grant(), grant.version, life));
    Further { granted: Arc::new(granted), renew_at }
}

fn unusable(key: &Key, error: &impl std::error::Error) -> NotGiven {
    tracing::error!(connection.id = %key.connection, slot = %key.slot, %error,
        "Cannot ask for a token of `{}` for {}", key.connection, key.resource);
    NotGiven::NotNow(NotRenewed::Store)
}
