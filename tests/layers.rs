//! The rules of the source tree: imports point downwards, only `daemon` names a storage backend, files are small and say
//! what they are for.
//!
//! Rust lets modules import in circles, so this reads the source text.

#[path = "layers/planted.rs"]
mod planted;
#[path = "layers/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::PathBuf;

use grantd::failpoint;

use crate::source::{File, Named, first_word, line_of, sources, test_modules, without_tests, words};

/// Lowest first. A module names modules of the rows above its own in this list, never of its own row or a later one.
const LAYERS: [&[&str]; 7] = [
    &["failpoint", "model", "telemetry", "yaml"],
    &["oauth", "catalog", "policy", "seal", "clock"],
    &["store", "egress", "tls"],
    &["broker", "access"],
    &["api", "web", "jobs", "config"],
    &["daemon", "sandbox"],
    &["cli"],
];

/// Children of `store` that only `daemon` and `store` itself name. Text behind `#[cfg(test)]` may: a test picks its store.
const BACKENDS: [&str; 3] = ["memory", "postgres", "sqlite"];

/// Names that gather strays instead of saying what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];

/// A file longer than this has more than one responsibility.
const MOST_LINES: usize = 500;

#[test]
fn imports_point_downwards() {
    none(sources().iter().flat_map(against_the_layers));
}

#[test]
fn only_the_daemon_names_a_storage_backend() {
    let files = sources();
    let tests: BTreeSet<PathBuf> = files.iter().flat_map(test_modules).collect();
    none(
        files
            .iter()
            .filter(|file| !file.module.ancestors().any(|module| tests.contains(module)))
            .flat_map(backends_named),
    );
}

#[test]
fn every_failpoint_is_on_the_list_and_stands_in_one_place() {
    let points: Vec<String> = sources().iter().filter(|file| file.top() != "failpoint").flat_map(failpoints).collect();
    let listed: Vec<&str> = failpoint::NAMES.iter().chain(failpoint::CONTROLS).copied().collect();
    let unlisted = points.iter().filter(|point| !listed.contains(&point.as_str()));
    let wrong = unlisted.map(|point| format!("the failpoint `{point}` is not listed in src/failpoint.rs"));
    let missing = listed.iter().filter_map(|name| {
        let places = points.iter().filter(|point| point == name).count();
        (places != 1).then(|| format!("the failpoint `{name}` stands in {places} places"))
    });
    none(wrong.chain(missing));
}

#[test]
fn every_file_is_small_and_says_what_it_is_for() {
    none(sources().iter().flat_map(shape));
}

fn none(wrong: impl Iterator<Item = String>) {
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "against the rules of the house:\n{}", wrong.join("\n"));
}

// The rules

fn against_the_layers(file: &File) -> Vec<String> {
    let own = file.top();
    if own.is_empty() {
        return Vec::new();
    }
    let Some(row) = row_of(own) else {
        return vec![format!("{}: `{own}` is in no layer", file.path)];
    };
    let mut wrong = Vec::new();
    for Named { line, path, grouped } in file.named() {
        let target = path[0].as_str();
        if grouped {
            wrong.push(format!("{}:{line}: one `use crate::…` for each module, not a group", file.path));
        } else if target != own && row_of(target).is_some_and(|theirs| theirs >= row) {
            wrong.push(format!("{}:{line}: `{own}` must not name `{}`", file.path, path.join("::")));
        }
    }
    wrong.dedup();
    wrong
}

fn backends_named(file: &File) -> Vec<String> {
    if ["daemon", "store"].contains(&file.top()) {
        return Vec::new();
    }
    let served = File { code: without_tests(&file.code), ..file.clone() };
    let by_path = served.named().into_iter().filter(|named| {
        named.path[0] == "store" && named.path.get(1).is_some_and(|child| BACKENDS.contains(&child.as_str()))
    });
    // After `use crate::store;` a backend is two words that follow each other.
    let by_words = words(&served.code).into_iter().filter_map(|(at, word)| {
        let child = served.code[at + word.len()..].strip_prefix("::")?;
        let is_backend = word == "store" && BACKENDS.contains(&first_word(child));
        is_backend.then(|| Named { line: line_of(&served.code, at), path: vec![word.to_owned()], grouped: false })
    });
    let lines: BTreeSet<usize> = by_path.chain(by_words).map(|named| named.line).collect();
    lines.into_iter().map(|line| format!("{}:{line}: names a storage backend", file.path)).collect()
}

/// The names of the failpoints in a file.
fn failpoints(file: &File) -> Vec<String> {
    words(&file.code)
        .into_iter()
        .filter(|(_, word)| ["failpoint", "failpoint_async"].contains(word))
        .filter_map(|(at, word)| file.text[at + word.len()..].strip_prefix("!(")?.trim_start().strip_prefix('"'))
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}

fn shape(file: &File) -> Vec<String> {
    let mut wrong = Vec::new();
    if !file.text.starts_with("//! ") {
        wrong.push(format!("{}: opens without a `//! ` line that says what it is for", file.path));
    }
    let lines = file.text.lines().count();
    if lines > MOST_LINES {
        wrong.push(format!("{}: {lines} lines, and {MOST_LINES} are the most", file.path));
    }
    let declared = words(&file.code)
        .into_iter()
        .filter(|(_, word)| *word == "mod")
        .map(|(at, word)| first_word(file.code[at + word.len()..].trim_start()).to_owned());
    let folders = file.module.iter().map(|part| part.to_string_lossy().into_owned());
    for name in declared.chain(folders).collect::<BTreeSet<_>>() {
        if EMPTY_NAMES.contains(&name.as_str()) {
            wrong.push(format!("{}: `{name}` does not say what is inside", file.path));
        }
    }
    wrong
}

fn row_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}
