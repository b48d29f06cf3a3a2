//! The use cases: what grantd does, free of HTTP and of SQL.
//!
//! One file per use case: [`token`] hands out, [`renew`] refreshes, [`connect`], [`callback`] and [`confirm`] bring a
//! connection into the world, [`device`] and [`terminal`] without a browser of this machine, [`account`] names it and
//! [`disconnect`] ends it, with [`revocation`] at the provider; [`permit`] asks the policy for each of them, and [`judge`] tells what it would say. They share the parts that are kept here.
//!
//! A refresh is spread over several files. [`flight`] makes one of many, [`lane`] says who may send, [`renew`] sends, [`keep`]
//! keeps what came, with [`unsettled`] for what the store does not know yet; [`verdict`] and [`incident`] say what a failure
//! means, [`note`] writes it down, [`explain`] has the words. [`due`] and [`schedule`] decide when, [`ticker`] and [`replan`] mind the clocks,
//! [`quarantine`] and [`restore`] an old copy of the store, [`forecast`] and [`usage`] look ahead. [`audit`] writes down what is
//! decided and done.

pub mod account;
pub mod audit;
pub mod cache;
pub mod callback;
pub mod choice;
pub mod confirm;
pub mod connect;
pub mod device;
pub mod disconnect;
pub mod due;
mod elsewhere;
pub mod error;
pub mod explain;
pub mod flight;
pub mod forecast;
pub mod health;
pub mod housekeep;
pub mod incident;
pub mod judge;
pub mod keep;
pub mod lane;
mod last_refresh;
pub mod look;
pub mod meter;
pub mod note;
pub mod pair;
mod permit;
pub mod quarantine;
pub mod refusal;
pub mod registry;
pub mod renew;
pub mod replan;
pub mod restore;
pub mod revocation;
pub mod schedule;
pub mod terminal;
pub mod ticker;
pub mod ticket;
pub mod token;
pub mod unsettled;
mod unwanted;
pub mod usage;
pub mod vault;
pub mod verdict;
mod warn;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use url::Url;

use crate::broker::audit::{Audit, AuditParts};
use crate::broker::cache::Cache;
use crate::broker::due::Rounds;
use crate::broker::elsewhere::Elsewhere;
use crate::broker::explain::LastRefusals;
use crate::broker::flight::Flights;
use crate::broker::incident::Incidents;
use crate::broker::lane::early::EarlyLimit;
use crate::broker::lane::{Lane, Lanes, Place};
use crate::broker::meter::Meter;
use crate::broker::registry::{Configured, Registry};
use crate::broker::renew::{Errand, Landed};
use crate::broker::replan::Timing;
use crate::broker::ticket::Tickets;
use crate::broker::unsettled::Unsettled;
use crate::broker::usage::Usage;
use crate::clock::Clock;
use crate::egress::Egress;
use crate::model::audit::Act;
use crate::model::connection::Connection;
use crate::model::id::{BootId, ConnectId, Version, random_bytes};
use crate::model::session::{ConnectFailure, Progress};
use crate::seal::Keyring;
use crate::store::Store;
use crate::store::records::GrantKey;
use crate::store::spool::Spool;

/// What the broker is made of.
pub struct Parts {
    /// What can be connected.
    pub registry: Registry,
    /// What survives a restart.
    pub store: Arc<dyn Store>,
    /// What opens it.
    pub keyring: Keyring,
    /// Where now comes from.
    pub clock: Arc<dyn Clock>,
    /// The way out.
    pub egress: Egress,
    /// Where what the store does not take is kept meanwhile.
    pub spool: Spool,
    /// Where each decision is written down.
    pub audit: AuditParts,
    /// How many shelves are kept in memory.
    pub cache_entries: usize,
    /// How many connect sessions of one subject may be open at once.
    pub open_sessions: usize,
}

/// The use cases and the parts they share.
pub struct Broker {
    registry: ArcSwap<Registry>,
    store: Arc<dyn Store>,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
    egress: Egress,
    timing: Timing,
    cache: Cache,
    flights: Flights<GrantKey, Landed>,
    elsewhere: Elsewhere,
    rounds: Rounds,
    lanes: Lanes,
    incidents: Incidents,
    refusals: LastRefusals,
    early: EarlyLimit,
    unsettled: Unsettled,
    spool: Arc<Spool>,
    audit: Audit,
    tickets: Tickets,
    usage: Usage,
    meter: Meter,
    open_sessions: usize,
    /// Held while looking for a session like the one that is asked for: five servers that start together share one.
    connecting: tokio::sync::Mutex<()>,
    boot: BootId,
    /// Moves whenever a connect session has changed.
    sessions: watch::Sender<u64>,
    /// Whatever must not be cut off: flights, callbacks, confirmations, revocations.
    tasks: TaskTracker,
    stopping: CancellationToken,
    /// Cancelled a little earlier: nobody waits for a person any more.
    leaving: CancellationToken,
}

