//! The pages that say one thing: why it ended or cannot be shown, and the one thing to do next.

use askama::Template;

use crate::broker::connect::Visit;
use crate::broker::error::PageError;
use crate::model::provider::redirect::Unusable;
use crate::model::session::{CONNECT_TTL, ConnectFailure};
use crate::web::pages::{Tone, provider_name};
use crate::web::wording::{SENTENCE_SHOWN, line};

/// Says one thing, and what to do next.
#[derive(Clone, Debug, Template)]
#[template(path = "notice.html")]
pub struct Notice {
    /// Colour and glyph.
    pub tone: Tone,
    /// The heading.
    pub title: String,
    /// What happened, in one or two sentences.
    pub what: String,
    /// Something that has to be copied exactly.
    pub exact: Option<Exact>,
    /// The one thing to do now.
    pub next: Next,
    /// Where the browser moves to at once, so that its address no longer holds the provider's answer.
    pub move_to: Option<&'static str>,
}

/// Something that has to be copied exactly.
#[derive(Clone, Debug)]
pub struct Exact {
    /// What it is.
    pub label: String,
    /// The text.
    pub text: String,
}

/// The one thing to do now.
#[derive(Clone, Debug, Default)]
pub struct Next {
    /// In words.
    pub text: String,
    /// A command that does it.
    pub command: Option<String>,
    /// A link that does it.
    pub link: Option<Link>,
}

/// A link that looks like a button.
#[derive(Clone, Debug)]
pub struct Link {
    /// Where to.
    pub href: String,
    /// What it says.
    pub label: String,
}

/// Why a request gets no page of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Problem {
    /// The provider's answer is not one that RFC 6749 section 4.1.2 allows.
    BadAnswer,
    /// The form does not come from a page of ours, or that page is old.
    Forged,
    /// Something is broken here.
    Internal,
    /// The address is longer than any that we make or expect.
    LongAddress,
    /// The form is longer than any of ours.
    LongForm,
    /// There is no such page or session.
    Missing,
    /// The provider would not send the browser back here.
    NoWayBack,
    /// This browser did not press the button.
    OtherBrowser,
    /// The person in the browser is not the one who asked, or it cannot be told.
    OtherPerson,
    /// The link or the answer has been used.
    Used,
    /// The page exists and this method does nothing there.
    WrongMethod,
}

impl From<PageError> for Problem {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Internal => Self::Internal,
            PageError::NotFound => Self::Missing,
            PageError::NoWayBack => Self::NoWayBack,
            PageError::OtherBrowser => Self::OtherBrowser,
            PageError::OtherPerson => Self::OtherPerson,
            PageError::Used => Self::Used,
        }
    }
}

impl Problem {
    /// Every problem.
    pub const ALL: [Self; 11] = [
        Self::BadAnswer,
        Self::Forged,
        Self::Internal,
        Self::LongAddress,
        Self::LongForm,
        Self::Missing,
        Self::NoWayBack,
        Self::OtherBrowser,
        Self::OtherPerson,
        Self::Used,
        Self::WrongMethod,
    ];

