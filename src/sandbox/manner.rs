//! Manners: how a sandbox looks on the wire. The machine behind them is always the same.
//!
//! A manner says where the endpoints are and writes answers down. It decides nothing about tokens.

mod plain;

use std::fmt;

use serde_json::Value;

use crate::sandbox::answer::Answer;
use crate::sandbox::fault::Endpoint;
use crate::sandbox::machine::{Issued, Refusal};
use crate::sandbox::options::SandboxUser;

/// Whose manners the sandbox has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// OAuth 2.0 and OpenID Connect as the standards write them.
    #[default]
    Plain,
}

impl Role {
    pub(super) fn manner(self) -> &'static dyn Manner {
        match self {
            Self::Plain => &plain::Plain,
        }
    }
}

/// What differs between providers.
pub(super) trait Manner: fmt::Debug + Send + Sync {
    /// Where the endpoints are.
    fn paths(&self) -> &'static Paths;
    /// The answer to a good token request.
    fn issued(&self, issued: &Issued, id_token: Option<&str>) -> Answer;
    /// The answer to a bad token or revocation request.
    fn refused(&self, refusal: Refusal) -> Answer;
    /// The answer to a good revocation request.
    fn revoked(&self) -> Answer;
    /// Whose account a token opens.
    fn account(&self, user: &SandboxUser) -> Answer;
    /// The answer to a dead token; `sent` says whether there was one at all.
    fn dead_token(&self, sent: bool) -> Answer;
    /// What stands at the discovery addresses; `None` if the provider has none.
    fn metadata(&self, issuer: &str, facts: &MetadataFacts) -> Option<Value>;
}

/// Where the endpoints are.
#[derive(Debug)]
pub(super) struct Paths {
    /// Authorization endpoint.
    pub(super) authorize: &'static str,
    /// Where the consent form goes.
    pub(super) consent: &'static str,
    /// Token endpoint.
    pub(super) token: &'static str,
    /// Revocation endpoint.
    pub(super) revoke: &'static str,
    /// Userinfo endpoint.
    pub(super) userinfo: &'static str,
    /// An API that wants a token.
    pub(super) api: &'static str,
    /// The key set.
    pub(super) jwks: &'static str,
    /// Discovery documents.
    pub(super) metadata: &'static [&'static str],
}

/// What the metadata tells about switches.
#[derive(Debug)]
pub(super) struct MetadataFacts {
    /// The scopes that exist, if they are limited.
    pub(super) scopes: Option<Vec<String>>,
    /// Whether callbacks carry `iss`.
    pub(super) iss_on_callback: bool,
}

impl Paths {
    /// Which endpoint, as far as faults go, is at this path.
    pub(super) fn endpoint(&self, path: &str) -> Option<Endpoint> {
        let places = [
            (self.authorize, Endpoint::Authorize),
            (self.consent, Endpoint::Authorize),
            (self.token, Endpoint::Token),
            (self.revoke, Endpoint::Revoke),
            (self.userinfo, Endpoint::Userinfo),
            (self.api, Endpoint::Userinfo),
            (self.jwks, Endpoint::Jwks),
        ];
        places.into_iter().find(|(place, _)| *place == path).map(|(_, endpoint)| endpoint)
    }
}
