//! Ends a connection: here at once, and then at the provider.
//!
//! Here first: from the one write that says so nothing is handed out any more, whatever the provider answers and however long
//! it takes. What is to be revoked stands in the same write, so that a daemon that dies in between goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::info;
use url::Url;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::revocation::{Parting, Upstream};
use crate::model::caller::Caller;
use crate::model::id::{ConnectionId, ProviderId};
use crate::model::provider::RevokeReach;
use crate::policy::{self, Action, Target};
use crate::store::records::{Extent, Unfinished};

/// How long whoever disconnects waits for the provider.
const PATIENCE: Duration = Duration::from_secs(45);

/// What became of a connection that was ended.
#[derive(Clone, Debug)]
pub struct Disconnected {
    /// Where it was.
    pub provider: ProviderId,
    /// What became of its grants there.
    pub parting: Parting,
    /// What the provider's answer takes with it; `None` if it has no way that was used.
    pub reach: Option<RevokeReach>,
    /// Where a person can take back what is left.
    pub manual_url: Option<Url>,
}

impl Broker {
    /// Ends a connection of the caller's own, or anybody's for an administrator. From when this returns nothing of it is
    /// handed out any more, whatever the provider says.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] also if it is somebody else's; [`BrokerError::Denied`] for a configured caller;
    /// [`BrokerError::NoWiderRevocation`] if more was asked for than
    /// the provider has a way for. Then nothing has been done.
    pub async fn disconnect(
        self: &Arc<Self>,
        caller: &Caller,
        id: &ConnectionId,
        extent: Extent,
    ) -> Result<Disconnected, BrokerError> {
        let stored = self.store.connection(id).await?.ok_or(BrokerError::NotFound)?;
        let decision = policy::decide(caller, Action::Disconnect(Target::of(&stored.connection)));
        self.pass_noted(caller, "disconnect", &decision, &stored.connection)?;
        let registry = self.registry();
        let provider = registry.providers.get(&stored.connection.provider).map(|configured| &configured.provider);
        if extent == Extent::Wider && provider.is_none_or(|provider| provider.revoke_wider.is_none()) {
            return Err(BrokerError::NoWiderRevocation);
        }
        failpoint_async!("revoke.storing");
        let ended = self.store.revoke(id, extent, self.clock.now()).await?.ok_or(BrokerError::NotFound)?;
        failpoint_async!("revoke.stored");
        self.forget(&ended.connection);
        self.disconnected_noted(caller, decision.rule(), &ended.connection, extent);
        info!(connection.id = %id, provider.id = %ended.connection.provider, caller = %caller.name, wider = extent == Extent::Wider,
            "`{}` disconnected `{}` at {}", caller.name, ended.connection.account.name, ended.connection.provider);
        let unfinished = Unfinished { ended, extent };
        let (broker, awaited) = (Arc::clone(self), Parting::awaited(&unfinished));
        let task = self.tasks.spawn(async move { broker.finish_revocation(&unfinished).await });
        // Whoever asked need not wait for a provider that hangs. The task goes on.
        let parting = match timeout(PATIENCE, task).await {
            Ok(parting) => parting.map_err(|_| BrokerError::Internal)?,
            Err(_) => awaited,
        };
        let used = match parting.wider {
            Some(Upstream::Revoked) => provider.and_then(|provider| provider.revoke_wider.as_ref()),
            _ => provider.and_then(|provider| provider.revoke.as_ref()),
        };
        Ok(Disconnected {
            reach: used.map(|rules| rules.reach),
            manual_url: provider.and_then(|provider| provider.revoke_manual_url.clone()),
            provider: stored.connection.provider,
            parting,
        })
    }
}
