//! Where the benchmark keeps things, and the daemon that it starts there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use grantd::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET};
use grantd::seal::RootKey;
use tempfile::TempDir;
use url::Url;

use crate::{Result, engine};

/// Two directories, removed at the end.
pub(crate) struct Home {
    /// Beside the build, because the system's temporary directory may be in memory.
    files: TempDir,
    /// In the system's temporary directory, because the name of a socket must be short.
    sockets: TempDir,
    pub(crate) root: RootKey,
}

impl Home {
    pub(crate) fn make() -> Result<Self> {
        let files = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        let root = RootKey::generate();
        fs::create_dir(files.path().join("providers.d"))?;
        let home = Self { files, sockets: tempfile::tempdir()?, root };
        home.keep("root.key", &home.root.to_text())?;
        home.keep("secret", DEFAULT_SECRET)?;
        Ok(home)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.files.path().join("grantd.db")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.sockets.path().join("grantd.sock")
    }

    /// Starts the daemon for the provider at `url` and waits until it says that it is ready. Tells how long that took.
    pub(crate) fn serve(&self, url: &Url) -> Result<(Daemon, Duration)> {
        let config = self.configure(url)?;
        let name = self.sockets.path().join("notify");
        drop(fs::remove_file(&name));
        let manager = UnixDatagram::bind(&name)?;
        manager.set_read_timeout(Some(Duration::from_secs(60)))?;
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_grantd"))
            .env_clear()
            .env("HOME", self.files.path())
            .env("NOTIFY_SOCKET", &name)
            .args(["serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .spawn()?;
        let daemon = Daemon(child);
        let mut message = [0; 4096];
        loop {
            let length = manager.recv(&mut message)?;
            if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1") {
                return Ok((daemon, started.elapsed()));
            }
        }
    }

    fn configure(&self, url: &Url) -> Result<PathBuf> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let home = self.files.path().display();
        self.keep("providers.d/sandbox.yaml", &engine::definition(url))?;
        self.keep(
            "grantd.yaml",
            &format!(
                "socket: {{path: {}}}\nstore: {{path: {home}/grantd.db}}\nroot_key: {{file: {home}/root.key}}\n\
                 web: {{url: \"http://localhost:{port}\"}}\nlog: {{level: warn}}\n\
                 providers:\n  sandbox: {{client_id: {DEFAULT_CLIENT}, client_secret: {{file: {home}/secret}}}}\n",
                self.socket().display()
            ),
        )
    }

    fn keep(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.files.path().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }
}

/// The daemon as a process of its own, ended with this.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Its resident memory, in units of 2^20 bytes.
    pub(crate) fn rss(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
