//! A connect session: one pending authorization, from the link to the stored grant.

use std::time::Duration;

use crate::model::connection::Account;
use crate::model::grant_type::GrantType;
use crate::model::id::{CallerName, ConnectId, ConnectionId, ProviderId};
use crate::model::scope::ScopeSet;
use crate::model::subject::Subject;
use crate::model::time::Timestamp;

/// How long a person has from the link to the confirmation. Twice as long as a provider's own code lives.
pub const CONNECT_TTL: Duration = Duration::from_secs(600);

/// One pending authorization (RFC 6749 section 4.1). Its secrets are kept apart, sealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectSession {
    /// Its name; a handle, never a proof.
    pub id: ConnectId,
    /// Who asked, and therefore who must be in the browser.
    pub subject: Subject,
    /// Which caller asked, for the page.
    pub caller: CallerName,
    /// What the caller said it is for, for the page; the caller's words.
    pub purpose: Option<String>,
    /// At which provider.
    pub provider: ProviderId,
    /// Which scopes will be asked for.
    pub scopes: ScopeSet,
    /// The connection that is to be connected again, if this is a reconnect.
    pub reconnect: Option<ConnectionId>,
    /// How the consent comes: in a browser, or by a code that is entered elsewhere. It never changes.
    pub grant_type: GrantType,
    /// The short code shown in the message and on the page, so that a person can compare.
    pub user_code: String,
    /// How far it has come.
    pub progress: Progress,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// How far a connect session has come. It only ever moves down this list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Nobody has pressed the button yet.
    Pending,
    /// The person was sent to the provider.
    Opened,
    /// The account came back and waits for the person's word; nothing is served yet.
    AwaitingConfirmation {
        /// The account that came back.
        account: Account,
        /// What the provider gave, which may be less than was asked for.
        granted: ScopeSet,
    },
    /// The connection serves.
    Completed {
        /// The connection that came of it.
        connection: ConnectionId,
        /// Its account.
        account: Account,
    },
    /// It ended without a connection.
    Failed(ConnectFailure),
}

impl Progress {
    /// The stable word, in the API and in the store.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Opened => "opened",
            Self::AwaitingConfirmation { .. } => "awaiting_confirmation",
            Self::Completed { .. } => "completed",
            Self::Failed(failure) => failure.as_str(),
        }
    }

    /// Whether nothing can happen any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Completed { .. } | Self::Failed(_))
    }
}

/// Why a connect session ended without a connection. Each has a page of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectFailure {
    /// The caller or the person gave up.
    Cancelled,
    /// The person said no at the provider or on the confirmation page.
    Denied,
    /// Ten minutes passed.
    Expired,
    /// The provider's answer cannot be trusted: wrong issuer, bad ID token, no account.
    Identity,
    /// The provider refused our registration: an operator has to act.
    Misconfigured,
    /// The provider could not be reached, or its answer made no sense.
    Provider,
    /// The code was refused: too old, or already used.
    Restart,
}

impl ConnectFailure {
    /// Every failure, for the store and the documents.
    pub const ALL: [Self; 7] = [
        Self::Cancelled,
        Self::Denied,
        Self::Expired,
        Self::Identity,
        Self::Misconfigured,
        Self::Provider,
        Self::Restart,
    ];

    /// The stable word, in the API and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Identity => "identity_failed",
            Self::Misconfigured => "misconfigured",
            Self::Provider => "provider_failed",
            Self::Restart => "code_refused",
        }
    }
}
