//! Connecting by a device flow (RFC 8628): the person enters a code on any device, and grantd asks until it is decided.
//!
//! The asking is a task of its own. Whoever wanted the code may go away, and a daemon that starts again goes on with what the
//! store holds. What comes waits, like any other account, until whoever began it confirms.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};
use url::Url;

use crate::broker::Broker;
use crate::broker::callback::failure_of;
use crate::broker::connect::{ConnectRequest, Prompt, by_slot, new_proof, tell};
use crate::broker::error::BrokerError;
use crate::broker::registry::Configured;
use crate::broker::vault::Owner;
use crate::model::caller::Caller;
use crate::model::grant_type::GrantType;
use crate::model::id::ConnectId;
use crate::model::scope::ScopeSet;
use crate::model::secret::{DeviceCode, Proof};
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::model::time::Timestamp;
use crate::oauth::answer::{self, TokenAnswer};
use crate::oauth::device::follow::{Followed, Pace, follow};
use crate::oauth::device::{self, Polled};
use crate::oauth::exchange::As;
use crate::oauth::rejection::{Code, Rejection};
use crate::store::records::{DeviceAnswer, DeviceOpening, Pending};

/// How long after the code has died the person may still say yes to the account that came with it.
const TO_CONFIRM: Duration = Duration::from_secs(300);

/// A session that goes on by a device flow, and what the person has to do. Its `user_code` is the one to enter.
#[derive(Debug)]
pub struct DevicePrompt {
    /// The session.
    pub prompt: Prompt,
    /// Where the person enters the code.
    pub verification_uri: Url,
    /// The same with the code in it.
    pub verification_uri_complete: Option<Url>,
    /// How long the pauses are between two polls.
    pub interval: Duration,
    /// When the code dies.
    pub expires_at: Timestamp,
    /// What the confirmation has to come with.
    pub proof: Proof,
}

impl Broker {
    /// Makes a connect session that goes on by a device flow.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); if the provider has no device flow, or gives no code; and for a configured caller.
    pub async fn connect_device(
        self: &Arc<Self>,
        caller: &Caller,
        request: ConnectRequest,
    ) -> Result<DevicePrompt, BrokerError> {
        self.may_attend(caller)?;
        let (configured, session) = self.planned(caller, request).await?;
        if configured.provider.endpoints.device.is_none() {
            return Err(BrokerError::NoDeviceFlow);
        }
        // Before the provider is asked for something that could not be kept.
        self.may_open(&session).await?;
        let (broker, caller) = (Arc::clone(self), caller.clone());
        let task = self.tasks.spawn(async move { broker.begin_device(&caller, &configured, session).await });
        task.await.map_err(|_| BrokerError::Internal)?
    }

    async fn begin_device(
        self: Arc<Self>,
        caller: &Caller,
        configured: &Configured,
        mut session: ConnectSession,
    ) -> Result<DevicePrompt, BrokerError> {
        let provider = &configured.provider;
        let sent_at = self.clock.now();
        let http = self.egress.to(provider);
        let whom = As { provider, client: &configured.client, now: sent_at };
        // There is no step after the consent in which one resource could be named: only the one of the token is asked for.
        let main = provider.scopes.main_resource(&session.scopes);
        let here = |scopes: &ScopeSet| provider.scopes.at_resource(scopes, main.as_ref());
        session.scopes = here(&session.scopes);
        let asked =
            by_slot(configured, &session.scopes).into_iter().map(|(slot, scopes)| (slot, here(&scopes))).collect();
        let authorized = device::authorize(whom, &asked, &http).await;
        let authorized = authorized.map_err(|refused| {
            self.note_refused_connecting(&provider.id, &refused);
            warn!(provider.id = %provider.id, "{} gave no device code: {refused}", provider.id);
            not_given(&refused.rejection, self.clock.now())
        })?;
        failpoint_async!("device.given");
        let expires_at = sent_at.after(authorized.expires_in);
        session.user_code.clone_from(&authorized.user_code);
        (session.grant_type, session.progress) = (GrantType::DeviceCode, Progress::Opened);
        session.expires_at = expires_at.after(TO_CONFIRM);
        let proof = new_proof();
        let opening = DeviceOpening {
            code: Owner::session(&session).seal_device_code(&self.keyring, &authorized.device_code),
            browser: self.keyring.digest("browser", proof.expose().as_bytes()),
            token_endpoint: provider.endpoints.token.to_string(),
            interval: authorized.interval,
            expires_at,
            answer: None,
        };
        {
            let _alone = self.connecting.lock().await;
            self.may_open(&session).await?;
            self.store.put_device_session(&session, &opening).await?;
        }
        tell(&session);
        self.connect_noted(caller, &session);
        self.follow_device(session.clone(), opening, Pace::of(authorized.interval));
        Ok(DevicePrompt {
            prompt: Prompt { connect_url: self.registry().connect_url(&session.id), session },
            verification_uri: authorized.verification_uri,
            verification_uri_complete: authorized.verification_uri_complete,
            interval: authorized.interval,
            expires_at,
            proof,
        })
    }

