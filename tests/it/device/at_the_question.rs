//! Whoever ends the command while it asks about the account, or waits, ends the session: what was granted is given back.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::device::{enter, hasty};
use crate::support::{Daemon, World, eventually};

/// `grantd connect sandbox --device` at a terminal of its own.
struct Desk {
    child: Child,
    seen: Arc<Mutex<String>>,
    // Typed into by nobody; the terminal lives as long as this does.
    _terminal: File,
}

impl Desk {
    fn sit_down(world: &World) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs: OwnedFd = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let mut command = Daemon::command(&world.daemon.home);
        command.args(["connect", "sandbox", "--device"]);
        command.stdin(Stdio::from(theirs.try_clone().unwrap()));
        command.stdout(Stdio::from(theirs.try_clone().unwrap())).stderr(Stdio::from(theirs));
        let child = command.spawn().unwrap();
        // It has copies of what belongs to the child.
        drop(command);
        let (terminal, seen) = (File::from(ours), Arc::new(Mutex::new(String::new())));
        let (mut reading, writing) = (terminal.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // When the other end is closed a terminal answers with an error.
            while let Ok(count @ 1..) = reading.read(&mut bytes) {
                writing.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, seen, _terminal: terminal }
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    async fn shows(&self, what: &str) {
        eventually(what, async || self.seen().contains(what)).await;
    }

    /// Enters the code that is shown.
    async fn code_is_entered(&self) {
        self.shows("tell it to nobody").await;
        let seen = self.seen();
        let line = |what: &str| {
            let mut lines = seen.lines().map(str::trim);
            lines.find(|line| line.starts_with(what) || (what == "-" && is_code(line))).unwrap().to_owned()
        };
        let device = json!({"verification_uri": line("http://"), "user_code": line("-")});
        enter(&device, "allow", "u-1002").await;
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.seen());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_code(line: &str) -> bool {
    line.len() == 9 && line.as_bytes()[4] == b'-'
}

#[tokio::test]
async fn who_is_interrupted_at_the_question_has_said_no_and_what_came_is_given_back() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = World::with(hasty()).await;
        let mut desk = Desk::sit_down(&world);
        desk.code_is_entered().await;
        desk.shows("[y/N]").await;
        assert_eq!(world.live_grants(), 1);
        desk.signal(signal);
        assert_eq!(desk.ended().await, Some(4), "{signal:?}: {}", desk.seen());
        desk.shows("grantd: cancelled: nothing was connected").await;
        world.assert_nothing_kept("an interruption at the question").await;
        world.assert_sound();
    }
}

#[tokio::test]
async fn who_is_interrupted_while_waiting_cancels_what_was_begun() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = World::with(hasty()).await;
        let mut desk = Desk::sit_down(&world);
        desk.shows("Ctrl-C cancels").await;
        desk.signal(signal);
        assert_eq!(desk.ended().await, Some(4), "{signal:?}: {}", desk.seen());
        desk.shows("grantd: cancelled: nothing was connected").await;
        world.assert_nothing_kept("an interruption while waiting").await;
    }
}

#[tokio::test]
async fn where_no_daemon_answers_any_more_the_command_ends_all_the_same_and_says_so() {
    let mut world = World::with(hasty()).await;
    let mut desk = Desk::sit_down(&world);
    desk.code_is_entered().await;
    desk.shows("[y/N]").await;
    world.daemon.kill();
    desk.signal(Signal::INT);
    assert_eq!(desk.ended().await, Some(4), "{}", desk.seen());
    desk.shows("interrupted; what was begun ends by itself").await;
    world.daemon.restart().await;
    assert_eq!(world.daemon.token(json!({})).await.status, 409, "nothing serves that nobody confirmed");
}
