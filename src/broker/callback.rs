//! The browser comes back: the callback is checked, the code redeemed, the account found, and nothing served yet.

use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::broker::connect::settled;
use crate::broker::error::PageError;
use crate::broker::registry::Configured;
use crate::broker::vault::Owner;
use crate::model::id::{ConnectId, ProviderId};
use crate::model::scope::ScopeSet;
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::model::time::Timestamp;
use crate::oauth::answer::TokenAnswer;
use crate::oauth::authorize;
pub use crate::oauth::callback::{Callback, CallbackAnswer};
use crate::oauth::exchange::{self, As, Redeem};
use crate::oauth::identity;
use crate::oauth::rejection::{Refusal, Rejection, classify};
use crate::store::records::{Opening, Pending, PendingGrant};

impl Broker {
    /// Takes a callback. The session it belongs to is returned whatever became of it; its page tells.
    ///
    /// # Errors
    /// If the callback belongs to no session, to another provider's, or to another browser's: then nothing is sent anywhere.
    pub async fn callback(
        self: &Arc<Self>,
        provider: &ProviderId,
        callback: Callback,
        browser: &(dyn Fn(&ConnectId) -> Option<String> + Send + Sync),
    ) -> Result<ConnectId, PageError> {
        let state = self.keyring.digest("state", callback.state.as_bytes());
        let (session, opening) = self.store.take_opening(&state).await?.ok_or(PageError::Used)?;
        let session = settled(session, self.clock.now());
        let cookie = browser(&session.id).ok_or(PageError::OtherBrowser)?;
        if !self.matches_browser(&opening.browser, &cookie) {
            warn!(connect.id = %session.id, "A callback came from another browser than the one that was sent out");
            return Err(PageError::OtherBrowser);
        }
        if session.provider != *provider {
            warn!(connect.id = %session.id, provider.id = %provider, "A callback came to another provider's address");
            return Err(PageError::Used);
        }
        if session.progress != Progress::Opened {
            return Ok(session.id);
        }
        // On a task of its own: a browser that hangs up must not lose what the provider is about to give.
        let (broker, id) = (Arc::clone(self), session.id.clone());
        let task = self.tasks.spawn(async move { broker.complete(session, opening, callback).await });
        task.await.map_err(|_| PageError::Internal)??;
        Ok(id)
    }

    async fn complete(
        self: Arc<Self>,
        session: ConnectSession,
        opening: Opening,
        callback: Callback,
    ) -> Result<(), PageError> {
        let outcome = match self.registry().providers.get(&session.provider) {
            Some(configured) => self.redeem(configured, &session, &opening, callback).await,
            None => Err(ConnectFailure::Misconfigured),
        };
        self.conclude(&session, outcome).await
    }

    /// Keeps what came for the person to confirm, or ends the session.
    pub(super) async fn conclude(
        &self,
        session: &ConnectSession,
        outcome: Result<Pending, ConnectFailure>,
    ) -> Result<(), PageError> {
        match outcome {
            Ok(pending) => self.hold(session, pending).await,
            Err(failure) => {
                info!(connect.id = %session.id, provider.id = %session.provider, failure = failure.as_str(),
                    "Connecting {} ended without a connection", session.provider);
                self.end_session(session, failure).await?;
                Ok(())
            }
        }
    }

    async fn redeem(
        &self,
        configured: &Configured,
        session: &ConnectSession,
        opening: &Opening,
        callback: Callback,
    ) -> Result<Pending, ConnectFailure> {
        let provider = &configured.provider;
        if authorize::check_issuer(&provider.issuer, callback.iss.as_deref()).is_err() {
            warn!(connect.id = %session.id, provider.id = %provider.id, "A callback names another issuer");
            return Err(ConnectFailure::Identity);
        }
        let code = match callback.answer {
            CallbackAnswer::Code(code) => code,
            CallbackAnswer::Error(error) => return Err(refused(configured, &error)),
        };
        if opening.token_endpoint != provider.endpoints.token.as_str() {
            error!(connect.id = %session.id, provider.id = %provider.id, "The token endpoint changed while a person was connecting");
            return Err(ConnectFailure::Misconfigured);
        }
        let owner = Owner::session(session);
        let verifier = match &opening.verifier {
            Some(sealed) => Some(owner.open_verifier(&self.keyring, sealed).map_err(|error| {
                error!(connect.id = %session.id, %error, "Cannot open the verifier of a connect session");
                ConnectFailure::Provider
            })?),
            None => None,
        };
        let sent_at = self.clock.now();
        let http = self.egress.to(provider);
        let whom = As { provider, client: &configured.client, now: sent_at };
        let redeem = Redeem { code, verifier, redirect_uri: &opening.redirect_uri, asked: &session.scopes };
        let answer = match exchange::redeem(whom, redeem, &http).await {
            Ok(answer) => answer,
            Err(refused) => {
                if refused.rejection.is_our_client() {
                    self.lane(configured).distrust(Instant::now());
                }
                self.note_refused_connecting(&provider.id, &refused);
                warn!(connect.id = %session.id, provider.id = %provider.id, "The code was not redeemed: {refused}");
                if let (Some(connection), Some(claims)) = (&session.reconnect, &refused.claims) {
                    self.keep_claims(connection, claims).await;
                }
                return Err(failure_of(&refused.rejection));
            }
        };
        self.refusals.answered(&provider.id);
        self.identify(configured, session, (opening.nonce.as_deref(), opening.browser), answer, sent_at).await
    }

