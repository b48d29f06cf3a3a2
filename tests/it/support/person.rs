//! Other users of the machine: a thread of its own is one of them for as long as it runs.

use std::future::Future;
use std::io::Write;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A user by numbers. Neither has to stand in any file.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    pub uid: u32,
    pub gid: u32,
}

impl Person {
    /// Does `work` as this person: sockets are opened, and files looked at, with these credentials and no others. Needs root.
    pub async fn does<T, F, W>(self, work: W) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
        W: FnOnce() -> F + Send + 'static,
    {
        let acting = std::thread::spawn(move || {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work())
        });
        match tokio::task::spawn_blocking(|| acting.join()).await.unwrap() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Whether this process can be other people. If not, says what is not tested.
pub fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(what, "it takes root to be other users");
    }
    root
}

/// Says that a part of a test could not run.
pub fn skipped(what: &str, why: &str) {
    let line = format!("not tested here: {what}, because {why}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}
