//! What the store decides before it writes, on values: every backend asks here, so that they cannot differ.

use crate::model::connection::{Connection, State};
use crate::model::id::Version;
use crate::model::time::Timestamp;
use crate::store::records::{Armed, Grant, Lease, Replaced};

/// Whether the refresh token of the version that was read may be sent under this lease.
pub(super) fn arm(connection: &Connection, grant: &Grant, read: Version, lease: &Lease, now: Timestamp) -> Armed {
    if !is_serving(&connection.state) {
        return Armed::Gone;
    }
    if grant.version != read {
        return Armed::Moved;
    }
    match &grant.lease {
        None => Armed::Yes { recovery: false },
        // One daemon has the store at a time, so the lease of another run is a dead one's, however long it was to last.
        Some(held) if held.boot != lease.boot => Armed::Yes { recovery: true },
        Some(held) if held.until > now => Armed::Held { until: held.until },
        Some(_) => Armed::Yes { recovery: true },
    }
}

/// What becomes of an answer to the refresh token of the version that was read.
pub(super) fn replace(connection: &Connection, grant: &Grant, read: Version) -> Replaced {
    if connection.state == State::Revoked || connection.epoch != read.epoch {
        return Replaced::Gone;
    }
    if grant.version != read {
        return Replaced::Stale { current: grant.version };
    }
    Replaced::Yes { version: read.next() }
}

/// When the schedule is to look at a grant: at its time to be renewed, and not while a lease runs.
pub(super) fn due_at(state: &State, grant: &Grant) -> Option<Timestamp> {
    let renew_at = grant.content.renew_at.filter(|_| is_serving(state))?;
    let free_at = grant.lease.as_ref().map_or(renew_at, |lease| lease.until);
    Some(renew_at.max(free_at))
}

/// Whether grants of a connection in this state are renewed.
pub(super) const fn is_serving(state: &State) -> bool {
    matches!(state, State::Active | State::RefreshFailed)
}
