//! The shapes of connect sessions.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::api::wire::proof;
use crate::model::connection::Account;
use crate::model::id::{ConnectId, ConnectionId, ProviderId};
use crate::model::scope::ScopeSet;
use crate::model::secret::Proof;

/// The body of `POST /v1/connect`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConnectBody {
    /// Which provider.
    pub provider: ProviderId,
    /// Scopes besides the configured ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
    /// The connection to connect again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect: Option<ConnectionId>,
    /// What it is for, in the caller's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Whether the caller opens a browser itself and wants the link that proves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// Whether it goes on by a device flow, without a browser on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<bool>,
}

/// The body of `POST /v1/connect/{id}/confirm`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConfirmBody {
    /// What the session was begun with.
    #[serde(with = "proof")]
    pub proof: Proof,
}

/// The body of `POST /v1/connect/{id}/callback`.
#[derive(Clone, Deserialize, Serialize)]
pub struct CallbackBody {
    /// The address that the provider sent the browser to. It holds a code and is not printed.
    pub url: String,
    /// What the session was begun with.
    #[serde(with = "proof")]
    pub proof: Proof,
}

/// A connect session, in the same words as the 409 that may have brought it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SessionBody {
    /// Its name.
    pub connect_id: ConnectId,
    /// At which provider.
    pub provider: ProviderId,
    /// How far it has come; more words may follow.
    pub status: Cow<'static, str>,
    /// Whether nothing can happen any more.
    pub done: bool,
    /// The page for the person.
    pub connect_url: Url,
    /// The same page with a one-time proof of who opens it. Never show, log or send it: open it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser_url: Option<Url>,
    /// When the session ends by itself.
    pub connect_expires_at: i64,
    /// The code that the page shows too.
    pub user_code: String,
    /// What a person should know before they agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What will be asked for.
    pub scopes: ScopeSet,
    /// The account, once it has come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// What it was given, while that waits for the person's word; may be less than was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<ScopeSet>,
    /// What of `scopes` it was not given, as the provider means scopes; absent if that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_scopes: Option<ScopeSet>,
    /// The connection, once it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Whether this provider can be connected by a device flow.
    #[serde(default)]
    pub device_flow: bool,
    /// Why no browser would come back from this provider, where that is known: then only the device flow is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_way_back: Option<String>,
    /// What the person has to do, where it was asked for with `device`. The code to enter is `user_code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceBody>,
    /// Where the person goes, where the session was begun with `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorize: Option<AuthorizeBody>,
    /// Shows that whoever goes on is who began; given once, to whoever began over the socket. Never show, log or store it.
    #[serde(skip_serializing_if = "Option::is_none", with = "proof::optional", default)]
    pub proof: Option<Proof>,
}

/// What a person has to do in a device flow (RFC 8628 section 3.2).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeviceBody {
    /// What to enter.
    pub user_code: String,
    /// Where to enter it.
    pub verification_uri: Url,
    /// The same with the code in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_uri_complete: Option<Url>,
    /// How many seconds the daemon waits between two polls of the provider, to begin with.
    pub interval: u64,
    /// When the code dies.
    pub expires_at: i64,
}

/// Where the person goes, and where the provider will send the browser.
#[derive(Clone, Deserialize, Serialize)]
pub struct AuthorizeBody {
    /// The provider's page. It leads straight to the provider: show it only to the person who was told who asks and for what.
    pub url: Url,
    /// Where the address begins that has to be given back.
    pub redirect_uri: Url,
}

impl std::fmt::Debug for AuthorizeBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthorizeBody([redacted])")
    }
}
