//! The operator's file: from text to a [`Config`] with nothing left to check but what lies outside the file.

pub mod callers;
mod client_keys;
pub mod paths;
pub mod people;
mod registry;
mod rules;
pub mod secrets;
mod tls;
pub mod values;

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::callers::CallerConfig;
use crate::config::secrets::{SecretRef, SecretRefError};
use crate::config::values::{AbsolutePath, GroupName, Mode, ScopeChoice, WebUrl};
use crate::model::id::{CallerName, ProviderId};
use crate::yaml::{self, Segment, YamlError};

/// What the operator wrote, with defaults for what was left out.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "grantd configuration")]
pub struct Config {
    /// The socket that callers ask on.
    #[serde(default)]
    pub socket: SocketConfig,
    /// The pages that people see.
    #[serde(default)]
    pub web: WebConfig,
    /// What must survive a restart.
    #[serde(default)]
    pub store: StoreConfig,
    /// Where the key that seals everything comes from.
    #[serde(default)]
    pub root_key: Option<SecretRef>,
    /// What is told to the operator.
    #[serde(default)]
    pub log: LogConfig,
    /// The record of what was decided and done.
    #[serde(default)]
    pub audit: AuditConfig,
    /// What one caller can take from the others.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// What runs on a schedule.
    #[serde(default)]
    pub jobs: JobsConfig,
    /// A directory with further provider definitions.
    #[serde(default)]
    pub providers_dir: Option<AbsolutePath>,
    /// What can be connected, by the name it has here.
    pub providers: BTreeMap<ProviderId, ProviderConfig>,
    /// Which processes act by rules, by the name that they have here; everybody else acts for themself.
    #[serde(default)]
    pub callers: BTreeMap<CallerName, CallerConfig>,
    #[serde(skip)]
    source: Source,
}

/// The text that errors point into. It holds references to secrets, never secrets.
#[derive(Clone, Debug, Default)]
struct Source {
    file: String,
    text: String,
}

/// The socket that callers ask on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SocketConfig {
    /// Where it is.
    pub path: Option<AbsolutePath>,
    /// Who may open it, in octal digits and quotes.
    pub mode: Option<Mode>,
    /// Which group it belongs to.
    pub group: Option<GroupName>,
}

/// The pages that people see.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    /// Where a browser reaches them.
    pub url: WebUrl,
    /// The certificate for https; one of grantd's own if absent.
    pub tls: Option<TlsConfig>,
}

/// The certificate for https, both parts in PEM form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, and those that lead to one that browsers know.
    pub certificate: FileRef,
    /// Its key.
    pub key: SecretRef,
}

/// A file that is no secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Where it is.
    pub file: AbsolutePath,
}

/// What must survive a restart.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The database file.
    pub path: Option<AbsolutePath>,
}

/// What is told to the operator.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How much.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

/// How much is logged; each level has what those before it have.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What somebody has to repair.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Every step.
    Trace,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// The record of what was decided and done.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// For how many days entries are kept; up to one day longer, because they are dropped by whole days.
    pub keep: NonZeroU16,
    /// Whether each entry is written into the daemon's log too, at the level `info`.
    pub log: bool,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { keep: NonZeroU16::new(90).expect("the default is not zero"), log: true }
    }
}

/// What one caller can take from the others.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Open connections to the socket, for each user id.
    pub connections_per_uid: NonZeroU32,
    /// Of how many subjects and providers the access tokens are kept in memory.
    pub cache_entries: NonZeroU64,
    /// Connect sessions that wait for their person, for each subject.
    pub open_sessions: NonZeroU32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        const fn number(value: u32) -> NonZeroU32 {
            NonZeroU32::new(value).expect("the defaults are not zero")
        }
        Self { connections_per_uid: number(256), cache_entries: number(10_000).into(), open_sessions: number(20) }
    }
}

/// What runs on a schedule, as cron expressions that begin with seconds. The scheduler checks them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobsConfig {
    /// Renewing the grants that are due.
    pub renew: String,
    /// Ending sessions that nobody finished, and finishing revocations.
    pub housekeep: String,
    /// Warning of connections that will need a person.
    pub forecast: String,
    /// Writing down when connections were last used.
    pub usage: String,
    /// Dropping audit entries that were kept long enough.
    pub audit: String,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            renew: "*/1 * * * * *".to_owned(),
            housekeep: "0 * * * * *".to_owned(),
            forecast: "0 0 * * * *".to_owned(),
            usage: "30 * * * * *".to_owned(),
            audit: "0 15 3 * * *".to_owned(),
        }
    }
}

/// One provider and our registration at it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// The id that the provider gave when the client was registered.
    pub client_id: String,
    /// Where the secret is that came with it; absent for a public client.
    #[serde(default)]
    pub client_secret: Option<SecretRef>,
    /// Where the private key is that signs in place of a secret, in PEM; for a variant that says so, such as Microsoft's
    /// `certificate`.
    #[serde(default)]
    pub client_key: Option<SecretRef>,
    /// Where the certificate of that key is, in PEM, if the provider knows the key by it.
    #[serde(default)]
    pub client_certificate: Option<SecretRef>,
    /// What is asked for when nobody says more; the preset `default` if absent.
    #[serde(default)]
    pub scopes: Option<ScopeChoice>,
    /// Which definition it has; the one of its own name if absent.
    #[serde(default)]
    pub definition: Option<ProviderId>,
    /// Which variant of it.
    #[serde(default)]
    pub variant: Option<String>,
    /// Values for its variables.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
}

/// Why a configuration cannot be used: an operator has to act, and the running one stays.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A secret that the file refers to cannot be had.
    #[error("{at}")]
    Secret {
        /// The place of the reference, with the words of the cause.
        at: Box<YamlError>,
        /// Why.
        #[source]
        cause: Box<SecretRefError>,
    },
    /// The file says something that cannot be.
    #[error(transparent)]
    Written(#[from] YamlError),
}

impl Config {
    /// Reads the configuration at `path`.
    ///
    /// # Errors
    /// If it cannot be read, if somebody else could have written it, or as [`Config::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = yaml::open_trusted(path)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads the text of a configuration. `name` is the name of the file for errors. Touches nothing outside the text.
    ///
    /// # Errors
    /// What is wrong first, with its line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = yaml::read(name, text)?;
        config.source = Source { file: name.to_owned(), text: text.to_owned() };
        Ok(config)
    }

    /// What is wrong with the member at `path`, for a check that this module cannot make itself.
    #[must_use]
    pub fn error(&self, path: &[Segment], message: impl Into<String>) -> YamlError {
        YamlError::at(&self.source.file, &self.source.text, path, message)
    }
}

/// The JSON Schema of the configuration, for editors.
#[must_use]
pub fn schema_json() -> String {
    let schema = schemars::schema_for!(Config);
    let text = serde_json::to_string_pretty(&schema).expect("a schema is a JSON value");
    text + "\n"
}

#[cfg(test)]
mod tests;
