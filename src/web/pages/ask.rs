//! The first page: who asks, for what, and one button.

use askama::Template;

use crate::broker::connect::Visit;
use crate::model::provider::Provider;
use crate::model::session::Progress;
use crate::web::pages::confirm::shown_name;
use crate::web::pages::{ScopeLine, Tone, provider_name};
use crate::web::wording::{PURPOSE_SHOWN, caller, line, lines};

/// Who asks, for what, and one button.
#[derive(Clone, Debug, Template)]
#[template(path = "ask.html")]
pub struct Ask {
    /// The connect session, for the forms.
    pub id: String,
    /// What people call the provider.
    pub provider: String,
    /// The host the button leads to.
    pub host: String,
    /// Who asks.
    pub caller: String,
    /// What for, in the caller's words.
    pub purpose: Option<String>,
    /// What will be asked for.
    pub scopes: Vec<ScopeLine>,
    /// The account that is to be connected again.
    pub again: Option<String>,
    /// What agreeing again does to the accounts that are connected already.
    pub replaces: Option<Replaces>,
    /// The short code to compare with the one in the message.
    pub user_code: String,
    /// Whether the button has been pressed before.
    pub opened: bool,
    /// The token of the forms.
    pub csrf: String,
}

/// What agreeing again does.
#[derive(Clone, Debug)]
pub struct Replaces {
    /// Which accounts are connected.
    pub accounts: Vec<String>,
    /// What happens, in a sentence.
    pub sentence: String,
}

impl Replaces {
    fn of(visit: &Visit, provider: &Provider) -> Option<Self> {
        let sentence = provider.consent_warning().filter(|_| !visit.replaces.is_empty())?;
        Some(Self {
            accounts: visit.replaces.iter().map(shown_name).collect(),
            sentence: line(&sentence, PURPOSE_SHOWN),
        })
    }
}

impl Ask {
    /// `None` if the provider has been taken out of the configuration: there is nowhere to send the person.
    pub(crate) fn of(visit: &Visit, csrf: &str) -> Option<Self> {
        let provider = &visit.configured.as_ref()?.provider;
        let session = &visit.session;
        Some(Self {
            id: session.id.to_string(),
            provider: provider_name(visit),
            host: provider.endpoints.authorize.host_str().unwrap_or_default().to_owned(),
            caller: caller(session),
            purpose: session
                .purpose
                .as_ref()
                .map(|purpose| line(purpose, PURPOSE_SHOWN))
                .filter(|purpose| !purpose.is_empty()),
            scopes: lines(&session.scopes, Some(&provider.scopes)),
            again: visit.previous_account.as_ref().map(shown_name),
            replaces: Replaces::of(visit, provider),
            user_code: session.user_code.clone(),
            opened: session.progress == Progress::Opened,
            csrf: csrf.to_owned(),
        })
    }
}
