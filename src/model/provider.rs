//! A provider: an authorization server (RFC 6749 section 1.1) with everything that differs between them as data.
//!
//! A [`Provider`] is what the catalog makes of a definition and an operator's settings: variables are filled in, the
//! variant is chosen, URLs are parsed. The `rules` below it are read from YAML as they stand.

pub mod assertion;
pub mod claim_rules;
pub mod pointer;
pub mod redirect;
pub mod refusals;
pub mod resources;
pub mod rules;
pub mod scopes;
pub mod slots;

use url::Url;

use crate::model::client::ClientAuth;
use crate::model::grant_type::GrantType;
use crate::model::id::ProviderId;
use crate::model::provider::assertion::AssertionRules;
use crate::model::provider::pointer::PointerTemplate;
use crate::model::provider::rules::{
    Api, AuthorizeRules, DeviceRules, ErrorRule, IdTokenRules, IssuerRules, Presets, RedirectRules, RefreshRules,
    ResponseRules, ScopeRules, SlotRule, TokenRules,
};
use crate::model::provider::rules::{Body, Encoding, TokenKind};

/// An authorization server as one operator uses it.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name in the configuration, in URLs and on the socket.
    pub id: ProviderId,
    /// Which definition it comes from; the same as `id` unless the operator configured it twice.
    pub definition: ProviderId,
    /// What people call it.
    pub name: String,
    /// Where a person registers the client.
    pub docs_url: Option<Url>,
    /// What a person should know when registering.
    pub setup_notes: Vec<String>,
    /// Where to send what.
    pub endpoints: Endpoints,
    /// Whose answers to believe.
    pub issuer: IssuerRules,
    /// How the client proves itself, unless the device flow wants it otherwise: see [`token_auth`](Self::token_auth).
    pub client_auth: ClientAuth,
    /// Whether a client without a secret is an error, or a client with one.
    pub client_kind: ClientKind,
    /// What its assertion says, if that is how it proves itself.
    pub assertion: AssertionRules,
    /// Whether PKCE is sent (RFC 7636). Always S256; `plain` does not exist here.
    pub pkce: bool,
    /// What goes into the authorization request.
    pub authorize: AuthorizeRules,
    /// What the provider accepts as redirect URI.
    pub redirect: RedirectRules,
    /// What the device flow needs; it is there if there is a device authorization endpoint.
    pub device: DeviceRules,
    /// What goes into a token request.
    pub token: TokenRules,
    /// How to read a token response.
    pub response: ResponseRules,
    /// Where in a token response each grant is found; at least one.
    pub slots: Vec<SlotRule>,
    /// What refreshing does here.
    pub refresh: RefreshRules,
    /// Which failure means what; the first match counts.
    pub errors: Vec<ErrorRule>,
    /// Which account it is.
    pub identity: Identity,
    /// What a person's consent does to an earlier one.
    pub consent: ConsentRules,
    /// How to take a grant back and nothing else; `None` if the provider has no way.
    pub revoke: Option<Revoke>,
    /// How to take back more than one connection: only when a person asks for it.
    pub revoke_wider: Option<Revoke>,
    /// Where a person can take a grant back by hand.
    pub revoke_manual_url: Option<Url>,
    /// What is known of its scopes.
    pub scopes: ScopeRules,
    /// Ready lists of scopes.
    pub presets: Presets,
    /// Hints for whoever uses the token.
    pub api: Api,
}

/// Where to send what. All are https, or http on loopback.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Authorization endpoint (RFC 6749 section 3.1); the browser goes there.
    pub authorize: Url,
    /// Token endpoint (RFC 6749 section 3.2).
    pub token: Url,
    /// Device authorization endpoint (RFC 8628 section 3.1).
    pub device: Option<Url>,
    /// The keys that sign ID tokens (RFC 7517).
    pub jwks: Option<Url>,
}

/// Whether the client can keep a secret (RFC 6749 section 2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// It has a secret, and the provider wants it.
    Confidential,
    /// It has none; a configured secret is an error.
    Public,
}

/// How to find out which account a grant belongs to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where to look.
    pub source: IdentitySource,
    /// The account's id there: what never changes.
    pub account_id: PointerTemplate,
    /// What a person calls the account.
    pub display: PointerTemplate,
}

