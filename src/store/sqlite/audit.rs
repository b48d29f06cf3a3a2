//! The audit log in SQL: one row for each entry, one for each day that has ended, and one for its head.

use async_trait::async_trait;
use rusqlite::{Connection as Sqlite, Row, params};

use crate::store::StoreError;
use crate::store::audit::{Addition, AuditLog, Checkpoint, Hash, Head, Link, Position};
use crate::store::sqlite::{SqliteStore, number, rows};

type Done<T> = Result<T, StoreError>;

#[async_trait]
impl AuditLog for SqliteStore {
    async fn audit_head(&self) -> Done<Option<Head>> {
        self.read(head).await
    }

    async fn audit_add(&self, addition: &Addition) -> Done<bool> {
        let addition = addition.clone();
        self.write(move |db| add(db, &addition)).await
    }

    async fn audit_after(&self, seq: u64, limit: usize) -> Done<Vec<Link>> {
        self.read(move |db| after(db, seq, limit)).await
    }

    async fn audit_checkpoints(&self) -> Done<Vec<Checkpoint>> {
        self.read(checkpoints).await
    }

    async fn audit_prune(&self, head: &Head) -> Done<bool> {
        let head = head.clone();
        self.write(move |db| prune(db, &head)).await
    }
}

fn head(db: &Sqlite) -> Done<Option<Head>> {
    let mut statement = db.prepare_cached("SELECT base_seq, base_hash, base_at, seq, hash, at, mac FROM audit_head")?;
    let mut found = statement.query([])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some(Head {
        base: position(row, ["base_seq", "base_hash", "base_at"])?,
        tip: position(row, ["seq", "hash", "at"])?,
        mac: hash(row, "mac")?,
    }))
}

fn add(db: &Sqlite, addition: &Addition) -> Done<bool> {
    if head(db)?.map_or(0, |head| head.tip.seq) != addition.after {
        return Ok(false);
    }
    // What somebody has put behind the end is in nobody's way.
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO audit (seq, hash, entry) VALUES (?1, ?2, ?3)")?;
    for link in &addition.links {
        insert.execute(params![number(link.seq)?, link.hash, link.text])?;
    }
    let mut insert =
        db.prepare_cached("INSERT OR REPLACE INTO audit_checkpoints (seq, hash, at, mac) VALUES (?1, ?2, ?3, ?4)")?;
    for Checkpoint { position, mac } in &addition.checkpoints {
        insert.execute(params![number(position.seq)?, position.hash, position.at.as_millis(), mac])?;
    }
    put_head(db, &addition.head)?;
    Ok(true)
}

fn put_head(db: &Sqlite, Head { base, tip, mac }: &Head) -> Done<()> {
    db.prepare_cached(
        "INSERT INTO audit_head (one, base_seq, base_hash, base_at, seq, hash, at, mac)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (one) DO UPDATE SET base_seq = ?1, base_hash = ?2, base_at = ?3, seq = ?4, hash = ?5, at = ?6, mac = ?7",
    )?
    .execute(params![
        number(base.seq)?,
        base.hash,
        base.at.as_millis(),
        number(tip.seq)?,
        tip.hash,
        tip.at.as_millis(),
        mac
    ])?;
    Ok(())
}

fn after(db: &Sqlite, seq: u64, limit: usize) -> Done<Vec<Link>> {
    let (seq, limit) = (i64::try_from(seq).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let mut statement = db.prepare_cached("SELECT seq, hash, entry FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let mut found = statement.query([seq, limit])?;
    let mut links = Vec::new();
    while let Some(row) = found.next()? {
        links.push(Link { seq: rows::count(row, "seq")?, hash: hash(row, "hash")?, text: rows::value(row, "entry")? });
    }
    Ok(links)
}

fn checkpoints(db: &Sqlite) -> Done<Vec<Checkpoint>> {
    let mut statement = db.prepare_cached("SELECT seq, hash, at, mac FROM audit_checkpoints ORDER BY seq")?;
    let mut found = statement.query([])?;
    let mut checkpoints = Vec::new();
    while let Some(row) = found.next()? {
        checkpoints.push(Checkpoint { position: position(row, ["seq", "hash", "at"])?, mac: hash(row, "mac")? });
    }
    Ok(checkpoints)
}

fn prune(db: &Sqlite, new: &Head) -> Done<bool> {
    let Some(head) = head(db)? else { return Ok(false) };
    if head.tip != new.tip {
        return Ok(false);
    }
    let base = number(new.base.seq)?;
    db.prepare_cached("DELETE FROM audit WHERE seq <= ?1")?.execute([base])?;
    db.prepare_cached("DELETE FROM audit_checkpoints WHERE seq < ?1")?.execute([base])?;
    put_head(db, new)?;
    Ok(true)
}

fn position(row: &Row<'_>, [seq, digest, at]: [&str; 3]) -> Done<Position> {
    Ok(Position { seq: rows::count(row, seq)?, hash: hash(row, digest)?, at: rows::time(row, at)? })
}

/// A hash that somebody has cut short is none that any entry has.
fn hash(row: &Row<'_>, column: &str) -> Done<Hash> {
    let bytes: Vec<u8> = rows::value(row, column)?;
    Ok(bytes.try_into().unwrap_or_default())
}
