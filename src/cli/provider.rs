//! `grantd provider`: what can be connected, how to register there, and whether a definition is good.

pub mod release;
mod show;
pub mod test;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use url::Url;

use crate::catalog::{Catalog, CatalogError, Entry, Settings};
use crate::cli::exit::{CliError, ExitCode};
use crate::config::{self, Config};
use crate::model::id::ProviderId;
use crate::yaml::{self, nearest};

/// What to do with provider definitions.
#[derive(Debug, clap::Subcommand)]
pub enum ProviderCommand {
    /// Check provider definitions and say what is wrong with them
    Check {
        /// The definitions
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// List the providers that are known
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of provider definitions, with which an editor completes and checks them
    Schema {
        /// Print that of the configuration, grantd.yaml, instead
        #[arg(long)]
        config: bool,
    },
    /// Show what to register at a provider, what to write into grantd.yaml, and which scopes there are
    Show {
        /// The provider, such as `github`: its name in grantd.yaml, or one that `provider list` shows
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Another variant than the configured or the default one
        #[arg(long, value_name = "NAME")]
        variant: Option<String>,
    },
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A definition is not good.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
    /// One or more of several definitions are not good, a line for each.
    #[error("{0}")]
    Definitions(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    Usage(String),
}

impl From<ProviderError> for CliError {
    fn from(error: ProviderError) -> Self {
        let code = match error {
            ProviderError::Catalog(_) | ProviderError::Definitions(_) => ExitCode::Configuration,
            ProviderError::Output(error) => return Self::from(error),
            ProviderError::Usage(_) => ExitCode::Usage,
        };
        Self::new(code, error.to_string())
    }
}

/// What the commands know besides their arguments. Both may be missing: the compiled-in definitions are always there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'c> {
    /// The configuration, if there is one.
    pub config: Option<&'c Config>,
    /// Where further definitions are when the configuration does not say.
    pub providers_dir: Option<&'c Path>,
}

/// Runs the command.
///
/// # Errors
/// If a definition is not good, a name is not known, or `out` cannot be written.
pub fn run(command: &ProviderCommand, context: Context<'_>, out: &mut dyn Write) -> Result<(), ProviderError> {
    match command {
        ProviderCommand::Check { files } => check_each(files, out),
        ProviderCommand::List { json } => list(context, *json, out),
        ProviderCommand::Schema { config: false } => Ok(out.write_all(crate::catalog::schema_json().as_bytes())?),
        ProviderCommand::Schema { config: true } => Ok(out.write_all(config::schema_json().as_bytes())?),
        ProviderCommand::Show { name, json, variant } => {
            let chosen = choose(&context.catalog()?, context, name, variant.clone())?;
            show::show(&chosen, *json, out)
        }
    }
}

/// One definition with the settings it is shown with.
struct Chosen {
    entry: Entry,
    settings: Settings,
    web: Url,
    configured: bool,
}

impl Context<'_> {
    fn catalog(&self) -> Result<Catalog, ProviderError> {
        let configured = self.config.and_then(|config| config.providers_dir.as_ref());
        let dir = configured.map(config::values::AbsolutePath::as_path).or(self.providers_dir);
        Ok(Catalog::load(dir)?)
    }
}

