//! Grants in SQL: what is due, leases, and compare-and-set on the version.

use rusqlite::{Connection as Sqlite, named_params, params};

use crate::model::connection::{Connection, State};
use crate::model::id::{ConnectionId, ProviderId, SlotName, Version};
use crate::model::time::Timestamp;
use crate::store::records::{Armed, Failure, Grant, GrantKey, Lease, NewGrant, Replaced};
use crate::store::sqlite::{connections, number, readable, rows};
use crate::store::{StoreError, rules};

type Done<T> = Result<T, StoreError>;

pub(super) fn of(db: &Sqlite, connection: &ConnectionId) -> Done<Vec<Grant>> {
    let mut statement = db.prepare_cached("SELECT * FROM grants WHERE connection = ?1 ORDER BY slot")?;
    let mut found = statement.query([connection.as_str()])?;
    let mut grants = Vec::new();
    while let Some(row) = found.next()? {
        grants.push(rows::grant(row)?);
    }
    Ok(grants)
}

pub(super) fn grant(db: &Sqlite, key: &GrantKey) -> Done<Option<(Connection, Grant)>> {
    let Some(connection) = connections::only(db, &key.connection)? else {
        return Ok(None);
    };
    let mut statement = db.prepare_cached("SELECT * FROM grants WHERE connection = ?1 AND slot = ?2")?;
    let mut found = statement.query([key.connection.as_str(), key.slot.as_str()])?;
    let grant = found.next()?.map(rows::grant).transpose()?;
    Ok(grant.map(|grant| (connection, grant)))
}

/// The statement behind [`due`], which has to be answered from the index alone.
pub(super) const DUE: &str = "SELECT connection, slot FROM grants WHERE provider = ?1 AND due_at <= ?2 ORDER BY due_at, connection, slot LIMIT ?3";

pub(super) fn due(db: &Sqlite, provider: &ProviderId, now: Timestamp, limit: usize) -> Done<Vec<GrantKey>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(DUE)?;
    let mut found = statement.query(params![provider.as_str(), now.as_millis(), limit])?;
    let mut due = Vec::new();
    while let Some(row) = found.next()? {
        let connection = rows::text(row, "connection");
        due.extend(readable(
            connection.and_then(|connection| Ok(GrantKey { connection, slot: rows::text(row, "slot")? })),
        ));
    }
    Ok(due)
}

pub(super) fn next_due(db: &Sqlite, provider: &ProviderId) -> Done<Option<Timestamp>> {
    let next: Option<i64> = db
        .prepare_cached("SELECT min(due_at) FROM grants WHERE provider = ?1 AND due_at IS NOT NULL")?
        .query_row([provider.as_str()], |row| row.get(0))?;
    Ok(next.map(Timestamp::from_millis))
}

/// The statement behind [`serving`], which stops counting at the limit.
pub(super) const SERVING: &str =
    "SELECT count(*) FROM (SELECT 1 FROM grants WHERE provider = ?1 AND due_at IS NOT NULL LIMIT ?2)";

