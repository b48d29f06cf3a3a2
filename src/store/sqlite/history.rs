//! How far the database has come, in SQL and in the mark beside it; and the hold on one that may be an old copy.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection as Sqlite, params};

use crate::clock::Clock;
use crate::model::id::InstanceId;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::mark::{self, FileId, Mark, Standing};
use crate::store::records::{HELD, Hold, HoldReason};
use crate::store::sqlite::{OpenError, files, rows};

/// A store that was held counts on from here, so that no copy of any earlier time can be ahead of it.
const LEAP: u64 = 1 << 32;
/// How old the wall time of the mark may be while something is written.
const WALL_STEP: Duration = Duration::from_secs(1);

/// The mark, for whoever writes to it: after each commit, and when the clock was set.
#[derive(Clone)]
pub(super) struct SharedMark(Arc<Mutex<Mark>>);

impl SharedMark {
    pub(super) fn get(&self) -> MutexGuard<'_, Mark> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mark of an open store, and what it is to say.
pub(super) struct History {
    path: PathBuf,
    mark: SharedMark,
    file: FileId,
    clock: Arc<dyn Clock>,
    /// `None` until the store is installed; there is no mark before that.
    instance: Option<InstanceId>,
    commits: u64,
    /// A hold that is in force and not written yet: the daemon may still find that it has the wrong key, and then nothing is.
    unwritten: Option<Hold>,
    wall_before: Option<Timestamp>,
    /// Whether the last attempt to write the mark failed: it is logged once.
    failing: bool,
}

impl History {
    /// Compares the database with its mark, holds it if it may be an old copy, and makes the mark if there is none yet.
    pub(super) fn open(path: &Path, db: &Sqlite, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let failed = |source: io::Error| OpenError::Io { path: path.to_owned(), source };
        let mark = Mark::open(files::mark(path)?).map_err(failed)?;
        let file = FileId::of(&fs::metadata(path).map_err(failed)?);
        let mut history = Self {
            path: path.to_owned(),
            wall_before: mark.wall(),
            mark: SharedMark(Arc::new(Mutex::new(mark))),
            file,
            clock,
            instance: None,
            commits: commits(db)?,
            unwritten: None,
            failing: false,
        };
        let Some(instance) = instance(db)? else { return Ok(history) };
        let was_marked = is_marked(db)?;
        let standing = history.standing(instance.clone());
        let why = mark::suspicion(&standing, was_marked, history.mark.get().standing());
        match why {
            Some(why) => history.hold(db, why)?,
            None if was_marked => history.instance = Some(instance),
            None => history.establish(db, instance),
        }
        Ok(history)
    }

    /// The hold that is in force: one that was written before, or one that was found just now.
    pub(super) fn held(&self, db: &Sqlite) -> Result<Option<Hold>, StoreError> {
        Ok(self.unwritten.or(held(db)?))
    }

    /// Writes a hold that is not written yet, in the transaction of whatever is written first.
    pub(super) fn write_hold(&self, db: &Sqlite) -> Result<(), rusqlite::Error> {
        let Some(hold) = self.unwritten else { return Ok(()) };
        let commits = i64::try_from(self.commits).unwrap_or(i64::MAX);
        db.execute(
            "UPDATE history SET commits = ?1, held_before = ?2, held_at = ?3, held_why = ?4",
            params![commits, hold.before.as_millis(), hold.found_at.as_millis(), hold.why.as_str()],
        )?;
        Ok(())
    }

    /// The mark, for whoever has something to note in it.
    pub(super) fn mark(&self) -> SharedMark {
        self.mark.clone()
    }

    /// The latest time that the wall clock is known to have shown before the store was opened.
    pub(super) const fn wall_before(&self) -> Option<Timestamp> {
        self.wall_before
    }

    /// Notes a commit, which is durable. If that fails the mark stays behind, which is harmless while this file is used.
    pub(super) fn note(&mut self, db: &Sqlite, commits: u64) {
        self.unwritten = None;
        let moved = commits != self.commits;
        self.commits = commits;
        let Some(instance) = self.instance.clone() else {
            // Whatever is not an instance's name is found out by whoever unlocks the keyring.
            if let Ok(Some(instance)) = instance(db) {
                self.establish(db, instance);
            }
            return;
        };
        let standing = self.standing(instance);
        let is_recent = self.mark.get().wall().is_some_and(|wall| standing.wall.since(wall) < WALL_STEP);
        if moved || !is_recent {
            let written = self.mark.get().write(standing);
            self.report(written);
        }
    }

