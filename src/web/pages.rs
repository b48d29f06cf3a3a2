//! What each page says: one small struct and one template for each, and which of them a connect session gets.

mod ask;
mod confirm;
mod done;
mod home;
mod notice;

use askama::Template;

use crate::broker::connect::Visit;
use crate::model::provider::redirect;
use crate::model::session::Progress;
pub use crate::web::pages::ask::Ask;
pub use crate::web::pages::confirm::Confirm;
pub use crate::web::pages::done::Done;
pub use crate::web::pages::home::{Home, HomeProvider};
pub use crate::web::pages::notice::{Exact, Link, Next, Notice, Problem};
use crate::web::wording::{NAME_SHOWN, line};

/// The colour and the glyph a page opens with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tone {
    /// A question to the person.
    Ask,
    /// All is well.
    Good,
    /// It ended, or must not go on.
    Stop,
    /// Something is waited for.
    Wait,
    /// Somebody should look.
    Warn,
}

impl std::fmt::Display for Tone {
    /// The class in the stylesheet.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ask => "ask",
            Self::Good => "good",
            Self::Stop => "stop",
            Self::Wait => "wait",
            Self::Warn => "warn",
        })
    }
}

/// One scope in a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScopeLine {
    /// What it allows, in plain words, if the provider's definition says so.
    pub sentence: Option<String>,
    /// The scope itself.
    pub scope: String,
}

/// The page of a connect session.
#[derive(Debug)]
pub enum Page {
    /// Shall it begin?
    Ask(Ask),
    /// Is this the account?
    Confirm(Confirm),
    /// It is connected.
    Done(Done),
    /// It ended, or goes on elsewhere.
    Notice(Notice),
}

impl Page {
    /// The page for what the broker says of a session. `csrf` goes into its forms.
    #[must_use]
    pub fn of(visit: &Visit, csrf: &str) -> Self {
        match &visit.session.progress {
            Progress::Opened if visit.by_device => Self::Notice(Notice::in_terminal(&provider_name(visit))),
            Progress::Pending | Progress::Opened if let Some(notice) = no_way_back(visit) => Self::Notice(notice),
            Progress::Pending | Progress::Opened => match Ask::of(visit, csrf) {
                Some(ask) => Self::Ask(ask),
                None => Self::Notice(Notice::unconfigured(&provider_name(visit))),
            },
            Progress::AwaitingConfirmation { account, granted } if visit.same_browser => {
                Self::Confirm(Confirm::of(visit, account, granted, csrf))
            }
            Progress::AwaitingConfirmation { .. } => Self::Notice(Notice::elsewhere(&provider_name(visit))),
            Progress::Completed { connection, account } => Self::Done(Done::of(visit, connection, account)),
            Progress::Failed(failure) => Self::Notice(Notice::failed(*failure, visit)),
        }
    }

    /// The page as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        match self {
            Self::Ask(page) => html(page),
            Self::Confirm(page) => html(page),
            Self::Done(page) => html(page),
            Self::Notice(page) => html(page),
        }
    }
}

/// A page as HTML.
///
/// # Panics
/// Never: rendering fails only if what it writes to fails, and a `String` does not.
#[must_use]
pub fn html(page: &impl Template) -> String {
    page.render().expect("writing to a String cannot fail")
}

/// What is shown in place of a button that would lead to where nobody comes back from.
fn no_way_back(visit: &Visit) -> Option<Notice> {
    let configured = visit.configured.as_ref()?;
    let unusable = redirect::check(&configured.provider, &visit.redirect_uri)?;
    let id = visit.session.provider.as_str();
    Some(Notice::no_way_back(&provider_name(visit), id, visit.redirect_uri.as_str(), &unusable))
}

/// What people call the provider; its name in the configuration if it has been taken out meanwhile.
fn provider_name(visit: &Visit) -> String {
    match &visit.configured {
        Some(configured) => line(&configured.provider.name, NAME_SHOWN),
        None => visit.session.provider.to_string(),
    }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
