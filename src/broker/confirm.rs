//! The person's word: the account that came back becomes a connection, or is given back.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use tracing::info;

use crate::broker::Broker;
use crate::broker::connect::{Visitor, is_among, settled};
use crate::broker::error::PageError;
use crate::broker::forecast;
use crate::broker::schedule::{self, Life};
use crate::broker::vault::Owner;
use crate::model::connection::{Connection, State};
use crate::model::id::{ConnectId, ConnectionId, Epoch, Generation, SlotName, TokenId, Version};
use crate::model::provider::Provider;
use crate::model::provider::rules::RefreshRules;
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::model::time::Timestamp;
use crate::seal::OpenError;
use crate::store::StoreError;
use crate::store::records::{Confirmed, ConfirmedConnection, GrantKey, NewGrant, Pending, PendingGrant};

impl Broker {
    /// The person says that this is the account: from now on it serves.
    ///
    /// # Errors
    /// If this is not the browser that pressed the button, or nothing waits to be confirmed.
    pub async fn confirm(self: &Arc<Self>, id: &ConnectId, browser: &str) -> Result<ConnectSession, PageError> {
        let (broker, id, browser) = (Arc::clone(self), id.clone(), browser.to_owned());
        let task = self.tasks.spawn(async move { broker.activate(&id, &browser).await });
        task.await.map_err(|_| PageError::Internal)?
    }

    async fn activate(&self, id: &ConnectId, browser: &str) -> Result<ConnectSession, PageError> {
        let session = settled(self.page_session(id).await?, self.clock.now());
        if !matches!(session.progress, Progress::AwaitingConfirmation { .. }) {
            return Err(PageError::Used);
        }
        let pending = self.store.pending(id).await?.ok_or(PageError::Used)?;
        if !self.matches_browser(&pending.browser, browser) {
            return Err(PageError::OtherBrowser);
        }
        // A connection that is renewed or reconnected meanwhile makes the first try stale.
        for _ in 0..5 {
            let confirmed = self.confirmed(&session, &pending).await?;
            failpoint_async!("confirm.storing");
            match self.store.confirm(&confirmed, self.clock.now()).await? {
                Confirmed::Yes => return self.announce(&session, &confirmed).await,
                Confirmed::NotWaiting => return Err(PageError::Used),
                Confirmed::Stale => {}
            }
        }
        Err(PageError::Internal)
    }

    async fn announce(
        &self,
        session: &ConnectSession,
        confirmed: &ConfirmedConnection,
    ) -> Result<ConnectSession, PageError> {
        let connection = &confirmed.connection;
        failpoint_async!("confirm.stored");
        self.confirmed_noted(session, confirmed);
        self.connected_again(&connection.id, confirmed.grants.iter().map(|(slot, _)| slot)).await;
        self.forget(connection);
        self.sessions_changed();
        info!(connection.id = %connection.id, provider.id = %connection.provider, subject = %connection.subject,
            epoch = connection.epoch.0, "Connected `{}` at {}", connection.account.name, connection.provider);
        self.page_session(&session.id).await
    }

