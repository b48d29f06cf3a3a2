//! Begins an authorization: the connect session, its page, and the way to the provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::broker::Broker;
use crate::broker::error::{BrokerError, PageError};
use crate::broker::permit;
use crate::broker::registry::Configured;
use crate::broker::vault::Owner;
use crate::model::caller::Caller;
use crate::model::connection::Account;
use crate::model::grant_type::GrantType;
use crate::model::id::{ConnectId, ConnectionId, ProviderId, SlotName, random_bytes, random_text};
use crate::model::provider::redirect;
use crate::model::scope::ScopeSet;
use crate::model::secret::Proof;
use crate::model::session::{CONNECT_TTL, ConnectFailure, ConnectSession, Progress};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::oauth::authorize::{self, Authorization};
use crate::store::records::Opening;

/// What a caller wants to be connected.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// At which provider.
    pub provider: ProviderId,
    /// What is needed besides what the operator configured.
    pub scopes: ScopeSet,
    /// The connection that is to be connected again.
    pub reconnect: Option<ConnectionId>,
    /// What it is for, in the caller's words; for the page.
    pub purpose: Option<String>,
}

/// A connect session and the link to its page.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The session.
    pub session: ConnectSession,
    /// The page; never the provider's own address.
    pub connect_url: Url,
}

/// Who is in the browser, as far as it can be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Visitor {
    /// This person: by the uid of the loopback socket, or by a ticket.
    Person(Subject),
    /// It cannot be told.
    Unknown,
}

/// What a page shows.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The session.
    pub session: ConnectSession,
    /// The provider; `None` if it has been taken out of the configuration meanwhile.
    pub configured: Option<Arc<Configured>>,
    /// The exact redirect URI that has to be registered.
    pub redirect_uri: Url,
    /// Whether this browser is the one that pressed the button.
    pub same_browser: bool,
    /// On a reconnect: the account that was connected before.
    pub previous_account: Option<Account>,
    /// Whether it goes on by a device flow, in a terminal.
    pub by_device: bool,
    /// The accounts that are connected already, where agreeing again may end the access that one of them has.
    pub replaces: Vec<Account>,
}

/// Where the browser goes, and what it must bring back.
#[derive(Debug)]
pub struct Begun {
    /// The authorization request.
    pub authorize_url: Url,
    /// What the callback and the confirmation have to come with: a browser keeps it as a cookie.
    pub proof: Proof,
}

impl Broker {
    /// Makes a connect session, or returns the one that asks for the same: one tab, not five.
    ///
    /// # Errors
    /// If the provider is not configured or would send nobody back here, the connection is not the caller's, or too many
    /// sessions are open.
    pub async fn connect(self: &Arc<Self>, caller: &Caller, request: ConnectRequest) -> Result<Prompt, BrokerError> {
        let (_, session) = self.planned(caller, request).await?;
        let registry = self.registry();
        let _alone = self.connecting.lock().await;
        if let Some(same) = self.store.same_session(&session, session.created_at).await? {
            return Ok(Prompt { connect_url: registry.connect_url(&same.id), session: same });
        }
        self.may_open(&session).await?;
        self.store.put_session(&session).await?;
        tell(&session);
        self.connect_noted(caller, &session);
        Ok(Prompt { connect_url: registry.connect_url(&session.id), session })
    }

    /// The session that a request asks for, not kept yet, if the caller may have it.
    pub(super) async fn planned(
        &self,
        caller: &Caller,
        request: ConnectRequest,
    ) -> Result<(Arc<Configured>, ConnectSession), BrokerError> {
        let registry = self.registry();
        let configured = registry.providers.get(&request.provider).ok_or(BrokerError::UnknownProvider)?;
        permit::pass_connecting(caller, configured, &request.scopes)?;
        // With a device endpoint there is a way without a redirect; the page says what stands against the other.
        let unusable = redirect::check(&configured.provider, &registry.redirect_uri(&request.provider));
        if let (Some(unusable), None) = (unusable, &configured.provider.endpoints.device) {
            return Err(BrokerError::NoWayBack(Box::new(unusable)));
        }
        let before = self.granted_before(caller, &request).await?;
        let now = self.clock.now();
        let session = ConnectSession {
            id: ConnectId::random(),
            subject: caller.subject.clone(),
            caller: caller.name.clone(),
            purpose: request.purpose,
            provider: request.provider,
            scopes: permit::within(caller, configured, configured.all_scopes())
                .union(&configured.provider.scopes.expand(&request.scopes))
                .union(&before),
            reconnect: request.reconnect,
            grant_type: GrantType::AuthorizationCode,
            user_code: user_code(),
            progress: Progress::Pending,
            created_at: now,
            expires_at: now.after(CONNECT_TTL),
        };
        Ok((Arc::clone(configured), session))
    }

