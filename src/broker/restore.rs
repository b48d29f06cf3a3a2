//! What an administrator sees of a store that may be an old copy, and the word that lets it go on.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::quarantine::is_held;
use crate::model::caller::Caller;
use crate::store::records::{Hold, StoredConnection};

/// How many connections are read at once.
const PAGE: usize = 500;
/// How many connections are looked at in all; a count is not worth more.
const LOOK_MAX: usize = 10_000;

/// How a held store stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// The hold.
    pub hold: Hold,
    /// How many connections are not renewed because of it.
    pub connections: usize,
    /// Whether there were too many connections to look at all of them: there may be more.
    pub more: bool,
}

impl Broker {
    /// Whether anything is held, for whoever wants to know; nothing is told of whom it concerns.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn standing_hold(&self) -> Result<Option<Hold>, BrokerError> {
        Ok(self.store.hold().await?)
    }

    /// What is held, for an administrator.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] for anybody else.
    pub async fn held(&self, caller: &Caller) -> Result<Option<Held>, BrokerError> {
        administrator(caller)?;
        let Some(hold) = self.store.hold().await? else { return Ok(None) };
        let mut held = Held { hold, connections: 0, more: true };
        let (mut after, mut looked) = (None, 0);
        while looked < LOOK_MAX {
            let page = self.store.connections(after.as_ref(), PAGE).await?;
            held.connections += page.iter().filter(|stored| self.is_concerned(&hold, stored)).count();
            looked += page.len();
            if page.len() < PAGE {
                held.more = false;
                break;
            }
            after = page.last().map(|last| last.connection.id.clone());
        }
        Ok(Some(held))
    }

    /// Lets every grant be renewed again, whatever its refresh token is worth by now. Gives what was held until then.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] unless an administrator asks.
    pub async fn accept_restore(&self, caller: &Caller) -> Result<Option<Held>, BrokerError> {
        self.administers(caller, "accept_restore")?;
        let held = self.held(caller).await?;
        if self.store.release_hold().await? {
            self.give_up_what_is_newer().await;
            // What memory holds still says when the held ones are to be tried again.
            self.cache.clear();
            self.restore_noted(caller);
            tracing::warn!(caller = %caller.name, "The restored store was accepted: held grants are renewed again");
        }
        Ok(held)
    }

    /// Whether an administrator asks for `act`. That somebody else does is written down.
    pub(super) fn administers(&self, caller: &Caller, act: &'static str) -> Result<(), BrokerError> {
        let allowed = administrator(caller);
        if let Err(refused @ BrokerError::Denied { rule }) = &allowed {
            self.refusal_noted(caller, act, rule, refused, None);
        }
        allowed
    }

    fn is_concerned(&self, hold: &Hold, stored: &StoredConnection) -> bool {
        let registry = self.registry();
        let Some(configured) = registry.providers.get(&stored.connection.provider) else { return false };
        let rules = &configured.provider.refresh;
        stored
            .grants
            .iter()
            .any(|grant| grant.content.refresh.is_some() && is_held(Some(hold), rules, grant.content.issued_at))
    }
}

pub(super) fn administrator(caller: &Caller) -> Result<(), BrokerError> {
    if caller.admin { Ok(()) } else { Err(BrokerError::Denied { rule: "administrators only" }) }
}
