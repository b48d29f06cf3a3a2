//! The high-water mark beside the database: how far it had come, so that an old copy of it is known for what it is.
//!
//! A copy that is brought back holds refresh tokens that were spent since. Sent again they look stolen, and a provider that
//! guards against that ends the whole family. So the database counts what happens to its grants, and the file beside it
//! remembers the count.
//!
//! No end of the process or the machine raises a false alarm. The mark is written after the commit that it tells of, and that
//! commit was synced before it returned. Whatever part of the mark reaches the disk, the database that it tells of is there
//! already: the mark can only be behind. After a SIGKILL both are as they were last written. After a power cut the mark may be
//! torn or a minute old; a torn slot leaves the other one, which is older still. The database says that it has a mark only
//! after the mark and its name in the directory have been synced, so one that never came to be is not missed.
//!
//! How far the clock was set back is here too and not in the database: a copy from before that has the times of another
//! clock, and could not know it.
//!
//! A whole directory that is copied back brings an old mark with an old database. Then the database is another file than the
//! one that the mark was written for: another inode, or one that was born at another time, as numbers are used again. What
//! nothing here can notice is a machine that is rolled back with its disk, or both files overwritten in place.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::{Duration, Instant, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use crate::model::id::{InstanceId, NAME_MAX};
use crate::model::time::Timestamp;
use crate::store::records::{HoldReason, Setback};

/// Begins every slot, with the format in its last byte.
const MAGIC: &[u8; 8] = b"grntmrk\x01";
/// Far enough apart that no write of a sector or a page touches both slots.
const SLOTS: [u64; 2] = [0, 4096];
const NUMBERS: usize = 7;
const SUM_AT: usize = MAGIC.len() + 8 * NUMBERS + NAME_MAX;
const SLOT_LEN: usize = SUM_AT + 32;
/// How much of the mark a power cut may cost at most, unless nothing is written at all.
const SYNC_EVERY: Duration = Duration::from_secs(60);

/// Which file the database is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileId {
    inode: u64,
    /// In nanoseconds since the Unix epoch; 0 where the file system does not tell.
    born: i64,
}

impl FileId {
    /// The file that this is about.
    #[must_use]
    pub fn of(file: &Metadata) -> Self {
        let born = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or_default();
        Self { inode: file.ino(), born }
    }

    /// Whether it is the same file, as far as can be told.
    const fn is(self, other: Self) -> bool {
        let same_birth = self.born == 0 || other.born == 0 || self.born == other.born;
        self.inode == other.inode && same_birth
    }
}

/// What the mark says, and what a database is compared with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Whose database.
    pub instance: InstanceId,
    /// Which file it is.
    pub file: FileId,
    /// How often a grant has come, been replaced or gone.
    pub commits: u64,
    /// The latest time that the wall clock has shown since it was last known to have been set back.
    pub wall: Timestamp,
}

/// The file, open.
#[derive(Debug)]
pub struct Mark {
    file: File,
    sequence: u64,
    standing: Option<Standing>,
    setback: Option<Setback>,
    synced: Instant,
    /// Whether the store was closed: the file may be another daemon's by now.
    ended: bool,
}

