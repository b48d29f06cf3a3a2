//! Connections in SQL: confirmed, listed, revoked.

use rusqlite::{Connection as Sqlite, Params, named_params, params};

use crate::model::connection::{Connection, State};
use crate::model::id::{ConnectionId, Epoch, ProviderId, SlotName};
use crate::model::label::Label;
use crate::model::subject::Subject;
use crate::model::time::Timestamp;
use crate::store::records::{Confirmed, ConfirmedConnection, Extent, Named, Naming, StoredConnection, Unfinished};
use crate::store::sqlite::{grants, number, readable, rows, sessions};
use crate::store::{StoreError, rules};

type Done<T> = Result<T, StoreError>;

pub(super) fn confirm(db: &Sqlite, confirmed: &ConfirmedConnection, now: Timestamp) -> Done<Confirmed> {
    let connection = &confirmed.connection;
    if !sessions::is_waiting(db, &confirmed.session, now)? {
        return Ok(Confirmed::NotWaiting);
    }
    let written = match confirmed.replaces {
        None => insert(db, connection)?,
        Some(epoch) => update(db, connection, epoch)?,
    };
    if !written {
        return Ok(Confirmed::Stale);
    }
    grants::forget(db, &connection.id)?;
    for (slot, content) in &confirmed.grants {
        grants::insert(db, connection, slot, confirmed.version(), content)?;
    }
    sessions::complete(db, &confirmed.session, connection, now)?;
    Ok(Confirmed::Yes)
}

pub(super) fn stored(db: &Sqlite, id: &ConnectionId) -> Done<Option<StoredConnection>> {
    only(db, id)?.map(|connection| with_grants(db, connection)).transpose()
}

/// The connection without its grants.
pub(super) fn only(db: &Sqlite, id: &ConnectionId) -> Done<Option<Connection>> {
    let mut statement = db.prepare_cached("SELECT * FROM connections WHERE id = ?1")?;
    let mut found = statement.query([id.as_str()])?;
    found.next()?.map(rows::connection).transpose()
}

pub(super) fn at(db: &Sqlite, subject: &Subject, provider: &ProviderId) -> Done<Vec<StoredConnection>> {
    all(
        db,
        "SELECT * FROM connections WHERE tenant = ?1 AND user = ?2 AND provider = ?3 AND state <> 'revoked'
         ORDER BY created_at, id",
        [subject.tenant.as_str(), subject.user.as_str(), provider.as_str()],
    )
}

pub(super) fn of(db: &Sqlite, subject: &Subject) -> Done<Vec<StoredConnection>> {
    all(
        db,
        "SELECT * FROM connections WHERE tenant = ?1 AND user = ?2 AND state <> 'revoked'
         ORDER BY provider, created_at, id",
        [subject.tenant.as_str(), subject.user.as_str()],
    )
}

/// Rows that make no sense are reported and left out, so that one of them hides no other.
pub(super) fn page(db: &Sqlite, after: Option<&ConnectionId>, limit: usize) -> Done<Vec<StoredConnection>> {
    let mut statement =
        db.prepare_cached("SELECT * FROM connections WHERE id > ?1 AND state <> 'revoked' ORDER BY id")?;
    let mut found = statement.query([after.map_or("", |id| id.as_str())])?;
    let mut page = Vec::new();
    while page.len() < limit {
        let Some(row) = found.next()? else { break };
        page.extend(readable(rows::connection(row).and_then(|it| with_grants(db, it))));
    }
    Ok(page)
}

pub(super) fn unfinished_revocations(db: &Sqlite) -> Done<Vec<Unfinished>> {
    let mut statement = db.prepare_cached("SELECT * FROM connections WHERE revoking > 0 ORDER BY id")?;
    let mut found = statement.query([])?;
    let mut unfinished = Vec::new();
    while let Some(row) = found.next()? {
        let extent = rows::extent(row);
        let ended = rows::connection(row).and_then(|it| with_grants(db, it));
        unfinished.extend(readable(extent.and_then(|extent| Ok(Unfinished { ended: ended?, extent }))));
    }
    Ok(unfinished)
}

pub(super) fn name(db: &Sqlite, id: &ConnectionId, naming: &Naming) -> Done<Named> {
    let Some(mut connection) = only(db, id)?.filter(|found| found.state != State::Revoked) else {
        return Ok(Named::Gone);
    };
    if let Some(label) = &naming.label {
        let others = of(db, &connection.subject)?;
        let others = others.iter().map(|stored| &stored.connection);
        if label.as_ref().is_some_and(|label| rules::is_taken(label, &connection, others)) {
            return Ok(Named::Taken);
        }
        connection.label.clone_from(label);
    }
    connection.is_default = naming.is_default.unwrap_or(connection.is_default);
    if connection.is_default {
        let Connection { subject, provider, .. } = &connection;
        db.prepare_cached(
            "UPDATE connections SET is_default = 0 WHERE tenant = ?1 AND user = ?2 AND provider = ?3 AND is_default = 1",
        )?
        .execute([subject.tenant.as_str(), subject.user.as_str(), provider.as_str()])?;
    }
    db.prepare_cached("UPDATE connections SET label = ?2, is_default = ?3 WHERE id = ?1")?.execute(params![
        id.as_str(),
        connection.label.as_ref().map(Label::as_str),
        connection.is_default
    ])?;
    Ok(Named::Yes(Box::new(connection)))
}

