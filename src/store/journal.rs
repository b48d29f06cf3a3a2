//! The journal beside the database: what the audit log is to hold and the store does not yet, written before anybody is answered.
//!
//! A record is one `write(2)`, which the kernel keeps also when the process is killed; it is synced about once a second. There
//! are two files. New records go to one, while the store takes what the other has; then they change places. A record has a
//! number, so that the store takes it once however often it is offered. A line that a power cut has torn has a sum that does
//! not fit, and is left out: nobody was answered on it, or the sync that was to come is what the cut has cost.
//!
//! Only whoever has the lock of the store uses the files.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::model::audit::Entry;
use crate::model::time::Timestamp;

/// What the names of the two files end in.
pub const SUFFIXES: [&str; 2] = [".audit-a", ".audit-b"];

/// The longest record, in bytes: two hundred times what one takes.
const RECORD_MAX: usize = 64 * 1024;
/// How much room each file has on the disk before anything is written to it, in bytes: some three hundred records, so that what
/// lives goes on being handed out for a while after the disk has become full.
const ROOM: u64 = 128 * 1024;
/// How much is read at once, in bytes.
const CHUNK: usize = 256 * 1024;
/// The hexadecimal digits of the sum, and the space behind them.
const SUM_LEN: usize = 17;

/// A record that the store has not taken yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub at: Timestamp,
    /// The entry, to the byte as it was written.
    pub text: String,
}

/// Part of what a file has.
#[derive(Debug, Default)]
pub struct Part {
    /// The records, in order.
    pub records: Vec<Record>,
    /// Where the next part begins; `None` if this was the last.
    pub next: Option<u64>,
}

/// The two files, open.
#[derive(Debug)]
pub struct Journal {
    files: [File; 2],
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Which file takes new records.
    active: usize,
    /// How long each is, in whole records.
    lengths: [u64; 2],
    /// The number of the next record.
    next: u64,
    /// Where a record is made, again and again.
    line: Vec<u8>,
    /// Part of a record that could not be written may stand at the end of the file.
    torn: bool,
    /// Something was written since the last sync.
    unsynced: bool,
}

impl Journal {
    /// Opens the files beside the database, and makes them if they are not there, readable by nobody else.
    ///
    /// # Errors
    /// If one is a link, not a regular file or somebody else's, or the operating system refuses.
    pub fn open(database: &Path) -> io::Result<Self> {
        let open = |suffix| open_private(&beside(database, suffix));
        let files = [open(SUFFIXES[0])?, open(SUFFIXES[1])?];
        let (mut lengths, mut seen) = ([0; 2], [(0, 0); 2]);
        for (file, (length, seen)) in files.iter().zip(lengths.iter_mut().zip(&mut seen)) {
            (*length, *seen) = tidy(file)?;
            keep_room(file);
        }
        // The file that was begun later takes what comes; the other one is moved first.
        let active = usize::from(seen[1].0 > seen[0].0);
        let next = seen[0].1.max(seen[1].1) + 1;
        let state = State { active, lengths, next, line: Vec::with_capacity(1024), torn: false, unsynced: false };
        Ok(Self { files, state: Mutex::new(state) })
    }

    /// Goes on behind this number, if it is not behind it already.
    pub fn begin_after(&self, seq: u64) {
        let mut state = self.state();
        state.next = state.next.max(seq.saturating_add(1));
    }

    /// Writes a record. When this returns it survives the end of the process, whatever that is.
    ///
    /// # Errors
    /// If it cannot be written. Then nothing of it is there.
    pub fn append(&self, entry: &mut Entry<'_>, now: Timestamp) -> io::Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        (entry.seq, entry.at) = (state.next, now);
        encode(&mut state.line, entry)?;
        let mut file = &self.files[state.active];
        let length = &mut state.lengths[state.active];
        if state.torn {
            file.set_len(*length)?;
            state.torn = false;
        }
        if let Err(error) = write_once(&mut file, &state.line) {
            state.torn = file.set_len(*length).is_err();
            return Err(error);
        }
        *length += state.line.len() as u64;
        state.next += 1;
        state.unsynced = true;
        Ok(())
    }

    /// Makes durable what was written. Blocks.
    ///
    /// # Errors
    /// If that fails.
    pub fn sync(&self) -> io::Result<()> {
        if !std::mem::take(&mut self.state().unsynced) {
            return Ok(());
        }
        let synced = self.files.iter().try_for_each(File::sync_data);
        if synced.is_err() {
            self.state().unsynced = true;
        }
        synced
    }

