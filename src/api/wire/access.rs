//! The shapes of who may have what: what a caller is told of itself, and what an administrator is told of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::connection::Account;
use crate::model::id::{CallerName, ConnectionId, ProviderId, SlotName};
use crate::model::scope::ScopeSet;
use crate::model::subject::Subject;
use crate::model::unit::UnitName;

/// The answer of `GET /v1/whoami`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WhoamiBody {
    /// How the policy names the caller.
    pub caller: CallerName,
    /// For whom it acts.
    pub subject: Subject,
    /// Whether it administers.
    pub admin: bool,
    /// What the kernel says.
    pub peer: PeerBody,
    /// What it may have, rule by rule, if it is a configured caller; absent if it does everything with what is its subject's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<AllowBody>>,
}

/// The kernel's word for the other end of the socket.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerBody {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The unit of the system's manager that it connected from, if that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitName>,
    /// The unit of the user's own manager, if it can be told and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_unit: Option<UnitName>,
}

/// One rule at one provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AllowBody {
    /// Where it stands.
    pub rule: String,
    /// The provider.
    pub provider: ProviderId,
    /// Which accounts, by id or label; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Vec<String>>,
    /// Which slots, with the scopes that it goes up to; `null` for whatever is granted. Absent for all slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<BTreeMap<SlotName, Option<ScopeSet>>>,
    /// Whether a token may be handed out that is good for more.
    pub allow_broader: bool,
}

/// The answer of `GET /v1/explain`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ExplainBody {
    /// The caller.
    pub caller: CallerName,
    /// For whom it acts; absent if that depends on the user that it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The provider.
    pub provider: ProviderId,
    /// The connection that would be used, if it is clear which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Its account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// The slot that would be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotName>,
    /// What its token is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<ScopeSet>,
    /// Every rule of the caller, in order.
    pub rules: Vec<SaidBody>,
    /// Whether the policy allows it.
    pub allowed: bool,
    /// The rule that decides.
    pub rule: String,
    /// The code that the caller would be refused with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'static, str>>,
}

/// What one rule says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SaidBody {
    /// Where it stands.
    pub rule: String,
    /// `allows`, `other_provider`, `other_account`, `other_slot`, `above_ceiling` or `grant_broader`.
    pub says: Cow<'static, str>,
    /// The scopes that it goes by in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
}
