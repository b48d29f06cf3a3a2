//! What the audit log looks like on the socket.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::model::audit::Entry;

/// The answer of `GET /v1/audit`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuditBody {
    /// Oldest first.
    pub entries: Vec<AuditEntryBody>,
    /// Where to go on, as `after`.
    pub next: u64,
    /// Whether there is more to look at now.
    pub more: bool,
}

/// One entry of the audit log. Its times are milliseconds, as they were written and hashed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuditEntryBody {
    /// The entry.
    pub entry: Entry<'static>,
    /// The hash of it and everything before it, in hexadecimal digits.
    pub hash: String,
}

/// The answer of `GET /v1/audit/verify`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuditVerdictBody {
    /// Whether everything is as it was written.
    pub intact: bool,
    /// What is wrong first: `changed`, `missing`, `truncated`, `added`, `checkpoint`, `head`; or `intact`.
    pub finding: Cow<'static, str>,
    /// The first entry that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// The first entry that is kept.
    pub first: u64,
    /// The last one that is as it was written, with everything before it.
    pub last: u64,
    /// Its hash, in hexadecimal digits: whoever wrote it down elsewhere can compare.
    pub hash: String,
    /// How many ends of days are signed.
    pub checkpoints: usize,
}