/// Checks them all, however many are bad.
fn check_each(files: &[PathBuf], out: &mut dyn Write) -> Result<(), ProviderError> {
    let mut bad = Vec::new();
    for file in files {
        match check(file, out) {
            Err(ProviderError::Catalog(error)) => bad.push(error.to_string()),
            checked => checked?,
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(ProviderError::Definitions(bad.join("\n"))) }
}

fn check(file: &Path, out: &mut dyn Write) -> Result<(), ProviderError> {
    let name = file.display().to_string();
    let text = yaml::open(file).map_err(CatalogError::from)?;
    let entry = Catalog::read(&name, &text)?;
    let definition = entry.definition();
    writeln!(out, "{name}: good: {} ({})", definition.id, definition.name)?;
    let slots: Vec<_> = definition.slots.iter().map(|slot| slot.name.as_str()).collect();
    writeln!(out, "  slots     {}", slots.join(", "))?;
    if !definition.vars.is_empty() {
        writeln!(out, "  variables {}", names(definition.vars.keys()))?;
    }
    if !definition.variants.is_empty() {
        writeln!(out, "  variants  {}", names(definition.variants.keys()))?;
    }
    Ok(())
}

fn list(context: Context<'_>, json: bool, out: &mut dyn Write) -> Result<(), ProviderError> {
    let catalog = context.catalog()?;
    let used_as = |id: &ProviderId| -> Vec<String> {
        let providers = context.config.into_iter().flat_map(|config| &config.providers);
        providers
            .filter(|(name, settings)| settings.definition.as_ref().unwrap_or(name) == id)
            .map(|(name, _)| name.to_string())
            .collect()
    };
    let rows: Vec<_> = catalog.entries().map(|entry| (entry, used_as(&entry.definition().id))).collect();
    if json {
        let rows = rows.iter().map(|(entry, used)| {
            let definition = entry.definition();
            json!({
                "id": definition.id, "name": definition.name, "file": entry.file(), "configured_as": used,
                "default_variant": definition.default_variant, "variants": definition.variants.keys().collect::<Vec<_>>(),
            })
        });
        return print_json(&json!({"providers": rows.collect::<Vec<_>>()}), out);
    }
    let width = rows.iter().map(|(entry, _)| entry.definition().id.as_str().len()).max().unwrap_or(0);
    for (entry, used) in rows {
        let definition = entry.definition();
        write!(out, "{:width$}  {}", definition.id.as_str(), definition.name)?;
        if !definition.variants.is_empty() {
            write!(out, "  [{}]", names(definition.variants.keys()))?;
        }
        if !used.is_empty() {
            write!(out, "  configured as {}", used.join(", "))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A name of the configuration first, then that of a definition.
fn choose(
    catalog: &Catalog,
    context: Context<'_>,
    name: &str,
    variant: Option<String>,
) -> Result<Chosen, ProviderError> {
    let web = context.config.map(|config| config.web.url.clone()).unwrap_or_default();
    let web = web.as_url().clone();
    let id: Option<ProviderId> = name.parse().ok();
    let configured = id.as_ref().and_then(|id| context.config.and_then(|config| config.providers.get_key_value(id)));
    let wanted = match configured {
        Some((id, provider)) => Some(provider.definition.clone().unwrap_or_else(|| id.clone())),
        None => id,
    };
    let Some(entry) = wanted.and_then(|id| catalog.get(&id)) else {
        let known: Vec<_> = catalog.entries().map(|entry| entry.definition().id.as_str()).collect();
        let hint = nearest(name, known.iter().copied()).map_or_else(String::new, |id| format!("; did you mean {id}?"));
        let message = format!("no provider {}; known are {}{hint}", name.escape_debug(), known.join(", "));
        return Err(ProviderError::Usage(message));
    };
    let definition = entry.definition().id.clone();
    let settings = match configured {
        Some((id, provider)) => Settings {
            id: id.clone(),
            definition,
            variant: variant.or_else(|| provider.variant.clone()),
            vars: provider.vars.clone(),
            client_id: provider.client_id.clone(),
        },
        None => Settings { variant, ..Settings::plain(definition, "CLIENT_ID") },
    };
    Ok(Chosen { entry: entry.clone(), settings, web, configured: configured.is_some() })
}

fn names<'n>(names: impl Iterator<Item = &'n String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn print_json(value: &serde_json::Value, out: &mut dyn Write) -> Result<(), ProviderError> {
    Ok(writeln!(out, "{value:#}")?)
}

#[cfg(test)]
mod tests;