    /// Whether the subject may have one more session.
    pub(super) async fn may_open(&self, session: &ConnectSession) -> Result<(), BrokerError> {
        if self.store.open_sessions(&session.subject, session.created_at).await? < self.open_sessions {
            return Ok(());
        }
        Err(BrokerError::Limited { retry_after: Duration::from_secs(60) })
    }

    /// What the connection that is to be connected again may do already: a new consent must not take it away.
    async fn granted_before(&self, caller: &Caller, request: &ConnectRequest) -> Result<ScopeSet, BrokerError> {
        let Some(id) = &request.reconnect else {
            return Ok(ScopeSet::default());
        };
        let stored = self.connection(caller, id).await?.stored;
        if stored.connection.subject != caller.subject || stored.connection.provider != request.provider {
            return Err(BrokerError::NotFound);
        }
        Ok(stored.grants.iter().fold(stored.connection.scopes, |all, grant| all.union(&grant.content.scopes)))
    }

    /// A session of the caller's own: at once, or as soon as it moves on, or after `wait`.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] also if it is somebody else's.
    pub async fn session(&self, caller: &Caller, id: &ConnectId, wait: Duration) -> Result<Prompt, BrokerError> {
        let first = self.own_session(caller, id).await?;
        let session = if wait.is_zero() || first.progress.is_final() {
            first
        } else {
            self.wait_for_change(id, &first.progress, wait).await;
            self.own_session(caller, id).await?
        };
        Ok(Prompt { connect_url: self.registry().connect_url(&session.id), session })
    }

    pub(super) async fn own_session(&self, caller: &Caller, id: &ConnectId) -> Result<ConnectSession, BrokerError> {
        let session = self.store.session(id).await?.ok_or(BrokerError::NotFound)?;
        // A person sees whatever asks in their name; a configured caller what it asked for itself.
        let asked_itself = caller.rules.is_none() || session.caller == caller.name;
        if session.subject != caller.subject || !asked_itself {
            return Err(BrokerError::NotFound);
        }
        Ok(settled(session, self.clock.now()))
    }

    /// Ends a session of the caller's own.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] also if it is somebody else's.
    pub async fn cancel(&self, caller: &Caller, id: &ConnectId) -> Result<(), BrokerError> {
        let session = self.own_session(caller, id).await?;
        self.end_session(&session, ConnectFailure::Cancelled).await?;
        Ok(())
    }

    /// A one-time ticket which tells the page that the browser that brings it belongs to the session's subject. Only the
    /// subject gets one, and it goes into a browser and nowhere else.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] also if it is somebody else's; [`BrokerError::Denied`] for a configured caller.
    pub async fn ticket(&self, caller: &Caller, id: &ConnectId) -> Result<String, BrokerError> {
        self.may_attend(caller)?;
        let session = self.own_session(caller, id).await?;
        Ok(self.tickets.issue(&session, self.clock.now()))
    }

    /// Redeems a ticket: the secret of the cookie that remembers it. `None` if it is used, too old or another session's.
    #[must_use]
    pub fn redeem_ticket(&self, id: &ConnectId, ticket: &str) -> Option<String> {
        self.tickets.redeem(id, ticket, self.clock.now())
    }

    /// Whose browser carries this cookie.
    #[must_use]
    pub fn ticketed(&self, cookie: &str) -> Visitor {
        self.tickets.holder(cookie, self.clock.now()).map_or(Visitor::Unknown, Visitor::Person)
    }

    /// The session as its person may see it.
    ///
    /// # Errors
    /// If none of `visitors` is the session's subject, or there is no such session.
    pub async fn visit(&self, id: &ConnectId, visitors: &[Visitor], browser: Option<&str>) -> Result<Visit, PageError> {
        let session = settled(self.page_session(id).await?, self.clock.now());
        let same_browser = self.is_same_browser(&session, browser).await?;
        if !same_browser && !is_among(&session.subject, visitors) {
            return Err(PageError::OtherPerson);
        }
        let registry = self.registry();
        let previous_account = match &session.reconnect {
            Some(connection) => self.store.connection(connection).await?.map(|stored| stored.connection.account),
            None => None,
        };
        Ok(Visit {
            replaces: self.replaced_by_consent(&session.subject, &session.provider).await?,
            configured: registry.providers.get(&session.provider).cloned(),
            redirect_uri: registry.redirect_uri(&session.provider),
            same_browser,
            previous_account,
            by_device: self.store.device_opening(id).await?.is_some(),
            session,
        })
    }

