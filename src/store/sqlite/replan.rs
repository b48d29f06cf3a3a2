//! Planning again in SQL, after the wall clock was set back: each step from an index, and a portion at a time.

use rusqlite::{Connection as Sqlite, named_params};

use crate::store::StoreError;
use crate::store::records::Replan;

/// How many grants one step changes at once, so that the others who write wait for no more than that.
const PORTION: i64 = 500;

/// A moment after now that differs from grant to grant.
const SPREAD_OUT: &str = "(:now + (rowid % 1000003) * 7919 % :spread)";

/// The steps, in order. What a step has changed it does not find again.
pub(super) fn steps() -> [String; 3] {
    let renew_at = format!("min(renew_at, {SPREAD_OUT})");
    let due_at = |renew_at: &str| format!("min(due_at, max({renew_at}, coalesce(lease_until, 0)))");
    [
        format!(
            "UPDATE grants SET lease_until = :leased_until, due_at = min(due_at, max(renew_at, :leased_until))
             WHERE rowid IN (SELECT rowid FROM grants WHERE lease_until > :leased_until LIMIT {PORTION})"
        ),
        format!(
            "UPDATE grants
             SET issued_at = :now, expires_at = min(expires_at, :now), renew_at = {renew_at}, due_at = {}
             WHERE rowid IN (SELECT rowid FROM grants WHERE issued_at > :believed_until LIMIT {PORTION})",
            due_at(&renew_at)
        ),
        format!(
            "UPDATE grants SET renew_at = {renew_at}, due_at = {}
             WHERE rowid IN (SELECT rowid FROM grants WHERE failures > 0 AND renew_at > :waits_until LIMIT {PORTION})",
            due_at(&renew_at)
        ),
    ]
}

pub(super) fn replan(db: &Sqlite, plan: &Replan) -> Result<usize, StoreError> {
    let spread = i64::try_from(plan.spread.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut changed = 0;
    for (at, step) in steps().iter().enumerate() {
        let mut statement = db.prepare_cached(step)?;
        changed += match at {
            0 => statement.execute(named_params! { ":leased_until": plan.leased_until.as_millis() })?,
            1 => statement.execute(named_params! {
                ":now": plan.now.as_millis(), ":spread": spread, ":believed_until": plan.believed_until.as_millis(),
            })?,
            _ => statement.execute(named_params! {
                ":now": plan.now.as_millis(), ":spread": spread, ":waits_until": plan.waits_until.as_millis(),
            })?,
        };
    }
    Ok(changed)
}
