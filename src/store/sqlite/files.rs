//! The files of the store: who may read them, where they may be, and that only one daemon uses them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};

use crate::store::sqlite::OpenError;

const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

/// File systems of other machines, by their magic number: their locks and their shared memory are not to be relied on.
const REMOTE: [(u32, &str); 6] = [
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
];

/// No database is smaller, in bytes: one page of the smallest size that SQLite has.
const DATABASE_MIN: u64 = 512;

/// What the lock says once there is a store beside it.
const MARK: &[u8] = b"There is a store beside this file.\n";

/// The right to use the store, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Notes that there is a store from now on: if it is ever gone, a new one is not made in its place without a word.
    pub(super) fn mark(&self) -> Result<(), OpenError> {
        if self.is_marked()? {
            return Ok(());
        }
        let written = self.file.write_all_at(MARK, 0).and_then(|()| self.file.sync_all());
        written.map_err(|error| failed(&self.path, error))
    }

    fn is_marked(&self) -> Result<bool, OpenError> {
        let metadata = self.file.metadata().map_err(|error| failed(&self.path, error))?;
        Ok(metadata.len() > 0)
    }
}

/// Where the database is, with every link in front of its own name resolved.
pub(super) fn locate(path: &Path) -> Result<PathBuf, OpenError> {
    let name = path.file_name().ok_or_else(|| refused(path, "is not the name of a file"))?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = fs::canonicalize(directory).map_err(|error| failed(directory, error))?;
    Ok(directory.join(name))
}

/// Takes the lock beside the database. It is a file of its own, because closing any descriptor of the database itself
/// would drop SQLite's locks on it.
pub(super) fn lock(database: &Path) -> Result<Lock, OpenError> {
    let path = beside(database, ".lock");
    let file = open_private(&path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { path, file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(path)),
        Err(error) => Err(failed(&path, error.into())),
    }
}

/// The mark beside the database, made if it is not there.
pub(super) fn mark(database: &Path) -> Result<File, OpenError> {
    open_private(&beside(database, ".mark"))
}

/// Makes the database file if there never was one, readable by nobody else; SQLite gives its companions the same mode.
pub(super) fn prepare(database: &Path, lock: &Lock) -> Result<(), OpenError> {
    let length = fs::metadata(database).map_or(0, |file| file.len());
    if length == 0 && lock.is_marked()? {
        let reason = format!(
            "is gone or empty: restore it from a backup, or remove {} to begin with an empty store",
            lock.path.display()
        );
        return Err(refused(database, &reason));
    }
    // SQLite would take it for an empty database.
    if (1..DATABASE_MIN).contains(&length) {
        return Err(OpenError::Damaged(format!("it has {length} bytes, and no database is that small")));
    }
    let file = open_private(database)?;
    let system = rustix::fs::fstatfs(&file).map_err(|error| failed(database, error.into()))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a magic number has 32 bits")]
    let magic = system.f_type as u32;
    match REMOTE.iter().find(|(remote, _)| *remote == magic) {
        Some((_, name)) => Err(OpenError::Refused {
            path: database.to_owned(),
            reason: format!("is on a network file system ({name})"),
        }),
        None => Ok(()),
    }
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn open_private(path: &Path) -> Result<File, OpenError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, OWNER_ONLY) {
        Ok(file) => file,
        Err(rustix::io::Errno::LOOP) => return Err(refused(path, "is a symbolic link")),
        Err(error) => return Err(failed(path, error.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(path, error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refused(path, "is not a regular file"));
    }
    if !OWNER_ONLY.contains(Mode::from_raw_mode(stat.st_mode)) {
        rustix::fs::fchmod(&file, OWNER_ONLY).map_err(|error| failed(path, error.into()))?;
    }
    Ok(file.into())
}

fn refused(path: &Path, reason: &str) -> OpenError {
    OpenError::Refused { path: path.to_owned(), reason: reason.to_owned() }
}

fn failed(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
