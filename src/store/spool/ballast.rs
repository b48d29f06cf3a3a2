//! Room that is kept for the spool on a disk that may be full when it is needed: a file that can be thrown away.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

const NAME: &str = ".ballast";
/// Enough for about a hundred records, in bytes.
const SIZE: usize = 1 << 18;

/// Makes the ballast, unless it is there.
///
/// # Errors
/// If there is no room for it now.
pub(super) fn load(directory: impl AsFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(&directory, NAME, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Written and not only reserved: some file systems take a hole for nothing.
    let written = file.write_all(&vec![0; SIZE]).and_then(|()| file.sync_all());
    if written.is_err() {
        drop_from(&directory);
    }
    written
}

/// Throws the ballast away. Says whether there was any.
pub(super) fn drop_from(directory: impl AsFd) -> bool {
    rustix::fs::unlinkat(directory, NAME, AtFlags::empty()).is_ok()
}