impl Mark {
    /// Reads the mark. One that is new or damaged says nothing.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(file: File) -> io::Result<Self> {
        let mut newest = None;
        for at in SLOTS {
            let mut slot = [0; SLOT_LEN];
            match file.read_exact_at(&mut slot, at) {
                Ok(()) => newest = newest.max_by_sequence(decode(&slot)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        let synced = Instant::now();
        let Some(Slot { sequence, standing, setback }) = newest else {
            return Ok(Self { file, sequence: 0, standing: None, setback: None, synced, ended: false });
        };
        Ok(Self { file, sequence, standing: Some(standing), setback, synced, ended: false })
    }

    /// What it says.
    #[must_use]
    pub const fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// The latest time that the wall clock is known to have shown.
    #[must_use]
    pub fn wall(&self) -> Option<Timestamp> {
        self.standing.as_ref().map(|standing| standing.wall)
    }

    /// How far the clock is known to have been set back.
    #[must_use]
    pub const fn setback(&self) -> Option<Setback> {
        self.setback
    }

    /// Notes how far the clock has been set back, durably. From `now` on the wall is compared with the clock as it is. A mark
    /// that says nothing yet goes on saying nothing, and says this with the rest.
    ///
    /// # Errors
    /// If it cannot be written, which is made good with whatever is written next, or once the store is closed.
    pub fn note_setback(&mut self, setback: Option<Setback>, now: Timestamp) -> io::Result<()> {
        if self.ended {
            return Err(io::Error::other("the store is closed"));
        }
        self.setback = setback;
        let Some(standing) = &self.standing else { return Ok(()) };
        self.write(Standing { wall: now, ..standing.clone() })?;
        self.sync()
    }

    /// Writes what stands now, into the slot that is not the newest. Syncs about once a minute.
    ///
    /// # Errors
    /// If it cannot be written. The other slot is whole.
    pub fn write(&mut self, standing: Standing) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let slot = Slot { sequence, standing, setback: self.setback };
        self.file.write_all_at(&encode(&slot), SLOTS[usize::from(sequence % 2 == 1)])?;
        (self.sequence, self.standing) = (sequence, Some(slot.standing));
        if self.synced.elapsed() >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// Makes what was written durable, and takes nothing more.
    ///
    /// # Errors
    /// If it is not durable.
    pub fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        self.sync()
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// If that fails.
    pub fn sync(&mut self) -> io::Result<()> {
        // Also after an error: the next attempt is due in a minute and not at every commit.
        self.synced = Instant::now();
        self.file.sync_all()
    }
}

/// What is wrong with a database that stands like this, going by its mark. `was_marked` is what the database says.
#[must_use]
pub fn suspicion(database: &Standing, was_marked: bool, mark: Option<&Standing>) -> Option<HoldReason> {
    let Some(mark) = mark else {
        return was_marked.then_some(HoldReason::MarkMissing);
    };
    if mark.instance != database.instance {
        return Some(HoldReason::OtherInstance);
    }
    if database.commits < mark.commits {
        return Some(HoldReason::Older);
    }
    (!mark.file.is(database.file)).then_some(HoldReason::OtherFile)
}

/// What one of the two places says.
struct Slot {
    sequence: u64,
    standing: Standing,
    setback: Option<Setback>,
}

trait BySequence {
    fn max_by_sequence(self, other: Self) -> Self;
}

impl BySequence for Option<Slot> {
    fn max_by_sequence(self, other: Self) -> Self {
        match (&self, &other) {
            (Some(one), Some(another)) if one.sequence < another.sequence => other,
            (Some(_), _) => self,
            (None, _) => other,
        }
    }
}

fn encode(slot: &Slot) -> [u8; SLOT_LEN] {
    let Slot { sequence, standing: Standing { instance, file, commits, wall }, setback } = slot;
    // Nobody sets a clock back by no time.
    let (until, by) = setback.map_or((0, 0), |setback| (setback.until.as_millis(), millis(setback.by)));
    let numbers: [[u8; 8]; NUMBERS] = [
        sequence.to_be_bytes(),
        commits.to_be_bytes(),
        wall.as_millis().to_be_bytes(),
        file.inode.to_be_bytes(),
        file.born.to_be_bytes(),
        until.to_be_bytes(),
        by.to_be_bytes(),
    ];
    let mut slot = [0; SLOT_LEN];
    let text = MAGIC.len() + numbers.as_flattened().len();
    slot[..MAGIC.len()].copy_from_slice(MAGIC);
    slot[MAGIC.len()..text].copy_from_slice(numbers.as_flattened());
    slot[text..text + instance.as_str().len()].copy_from_slice(instance.as_str().as_bytes());
    let sum = Sha256::digest(&slot[..SUM_AT]);
    slot[SUM_AT..].copy_from_slice(&sum);
    slot
}

fn decode(slot: &[u8; SLOT_LEN]) -> Option<Slot> {
    let (body, sum) = slot.split_at(SUM_AT);
    if Sha256::digest(body)[..] != *sum {
        return None;
    }
    let rest = body.strip_prefix(MAGIC)?;
    let (numbers, text) = rest.split_at(8 * NUMBERS);
    let (numbers, _) = numbers.as_chunks::<8>();
    let &[sequence, commits, wall, inode, born, until, by] = numbers else { return None };
    let instance = std::str::from_utf8(text).ok()?.trim_end_matches('\0').parse().ok()?;
    let standing = Standing {
        instance,
        file: FileId { inode: u64::from_be_bytes(inode), born: i64::from_be_bytes(born) },
        commits: u64::from_be_bytes(commits),
        wall: Timestamp::from_millis(i64::from_be_bytes(wall)),
    };
    let (until, by) = (Timestamp::from_millis(i64::from_be_bytes(until)), u64::from_be_bytes(by));
    let setback = (by > 0).then_some(Setback { until, by: Duration::from_millis(by) });
    Some(Slot { sequence: u64::from_be_bytes(sequence), standing, setback })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(commits: u64) -> Standing {
        Standing {
            instance: "gi_one".parse().unwrap(),
            file: FileId { inode: 7, born: 70 },
            commits,
            wall: Timestamp::from_secs(1_800_000_000),
        }
    }

    fn reopened(file: &File) -> Option<Standing> {
        Mark::open(file.try_clone().unwrap()).unwrap().standing
    }

    #[test]
    fn what_was_written_last_is_read() {
        let file = tempfile::tempfile().unwrap();
        let mut mark = Mark::open(file.try_clone().unwrap()).unwrap();
        assert_eq!(mark.standing(), None);
        for commits in 1..6 {
            mark.write(standing(commits)).unwrap();
            assert_eq!(reopened(&file), Some(standing(commits)));
        }
        let mut again = Mark::open(file.try_clone().unwrap()).unwrap();
        again.write(standing(9)).unwrap();
        assert_eq!(reopened(&file), Some(standing(9)), "a later run goes on where the last one was");
    }

    #[test]
    fn a_setback_is_written_with_everything_until_it_is_made_good() {
        let file = tempfile::tempfile().unwrap();
        let open = || Mark::open(file.try_clone().unwrap()).unwrap();
        let setback =
            Some(Setback { until: Timestamp::from_secs(1_799_000_000), by: Duration::from_millis(3_600_001) });
        let now = Timestamp::from_secs(1_799_000_001);
        let mut mark = open();
        mark.note_setback(setback, now).unwrap();
        assert_eq!(
            (mark.setback(), open().setback()),
            (setback, None),
            "nothing is written before there is a standing"
        );
        mark.write(standing(1)).unwrap();
        assert_eq!((open().setback(), open().wall()), (setback, Some(standing(1).wall)));
        mark.note_setback(setback, now).unwrap();
        assert_eq!(
            (open().setback(), open().wall()),
            (setback, Some(now)),
            "and the wall is that of the clock as it is"
        );
        let mut mark = open();
        mark.write(standing(2)).unwrap();
        assert_eq!((open().setback(), open().standing), (setback, Some(standing(2))));
        mark.note_setback(None, now).unwrap();
        assert_eq!(open().setback(), None);
        mark.end().unwrap();
        mark.note_setback(setback, now).unwrap_err();
        assert_eq!(open().setback(), None, "it may be another's by now");
    }

    /// Wherever the write of a slot is cut off, and whatever the rest of it is then.
    #[test]
    fn a_torn_write_costs_one_step_and_never_both() {
        let file = tempfile::tempfile().unwrap();
        let mut mark = Mark::open(file.try_clone().unwrap()).unwrap();
        (1..=4).for_each(|commits| mark.write(standing(commits)).unwrap());
        let whole = encode(&Slot { sequence: 5, standing: standing(5), setback: None });
        for cut in 0..SLOT_LEN {
            for rest in [0x00, 0xff] {
                let mut torn = [rest; SLOT_LEN];
                torn[..cut].copy_from_slice(&whole[..cut]);
                file.write_all_at(&torn, SLOTS[1]).unwrap();
                let found = reopened(&file).unwrap().commits;
                assert!(found == 4 || (torn == whole && found == 5), "cut at {cut}: {found}");
            }
        }
        file.write_all_at(&[0xff; SLOT_LEN], SLOTS[0]).unwrap();
        file.write_all_at(&[0xff; SLOT_LEN], SLOTS[1]).unwrap();
        assert_eq!(reopened(&file), None, "damaged counts as missing");
    }

    #[test]
    fn a_database_is_suspect_only_if_it_is_not_what_was_marked() {
        let changed = |change: fn(&mut Standing)| {
            let mut mark = standing(10);
            change(&mut mark);
            Some(mark)
        };
        for (mark, was_marked, expected) in [
            (changed(|_| {}), true, None),
            (changed(|mark| mark.commits = 9), true, None),
            (changed(|mark| mark.file.born = 0), true, None),
            (changed(|_| {}), false, None),
            (None, false, None),
            (None, true, Some(HoldReason::MarkMissing)),
            (changed(|mark| mark.commits = 11), true, Some(HoldReason::Older)),
            (changed(|mark| mark.commits = 11), false, Some(HoldReason::Older)),
            (changed(|mark| mark.file.inode = 8), true, Some(HoldReason::OtherFile)),
            (changed(|mark| mark.file.born = 71), true, Some(HoldReason::OtherFile)),
            (changed(|mark| mark.instance = "gi_two".parse().unwrap()), true, Some(HoldReason::OtherInstance)),
        ] {
            assert_eq!(suspicion(&standing(10), was_marked, mark.as_ref()), expected, "{mark:?} {was_marked}");
        }
    }

    #[test]
    fn a_copy_of_a_file_is_another_file() {
        let home = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| home.path().join(name));
        std::fs::write(&one, "x").unwrap();
        std::fs::copy(&one, &other).unwrap();
        let id = |path: &std::path::Path| FileId::of(&std::fs::metadata(path).unwrap());
        let before = id(&one);
        std::fs::write(&one, "longer").unwrap();
        assert!(before.is(id(&one)), "writing changes nothing");
        std::fs::rename(&other, &one).unwrap();
        assert!(!before.is(id(&one)));
    }
}
