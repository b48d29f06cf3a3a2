//! `grantd demo` shows what it promises, leaves nothing behind, and gives no secret away.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::support::daemon::Output;

/// What every secret of the sandbox and of its client has in it.
const MARK: &str = "_MARK_";

#[test]
fn the_demo_connects_renews_three_times_and_leaves_nothing_behind() {
    let temp = TempDir::new().unwrap();
    let Output { code, out, err } = Output::of(demo(&temp).args(["--auto", "--access-ttl", "4s"]));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let summary = out.lines().find(|line| line.contains(" renewals seen")).expect("there is a summary");
    let number = |after: &str| -> usize {
        let (before, _) = summary.split_once(after).unwrap_or_else(|| panic!("no `{after}` in {summary}"));
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(number(" renewals seen") >= 3, "{summary}");
    assert!(number(" refreshes at the provider") >= 3, "{summary}");
    assert_eq!((number(" refused"), number(" spent twice")), (0, 0), "{summary}");
    assert_eq!(number(" calls"), number(" accepted"), "{summary}");
    assert!(!out.contains(MARK), "{out}");
    assert_eq!(left_in(temp.path()), [""; 0]);
}

#[tokio::test]
async fn an_interrupted_demo_removes_everything_and_has_not_failed() {
    for signal in ["INT", "TERM"] {
        let temp = TempDir::new().unwrap();
        let mut demo =
            Running(demo(&temp).arg("--no-open").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut out = BufReader::new(demo.0.stdout.take().unwrap());
        let mut told = String::new();
        while !told.contains("Waiting for you") {
            assert_ne!(out.read_line(&mut told).unwrap(), 0, "{told}");
        }
        assert_eq!(left_in(temp.path()).len(), 1, "while it runs it has a directory");
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(demo.0.id().to_string()).status().unwrap();
        assert!(sent.success());
        assert_eq!(demo.ended().await, Some(0), "{signal}");
        out.read_to_string(&mut told).unwrap();
        let mut err = String::new();
        demo.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(told.contains("removed") && !told.contains(MARK), "{signal}: {told}");
        assert_eq!(err, "", "{signal}");
        assert_eq!(left_in(temp.path()), [""; 0], "{signal}");
    }
}

/// A demo that is killed if the test fails before it ends.
struct Running(Child);

impl Running {
    async fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the demo does not end");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The command with an environment in which everything it makes ends up in `temp`.
fn demo(temp: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grantd"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", temp.path())
        .env("TMPDIR", temp.path())
        .stdin(Stdio::null())
        .arg("demo");
    command
}

fn left_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
