//! The daemon as a process of its own, and everything it wrote to its log.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::ask::{self, Answer};
use crate::support::home::Home;
use crate::support::launch::{self, Launch};

/// A running daemon. It is killed when dropped.
pub struct Daemon {
    pub home: Home,
    launch: Launch,
    child: Child,
}

impl Daemon {
    /// Starts a daemon and waits until it answers.
    pub async fn start(home: Home) -> Self {
        Self::launch(home, Launch::default()).await
    }

    /// Starts a daemon in another way than by hand, and waits until it answers.
    pub async fn launch(home: Home, launch: Launch) -> Self {
        let child = launch.spawn(&home);
        let mut daemon = Self { home, launch, child };
        daemon.wait_until_ready().await;
        daemon
    }

    /// Starts a daemon that is to refuse, and waits for its end.
    pub fn refused(home: &Home, launch: &Launch) -> Output {
        Output::within(&mut launch.command(home), Duration::from_secs(30))
    }

    /// `grantd` with the environment of this home and no other.
    pub fn command(home: &Home) -> Command {
        let mut command = Command::new(launch::program());
        launch::environment(&mut command, home);
        command
    }

    /// Runs a command against this daemon.
    pub fn run(&self, args: &[&str]) -> Output {
        Output::of(Self::command(&self.home).args(args))
    }

    pub fn log_path(&self) -> PathBuf {
        self.home.file("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again in the same home.
    pub async fn restart(&mut self) {
        self.revive();
        self.wait_until_ready().await;
    }

    /// As [`restart`](Self::restart), without waiting until it answers.
    pub fn revive(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        self.child = self.launch.spawn(&self.home);
    }

    /// Sends a signal such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end; its log:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn get(&self, path: &str) -> Answer {
        ask::ask(&self.home.socket(), "GET", path, None).await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Answer {
        ask::ask(&self.home.socket(), "DELETE", path, None).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        ask::ask(&self.home.socket(), "POST", path, Some(body)).await.unwrap()
    }

    /// Asks for a token of the provider `sandbox`, with more fields if any.
    pub async fn token(&self, more: Value) -> Answer {
        let mut body = serde_json::json!({"provider": "sandbox"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/v1/token", body).await
    }

    /// Waits until it answers or has ended, and says whether it answers.
    pub async fn starts(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            if matches!(ask::ask(&self.home.socket(), "GET", "/v1/health", None).await, Ok(answer) if matches!(answer.status, 200 | 503))
            {
                return true;
            }
            assert!(Instant::now() < deadline, "the daemon does not answer; its log:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Waits until it answers. Fails if it ends instead.
    pub async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}; its log:\n{}", self.log());
            }
            if matches!(ask::ask(&self.home.socket(), "GET", "/v1/health", None).await, Ok(answer) if answer.status == 200)
            {
                return;
            }
            assert!(Instant::now() < deadline, "the daemon does not answer; its log:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Output {
    pub fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// As [`of`](Self::of), for a command that should end by itself and is killed if it does not.
    pub fn within(command: &mut Command, span: Duration) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + span;
        while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = child.try_wait().unwrap().is_some();
        drop(child.kill());
        let output = Self::from(child.wait_with_output().unwrap());
        assert!(ended, "it did not end by itself: {output:?}");
        output
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
