//! Makes the registry of what can be connected: definitions chosen, secrets read, scopes spelled out, and callers with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::broker::registry::{Configured, Registry};
use crate::catalog::{Catalog, Setting, Settings, SettingsError};
use crate::config::callers::Machine;
use crate::config::secrets::SecretRefError;
use crate::config::values::{Preset, ScopeChoice};
use crate::config::{Config, ConfigError, ProviderConfig, client_keys, secrets};
use crate::model::client::{Client, ClientAuth};
use crate::model::id::{ProviderId, SlotName};
use crate::model::provider::rules::ScopesManagedBy;
use crate::model::provider::{ClientKind, Provider, redirect};
use crate::model::scope::ScopeSet;
use crate::oauth::assertion;
use crate::yaml::{Segment, YamlError};

impl Config {
    /// Makes the registry, and the sentences that the operator should read: what will not work as it is written.
    /// `credentials` is the directory of systemd's credentials.
    ///
    /// # Errors
    /// What is wrong first, with the place in the file.
    pub fn registry(
        &self,
        catalog: &Catalog,
        credentials: Option<&Path>,
    ) -> Result<(Registry, Vec<String>), ConfigError> {
        let mut registry =
            Registry { web_url: self.web.url.as_url().clone(), providers: BTreeMap::new(), callers: Arc::default() };
        for (id, settings) in &self.providers {
            let one = One { config: self, id, settings };
            registry.providers.insert(id.clone(), Arc::new(one.configured(catalog, credentials)?));
        }
        if !self.callers.is_empty() {
            registry.callers = Arc::new(self.callers(&registry.providers, &Machine::here())?);
        }
        let warnings = self.warnings(&registry);
        Ok((registry, warnings))
    }

    fn warnings(&self, registry: &Registry) -> Vec<String> {
        let of = |id: &ProviderId, provider: &Provider| {
            let unusable = redirect::check(provider, &registry.redirect_uri(id))?;
            let path = [Segment::from("providers"), Segment::from(id.as_str())];
            Some(self.error(&path, format!("nobody can connect: {unusable}")).to_string())
        };
        registry.providers.iter().filter_map(|(id, configured)| of(id, &configured.provider)).collect()
    }
}

/// One provider of the file.
struct One<'c> {
    config: &'c Config,
    id: &'c ProviderId,
    settings: &'c ProviderConfig,
}

