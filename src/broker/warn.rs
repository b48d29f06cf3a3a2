//! Warnings in the log before a connection needs a person: 14, 7 and 1 days ahead, once each.

use std::collections::HashSet;
use std::time::Duration;

use tracing::warn;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::forecast::{self, Forecast, WARNING_DAYS};
use crate::model::id::ConnectionId;
use crate::model::provider::rules::RefreshRules;
use crate::model::time::Timestamp;
use crate::store::records::{Ending, StoredConnection};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How many are read, and noted in one transaction.
const PAGE: usize = 500;

impl Broker {
    /// Warns of every connection that will need a person soon and has not been warned of yet. A warning is logged first and
    /// noted then, so one may come twice after a crash, and none is lost.
    ///
    /// # Errors
    /// If the store cannot be used; what was not noted is warned of again.
    pub async fn warn_of_endings(&self) -> Result<(), BrokerError> {
        let now = self.clock.now();
        let horizon = now.after(DAY * WARNING_DAYS[0]);
        let mut seen = HashSet::new();
        let mut last: Option<Ending> = None;
        loop {
            let page = self.store.ending(horizon, last.as_ref(), PAGE).await?;
            let mut warned = Vec::new();
            for ending in &page {
                let Some(due) = due(ending, now) else { continue };
                let id = &ending.key.connection;
                if seen.insert(id.clone()) && self.warn_of(id, now).await? {
                    warned.push((id.clone(), due));
                }
            }
            if !warned.is_empty() {
                self.store.note_warned(&warned).await?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
            last = page.into_iter().next_back();
        }
    }

    /// Says whether there is still something to warn of.
    async fn warn_of(&self, id: &ConnectionId, now: Timestamp) -> Result<bool, BrokerError> {
        let Some(stored) = self.store.connection(id).await? else { return Ok(false) };
        let Some(Forecast { at, why }) = self.forecast(&stored, now) else { return Ok(false) };
        let connection = &stored.connection;
        warn!(connection.id = %connection.id, provider.id = %connection.provider, subject = %connection.subject,
            needs_person_at = at.as_secs(), because = why.as_str(), days = at.until(now).as_secs().div_ceil(DAY.as_secs()),
            "`{}` at {} needs its person soon: {}", connection.account.name, connection.provider, why.sentence());
        Ok(true)
    }

    /// When a connection will need a person, by the definition of its provider as it is now.
    pub(super) fn forecast(&self, stored: &StoredConnection, now: Timestamp) -> Option<Forecast> {
        let registry = self.registry();
        let configured = registry.providers.get(&stored.connection.provider);
        let unknown = RefreshRules::default();
        forecast::of_connection(configured.map_or(&unknown, |configured| &configured.provider.refresh), stored, now)
    }
}

/// The warning that is due now and has not been given.
fn due(ending: &Ending, now: Timestamp) -> Option<Timestamp> {
    let (due, _) = forecast::warning(ending.at, now)?;
    Some(due).filter(|due| ending.warned.is_none_or(|warned| *due > warned))
}