    /// A page of its own that says the same, with nothing in the address.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::BadAnswer => "/stopped/bad-answer",
            Self::Forged => "/stopped/old-form",
            Self::Internal => "/stopped/internal",
            Self::LongAddress => "/stopped/long-address",
            Self::LongForm => "/stopped/long-form",
            Self::Missing => "/stopped/missing",
            Self::NoWayBack => "/stopped/no-way-back",
            Self::OtherBrowser => "/stopped/other-browser",
            Self::OtherPerson => "/stopped/other-person",
            Self::Used => "/stopped/used",
            Self::WrongMethod => "/stopped/method",
        }
    }

    /// The page.
    #[must_use]
    pub fn notice(self) -> Notice {
        let again = "Ask again in your app, or start from a terminal:";
        match self {
            Self::BadAnswer => stop(
                "That answer makes no sense",
                "The provider sent your browser back with an answer that is incomplete or says two things at once. Nothing was connected.",
                command(again),
            ),
            Self::Forged => stop(
                "This page was out of date",
                "What you pressed did not come from a fresh page of grantd, so nothing was done.",
                text("Open the page of your link again and press the button there."),
            ),
            Self::Internal => Notice {
                tone: Tone::Warn,
                ..stop(
                    "Something went wrong here",
                    "grantd could not finish this. The reason is in its log.",
                    text(
                        "Try again in a minute. If it stays like this, ask whoever runs grantd on this computer to look there.",
                    ),
                )
            },
            Self::LongAddress | Self::LongForm => stop(
                "That is too long",
                "The request is longer than any that grantd makes or expects. Nothing was done.",
                command(again),
            ),
            Self::Missing => stop(
                "Nothing here",
                "There is no such page, or the link has ended.",
                command("To connect an account, ask again in your app, or start from a terminal:"),
            ),
            Self::NoWayBack => Notice {
                tone: Tone::Warn,
                ..stop(
                    "No way back",
                    "The provider would not send your browser back here, so you were not sent there. Nothing was connected.",
                    with_command(
                        "Whoever runs grantd on this computer has to change something. This shows what:",
                        "grantd provider list",
                    ),
                )
            },
            Self::OtherBrowser => stop(
                "This began in another browser",
                "Only the browser in which you pressed the button can finish it. Nothing was connected here.",
                text("Go back to that browser. If it is gone, ask for a new link in your app."),
            ),
            Self::OtherPerson => stop(
                "This link is not for you",
                "It belongs to somebody else on this computer, or grantd cannot tell that you are the one who asked.",
                command("If it was you, start from your own terminal. The browser it opens is known to be yours:"),
            ),
            Self::Used => stop(
                "This has been used already",
                "The link or the provider's answer works once, and it has been used or has ended.",
                command(again),
            ),
            Self::WrongMethod => stop(
                "Not like this",
                "There is such a page, but it cannot be asked in this way.",
                text("Use the buttons on the page of your link."),
            ),
        }
    }
}

impl Notice {
    /// The confirmation waits in another browser.
    #[must_use]
    pub fn elsewhere(provider: &str) -> Self {
        Self {
            tone: Tone::Wait,
            ..stop(
                "Go on in the other browser",
                &format!(
                    "{provider} has answered, and the browser in which you pressed the button is waiting for your yes."
                ),
                text("Confirm the account there. If that browser is gone, ask for a new link in your app."),
            )
        }
    }

    /// It goes on by a device flow, which was begun in a terminal.
    #[must_use]
    pub fn in_terminal(provider: &str) -> Self {
        Self {
            tone: Tone::Wait,
            ..stop(
                "Go on in the terminal",
                &format!("Connecting {provider} was begun with a code in a terminal, and is finished there."),
                text(
                    "Enter the code at the address that the terminal shows. To connect in this browser, ask for a link instead.",
                ),
            )
        }
    }

    /// The provider has been taken out of the configuration.
    #[must_use]
    pub fn unconfigured(provider: &str) -> Self {
        Self {
            tone: Tone::Warn,
            ..stop(
                &format!("{provider} is not set up"),
                "It was taken out of the configuration of grantd after this link was made. Nothing was connected.",
                text("Ask whoever runs grantd on this computer."),
            )
        }
    }

    /// The provider would not send the browser back: nobody is sent there. `id` is its name in the configuration.
    #[must_use]
    pub fn no_way_back(provider: &str, id: &str, redirect_uri: &str, unusable: &Unusable) -> Self {
        let label = match unusable.instead {
            Some(_) => "An address that works, to be registered exactly like this",
            None => "The address that cannot be registered",
        };
        let text = unusable.instead.as_ref().map_or(redirect_uri, |instead| instead.as_str());
        Self {
            tone: Tone::Warn,
            exact: Some(Exact { label: label.to_owned(), text: text.to_owned() }),
            ..stop(
                &format!("{provider} would not send you back"),
                &format!("{} So you are not sent there. Nothing was connected.", line(&unusable.why, SENTENCE_SHOWN)),
                with_command(
                    &format!(
                        "Whoever runs grantd on this computer has to act. {} This shows it again:",
                        line(&unusable.next, SENTENCE_SHOWN)
                    ),
                    &format!("grantd provider show {id}"),
                ),
            )
        }
    }