pub(super) fn revoke(db: &Sqlite, id: &ConnectionId, extent: Extent) -> Done<Option<StoredConnection>> {
    let revoking = match extent {
        Extent::Alone => 1,
        Extent::Wider => 2,
    };
    let revoked = db
        .prepare_cached(
            "UPDATE connections
             SET state = 'revoked', reason = NULL, epoch = epoch + 1, label = NULL, is_default = 0,
                 revoking = iif(EXISTS (SELECT 1 FROM grants WHERE connection = connections.id), ?2, 0)
             WHERE id = ?1 AND state <> 'revoked'",
        )?
        .execute(params![id.as_str(), revoking])?;
    if revoked == 0 {
        return Ok(None);
    }
    grants::reschedule(db, id, &State::Revoked)?;
    stored(db, id)
}

pub(super) fn forget_grants(db: &Sqlite, id: &ConnectionId, slots: &[SlotName]) -> Done<()> {
    if only(db, id)?.is_none_or(|found| found.state != State::Revoked) {
        return Ok(());
    }
    for slot in slots {
        db.prepare_cached("DELETE FROM grants WHERE connection = ?1 AND slot = ?2")?
            .execute([id.as_str(), slot.as_str()])?;
    }
    db.prepare_cached(
        "UPDATE connections SET revoking = 0
         WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM grants WHERE connection = connections.id)",
    )?
    .execute([id.as_str()])?;
    Ok(())
}

pub(super) fn set_state(db: &Sqlite, id: &ConnectionId, state: &State) -> Done<()> {
    db.prepare_cached(
        "UPDATE connections SET state = ?2, reason = ?3, claims = iif(?2 = 'active', NULL, claims) WHERE id = ?1",
    )?
    .execute(params![id.as_str(), state.as_str(), reason(state)])?;
    Ok(())
}

/// Says whether it could: the id is new, and the subject has no other connection for this account.
fn insert(db: &Sqlite, connection: &Connection) -> Done<bool> {
    let inserted = db
        .prepare_cached(
            "INSERT INTO connections (id, tenant, user, provider, account_id, account_name, label, is_default, state, reason,
                                      epoch, grant_type, scopes, created_at, confirmed_at, given_at)
             VALUES (:id, :tenant, :user, :provider, :account_id, :account_name, :label, :is_default, :state, :reason,
                     :epoch, :grant_type, :scopes, :created_at, :confirmed_at, :given_at)
             ON CONFLICT DO NOTHING",
        )?
        .execute(named_params! {
            ":id": connection.id.as_str(),
            ":tenant": connection.subject.tenant.as_str(),
            ":user": connection.subject.user.as_str(),
            ":provider": connection.provider.as_str(),
            ":account_id": connection.account.id,
            ":account_name": connection.account.name,
            ":label": connection.label.as_ref().map(Label::as_str),
            ":is_default": connection.is_default,
            ":state": connection.state.as_str(),
            ":reason": reason(&connection.state),
            ":epoch": number(connection.epoch.0)?,
            ":grant_type": connection.grant_type.as_str(),
            ":scopes": connection.scopes.to_string(),
            ":created_at": connection.created_at.as_millis(),
            ":confirmed_at": connection.confirmed_at.as_millis(),
            ":given_at": connection.given_at.as_millis(),
        })?;
    Ok(inserted > 0)
}

/// Says whether it could: the epoch has not moved, and the subject has no other connection for the account.
fn update(db: &Sqlite, connection: &Connection, read: Epoch) -> Done<bool> {
    let updated = db
        .prepare_cached(
            "UPDATE OR IGNORE connections
             SET account_id = :account_id, account_name = :account_name, state = :state, reason = :reason,
                 epoch = :epoch, grant_type = :grant_type, scopes = :scopes, confirmed_at = :confirmed_at, given_at = :given_at, warned = NULL,
                 claims = NULL
             WHERE id = :id AND tenant = :tenant AND user = :user AND provider = :provider
               AND epoch = :read AND state <> 'revoked'",
        )?
        .execute(named_params! {
            ":account_id": connection.account.id,
            ":account_name": connection.account.name,
            ":state": connection.state.as_str(),
            ":reason": reason(&connection.state),
            ":epoch": number(connection.epoch.0)?,
            ":grant_type": connection.grant_type.as_str(),
            ":scopes": connection.scopes.to_string(),
            ":confirmed_at": connection.confirmed_at.as_millis(),
            ":given_at": connection.given_at.as_millis(),
            ":id": connection.id.as_str(),
            ":tenant": connection.subject.tenant.as_str(),
            ":user": connection.subject.user.as_str(),
            ":provider": connection.provider.as_str(),
            ":read": number(read.0)?,
        })?;
    Ok(updated > 0)
}

/// Every row has to make sense: who asks would take one that is missing for one that is not there.
fn all(db: &Sqlite, sql: &str, of: impl Params) -> Done<Vec<StoredConnection>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(of)?;
    let mut connections = Vec::new();
    while let Some(row) = found.next()? {
        connections.push(with_grants(db, rows::connection(row)?)?);
    }
    Ok(connections)
}

fn with_grants(db: &Sqlite, connection: Connection) -> Done<StoredConnection> {
    let grants = grants::of(db, &connection.id)?;
    Ok(StoredConnection { connection, grants })
}

const fn reason(state: &State) -> Option<&'static str> {
    match state {
        State::NeedsReconnect(reason) => Some(reason.as_str()),
        State::Active | State::RefreshFailed | State::Revoked => None,
    }
}
