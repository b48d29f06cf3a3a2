//! A provider definition as it is written in YAML.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::client::ClientAuth;
use crate::model::id::ProviderId;
use crate::model::provider::assertion::AssertionRules;
use crate::model::provider::pointer::PointerTemplate;
use crate::model::provider::rules::{
    Api, AuthorizeRules, Body, DeviceRules, Encoding, ErrorRule, IdTokenRules, IssuerRules, Params, Presets,
    RedirectRules, RefreshRules, ResponseRules, ScopeRules, SlotPlace, SlotRule, TokenKind, TokenRules,
};
use crate::model::provider::{ClientKind, ConsentRules, RevokeAuth, RevokeMethod, RevokeReach};

/// Everything that differs between authorization servers, as data. Text with `{name}` in it is filled in from `vars`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(title = "grantd provider definition")]
pub struct Definition {
    /// The name it is chosen by: lower-case letters, digits and `-`.
    pub id: ProviderId,
    /// What people call it.
    pub name: String,
    /// Where a person registers the client.
    #[serde(default)]
    pub docs_url: Option<String>,
    /// What a person should know when registering, one sentence each.
    #[serde(default)]
    pub setup_notes: Vec<String>,
    /// What an operator may or must say.
    #[serde(default)]
    pub vars: BTreeMap<String, Var>,
    /// Where to send what.
    pub endpoints: EndpointTemplates,
    /// Whose answers to believe.
    #[serde(default)]
    pub issuer: IssuerRules,
    /// What kind of client it wants.
    pub client: ClientRules,
    /// Whether PKCE is sent (RFC 7636), always with S256.
    #[serde(default = "yes")]
    pub pkce: bool,
    /// What goes into the authorization request.
    #[serde(default)]
    pub authorize: AuthorizeRules,
    /// What the provider accepts as redirect URI.
    #[serde(default)]
    pub redirect: RedirectRules,
    /// What the device flow needs; only with a `device` endpoint.
    #[serde(default)]
    pub device: DeviceRules,
    /// What goes into a token request.
    #[serde(default)]
    pub token: TokenRules,
    /// How to read a token response.
    #[serde(default)]
    pub response: ResponseRules,
    /// Where in a token response each grant is found.
    #[serde(default = "one_slot")]
    pub slots: Vec<SlotRule>,
    /// What refreshing does here.
    #[serde(default)]
    pub refresh: RefreshRules,
    /// Which failure means what; the first match counts.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// Which account it is.
    pub identity: IdentityRules,
    /// What a person's consent does to an earlier one for the same account.
    #[serde(default)]
    pub consent: ConsentRules,
    /// How to take a grant back and nothing else: what disconnecting does by itself. Absent if the provider has no way.
    #[serde(default)]
    pub revoke: Option<RevokeRules>,
    /// How to take back more than one connection, where the provider has a way: only when a person asks for it.
    #[serde(default)]
    pub revoke_wider: Option<RevokeRules>,
    /// Where a person can take a grant back by hand.
    #[serde(default)]
    pub revoke_manual_url: Option<String>,
    /// What is known of its scopes.
    #[serde(default)]
    pub scopes: ScopeRules,
    /// Ready lists of scopes.
    #[serde(default)]
    pub presets: Presets,
    /// Hints for whoever uses the token.
    #[serde(default)]
    pub api: Api,
    /// The variant that this definition is without a change.
    #[serde(default)]
    pub default_variant: Option<String>,
    /// What else it can be, by name.
    #[serde(default)]
    pub variants: BTreeMap<String, Variant>,
}

/// Something that an operator may or must say.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Var {
    /// What it is, in one sentence.
    pub about: String,
    /// What it may be.
    #[serde(default)]
    pub kind: VarKind,
    /// What it is when nothing is said; without it something must be said.
    #[serde(default)]
    pub default: Option<String>,
    /// The only values it may have; any of its kind if empty.
    #[serde(default)]
    pub one_of: Vec<String>,
}

/// What a variable may be. Neither kind can hold a character that ends its part of a URL.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VarKind {
    /// A host name, with a port if need be; the only kind that may stand where the host of a URL stands.
    Host,
    /// Letters, digits and `._~-`: one segment of a path.
    #[default]
    Segment,
}

/// Where to send what. All are https, or http on loopback.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointTemplates {
    /// Authorization endpoint (RFC 6749 section 3.1); the browser goes there.
    pub authorize: String,
    /// Token endpoint (RFC 6749 section 3.2).
    pub token: String,
    /// Device authorization endpoint (RFC 8628 section 3.1).
    #[serde(default)]
    pub device: Option<String>,
    /// The keys that sign ID tokens (RFC 7517).
    #[serde(default)]
    pub jwks: Option<String>,
}

/// What kind of client the provider wants (RFC 6749 section 2).
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRules {
    /// Whether a client without a secret is an error, or a client with one.
    pub kind: ClientKind,
    /// How the client proves itself.
    pub auth: ClientAuth,
    /// What its assertion says; for `private_key_jwt` only.
    #[serde(default)]
    pub assertion: Option<AssertionRules>,
}

/// How to find out which account a grant belongs to.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRules {
    /// Where to look.
    pub source: IdentityFrom,
    /// The resource that tells, read with GET; for `http` only.
    #[serde(default)]
    pub url: Option<String>,
    /// Headers besides `Authorization` and `Accept`; for `http` only.
    #[serde(default)]
    pub headers: Params,
    /// Further checks; for `id_token` only.
    #[serde(default)]
    pub id_token: Option<IdTokenRules>,
    /// The account's id there: what never changes.
    pub account_id: PointerTemplate,
    /// What a person calls the account.
    pub display: PointerTemplate,
}

/// Where the account is told.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityFrom {
    /// By an API, asked with the access token.
    Http,
    /// In the ID token (OpenID Connect Core section 2).
    IdToken,
    /// In the token response itself.
    Token,
}

/// How to take a grant back (RFC 7009, or what the provider has instead).
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRules {
    /// `POST` or `DELETE`.
    pub method: RevokeMethod,
    /// Where to; may hold `{client_id}`.
    pub url: String,
    /// How the request proves itself.
    pub auth: RevokeAuth,
    /// How the body is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// The body; values may hold `{token}`.
    #[serde(default)]
    pub body: Body,
    /// Which token `{token}` and a bearer header stand for.
    pub token: TokenKind,
    /// Status codes that mean it is gone.
    pub ok_http: Vec<u16>,
    /// Status codes that mean the provider did not know the token any more: as good as gone.
    #[serde(default)]
    pub gone_http: Vec<u16>,
    /// Error codes that mean the same, whatever the status.
    #[serde(default)]
    pub gone_code: Vec<String>,
    /// How much goes with it: `token` or `grant` in `revoke`, `client` or `project` in `revoke_wider`.
    pub reach: RevokeReach,
    /// What else goes, in one sentence for the person who is asked; for `revoke_wider`.
    #[serde(default)]
    pub takes: Option<String>,
}

/// A named change of the definition.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// What it is for, in one sentence.
    pub about: String,
    /// Other variants whose changes come first.
    #[serde(default)]
    pub extends: Vec<String>,
    /// The members that differ. Mappings are merged, everything else is replaced, and `null` takes away (RFC 7396).
    #[serde(default)]
    pub set: Map<String, Value>,
}

const fn yes() -> bool {
    true
}

fn one_slot() -> Vec<SlotRule> {
    vec![SlotRule { name: crate::model::id::SlotName::main(), places: vec![SlotPlace::default()] }]
}
