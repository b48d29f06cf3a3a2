//! Connect sessions in SQL: from the link to the end, with what the callback is checked against and what awaits a person.

use rusqlite::{Connection as Sqlite, named_params, params};

use crate::model::connection::Connection;
use crate::model::id::ConnectId;
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::records::{Opening, Pending, PendingGrant};
use crate::store::sqlite::{devices, rows};

type Done<T> = Result<T, StoreError>;

pub(super) fn put(db: &Sqlite, session: &ConnectSession, progress: &Progress) -> Done<()> {
    db.prepare_cached(
        "INSERT INTO sessions (id, tenant, user, caller, purpose, provider, scopes, reconnect, grant_type, user_code, progress,
                               created_at, expires_at)
         VALUES (:id, :tenant, :user, :caller, :purpose, :provider, :scopes, :reconnect, :grant_type, :user_code, :progress,
                 :created_at, :expires_at)",
    )?
    .execute(named_params! {
        ":id": session.id.as_str(),
        ":tenant": session.subject.tenant.as_str(),
        ":user": session.subject.user.as_str(),
        ":caller": session.caller.as_str(),
        ":purpose": session.purpose,
        ":provider": session.provider.as_str(),
        ":scopes": session.scopes.to_string(),
        ":reconnect": session.reconnect.as_ref().map(|id| id.as_str()),
        ":grant_type": session.grant_type.as_str(),
        ":user_code": session.user_code,
        ":progress": progress.as_str(),
        ":created_at": session.created_at.as_millis(),
        ":expires_at": session.expires_at.as_millis(),
    })?;
    Ok(())
}

pub(super) fn session(db: &Sqlite, id: &ConnectId) -> Done<Option<ConnectSession>> {
    let mut statement = db.prepare_cached("SELECT * FROM sessions WHERE id = ?1")?;
    let mut found = statement.query([id.as_str()])?;
    found.next()?.map(rows::session).transpose()
}

pub(super) fn same(db: &Sqlite, like: &ConnectSession, now: Timestamp) -> Done<Option<ConnectSession>> {
    let mut statement = db.prepare_cached(
        "SELECT * FROM sessions
         WHERE ended_at IS NULL AND tenant = :tenant AND user = :user AND expires_at > :now
           AND progress <> 'awaiting_confirmation' AND caller = :caller AND provider = :provider AND scopes = :scopes AND reconnect IS :reconnect
           AND NOT EXISTS (SELECT 1 FROM device_openings WHERE session = sessions.id)
         ORDER BY created_at DESC, id LIMIT 1",
    )?;
    let mut found = statement.query(named_params! {
        ":tenant": like.subject.tenant.as_str(),
        ":user": like.subject.user.as_str(),
        ":now": now.as_millis(),
        ":caller": like.caller.as_str(),
        ":provider": like.provider.as_str(),
        ":scopes": like.scopes.to_string(),
        ":reconnect": like.reconnect.as_ref().map(|id| id.as_str()),
    })?;
    found.next()?.map(rows::session).transpose()
}

