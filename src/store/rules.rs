//! What the store decides before it writes, on values: every backend asks here, so that they cannot differ.

use crate::model::connection::{Connection, State};
use crate::model::id::Version;
use crate::model::label::Label;
use crate::model::time::Timestamp;
use crate::store::records::{Armed, Ends, Grant, Lease, Replaced, Replan, StoredConnection};

/// Whether the refresh token of the version that was read may be sent under this lease.
pub(super) fn arm(connection: &Connection, grant: &Grant, read: Version, lease: &Lease, now: Timestamp) -> Armed {
    if !is_serving(&connection.state) {
        return Armed::Gone;
    }
    lease_of(grant, read, lease, now)
}

/// Whether the refresh token of a connection that has ended may be sent once more, so that what comes can be revoked.
pub(super) fn arm_last(connection: &Connection, grant: &Grant, read: Version, lease: &Lease, now: Timestamp) -> Armed {
    if connection.state != State::Revoked {
        return Armed::Gone;
    }
    lease_of(grant, read, lease, now)
}

/// Whether another connection answers to the label, so that nobody could tell which one is meant.
pub(super) fn is_taken<'c>(
    label: &Label,
    connection: &Connection,
    mut others: impl Iterator<Item = &'c Connection>,
) -> bool {
    others.any(|other| {
        let is_labelled = other.provider == connection.provider && other.label.as_ref() == Some(label);
        other.id != connection.id && (is_labelled || other.account.answers_to(label.as_str()))
    })
}

fn lease_of(grant: &Grant, read: Version, lease: &Lease, now: Timestamp) -> Armed {
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

/// Makes due now what waits after a failure of this class, and counts it.
pub(super) fn retry(stored: &mut StoredConnection, class: &str, now: Timestamp) -> usize {
    let serving = is_serving(&stored.connection.state);
    let waiting = stored.grants.iter_mut().filter(|grant| {
        let waits = grant.content.renew_at.is_some_and(|at| at > now);
        serving && waits && grant.last_failure.as_deref() == Some(class)
    });
    waiting.map(|grant| grant.content.renew_at = Some(now)).count()
}

/// When the schedule is to look at a grant: at its time to be renewed, and not while a lease runs.
pub(super) fn due_at(state: &State, grant: &Grant) -> Option<Timestamp> {
    let renew_at = grant.content.renew_at.filter(|_| is_serving(state))?;
    let free_at = grant.lease.as_ref().map_or(renew_at, |lease| lease.until);
    Some(renew_at.max(free_at))
}

/// Plans a grant again that was written by a clock ahead of this one; `at` is its place among the others. Says whether there
/// was anything to change.
pub(super) fn replan(grant: &mut Grant, plan: &Replan, at: u32) -> bool {
    let spread_out = plan.now.after(plan.spread.mul_f64(f64::from(at.wrapping_mul(7919) % 1000) / 1000.0));
    let (leased_until, content) = (plan.leased_until, &mut grant.content);
    let over_leased = grant.lease.as_mut().filter(|lease| lease.until > leased_until);
    let is_unbelievable = content.issued_at > plan.believed_until;
    let is_put_off = grant.failures > 0 && content.renew_at.is_some_and(|at| at > plan.waits_until);
    let has_changed = over_leased.is_some() || is_unbelievable || is_put_off;
    if let Some(lease) = over_leased {
        lease.until = leased_until;
    }
    if is_unbelievable {
        content.issued_at = plan.now;
        content.expires_at = content.expires_at.map(|at| at.min(plan.now));
    }
    if is_unbelievable || is_put_off {
        content.renew_at = content.renew_at.map(|at| at.min(spread_out));
    }
    has_changed
}

/// Whether the renewal of the version that was read may be put off: nothing is under way, or was when a run died.
pub(super) fn can_wait(connection: &Connection, grant: &Grant, read: Version) -> bool {
    is_serving(&connection.state) && grant.version == read && grant.lease.is_none()
}

/// When a grant will need a person if nothing changes. A renewal that fails, or comes too late, does not help.
pub(super) fn needs_person_at(grant: &Grant) -> Option<Timestamp> {
    let Ends { at, unless_renewed } = grant.content.ends;
    let lapses = unless_renewed
        .filter(|lapses| grant.failures > 0 || grant.content.renew_at.is_none_or(|renew_at| renew_at >= *lapses));
    [at, lapses].into_iter().flatten().min()
}

/// Whether grants of a connection in this state are renewed.
pub(super) const fn is_serving(state: &State) -> bool {
    matches!(state, State::Active | State::RefreshFailed)
}
