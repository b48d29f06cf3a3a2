//! How a client signs for itself in place of a secret (RFC 7523 section 2.2, RFC 7521 section 4.2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the assertion says, and how it is signed.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AssertionRules {
    /// Whom it is for, in `aud`: always one text.
    pub audience: Audience,
    /// How it may be signed; the first that the operator's key can do is used.
    pub algorithms: Vec<SigningAlgorithm>,
}

impl Default for AssertionRules {
    fn default() -> Self {
        Self {
            audience: Audience::TokenEndpoint,
            algorithms: vec![SigningAlgorithm::ES256, SigningAlgorithm::PS256, SigningAlgorithm::RS256],
        }
    }
}

/// Whom an assertion is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The first name in `issuer.accept`.
    Issuer,
    /// The address of the token endpoint.
    TokenEndpoint,
}

/// How an assertion is signed, by the names of RFC 7518 section 3.1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
}

impl SigningAlgorithm {
    /// The name in the header of the assertion.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::PS256 => "PS256",
            Self::RS256 => "RS256",
        }
    }
}
