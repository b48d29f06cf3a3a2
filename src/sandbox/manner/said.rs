//! An error before it is written down: its code, and what a script adds to it.

use http::StatusCode;
use serde_json::{Map, Value};

/// An error as a provider calls it.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Said {
    /// The provider's code.
    pub(in crate::sandbox) code: String,
    /// The same in words.
    pub(in crate::sandbox) description: String,
    /// The status, if it is not the one that the provider always gives to this code.
    pub(in crate::sandbox) status: Option<StatusCode>,
    /// Further members of the body.
    pub(in crate::sandbox) more: Map<String, Value>,
}

impl Said {
    /// A code and its words.
    pub(in crate::sandbox) fn of(code: &str, description: &str) -> Self {
        Self { code: code.to_owned(), description: description.to_owned(), status: None, more: Map::new() }
    }

    /// The same with a status.
    pub(in crate::sandbox) fn with(status: u16, code: &str, description: &str) -> Self {
        Self { status: StatusCode::from_u16(status).ok(), ..Self::of(code, description) }
    }

    /// The status, or the one that the provider gives.
    pub(in crate::sandbox) fn status_or(&self, usual: u16) -> StatusCode {
        self.status.or_else(|| StatusCode::from_u16(usual).ok()).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// The body with the further members.
    pub(in crate::sandbox) fn members(&self, mut body: Value) -> Value {
        if let Value::Object(members) = &mut body {
            members.extend(self.more.clone());
        }
        body
    }
}
