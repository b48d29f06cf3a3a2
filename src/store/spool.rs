//! A directory of records for token pairs that the database could not keep: each is there whole, or as it was before.
//!
//! The directory may be on another file system than the database, whose disk may be the one that is full. Only whoever has the
//! lock of the store uses it, so what a half-done write left behind is nobody's work under way when it is opened.
//! Everything here blocks.

mod ballast;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

pub use record::{RecordError, Spooled};

use crate::model::id::random_text;
use crate::store::records::GrantKey;

/// The longest record, in bytes. A sealed pair takes a few thousand.
pub const RECORD_MAX: usize = 1 << 20;

const DIRECTORY_MODE: Mode = Mode::RWXU;
const RECORD_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const TEMPORARY: &str = ".new-";
const BAD: &str = ".bad";

/// Why the directory cannot be used. No record was touched.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It is not ours, or no directory: an operator has to look.
    #[error("{path} {reason}")]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        reason: &'static str,
    },
    /// The operating system could not do it.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// The name of a record: the grant that it is of. It is a safe name for a file, because neither part may hold a dot or a slash.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordName(String);

/// The text names no grant.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the name of a record")]
pub struct RecordNameError;

impl RecordName {
    /// The name of this grant's record.
    #[must_use]
    pub fn of(key: &GrantKey) -> Self {
        Self(format!("{}.{}", key.connection, key.slot))
    }

    /// The grant that the record is of.
    ///
    /// # Panics
    /// Never: a name is made from a key or was read as one.
    #[must_use]
    pub fn key(&self) -> GrantKey {
        key(&self.0).expect("a record is named after a grant")
    }

    /// The text: `CONNECTION.SLOT`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordName {
    type Err = RecordNameError;

