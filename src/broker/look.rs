//! What a caller may see: connections and how they stand, never their tokens.

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::explain::Explained;
use crate::broker::forecast::{self, Forecast};
use crate::model::caller::Caller;
use crate::model::id::{ConnectionId, SlotName};
use crate::model::time::Timestamp;
use crate::policy::{self, Action, Target};
use crate::store::records::StoredConnection;

/// How many connections are read at once.
const PAGE: usize = 500;

/// A connection and how it stands now.
#[derive(Clone, Debug)]
pub struct Look {
    /// As it is stored, but for its state and its last use, which are those of now.
    pub stored: StoredConnection,
    /// When it will need a person if nothing changes.
    pub forecast: Option<Forecast>,
    /// What the number of the last failure means, for each slot that has one.
    pub explained: BTreeMap<SlotName, Explained>,
}

impl Broker {
    /// The caller's own connections; with `everybody` those of all subjects, for an administrator.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] if `everybody` is asked for by somebody who does not administer.
    pub async fn connections(&self, caller: &Caller, everybody: bool) -> Result<Vec<Look>, BrokerError> {
        let now = self.clock.now();
        if !everybody {
            let own = self.store.connections_of(&caller.subject).await?;
            let own = own.into_iter().filter_map(|stored| seen(caller, stored));
            return Ok(own.map(|stored| self.look(stored, now)).collect());
        }
        if !caller.admin {
            return Err(BrokerError::Denied { rule: "administrators only" });
        }
        let mut all: Vec<Look> = Vec::new();
        loop {
            let after = all.last().map(|last| last.stored.connection.id.clone());
            let page = self.store.connections(after.as_ref(), PAGE).await?;
            let last = page.len() < PAGE;
            all.extend(page.into_iter().map(|stored| self.look(stored, now)));
            if last {
                return Ok(all);
            }
        }
    }

    /// One connection.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] also if it is somebody else's.
    pub async fn connection(&self, caller: &Caller, id: &ConnectionId) -> Result<Look, BrokerError> {
        let stored = self.store.connection(id).await?.ok_or(BrokerError::NotFound)?;
        let stored = seen(caller, stored).ok_or(BrokerError::NotFound)?;
        Ok(self.look(stored, self.clock.now()))
    }

    fn look(&self, mut stored: StoredConnection, now: Timestamp) -> Look {
        let forecast = self.forecast(&stored, now);
        stored.connection.state = forecast::state(&stored, now);
        stored.connection.used_at = self.usage.last(&stored.connection);
        let explained = stored.grants.iter().filter_map(|grant| {
            Some((grant.slot.clone(), self.explain(&stored.connection.provider, grant.failure_number)?))
        });
        let explained = explained.collect();
        Look { stored, forecast, explained }
    }

    /// Whether a token could be kept now.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn probe(&self) -> Result<(), BrokerError> {
        Ok(self.store.probe(self.clock.now()).await?)
    }
}

/// What of a connection the caller may see: nothing, or it with those of its slots that are the caller's.
fn seen(caller: &Caller, mut stored: StoredConnection) -> Option<StoredConnection> {
    let StoredConnection { connection, grants } = &mut stored;
    let target = Target::of(connection);
    if !policy::decide(caller, Action::See(target)).is_allowed() {
        return None;
    }
    grants.retain(|grant| target.owner != &caller.subject || policy::sees_slot(caller, &target, &grant.slot));
    Some(stored)
}
