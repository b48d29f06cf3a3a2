//! Renews whatever is due, each provider for itself: one that hangs or refuses keeps none of the others waiting.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};
use tracing::error;

use crate::broker::error::BrokerError;
use crate::broker::lane::{Lane, Place, Priority, Why};
use crate::broker::{Broker, random_share, verdict};
use crate::model::id::ProviderId;
use crate::store::records::GrantKey;

/// How soon it is looked again whether a renewal has landed and made room.
const NEXT_LOOK: Duration = Duration::from_millis(5);
/// How many grants are asked for at once: more than fly, because those that have not noted their intent yet are still due.
const PORTION: usize = 256;
/// A pause that is shorter than this is waited for; after a longer one the schedule comes again by itself.
const SHORT: Duration = Duration::from_millis(500);

/// The providers that are being gone through, so that none is twice.
#[derive(Debug, Default)]
pub struct Rounds(Arc<Mutex<HashSet<ProviderId>>>);

/// The right to go through what is due at one provider. Given back however it ends.
#[derive(Debug)]
struct Round {
    provider: ProviderId,
    under_way: Arc<Mutex<HashSet<ProviderId>>>,
}

impl Rounds {
    fn begin(&self, provider: &ProviderId) -> Option<Round> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = under_way.insert(provider.clone());
        free.then(|| Round { provider: provider.clone(), under_way: Arc::clone(&self.0) })
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.provider);
    }
}

impl Broker {
    /// Begins to renew what is due, at every provider where that is not under way already, and does not wait for it. Costs
    /// what is due, never what is stored.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn renew_due(self: &Arc<Self>) -> Result<(), BrokerError> {
        for provider in self.registry().providers.keys() {
            let Some(round) = self.rounds.begin(provider) else { continue };
            if self.is_stopping() || self.store.due(provider, self.clock.now(), 1).await?.is_empty() {
                continue;
            }
            let broker = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = broker.go_round(&round.provider).await {
                    error!(provider.id = %round.provider, %error, "Cannot find out what is due at {}", round.provider);
                }
            });
        }
        Ok(())
    }

    /// Starts each grant that is due once; one that fails waits for its next time.
    async fn go_round(self: &Arc<Self>, provider: &ProviderId) -> Result<(), BrokerError> {
        let mut started: HashSet<GrantKey> = HashSet::new();
        while !self.is_stopping() {
            let Some(configured) = self.registry().providers.get(provider).cloned() else { return Ok(()) };
            let lane = self.lane(&configured);
            let due = self.store.due(provider, self.clock.now(), PORTION).await?;
            let fresh: Vec<GrantKey> = due.into_iter().filter(|key| !started.contains(key)).collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for key in fresh {
                if !self.start_due(&lane, &key).await? {
                    return Ok(());
                }
                started.insert(key);
            }
        }
        Ok(())
    }

    /// Starts one renewal as soon as its lane has a place. `false` if that will not be soon.
    async fn start_due(self: &Arc<Self>, lane: &Arc<Lane>, key: &GrantKey) -> Result<bool, BrokerError> {
        if self.unsettled.contains(key) {
            return Ok(true);
        }
        let Some((connection, grant)) = self.store.grant(key).await? else { return Ok(true) };
        // Somebody may have asked for it meanwhile, and what was due is fresh; what a dead run left behind is due anyway.
        let is_due = grant.lease.is_some() || grant.content.renew_at.is_some_and(|at| at <= self.clock.now());
        if !is_due || self.postpone_idle(key, &connection, &grant).await? {
            return Ok(true);
        }
        if grant.last_failure.as_deref() == Some(verdict::SUSPECT) && !self.may_probe(&connection.provider) {
            let retry_at = verdict::suspect_again(self.clock.now(), random_share());
            self.leave_alone(key, &connection, &grant, verdict::SUSPECT, retry_at).await;
            return Ok(true);
        }
        let Some(place) = self.place_for_schedule(lane).await else { return Ok(false) };
        self.start_renewal(key, grant.version, place);
        Ok(true)
    }

    /// Whether one of those may be tried whose rejection was not believed.
    fn may_probe(&self, provider: &ProviderId) -> bool {
        let now = Instant::now();
        self.incidents.recall(provider, now);
        self.incidents.probe(provider, now).is_ok()
    }

    /// A place on the lane, waited for while that is worth it.
    async fn place_for_schedule(&self, lane: &Arc<Lane>) -> Option<Place> {
        while !self.is_stopping() {
            let now = Instant::now();
            match lane.admit(Priority::Background, now) {
                Ok(place) => return Some(place),
                Err(wait) if wait.why == Why::Full => sleep(NEXT_LOOK).await,
                Err(wait) if wait.until.saturating_duration_since(now) < SHORT => sleep_until(wait.until.into()).await,
                Err(_) => return None,
            }
        }
        None
    }
}
