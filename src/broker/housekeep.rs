//! What has to be done now and then: sessions end, revocations are finished, old things forgotten.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::model::session::ConnectFailure;

/// How long a session that has ended is still shown.
const SESSION_MEMORY: Duration = Duration::from_secs(24 * 3600);

impl Broker {
    /// Ends sessions whose time is over, forgets old ones, and tries again what could not be revoked at a provider.
    ///
    /// # Errors
    /// If the store cannot be used; what was not done is done the next time.
    pub async fn housekeep(self: &Arc<Self>) -> Result<(), BrokerError> {
        let now = self.clock.now();
        for id in self.store.overdue_sessions(now).await? {
            if let Some(session) = self.store.session(&id).await? {
                self.end_session(&session, ConnectFailure::Expired).await?;
            }
        }
        self.store.prune_sessions(now.before(SESSION_MEMORY)).await?;
        self.finish_returning().await?;
        for unfinished in self.store.unfinished_revocations().await? {
            self.finish_revocation(&unfinished).await;
        }
        Ok(())
    }
}
