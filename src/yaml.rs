//! Reads one strict YAML document: every error says the file, the line, the column and what was expected.
//!
//! The document is read twice. [`scan`] looks at the characters and refuses what costs more than it says: anchors,
//! aliases, tags, deep nesting, several documents. [`tree`] then makes a tree of plain values and refuses what YAML
//! readers accept silently: duplicate and merge keys. Only the tree reaches the types.
//!
//! No error repeats a value of the file, because the value may be a secret in the wrong place.

mod fault;
mod place;
mod scan;
mod tree;

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use fault::nearest;
pub use place::{Place, Segment, dotted, locate};

/// The largest file that is read, in bytes.
pub const FILE_MAX: usize = 256 * 1024;

/// How many collections may stand in one another.
pub const DEPTH_MAX: usize = 32;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct YamlError {
    /// The file, as its reader names it.
    pub file: String,
    /// Line and column, where they are known.
    pub place: Option<Place>,
    /// What is wrong and what was expected. Holds no value of the file.
    pub message: String,
    /// The member it is about, such as `endpoints.token`; empty for the whole file.
    pub path: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(place) = self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        write!(f, " {}", self.message)?;
        if !self.path.is_empty() {
            write!(f, " (at {})", self.path)?;
        }
        Ok(())
    }
}

impl std::error::Error for YamlError {}

impl YamlError {
    /// An error about the whole file.
    #[must_use]
    pub fn whole(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, message: message.into(), path: String::new() }
    }

    /// An error about the member at `path` of `text`, or the nearest one around it that is written there.
    #[must_use]
    pub fn at(file: &str, text: &str, path: &[Segment], message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: place::nearest_place(text, path),
            message: message.into(),
            path: place::dotted(path),
        }
    }
}

/// Reads `text` as a `T`. `file` is its name for errors.
///
/// # Errors
/// If it is not one plain YAML mapping, or not a `T`.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, YamlError> {
    let value = tree(file, text)?;
    shape(value).map_err(|fault| YamlError {
        file: file.to_owned(),
        place: fault.place(text, &fault.path),
        path: place::dotted(&fault.path),
        message: fault.message,
    })
}

/// Reads `text` as a tree of plain values, without a type to hold it against.
///
/// # Errors
/// If it is not one plain YAML mapping.
pub fn tree(file: &str, text: &str) -> Result<Value, YamlError> {
    let located = |(place, message): (Option<Place>, String)| YamlError {
        file: file.to_owned(),
        place,
        message,
        path: String::new(),
    };
    let text = body(text);
    if text.len() > FILE_MAX {
        return Err(YamlError::whole(file, format!("is larger than {} KiB", FILE_MAX / 1024)));
    }
    scan::scan(text).map_err(|(place, message)| located((Some(place), message)))?;
    tree::build(text).map_err(located)
}

/// What a tree lacks to be of a type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The member it is about.
    pub path: Vec<Segment>,
    /// What is wrong and what was expected. Holds no value of the file.
    pub message: String,
    on_key: bool,
}

impl Fault {
    /// Where the fault stands in `text`, if its member is found there under `path`.
    #[must_use]
    pub fn place(&self, text: &str, path: &[Segment]) -> Option<Place> {
        if self.on_key { place::nearest_key(text, path) } else { place::nearest_place(text, path) }
    }
}

/// Makes a `T` of a tree.
///
/// # Errors
/// If it does not fit.
pub fn shape<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = place::segments(error.path());
        let (message, on_key) = fault::plain(&error.into_inner().to_string());
        Fault { path, message, on_key }
    })
}

/// The text of a file, if it is UTF-8 and not too large.
///
/// # Errors
/// If it cannot be read, is larger than [`FILE_MAX`], or is not UTF-8.
pub fn open(path: &Path) -> Result<String, YamlError> {
    let file = path.display().to_string();
    let opened = std::fs::File::open(path).map_err(|error| cannot(&file, &error))?;
    contents(&file, opened)
}

/// The text of a file that says where tokens go: nobody but its owner may change it, and the owner is this user or root.
///
/// # Errors
/// As [`open`], and if somebody else could have written it.
pub fn open_trusted(path: &Path) -> Result<String, YamlError> {
    let file = path.display().to_string();
    let opened = std::fs::File::open(path).map_err(|error| cannot(&file, &error))?;
    let metadata = opened.metadata().map_err(|error| cannot(&file, &error))?;
    trusted(&metadata).map_err(|message| YamlError::whole(&file, message))?;
    contents(&file, opened)
}

/// Whether nobody else could have changed a file or directory.
///
/// # Errors
/// A sentence that says who could.
pub fn trusted(metadata: &std::fs::Metadata) -> Result<(), String> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o022 != 0 {
        return Err(format!("has the mode {mode:04o}; expected no writing by group and others, such as 0644"));
    }
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(format!("belongs to user {owner}; expected this user or root"));
    }
    Ok(())
}

fn cannot(file: &str, error: &std::io::Error) -> YamlError {
    YamlError::whole(file, format!("cannot be read: {error}"))
}

fn contents(file: &str, opened: std::fs::File) -> Result<String, YamlError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = opened.take(limit).read_to_end(&mut bytes);
    read.map_err(|error| cannot(file, &error))?;
    if bytes.len() > FILE_MAX {
        return Err(YamlError::whole(file, format!("is larger than {} KiB", FILE_MAX / 1024)));
    }
    utf8(file, bytes)
}

/// Bytes as text.
///
/// # Errors
/// If they are not UTF-8, with the place of the first that is not.
pub fn utf8(file: &str, bytes: Vec<u8>) -> Result<String, YamlError> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = good.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let before = String::from_utf8_lossy(&good[line_start..]);
        YamlError {
            file: file.to_owned(),
            place: Some(Place {
                line: good.iter().filter(|b| **b == b'\n').count() + 1,
                column: before.chars().count() + 1,
            }),
            message: "expected UTF-8 text".to_owned(),
            path: String::new(),
        }
    })
}

/// Some editors begin a file with a byte order mark.
fn body(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests;
