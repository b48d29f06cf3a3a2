//! Who is asking, once that has been established.

use std::sync::Arc;

use crate::model::id::CallerName;
use crate::model::rule::Rules;
use crate::model::subject::Subject;
use crate::model::unit::Units;

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

/// Everything that the kernel tells of the process that connected. Whoever is handed the connection later goes by it too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Who it was.
    pub peer: Peer,
    /// What else can be told.
    pub process: Process,
}

/// What can be told of the process that connected, besides its credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Process {
    /// It ended, or is hidden from us: it may have been in any unit and in any group.
    Gone,
    /// It was there while it was looked at.
    Seen {
        /// Its supplementary groups.
        groups: Vec<u32>,
        /// The units that it was in.
        units: Option<Units>,
    },
    /// The kernel has no way to tell that is safe against a process id that is used again.
    Untold,
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
    /// What it may have, if it is configured; without rules it does everything with what is its subject's.
    pub rules: Option<Arc<Rules>>,
}
