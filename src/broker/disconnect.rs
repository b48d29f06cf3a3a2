//! Ends a connection: here at once, and then at the provider.

use std::sync::Arc;

use tracing::{info, warn};

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::registry::Configured;
use crate::broker::vault::Owner;
use crate::model::caller::Caller;
use crate::model::id::{ConnectionId, SlotName};
use crate::model::provider::RevokeReach;
use crate::model::session::ConnectSession;
use crate::oauth::exchange::As;
use crate::oauth::revoke::{self, Revoked};
use crate::policy::{self, Action};
use crate::seal::Sealed;
use crate::store::records::{PendingGrant, StoredConnection};

/// What became of a grant at the provider.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Upstream {
    /// The provider confirmed that it is gone.
    Revoked,
    /// The provider has no way to revoke, or refuses, or would take more with it: a person can do it by hand.
    ByHand,
    /// The provider could not be reached: it will be tried again.
    Pending,
}

impl Broker {
    /// Ends a connection of the caller's own, or anybody's for an administrator. From when this returns nothing of it is
    /// handed out any more, whatever the provider says.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] also if it is somebody else's.
    pub async fn disconnect(self: &Arc<Self>, caller: &Caller, id: &ConnectionId) -> Result<Upstream, BrokerError> {
        let stored = self.store.connection(id).await?.ok_or(BrokerError::NotFound)?;
        if !policy::decide(caller, Action::Disconnect(&stored.connection.subject)).allowed {
            return Err(BrokerError::NotFound);
        }
        failpoint_async!("revoke.storing");
        let ended = self.store.revoke(id, self.clock.now()).await?.ok_or(BrokerError::NotFound)?;
        failpoint_async!("revoke.stored");
        self.forget(&ended.connection);
        info!(connection.id = %id, provider.id = %ended.connection.provider, caller = %caller.name,
            "`{}` disconnected `{}` at {}", caller.name, ended.connection.account.name, ended.connection.provider);
        let broker = Arc::clone(self);
        let task = self.tasks.spawn(async move { broker.finish_revocation(&ended).await });
        task.await.map_err(|_| BrokerError::Internal)
    }

    /// Revokes every grant of an ended connection at the provider and wipes those that need not be tried again. The worst
    /// outcome is the answer.
    pub(super) async fn finish_revocation(&self, ended: &StoredConnection) -> Upstream {
        let registry = self.registry();
        let mut worst = Upstream::Revoked;
        for grant in &ended.grants {
            let outcome = match registry.providers.get(&ended.connection.provider) {
                Some(configured) => {
                    let owner = Owner::connection(&ended.connection, grant.version);
                    let (access, refresh) = (&grant.content.access, grant.content.refresh.as_ref());
                    self.revoke_upstream(configured, owner, &grant.slot, access, refresh).await
                }
                None => Upstream::ByHand,
            };
            worst = worst.max(outcome);
        }
        if worst == Upstream::Pending {
            return worst;
        }
        if let Err(error) = self.store.forget_grants(&ended.connection.id).await {
            warn!(connection.id = %ended.connection.id, %error, "Could not wipe the grants of `{}`; trying again later", ended.connection.id);
        }
        worst
    }

    /// Revokes one grant at the provider.
    pub(super) async fn revoke_upstream(
        &self,
        configured: &Configured,
        owner: Owner<'_>,
        slot: &SlotName,
        access: &Sealed,
        refresh: Option<&Sealed>,
    ) -> Upstream {
        let Some(rules) = &configured.provider.revoke else {
            return Upstream::ByHand;
        };
        if rules.reach == RevokeReach::Project {
            return Upstream::ByHand;
        }
        let opened = owner.open_access(&self.keyring, slot, access).and_then(|access| {
            let refresh = refresh.map(|sealed| owner.open_refresh(&self.keyring, slot, sealed)).transpose()?;
            Ok((access, refresh))
        });
        let (access, refresh) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                warn!(provider.id = %configured.provider.id, %error, "Cannot open a grant to revoke it");
                return Upstream::ByHand;
            }
        };
        failpoint_async!("revoke.upstream");
        let http = self.egress.to(&configured.provider);
        let whom = As { provider: &configured.provider, client: &configured.client, now: self.clock.now() };
        match revoke::revoke(whom, rules, &access, refresh.as_ref(), &http).await {
            Revoked::Yes => Upstream::Revoked,
            Revoked::No => Upstream::ByHand,
            Revoked::Later => Upstream::Pending,
        }
    }

    /// Gives back what nobody confirmed, as well as it can be.
    pub(super) async fn revoke_pending(&self, session: &ConnectSession, grants: &[PendingGrant]) {
        let registry = self.registry();
        let Some(configured) = registry.providers.get(&session.provider) else {
            return;
        };
        for grant in grants {
            let owner = Owner::session(session);
            let outcome =
                self.revoke_upstream(configured, owner, &grant.slot, &grant.access, grant.refresh.as_ref()).await;
            if outcome != Upstream::Revoked {
                warn!(connect.id = %session.id, provider.id = %session.provider,
                    "What {} gave was not wanted and could not be given back", session.provider);
            }
        }
    }
}
