//! Who is asking, once that has been established.

use crate::model::id::CallerName;
use crate::model::subject::Subject;

/// The kernel's word for who is at the other end of a Unix socket, taken when the connection was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id: a hint for people and never a reason to allow anything, because it can be reused.
    pub pid: Option<i32>,
}

/// The MCP server, person or tool that asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// How the policy, the pages and the audit trail name it.
    pub name: CallerName,
    /// For whom it acts.
    pub subject: Subject,
    /// Whether it administers: sees the metadata of every connection, and is given nobody's token for it.
    pub admin: bool,
    /// The other end of the socket, for the audit trail; `None` where there is none.
    pub peer: Option<Peer>,
}
