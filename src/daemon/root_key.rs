//! Finds the root key, or makes one the first time a person's own daemon starts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tracing::info;
use zeroize::Zeroizing;

use crate::seal::RootKey;

/// Where the root key comes from.
pub enum RootKeyFrom {
    /// A file; made at the first start if `create` says so.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether to make it when there is neither a key nor a store.
        create: bool,
    },
    /// It was read already: a credential, the output of a command, a variable.
    Read {
        /// What was read.
        bytes: Zeroizing<Vec<u8>>,
        /// Where from, for messages.
        from: String,
    },
}

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// What was found is not a key.
    #[error("{from} is no root key: {why}")]
    Form {
        /// Where it was found.
        from: String,
        /// What was expected.
        why: String,
    },
    /// There is a store, and the key that seals it is gone.
    #[error(
        "the root key {} is missing, but {} exists and is sealed with it; put the key back (from a backup), or move the \
         store away to start anew", key.display(), store.display()
    )]
    Lost {
        /// The missing key.
        key: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// A daemon of the whole system does not make a key by itself.
    #[error(
        "there is no root key at {}; make one with `(umask 077; head -c 32 /dev/urandom > {})` and keep a copy of it, or \
         hand it over as the systemd credential `grantd.root`", .0.display(), .0.display()
    )]
    Missing(PathBuf),
    /// The system does not let us read or write it.
    #[error("cannot use the root key {}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else could read or replace it.
    #[error("the root key {} is not safe: {why}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

/// More than any form of a key has.
const KEY_FILE_MAX: u64 = 4096;

/// A key, or the place for one.
pub(super) enum Found {
    Key(RootKey),
    /// There is neither a key nor a store, and a key may be made here.
    Nothing(PathBuf),
}

impl RootKeyFrom {
    /// Looks for the key and writes nothing. `store` is where the store is or will be: an existing one is never given a
    /// new key.
    pub(super) fn find(self, store: &Path) -> Result<Found, RootKeyError> {
        let (path, create) = match self {
            Self::Read { bytes, from } => return parse(&bytes, from).map(Found::Key),
            Self::File { path, create } => (path, create),
        };
        match read_file(&path) {
            Ok(bytes) => parse(&bytes, path.display().to_string()).map(Found::Key),
            Err(RootKeyError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if store.exists() {
                    return Err(RootKeyError::Lost { key: path, store: store.to_owned() });
                }
                if create { Ok(Found::Nothing(path)) } else { Err(RootKeyError::Missing(path)) }
            }
            Err(error) => Err(error),
        }
    }
}

impl Found {
    /// The key that was found, or a new one.
    pub(super) fn or_make(self) -> Result<RootKey, RootKeyError> {
        match self {
            Self::Key(key) => Ok(key),
            Self::Nothing(path) => make(&path),
        }
    }
}

fn parse(bytes: &[u8], from: String) -> Result<RootKey, RootKeyError> {
    RootKey::parse(bytes).map_err(|error| RootKeyError::Form { from, why: error.to_string() })
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, RootKeyError> {
    let system = |source| RootKeyError::System { path: path.to_owned(), source };
    let not_safe = |why| RootKeyError::Unsafe { path: path.to_owned(), why };
    let no_follow = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file: File =
        OpenOptions::new().read(true).custom_flags(no_follow.bits().cast_signed()).open(path).map_err(system)?;
    let metadata = file.metadata().map_err(system)?;
    if !metadata.is_file() {
        return Err(not_safe("it is not a regular file"));
    }
    if metadata.mode() & 0o027 != 0 {
        return Err(not_safe("others may read it, or its group may write to it; set its mode to 0400"));
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return Err(not_safe("it belongs to another user"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(KEY_FILE_MAX).read_to_end(&mut bytes).map_err(system)?;
    Ok(bytes)
}

/// Makes a key in a file that did not exist, mode 0400, on disk before it is used.
fn make(path: &Path) -> Result<RootKey, RootKeyError> {
    let system = |source| RootKeyError::System { path: path.to_owned(), source };
    let key = RootKey::generate();
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(system)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path).map_err(system)?;
    writeln!(file, "{}", *key.to_text()).and_then(|()| file.sync_all()).map_err(system)?;
    if let Some(directory) = path.parent() {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(system)?;
    }
    info!(path = %path.display(), fingerprint = key.fingerprint(),
        "Made a root key at {}; keep a copy of it somewhere safe, because nothing stored can be read without it", path.display());
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(path: &Path, create: bool, store: &Path) -> Result<RootKey, RootKeyError> {
        RootKeyFrom::File { path: path.to_owned(), create }.find(store)?.or_make()
    }

    #[test]
    fn the_first_start_makes_a_key_that_the_second_start_reads() {
        let home = tempfile::tempdir().unwrap();
        let (key, store) = (home.path().join("deep/root.key"), home.path().join("grantd.db"));
        let made = read(&key, true, &store).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(read(&key, true, &store).unwrap().fingerprint(), made.fingerprint());
    }

    #[test]
    fn a_store_is_never_given_a_new_key() {
        let home = tempfile::tempdir().unwrap();
        let (key, store) = (home.path().join("root.key"), home.path().join("grantd.db"));
        fs::write(&store, "sealed").unwrap();
        assert!(matches!(read(&key, true, &store), Err(RootKeyError::Lost { .. })));
        assert!(!key.exists());
    }

    #[test]
    fn a_system_daemon_makes_no_key_by_itself() {
        let home = tempfile::tempdir().unwrap();
        let (key, store) = (home.path().join("root.key"), home.path().join("grantd.db"));
        assert!(matches!(read(&key, false, &store), Err(RootKeyError::Missing(_))));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let (key, store) = (home.path().join("root.key"), home.path().join("grantd.db"));
        read(&key, true, &store).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read(&key, true, &store), Err(RootKeyError::Unsafe { .. })));

        let link = home.path().join("link.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        std::os::unix::fs::symlink(&key, &link).unwrap();
        assert!(matches!(read(&link, true, &store), Err(RootKeyError::System { .. })));
    }

    #[test]
    fn what_is_no_key_is_not_repeated_in_the_error() {
        let bytes = Zeroizing::new(b"hunter2".to_vec());
        let read = RootKeyFrom::Read { bytes, from: "the credential `grantd.root`".to_owned() };
        let error = read.find(Path::new("/nowhere")).err().unwrap().to_string();
        assert!(error.contains("grantd.root") && !error.contains("hunter2"), "{error}");
    }
}