impl Broker {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let tasks = TaskTracker::new();
        Arc::new(Self {
            registry: ArcSwap::from_pointee(parts.registry),
            store: parts.store,
            timing: Timing::new(&*parts.clock),
            keyring: parts.keyring,
            clock: parts.clock,
            egress: parts.egress,
            cache: Cache::new(parts.cache_entries),
            flights: Flights::new(tasks.clone()),
            elsewhere: Elsewhere::new(parts.cache_entries, tasks.clone()),
            rounds: Rounds::default(),
            lanes: Lanes::default(),
            incidents: Incidents::default(),
            refusals: LastRefusals::default(),
            early: EarlyLimit::default(),
            unsettled: Unsettled::default(),
            spool: Arc::new(parts.spool),
            audit: Audit::new(parts.audit),
            tickets: Tickets::default(),
            usage: Usage::default(),
            meter: Meter::default(),
            open_sessions: parts.open_sessions,
            connecting: tokio::sync::Mutex::default(),
            boot: BootId::random(),
            sessions: watch::Sender::new(0),
            tasks,
            stopping: CancellationToken::new(),
            leaving: CancellationToken::new(),
        })
    }

    /// What can be connected.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.load_full()
    }

    /// Takes another set of providers, from now on. What is under way goes on as it began.
    pub fn reload(self: &Arc<Self>, registry: Registry) {
        let kept = |endpoint: &Url, client: &str| {
            registry
                .providers
                .values()
                .any(|configured| configured.provider.endpoints.token == *endpoint && configured.client.id == client)
        };
        self.lanes.retain(kept);
        let registry = Arc::new(registry);
        self.registry.store(Arc::clone(&registry));
        self.lanes.reset_registration();
        self.refusals.clear();
        self.daemon_noted(Act::ConfigurationReloaded);
        self.retry_corrected(registry);
    }

    /// Keyed digest for what the pages must recognise, in base64url. The parts cannot run into each other.
    #[must_use]
    pub fn page_digest(&self, parts: &[&str]) -> String {
        let mut data = Vec::new();
        for part in parts {
            data.extend((part.len() as u64).to_be_bytes());
            data.extend(part.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(self.keyring.digest("page", &data))
    }

    /// Answers everybody who waits for a person, so that they do not hold up the end. Tokens are still renewed.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Stops starting anything, lets what is under way finish for at most `deadline`, and closes the store.
    pub async fn drain(&self, deadline: Duration) {
        failpoint_async!("drain.begin");
        self.leaving.cancel();
        self.stopping.cancel();
        self.tasks.close();
        failpoint_async!("drain.flights");
        if timeout(deadline, self.tasks.wait()).await.is_err() {
            warn!(under_way = self.tasks.len(), "Some work did not finish before the deadline");
        }
        if let Err(error) = self.write_all_usage().await {
            warn!(%error, "Could not note when connections were last used");
        }
        self.daemon_noted(Act::DaemonStopped);
        self.settle_audit().await;
        failpoint_async!("drain.close");
        if let Err(error) = self.store.close().await {
            warn!(%error, "Could not close the store properly");
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Drops what memory holds of a connection that has changed.
    fn forget(&self, connection: &Connection) {
        self.cache.drop_shelf(&connection.subject, &connection.provider);
    }

    /// The way to a provider's token endpoint.
    fn lane(&self, configured: &Configured) -> Arc<Lane> {
        self.lanes.lane(
            &configured.provider.endpoints.token,
            &configured.client.id,
            configured.provider.refresh.per_second,
        )
    }

    fn start_renewal(self: &Arc<Self>, key: &GrantKey, seen: Version, place: Place) {
        let broker = Arc::clone(self);
        let run = || broker.renew(key.clone(), seen, Errand::Due(place));
        self.flights.start(key, run);
    }

    fn sessions_changed(&self) {
        self.sessions.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Waits until the session has moved on from `seen`, or is gone, or `wait` is over, or the daemon stops.
    async fn wait_for_change(&self, id: &ConnectId, seen: &Progress, wait: Duration) {
        self.wait_for(id, wait, |progress| progress != seen).await;
    }

    /// Waits until the session has ended. Says whether it ended with a connection.
    async fn wait_for_end(&self, id: &ConnectId, wait: Duration) -> bool {
        let ended = self.wait_for(id, wait, Progress::is_final).await;
        matches!(ended, Some(Progress::Completed { .. }))
    }

    async fn wait_for(&self, id: &ConnectId, wait: Duration, enough: impl Fn(&Progress) -> bool) -> Option<Progress> {
        let deadline = Instant::now() + wait;
        let mut changes = self.sessions.subscribe();
        loop {
            changes.borrow_and_update();
            let session = self.store.session(id).await.ok()??;
            if self.clock.now() >= session.expires_at && !session.progress.is_final() {
                return Some(Progress::Failed(ConnectFailure::Expired));
            }
            if enough(&session.progress) {
                return Some(session.progress);
            }
            let expiry = Instant::now() + session.expires_at.until(self.clock.now());
            tokio::select! {
                changed = timeout_at(deadline.min(expiry), changes.changed()) => match changed {
                    Ok(Ok(())) => {}
                    _ if Instant::now() >= deadline => return None,
                    _ => {}
                },
                () = self.leaving.cancelled() => return None,
            }
        }
    }
}

/// A number from 0 to 1, for jitter.
fn random_share() -> f64 {
    f64::from(u32::from_be_bytes(random_bytes())) / f64::from(u32::MAX)
}