    /// The connection as it will be: the account's own if it is connected already, else a new one.
    async fn confirmed(&self, session: &ConnectSession, pending: &Pending) -> Result<ConfirmedConnection, PageError> {
        let now = self.clock.now();
        let known = self.store.connections_at(&session.subject, &session.provider).await?;
        let same =
            known.into_iter().map(|stored| stored.connection).find(|known| known.account.id == pending.account.id);
        let registry = self.registry();
        let configured = registry.providers.get(&session.provider);
        if let (Some(known), Some(configured)) = (&same, configured)
            && is_superseded(&configured.provider, known, pending)
        {
            self.store.fail_session(&session.id, ConnectFailure::Cancelled, now).await?;
            self.store.forget_pending(&session.id, &pending.grants).await?;
            self.ended_noted(session, ConnectFailure::Cancelled);
            self.sessions_changed();
            return Err(PageError::Used);
        }
        let replaces = same.as_ref().map(|connection| connection.epoch);
        let connection = Connection {
            id: same.as_ref().map_or_else(ConnectionId::random, |known| known.id.clone()),
            subject: session.subject.clone(),
            provider: session.provider.clone(),
            account: pending.account.clone(),
            label: same.as_ref().and_then(|known| known.label.clone()),
            is_default: same.as_ref().is_some_and(|known| known.is_default),
            state: State::Active,
            epoch: replaces.map_or(Epoch(1), Epoch::next),
            grant_type: session.grant_type,
            scopes: session.scopes.clone(),
            created_at: same.as_ref().map_or(now, |known| known.created_at),
            confirmed_at: now,
            given_at: given_at(pending).unwrap_or(now),
            used_at: same.and_then(|known| known.used_at),
        };
        let rules = configured.map(|configured| configured.provider.refresh.clone()).unwrap_or_default();
        let version = Version { epoch: connection.epoch, generation: Generation(1) };
        let grants = pending
            .grants
            .iter()
            .map(|grant| self.moved(session, &connection, version, grant, &rules))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                tracing::error!(connect.id = %session.id, %error, "Cannot open what waits to be confirmed");
                PageError::Internal
            })?;
        Ok(ConfirmedConnection { session: session.id.clone(), connection, replaces, grants })
    }

    /// A grant sealed for its session, sealed again for its connection.
    fn moved(
        &self,
        session: &ConnectSession,
        connection: &Connection,
        version: Version,
        grant: &PendingGrant,
        rules: &RefreshRules,
    ) -> Result<(SlotName, NewGrant), OpenError> {
        let (from, to) = (Owner::session(session), Owner::connection(connection, version));
        let access = from.open_access(&self.keyring, &grant.slot, &grant.access)?;
        let refresh = match &grant.refresh {
            Some(sealed) => Some(from.open_refresh(&self.keyring, &grant.slot, sealed)?),
            None => None,
        };
        let key = GrantKey { connection: connection.id.clone(), slot: grant.slot.clone() };
        let life = Life {
            issued_at: grant.issued_at,
            expires_at: grant.expires_at,
            refresh_expires_at: grant.refresh_expires_at,
        };
        let renew_at = refresh.as_ref().and_then(|_| schedule::renew_at(rules, &key, version, life));
        let ends = forecast::ends(rules, connection.confirmed_at, refresh.is_some(), life);
        let new = NewGrant {
            token_id: TokenId::random(),
            access: to.seal_access(&self.keyring, &grant.slot, &access),
            refresh: refresh.map(|token| to.seal_refresh(&self.keyring, &grant.slot, &token)),
            scopes: grant.scopes.clone(),
            issued_at: grant.issued_at,
            expires_at: grant.expires_at,
            refresh_expires_at: grant.refresh_expires_at,
            renew_at,
            ends,
        };
        Ok((grant.slot.clone(), new))
    }

    /// The person says no: before the provider was asked, or after an account came back.
    ///
    /// # Errors
    /// If it is neither the session's subject nor the browser that pressed the button, or the session has ended.
    pub async fn decline(&self, id: &ConnectId, visitors: &[Visitor], browser: Option<&str>) -> Result<(), PageError> {
        let session = settled(self.page_session(id).await?, self.clock.now());
        if !is_among(&session.subject, visitors) && !self.is_same_browser(&session, browser).await? {
            return Err(PageError::OtherPerson);
        }
        let failure = match session.progress {
            Progress::Pending | Progress::Opened => ConnectFailure::Cancelled,
            Progress::AwaitingConfirmation { .. } => ConnectFailure::Denied,
            Progress::Completed { .. } | Progress::Failed(_) => return Err(PageError::Used),
        };
        self.end_session(&session, failure).await?;
        Ok(())
    }

    /// Ends a session and gives back what it held.
    pub(super) async fn end_session(
        &self,
        session: &ConnectSession,
        failure: ConnectFailure,
    ) -> Result<(), StoreError> {
        let held = self.store.fail_session(&session.id, failure, self.clock.now()).await?;
        self.sessions_changed();
        if held.is_some() {
            self.ended_noted(session, failure);
        }
        if let Some(Some(pending)) = held {
            self.revoke_pending(session, Some(&pending.account), &pending.grants).await;
        }
        Ok(())
    }

    /// Whether the browser is the one that an account came back to.
    pub(super) async fn is_same_browser(
        &self,
        session: &ConnectSession,
        browser: Option<&str>,
    ) -> Result<bool, StoreError> {
        let Some(browser) = browser else { return Ok(false) };
        let pending = self.store.pending(&session.id).await?;
        Ok(pending.is_some_and(|pending| self.matches_browser(&pending.browser, browser)))
    }

    pub(super) fn matches_browser(&self, digest: &[u8; 32], cookie: &str) -> bool {
        self.keyring.digest("browser", cookie.as_bytes()).ct_eq(digest).into()
    }
}

/// When the provider gave what waits to be confirmed.
fn given_at(pending: &Pending) -> Option<Timestamp> {
    pending.grants.iter().map(|grant| grant.issued_at).max()
}

/// Whether a later consent has ended what waits to be confirmed. It is dropped without a word to the provider, which might
/// take that for the end of the grant that counts.
fn is_superseded(provider: &Provider, known: &Connection, pending: &Pending) -> bool {
    provider.consent.replaces_earlier && given_at(pending).is_some_and(|given_at| given_at < known.given_at)
}
