//! What a caller may see: connections and how they stand, never their tokens.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::model::caller::Caller;
use crate::model::id::ConnectionId;
use crate::policy::{self, Action};
use crate::store::records::StoredConnection;

/// How many connections are read at once.
const PAGE: usize = 500;

impl Broker {
    /// The caller's own connections; with `everybody` those of all subjects, for an administrator.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] if `everybody` is asked for by somebody who does not administer.
    pub async fn connections(&self, caller: &Caller, everybody: bool) -> Result<Vec<StoredConnection>, BrokerError> {
        if !everybody {
            return Ok(self.store.connections_of(&caller.subject).await?);
        }
        if !caller.admin {
            return Err(BrokerError::Denied { rule: "administrators only" });
        }
        let mut all: Vec<StoredConnection> = Vec::new();
        loop {
            let after = all.last().map(|last| last.connection.id.clone());
            let page = self.store.connections(after.as_ref(), PAGE).await?;
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// One connection.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] also if it is somebody else's.
    pub async fn connection(&self, caller: &Caller, id: &ConnectionId) -> Result<StoredConnection, BrokerError> {
        let stored = self.store.connection(id).await?.ok_or(BrokerError::NotFound)?;
        if policy::decide(caller, Action::See(&stored.connection.subject)).allowed {
            Ok(stored)
        } else {
            Err(BrokerError::NotFound)
        }
    }

    /// Whether a token could be kept now.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn probe(&self) -> Result<(), BrokerError> {
        Ok(self.store.probe(self.clock.now()).await?)
    }
}
