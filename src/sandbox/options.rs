//! What a sandbox is told when it starts: who may ask, who the people are, and each quirk as a switch of its own.

mod quirks;
mod role;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::{Clock, SystemClock};
use crate::model::secret::ClientSecret;
use crate::sandbox::manner::Role;

pub use self::quirks::{IdTokenFlaw, Quirks};

/// The client that is registered when nobody says otherwise.
pub const DEFAULT_CLIENT: &str = "grantd-sandbox";
/// Its secret. It protects nothing, and says so.
pub const DEFAULT_SECRET: &str = "cs_MARK_not-a-secret";

/// How a sandbox behaves.
pub struct Options {
    /// Where to listen. Anything but loopback is refused; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Whose manners it has on the wire.
    pub role: Role,
    /// Where it gets now from.
    pub clock: Arc<dyn Clock>,
    /// Who may ask for tokens.
    pub clients: Vec<SandboxClient>,
    /// Who may be signed in as.
    pub users: Vec<SandboxUser>,
    /// How long an access token lives.
    pub access_ttl: Duration,
    /// How long a refresh token lives after it was issued; `None` is for ever.
    pub refresh_ttl: Option<Duration>,
    /// What becomes of a refresh token when it is used.
    pub rotation: Rotation,
    /// Whether an authorization request without a code challenge is refused (RFC 7636 section 4.4.1).
    pub pkce_required: bool,
    /// The scopes that exist; `None` takes every scope.
    pub scopes_supported: Option<Vec<String>>,
    /// What happens to a scope that does not exist.
    pub unknown_scopes: UnknownScopes,
    /// Whether the callback carries `iss` (RFC 9207).
    pub iss_on_callback: bool,
    /// When a grant comes with a refresh token.
    pub issue_refresh: IssueRefresh,
    /// Whether a refresh ends the access tokens that the grant had before.
    pub kills_access_on_refresh: bool,
    /// How long a client has to wait between two polls with a device code (RFC 8628 section 3.2).
    pub device_interval: Duration,
    /// How long a device code lives.
    pub device_ttl: Duration,
    /// When a client that has a secret has to prove itself in the device flow.
    pub device_secret: DeviceSecret,
    /// What no standard says.
    pub quirks: Quirks,
    /// Answers the authorization request at once, without a page. For tests.
    pub auto_consent: Option<Decision>,
}

/// A client that the sandbox knows.
#[derive(Debug)]
pub struct SandboxClient {
    /// The client id.
    pub id: Arc<str>,
    /// Its secret; `None` for a public client (RFC 6749 section 2.1).
    pub secret: Option<ClientSecret>,
    /// Where codes may go, compared byte for byte; `None` allows any URI on loopback.
    pub redirect_uris: Option<Vec<String>>,
}

/// A person that can be signed in as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SandboxUser {
    /// The account's id; never changes.
    pub sub: Arc<str>,
    /// What people call them.
    pub name: String,
    /// Their address.
    pub email: String,
}

/// What becomes of a refresh token when it is used.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// It stays the same, and answers do not repeat it.
    Static,
    /// Each answer brings a new one, and the old ones go on working.
    MultiValid,
    /// Each answer brings a new one, and the old one is dead.
    SingleUse {
        /// Whether using a dead one ends the whole grant (RFC 9700 section 4.14.2).
        kills_family: bool,
        /// How long the old one still works after its first use.
        #[serde(rename = "grace_ms", with = "millis", default)]
        grace: Duration,
    },
}

/// What happens to a scope that does not exist.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownScopes {
    /// It is left out of the grant.
    Ignore,
    /// The request fails with `invalid_scope`.
    Refuse,
}

/// When a grant comes with a refresh token.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueRefresh {
    /// Always.
    Always,
    /// When `offline_access` was granted (OpenID Connect Core section 11).
    OfflineAccessOnly,
    /// When `access_type=offline` was asked for and the person agrees for the first time, or is made to by
    /// `prompt=consent`.
    FirstOfflineConsent,
    /// Never.
    Never,
}

/// When a client that has a secret has to prove itself in the device flow and when it renews what came of it, from the least
/// strict on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DeviceSecret {
    /// Never, and one that does so is refused: there the client is a public one.
    Refused,
    /// Never.
    Never,
    /// When it asks for the tokens, and when it renews them.
    WhenPolling,
    /// When it asks for the code too (RFC 8628 section 3.1).
    Always,
}

