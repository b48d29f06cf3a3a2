//! Every way a use case can fail, named for what happens next and free of HTTP.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::account::Choice;
use crate::broker::connect::Prompt;
use crate::model::connection::{Account, ReconnectReason};
use crate::model::id::ProviderId;
use crate::model::provider::redirect::Unusable;
use crate::model::provider::resources::Resource;
use crate::model::scope::ScopeSet;
use crate::store::StoreError;

/// Why a caller did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The provider gave no device code, for a reason that may pass.
    #[error("the provider gave no device code")]
    NoDeviceCode {
        /// When to try again.
        retry_after: Duration,
    },
    /// The provider has no device flow, or this client of it has none.
    #[error("no device flow")]
    NoDeviceFlow,
    /// Several accounts are meant: the request names none and none is the default, or several answer to the name.
    #[error("several accounts are connected")]
    AccountAmbiguous {
        /// Those that are.
        accounts: Vec<Choice>,
    },
    /// Nothing is connected: a person has to. `prompt` is absent if the caller asked for no connect session.
    #[error("not connected")]
    ConnectionRequired {
        /// At which provider.
        provider: ProviderId,
        /// Where the person goes.
        prompt: Option<Box<Prompt>>,
    },
    /// The policy says no; the rule is for the operator.
    #[error("refused by {rule}")]
    Denied {
        /// The rule that decided.
        rule: &'static str,
    },
    /// The grant does not cover what was asked for: a person has to agree to more.
    #[error("scopes are missing")]
    InsufficientScope {
        /// At which provider.
        provider: ProviderId,
        /// What is missing.
        missing: ScopeSet,
        /// Where the person goes.
        prompt: Option<Box<Prompt>>,
    },
    /// The connected account has agreed to more than the caller may have, and the provider gives no token for less.
    #[error("the grant is broader than the rule")]
    GrantBroader {
        /// The rule, for the operator.
        rule: String,
    },
    /// Something is broken here. The cause has been logged.
    #[error("internal error")]
    Internal,
    /// Another account of the same subject answers to the label.
    #[error("the label is taken")]
    LabelTaken,
    /// Too many connect sessions are open.
    #[error("too many requests")]
    Limited {
        /// When to try again.
        retry_after: Duration,
    },
    /// The provider has no way to take back more than one connection.
    #[error("no wider revocation")]
    NoWiderRevocation,
    /// There is no such connection or session, or it is somebody else's.
    #[error("not found")]
    NotFound,
    /// The provider would not send the person back to us: an operator has to act.
    #[error("{0}")]
    NoWayBack(Box<Unusable>),
    /// The provider refused our registration: an operator has to act. The code is one we know.
    #[error("the provider refused our registration")]
    ProviderError {
        /// What the provider said, in a word of ours.
        code: &'static str,
    },
    /// The provider did not answer in time.
    #[error("the provider did not answer in time")]
    ProviderTimeout,
    /// The provider cannot be used now, and the last token has died.
    #[error("the provider cannot be used now")]
    ProviderUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// The connection is dead: a person has to connect it again.
    #[error("has to be connected again")]
    ReconnectRequired {
        /// At which provider.
        provider: ProviderId,
        /// Which account.
        account: Account,
        /// Why.
        reason: ReconnectReason,
        /// Where the person goes.
        prompt: Option<Box<Prompt>>,
    },
    /// The caller may not have these scopes, whatever the account has agreed to.
    #[error("scopes above the ceiling")]
    ScopeDenied {
        /// Those of the required ones that it may not have.
        denied: ScopeSet,
        /// The rule, for the operator.
        rule: String,
    },
    /// The scopes are for several resources, and a token is for one.
    #[error("scopes of several resources")]
    SeveralResources {
        /// Those that they are for.
        resources: BTreeSet<Resource>,
    },
    /// The daemon is going down.
    #[error("shutting down")]
    ShuttingDown,
    /// The store cannot be used now.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No connected account answers to that name.
    #[error("no such account")]
    UnknownAccount,
    /// No such caller is configured.
    #[error("no such caller")]
    UnknownCaller,
    /// No such provider is configured, or it is not the caller's.
    #[error("no such provider")]
    UnknownProvider,
    /// The provider has no such slot.
    #[error("no such slot")]
    UnknownSlot,
}

impl BrokerError {
    /// The stable code, as callers and the audit log have it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AccountAmbiguous { .. } => "account_ambiguous",
            Self::ConnectionRequired { .. } => "connection_required",
            Self::Denied { .. } => "access_denied",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::Internal | Self::Store(StoreError::Damaged(_)) => "internal_error",
            Self::LabelTaken
            | Self::NoDeviceFlow
            | Self::NoWiderRevocation
            | Self::SeveralResources { .. }
            | Self::UnknownSlot => "invalid_request",
            Self::Limited { .. } => "rate_limited",
            Self::NoDeviceCode { .. } | Self::ProviderUnavailable { .. } => "provider_unavailable",
            Self::NotFound => "not_found",
            Self::NoWayBack(_) | Self::ProviderError { .. } => "provider_error",
            Self::ProviderTimeout => "provider_timeout",
            Self::ReconnectRequired { .. } => "reconnect_required",
            Self::ShuttingDown => "shutting_down",
            Self::Store(StoreError::Busy(_)) => "store_unavailable",
            Self::UnknownAccount => "unknown_account",
            Self::UnknownProvider => "unknown_provider",
            Self::GrantBroader { .. } | Self::ScopeDenied { .. } => "scope_denied",
            Self::UnknownCaller => "unknown_caller",
        }
    }

    /// The connect session that would help, if one was made.
    #[must_use]
    pub fn prompt(&self) -> Option<&Prompt> {
        match self {
            Self::ConnectionRequired { prompt, .. }
            | Self::InsufficientScope { prompt, .. }
            | Self::ReconnectRequired { prompt, .. } => prompt.as_deref(),
            _ => None,
        }
    }
}

/// Why a page cannot be shown or an action on it not be done. Each has a page of its own.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// There is no such session, or no longer.
    #[error("no such session")]
    NotFound,
    /// The provider would not send the browser back here; the page of the session says why.
    #[error("no way back")]
    NoWayBack,
    /// This browser did not press the button (or its cookie is gone).
    #[error("another browser")]
    OtherBrowser,
    /// The person in the browser is not the one who asked, or it cannot be told.
    #[error("another person")]
    OtherPerson,
    /// The link or the answer has been used before, or the session has ended.
    #[error("already used")]
    Used,
    /// Something is broken here. The cause has been logged.
    #[error("internal error")]
    Internal,
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "A page needs the store, which cannot be used");
        Self::Internal
    }
}