    /// The file that is to be moved into the store now: the one that is not done with, or the one that was written to until
    /// now. `None` if there is nothing to move.
    #[must_use]
    pub fn to_move(&self) -> Option<usize> {
        let mut state = self.state();
        let resting = 1 - state.active;
        if state.lengths[resting] > 0 {
            return Some(resting);
        }
        if state.lengths[state.active] == 0 || state.torn {
            return None;
        }
        state.active = resting;
        Some(1 - resting)
    }

    /// Part of the records of a file that is to be moved, from that place on. Blocks.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, which: usize, from: u64) -> io::Result<Part> {
        let length = self.state().lengths[which];
        let mut part = Part::default();
        let left = usize::try_from(length.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(CHUNK)];
        self.files[which].read_exact_at(&mut bytes, from)?;
        // A chunk has room for several records, so one that has no end is not one.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        for line in bytes[..end].split_inclusive(|byte| *byte == b'\n') {
            match decode(line) {
                Some(record) => part.records.push(record),
                None => tracing::error!(bytes = line.len(), "A record of the audit journal is damaged and is left out"),
            }
        }
        let next = from + end as u64;
        part.next = (next < length).then_some(next);
        Ok(part)
    }

    /// Empties a file whose records the store has.
    ///
    /// # Errors
    /// If it cannot be emptied. Its records may be offered to the store again.
    pub fn moved(&self, which: usize) -> io::Result<()> {
        failpoint!("journal.moved", Err(io::Error::other("failpoint")));
        self.files[which].set_len(0)?;
        keep_room(&self.files[which]);
        self.state().lengths[which] = 0;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What could panic in between is a failed assertion of the serializer, before anything has changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not every file system can, and on a full disk there is none to be had.
fn keep_room(file: &File) {
    if let Err(error) = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, ROOM) {
        tracing::debug!(%error, "No room can be kept free for the audit journal");
    }
}

/// One call, so that no other process's death can leave half of it. A short one is a disk that has become full.
fn write_once(file: &mut &File, line: &[u8]) -> io::Result<()> {
    failpoint!("journal.append", Err(io::ErrorKind::StorageFull.into()));
    loop {
        match file.write(line) {
            Ok(written) if written == line.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::StorageFull.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `SUM JSON` and a line end.
fn encode(line: &mut Vec<u8>, entry: &Entry<'_>) -> io::Result<()> {
    line.clear();
    line.extend([b' '; SUM_LEN]);
    serde_json::to_writer(&mut *line, entry)?;
    let (head, text) = line.split_at_mut(SUM_LEN);
    head[..SUM_LEN - 1].copy_from_slice(&sum(text));
    line.push(b'\n');
    if line.len() > RECORD_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the record is too long"));
    }
    Ok(())
}

fn decode(line: &[u8]) -> Option<Record> {
    let (head, text) = line.strip_suffix(b"\n")?.split_at_checked(SUM_LEN)?;
    if head[..SUM_LEN - 1] != sum(text) {
        return None;
    }
    let entry: Entry<'static> = serde_json::from_slice(text).ok()?;
    Some(Record { seq: entry.seq, at: entry.at, text: String::from_utf8(text.to_vec()).ok()? })
}

fn sum(text: &[u8]) -> [u8; SUM_LEN - 1] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(text);
    let mut sum = [0; SUM_LEN - 1];
    for (pair, byte) in sum.chunks_exact_mut(2).zip(digest) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    sum
}

/// Cuts off what no line end follows. Gives the length, and the first and the last number.
fn tidy(file: &File) -> io::Result<(u64, (u64, u64))> {
    let length = file.metadata()?.len();
    let (mut at, mut seen) = (0, (0, 0));
    let mut rest = Vec::new();
    while at < length {
        let begin = rest.len();
        let take = usize::try_from(length - at).unwrap_or(usize::MAX).min(CHUNK);
        rest.resize(begin + take, 0);
        file.read_exact_at(&mut rest[begin..], at)?;
        at += take as u64;
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for record in rest[..whole].split_inclusive(|byte| *byte == b'\n').filter_map(decode) {
            seen = (if seen.0 == 0 { record.seq } else { seen.0 }, record.seq.max(seen.1));
        }
        rest.drain(..whole);
    }
    let whole = length - rest.len() as u64;
    if whole < length {
        tracing::warn!(
            bytes = rest.len(),
            "The last record of the audit journal was cut off: nobody was answered on it"
        );
        file.set_len(whole)?;
    }
    Ok((whole, seen))
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn open_private(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = File::from(rustix::fs::open(path, flags, mode)?);
    let found = file.metadata()?;
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} {why}", path.display())));
    if FileType::from_raw_mode(found.mode()) != FileType::RegularFile {
        return wrong("is not a regular file");
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return wrong("belongs to another user");
    }
    if !mode.contains(Mode::from_raw_mode(found.mode())) {
        rustix::fs::fchmod(&file, mode)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
