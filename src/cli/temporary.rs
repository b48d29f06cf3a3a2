//! A directory of our own for what runs for one command only, with everything where a configuration would have it.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::paths::{Paths, Scope};
use crate::model::id::random_text;

/// A directory of our own, removed when dropped.
pub(super) struct Home(PathBuf);

impl Home {
    /// A new one; `what` is part of its name.
    pub(super) fn make(what: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("grantd-{what}-{}", random_text::<6>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("run/grantd.sock")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(super) fn providers(&self) -> PathBuf {
        self.0.join("providers.d")
    }

    pub(super) fn paths(&self, config: PathBuf) -> Paths {
        Paths {
            scope: Scope::User,
            config,
            providers_dir: self.providers(),
            store: self.state().join("grantd.db"),
            socket: self.socket(),
            root_key: self.state().join("root.key"),
            credentials: None,
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Writes a file that nobody else can read.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// A port that was free a moment ago. The pages never wander to another one, so if it is taken meanwhile the command says so.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
