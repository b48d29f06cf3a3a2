//! Device flows in SQL: what a session is gone on with until the person has decided.

use rusqlite::{Connection as Sqlite, named_params, params};

use crate::model::id::ConnectId;
use crate::model::session::{ConnectSession, Progress};
use crate::store::StoreError;
use crate::store::records::{DeviceAnswer, DeviceOpening};
use crate::store::sqlite::{readable, rows, sessions};

type Done<T> = Result<T, StoreError>;

pub(super) fn put(db: &Sqlite, session: &ConnectSession, opening: &DeviceOpening) -> Done<()> {
    sessions::put(db, session, &Progress::Opened)?;
    db.prepare_cached(
        "INSERT INTO device_openings (session, code, browser, token_endpoint, interval, expires_at)
         VALUES (:session, :code, :browser, :token_endpoint, :interval, :expires_at)",
    )?
    .execute(named_params! {
        ":session": session.id.as_str(),
        ":code": opening.code.as_bytes(),
        ":browser": opening.browser,
        ":token_endpoint": opening.token_endpoint,
        ":interval": i64::try_from(opening.interval.as_millis()).unwrap_or(i64::MAX),
        ":expires_at": opening.expires_at.as_millis(),
    })?;
    Ok(())
}

pub(super) fn opening(db: &Sqlite, id: &ConnectId) -> Done<Option<DeviceOpening>> {
    let mut statement = db.prepare_cached("SELECT * FROM device_openings WHERE session = ?1")?;
    let mut found = statement.query([id.as_str()])?;
    found.next()?.map(rows::device_opening).transpose()
}

pub(super) fn keep_answer(db: &Sqlite, id: &ConnectId, answer: &DeviceAnswer) -> Done<bool> {
    let kept = db
        .prepare_cached("UPDATE device_openings SET answer = ?2, answer_sent_at = ?3 WHERE session = ?1")?
        .execute(params![id.as_str(), answer.body.as_bytes(), answer.sent_at.as_millis()])?;
    Ok(kept > 0)
}

pub(super) fn all(db: &Sqlite) -> Done<Vec<(ConnectSession, DeviceOpening)>> {
    let mut statement = db.prepare_cached("SELECT session FROM device_openings ORDER BY expires_at, session")?;
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let Some(id) = readable(rows::text::<ConnectId>(row, "session")) else { continue };
        let Some(session) = readable(sessions::session(db, &id)) else { continue };
        let Some(opening) = readable(opening(db, &id)) else { continue };
        all.extend(session.zip(opening));
    }
    Ok(all)
}

pub(super) fn drop_opening(db: &Sqlite, id: &ConnectId) -> Done<()> {
    db.prepare_cached("DELETE FROM device_openings WHERE session = ?1")?.execute([id.as_str()])?;
    Ok(())
}
