//! Whatever is wrong with what people and programs give grantd, the answer says what and where, and nothing has happened.

mod configuration;
mod definitions;
mod requests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::daemon::Output;
use crate::support::{Daemon, Home};

/// Runs a command that must end by itself.
async fn run(home: &Home, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(Daemon::command(home));
    let ended = tokio::time::timeout(Duration::from_secs(30), command.args(args).kill_on_drop(true).output()).await;
    let output = ended.expect("the command ends").unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Everything below a directory.
fn tree(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path);
    }
    found
}

/// Whether the text names the file with a line and a column: `FILE:3:14: `.
fn names_place(text: &str, file: &Path) -> bool {
    let Some((_, rest)) = text.split_once(&format!("{}:", file.display())) else { return false };
    let mut parts = rest.splitn(3, ':');
    let mut number = || parts.next().is_some_and(|part| part.parse::<u32>().is_ok_and(|number| number > 0));
    number() && number() && parts.next().is_some_and(|message| message.starts_with(' '))
}
