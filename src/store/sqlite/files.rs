//! The files of the store: who may read them, where they may be, and that only one daemon uses them.

use std::fs::{self, File};
use std::io;
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

/// The right to use the store, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
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
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = open_private(&path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(path)),
        Err(error) => Err(failed(&path, error.into())),
    }
}

/// Makes the database file if it is not there, readable by nobody else; SQLite gives its companions the same mode.
pub(super) fn prepare(database: &Path) -> Result<(), OpenError> {
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
