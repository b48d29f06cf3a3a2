//! One refresh of one grant: read, arm, send once, keep, and only then let anybody see it.
//!
//! It runs as a flight, on a task of its own. Whoever asked may hang up; a shutdown waits for it. Nothing is sent unless the
//! intent is durable, and what the provider gave is kept whatever happens ([`keep`](crate::broker::keep)).

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::time::sleep_until;
use tracing::{error, warn};

use crate::broker::lane::{Place, Priority, Wait, Why, doubt};
use crate::broker::quarantine::is_held;
use crate::broker::refusal::outcome;
use crate::broker::registry::Configured;
use crate::broker::vault::Owner;
use crate::broker::{Broker, verdict};
use crate::model::connection::{Connection, State};
use crate::model::id::Version;
use crate::model::secret::RefreshToken;
use crate::model::time::Moment;
use crate::oauth::answer::SlotAnswer;
use crate::oauth::exchange::{self, As, Spend};
use crate::oauth::refused::Refused;
use crate::oauth::rejection::Rejection;
use crate::oauth::transport::EXCHANGE_DEADLINE;
use crate::store::StoreError;
use crate::store::records::{Armed, Grant, GrantKey, HELD, Lease};

/// How long a refresh holds the right to spend a refresh token: the exchange, and time to store what it brought.
pub(super) const LEASE: Duration = Duration::from_secs(90);
const _: () = assert!(LEASE.as_secs() > EXCHANGE_DEADLINE.as_secs() + 45);

/// How long a refresh waits for the store to learn what came of the one before.
const SETTLE_WAIT: Duration = Duration::from_secs(2);
/// How long a caller waits for a place in the lane.
const CALLER_WAIT: Duration = Duration::from_secs(5);

/// Why a grant is refreshed.
#[derive(Debug)]
pub(super) enum Errand {
    /// A caller waits for it.
    Asked {
        /// Though its time has not come: the caller wants more life, or was refused upstream.
        early: bool,
    },
    /// Its time has come, and it has a place on the lane.
    Due(Place),
}

/// What became of a refresh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Landed {
    /// Nothing new, for this reason. The store knows when to try again.
    Failed(NotRenewed),
    /// The grant is another one than it was: look again.
    Renewed,
}

/// Why a refresh brought nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotRenewed {
    /// The store may be an old copy, and the refresh token spent since: an operator, or a person, has to act.
    Held,
    /// A person has to act; the connection says so.
    NeedsPerson,
    /// The provider could not be reached or refused for now.
    Provider,
    /// The provider refuses our registration.
    Registration,
    /// The store or the keyring cannot be used now: nothing was sent.
    Store,
    /// The provider did not answer in time.
    Timeout,
    /// The provider is not to be asked now: it is down, or asked for a pause, or everybody's turn comes first. Nothing was sent.
    Wait {
        /// For so long.
        pause: Duration,
    },
}

/// What became of the wish to spend a refresh token.
struct Intent {
    armed: Result<Armed, StoreError>,
    /// When: the moment before the first byte is sent. What an answer says of lifetimes counts from here.
    at: Moment,
}

/// A refresh under way: what it is about.
pub(super) struct Run {
    pub(super) configured: Arc<Configured>,
    pub(super) connection: Connection,
    pub(super) grant: Grant,
    pub(super) key: GrantKey,
    pub(super) place: Place,
}

