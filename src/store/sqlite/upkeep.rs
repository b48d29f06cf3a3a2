//! Upkeep in SQL: when connections were last used, what is put off, and what will need a person.

use rusqlite::{Connection as Sqlite, params};

use crate::model::id::{ConnectionId, ProviderId, Version};
use crate::model::time::Timestamp;
use crate::store::records::{Ending, GrantKey};
use crate::store::sqlite::{grants, readable, rows};
use crate::store::{StoreError, rules};

type Done<T> = Result<T, StoreError>;

pub(super) fn note_used(db: &Sqlite, used: &[(ConnectionId, Timestamp)]) -> Done<()> {
    let mut statement =
        db.prepare_cached("UPDATE connections SET used_at = max(?2, coalesce(used_at, ?2)) WHERE id = ?1")?;
    for (id, at) in used {
        statement.execute(params![id.as_str(), at.as_millis()])?;
    }
    Ok(())
}

pub(super) fn postpone(db: &Sqlite, key: &GrantKey, read: Version, renew_at: Timestamp) -> Done<bool> {
    let Some((connection, grant)) = grants::grant(db, key)? else {
        return Ok(false);
    };
    if !rules::can_wait(&connection, &grant, read) {
        return Ok(false);
    }
    db.prepare_cached("UPDATE grants SET renew_at = ?3 WHERE connection = ?1 AND slot = ?2")?.execute(params![
        key.connection.as_str(),
        key.slot.as_str(),
        renew_at.as_millis()
    ])?;
    grants::reschedule(db, &key.connection, &connection.state)?;
    Ok(true)
}

/// The statement behind [`ending`], which has to walk the index from where the last page ended.
pub(super) const ENDING: &str = "
    SELECT connection, slot, needs_person_at AS at, warned FROM grants JOIN connections ON connections.id = connection
    WHERE (needs_person_at, connection, slot) > (?1, ?2, ?3) AND needs_person_at <= ?4
      AND state IN ('active', 'refresh_failed')
    ORDER BY needs_person_at, connection, slot LIMIT ?5";

pub(super) fn ending(db: &Sqlite, before: Timestamp, after: Option<&Ending>, limit: usize) -> Done<Vec<Ending>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (at, connection, slot) = after
        .map_or((i64::MIN, "", ""), |last| (last.at.as_millis(), last.key.connection.as_str(), last.key.slot.as_str()));
    let mut statement = db.prepare_cached(ENDING)?;
    let mut found = statement.query(params![at, connection, slot, before.as_millis(), limit])?;
    let mut ending = Vec::new();
    while let Some(row) = found.next()? {
        let key = || -> Done<_> {
            Ok(GrantKey { connection: rows::text(row, "connection")?, slot: rows::text(row, "slot")? })
        };
        ending.extend(readable(key().and_then(|key| {
            Ok(Ending { at: rows::time(row, "at")?, key, warned: rows::optional_time(row, "warned")? })
        })));
    }
    Ok(ending)
}

pub(super) fn note_warned(db: &Sqlite, warned: &[(ConnectionId, Timestamp)]) -> Done<()> {
    let mut statement = db.prepare_cached("UPDATE connections SET warned = ?2 WHERE id = ?1")?;
    for (id, due) in warned {
        statement.execute(params![id.as_str(), due.as_millis()])?;
    }
    Ok(())
}

/// The statement behind [`count_needing_person`]. Left to itself, SQLite reads all grants in the order that DISTINCT likes.
pub(super) const NEEDING_PERSON: &str = "
    SELECT (SELECT count(*) FROM connections WHERE state = 'needs_reconnect')
         + (SELECT count(DISTINCT connection) FROM grants INDEXED BY grants_ending JOIN connections ON connections.id = connection
            WHERE needs_person_at <= ?1 AND state IN ('active', 'refresh_failed'))";

pub(super) fn count_needing_person(db: &Sqlite, before: Timestamp) -> Done<usize> {
    let count: i64 = db.prepare_cached(NEEDING_PERSON)?.query_row([before.as_millis()], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(super) fn count_due(db: &Sqlite, provider: &ProviderId, now: Timestamp) -> Done<usize> {
    let count: i64 = db
        .prepare_cached("SELECT count(*) FROM grants WHERE provider = ?1 AND due_at <= ?2")?
        .query_row(rusqlite::params![provider.as_str(), now.as_millis()], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}
