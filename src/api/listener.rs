//! Makes the Unix socket where nobody else can put one in its place.
//!
//! Under systemd none of this runs: the listener is handed over. Here the directory is the control: whoever may write to it,
//! or to one above it, could take the socket away and listen in our stead.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags};
use rustix::process::{geteuid, umask};

/// How many connections may wait to be accepted. A short backlog gives clients EAGAIN instead of a wait.
const BACKLOG: i32 = 1024;

/// Where the socket goes and who may connect.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Its mode, such as `0o600`; what others may do is never granted.
    pub mode: u32,
    /// The group it belongs to, if not our own.
    pub group: Option<u32>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A daemon answers there already.
    #[error("{} is in use: another grantd is running", .0.display())]
    InUse(PathBuf),
    /// Somebody else could put a socket of their own in our place.
    #[error("{} is not safe for the socket: {why}", path.display())]
    Unsafe {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system does not let us.
    #[error("cannot make the socket at {}: {source}", path.display())]
    System {
        /// The path in question.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Makes the socket, and its directory if that is missing. Call it before other threads make files: the umask, which
/// keeps the socket from ever being wider than it should, is the whole process's.
///
/// # Errors
/// If another daemon listens there, if somebody else could replace the socket, or if the system refuses.
pub fn bind(placement: &Placement) -> Result<UnixListener, ListenError> {
    let path = &placement.path;
    let (Some(parent), Some(name)) = (path.parent().filter(|p| p.is_absolute()), path.file_name()) else {
        return Err(not_safe(path, "the path must be absolute and name a file"));
    };
    make_directory(parent)?;
    let fail = |source: io::Error| ListenError::System { path: path.clone(), source };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let directory = rustix::fs::open(parent, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?;
    check_directory(parent)?;
    // Held until this function returns: of two daemons that start together, the second finds the first one's socket.
    rustix::fs::flock(&directory, FlockOperation::LockExclusive).map_err(|errno| fail(errno.into()))?;
    remove_stale(path)?;

    let before = umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(fail)?;
    open_up(&directory, Path::new(name), placement).map_err(fail)?;
    rustix::net::listen(&listener, BACKLOG).map_err(|errno| fail(errno.into()))?;
    Ok(listener)
}

/// The name that a socket of ours has in the file system. It goes when this is dropped: a name that leads nowhere would
/// keep clients from trying the next socket.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The name of the socket that was just bound at `path`.
    ///
    /// # Errors
    /// If it is gone already.
    pub fn of(path: &Path) -> Result<Self, ListenError> {
        let metadata =
            fs::symlink_metadata(path).map_err(|source| ListenError::System { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // If it cannot be removed, the next daemon finds that nobody listens there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Widens the socket from 0600 to what was asked for. Nobody else can write to the directory, so the name is still ours.
fn open_up(directory: impl AsFd, name: &Path, placement: &Placement) -> io::Result<()> {
    if let Some(group) = placement.group {
        let group = Some(Gid::from_raw(group));
        rustix::fs::chownat(&directory, name, None, group, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let mode = Mode::from_raw_mode(placement.mode & 0o660);
    rustix::fs::chmodat(&directory, name, mode, AtFlags::empty())?;
    Ok(())
}

/// A person's first start makes the directories above too. What is there stays as it is.
fn make_directory(directory: &Path) -> Result<(), ListenError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    match made {
        Ok(()) => Ok(()),
        // A file, or a link that leads nowhere: the check that follows says so.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(ListenError::System { path: directory.to_owned(), source }),
    }
}

fn check_directory(directory: &Path) -> Result<(), ListenError> {
    let fail = |source| ListenError::System { path: directory.to_owned(), source };
    let own = fs::symlink_metadata(directory).map_err(fail)?;
    if !own.is_dir() {
        return Err(not_safe(directory, "it must be a directory and no symbolic link"));
    }
    if !is_trusted(own.uid()) {
        return Err(not_safe(directory, "it belongs to somebody else"));
    }
    if own.mode() & 0o022 != 0 {
        return Err(not_safe(directory, "others may write to it"));
    }
    let real = directory.canonicalize().map_err(fail)?;
    for above in real.ancestors().skip(1) {
        let metadata = fs::metadata(above).map_err(fail)?;
        if !is_trusted(metadata.uid()) {
            return Err(not_safe(above, "it belongs to somebody else"));
        }
        // In a sticky directory such as /tmp nobody can rename what is not theirs.
        if metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0 {
            return Err(not_safe(above, "others may write to it"));
        }
    }
    Ok(())
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Removes a socket that nobody listens on any more, and nothing else.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let fail = |source| ListenError::System { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(fail(source)),
    };
    if !metadata.file_type().is_socket() {
        return Err(not_safe(path, "it exists and is not a socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(fail),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Also a full backlog: somebody is there, if not at their best.
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ListenError::InUse(path.to_owned())),
        Err(source) => Err(fail(source)),
    }
}

fn not_safe(path: &Path, why: &'static str) -> ListenError {
    ListenError::Unsafe { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn placement(path: PathBuf) -> Placement {
        Placement { path, mode: 0o600, group: None }
    }

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_directory_is_made_for_its_owner_alone_and_the_socket_is_as_wide_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode, expected) in [("a", 0o600, 0o600), ("b", 0o660, 0o660), ("c", 0o666, 0o660)] {
            let path = dir.path().join(name).join("grantd.sock");
            let listener = bind(&Placement { mode, ..placement(path.clone()) });
            listener.unwrap();
            assert_eq!(mode_of(path.parent().unwrap()), 0o700);
            assert_eq!(mode_of(&path), expected);
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = placement(dir.path().join("d/grantd.sock"));
        let first = bind(&place).unwrap();
        assert!(matches!(bind(&place), Err(ListenError::InUse(_))));
        drop(first);
        let second = bind(&place).unwrap();
        UnixStream::connect(&place.path).unwrap();
        drop(second);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "x").unwrap();
        let link = dir.path().join("link");
        symlink(&precious, &link).unwrap();
        for path in [&precious, &link] {
            assert!(matches!(bind(&placement(path.clone())), Err(ListenError::Unsafe { .. })));
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "x");
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused_wherever_it_is_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let (above, below) = (dir.path().join("a"), dir.path().join("a/b"));
        fs::create_dir_all(&below).unwrap();
        for open in [&above, &below] {
            for mode in [0o770, 0o707] {
                fs::set_permissions(open, fs::Permissions::from_mode(mode)).unwrap();
                let refused = bind(&placement(below.join("s")));
                assert!(matches!(refused, Err(ListenError::Unsafe { .. })), "{open:?} {mode:o}");
            }
            fs::set_permissions(open, fs::Permissions::from_mode(0o700)).unwrap();
        }
        bind(&placement(below.join("s"))).unwrap();
    }

    #[test]
    fn a_directory_that_is_a_symbolic_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        symlink(&real, &link).unwrap();
        assert!(bind(&placement(link.join("s"))).is_err());
        assert!(!real.join("s").exists());
    }

    #[test]
    fn the_name_of_a_socket_goes_with_it_and_the_name_of_another_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = placement(dir.path().join("d/grantd.sock"));
        let first = bind(&place).unwrap();
        let file = SocketFile::of(&place.path).unwrap();
        drop(file);
        assert!(!place.path.exists());
        drop(first);

        let second = bind(&place).unwrap();
        let file = SocketFile::of(&place.path).unwrap();
        fs::rename(&place.path, dir.path().join("d/away")).unwrap();
        let third = bind(&place).unwrap();
        drop(file);
        assert!(place.path.exists());
        drop((second, third));
    }

    #[test]
    fn a_relative_path_is_refused() {
        assert!(matches!(bind(&placement("s".into())), Err(ListenError::Unsafe { .. })));
    }
}
