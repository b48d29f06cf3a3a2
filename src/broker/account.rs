//! What a person calls an account, and which one is meant when a caller names none.

use tracing::info;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::look::Look;
use crate::model::caller::Caller;
use crate::model::connection::Account;
use crate::model::id::{ConnectionId, ProviderId};
use crate::model::label::Label;
use crate::model::subject::Subject;
use crate::policy::{self, Action, Target};
use crate::store::StoreError;
use crate::store::records::{Named, Naming};

/// One of several accounts, with everything that a caller can tell it by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// The account.
    pub account: Account,
    /// What its subject calls it.
    pub label: Option<Label>,
    /// The connection.
    pub connection: ConnectionId,
}

impl Broker {
    /// Changes what a connection of the caller's own is called, and whether it is the default at its provider. The next token
    /// request sees it.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] also if it is somebody else's; [`BrokerError::LabelTaken`]; [`BrokerError::Denied`] for a
    /// configured caller, because others of its subject go by the name too.
    pub async fn name(&self, caller: &Caller, id: &ConnectionId, naming: &Naming) -> Result<Look, BrokerError> {
        let stored = self.store.connection(id).await?.ok_or(BrokerError::NotFound)?;
        let decision = policy::decide(caller, Action::Name(Target::of(&stored.connection)));
        self.pass_noted(caller, "name", &decision, &stored.connection)?;
        match self.store.name(id, naming).await? {
            Named::Gone => Err(BrokerError::NotFound),
            Named::Taken => Err(BrokerError::LabelTaken),
            Named::Yes(connection) => {
                self.forget(&connection);
                self.naming_noted(caller, decision.rule(), &connection);
                info!(connection.id = %id, provider.id = %connection.provider, caller = %caller.name, default = connection.is_default,
                    "`{}` changed what `{}` at {} is called", caller.name, connection.account.name, connection.provider);
                self.connection(caller, id).await
            }
        }
    }

    /// The subject's accounts whose access a new consent at the provider may end; empty where a consent ends nothing.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn replaced_by_consent(
        &self,
        subject: &Subject,
        provider: &ProviderId,
    ) -> Result<Vec<Account>, StoreError> {
        let registry = self.registry();
        let Some(configured) = registry.providers.get(provider).filter(|it| it.provider.consent.replaces_earlier)
        else {
            return Ok(Vec::new());
        };
        let connected = self.store.connections_at(subject, &configured.provider.id).await?;
        Ok(connected.into_iter().map(|stored| stored.connection.account).collect())
    }
}