pub(super) fn serving(db: &Sqlite, provider: &ProviderId, limit: usize) -> Done<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let count: i64 = db.prepare_cached(SERVING)?.query_row(params![provider.as_str(), limit], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(super) fn arm(db: &Sqlite, key: &GrantKey, read: Version, lease: &Lease, now: Timestamp) -> Done<Armed> {
    failpoint!("control.no_lease", Ok(Armed::Yes { recovery: false }));
    failpoint!("store.arm.before", Err(StoreError::Busy("failpoint".into())));
    let Some((connection, grant)) = grant(db, key)? else {
        return Ok(Armed::Gone);
    };
    let armed = rules::arm(&connection, &grant, read, lease, now);
    if matches!(armed, Armed::Yes { .. }) {
        take_lease(db, key, lease)?;
        reschedule(db, &key.connection, &connection.state)?;
    }
    failpoint!("store.arm.after", Err(StoreError::Busy("failpoint".into())));
    Ok(armed)
}

/// As [`arm`], for what is to be revoked.
pub(super) fn arm_last(db: &Sqlite, key: &GrantKey, read: Version, lease: &Lease, now: Timestamp) -> Done<Armed> {
    let Some((connection, grant)) = grant(db, key)? else {
        return Ok(Armed::Gone);
    };
    let armed = rules::arm_last(&connection, &grant, read, lease, now);
    if matches!(armed, Armed::Yes { .. }) {
        take_lease(db, key, lease)?;
    }
    Ok(armed)
}

pub(super) fn disarm_last(db: &Sqlite, key: &GrantKey, read: Version) -> Done<()> {
    db.prepare_cached(
        "UPDATE grants SET lease_boot = NULL, lease_until = NULL
         WHERE connection = ?1 AND slot = ?2 AND epoch = ?3 AND generation = ?4
           AND (SELECT state FROM connections WHERE id = connection) = 'revoked'",
    )?
    .execute(params![
        key.connection.as_str(),
        key.slot.as_str(),
        number(read.epoch.0)?,
        number(read.generation.0)?
    ])?;
    Ok(())
}

fn take_lease(db: &Sqlite, key: &GrantKey, lease: &Lease) -> Done<()> {
    db.prepare_cached("UPDATE grants SET lease_boot = ?3, lease_until = ?4 WHERE connection = ?1 AND slot = ?2")?
        .execute(params![key.connection.as_str(), key.slot.as_str(), lease.boot.as_str(), lease.until.as_millis()])?;
    Ok(())
}

pub(super) fn replace(db: &Sqlite, key: &GrantKey, read: Version, new: &NewGrant) -> Done<Replaced> {
    failpoint!("control.drop_writes", Ok(Replaced::Yes { version: read.next() }));
    failpoint!("store.replace.before", Err(StoreError::Busy("failpoint".into())));
    let Some((connection, grant)) = grant(db, key)? else {
        return Ok(Replaced::Gone);
    };
    let replaced = rules::replace(&connection, &grant, read);
    if let Replaced::Yes { version } = replaced {
        db.prepare_cached(
            "UPDATE grants
             SET generation = :generation, token_id = :token_id, access = :access, refresh = :refresh, scopes = :scopes,
                 issued_at = :issued_at, expires_at = :expires_at, refresh_expires_at = :refresh_expires_at,
                 renew_at = :renew_at, ends_at = :ends_at, lapses_at = :lapses_at, lease_boot = NULL, lease_until = NULL,
                 failures = 0, last_failure = NULL, failure_number = NULL, uncertain = 0, rejections = 0
             WHERE connection = :connection AND slot = :slot",
        )?
        .execute(named_params! {
            ":generation": number(version.generation.0)?,
            ":token_id": new.token_id.as_str(),
            ":access": new.access.as_bytes(),
            ":refresh": new.refresh.as_ref().map(|sealed| sealed.as_bytes()),
            ":scopes": new.scopes.to_string(),
            ":issued_at": new.issued_at.as_millis(),
            ":expires_at": new.expires_at.map(Timestamp::as_millis),
            ":refresh_expires_at": new.refresh_expires_at.map(Timestamp::as_millis),
            ":renew_at": new.renew_at.map(Timestamp::as_millis),
            ":ends_at": new.ends.at.map(Timestamp::as_millis),
            ":lapses_at": new.ends.unless_renewed.map(Timestamp::as_millis),
            ":connection": key.connection.as_str(),
            ":slot": key.slot.as_str(),
        })?;
        if connection.state != State::Active {
            connections::set_state(db, &key.connection, &State::Active)?;
        }
        reschedule(db, &key.connection, &State::Active)?;
    }
    failpoint!("store.replace.after", Err(StoreError::Busy("failpoint".into())));
    Ok(replaced)
}

pub(super) fn record_failure(db: &Sqlite, key: &GrantKey, read: Version, failure: &Failure) -> Done<bool> {
    failpoint!("store.failure.before", Err(StoreError::Busy("failpoint".into())));
    let Some((connection, grant)) = grant(db, key)? else {
        return Ok(false);
    };
    if !matches!(rules::replace(&connection, &grant, read), Replaced::Yes { .. }) {
        return Ok(false);
    }
    db.prepare_cached(
        "UPDATE grants
         SET lease_boot = NULL, lease_until = NULL, failures = ?3, last_failure = ?4, renew_at = ?5, uncertain = ?6,
             rejections = ?7, failure_number = ?8
         WHERE connection = ?1 AND slot = ?2",
    )?
    .execute(params![
        key.connection.as_str(),
        key.slot.as_str(),
        grant.failures.saturating_add(1),
        failure.class,
        failure.retry_at.map(Timestamp::as_millis),
        failure.uncertain,
        failure.rejections,
        failure.number,
    ])?;
    connections::set_state(db, &key.connection, &failure.state)?;
    reschedule(db, &key.connection, &failure.state)?;
    failpoint!("store.failure.after", Err(StoreError::Busy("failpoint".into())));
    Ok(true)
}

pub(super) fn insert(
    db: &Sqlite,
    connection: &Connection,
    slot: &SlotName,
    version: Version,
    content: &NewGrant,
) -> Done<()> {
    let grant = Grant::new(slot.clone(), version, content.clone());
    db.prepare_cached(
        "INSERT INTO grants (connection, slot, provider, epoch, generation, token_id, access, refresh, scopes, issued_at, expires_at,
                             refresh_expires_at, renew_at, ends_at, lapses_at, due_at)
         VALUES (:connection, :slot, :provider, :epoch, :generation, :token_id, :access, :refresh, :scopes, :issued_at, :expires_at,
                 :refresh_expires_at, :renew_at, :ends_at, :lapses_at, :due_at)",
    )?
    .execute(named_params! {
        ":connection": connection.id.as_str(),
        ":slot": slot.as_str(),
        ":provider": connection.provider.as_str(),
        ":epoch": number(version.epoch.0)?,
        ":generation": number(version.generation.0)?,
        ":token_id": content.token_id.as_str(),
        ":access": content.access.as_bytes(),
        ":refresh": content.refresh.as_ref().map(|sealed| sealed.as_bytes()),
        ":scopes": content.scopes.to_string(),
        ":issued_at": content.issued_at.as_millis(),
        ":expires_at": content.expires_at.map(Timestamp::as_millis),
        ":refresh_expires_at": content.refresh_expires_at.map(Timestamp::as_millis),
        ":renew_at": content.renew_at.map(Timestamp::as_millis),
        ":ends_at": content.ends.at.map(Timestamp::as_millis),
        ":lapses_at": content.ends.unless_renewed.map(Timestamp::as_millis),
        ":due_at": rules::due_at(&connection.state, &grant).map(Timestamp::as_millis),
    })?;
    Ok(())
}

