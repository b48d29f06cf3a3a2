//! The shapes that travel over the socket, for the daemon and for whoever speaks to it.
//!
//! The API only ever grows: unknown fields are ignored in both directions. Times are whole seconds since the Unix epoch.

mod access;
mod audit;
mod proof;
mod session;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use crate::broker::account::Choice;
use crate::model::connection::Account;
use crate::model::id::{ConnectId, ConnectionId, ProviderId, SlotName, TokenId};
use crate::model::scope::ScopeSet;
use crate::model::secret::AccessToken;
use crate::model::subject::Subject;

pub use self::access::{AllowBody, ExplainBody, PeerBody, SaidBody, WhoamiBody};
pub use self::audit::{AuditBody, AuditEntryBody, AuditVerdictBody};
pub use self::session::{AuthorizeBody, CallbackBody, ConfirmBody, ConnectBody, DeviceBody, SessionBody};

/// The body of `POST /v1/token`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TokenBody {
    /// Which provider.
    pub provider: ProviderId,
    /// Which account there, by id, name or label; may be left out while there is only one, or a default.
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
    /// What its subject calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether it is meant when a caller names no account.
    #[serde(default)]
    pub default: bool,
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
    /// Why the last renewal brought nothing; only for administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailureBody>,
}

/// Why something was not renewed, in our words.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FailureBody {
    /// What kind of failure it was, in a stable word; more words may follow.
    pub class: Cow<'static, str>,
    /// The provider's own number for it, if the provider's definition explains that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// What that number means, and what to do: the definition's sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// The body of `PATCH /v1/connections/{id}`. What is left out stays as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NamingBody {
    /// The label it gets: 1 to 64 visible characters; `null` takes it away.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub label: Option<Option<String>>,
    /// Whether it is the default at its provider from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
}

/// The answer of `DELETE /v1/connections/{id}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DisconnectBody {
    /// The connection that is no more.
    pub connection: ConnectionId,
    /// `revoked`, `by_hand` or `pending`: the worst of its slots.
    pub upstream: Cow<'static, str>,
    /// What the provider took back, if it took back all: `token`, `grant`, `client` or `project`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Cow<'static, str>>,
    /// What became of each grant.
    #[serde(default)]
    pub slots: Vec<PartedBody>,
    /// What became of the wider revocation, if it was asked for: `revoked`, `by_hand` or `pending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wider: Option<Cow<'static, str>>,
    /// Where a person takes back what is left by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual_url: Option<Url>,
}

/// What became of one grant at the provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PartedBody {
    /// Its slot.
    pub slot: SlotName,
    /// `revoked`, `by_hand` or `pending`.
    pub upstream: Cow<'static, str>,
    /// Why, in a stable word; more words may follow.
    pub because: Cow<'static, str>,
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
    /// What disconnecting takes back there by itself, `token` or `grant`; absent if a person has to do it by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<Cow<'static, str>>,
    /// What it takes back when a person asks for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_wider: Option<WiderBody>,
    /// How it is doing: `ok`, `registration_refused`, `frozen`, `unreachable` or `throttled`; more words may follow.
    pub state: Cow<'static, str>,
    /// Since when, if something is wrong; only for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// When it is tried again, if that is known; only for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// The last refusal that was not about one connection alone, if the definition explains it and no token has come since;
    /// only for administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<RefusalBody>,
}

/// What a provider refused, in our words.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RefusalBody {
    /// The provider's own number for it.
    pub number: u32,
    /// What that number means, and what to do: the definition's sentence.
    pub explanation: String,
    /// When it came.
    pub at: i64,
}

/// How much a provider takes back when a person asks for more than one connection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WiderBody {
    /// `client` or `project`.
    pub reach: Cow<'static, str>,
    /// What else goes, in a sentence.
    pub takes: String,
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
    pub accounts: Option<Vec<AccountBody>>,
    /// What the grant does not cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_scopes: Option<ScopeSet>,
    /// Which of the required scopes the caller may not have, whatever the account agrees to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied_scopes: Option<ScopeSet>,
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
    /// What a person should know before they agree again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The same as an MCP server can send it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elicitation: Option<ElicitationBody>,
}

/// One of several accounts, with everything it can be told by.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AccountBody {
    /// The provider's id.
    pub id: String,
    /// What a person calls it at the provider.
    pub name: String,
    /// What its subject calls it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The connection.
    pub connection: ConnectionId,
}

impl AccountBody {
    /// As the broker tells it.
    #[must_use]
    pub fn of(choice: Choice) -> Self {
        let Choice { account, label, connection } = choice;
        Self { id: account.id, name: account.name, label: label.map(|label| label.to_string()), connection }
    }
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

/// A field that is there, be it `null`.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}