pub(super) fn count_open(db: &Sqlite, subject: &Subject, now: Timestamp) -> Done<usize> {
    let count: i64 = db
        .prepare_cached(
            "SELECT count(*) FROM sessions WHERE ended_at IS NULL AND tenant = ?1 AND user = ?2 AND expires_at > ?3",
        )?
        .query_row(params![subject.tenant.as_str(), subject.user.as_str(), now.as_millis()], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(super) fn open(db: &Sqlite, id: &ConnectId, opening: &Opening, now: Timestamp) -> Done<bool> {
    let moved = db
        .prepare_cached(
            "UPDATE sessions SET progress = 'opened'
             WHERE id = ?1 AND progress IN ('pending', 'opened') AND expires_at > ?2
               AND NOT EXISTS (SELECT 1 FROM device_openings WHERE session = ?1)",
        )?
        .execute(params![id.as_str(), now.as_millis()])?;
    if moved == 0 {
        return Ok(false);
    }
    drop_opening(db, id)?;
    db.prepare_cached(
        "INSERT INTO openings (session, state, browser, verifier, nonce, redirect_uri, token_endpoint)
         VALUES (:session, :state, :browser, :verifier, :nonce, :redirect_uri, :token_endpoint)",
    )?
    .execute(named_params! {
        ":session": id.as_str(),
        ":state": opening.state,
        ":browser": opening.browser,
        ":verifier": opening.verifier.as_ref().map(|sealed| sealed.as_bytes()),
        ":nonce": opening.nonce,
        ":redirect_uri": opening.redirect_uri,
        ":token_endpoint": opening.token_endpoint,
    })?;
    Ok(true)
}

pub(super) fn opening(db: &Sqlite, id: &ConnectId) -> Done<Option<Opening>> {
    let mut statement = db.prepare_cached("SELECT * FROM openings WHERE session = ?1")?;
    let mut found = statement.query([id.as_str()])?;
    found.next()?.map(rows::opening).transpose()
}

pub(super) fn take_opening(db: &Sqlite, state: &[u8; 32]) -> Done<Option<(ConnectSession, Opening)>> {
    let (id, opening) = {
        let mut statement = db.prepare_cached("SELECT * FROM openings WHERE state = ?1")?;
        let mut found = statement.query([state])?;
        let Some(row) = found.next()? else { return Ok(None) };
        (rows::text::<ConnectId>(row, "session")?, rows::opening(row)?)
    };
    drop_opening(db, &id)?;
    Ok(session(db, &id)?.map(|session| (session, opening)))
}

pub(super) fn await_confirmation(db: &Sqlite, id: &ConnectId, pending: &Pending, now: Timestamp) -> Done<bool> {
    let moved = db
        .prepare_cached(
            "UPDATE sessions SET progress = 'awaiting_confirmation', account_id = :account_id,
                                 account_name = :account_name, granted = :granted, browser = :browser
             WHERE id = :id AND progress = 'opened' AND expires_at > :now",
        )?
        .execute(named_params! {
            ":account_id": pending.account.id,
            ":account_name": pending.account.name,
            ":granted": pending.granted.to_string(),
            ":browser": pending.browser,
            ":id": id.as_str(),
            ":now": now.as_millis(),
        })?;
    if moved == 0 {
        return Ok(false);
    }
    drop_opening(db, id)?;
    devices::drop_opening(db, id)?;
    pending.grants.iter().try_for_each(|grant| put_pending_grant(db, id, grant, false))?;
    Ok(true)
}

pub(super) fn pending(db: &Sqlite, id: &ConnectId) -> Done<Option<Pending>> {
    let mut statement =
        db.prepare_cached("SELECT * FROM sessions WHERE id = ?1 AND progress = 'awaiting_confirmation'")?;
    let mut found = statement.query([id.as_str()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let Progress::AwaitingConfirmation { account, granted } = rows::session(row)?.progress else {
        return Ok(None);
    };
    Ok(Some(Pending { account, granted, browser: rows::value(row, "browser")?, grants: pending_grants(db, id, HELD)? }))
}

pub(super) fn fail(
    db: &Sqlite,
    id: &ConnectId,
    failure: ConnectFailure,
    now: Timestamp,
) -> Done<Option<Option<Pending>>> {
    let held = pending(db, id)?;
    let ended = db
        .prepare_cached(
            "UPDATE sessions SET progress = ?2, account_id = NULL, account_name = NULL, granted = NULL, browser = NULL,
                                 ended_at = ?3
             WHERE id = ?1 AND ended_at IS NULL",
        )?
        .execute(params![id.as_str(), failure.as_str(), now.as_millis()])?;
    if ended == 0 {
        return Ok(None);
    }
    drop_opening(db, id)?;
    devices::drop_opening(db, id)?;
    Ok(Some(held))
}

pub(super) fn keep_unwanted(db: &Sqlite, id: &ConnectId, grants: &[PendingGrant]) -> Done<()> {
    grants.iter().try_for_each(|grant| put_pending_grant(db, id, grant, true))
}

pub(super) fn forget_pending(db: &Sqlite, id: &ConnectId, grants: &[PendingGrant]) -> Done<()> {
    for grant in grants {
        db.prepare_cached(
            "DELETE FROM pending_grants WHERE session = ?1 AND slot = ?2 AND access = ?3
               AND (unwanted = 1 OR (SELECT ended_at FROM sessions WHERE id = session) IS NOT NULL)",
        )?
        .execute(params![id.as_str(), grant.slot.as_str(), grant.access.as_bytes()])?;
    }
    Ok(())
}

pub(super) fn unreturned(db: &Sqlite) -> Done<Vec<(ConnectSession, Vec<PendingGrant>)>> {
    let mut statement = db.prepare_cached(
        "SELECT * FROM sessions
         WHERE id IN (SELECT session FROM pending_grants WHERE unwanted = 1)
            OR (id IN (SELECT session FROM pending_grants) AND ended_at IS NOT NULL)
         ORDER BY id",
    )?;
    let mut found = statement.query([])?;
    let mut unreturned = Vec::new();
    while let Some(row) = found.next()? {
        let read = rows::session(row).and_then(|session| Ok((pending_grants(db, &session.id, UNRETURNED)?, session)));
        unreturned.extend(super::readable(read).map(|(grants, session)| (session, grants)));
    }
    Ok(unreturned)
}

/// Whether a person may still confirm it.
pub(super) fn is_waiting(db: &Sqlite, id: &ConnectId, now: Timestamp) -> Done<bool> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM sessions WHERE id = ?1 AND progress = 'awaiting_confirmation' AND expires_at > ?2",
    )?;
    Ok(statement.exists(params![id.as_str(), now.as_millis()])?)
}

pub(super) fn complete(db: &Sqlite, id: &ConnectId, connection: &Connection, now: Timestamp) -> Done<()> {
    db.prepare_cached(
        "UPDATE sessions SET progress = 'completed', connection = :connection, account_id = :account_id,
                             account_name = :account_name, granted = NULL, browser = NULL, ended_at = :now
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":connection": connection.id.as_str(),
        ":account_id": connection.account.id,
        ":account_name": connection.account.name,
        ":now": now.as_millis(),
        ":id": id.as_str(),
    })?;
    wipe(db, id)
}

pub(super) fn overdue(db: &Sqlite, now: Timestamp) -> Done<Vec<ConnectId>> {
    let mut statement = db.prepare_cached(
        "SELECT id FROM sessions WHERE ended_at IS NULL AND expires_at <= ?1 ORDER BY expires_at, id",
    )?;
    let mut found = statement.query([now.as_millis()])?;
    let mut overdue = Vec::new();
    while let Some(row) = found.next()? {
        overdue.extend(super::readable(rows::text(row, "id")));
    }
    Ok(overdue)
}

pub(super) fn prune(db: &Sqlite, before: Timestamp) -> Done<usize> {
    let pruned = db
        .prepare_cached(
            "DELETE FROM sessions WHERE ended_at IS NOT NULL AND ended_at < ?1
               AND NOT EXISTS (SELECT 1 FROM pending_grants WHERE session = sessions.id)",
        )?
        .execute([before.as_millis()])?;
    Ok(pruned)
}

fn put_pending_grant(db: &Sqlite, id: &ConnectId, grant: &PendingGrant, unwanted: bool) -> Done<()> {
    db.prepare_cached(
        "INSERT INTO pending_grants (session, slot, access, refresh, scopes, issued_at, expires_at, refresh_expires_at,
                                     unwanted)
         VALUES (:session, :slot, :access, :refresh, :scopes, :issued_at, :expires_at, :refresh_expires_at, :unwanted)",
    )?
    .execute(named_params! {
        ":session": id.as_str(),
        ":slot": grant.slot.as_str(),
        ":access": grant.access.as_bytes(),
        ":refresh": grant.refresh.as_ref().map(|sealed| sealed.as_bytes()),
        ":scopes": grant.scopes.to_string(),
        ":issued_at": grant.issued_at.as_millis(),
        ":expires_at": grant.expires_at.map(Timestamp::as_millis),
        ":refresh_expires_at": grant.refresh_expires_at.map(Timestamp::as_millis),
        ":unwanted": unwanted,
    })?;
    Ok(())
}

