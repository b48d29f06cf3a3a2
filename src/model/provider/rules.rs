//! The sections of a provider definition that are read from YAML as they stand.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::client::ClientAuth;
use crate::model::id::SlotName;
use crate::model::provider::claim_rules::ClaimRule;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::refusals::{Hint, ResponseFormat};
use crate::model::scope::{Scope, ScopeSet};

pub use crate::model::provider::redirect::{PathMatch, RedirectRules, WebHosts};
pub use crate::model::provider::slots::{SlotPlace, SlotRule};

/// Name and value pairs of a request.
pub type Params = BTreeMap<String, String>;
/// The body of a request as data.
pub type Body = BTreeMap<String, String>;

/// Whose answers to believe.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IssuerRules {
    /// The issuer names accepted in a callback's `iss` and in ID tokens, compared byte for byte.
    pub accept: Vec<String>,
    /// What to do with `iss` on the callback (RFC 9207).
    pub callback_iss: CallbackIss,
}

/// What to do with `iss` on the callback (RFC 9207 section 2.4).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackIss {
    /// The provider does not send it and may put anything there.
    Ignore,
    /// The provider announces it: a callback without it is refused.
    Require,
    /// Compared when it is there.
    #[default]
    ValidateIfPresent,
}

/// What goes into the authorization request (RFC 6749 section 4.1.1).
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizeRules {
    /// Static parameters.
    pub params: Params,
    /// Parameters that make the provider give a refresh token.
    pub offline_params: Params,
    /// A scope that makes the provider give a refresh token.
    pub offline_scope: Option<Scope>,
    /// Parameters that make the provider ask again although the person agreed before.
    pub reconsent_params: Params,
    /// Which lists of scopes go into which parameter; empty if the provider takes no scopes.
    pub scope_params: Vec<ScopeParam>,
    /// The parameter that suggests an account, such as `login_hint`.
    pub account_hint_param: Option<String>,
    /// Parameters that let the person pick another account.
    pub account_picker_params: Params,
    /// The parameter that carries a claims challenge back, such as `claims`; without it no challenge is kept.
    pub claims_param: Option<String>,
}

impl Default for AuthorizeRules {
    fn default() -> Self {
        Self {
            params: Params::new(),
            offline_params: Params::new(),
            offline_scope: None,
            reconsent_params: Params::new(),
            scope_params: vec![ScopeParam { param: "scope".to_owned(), slot: SlotName::main() }],
            account_hint_param: None,
            account_picker_params: Params::new(),
            claims_param: None,
        }
    }
}

/// One parameter of the authorization request that carries scopes.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeParam {
    /// The parameter.
    pub param: String,
    /// The slot whose scopes it asks for.
    pub slot: SlotName,
}

/// What the device flow needs here (RFC 8628). It is there if the provider has a `device` endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceRules {
    /// How the client proves itself when it asks for a device code; as everywhere else if it is not said (section 3.1).
    pub request_auth: Option<ClientAuth>,
    /// How it does when it asks for the tokens, and when it renews them; as everywhere else if it is not said (section 3.4).
    pub poll_auth: Option<ClientAuth>,
    /// Where the page stands that the person opens (section 3.2); the first that is there counts.
    pub verification_uri: Vec<Pointer>,
}

impl Default for DeviceRules {
    fn default() -> Self {
        Self { request_auth: None, poll_auth: None, verification_uri: vec![Pointer::to_member("verification_uri")] }
    }
}

/// What goes into a token request (RFC 6749 sections 4.1.3 and 6).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenRules {
    /// How the body is written.
    pub encoding: Encoding,
    /// Headers besides `Accept`, `Content-Type` and `Authorization`.
    pub headers: Params,
    /// Parameters added when a code is redeemed.
    pub code_params: Params,
    /// Parameters added when a token is refreshed.
    pub refresh_params: Params,
    /// Which scopes a refresh names.
    pub scope_on_refresh: ScopeOnRefresh,
}

/// Which scopes a refresh names (RFC 6749 section 6).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeOnRefresh {
    /// Those of the grant, and the one that brings a refresh token.
    Granted,
    /// None: the token keeps what it has.
    #[default]
    Never,
}

/// How a request body is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// `application/x-www-form-urlencoded`, as RFC 6749 wants it.
    #[default]
    Form,
    /// `application/json`.
    Json,
}

