//! Gives back what a provider gave and nobody confirmed: now, or later if the provider cannot be asked.

use tracing::{info, warn};

use crate::broker::Broker;
use crate::broker::registry::Configured;
use crate::broker::revocation::Fate;
use crate::broker::vault::Owner;
use crate::model::connection::Account;
use crate::model::session::ConnectSession;
use crate::store::StoreError;
use crate::store::records::PendingGrant;

impl Broker {
    /// Gives back what came for a session that cannot hold it. It is kept before the provider is asked, so that it is tried again
    /// until it is done, by the schedule and after a restart.
    pub(super) async fn return_unwanted(
        &self,
        session: &ConnectSession,
        account: Option<&Account>,
        grants: &[PendingGrant],
    ) {
        if let Err(error) = self.store.keep_unwanted(&session.id, grants).await {
            warn!(connect.id = %session.id, provider.id = %session.provider, %error,
                "What {} gave was not wanted and cannot be kept: it is given back now or never", session.provider);
        }
        self.revoke_pending(session, account, grants).await;
    }

    /// Gives back what nobody confirmed, and wipes what need not be tried again. `account` is the one that came back, as far as
    /// it is known.
    ///
    /// Where a consent replaces the one before, and the account is connected, what came is all that keeps that connection
    /// alive: then it is left alone.
    pub(super) async fn revoke_pending(
        &self,
        session: &ConnectSession,
        account: Option<&Account>,
        grants: &[PendingGrant],
    ) {
        let registry = self.registry();
        let configured = registry.providers.get(&session.provider);
        let is_needed = match configured {
            Some(configured) if configured.provider.consent.replaces_earlier => {
                self.is_connected(session, account).await
            }
            _ => false,
        };
        let mut done: Vec<PendingGrant> = Vec::new();
        for grant in grants {
            if is_needed {
                info!(connect.id = %session.id, provider.id = %session.provider,
                    "What {} gave was not wanted and is not given back: the account is connected, and would lose its access", session.provider);
            } else if !self.is_returned(session, configured.map(AsRef::as_ref), grant).await {
                continue;
            }
            done.push(grant.clone());
        }
        if let Err(error) = self.store.forget_pending(&session.id, &done).await {
            warn!(connect.id = %session.id, %error, "Could not wipe what was not wanted; trying again later");
        }
    }

    /// Tries again what could not be given back.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) async fn finish_returning(&self) -> Result<(), StoreError> {
        for (session, grants) in self.store.unreturned().await? {
            self.revoke_pending(&session, None, &grants).await;
        }
        Ok(())
    }

    /// Whether nothing more can be done about a grant.
    async fn is_returned(
        &self,
        session: &ConnectSession,
        configured: Option<&Configured>,
        grant: &PendingGrant,
    ) -> bool {
        let owner = Owner::session(session);
        let fate = match configured {
            Some(configured) => {
                self.revoke_sealed(configured, owner, &grant.slot, &grant.access, grant.refresh.as_ref()).await
            }
            None => Fate::Unconfigured,
        };
        self.return_noted(session, &grant.slot, fate);
        if !matches!(fate, Fate::Revoked | Fate::Gone) {
            warn!(connect.id = %session.id, provider.id = %session.provider, why = fate.as_str(),
                "What {} gave was not wanted and could not be given back", session.provider);
        }
        fate != Fate::Pending
    }

    /// Whether the account that came back, or any if it is not known, is one that the session's subject has connected.
    async fn is_connected(&self, session: &ConnectSession, account: Option<&Account>) -> bool {
        match self.store.connections_at(&session.subject, &session.provider).await {
            Ok(connected) => {
                connected.iter().any(|stored| account.is_none_or(|account| stored.connection.account.id == account.id))
            }
            // If nobody can tell, what could be somebody's access stays.
            Err(_) => true,
        }
    }
}
