//! The providers that grantd knows: their definitions, compiled in and overlaid from a directory.

mod check;
mod error;
mod fill;
mod load;
mod resolve;
pub mod schema;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::catalog::schema::Definition;
use crate::model::id::ProviderId;
use crate::model::provider::Provider;

pub use error::{CatalogError, Setting, SettingsError};
pub use resolve::Settings;

/// All definitions, each readable and resolvable in every variant.
#[derive(Clone, Debug)]
pub struct Catalog {
    entries: BTreeMap<ProviderId, Entry>,
}

/// One definition with the file it comes from.
#[derive(Clone, Debug)]
pub struct Entry {
    file: String,
    text: String,
    /// The file as a tree, without its variants: what a variant is merged into.
    tree: Value,
    base: Definition,
}

impl Catalog {
    /// The definitions that are compiled in.
    ///
    /// # Panics
    /// Never in a build whose tests pass: one of them loads each.
    #[must_use]
    pub fn built_in() -> Self {
        load::built_in().expect("the compiled-in definitions are tested")
    }

    /// The compiled-in definitions, and over them those of `*.yaml` in `dir`. A file with the id of a compiled-in one
    /// replaces it. A directory that does not exist adds nothing.
    ///
    /// # Errors
    /// If a file cannot be read, could have been written by somebody else, is not a good definition, or has the id of
    /// another file of the directory.
    pub fn load(dir: Option<&Path>) -> Result<Self, CatalogError> {
        let mut catalog = Self::built_in();
        if let Some(dir) = dir {
            load::overlay(&mut catalog, dir)?;
        }
        Ok(catalog)
    }

    /// Reads one definition and checks it in every variant. `file` is its name for errors.
    ///
    /// # Errors
    /// What is wrong first, with its place.
    pub fn read(file: &str, text: &str) -> Result<Entry, CatalogError> {
        load::entry(file, text)
    }

    /// The definition called `id`.
    #[must_use]
    pub fn get(&self, id: &ProviderId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// All definitions in the order of their ids.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Makes a provider of a definition and an operator's settings.
    ///
    /// # Errors
    /// What is wrong with the settings first.
    pub fn resolve(&self, settings: &Settings) -> Result<Provider, SettingsError> {
        let entry = self.get(&settings.definition).ok_or_else(|| SettingsError::definition(self, settings))?;
        entry.resolve(settings)
    }
}

impl Entry {
    /// The definition as its default variant has it.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.base
    }

    /// The file as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file it comes from, or `built-in:NAME.yaml`.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }
}

/// The JSON Schema of a provider definition, for editors.
#[must_use]
pub fn schema_json() -> String {
    let schema = schemars::schema_for!(Definition);
    let text = serde_json::to_string_pretty(&schema).expect("a schema is a JSON value");
    text + "\n"
}

#[cfg(test)]
mod tests;
