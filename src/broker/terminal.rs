//! A connect session that its subject begins and finishes over the socket, without a page of ours: the person reads on the
//! terminal who asks for what, and gives back the address that the browser could not open.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use tracing::warn;
use url::Url;

use crate::broker::Broker;
use crate::broker::connect::{Begun, Prompt, Visitor};
use crate::broker::error::{BrokerError, PageError};
use crate::model::caller::Caller;
use crate::model::id::ConnectId;
use crate::model::secret::Proof;
use crate::oauth::callback::{self, Callback, NotACallback};
use crate::store::StoreError;

/// Why an address that was given back is not taken. Unless it is [`Session`](Self::Session), nothing has been used up, and the
/// right one can still be given.
#[derive(Debug, thiserror::Error)]
pub enum ReturnError {
    /// It leads somewhere else than this session's callback.
    #[error("it does not lead to {expected}")]
    Elsewhere {
        /// The address that it has to begin with.
        expected: String,
    },
    /// It leads there, and holds no answer of a provider.
    #[error("it holds no answer of the provider: {0}")]
    NoAnswer(#[from] NotACallback),
    /// It is the answer to another attempt.
    #[error("it is the answer to another attempt")]
    OtherAttempt,
    /// It is no address.
    #[error("it is no address")]
    Unreadable,
    /// It is not about the address.
    #[error(transparent)]
    Session(#[from] PageError),
}

impl From<StoreError> for ReturnError {
    fn from(error: StoreError) -> Self {
        Self::Session(error.into())
    }
}

impl Broker {
    /// Begins the authorization of a session of the caller's own. The provider's address may be shown to the person who has
    /// read who asks, and to nobody else.
    ///
    /// # Errors
    /// [`PageError::NotFound`] also if it is somebody else's; [`PageError::Used`] if the session has moved on.
    pub async fn begin_own(&self, caller: &Caller, id: &ConnectId) -> Result<Begun, PageError> {
        self.own_page(caller, id).await?;
        self.begin(id, &[Visitor::Person(caller.subject.clone())]).await
    }

    /// Takes the address that the provider sent the browser to. What the callback checks is checked here: the session's own
    /// redirect URI, the proof in the place of the cookie, and then the same code as there.
    ///
    /// # Errors
    /// See [`ReturnError`]. A session that the answer ends is no error: it tells itself.
    pub async fn return_own(
        self: &Arc<Self>,
        caller: &Caller,
        id: &ConnectId,
        address: &str,
        proof: &Proof,
    ) -> Result<Prompt, ReturnError> {
        let prompt = self.own_page(caller, id).await?;
        let opening = self.store.opening(id).await?.ok_or(PageError::Used)?;
        if prompt.session.progress.is_final() {
            return Err(PageError::Used.into());
        }
        if !self.matches_browser(&opening.browser, proof.expose()) {
            warn!(connect.id = %id, "An answer was given back without the proof of whoever began");
            return Err(PageError::OtherBrowser.into());
        }
        let callback = answer_at(address, &opening.redirect_uri)?;
        let state = self.keyring.digest("state", callback.state.as_bytes());
        if !bool::from(state.ct_eq(&opening.state)) {
            return Err(ReturnError::OtherAttempt);
        }
        let proven = |_: &ConnectId| Some(proof.expose().to_owned());
        self.callback(&prompt.session.provider, callback, &proven).await?;
        Ok(self.own_page(caller, id).await?)
    }

    /// The person says that this is the account, and holds the proof of whoever began.
    ///
    /// # Errors
    /// [`PageError::NotFound`] also if the session is somebody else's; else as [`confirm`](Self::confirm).
    pub async fn confirm_own(
        self: &Arc<Self>,
        caller: &Caller,
        id: &ConnectId,
        proof: &Proof,
    ) -> Result<Prompt, PageError> {
        self.own_page(caller, id).await?;
        self.confirm(id, proof.expose()).await?;
        self.own_page(caller, id).await
    }

    /// The person says that this is not the account.
    ///
    /// # Errors
    /// [`PageError::NotFound`] also if the session is somebody else's; [`PageError::Used`] if it has ended.
    pub async fn decline_own(&self, caller: &Caller, id: &ConnectId) -> Result<Prompt, PageError> {
        self.own_page(caller, id).await?;
        self.decline(id, &[Visitor::Person(caller.subject.clone())], None).await?;
        self.own_page(caller, id).await
    }

    /// A session of the caller's own as it stands, for the person that its subject is.
    ///
    /// # Errors
    /// [`PageError::NotFound`] also if it is somebody else's; [`PageError::OtherPerson`] for a configured caller.
    pub async fn own_page(&self, caller: &Caller, id: &ConnectId) -> Result<Prompt, PageError> {
        self.may_attend(caller).map_err(|_| PageError::OtherPerson)?;
        let session = self.own_session(caller, id).await.map_err(|error| match error {
            BrokerError::NotFound => PageError::NotFound,
            BrokerError::Store(error) => error.into(),
            _ => PageError::Internal,
        })?;
        Ok(Prompt { connect_url: self.registry().connect_url(id), session })
    }
}

/// The provider's answer in an address that leads to the redirect URI.
fn answer_at(address: &str, redirect_uri: &str) -> Result<Callback, ReturnError> {
    let given = Url::parse(address.trim()).map_err(|_| ReturnError::Unreadable)?;
    let expected = Url::parse(redirect_uri).map_err(|_| PageError::Internal)?;
    if (given.origin(), given.path()) != (expected.origin(), expected.path()) {
        return Err(ReturnError::Elsewhere { expected: redirect_uri.to_owned() });
    }
    Ok(callback::read(given.query().unwrap_or_default())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "http://localhost:8717/callback/notion";

    #[test]
    fn an_address_has_to_lead_to_the_sessions_own_callback() {
        for address in [
            "http://localhost:8717/callback/notion?code=c&state=s",
            "  http://localhost:8717/callback/notion?state=s&code=c&iss=x#_=_\n",
            "HTTP://LOCALHOST:8717/callback/notion?code=c&state=s",
        ] {
            assert_eq!(answer_at(address, HERE).unwrap().state, "s", "{address}");
        }
        for address in [
            "http://localhost:8717/callback/slack?code=c&state=s",
            "http://localhost:8717/callback/notion/?code=c&state=s",
            "http://localhost:8718/callback/notion?code=c&state=s",
            "http://127.0.0.1:8717/callback/notion?code=c&state=s",
            "https://localhost:8717/callback/notion?code=c&state=s",
            "https://evil.example/callback/notion?code=c&state=s",
            "https://api.notion.com/v1/oauth/authorize?client_id=x&state=s",
        ] {
            let refused = answer_at(address, HERE).err();
            assert!(matches!(refused, Some(ReturnError::Elsewhere { .. })), "{address}: {refused:?}");
        }
    }

    #[test]
    fn an_address_without_an_answer_is_told_from_no_address() {
        for (address, expected) in [
            ("", "it is no address"),
            ("code=c&state=s", "it is no address"),
            ("yes", "it is no address"),
            (HERE, "it holds no answer of the provider: it is incomplete, or says two things at once"),
            (
                "http://localhost:8717/callback/notion?code=c&code=d&state=s",
                "it holds no answer of the provider: it is incomplete, or says two things at once",
            ),
            (
                &format!("{HERE}?state=s&code={}", "c".repeat(17_000)),
                "it holds no answer of the provider: it is too long",
            ),
        ] {
            assert_eq!(answer_at(address, HERE).err().unwrap().to_string(), expected, "{address:.60}");
        }
    }
}
