//! What can be wrong with a definition, and with an operator's settings for one.

use std::path::PathBuf;

use crate::catalog::{Catalog, Entry, Settings};
use crate::model::id::ProviderId;
use crate::yaml::{YamlError, nearest};

/// Why there is no catalog: somebody has to edit a file, or let us read it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A definition is not good.
    #[error(transparent)]
    Definition(#[from] YamlError),
    /// The directory cannot be listed.
    #[error("{}: cannot be read: {cause}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Two files of the directory have one id.
    #[error("{file}: the id `{id}` is that of {other} already; expected one file for each")]
    Twice {
        /// The later file.
        file: String,
        /// The id.
        id: ProviderId,
        /// The earlier file.
        other: String,
    },
}

/// What is wrong with an operator's settings, and in which of them.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct SettingsError {
    /// Which setting to change.
    pub setting: Setting,
    /// What is wrong and what was expected.
    pub message: String,
}

/// One of the settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Setting {
    /// `client_id`
    ClientId,
    /// `definition`
    Definition,
    /// `vars` as a whole
    Vars,
    /// One of `vars`
    Var(String),
    /// `variant`
    Variant,
}

impl SettingsError {
    pub(super) fn new(setting: Setting, message: impl Into<String>) -> Self {
        Self { setting, message: message.into() }
    }

    pub(super) fn definition(catalog: &Catalog, settings: &Settings) -> Self {
        let names: Vec<_> = catalog.entries.keys().map(ProviderId::as_str).collect();
        Self::new(Setting::Definition, unknown("definition", settings.definition.as_str(), &names))
    }

    pub(super) fn variant(entry: &Entry, found: &str) -> Self {
        let names: Vec<_> = entry.base.variants.keys().map(String::as_str).collect();
        Self::new(Setting::Variant, unknown("variant", found, &names))
    }
}

/// `no variant `ap`; expected one of `app`, `oauth-app`; did you mean `app`?`
pub(super) fn unknown(what: &str, found: &str, names: &[&str]) -> String {
    let mut message = format!("no {what} `{}`", found.escape_debug());
    let list: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    message += &match list.as_slice() {
        [] => "; there is none here".to_owned(),
        [only] => format!("; expected {only}"),
        several => format!("; expected one of {}", several.join(", ")),
    };
    if let Some(name) = nearest(found, names.iter().copied()) {
        message += &format!("; did you mean `{name}`?");
    }
    message
}