/// What the person would have said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Yes, as this account; `None` takes the one that `login_hint` names, or else the first.
    Allow {
        /// The account's id.
        sub: Option<Arc<str>>,
    },
    /// No.
    Deny,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            role: Role::Plain,
            clock: Arc::new(SystemClock),
            clients: vec![SandboxClient::confidential(
                DEFAULT_CLIENT,
                ClientSecret::new(DEFAULT_SECRET).expect("the constant is visible ASCII"),
            )],
            users: vec![
                SandboxUser::new("u-1001", "Ada Lovelace", "ada@sandbox.example"),
                SandboxUser::new("u-1002", "Grace Hopper", "grace@sandbox.example"),
            ],
            access_ttl: Duration::from_secs(3600),
            refresh_ttl: None,
            rotation: Rotation::SingleUse { kills_family: true, grace: Duration::ZERO },
            pkce_required: true,
            scopes_supported: None,
            unknown_scopes: UnknownScopes::Ignore,
            iss_on_callback: true,
            issue_refresh: IssueRefresh::Always,
            kills_access_on_refresh: false,
            device_interval: Duration::from_secs(5),
            device_ttl: Duration::from_secs(600),
            device_secret: DeviceSecret::Always,
            quirks: Quirks::default(),
            auto_consent: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("addr", &self.addr)
            .field("role", &self.role)
            .field("clients", &self.clients)
            .field("access_ttl", &self.access_ttl)
            .field("rotation", &self.rotation)
            .finish_non_exhaustive()
    }
}

impl SandboxClient {
    /// A client with a secret, and any redirect URI on loopback.
    #[must_use]
    pub fn confidential(id: &str, secret: ClientSecret) -> Self {
        Self { id: id.into(), secret: Some(secret), redirect_uris: None }
    }

    /// A client without a secret, and any redirect URI on loopback.
    #[must_use]
    pub fn public(id: &str) -> Self {
        Self { id: id.into(), secret: None, redirect_uris: None }
    }
}

impl SandboxUser {
    /// A person.
    #[must_use]
    pub fn new(sub: &str, name: &str, email: &str) -> Self {
        Self { sub: sub.into(), name: name.to_owned(), email: email.to_owned() }
    }

    /// The account's id where the provider counts: the digits of its id, or a number made of its letters.
    pub(super) fn number(&self) -> u64 {
        let digits: String = self.sub.chars().filter(char::is_ascii_digit).collect();
        let letters = || self.sub.bytes().fold(7, |sum: u64, byte| (sum * 31 + u64::from(byte)) % 1_000_000_007);
        digits.parse().unwrap_or_else(|_| letters())
    }

    /// Whether `login_hint` means this person.
    pub(super) fn answers_to(&self, hint: &str) -> bool {
        let (login, _) = self.email.split_once('@').unwrap_or((&self.email, ""));
        *self.sub == *hint || self.email.eq_ignore_ascii_case(hint) || login.eq_ignore_ascii_case(hint)
    }
}

/// Changes to a running sandbox; what is absent stays as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptionsPatch {
    /// See [`Options::access_ttl`].
    pub access_ttl_seconds: Option<u64>,
    /// See [`Options::refresh_ttl`].
    pub refresh_ttl_seconds: Option<u64>,
    /// See [`Options::rotation`].
    pub rotation: Option<Rotation>,
    /// See [`Options::pkce_required`].
    pub pkce_required: Option<bool>,
    /// See [`Options::scopes_supported`].
    pub scopes_supported: Option<Vec<String>>,
    /// See [`Options::unknown_scopes`].
    pub unknown_scopes: Option<UnknownScopes>,
    /// See [`Options::iss_on_callback`].
    pub iss_on_callback: Option<bool>,
    /// See [`Options::issue_refresh`].
    pub issue_refresh: Option<IssueRefresh>,
    /// See [`Options::kills_access_on_refresh`].
    pub kills_access_on_refresh: Option<bool>,
    /// The members of [`Options::quirks`] that change.
    pub quirks: Map<String, Value>,
}

impl OptionsPatch {
    /// Puts the changes into `options`. Tokens that exist keep the lifetime they were issued with.
    ///
    /// # Errors
    /// If a quirk does not exist or cannot have its value; then nothing is changed.
    pub fn apply(self, options: &mut Options) -> Result<(), serde_json::Error> {
        options.quirks.merge(self.quirks)?;
        set(&mut options.access_ttl, self.access_ttl_seconds.map(Duration::from_secs));
        set(&mut options.rotation, self.rotation);
        set(&mut options.pkce_required, self.pkce_required);
        set(&mut options.unknown_scopes, self.unknown_scopes);
        set(&mut options.iss_on_callback, self.iss_on_callback);
        set(&mut options.issue_refresh, self.issue_refresh);
        set(&mut options.kills_access_on_refresh, self.kills_access_on_refresh);
        if let Some(seconds) = self.refresh_ttl_seconds {
            options.refresh_ttl = Some(Duration::from_secs(seconds));
        }
        if let Some(scopes) = self.scopes_supported {
            options.scopes_supported = Some(scopes);
        }
        Ok(())
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// Durations as whole milliseconds in JSON.
pub(super) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::sandbox) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::sandbox) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