    /// Looks whether the file that was opened again, after an error of the disk, is still what it was.
    pub(super) fn check(&self, db: &Sqlite) -> Result<(), StoreError> {
        let file = fs::metadata(&self.path).map_err(|error| StoreError::Busy(error.to_string()))?;
        if FileId::of(&file) != self.file {
            return Err(StoreError::Damaged("the file has been replaced by another".into()));
        }
        if commits(db)? < self.commits {
            return Err(StoreError::Damaged("the file has forgotten what was committed".into()));
        }
        Ok(())
    }

    pub(super) fn close(mut self) {
        let synced = self.mark.get().end();
        self.report(synced);
    }

    /// Makes the mark durable, and only then lets the database say that it has one.
    fn establish(&mut self, db: &Sqlite, instance: InstanceId) {
        let directory = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let standing = self.standing(instance.clone());
        let mut mark = self.mark.get();
        let written = mark.write(standing).and_then(|()| mark.sync());
        drop(mark);
        let written = written.and_then(|()| File::open(directory)?.sync_all());
        let is_there = written.is_ok();
        self.report(written);
        if !is_there {
            return;
        }
        match db.execute("UPDATE history SET marked = 1 WHERE marked = 0", []) {
            Ok(_) => self.instance = Some(instance),
            // The next commit tries again.
            Err(error) => tracing::warn!(%error, "Could not note that the store has a mark"),
        }
    }

    /// Holds what was issued until now, by any clock that has a say: the one on the wall may have been set back.
    fn hold(&mut self, db: &Sqlite, why: HoldReason) -> Result<(), StoreError> {
        let now = self.clock.now();
        let newest: Option<i64> = db.query_row("SELECT max(issued_at) FROM grants", [], |row| row.get(0))?;
        let after_newest = newest.map(|at| Timestamp::from_millis(at.saturating_add(1)));
        let earlier = held(db)?.map(|hold| hold.before);
        let before = [self.mark.get().wall(), after_newest, earlier].into_iter().flatten().fold(now, Timestamp::max);
        let marked = self.mark.get().standing().map_or(0, |mark| mark.commits);
        self.commits = self.commits.max(marked).saturating_add(LEAP);
        self.unwritten = Some(Hold { before, found_at: now, why });
        Ok(())
    }

    fn standing(&self, instance: InstanceId) -> Standing {
        let now = self.clock.now();
        let wall = self.mark.get().wall().map_or(now, |seen| seen.max(now));
        Standing { instance, file: self.file, commits: self.commits, wall }
    }

    fn report(&mut self, outcome: io::Result<()>) {
        if let Err(error) = &outcome
            && !self.failing
        {
            tracing::error!(%error, "Cannot write the mark beside the database: an old copy of it would not be noticed");
        }
        self.failing = outcome.is_err();
    }
}

/// How often a grant has come, been replaced or gone; triggers count it.
pub(super) fn commits(db: &Sqlite) -> Result<u64, rusqlite::Error> {
    let commits: i64 = db.prepare_cached("SELECT commits FROM history")?.query_row([], |row| row.get(0))?;
    // Below zero only if somebody wrote it there; then it is behind every mark.
    Ok(u64::try_from(commits).unwrap_or_default())
}

fn held(db: &Sqlite) -> Result<Option<Hold>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT held_before, held_at, held_why FROM history WHERE held_before IS NOT NULL")?;
    let mut found = statement.query([])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let word: String = rows::value(row, "held_why")?;
    // A word that nobody knows is no reason to let go.
    let why = HoldReason::ALL.into_iter().find(|why| why.as_str() == word).unwrap_or(HoldReason::MarkMissing);
    let time = |column| rows::value(row, column).map(Timestamp::from_millis);
    Ok(Some(Hold { before: time("held_before")?, found_at: time("held_at")?, why }))
}

pub(super) fn release(db: &Sqlite) -> Result<bool, StoreError> {
    let released = db.execute(
        "UPDATE history SET held_before = NULL, held_at = NULL, held_why = NULL WHERE held_before IS NOT NULL",
        [],
    )?;
    // Found without an index: it happens once in the life of a store, if at all.
    db.execute(
        "UPDATE grants SET failures = 0, last_failure = NULL, renew_at = 0, due_at = iif(due_at IS NULL, NULL, 0)
         WHERE last_failure = ?1",
        [HELD],
    )?;
    Ok(released > 0)
}

fn is_marked(db: &Sqlite) -> Result<bool, StoreError> {
    Ok(db.query_row("SELECT marked FROM history", [], |row| row.get(0))?)
}

fn instance(db: &Sqlite) -> Result<Option<InstanceId>, StoreError> {
    let mut statement = db.prepare_cached("SELECT instance FROM installation")?;
    let mut found = statement.query([])?;
    found.next()?.map(|row| rows::text(row, "instance")).transpose()
}
