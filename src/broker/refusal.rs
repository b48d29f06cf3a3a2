//! A refresh that brought nothing: what that means, said to the operator and noted.

use std::sync::Arc;
use std::time::Instant;

use tracing::{error, warn};

use crate::broker::incident::{self, Verdict};
use crate::broker::lane::Outcome;
use crate::broker::renew::{Landed, NotRenewed, Run};
use crate::broker::verdict::{self, Attempt};
use crate::broker::{Broker, random_share};
use crate::model::claims::Claims;
use crate::model::connection::{Connection, State};
use crate::model::id::ConnectionId;
use crate::model::provider::rules::RefreshRules;
use crate::model::time::Timestamp;
use crate::oauth::refused::Refused;
use crate::oauth::rejection::Rejection;
use crate::store::StoreError;
use crate::store::records::{Failure, Grant, GrantKey};

impl Broker {
    /// The provider did not give a token, or could not be asked. `recovery` says that an earlier run may have spent the refresh
    /// token.
    pub(super) async fn not_renewed(self: &Arc<Self>, run: Run, refused: &Refused, recovery: bool) -> Landed {
        let Run { configured, connection, grant, key, .. } = &run;
        let rejection = &refused.rejection;
        let attempt = self.attempt(grant, recovery);
        let judged = verdict::judge(&configured.provider.refresh, rejection, attempt);
        let mut failure = Failure { number: refused.known_number(), ..judged };
        if matches!(failure.state, State::NeedsReconnect(_)) && !self.believes(connection).await {
            failure = verdict::suspended(&failure, attempt);
        }
        tell(&run, refused, &failure);
        self.note_refused_refresh(&connection.provider, refused);
        if let Some(claims) = &refused.claims {
            self.keep_claims(&connection.id, claims).await;
        }
        failpoint_async!("refresh.judged");
        let landed = Landed::Failed(match (&failure.state, rejection) {
            (State::NeedsReconnect(_), _) => NotRenewed::NeedsPerson,
            (_, Rejection::ClientOrGrant { .. } | Rejection::Registration { .. }) => NotRenewed::Registration,
            (_, Rejection::Ambiguous("no answer in time")) => NotRenewed::Timeout,
            _ => NotRenewed::Provider,
        });
        self.note(key, connection, grant.version, failure).await;
        landed
    }

    /// Keeps what the provider wants to see proven, for the next authorization of this connection. Without it the person may
    /// have to go there twice, and nothing worse.
    pub(super) async fn keep_claims(&self, connection: &ConnectionId, claims: &Claims) {
        if let Err(error) = self.store.keep_claims(connection, claims).await {
            warn!(connection.id = %connection, %error, "Could not keep what the provider wants to see in the next authorization");
        }
    }

    /// Whether a rejection is to be believed, or so many came at once that the provider or our registration is the likelier
    /// cause.
    async fn believes(&self, connection: &Connection) -> bool {
        let size = self.store.serving(&connection.provider, incident::SIZE_MAX).await.unwrap_or_default();
        let verdict = self.incidents.admit(&connection.provider, &connection.id, size, Instant::now());
        if verdict == Verdict::Freeze {
            error!(connection.id = %connection.id, provider.id = %connection.provider,
                "{} rejects so many connections that nobody is sent to reconnect for now: look whether our registration there \
                 is as it was, and then release it with `grantd provider release {}`", connection.provider, connection.provider);
        }
        verdict == Verdict::Believe
    }

    /// The intent could not be noted, as far as we know, and nothing was sent. In case it was noted after all, it is taken back:
    /// otherwise the lease would keep the grant from being renewed until it runs out.
    pub(super) async fn unarmed(self: &Arc<Self>, run: &Run, error: &StoreError) -> Landed {
        error!(connection.id = %run.key.connection, slot = %run.key.slot, %error,
            "Cannot renew `{}`: the intent cannot be noted, so nothing was sent", run.key.connection);
        let Run { connection, grant, key, .. } = run;
        let taken_back = Failure {
            class: "unarmed",
            number: None,
            state: connection.state.clone(),
            retry_at: Some(self.clock.now()),
            uncertain: grant.uncertain || grant.lease.is_some(),
            rejections: grant.rejections,
        };
        self.note(key, connection, grant.version, taken_back).await;
        Landed::Failed(NotRenewed::Store)
    }

    /// Something of ours broke in the middle. A pair that has come is still kept; otherwise the refresh token may be spent, and
    /// whatever broke may break again: it is as if the answer had been lost.
    pub(super) async fn panicked(
        self: &Arc<Self>,
        key: &GrantKey,
        connection: &Connection,
        read: &Grant,
        rules: &RefreshRules,
    ) -> Landed {
        error!(connection.id = %key.connection, slot = %key.slot, "Renewing `{}` panicked", key.connection);
        if let Some(pair) = self.unsettled.pair(key) {
            self.settle_behind(pair, false);
            return Landed::Renewed;
        }
        let lost = verdict::judge(rules, &Rejection::Ambiguous("panicked"), self.attempt(read, true));
        self.note(key, connection, read.version, Failure { class: "panicked", ..lost }).await;
        Landed::Failed(NotRenewed::Store)
    }

    /// How things stand with a grant whose refresh has just failed.
    fn attempt(&self, grant: &Grant, recovery: bool) -> Attempt {
        let now = self.clock.now();
        Attempt {
            failures: grant.failures,
            // A lease that was read is that of a run that never told what came of it, and noting anything ends it.
            uncertain: recovery || grant.uncertain || grant.lease.is_some(),
            rejections: grant.rejections,
            dead: grant.content.expires_at.is_some_and(|expires_at| expires_at <= now),
            now,
            random: random_share(),
        }
    }
}

/// What a rejection says about the provider as a whole.
pub(super) fn outcome(rejection: &Rejection, now: Timestamp) -> Outcome {
    match rejection {
        Rejection::Ambiguous(_) | Rejection::Unsent(_) => Outcome::Unreachable,
        Rejection::Consent { .. } | Rejection::Denied | Rejection::Restart { .. } | Rejection::UserAction { .. } => {
            Outcome::Answered
        }
        Rejection::ClientOrGrant { .. } => Outcome::Unclear,
        Rejection::Registration { .. } => Outcome::Registration,
        Rejection::Retry { after } => Outcome::Throttled(after.map(|after| after.wait(now))),
    }
}

/// Says what went wrong to the operator, in a word that fits how bad it is.
fn tell(run: &Run, refused: &Refused, failure: &Failure) {
    let Run { configured, connection, grant, .. } = run;
    match &failure.state {
        State::NeedsReconnect(reason) => warn!(connection.id = %connection.id, provider.id = %connection.provider,
            reason = reason.as_str(), "`{}` at {} has to be connected again: {refused}", connection.account.name, connection.provider),
        _ if matches!(refused.rejection, Rejection::ClientOrGrant { .. }) => error!(connection.id = %connection.id,
            provider.id = %connection.provider,
            "{} refuses our registration, or the grant is dead: check client id and secret of `{}`; if they are right, connect `{}` \
             again: {refused}", configured.provider.name, connection.provider, connection.account.name),
        _ if matches!(refused.rejection, Rejection::Registration { .. }) => error!(connection.id = %connection.id,
            provider.id = %connection.provider,
            "{} refuses our registration: check client id and secret of `{}`: {refused}", configured.provider.name, connection.provider),
        _ => warn!(connection.id = %connection.id, provider.id = %connection.provider, class = failure.class,
            failures = grant.failures + 1, "Could not renew `{}` at {}: {refused}", connection.account.name, connection.provider),
    }
}