/// What a session holds for a person to confirm.
const HELD: &str = "SELECT * FROM pending_grants WHERE session = ?1 AND unwanted = 0 ORDER BY slot";
/// What a session has to give back: all that it holds if it has ended without a connection.
const UNRETURNED: &str = "SELECT * FROM pending_grants WHERE session = ?1
    AND (unwanted = 1 OR (SELECT ended_at FROM sessions WHERE id = session) IS NOT NULL) ORDER BY slot";

fn pending_grants(db: &Sqlite, id: &ConnectId, which: &str) -> Done<Vec<PendingGrant>> {
    let mut statement = db.prepare_cached(which)?;
    let mut found = statement.query([id.as_str()])?;
    let mut grants = Vec::new();
    while let Some(row) = found.next()? {
        grants.push(rows::pending_grant(row)?);
    }
    Ok(grants)
}

/// What an ended session has no more use for.
fn wipe(db: &Sqlite, id: &ConnectId) -> Done<()> {
    drop_opening(db, id)?;
    devices::drop_opening(db, id)?;
    db.prepare_cached("DELETE FROM pending_grants WHERE session = ?1 AND unwanted = 0")?.execute([id.as_str()])?;
    Ok(())
}

fn drop_opening(db: &Sqlite, id: &ConnectId) -> Done<()> {
    db.prepare_cached("DELETE FROM openings WHERE session = ?1")?.execute([id.as_str()])?;
    Ok(())
}
