//! A home directory for a daemon, as a person would set it up.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use grantd::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET, Rotation, Sandbox, definition};
use tempfile::TempDir;

/// A home directory. It goes when it is dropped.
pub struct Home {
    dir: TempDir,
    pub port: u16,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("grantd-it-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for below in ["config", "config/providers.d", "state"] {
            fs::create_dir(dir.path().join(below)).unwrap();
        }
        let home = Self { dir, port: free_port() };
        home.write("config/grantd.yaml", "providers: {}\n");
        home
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn config(&self) -> PathBuf {
        self.file("config/grantd.yaml")
    }

    pub fn socket(&self) -> PathBuf {
        self.file("run/grantd.sock")
    }

    pub fn store(&self) -> PathBuf {
        self.file("state/grantd.db")
    }

    pub fn write(&self, below: &str, text: &str) {
        let path = self.file(below);
        drop(fs::remove_file(&path));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Rewrites a file of this home.
    pub fn edit(&self, below: &str, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.file(below)).unwrap();
        self.write(below, &change(text));
    }

    /// Adds sections to the configuration, such as `jobs: {...}` with its line end.
    pub fn set(&self, sections: &str) {
        self.edit("config/grantd.yaml", |text| text.replace("\nproviders:\n", &format!("\n{sections}providers:\n")));
    }

    /// Changes the definition of the provider `sandbox`.
    pub fn redefine(&self, from: &str, to: &str) {
        self.edit("config/providers.d/sandbox.yaml", |text| {
            assert!(text.contains(from), "the definition has no `{from}`");
            text.replace(from, to)
        });
    }

    /// Makes the definition say how the sandbox rotates.
    pub fn tell(&self, rotation: Rotation) {
        let word = match rotation {
            Rotation::SingleUse { .. } => return,
            Rotation::MultiValid => "multi_valid",
            Rotation::Static => "static",
        };
        self.redefine("rotation: single_use", &format!("rotation: {word}"));
        self.redefine("after_ambiguous: once", "after_ambiguous: safe");
    }

    /// Writes the configuration with one provider, the sandbox, under the name `sandbox`.
    pub fn knows(&self, sandbox: &Sandbox) {
        self.knows_and(sandbox, "", "");
    }

    /// As [`knows`](Self::knows), with more in `socket:` (begins with a comma) and more lines at the top.
    pub fn knows_and(&self, sandbox: &Sandbox, in_socket: &str, at_top: &str) {
        self.write("config/providers.d/sandbox.yaml", &definition(sandbox.url()));
        self.write("config/secret", &format!("{DEFAULT_SECRET}\n"));
        self.configure_and(&self.sandbox_line("sandbox"), in_socket, at_top);
    }

    /// The line that configures the sandbox under a name.
    pub fn sandbox_line(&self, name: &str) -> String {
        format!("  {name}: {{{}}}\n", self.client())
    }

    /// Our registration at a sandbox, as it stands in the configuration.
    pub fn client(&self) -> String {
        let secret = self.file("config/secret");
        format!("client_id: {DEFAULT_CLIENT}, client_secret: {{file: {}}}", secret.display())
    }

    /// Writes the configuration with these lines below `providers:`.
    pub fn configure(&self, providers: &str) {
        self.configure_and(providers, "", "");
    }

    /// As [`configure`](Self::configure), with more in `socket:` (begins with a comma) and more lines at the top.
    pub fn configure_and(&self, providers: &str, in_socket: &str, at_top: &str) {
        let text = format!("{}{at_top}providers:\n{providers}", self.places_and(in_socket));
        self.write("config/grantd.yaml", &text);
    }

    /// The sections of the configuration that keep everything in this home.
    pub fn places(&self) -> String {
        self.places_and("")
    }

    fn places_and(&self, in_socket: &str) -> String {
        format!(
            "socket: {{path: {}{in_socket}}}\nweb: {{url: \"http://localhost:{}\"}}\nstore: {{path: {}}}\n\
             log: {{level: trace, format: json}}\n",
            self.socket().display(),
            self.port,
            self.store().display(),
        )
    }
}

/// A port that nobody has, outside the range from which the kernel gives ports to clients: a daemon that starts again must
/// not find that a connection has taken it meanwhile.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 20_000).unwrap_or_default();
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
