//! Where in a token response each grant is found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::id::SlotName;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::rules::Match;

/// Where in a token response one grant is found.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRule {
    /// Its name; `main` where there is one.
    pub name: SlotName,
    /// Places to look, in order; the first with an access token counts.
    pub places: Vec<SlotPlace>,
}

/// One place in a token response.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SlotPlace {
    /// The place counts only if this holds.
    #[serde(default)]
    pub when: Option<Match>,
    /// The access token.
    #[serde(default = "access_token")]
    pub access: Pointer,
    /// The refresh token.
    #[serde(default = "refresh_token")]
    pub refresh: Pointer,
    /// Seconds until the access token dies.
    #[serde(default = "expires_in")]
    pub expires_in: Pointer,
    /// Seconds until the refresh token dies.
    #[serde(default = "refresh_expires_in")]
    pub refresh_expires_in: Pointer,
    /// The scopes that were given.
    #[serde(default = "scope")]
    pub scope: Pointer,
}

impl Default for SlotPlace {
    fn default() -> Self {
        Self {
            when: None,
            access: access_token(),
            refresh: refresh_token(),
            expires_in: expires_in(),
            refresh_expires_in: refresh_expires_in(),
            scope: scope(),
        }
    }
}

fn access_token() -> Pointer {
    Pointer::to_member("access_token")
}

fn refresh_token() -> Pointer {
    Pointer::to_member("refresh_token")
}

fn expires_in() -> Pointer {
    Pointer::to_member("expires_in")
}

fn refresh_expires_in() -> Pointer {
    Pointer::to_member("refresh_token_expires_in")
}

fn scope() -> Pointer {
    Pointer::to_member("scope")
}
