//! The shapes that travel over the socket, for the daemon and for whoever speaks to it.
//!
//! The API only ever grows: unknown fields are ignored in both directions. Times are whole seconds since the Unix epoch.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use crate::model::connection::Account;
use crate::model::id::{CallerName, ConnectId, ConnectionId, ProviderId, SlotName, TokenId};
use crate::model::scope::ScopeSet;
use crate::model::secret::{AccessToken, Proof};
use crate::model::subject::Subject;

/// The body of `POST /v1/token`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TokenBody {
    /// Which provider.
    pub provider: ProviderId,
    /// Which account there, by id or name; may be left out while there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Which of the connection's grants, where it holds several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotName>,
    /// What the token must be good for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
    /// How many seconds of life it should have left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ttl: Option<u64>,
    /// The `token_id` that the provider's API answered 401 to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<TokenId>,
    /// How many seconds to wait for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
    /// What it is for, in the caller's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// `false`: only report, and make no connect session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<bool>,
}

/// The answer of `POST /v1/token`, as a client reads it.
#[derive(Debug, Deserialize)]
pub struct TokenReply {
    /// The token.
    #[serde(deserialize_with = "secret")]
    pub access_token: AccessToken,
    /// Its account.
    pub account: Account,
    /// How many seconds it lives; absent if it does not expire.
    pub expires_in: Option<u64>,
}

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
    /// What will be asked for.
    pub scopes: ScopeSet,
    /// The account, once it has come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// What it was given, while that waits for the person's word; may be less than was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<ScopeSet>,
    /// The connection, once it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Whether this provider can be connected by a device flow.
    #[serde(default)]
    pub device_flow: bool,
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

/// The answer of `GET /v1/connections`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConnectionsBody {
    /// By provider and age.
    pub connections: Vec<ConnectionBody>,
    /// Why old grants are not renewed now, if the store may be an old copy: see [`RestoreBody::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Cow<'static, str>>,
}

/// A connection and what its grants are good for. Never a token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConnectionBody {
    /// Its name.
    pub id: ConnectionId,
    /// At which provider.
    pub provider: ProviderId,
    /// Which account there.
    pub account: Account,
    /// How it stands; more words may follow.
    pub state: Cow<'static, str>,
    /// Why a person has to act, if one has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// What was granted, in all slots together.
    pub scopes: ScopeSet,
    /// Its grants.
    pub slots: Vec<SlotBody>,
    /// When it was first confirmed.
    pub created_at: i64,
    /// When a person last consented.
    pub confirmed_at: i64,
    /// When a token of it was last handed out, to the minute; absent if none ever was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_at: Option<i64>,
    /// When it will need a person if nothing changes; absent if nothing is known that ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_person_at: Option<i64>,
    /// Why it will, in a stable word; more words may follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_person_because: Option<Cow<'static, str>>,
    /// Whose it is; only for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

/// One grant of a connection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SlotBody {
    /// Its slot.
    pub slot: SlotName,
    /// What it is good for, separated by spaces.
    pub scope: String,
    /// When the access token dies; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// When the refresh token dies, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_expires_at: Option<i64>,
    /// When it will be renewed; absent if never by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<i64>,
}

/// The answer of `DELETE /v1/connections/{id}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DisconnectBody {
    /// The connection that is no more.
    pub connection: ConnectionId,
    /// `revoked`, `by_hand` or `pending`.
    pub upstream: Cow<'static, str>,
    /// Where a person takes the grant back by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual_url: Option<Url>,
}

/// The answer of `GET /v1/providers`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProvidersBody {
    /// By name.
    pub providers: Vec<ProviderBody>,
}

/// A provider that can be connected.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProviderBody {
    /// What callers name.
    pub id: ProviderId,
    /// What people call it.
    pub name: String,
    /// The grants a connection holds, and what is asked for when nobody says more.
    pub scopes: BTreeMap<SlotName, ScopeSet>,
    /// How it is doing: `ok`, `registration_refused`, `frozen`, `unreachable` or `throttled`; more words may follow.
    pub state: Cow<'static, str>,
    /// Since when, if something is wrong; only for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// When it is tried again, if that is known; only for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

/// The answer of `POST /v1/providers/{id}/release`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReleaseBody {
    /// Which provider.
    pub provider: ProviderId,
    /// How it was doing before.
    pub state: Cow<'static, str>,
    /// How many grants had waited and are tried now.
    pub grants: usize,
}

/// The answer of `GET /v1/whoami`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WhoamiBody {
    /// How the policy names the caller.
    pub caller: CallerName,
    /// For whom it acts.
    pub subject: Subject,
    /// Whether it administers.
    pub admin: bool,
    /// What the kernel says.
    pub peer: PeerBody,
}

/// The kernel's word for the other end of the socket.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerBody {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

/// The answer of `GET /v1/health`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HealthBody {
    /// `ok`; anything else is an error and has a problem's shape.
    pub status: Cow<'static, str>,
    /// The daemon's version.
    pub version: Cow<'static, str>,
}

/// The answer of `GET /v1/restore` and `POST /v1/restore/accept`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RestoreBody {
    /// How the store stands. The fields below are there unless it is `none`.
    pub state: RestoreState,
    /// What was found, in a stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Cow<'static, str>>,
    /// When it was found, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_at: Option<i64>,
    /// Grants that were issued before this are held, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_before: Option<i64>,
    /// How many connections that concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// Whether there are more, which were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<bool>,
}

/// Whether the store is held.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreState {
    /// Nothing is held.
    #[default]
    None,
    /// Old grants are not renewed, because the store may be an old copy.
    Held,
    /// They were, until now.
    Accepted,
}

/// The shape of every error: flat, with stable codes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ProblemBody {
    /// The stable code.
    pub error: Cow<'static, str>,
    /// One sentence for people.
    pub error_description: Cow<'static, str>,
    /// Names the request in the daemon's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Which field of the request is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Why a person must act, in a stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// At which provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderId>,
    /// The provider's error code, if it is one we know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_error: Option<Cow<'static, str>>,
    /// Which account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// Which accounts there are to choose from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Vec<Account>>,
    /// What the grant does not cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_scopes: Option<ScopeSet>,
    /// The connect session that was made or found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_id: Option<ConnectId>,
    /// Its page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_url: Option<Url>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_expires_at: Option<i64>,
    /// The code that the page shows too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_code: Option<String>,
    /// The same as an MCP server can send it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elicitation: Option<ElicitationBody>,
}

/// An MCP elicitation in URL mode, ready to be sent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ElicitationBody {
    /// Always `url`.
    pub mode: Cow<'static, str>,
    /// The connect session.
    #[serde(rename = "elicitationId")]
    pub elicitation_id: ConnectId,
    /// Its page.
    pub url: Url,
    /// What the client shows beside the link.
    pub message: String,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<AccessToken, D::Error> {
    AccessToken::new(String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// A proof as text, on its way from the one to the other.
mod proof {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::secret::Proof;

    pub(super) fn serialize<S: Serializer>(proof: &Proof, to: S) -> Result<S::Ok, S::Error> {
        proof.expose().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Proof, D::Error> {
        Proof::new(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }

    pub(super) mod optional {
        use super::{Deserialize, Deserializer, Proof, Serialize, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(proof: &Option<Proof>, to: S) -> Result<S::Ok, S::Error> {
            proof.as_ref().map(Proof::expose).serialize(to)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Proof>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| Proof::new(text).map_err(serde::de::Error::custom)).transpose()
        }
    }
}