    fn from_str(text: &str) -> Result<Self, RecordNameError> {
        key(text).map(|_| Self(text.to_owned())).ok_or(RecordNameError)
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn key(name: &str) -> Option<GrantKey> {
    let (connection, slot) = name.split_once('.')?;
    Some(GrantKey { connection: connection.parse().ok()?, slot: slot.parse().ok()? })
}

/// What the directory holds.
#[derive(Debug, Default)]
pub struct Records {
    /// The records, by name.
    pub readable: Vec<(RecordName, Vec<u8>)>,
    /// Records that are there and cannot be read. Their grants may have been replaced, so their refresh tokens are not to be
    /// sent before somebody has looked.
    pub unreadable: Vec<RecordName>,
}

/// The directory, open.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    directory: OwnedFd,
}

impl Spool {
    /// Opens the directory, and makes it if it is not there; its parent must be. Removes what writes that were cut off have
    /// left behind. Nobody else can look into it afterwards.
    ///
    /// # Errors
    /// If it is a symbolic link, no directory or somebody else's, or if the operating system refuses.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let failed = |source: Errno| SpoolError::Io { path: path.to_owned(), source: source.into() };
        make(path).map_err(|source| SpoolError::Io { path: path.to_owned(), source })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(SpoolError::Refused { path: path.to_owned(), reason: "is a link or no directory" });
            }
            Err(error) => return Err(failed(error)),
        };
        let stat = rustix::fs::fstat(&directory).map_err(failed)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(SpoolError::Refused { path: path.to_owned(), reason: "belongs to another user" });
        }
        if !DIRECTORY_MODE.contains(Mode::from_raw_mode(stat.st_mode)) {
            rustix::fs::fchmod(&directory, DIRECTORY_MODE).map_err(failed)?;
        }
        let spool = Self { path: path.to_owned(), directory };
        spool.sweep().map_err(|source| SpoolError::Io { path: path.to_owned(), source })?;
        if let Err(error) = ballast::load(&spool.directory) {
            tracing::warn!(path = %path.display(), %error, "No room can be kept free for renewed grants, should the disk be full");
        }
        Ok(spool)
    }

    /// Keeps a record, in the place of one of the same name. It is durable when this returns; until then the old one is.
    ///
    /// # Errors
    /// If it is longer than [`RECORD_MAX`] or cannot be written. The old record, if there was one, is still there, unless it
    /// was the last sync that failed: then it is one of the two.
    pub fn put(&self, name: &RecordName, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > RECORD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the record is too long"));
        }
        match self.try_to_put(name, bytes) {
            Err(error) if is_full(&error) && ballast::drop_from(&self.directory) => self.try_to_put(name, bytes),
            outcome => outcome,
        }
    }

    fn try_to_put(&self, name: &RecordName, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{TEMPORARY}{}", random_text::<16>());
        let moved = self
            .write_new(&temporary, bytes)
            .and_then(|()| Ok(rustix::fs::renameat(&self.directory, &temporary, &self.directory, name.as_str())?));
        if moved.is_err() {
            // If it stays, opening the directory removes it.
            let _ = rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty());
        }
        moved?;
        failpoint!("spool.sync_directory", Err(io::Error::other("failpoint")));
        self.sync()
    }

    /// Removes a record. One that is not there is no error.
    ///
    /// # Errors
    /// If it cannot be removed, or that it is cannot be made durable.
    pub fn remove(&self, name: &RecordName) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.sync()?,
            Err(error) => return Err(error.into()),
        }
        // If there is still no room for it, the next one is as good.
        let _ = ballast::load(&self.directory);
        Ok(())
    }

    /// Keeps a record for an operator to look at, as `NAME.bad`, or `NAME.RANDOM.bad` if there is one. It is not read again.
    ///
    /// # Errors
    /// If it cannot be renamed, or that it is cannot be made durable.
    pub fn set_aside(&self, name: &RecordName) -> io::Result<()> {
        let mut aside = format!("{name}{BAD}");
        if rustix::fs::statat(&self.directory, &aside, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            aside = format!("{name}.{}{BAD}", random_text::<8>());
        }
        rustix::fs::renameat(&self.directory, name.as_str(), &self.directory, aside)?;
        self.sync()
    }

    /// Everything that is there, in order of name. What cannot be read is logged and named.
    ///
    /// # Errors
    /// If the directory itself cannot be read.
    pub fn records(&self) -> io::Result<Records> {
        let mut records = Records::default();
        for file in self.files()? {
            let Ok(name) = file.parse::<RecordName>() else {
                if !file.ends_with(BAD) && !file.starts_with('.') {
                    tracing::warn!(path = %self.path.join(&file).display(), "This file is no record and is left alone");
                }
                continue;
            };
            match self.read(&name) {
                Ok(bytes) => records.readable.push((name, bytes)),
                Err(error) => {
                    tracing::error!(path = %self.path.join(&file).display(), %error,
                        "A renewed grant that could not be stored lies here and cannot be read");
                    records.unreadable.push(name);
                }
            }
        }
        Ok(records)
    }

    fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        failpoint!("spool.create", Err(io::ErrorKind::StorageFull.into()));
        let mut file = File::from(rustix::fs::openat(&self.directory, name, flags, RECORD_MODE)?);
        failpoint!("spool.write", Err(io::ErrorKind::StorageFull.into()));
        file.write_all(bytes)?;
        failpoint!("spool.sync", Err(io::Error::other("failpoint")));
        file.sync_all()?;
        failpoint!("spool.rename", Err(io::Error::other("failpoint")));
        Ok(())
    }

    fn read(&self, name: &RecordName) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&self.directory, name.as_str(), flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return wrong("not a regular file");
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return wrong("it belongs to another user");
        }
        let mut bytes = Vec::new();
        file.take(RECORD_MAX as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > RECORD_MAX { wrong("it is too long") } else { Ok(bytes) }
    }

    fn files(&self) -> io::Result<Vec<String>> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            // A name that is no text is none of ours.
            files
                .extend(entry?.file_name().to_str().ok().filter(|name| ![".", ".."].contains(name)).map(str::to_owned));
        }
        files.sort();
        Ok(files)
    }

    fn sweep(&self) -> io::Result<()> {
        for leftover in self.files()?.iter().filter(|file| file.starts_with(TEMPORARY)) {
            rustix::fs::unlinkat(&self.directory, leftover, AtFlags::empty())?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

/// Makes the directory if it is not there, so that it is still there after a power cut.
fn make(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, DIRECTORY_MODE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
