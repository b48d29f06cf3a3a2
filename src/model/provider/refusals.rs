//! What a provider's error answers hold besides the code: the numbers it gives them, and how its answers are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the body of an answer is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// JSON, or as a form where its content type says so: the provider, or one of its hosts, ignores `Accept`.
    Auto,
    /// JSON (RFC 6749 section 5.1).
    #[default]
    Json,
}

/// What some of a provider's own error numbers mean, in our words. It explains a refusal and never sorts it: providers
/// change their numbers.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hint {
    /// The numbers.
    pub number: Vec<u32>,
    /// One sentence for the operator: what it means, and what to do.
    pub sentence: String,
}