impl One<'_> {
    fn configured(&self, catalog: &Catalog, credentials: Option<&Path>) -> Result<Configured, ConfigError> {
        let provider = catalog
            .resolve(&Settings {
                id: self.id.clone(),
                definition: self.settings.definition.clone().unwrap_or_else(|| self.id.clone()),
                variant: self.settings.variant.clone(),
                vars: self.settings.vars.clone(),
                client_id: self.settings.client_id.clone(),
            })
            .map_err(|error| self.setting(error))?;
        let scopes = self.scopes(&provider)?;
        let client = self.client(&provider, credentials)?;
        Ok(Configured { provider, client, scopes })
    }

    fn client(&self, provider: &Provider, credentials: Option<&Path>) -> Result<Client, ConfigError> {
        if provider.client_auth == ClientAuth::PrivateKeyJwt {
            return self.client_with_key(provider, credentials);
        }
        for (name, there) in
            [("client_key", &self.settings.client_key), ("client_certificate", &self.settings.client_certificate)]
        {
            if there.is_some() {
                let message =
                    "expected none: this kind of client does not sign; see the variants in `grantd provider show`";
                return Err(self.error(&[name], message).into());
            }
        }
        let secret = match (&self.settings.client_secret, provider.client_kind) {
            (None, ClientKind::Confidential) => {
                return Err(self.error(&[], "expected the key `client_secret`: this kind of client has one").into());
            }
            (Some(_), ClientKind::Public) => {
                let message = "expected no secret: this kind of client has none";
                return Err(self.error(&["client_secret"], message).into());
            }
            (None, ClientKind::Public) => None,
            (Some(reference), ClientKind::Confidential) => {
                Some(secrets::read_client_secret(reference, credentials).map_err(|cause| ConfigError::Secret {
                    at: Box::new(self.error(&["client_secret"], cause.to_string())),
                    cause: Box::new(cause),
                })?)
            }
        };
        Ok(Client { id: self.settings.client_id.clone(), secret, key: None })
    }

    /// A client that signs for itself and has no secret.
    fn client_with_key(&self, provider: &Provider, credentials: Option<&Path>) -> Result<Client, ConfigError> {
        if self.settings.client_secret.is_some() {
            let message = "expected no secret: this kind of client signs with its key";
            return Err(self.error(&["client_secret"], message).into());
        }
        let Some(reference) = &self.settings.client_key else {
            return Err(self.error(&[], "expected the key `client_key`: this kind of client signs with one").into());
        };
        let failed = |member: &'static str| {
            move |cause: SecretRefError| ConfigError::Secret {
                at: Box::new(self.error(&[member], cause.to_string())),
                cause: Box::new(cause),
            }
        };
        let mut key = client_keys::key(reference, credentials).map_err(failed("client_key"))?;
        if let Some(reference) = &self.settings.client_certificate {
            key = client_keys::certificate(key, reference, credentials).map_err(failed("client_certificate"))?;
        }
        if assertion::algorithm(provider, &key).is_none() {
            let wanted: Vec<_> = provider.assertion.algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
            let message =
                format!("expected a key that can sign with {}: {} wants that", wanted.join(" or "), provider.name);
            return Err(self.error(&["client_key"], message).into());
        }
        Ok(Client { id: self.settings.client_id.clone(), secret: None, key: Some(key) })
    }

    /// By their full names, for each slot that has any.
    fn scopes(&self, provider: &Provider) -> Result<BTreeMap<SlotName, ScopeSet>, ConfigError> {
        let rules = &provider.scopes;
        if rules.managed_by == ScopesManagedBy::App {
            return match self.settings.scopes {
                None => Ok(BTreeMap::new()),
                Some(_) => Err(self
                    .error(
                        &["scopes"],
                        format!("expected nothing: {} fixes them in its own settings of the client", provider.name),
                    )
                    .into()),
            };
        }
        let mut chosen = match &self.settings.scopes {
            None => provider.presets.default.clone(),
            Some(choice) => self.chosen(provider, choice)?,
        };
        // Whose account it is has to be told by the first request already; one slot is enough for that.
        if let Some(first) = provider.authorize.scope_params.first() {
            let with_always = chosen.entry(first.slot.clone()).or_default().union(&rules.always);
            chosen.insert(first.slot.clone(), with_always);
        }
        Ok(chosen
            .into_iter()
            .map(|(slot, scopes)| (slot, rules.expand(&scopes)))
            .filter(|(_, scopes)| !scopes.is_empty())
            .collect())
    }

    fn chosen(&self, provider: &Provider, choice: &ScopeChoice) -> Result<BTreeMap<SlotName, ScopeSet>, ConfigError> {
        let slots: Vec<_> = provider.authorize.scope_params.iter().map(|param| &param.slot).collect();
        let names = || slots.iter().map(|slot| format!("`{slot}`")).collect::<Vec<_>>().join(", ");
        match choice {
            ScopeChoice::List(scopes) => match slots.as_slice() {
                [only] => Ok(BTreeMap::from([((*only).clone(), scopes.clone())])),
                _ => Err(self.error(&["scopes"], format!("expected a list for each slot, of {}", names())).into()),
            },
            ScopeChoice::Slots(lists) => match lists.keys().find(|slot| !slots.contains(slot)) {
                None => Ok(lists.clone()),
                Some(slot) => Err(self
                    .error(&["scopes", slot.as_str()], format!("no such slot; expected one of {}", names()))
                    .into()),
            },
            ScopeChoice::Preset(preset) => {
                let lists = match preset {
                    Preset::Default => &provider.presets.default,
                    Preset::ReadOnly => &provider.presets.read_only,
                    Preset::Full => &provider.presets.full,
                };
                if lists.is_empty() && *preset != Preset::Default {
                    let message = format!("{} has no preset `{}`; expected a list", provider.name, preset.as_str());
                    return Err(self.error(&["scopes"], message).into());
                }
                Ok(lists.clone())
            }
        }
    }

    fn setting(&self, error: SettingsError) -> ConfigError {
        let located = match &error.setting {
            Setting::ClientId => self.error(&["client_id"], error.message),
            Setting::Definition if self.settings.definition.is_none() => {
                self.error(&[], format!("{}; or say which with the key `definition`", error.message))
            }
            Setting::Definition => self.error(&["definition"], error.message),
            Setting::Var(name) => self.error(&["vars", name], error.message),
            Setting::Vars => self.error(&["vars"], error.message),
            Setting::Variant => self.error(&["variant"], error.message),
        };
        located.into()
    }

    /// An error at a member of this provider.
    fn error(&self, member: &[&str], message: impl Into<String>) -> YamlError {
        let path: Vec<Segment> =
            ["providers", self.id.as_str()].iter().chain(member).map(|key| Segment::from(*key)).collect();
        self.config.error(&path, message)
    }
}
