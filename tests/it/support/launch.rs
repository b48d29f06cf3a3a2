//! How the daemon is started: by hand, as another user, or as a service manager would.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::support::home::Home;

/// A way to start the daemon. By default: by hand, with the home's configuration file.
#[derive(Default)]
pub struct Launch {
    /// A program and its arguments that run the daemon in their place.
    pub through: Vec<&'static str>,
    /// Instead of `--config FILE`.
    pub arguments: Option<Vec<OsString>>,
    /// Further variables.
    pub environment: Vec<(&'static str, OsString)>,
    /// Variables that are not there.
    pub without: Vec<&'static str>,
    /// Its uid and gid.
    pub user: Option<(u32, u32)>,
    /// Its standard input.
    pub input: Option<OwnedFd>,
}

impl Launch {
    /// Starts it; what it says goes to the home's log.
    pub fn spawn(&self, home: &Home) -> Child {
        let log = File::options().create(true).append(true).open(home.file("log")).unwrap();
        self.command(home).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    pub fn command(&self, home: &Home) -> Command {
        let mut command = match self.through.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program());
                command
            }
            None => Command::new(program()),
        };
        environment(&mut command, home);
        command.envs(self.environment.iter().cloned());
        for name in &self.without {
            command.env_remove(name);
        }
        if let Some(input) = &self.input {
            command.stdin(Stdio::from(input.try_clone().unwrap()));
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.arg("serve");
        match &self.arguments {
            Some(arguments) => command.args(arguments),
            None => command.arg("--config").arg(home.config()),
        };
        command
    }
}

/// A process that is killed when this is dropped.
pub struct Kept(pub Child);

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The environment of this home and no other.
pub fn environment(command: &mut Command, home: &Home) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("GRANTD_SOCKET", home.socket())
        .stdin(Stdio::null());
}

/// `grantd`, where every user can run it: a copy, if the way to it is closed to others.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_grantd"));
        let open = |path: &Path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0);
        if !rustix::process::geteuid().is_root() || built.ancestors().all(open) {
            return built;
        }
        let place = std::env::temp_dir().join(format!("grantd-it-bin-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        let copy = place.join("grantd");
        fs::copy(&built, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    })
}