    /// A session ended without a connection.
    pub(crate) fn failed(failure: ConnectFailure, visit: &Visit) -> Self {
        let docs = visit
            .configured
            .as_ref()
            .and_then(|configured| configured.provider.docs_url.as_ref())
            .filter(|url| matches!(url.scheme(), "https" | "http"));
        Self::ended(
            failure,
            &provider_name(visit),
            visit.session.provider.as_str(),
            visit.redirect_uri.as_str(),
            docs.map(url::Url::as_str),
        )
    }

    /// The page of a failure. `provider` is what people call it, `id` its name in the configuration, `redirect_uri` the
    /// exact one to register, and `docs` where that is done.
    #[must_use]
    pub fn ended(failure: ConnectFailure, provider: &str, id: &str, redirect_uri: &str, docs: Option<&str>) -> Self {
        let connect = format!("grantd connect {id}");
        let again = |text: &str| with_command(text, &connect);
        let minutes = CONNECT_TTL.as_secs() / 60;
        match failure {
            ConnectFailure::Cancelled => stop(
                "Cancelled",
                "Nothing was connected, and nobody was given any access.",
                again("You can close this page. To connect later, ask again in your app, or run:"),
            ),
            ConnectFailure::Denied => stop(
                "The answer was no",
                &format!("It was refused at {provider} or here. Nothing was connected, and nothing is kept."),
                again("You can close this page. If it was a mistake, ask again in your app, or run:"),
            ),
            ConnectFailure::Expired => Self {
                tone: Tone::Wait,
                ..stop(
                    "This link has ended",
                    &format!("A link works for {minutes} minutes. Nothing was connected."),
                    again("Ask again in your app for a new link, or run:"),
                )
            },
            ConnectFailure::Identity => stop(
                "That answer could not be trusted",
                &format!(
                    "The answer did not come from {provider} beyond doubt, or did not say whose account it is. Nothing was connected."
                ),
                again("If it happens again, tell whoever runs grantd on this computer. To start once more:"),
            ),
            ConnectFailure::Misconfigured => Self {
                tone: Tone::Warn,
                exact: Some(Exact {
                    label: "The address to register, exactly like this".to_owned(),
                    text: redirect_uri.to_owned(),
                }),
                next: Next {
                    link: docs
                        .map(|href| Link { href: href.to_owned(), label: format!("Open {provider}’s settings") }),
                    ..with_command(
                        &format!(
                            "Whoever runs grantd compares this address, the client id and the secret with those at {provider}. This shows what is set here:"
                        ),
                        &format!("grantd provider show {id}"),
                    )
                },
                ..stop(
                    &format!("{provider} does not accept this grantd"),
                    &format!(
                        "{provider} refused the way grantd is registered there. It is not about your account, and trying again does not help."
                    ),
                    Next::default(),
                )
            },
            ConnectFailure::Provider => Self {
                tone: Tone::Warn,
                ..stop(
                    &format!("{provider} did not answer"),
                    &format!("{provider} could not be reached, or its answer made no sense. Nothing was connected."),
                    again("Wait a minute, then ask again in your app, or run:"),
                )
            },
            ConnectFailure::Restart => Self {
                tone: Tone::Wait,
                ..stop(
                    "Please start again",
                    &format!(
                        "{provider} no longer accepts the answer it sent: it was too old or had been used. Nothing was connected."
                    ),
                    again("Ask again in your app for a new link, or run:"),
                )
            },
        }
    }
}

fn stop(title: &str, what: &str, next: Next) -> Notice {
    Notice { tone: Tone::Stop, title: title.to_owned(), what: what.to_owned(), exact: None, next, move_to: None }
}

fn text(text: &str) -> Next {
    Next { text: text.to_owned(), ..Next::default() }
}

fn command(text: &str) -> Next {
    with_command(text, "grantd connect")
}

fn with_command(text: &str, command: &str) -> Next {
    Next { text: text.to_owned(), command: Some(command.to_owned()), link: None }
}
