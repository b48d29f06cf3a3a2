//! What SQLite's errors mean to whoever uses the store.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// The store has been closed, or its thread is gone.
pub(super) fn closed() -> StoreError {
    StoreError::Busy("it is closed".into())
}

/// Whether the connection to the file is as good as before the error. After an error of the disk it is not: pages that could
/// not be written may look as if they had been.
pub(super) fn leaves_connection_whole(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // Faults of the machine, and therefore nobody's data: they pass, or an operator sees them on the disk.
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OperationInterrupted
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure,
            ) => Self::Busy(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}