impl Broker {
    /// Refreshes the grant if it is still at version `seen`.
    pub(super) async fn renew(self: Arc<Self>, key: GrantKey, seen: Version, errand: Errand) -> Landed {
        failpoint_async!("refresh.started");
        if !self.unsettled.settled(&key, SETTLE_WAIT).await {
            return Landed::Failed(NotRenewed::Store);
        }
        let (connection, grant) = match self.store.grant(&key).await {
            Ok(Some(found)) => found,
            Ok(None) => return Landed::Renewed,
            Err(error) => return unusable(&key, &error),
        };
        failpoint_async!("refresh.read");
        if grant.version != seen || matches!(connection.state, State::Revoked | State::NeedsReconnect(_)) {
            self.forget(&connection);
            return Landed::Renewed;
        }
        let Some(configured) = self.registry().providers.get(&connection.provider).cloned() else {
            warn!(connection.id = %connection.id, provider.id = %connection.provider,
                "Cannot renew `{}`: the provider is no longer configured", connection.id);
            self.put_off(&key, &connection, &grant, verdict::UNCONFIGURED).await;
            return Landed::Failed(NotRenewed::Registration);
        };
        let (provider, began) = (connection.provider.clone(), Instant::now());
        let (known, read, rules) = (connection.clone(), grant.clone(), Arc::clone(&configured));
        let renewal = self.renew_known(configured, connection, grant, key.clone(), errand);
        let landed = match AssertUnwindSafe(renewal).catch_unwind().await {
            Ok(landed) => landed,
            Err(_) => self.panicked(&key, &known, &read, &rules.provider.refresh).await,
        };
        self.meter.refreshed(&provider, landed, began.elapsed());
        failpoint_async!("refresh.landed");
        landed
    }

    /// Refreshes a grant whose provider is known, if nothing speaks against it now.
    async fn renew_known(
        self: &Arc<Self>,
        configured: Arc<Configured>,
        connection: Connection,
        grant: Grant,
        key: GrantKey,
        errand: Errand,
    ) -> Landed {
        match self.store.hold().await {
            Ok(hold) if is_held(hold.as_ref(), &configured.provider.refresh, grant.content.issued_at) => {
                self.put_off(&key, &connection, &grant, HELD).await;
                return Landed::Failed(NotRenewed::Held);
            }
            Ok(_) => {}
            Err(error) => return unusable(&key, &error),
        }
        let place = match errand {
            Errand::Due(place) => place,
            Errand::Asked { early } => {
                if early && let Err(pause) = self.may_be_early(&configured, &key) {
                    return Landed::Failed(NotRenewed::Wait { pause });
                }
                match self.place_for_caller(&configured).await {
                    Ok(place) => place,
                    Err(wait) => return Landed::Failed(refrained(wait)),
                }
            }
        };
        failpoint_async!("refresh.admitted");
        self.exchange(Run { configured, connection, grant, key, place }).await
    }

    /// Whether the grant may be renewed before its time. If not, when again.
    pub(super) fn may_be_early(&self, configured: &Configured, key: &GrantKey) -> Result<(), Duration> {
        let (limit, now) = (configured.provider.refresh.early_per_hour, Instant::now());
        self.early.admit(key, limit, now).map_err(|again| again.saturating_duration_since(now))
    }

    /// A place on the lane, waited for a little while if everybody is on the way and nothing is wrong.
    pub(super) async fn place_for_caller(&self, configured: &Configured) -> Result<Place, Wait> {
        let lane = self.lane(configured);
        let give_up = Instant::now() + CALLER_WAIT;
        loop {
            match lane.admit(Priority::Caller, Instant::now()) {
                Err(Wait { until, why: Why::Budget | Why::Full }) if until < give_up => sleep_until(until.into()).await,
                place_or_wait => return place_or_wait,
            }
        }
    }

