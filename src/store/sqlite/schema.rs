//! How a connection to the file is set up, and how an older file becomes a current one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::store::sqlite::OpenError;

/// What changes a database of version n into one of version n + 1. They are never edited once released.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// The current version.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// `grnt`: tells our file from any other.
const APPLICATION_ID: i64 = 0x6772_6e74;

/// How long another process may hold the file before we give up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A file up to this size is checked whenever it is opened, in bytes. That reads all of it, and after a reboot a hundred
/// megabytes take about a second; an installation must be back in two. In a larger file a damaged page is found when it is read.
const CHECKED_UP_TO: u64 = 64 << 20;

const SETTINGS: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA secure_delete = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -8192;
    PRAGMA journal_size_limit = 16777216;
";

/// The connection that writes; there is one. The file is checked and brought up to date first.
pub(super) fn connect_writer(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let found = version(&connection, path)?;
    check(&connection, path)?;
    connection.execute_batch("PRAGMA journal_mode = WAL")?;
    migrate(&mut connection, found)?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> Result<Connection, OpenError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    Ok(connection)
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection, OpenError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(SETTINGS)?;
    Ok(connection)
}

/// The version of the file; nothing has been written to it yet.
fn version(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let is_new = application == 0 && objects == 0 && version == 0;
    if application != APPLICATION_ID && !is_new {
        return Err(OpenError::Refused { path: path.to_owned(), reason: "is the database of another program".into() });
    }
    match usize::try_from(version) {
        Ok(found) if found <= VERSION => Ok(found),
        _ => Err(OpenError::Newer { found: version, known: VERSION }),
    }
}

fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let size = fs::metadata(path).map_or(0, |file| file.len());
    if size > CHECKED_UP_TO {
        return Ok(());
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::Damaged(verdict)) }
}

fn migrate(connection: &mut Connection, found: usize) -> Result<(), OpenError> {
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let step = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        step.execute_batch(migration)?;
        step.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {};", at + 1))?;
        step.commit()?;
    }
    Ok(())
}