    /// Goes on with the device flows that an earlier run of the daemon began.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn resume_devices(self: &Arc<Self>) -> Result<(), BrokerError> {
        for (session, opening) in self.store.device_sessions().await? {
            let pace = Pace::resumed(opening.interval);
            self.follow_device(session, opening, pace);
        }
        Ok(())
    }

    fn follow_device(self: &Arc<Self>, session: ConnectSession, opening: DeviceOpening, pace: Pace) {
        let broker = Arc::clone(self);
        self.tasks.spawn(async move {
            let Some(outcome) = broker.decided(&session, &opening, pace).await else {
                return;
            };
            if broker.conclude(&session, outcome).await.is_err() {
                warn!(connect.id = %session.id, provider.id = %session.provider, "What came of a device flow could not be kept");
            }
            failpoint_async!("device.waiting");
        });
    }

    /// What the person decided. `None` if the session has ended, or the daemon stops: then the next run goes on.
    async fn decided(
        &self,
        session: &ConnectSession,
        opening: &DeviceOpening,
        pace: Pace,
    ) -> Option<Result<Pending, ConnectFailure>> {
        if let Some(answer) = &opening.answer {
            return Some(self.taken_up(session, opening, answer).await);
        }
        let code = match Owner::session(session).open_device_code(&self.keyring, &opening.code) {
            Ok(code) => code,
            Err(error) => {
                error!(connect.id = %session.id, %error, "Cannot open the device code of a connect session");
                return Some(Err(ConnectFailure::Provider));
            }
        };
        let rest = |pause| self.rest_between_polls(&session.id, pause);
        let ask = || self.poll(session, opening, &code);
        Some(match follow(pace, opening.expires_at, || self.clock.now(), rest, ask).await {
            Followed::Stopped => return None,
            Followed::Denied => Err(ConnectFailure::Denied),
            Followed::Expired => Err(ConnectFailure::Expired),
            Followed::Gone => {
                warn!(connect.id = %session.id, provider.id = %session.provider,
                    "{} no longer knows a device code before its time: if the answer to it was lost, what that gave lives on there until it expires or somebody takes it back", session.provider);
                Err(ConnectFailure::Restart)
            }
            Followed::Refused(refused) => {
                self.note_refused_connecting(&session.provider, &refused);
                warn!(connect.id = %session.id, provider.id = %session.provider, "A device flow was refused: {refused}");
                Err(failure_of(&refused.rejection))
            }
            Followed::Tokens { answer, sent_at } => match self.registry().providers.get(&session.provider) {
                Some(configured) => {
                    self.refusals.answered(&session.provider);
                    failpoint_async!("device.polled");
                    self.keep_answer(session, &answer, sent_at).await;
                    failpoint_async!("device.kept");
                    self.identify(configured, session, (None, opening.browser), answer, sent_at).await
                }
                None => Err(ConnectFailure::Misconfigured),
            },
        })
    }

    /// Makes what came durable before the provider is asked whose it is: the code is spent for it.
    async fn keep_answer(&self, session: &ConnectSession, answer: &TokenAnswer, sent_at: Timestamp) {
        let body = Owner::session(session).seal_answer(&self.keyring, &answer.body);
        if let Err(error) = self.store.keep_device_answer(&session.id, &DeviceAnswer { body, sent_at }).await {
            warn!(connect.id = %session.id, %error, "What a device code brought is in memory only until its account is known");
        }
    }

    /// Goes on with what an earlier run of the daemon was given and could not finish.
    async fn taken_up(
        &self,
        session: &ConnectSession,
        opening: &DeviceOpening,
        kept: &DeviceAnswer,
    ) -> Result<Pending, ConnectFailure> {
        let registry = self.registry();
        let known = registry.providers.get(&session.provider);
        let known = known.filter(|it| it.provider.endpoints.token.as_str() == opening.token_endpoint);
        let configured = known.ok_or_else(|| {
            warn!(connect.id = %session.id, provider.id = %session.provider,
                "What a device code brought is shown to nobody: {} is another provider now, or none", session.provider);
            ConnectFailure::Misconfigured
        })?;
        let body = Owner::session(session).open_answer(&self.keyring, &kept.body).map_err(|error| {
            error!(connect.id = %session.id, %error, "Cannot open what a device code brought");
            ConnectFailure::Provider
        })?;
        let answer = answer::read(&configured.provider, body.0).ok_or(ConnectFailure::Provider)?;
        self.identify(configured, session, (None, opening.browser), answer, kept.sent_at).await
    }

    /// Asks once, if the provider is still the one that gave the code.
    async fn poll(&self, session: &ConnectSession, opening: &DeviceOpening, code: &DeviceCode) -> Polled {
        let registry = self.registry();
        let known = registry.providers.get(&session.provider);
        let Some(configured) = known.filter(|it| it.provider.endpoints.token.as_str() == opening.token_endpoint) else {
            info!(connect.id = %session.id, provider.id = %session.provider, "The provider was changed while a person was connecting");
            return Polled::Refused(Rejection::Registration { code: Code::read("changed") }.into());
        };
        let http = self.egress.to(&configured.provider);
        let whom = As { provider: &configured.provider, client: &configured.client, now: self.clock.now() };
        device::poll(whom, code, &http).await
    }

    /// Waits, unless the session ends or the daemon stops meanwhile. A store that does not answer is no reason to stop.
    async fn rest_between_polls(&self, id: &ConnectId, pause: Duration) -> ControlFlow<()> {
        let until = Instant::now() + pause;
        let mut changes = self.sessions.subscribe();
        loop {
            if self.leaving.is_cancelled() || matches!(self.store.device_opening(id).await, Ok(None)) {
                return ControlFlow::Break(());
            }
            tokio::select! {
                () = sleep_until(until) => return ControlFlow::Continue(()),
                () = self.leaving.cancelled() => return ControlFlow::Break(()),
                _ = changes.changed() => {}
            }
        }
    }
}

/// Why there is no device code, for whoever asked.
fn not_given(rejection: &Rejection, now: Timestamp) -> BrokerError {
    match rejection {
        _ if rejection.is_our_client() => BrokerError::ProviderError { code: "invalid_client" },
        Rejection::ClientOrGrant { .. } | Rejection::Registration { .. } => {
            BrokerError::ProviderError { code: "unauthorized_client" }
        }
        Rejection::Ambiguous("no answer in time") => BrokerError::ProviderTimeout,
        Rejection::Retry { after: Some(after) } => BrokerError::NoDeviceCode { retry_after: after.wait(now) },
        _ => BrokerError::NoDeviceCode { retry_after: Duration::from_secs(10) },
    }
}