    async fn exchange(self: &Arc<Self>, mut run: Run) -> Landed {
        let Run { connection, grant, key, .. } = &run;
        let Some(sealed) = &grant.content.refresh else {
            return Landed::Failed(NotRenewed::NeedsPerson);
        };
        let token = match Owner::connection(connection, grant.version).open_refresh(&self.keyring, &grant.slot, sealed)
        {
            Ok(token) => token,
            Err(error) => {
                self.put_off(key, connection, grant, "damaged").await;
                return unusable(key, &error);
            }
        };
        failpoint_async!("refresh.opened");
        let (intent, mut answer) = self.spend(&run, &token).await;
        failpoint_async!("refresh.answered");
        // What failed here says nothing about the provider.
        if intent.as_ref().is_none_or(|intent| matches!(intent.armed, Ok(Armed::Yes { .. }))) {
            answer = self.heard(&mut run, answer).await;
        }
        match (intent, answer) {
            (Some(Intent { armed: Ok(Armed::Yes { .. }), at }), Ok(answer)) => {
                if run.grant.last_failure.as_deref() == Some(verdict::SUSPECT) {
                    self.incidents.suspect_renewed(&run.connection.provider, Instant::now());
                }
                self.refusals.answered(&run.connection.provider);
                let pair = self.pair(run, answer, at);
                failpoint_async!("refresh.sealed");
                self.keep(pair).await;
                Landed::Renewed
            }
            (Some(Intent { armed: Ok(Armed::Yes { recovery }), .. }), Err(refused)) => {
                self.not_renewed(run, &refused, recovery).await
            }
            (Some(Intent { armed: Ok(Armed::Gone | Armed::Moved), .. }), _) => {
                self.forget(&run.connection);
                Landed::Renewed
            }
            (Some(Intent { armed: Ok(Armed::Held { .. }), .. }), _) => Landed::Failed(NotRenewed::Store),
            (Some(Intent { armed: Err(error), .. }), _) => self.unarmed(&run, &error).await,
            (None, Err(refused)) => self.not_renewed(run, &refused, false).await,
            (None, Ok(_)) => Landed::Failed(NotRenewed::Store),
        }
    }

    /// Tells the lane what came, and finds out who is meant by a refusal that may mean our client or this grant.
    async fn heard(&self, run: &mut Run, answer: Result<SlotAnswer, Refused>) -> Result<SlotAnswer, Refused> {
        let Err(mut refused) = answer else {
            run.place.renewed(&run.key, Instant::now());
            return answer;
        };
        let Rejection::ClientOrGrant { code } = &refused.rejection else {
            run.place.note(outcome(&refused.rejection, self.clock.now()), Instant::now());
            return Err(refused);
        };
        // If nobody can tell how many there are, there are enough not to take this one for all.
        let all = self.store.serving(&run.connection.provider, doubt::SEVERAL).await.unwrap_or(doubt::SEVERAL);
        if run.place.doubt(&run.key, all, Instant::now()) {
            refused.rejection = Rejection::Consent { code: code.clone() };
        }
        Err(refused)
    }

    /// Dials, notes the intent while the connection is held, and sends. There is no intent if there was no connection, and
    /// nothing is sent without one.
    async fn spend(&self, run: &Run, token: &RefreshToken) -> (Option<Intent>, Result<SlotAnswer, Refused>) {
        let Run { configured, connection, grant, key, .. } = run;
        let intent = OnceLock::new();
        let permit = async {
            failpoint_async!("refresh.dialled", false);
            let now = self.clock.now();
            let lease = Lease { boot: self.boot.clone(), until: now.after(LEASE) };
            failpoint_async!("refresh.arming");
            let armed = self.store.arm(key, grant.version, &lease, now).await;
            let granted = matches!(armed, Ok(Armed::Yes { .. }));
            failpoint_async!("refresh.armed");
            let _ = intent.set(Intent { armed, at: self.clock.moment() });
            failpoint_async!("refresh.sending");
            granted
        };
        let whom = As { provider: &configured.provider, client: &configured.client, now: self.clock.now() };
        let spend = Spend {
            token,
            slot: &key.slot,
            granted: &grant.content.scopes,
            grant_type: connection.grant_type,
            resource: None,
        };
        let http = self.egress.to_when(&configured.provider, permit);
        let answer = exchange::refresh(whom, spend, &http).await;
        drop(http);
        (intent.into_inner(), answer)
    }
}

pub(super) fn refrained(wait: Wait) -> NotRenewed {
    match wait.why {
        Why::Registration => NotRenewed::Registration,
        Why::Broken | Why::Budget | Why::Full | Why::Throttled => {
            NotRenewed::Wait { pause: wait.until.saturating_duration_since(Instant::now()) }
        }
    }
}

fn unusable(key: &GrantKey, error: &impl std::error::Error) -> Landed {
    error!(connection.id = %key.connection, slot = %key.slot, %error, "Cannot renew `{}`: nothing was sent", key.connection);
    Landed::Failed(NotRenewed::Store)
}
