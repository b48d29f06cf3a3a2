//! The installation in SQL: whose store it is, and its sealed keyring.

use rusqlite::Connection as Sqlite;

use crate::store::StoreError;
use crate::store::records::Installation;
use crate::store::sqlite::rows;

pub(super) fn install(db: &Sqlite, new: &Installation) -> Result<bool, StoreError> {
    let inserted = db.execute(
        "INSERT INTO installation (one, instance, keyring) VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING",
        rusqlite::params![new.instance.as_str(), new.keyring],
    )?;
    Ok(inserted > 0)
}

pub(super) fn installation(db: &Sqlite) -> Result<Option<Installation>, StoreError> {
    let mut statement = db.prepare_cached("SELECT instance, keyring FROM installation")?;
    let mut found = statement.query([])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some(Installation { instance: rows::text(row, "instance")?, keyring: rows::value(row, "keyring")? }))
}