    /// The person pressed the button.
    ///
    /// # Errors
    /// If none of `visitors` is the session's subject, the session has ended, or the provider would send nobody back here.
    pub async fn begin(&self, id: &ConnectId, visitors: &[Visitor]) -> Result<Begun, PageError> {
        let now = self.clock.now();
        let session = settled(self.page_session(id).await?, now);
        if !is_among(&session.subject, visitors) {
            return Err(PageError::OtherPerson);
        }
        let registry = self.registry();
        let configured = registry.providers.get(&session.provider).ok_or(PageError::NotFound)?;
        let redirect_uri = registry.redirect_uri(&session.provider);
        if redirect::check(&configured.provider, &redirect_uri).is_some() {
            return Err(PageError::NoWayBack);
        }
        let claims = match &session.reconnect {
            Some(connection) => self.store.claims(connection).await?,
            None => None,
        };
        let asked = authorize::request(&Authorization {
            provider: &configured.provider,
            client_id: &configured.client.id,
            redirect_uri: redirect_uri.as_str(),
            scopes: &by_slot(configured, &session.scopes),
            reconsent: session.reconnect.is_some(),
            claims: claims.as_ref(),
        });
        let proof = new_proof();
        let owner = Owner::session(&session);
        let opening = Opening {
            state: self.keyring.digest("state", asked.state.as_bytes()),
            browser: self.keyring.digest("browser", proof.expose().as_bytes()),
            verifier: asked.verifier.map(|verifier| owner.seal_verifier(&self.keyring, &verifier)),
            nonce: asked.nonce,
            redirect_uri: redirect_uri.into(),
            token_endpoint: configured.provider.endpoints.token.to_string(),
        };
        if !self.store.open_session(id, &opening, now).await? {
            return Err(PageError::Used);
        }
        self.sessions_changed();
        Ok(Begun { authorize_url: asked.url, proof })
    }

    pub(super) async fn page_session(&self, id: &ConnectId) -> Result<ConnectSession, PageError> {
        self.store.session(id).await?.ok_or(PageError::NotFound)
    }
}

/// Writes down that a session was made.
pub(super) fn tell(session: &ConnectSession) {
    tracing::info!(connect.id = %session.id, provider.id = %session.provider, caller = %session.caller, subject = %session.subject,
        "`{}` asks to connect {}", session.caller, session.provider);
}

/// 256 bits that nobody else has.
pub(super) fn new_proof() -> Proof {
    Proof::new(random_text::<32>()).expect("base64url is visible ASCII")
}

/// The session as it stands now: one whose time is over has expired, whether or not anybody has noted it.
pub(super) fn settled(mut session: ConnectSession, now: Timestamp) -> ConnectSession {
    if !session.progress.is_final() && now >= session.expires_at {
        session.progress = Progress::Failed(ConnectFailure::Expired);
    }
    session
}

/// Whether the session's subject is in the browser.
pub(super) fn is_among(subject: &Subject, visitors: &[Visitor]) -> bool {
    visitors.iter().any(|visitor| matches!(visitor, Visitor::Person(person) if person == subject))
}

/// Which slot asks for which scopes: of what the operator configured for it, what is wanted, and whatever else is wanted in the
/// first slot that is asked for at all.
pub(super) fn by_slot(configured: &Configured, wanted: &ScopeSet) -> BTreeMap<SlotName, ScopeSet> {
    let wanted_of = |scopes: &ScopeSet| scopes.iter().filter(|scope| wanted.contains(scope)).cloned().collect();
    let mut slots: BTreeMap<SlotName, ScopeSet> =
        configured.scopes.iter().map(|(slot, scopes)| (slot.clone(), wanted_of(scopes))).collect();
    slots.retain(|_, scopes| !scopes.is_empty());
    let more = configured.all_scopes().missing(wanted);
    let params = &configured.provider.authorize.scope_params;
    let first = params.iter().find(|param| slots.contains_key(&param.slot)).or_else(|| params.first());
    if let Some(param) = first.filter(|_| !more.is_empty()) {
        let asked = slots.entry(param.slot.clone()).or_default();
        *asked = asked.union(&more);
    }
    slots
}

/// Eight letters that cannot be confused with each other and make no words, in the form `WDJB-MJHT` (RFC 8628 section 6.1).
fn user_code() -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let mut code = String::with_capacity(9);
    for (index, byte) in random_bytes::<8>().into_iter().enumerate() {
        if index == 4 {
            code.push('-');
        }
        code.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_two_groups_of_four_letters() {
        for _ in 0..100 {
            let code = user_code();
            assert_eq!((code.len(), code.as_bytes()[4]), (9, b'-'), "{code}");
            assert!(code.bytes().all(|b| b == b'-' || b"BCDFGHJKLMNPQRSTVWXZ".contains(&b)), "{code}");
        }
    }

    #[test]
    fn an_unknown_visitor_is_nobody() {
        let subject = Subject::from_uid(1000);
        assert!(is_among(&subject, &[Visitor::Unknown, Visitor::Person(subject.clone())]));
        for visitors in [vec![], vec![Visitor::Unknown], vec![Visitor::Person(Subject::from_uid(0))]] {
            assert!(!is_among(&subject, &visitors), "{visitors:?}");
        }
    }
}