/// How to read a token response (RFC 6749 section 5).
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseRules {
    /// How the body is written.
    pub format: ResponseFormat,
    /// A member that must have this value, or the answer is an error whatever its status.
    pub ok_when: Option<Match>,
    /// Where an error code may stand; the first that is there counts.
    pub error: Vec<Pointer>,
    /// Where a second, finer error code may stand.
    pub error_sub: Vec<Pointer>,
    /// Where the provider's own number for an error may stand. It explains and never decides.
    pub error_number: Vec<Pointer>,
    /// What such numbers mean, for the operator.
    pub hints: Vec<Hint>,
    /// Where an error carries a claims challenge, for `authorize.claims_param`.
    pub claims: Option<Pointer>,
    /// The words accepted as `token_type`, in any case.
    pub token_types: Vec<String>,
    /// How long an access token lives when the answer does not say.
    pub access_ttl: DefaultTtl,
    /// How long a refresh token lives when the answer does not say, in seconds.
    pub refresh_ttl: Option<u64>,
}

impl ResponseRules {
    /// What is said of one of the provider's own numbers.
    #[must_use]
    pub fn sentence(&self, number: u32) -> Option<&str> {
        self.hints.iter().find(|hint| hint.number.contains(&number)).map(|hint| hint.sentence.as_str())
    }
}

impl Default for ResponseRules {
    fn default() -> Self {
        Self {
            format: ResponseFormat::Json,
            ok_when: None,
            error: vec![Pointer::to_member("error")],
            error_sub: Vec::new(),
            error_number: Vec::new(),
            hints: Vec::new(),
            claims: None,
            token_types: vec!["bearer".to_owned()],
            access_ttl: DefaultTtl::Never,
            refresh_ttl: None,
        }
    }
}

/// How long an access token lives when the answer does not say.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultTtl {
    /// It does not expire by time.
    Never,
    /// This many seconds.
    Seconds(u64),
    /// The provider does not tell: served until a caller reports that it was rejected.
    Unknown,
}

/// A member of an answer and the value it must have.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Where.
    pub pointer: Pointer,
    /// What.
    pub equals: serde_json::Value,
}

/// What refreshing does at this provider (RFC 6749 section 6, RFC 9700 section 4.14).
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshRules {
    /// What becomes of the refresh token.
    pub rotation: Rotation,
    /// Whether the old access token dies with the refresh; then there is no needless early one.
    pub kills_access: bool,
    /// What an answer without a refresh token means.
    pub on_missing_token: OnMissingToken,
    /// Whether the same refresh token may be sent again when an answer never came.
    pub after_ambiguous: AfterAmbiguous,
    /// How long the provider takes a refresh token that has been replaced, in seconds, so that a lost answer can be had again;
    /// absent if not at all, or not known.
    pub grace: Option<u64>,
    /// Renewed ahead of expiry, or only when a caller reports a rejection.
    pub mode: RefreshMode,
    /// The earliest a grant is renewed before it is due, in seconds before expiry. At most a fifth of the lifetime is used.
    pub lead: u64,
    /// The longest a refresh token is left unused, in seconds, so that it does not die of inactivity.
    pub keepalive: Option<u64>,
    /// How many refreshes a second the token endpoint takes from one client; a thousand if it is not said.
    pub per_second: Option<NonZeroU32>,
    /// How often in an hour a grant is renewed before it is due because a caller asks for it; as often as asked if it is not said.
    pub early_per_hour: Option<NonZeroU32>,
    /// When the provider ends the access however it is used, in seconds from the person's consent.
    pub expires_after: Option<u64>,
    /// When a refresh token dies that nobody uses, in seconds, where its answer does not bring a lifetime.
    pub idle_after: Option<u64>,
}

impl Default for RefreshRules {
    fn default() -> Self {
        Self {
            rotation: Rotation::SingleUse,
            kills_access: false,
            on_missing_token: OnMissingToken::Keep,
            after_ambiguous: AfterAmbiguous::Once,
            grace: None,
            mode: RefreshMode::Ahead,
            lead: 600,
            keepalive: None,
            per_second: None,
            early_per_hour: None,
            expires_after: None,
            idle_after: None,
        }
    }
}

/// What becomes of the refresh token when it is used.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// Each answer brings a new one, and the old one goes on working.
    MultiValid,
    /// Each answer brings a new one, and the old one is dead.
    SingleUse,
    /// It stays the same.
    Static,
}

/// What a refresh answer without a refresh token means.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissingToken {
    /// The old one stays good (RFC 6749 section 6).
    Keep,
    /// Something is wrong: the old one is kept and the connection is marked for a look.
    Suspect,
}

