//! The second page: the account that came back, and what was and was not granted.

use askama::Template;

use crate::broker::connect::Visit;
use crate::model::connection::Account;
use crate::model::scope::ScopeSet;
use crate::web::pages::{ScopeLine, Tone, provider_name};
use crate::web::wording::{NAME_SHOWN, caller, line, lines, outcome};

/// The account that came back, for a yes or a no.
#[derive(Clone, Debug, Template)]
#[template(path = "confirm.html")]
pub struct Confirm {
    /// The connect session, for the forms.
    pub id: String,
    /// What people call the provider.
    pub provider: String,
    /// Who asked.
    pub caller: String,
    /// What a person calls the account.
    pub account: String,
    /// The provider's own id for it.
    pub account_id: String,
    /// On a reconnect that came back with another account: the one that was connected before.
    pub instead_of: Option<String>,
    /// What was granted.
    pub granted: Vec<ScopeLine>,
    /// What was asked for and not granted.
    pub refused: Vec<ScopeLine>,
    /// The token of the forms.
    pub csrf: String,
}

impl Confirm {
    pub(crate) fn of(visit: &Visit, account: &Account, granted: &ScopeSet, csrf: &str) -> Self {
        let rules = visit.configured.as_ref().map(|configured| &configured.provider.scopes);
        let (given, refused) = outcome(&visit.session.scopes, granted, rules);
        Self {
            id: visit.session.id.to_string(),
            provider: provider_name(visit),
            caller: caller(&visit.session),
            account: shown_name(account),
            account_id: line(&account.id, NAME_SHOWN),
            instead_of: visit.previous_account.as_ref().filter(|previous| previous.id != account.id).map(shown_name),
            granted: lines(&given, rules),
            refused: lines(&refused, rules),
            csrf: csrf.to_owned(),
        }
    }
}

/// The account's name, or its id where nothing of the name can be seen.
pub(crate) fn shown_name(account: &Account) -> String {
    let name = line(&account.name, NAME_SHOWN);
    if name.is_empty() { line(&account.id, NAME_SHOWN) } else { name }
}