pub(super) fn forget(db: &Sqlite, connection: &ConnectionId) -> Done<()> {
    db.prepare_cached("DELETE FROM grants WHERE connection = ?1")?.execute([connection.as_str()])?;
    Ok(())
}

/// Brings `due_at` in line with the connection's state and each grant's lease: [`rules::due_at`] in SQL, for all slots of a
/// connection at once.
pub(super) fn reschedule(db: &Sqlite, connection: &ConnectionId, state: &State) -> Done<()> {
    db.prepare_cached(
        "UPDATE grants SET due_at = iif(?2, max(renew_at, coalesce(lease_until, renew_at)), NULL) WHERE connection = ?1",
    )?
    .execute(params![connection.as_str(), rules::is_serving(state)])?;
    Ok(())
}

/// Brings forward what waits after a failure of this class.
pub(super) fn retry(db: &Sqlite, provider: &ProviderId, class: &str, now: Timestamp) -> Done<usize> {
    Ok(db.prepare_cached(RETRY)?.execute(params![provider.as_str(), class, now.as_millis()])?)
}

/// The statement behind [`retry`].
pub(super) const RETRY: &str = "UPDATE grants SET renew_at = ?3, due_at = max(?3, coalesce(lease_until, ?3))
    WHERE provider = ?1 AND due_at IS NOT NULL AND renew_at > ?3 AND last_failure = ?2";

/// Makes every grant due at once whose lease was left behind: whoever opens the store is the only one who has it, so the
/// run that took the lease is dead, and what it sent may have been spent.
pub(super) fn recover(db: &Sqlite) -> Done<()> {
    db.execute(RECOVER, [])?;
    Ok(())
}

/// The statement behind [`recover`]; opening a large store must not read all of it.
pub(super) const RECOVER: &str = "UPDATE grants SET due_at = 0
    WHERE lease_until IS NOT NULL
      AND (SELECT state FROM connections WHERE id = connection) IN ('active', 'refresh_failed')";
