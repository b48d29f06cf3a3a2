//! Why a file cannot be used as a store, and what that means for a store in use.

use std::io;
use std::path::PathBuf;

use crate::store::StoreError;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it. The path is that of the lock.
    #[error("{0} is locked: another grantd uses this store")]
    InUse(PathBuf),
    /// It is no place for a store; nothing was written.
    #[error("{path} {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },
    /// A later grantd wrote it; nothing was changed.
    #[error("the store has format {found}, and this grantd knows formats up to {known}: use a newer one")]
    Newer {
        /// The format of the file.
        found: i64,
        /// The latest format that is known here.
        known: usize,
    },
    /// The file is not whole: restore a backup.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// SQLite could not do it now.
    #[error("the store cannot be opened now: {0}")]
    Busy(String),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(why) => Self::Busy(why),
            StoreError::Damaged(what) => Self::Damaged(what),
        }
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged(what) => Self::Damaged(what),
            OpenError::Busy(why) => Self::Busy(why),
            other => Self::Busy(other.to_string()),
        }
    }
}