    /// Finds out whose account came, by the `nonce` that was sent, for whoever has the proof of this digest.
    pub(super) async fn identify(
        &self,
        configured: &Configured,
        session: &ConnectSession,
        (nonce, browser): (Option<&str>, [u8; 32]),
        answer: TokenAnswer,
        sent_at: Timestamp,
    ) -> Result<Pending, ConnectFailure> {
        self.lane(configured).vouch(Instant::now());
        let provider = &configured.provider;
        let http = self.egress.to(provider);
        let asked = identity::Asked { provider, client_id: &configured.client.id, nonce, now: self.clock.now() };
        let account = identity::of(asked, &answer, &http).await;
        let owner = Owner::session(session);
        let grants: Vec<PendingGrant> = answer
            .slots
            .into_iter()
            .map(|slot| PendingGrant {
                access: owner.seal_access(&self.keyring, &slot.slot, &slot.access),
                refresh: slot.refresh.as_ref().map(|token| owner.seal_refresh(&self.keyring, &slot.slot, token)),
                scopes: provider.scopes.granted(slot.scopes, &session.scopes),
                issued_at: sent_at,
                expires_at: slot.expires_in.map(|lifetime| sent_at.after(lifetime)),
                refresh_expires_at: slot.refresh_expires_in.map(|lifetime| sent_at.after(lifetime)),
                slot: slot.slot,
            })
            .collect();
        match account {
            Ok(account) => Ok(Pending {
                account,
                granted: grants.iter().fold(ScopeSet::default(), |all, grant| all.union(&grant.scopes)),
                browser,
                grants,
            }),
            Err(error) => {
                warn!(connect.id = %session.id, provider.id = %provider.id, "Cannot tell whose account came back: {error}");
                self.return_unwanted(session, None, &grants).await;
                Err(ConnectFailure::Identity)
            }
        }
    }

    /// Keeps what came back until the person confirms; takes it back if the session has ended meanwhile.
    async fn hold(&self, session: &ConnectSession, pending: Pending) -> Result<(), PageError> {
        let held = self.store.await_confirmation(&session.id, &pending, self.clock.now()).await;
        self.sessions_changed();
        if matches!(held, Ok(true)) {
            info!(connect.id = %session.id, provider.id = %session.provider, "An account at {} waits to be confirmed", session.provider);
            return Ok(());
        }
        self.return_unwanted(session, Some(&pending.account), &pending.grants).await;
        held?;
        Err(PageError::Used)
    }
}

/// What an error in the callback means (RFC 6749 section 4.1.2.1).
fn refused(configured: &Configured, code: &str) -> ConnectFailure {
    let headers = http::HeaderMap::new();
    let refusal = Refusal { status: http::StatusCode::BAD_REQUEST, headers: &headers, code: Some(code), sub: None };
    failure_of(&classify(&configured.provider, &refusal))
}

pub(super) fn failure_of(rejection: &Rejection) -> ConnectFailure {
    match rejection {
        Rejection::Ambiguous(_) | Rejection::Retry { .. } | Rejection::Unsent(_) => ConnectFailure::Provider,
        Rejection::Consent { .. } | Rejection::Restart { .. } => ConnectFailure::Restart,
        Rejection::Denied | Rejection::UserAction { .. } => ConnectFailure::Denied,
        // There is no grant yet that could be meant.
        Rejection::ClientOrGrant { .. } | Rejection::Registration { .. } => ConnectFailure::Misconfigured,
    }
}