/// Where the account is told.
#[derive(Clone, Debug)]
pub enum IdentitySource {
    /// By an API, asked with the access token.
    Http {
        /// The resource, read with GET.
        url: Url,
        /// Headers besides `Authorization` and `Accept`.
        headers: Vec<(String, String)>,
    },
    /// In the ID token (OpenID Connect Core section 2), verified against the provider's keys.
    IdToken(IdTokenRules),
    /// In the token response itself.
    Token,
}

/// How to take a grant back (RFC 7009, or what the provider has instead).
#[derive(Clone, Debug)]
pub struct Revoke {
    /// `POST` or `DELETE`.
    pub method: RevokeMethod,
    /// Where to.
    pub url: Url,
    /// How the request proves itself.
    pub auth: RevokeAuth,
    /// How the body is written.
    pub encoding: Encoding,
    /// The body; values may hold `{token}`.
    pub body: Body,
    /// Which token `{token}` and a bearer header stand for.
    pub token: TokenKind,
    /// Status codes that mean it is gone.
    pub ok_http: Vec<u16>,
    /// Status codes that mean the provider did not know the token any more: as good as gone.
    pub gone_http: Vec<u16>,
    /// Error codes that mean the same, whatever the status.
    pub gone_code: Vec<String>,
    /// How much goes with it.
    pub reach: RevokeReach,
    /// What else goes, in one sentence for the person who is asked.
    pub takes: Option<String>,
}

/// What a person's consent does to an earlier one for the same account.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, Eq, PartialEq, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsentRules {
    /// Whether it may end the grant that was given before. The person is told so, and the newer grant is the one that counts.
    pub replaces_earlier: bool,
}

/// The method of a revocation request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RevokeMethod {
    /// `DELETE`
    Delete,
    /// `POST`
    Post,
}

/// How a revocation request proves itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevokeAuth {
    /// The client by HTTP Basic.
    Basic,
    /// The token itself in the `Authorization` header.
    Bearer,
    /// Nothing but the token in the body.
    None,
    /// The client in the body.
    Post,
}

/// What a revocation takes with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevokeReach {
    /// Every grant that this person gave to the same client, on whatever machine: asked for, never automatic.
    Client,
    /// Every token of this grant.
    Grant,
    /// Every grant that this person gave to any client of the operator's project: asked for, never automatic.
    Project,
    /// The one token.
    Token,
}

impl RevokeReach {
    /// Whether it takes more than one connection, so that a person has to ask for it.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        matches!(self, Self::Client | Self::Project)
    }

    /// The stable word, in definitions and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Grant => "grant",
            Self::Project => "project",
            Self::Token => "token",
        }
    }
}

impl Provider {
    /// How the client proves itself when it asks for the tokens of a grant of this type, and whenever it renews them: the
    /// refresh token was given to a client that did so (RFC 6749 section 6, RFC 8628 section 3.4).
    #[must_use]
    pub fn token_auth(&self, grant_type: GrantType) -> ClientAuth {
        match grant_type {
            GrantType::AuthorizationCode => self.client_auth,
            GrantType::DeviceCode => self.device.poll_auth.unwrap_or(self.client_auth),
        }
    }

    /// The slot called `name`.
    #[must_use]
    pub fn slot(&self, name: &crate::model::id::SlotName) -> Option<&SlotRule> {
        self.slots.iter().find(|slot| slot.name == *name)
    }

    /// What a person should know who has connected an account here and is about to agree again.
    #[must_use]
    pub fn consent_warning(&self) -> Option<String> {
        self.consent.replaces_earlier.then(|| {
            let name = &self.name;
            format!("{name} keeps one access for each account: if you agree again for the same account, the one you have now ends and the new one takes its place.")
        })
    }

    /// The hosts that grantd itself may talk to for this provider. The authorization endpoint is not among them: only
    /// the browser goes there.
    pub fn hosts(&self) -> impl Iterator<Item = &Url> {
        let identity = match &self.identity.source {
            IdentitySource::Http { url, .. } => Some(url),
            IdentitySource::IdToken(_) | IdentitySource::Token => None,
        };
        [Some(&self.endpoints.token), self.endpoints.device.as_ref(), self.endpoints.jwks.as_ref(), identity]
            .into_iter()
            .chain([&self.revoke, &self.revoke_wider].map(|revoke| revoke.as_ref().map(|revoke| &revoke.url)))
            .flatten()
    }
}
