//! Notes that a refresh brought nothing, and when to try again. If the store cannot take the note now, it is tried until it
//! can, and until then the grant is left alone: the refresh token may be spent, and only the note says so.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::timeout;
use tracing::warn;

use crate::broker::Broker;
use crate::model::connection::Connection;
use crate::model::id::Version;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::records::{Failure, Grant, GrantKey};

/// How long something that only an operator can mend is left alone.
const OPERATOR_PAUSE: Duration = Duration::from_secs(300);
/// How long the store may take before whoever waits is let go.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first pause between attempts, doubled with each.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Broker {
    /// Leaves a grant alone for a while that cannot be renewed before an operator has acted. It stays as it is.
    pub(super) async fn put_off(
        self: &Arc<Self>,
        key: &GrantKey,
        connection: &Connection,
        grant: &Grant,
        class: &'static str,
    ) {
        let retry_at = self.clock.now().after(OPERATOR_PAUSE);
        self.leave_alone(key, connection, grant, class, retry_at).await;
    }

    /// Leaves a grant as it is until then.
    pub(super) async fn leave_alone(
        self: &Arc<Self>,
        key: &GrantKey,
        connection: &Connection,
        grant: &Grant,
        class: &'static str,
        retry_at: Timestamp,
    ) {
        let failure = Failure {
            class,
            number: None,
            state: connection.state.clone(),
            retry_at: Some(retry_at),
            uncertain: grant.uncertain || grant.lease.is_some(),
            rejections: grant.rejections,
        };
        self.note(key, connection, grant.version, failure).await;
    }

    /// Notes a failure of the version that was read, and lets callers see it.
    pub(super) async fn note(
        self: &Arc<Self>,
        key: &GrantKey,
        connection: &Connection,
        read: Version,
        failure: Failure,
    ) {
        let Err(error) = self.note_once(key, connection, read, &failure).await else { return };
        warn!(connection.id = %connection.id, %error, "Could not note that `{}` was not renewed; trying again", connection.id);
        self.unsettled.add_failure(key);
        let (broker, key, connection) = (Arc::clone(self), key.clone(), connection.clone());
        self.tasks.spawn(async move {
            let mut wait = WAIT_MIN;
            while broker.note_once(&key, &connection, read, &failure).await.is_err() {
                // Without the note the next run of the daemon takes the refresh token for one that may be spent, and is right.
                if timeout(wait, broker.stopping.cancelled()).await.is_ok() {
                    return;
                }
                wait = (wait * 2).min(WAIT_MAX);
            }
            broker.unsettled.remove(&key);
        });
    }

    /// One attempt. One that panics has failed like any other: whoever waits for the note must not wait for ever.
    async fn note_once(
        &self,
        key: &GrantKey,
        connection: &Connection,
        read: Version,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        let noting = AssertUnwindSafe(self.attempt_note(key, connection, read, failure)).catch_unwind();
        noting.await.unwrap_or_else(|_| Err(StoreError::Busy("noting it panicked".to_owned())))
    }

    async fn attempt_note(
        &self,
        key: &GrantKey,
        connection: &Connection,
        read: Version,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        failpoint_async!("settle.noting");
        let noting = self.store.record_failure(key, read, failure);
        let noted = timeout(PATIENCE, noting).await;
        failpoint_async!("settle.noted");
        if !noted.unwrap_or_else(|_| Err(StoreError::Busy("it takes too long".to_owned())))? {
            self.forget(connection);
            return Ok(());
        }
        self.cache.change(connection, |mut held| {
            held.connection.state = failure.state.clone();
            if let Some(grant) = held.grants.iter_mut().find(|grant| grant.granted.slot == key.slot) {
                grant.failing = true;
                grant.renew_at = failure.retry_at;
            }
            held
        });
        Ok(())
    }
}
