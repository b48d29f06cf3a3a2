//! The last page: it is connected, and what happens next.

use askama::Template;

use crate::broker::connect::Visit;
use crate::model::connection::Account;
use crate::model::id::ConnectionId;
use crate::web::pages::confirm::shown_name;
use crate::web::pages::{Tone, provider_name};
use crate::web::wording::caller;

/// It is connected.
#[derive(Clone, Debug, Template)]
#[template(path = "done.html")]
pub struct Done {
    /// What people call the provider.
    pub provider: String,
    /// What a person calls the account.
    pub account: String,
    /// Who asked.
    pub caller: String,
    /// The connection's name, for ending it later.
    pub connection: String,
}

impl Done {
    pub(crate) fn of(visit: &Visit, connection: &ConnectionId, account: &Account) -> Self {
        Self {
            provider: provider_name(visit),
            account: shown_name(account),
            caller: caller(&visit.session),
            connection: connection.to_string(),
        }
    }
}
