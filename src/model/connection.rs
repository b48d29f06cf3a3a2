//! A connection: one subject's account at one provider, and the grants it holds.

use serde::{Deserialize, Serialize};

use crate::model::grant_type::GrantType;
use crate::model::id::{ConnectionId, Epoch, ProviderId};
use crate::model::label::Label;
use crate::model::scope::ScopeSet;
use crate::model::subject::Subject;
use crate::model::time::Timestamp;

/// The account at the provider, as the provider told it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Account {
    /// The provider's own id, which never changes and is never given to somebody else.
    pub id: String,
    /// What a person calls it: a login, an address, a workspace. It may change.
    pub name: String,
}

impl Account {
    /// Whether this is the account's id or name.
    #[must_use]
    pub fn answers_to(&self, selector: &str) -> bool {
        self.id == selector || self.name == selector
    }
}

impl Connection {
    /// Whether a caller who says `selector` means this connection: by the account's id or name, or by the label.
    #[must_use]
    pub fn answers_to(&self, selector: &str) -> bool {
        self.account.answers_to(selector) || self.label.as_ref().is_some_and(|label| label.as_str() == selector)
    }
}

/// What callers name: one subject's account at one provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// Whose it is.
    pub subject: Subject,
    /// At which configured provider.
    pub provider: ProviderId,
    /// Which account there.
    pub account: Account,
    /// What its subject calls it; no other of the subject's connections at the provider is called so.
    pub label: Option<Label>,
    /// Whether it is meant when a caller names no account; at most one of the subject's at the provider.
    pub is_default: bool,
    /// How it stands.
    pub state: State,
    /// Which consent the grants come from.
    pub epoch: Epoch,
    /// How that consent came, and so how the client proves itself when it renews them.
    pub grant_type: GrantType,
    /// What was asked for when a person last consented; what was given is with each grant.
    pub scopes: ScopeSet,
    /// When it was first confirmed.
    pub created_at: Timestamp,
    /// When a person last consented: what a provider limits from the consent on counts from here.
    pub confirmed_at: Timestamp,
    /// When the provider gave what that consent brought: the request for it was sent.
    pub given_at: Timestamp,
    /// When a token of it was last handed out, to the hour; `None` if none ever was.
    pub used_at: Option<Timestamp>,
}

/// How a connection stands. The transitions are in `docs/REFRESH.md`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// Serving.
    Active,
    /// The provider refused for good: a person has to connect again.
    NeedsReconnect(ReconnectReason),
    /// The last refresh failed for a reason that may pass; the access token still serves while it lives.
    RefreshFailed,
    /// Ended by its subject or an administrator.
    Revoked,
}

impl State {
    /// The stable word for the state, in the API and in the store.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NeedsReconnect(_) => "needs_reconnect",
            Self::RefreshFailed => "refresh_failed",
            Self::Revoked => "revoked",
        }
    }
}

/// Why a person has to connect again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconnectReason {
    /// The account that came back with a refreshed token is another one.
    IdentityChanged,
    /// An answer of the provider was lost, and with it a refresh token that can be had only once.
    LostResponse,
    /// The token died, and the provider never gave a refresh token.
    NoRefreshToken,
    /// The provider no longer accepts the refresh token.
    RefreshTokenInvalid,
    /// An old copy of the store was brought back, and the refresh token in it may have been spent since.
    Restored,
    /// The provider wants the person to sign in or consent again.
    UserAction,
}

impl ReconnectReason {
    /// Every reason, for the store and the documents.
    pub const ALL: [Self; 6] = [
        Self::IdentityChanged,
        Self::LostResponse,
        Self::NoRefreshToken,
        Self::RefreshTokenInvalid,
        Self::Restored,
        Self::UserAction,
    ];

    /// The stable word, in the API and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IdentityChanged => "identity_changed",
            Self::LostResponse => "lost_response",
            Self::NoRefreshToken => "no_refresh_token",
            Self::RefreshTokenInvalid => "refresh_token_invalid",
            Self::Restored => "restored",
            Self::UserAction => "user_action",
        }
    }

    /// One sentence for the person who has to act.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::IdentityChanged => "The provider answered for a different account.",
            Self::LostResponse => "An answer from the provider was lost on the way, and it cannot be asked for twice.",
            Self::NoRefreshToken => "The access has expired, and the provider gave no way to renew it.",
            Self::RefreshTokenInvalid => {
                "The provider no longer accepts this connection: it was revoked or has expired."
            }
            Self::Restored => "grantd works with an older copy of its data, and this access was renewed since.",
            Self::UserAction => "The provider wants you to sign in or agree again.",
        }
    }
}
