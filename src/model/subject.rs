//! Whose account it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::id::{TenantId, UserId};

/// The person or service that connections belong to. It is never an argument of a request: it comes from the peer's
/// uid, from a rule, or from a verified JWT.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Subject {
    /// The tenant, `local` on a machine of one's own.
    pub tenant: TenantId,
    /// The user within the tenant.
    pub user: UserId,
}

impl Subject {
    /// The subject that the kernel knows by this uid.
    #[must_use]
    pub fn from_uid(uid: u32) -> Self {
        Self { tenant: TenantId::local(), user: UserId::from_uid(uid) }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.user)
    }
}
