//! One life of a daemon: started with orders for its failpoints, watched, and its trace read afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use grantd::clock::{Clock as _, SystemClock};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::ask::{Answer, ask};
use crate::support::{Home, Launch};

/// A daemon that may die at any moment. It is killed when dropped.
pub struct Life {
    child: Child,
    trace: PathBuf,
    started_ms: i64,
}

/// When a daemon lived, and what struck it.
#[derive(Clone, Debug)]
pub struct Span {
    pub from_ms: i64,
    pub to_ms: i64,
    /// Whether anything was ordered that can destroy an answer.
    pub struck: bool,
}

/// A point that was reached.
#[derive(Clone, Debug)]
pub struct Reached {
    pub task: String,
    pub point: String,
    /// What happened there, if anything did.
    pub action: Option<String>,
}

impl Life {
    pub fn begin(home: &Home, orders: &str) -> Self {
        let trace = home.file("trace");
        drop(fs::remove_file(&trace));
        let environment =
            vec![("GRANTD_FAILPOINTS", orders.into()), ("GRANTD_FAILPOINTS_TRACE", trace.clone().into_os_string())];
        let launch = Launch { environment, ..Launch::default() };
        Self { child: launch.spawn(home), trace, started_ms: SystemClock.now().as_millis() }
    }

    /// Waits until it answers. Whether it did, and has not ended instead.
    pub async fn is_ready(&mut self, home: &Home) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.has_ended() && Instant::now() < deadline {
            if matches!(get(home, "/v1/health").await, Some(answer) if answer.status == 200) {
                return true;
            }
            sleep(Duration::from_millis(5)).await;
        }
        false
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Whether it has ended, and not in peace.
    pub fn was_killed(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some_and(|status| !status.success())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Waits for its end; `None` if it does not come.
    pub async fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills it if it lives.
    pub fn end(mut self, struck: bool) -> Span {
        drop(self.child.kill());
        drop(self.child.wait());
        Span { from_ms: self.started_ms, to_ms: SystemClock.now().as_millis(), struck }
    }

    /// Every point that was reached so far.
    pub fn trace(&self) -> Vec<Reached> {
        let text = fs::read_to_string(&self.trace).unwrap_or_default();
        text.lines().filter_map(reached).collect()
    }

    /// Whether anything has happened at `point`.
    pub fn has_struck(&self, point: &str) -> bool {
        self.trace().iter().any(|reached| reached.point == point && reached.action.is_some())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn reached(line: &str) -> Option<Reached> {
    let mut words = line.splitn(3, ' ');
    let (task, point, action) = (words.next()?, words.next()?, words.next()?);
    let action = (action != "-").then(|| action.to_owned());
    Some(Reached { task: task.to_owned(), point: point.to_owned(), action })
}

/// Where each flight was last. A flight is a task that has armed.
pub fn last_of_each_flight(trace: &[Reached]) -> Vec<&Reached> {
    let mut flights: BTreeMap<&str, (bool, &Reached)> = BTreeMap::new();
    for reached in trace.iter().filter(|reached| reached.task != "-") {
        let entry = flights.entry(&reached.task).or_insert((false, reached));
        *entry = (entry.0 || reached.point == "refresh.armed", reached);
    }
    flights.into_values().filter(|(armed, _)| *armed).map(|(_, last)| last).collect()
}

/// `None` while nobody answers.
pub async fn get(home: &Home, path: &str) -> Option<Answer> {
    ask(&home.socket(), "GET", path, None).await.ok()
}

/// As [`get`], within a time.
pub async fn post(home: &Home, path: &str, body: Value) -> Option<Answer> {
    let socket = home.socket();
    tokio::time::timeout(Duration::from_secs(20), ask(&socket, "POST", path, Some(body))).await.ok()?.ok()
}
