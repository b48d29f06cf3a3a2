//! The OpenID provider of `tests/oidc-provider` as a process, and what it says happened.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use url::Url;

use crate::support::eventually;

/// The client that `server.mjs` knows.
pub const CLIENT: &str = "grantd-test";
/// Its secret.
pub const SECRET: &str = "grantd-test-secret";
/// The address that `provider.yaml` is written with.
const WRITTEN: &str = "127.0.0.1:40001";
const INSTALL: &str = "These tests run against a real OpenID provider. Install Node.js 20 or later and then its packages with \
                       `npm ci` in tests/oidc-provider; `make test` does both.";

/// A running provider. It ends when dropped, or when this process does, because its standard input closes.
pub struct Server {
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
    url: Url,
}

impl Server {
    /// Starts it for one client, which may come back to this address only.
    pub async fn start(redirect_uri: &str) -> Self {
        Self::start_away(redirect_uri, 0).await
    }

    /// As [`start`](Self::start), with requests and answers that are on their way for up to so many milliseconds each.
    pub async fn start_away(redirect_uri: &str, distance: u32) -> Self {
        let home = home();
        assert!(home.join("node_modules/oidc-provider").is_dir(), "tests/oidc-provider has no packages. {INSTALL}");
        let mut child = Command::new("node")
            .arg("server.mjs")
            .args(["--redirect-uri", redirect_uri, "--access-ttl", "5", "--distance", &distance.to_string()])
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("node does not start: {error}. {INSTALL}"));
        let events = Arc::new(Mutex::new(Vec::<Value>::new()));
        let (told, out) = (Arc::clone(&events), child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                told.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let listening = || events.lock().unwrap().first().cloned();
        eventually("the OpenID provider listens", async || listening().is_some()).await;
        let url = listening().unwrap()["url"].as_str().unwrap().parse().unwrap();
        Self { child, events, url }
    }

    /// An address on it.
    pub fn at(&self, path: &str) -> Url {
        self.url.join(path).unwrap()
    }

    /// `provider.yaml` with the port that it really has.
    pub fn definition(&self) -> String {
        let text = fs::read_to_string(home().join("provider.yaml")).unwrap();
        assert!(text.contains(WRITTEN));
        text.replace(WRITTEN, self.url.authority())
    }

    /// How often something has happened to a token request of this kind, or at all if it is empty.
    pub fn count(&self, event: &str, grant_type: &str) -> usize {
        let is = |told: &&Value| told["event"] == event && (grant_type.is_empty() || told["grant_type"] == grant_type);
        self.events.lock().unwrap().iter().filter(is).count()
    }

    /// Everything of this kind that happened, in order.
    pub fn events(&self, event: &str) -> Vec<Value> {
        self.events.lock().unwrap().iter().filter(|told| told["event"] == event).cloned().collect()
    }

    /// Everything that happened, for the message of a test that fails.
    pub fn story(&self) -> String {
        self.events.lock().unwrap().iter().map(|event| format!("{event}\n")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc-provider")
}