/// Whether the same refresh token may be sent again when an answer never came.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterAmbiguous {
    /// It is, but it may be spent: a refusal then means that the answer was lost.
    Once,
    /// As often as needed: the old one stays good.
    Safe,
}

/// When a grant is renewed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshMode {
    /// Ahead of expiry.
    Ahead,
    /// When a caller reports that a token was rejected, and for `keepalive`.
    Reactive,
}

/// One failure and what it means.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// Any of these codes; any code if empty.
    #[serde(default)]
    pub code: Vec<String>,
    /// Any of these finer codes; any if empty.
    #[serde(default)]
    pub sub: Vec<String>,
    /// Any of these status codes; any if empty.
    #[serde(default)]
    pub http: Vec<u16>,
    /// What it means.
    pub class: ErrorClass,
}

/// What a failure means: what happens next.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Our registration is wrong or the grant is gone, and the provider does not say which.
    ClientOrGrant,
    /// The person said no.
    Denied,
    /// Our registration is wrong: an operator has to act.
    Misconfigured,
    /// In the device flow: the person has not decided yet (RFC 8628 section 3.5).
    Pending,
    /// The grant is gone: a person has to consent again.
    Reauth,
    /// The code is too old or used: start again.
    RestartLogin,
    /// In the device flow: not decided yet, and asked too often (RFC 8628 section 3.5).
    SlowDown,
    /// Nothing is known to be wrong: later.
    Transient,
    /// The person has to do something at the provider.
    UserAction,
}

/// Checks of an ID token beyond those of OpenID Connect Core section 3.1.3.7.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdTokenRules {
    /// An issuer with `{claim}` in it, where the metadata has a template: `https://login.microsoftonline.com/{tid}/v2.0`.
    pub issuer_template: Option<String>,
    /// The claim that fills it.
    pub issuer_claim: Option<String>,
    /// What further claims must say.
    pub claims: Vec<ClaimRule>,
}

/// What is known of a provider's scopes.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScopeRules {
    /// Whether scopes are asked for in the request, or fixed in the provider's own settings of the client.
    pub managed_by: ScopesManagedBy,
    /// Between scopes in a request.
    pub separator_request: char,
    /// Between scopes in an answer.
    pub separator_response: char,
    /// Asked for in every request, whatever else is: without them the provider does not tell whose account it is.
    pub always: ScopeSet,
    /// Scopes that are granted without being told in the answer.
    pub not_echoed: Vec<Scope>,
    /// Put before a short name to make the full scope; full scopes begin with `https://` or stand in `aliases`.
    pub prefix: Option<String>,
    /// Short names to full scopes, where a prefix does not do it; those that map to themselves are never prefixed.
    pub aliases: BTreeMap<Scope, Scope>,
    /// Whether an access token is for one resource only: the address that the full scope name begins with, up to its last
    /// slash. Tokens for the others of a grant come by a refresh that names their scopes.
    pub one_resource: bool,
    /// What a scope includes without saying so.
    pub implies: BTreeMap<Scope, ScopeSet>,
    /// One plain sentence for each scope, for the connect page.
    pub sentences: BTreeMap<Scope, String>,
}

impl Default for ScopeRules {
    fn default() -> Self {
        Self {
            managed_by: ScopesManagedBy::Request,
            separator_request: ' ',
            separator_response: ' ',
            always: ScopeSet::default(),
            not_echoed: Vec::new(),
            prefix: None,
            aliases: BTreeMap::new(),
            one_resource: false,
            implies: BTreeMap::new(),
            sentences: BTreeMap::new(),
        }
    }
}

/// Who decides which scopes there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopesManagedBy {
    /// The client's settings at the provider.
    App,
    /// The authorization request.
    Request,
}

/// Ready lists of scopes, per slot.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Presets {
    /// What most people want.
    pub default: BTreeMap<SlotName, ScopeSet>,
    /// Looking only.
    pub read_only: BTreeMap<SlotName, ScopeSet>,
    /// Everything that is commonly used.
    pub full: BTreeMap<SlotName, ScopeSet>,
}

/// Hints for whoever uses the token.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Where the provider's API is.
    pub base_url: Option<String>,
    /// Headers it wants.
    pub headers: Params,
}

/// Which of a grant's tokens.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// The access token.
    Access,
    /// The refresh token if there is one, else the access token.
    Refresh,
}
