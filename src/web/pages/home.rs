//! The page at the root: what this is, and how to connect an account.

use askama::Template;

use crate::broker::registry::Registry;
use crate::web::pages::Tone;
use crate::web::wording::{NAME_SHOWN, line};

/// What this is, and how to connect an account.
#[derive(Clone, Debug, Template)]
#[template(path = "home.html")]
pub struct Home {
    /// What can be connected.
    pub providers: Vec<HomeProvider>,
}

/// A provider that can be connected.
#[derive(Clone, Debug)]
pub struct HomeProvider {
    /// Its name in the configuration.
    pub id: String,
    /// What people call it.
    pub name: String,
}

impl Home {
    pub(crate) fn of(registry: &Registry) -> Self {
        let providers = registry
            .providers
            .iter()
            .map(|(id, configured)| HomeProvider {
                id: id.to_string(),
                name: line(&configured.provider.name, NAME_SHOWN),
            })
            .collect();
        Self { providers }
    }
}
