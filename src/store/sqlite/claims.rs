//! Claims challenges in SQL: one column of a connection, forgotten when it serves again.

use rusqlite::{Connection as Sqlite, OptionalExtension as _, params};

use crate::model::claims::Claims;
use crate::model::id::ConnectionId;
use crate::store::StoreError;

type Done<T> = Result<T, StoreError>;

pub(super) fn keep(db: &Sqlite, id: &ConnectionId, claims: &Claims) -> Done<()> {
    db.prepare_cached("UPDATE connections SET claims = ?2 WHERE id = ?1")?
        .execute(params![id.as_str(), claims.as_str()])?;
    Ok(())
}

pub(super) fn kept(db: &Sqlite, id: &ConnectionId) -> Done<Option<Claims>> {
    let text: Option<Option<String>> = db
        .prepare_cached("SELECT claims FROM connections WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    Ok(text.flatten().and_then(|text| Claims::new(&text)))
}
