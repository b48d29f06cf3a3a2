//! Makes a provider of a definition and an operator's settings.

use std::collections::BTreeMap;

use url::Url;

use crate::catalog::check::{Problem, member};
use crate::catalog::error::{Setting, SettingsError};
use crate::catalog::fill::Filler;
use crate::catalog::schema::{Definition, IdentityFrom, IdentityRules, RevokeRules};
use crate::catalog::{Entry, load};
use crate::model::id::ProviderId;
use crate::model::provider::claim_rules::{ClaimRule, Condition};
use crate::model::provider::rules::IdTokenRules;
use crate::model::provider::{Endpoints, Identity, IdentitySource, Provider, Revoke};
use crate::yaml::Segment;

/// What an operator says about a provider.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the provider is called here.
    pub id: ProviderId,
    /// Which definition it has.
    pub definition: ProviderId,
    /// Which variant of it; the default one if `None`.
    pub variant: Option<String>,
    /// Values for its variables.
    pub vars: BTreeMap<String, String>,
    /// `client_id`, which some URLs hold.
    pub client_id: String,
}

impl Settings {
    /// Settings that choose a definition under its own name and say nothing else.
    #[must_use]
    pub fn plain(definition: ProviderId, client_id: &str) -> Self {
        Self {
            id: definition.clone(),
            definition,
            variant: None,
            vars: BTreeMap::new(),
            client_id: client_id.to_owned(),
        }
    }
}

impl Entry {
    /// The definition as one of its variants has it; the default one if `variant` is `None`.
    ///
    /// # Errors
    /// If there is no such variant.
    pub fn variant(&self, variant: Option<&str>) -> Result<Definition, SettingsError> {
        if let Some(name) = variant
            && !self.base.variants.contains_key(name)
        {
            return Err(SettingsError::variant(self, name));
        }
        load::merged(self, variant).map_err(|fault| SettingsError::new(Setting::Variant, fault.message))
    }

    /// Makes a provider of this definition.
    ///
    /// # Errors
    /// What is wrong with the settings first.
    pub fn resolve(&self, settings: &Settings) -> Result<Provider, SettingsError> {
        let definition = self.variant(settings.variant.as_deref())?;
        let id_fits = (1..=512).contains(&settings.client_id.len())
            && settings.client_id.bytes().all(|b| matches!(b, 0x21..=0x7e));
        if !id_fits {
            return Err(SettingsError::new(
                Setting::ClientId,
                "expected 1 to 512 visible ASCII characters (RFC 6749 Appendix A.1)",
            ));
        }
        let filler = filler(&definition, settings)?;
        provider(definition, &filler, settings)
            .map_err(|problem| SettingsError::new(Setting::Vars, format!("do not fit: {}", problem.message)))
    }
}

pub(super) fn filler(definition: &Definition, settings: &Settings) -> Result<Filler, SettingsError> {
    Filler::new(&definition.vars, &settings.vars, &settings.client_id)
}

pub(super) fn provider(definition: Definition, filler: &Filler, settings: &Settings) -> Result<Provider, Problem> {
    let fill = Fill(filler);
    let endpoints = Endpoints {
        authorize: fill.url(&definition.endpoints.authorize, || member!["endpoints", "authorize"])?,
        token: fill.url(&definition.endpoints.token, || member!["endpoints", "token"])?,
        device: fill.optional(definition.endpoints.device.as_deref(), || member!["endpoints", "device"])?,
        jwks: fill.optional(definition.endpoints.jwks.as_deref(), || member!["endpoints", "jwks"])?,
    };
    let mut issuer = definition.issuer;
    for (index, accepted) in issuer.accept.iter_mut().enumerate() {
        *accepted = fill.text(accepted, None, || member!["issuer", "accept", index])?;
    }
    let mut scopes = definition.scopes;
    if let Some(prefix) = &mut scopes.prefix {
        *prefix = fill.text(prefix, None, || member!["scopes", "prefix"])?;
    }
    let mut api = definition.api;
    if let Some(base) = &mut api.base_url {
        // A URL's own form ends in `/`, which a caller would write twice.
        let url = fill.url(base, || member!["api", "base_url"])?;
        *base = url.as_str().trim_end_matches('/').to_owned();
    }
    Ok(Provider {
        id: settings.id.clone(),
        definition: settings.definition.clone(),
        name: definition.name,
        docs_url: fill.optional(definition.docs_url.as_deref(), || member!["docs_url"])?,
        setup_notes: definition.setup_notes,
        endpoints,
        issuer,
        client_auth: definition.client.auth,
        client_kind: definition.client.kind,
        assertion: definition.client.assertion.unwrap_or_default(),
        pkce: definition.pkce,
        authorize: definition.authorize,
        redirect: definition.redirect,
        device: definition.device,
        token: definition.token,
        response: definition.response,
        slots: definition.slots,
        refresh: definition.refresh,
        errors: definition.errors,
        identity: identity(definition.identity, &fill)?,
        consent: definition.consent,
        revoke: definition.revoke.map(|rules| revoke(rules, "revoke", &fill)).transpose()?,
        revoke_wider: definition.revoke_wider.map(|rules| revoke(rules, "revoke_wider", &fill)).transpose()?,
        revoke_manual_url: fill.optional(definition.revoke_manual_url.as_deref(), || member!["revoke_manual_url"])?,
        scopes,
        presets: definition.presets,
        api,
    })
}

fn identity(rules: IdentityRules, fill: &Fill<'_>) -> Result<Identity, Problem> {
    let source = match rules.source {
        IdentityFrom::Http => IdentitySource::Http {
            url: fill.url(rules.url.as_deref().unwrap_or_default(), || member!["identity", "url"])?,
            headers: rules.headers.into_iter().collect(),
        },
        IdentityFrom::IdToken => IdentitySource::IdToken(id_token(rules.id_token.unwrap_or_default(), fill)?),
        IdentityFrom::Token => IdentitySource::Token,
    };
    Ok(Identity { source, account_id: rules.account_id, display: rules.display })
}

fn id_token(mut rules: IdTokenRules, fill: &Fill<'_>) -> Result<IdTokenRules, Problem> {
    if let Some(template) = &mut rules.issuer_template {
        *template =
            fill.text(template, rules.issuer_claim.as_deref(), || member!["identity", "id_token", "issuer_template"])?;
    }
    for (index, rule) in rules.claims.iter_mut().enumerate() {
        claim_rule(rule, fill, |name, at| match at {
            Some(at) => member!["identity", "id_token", "claims", index, name, at],
            None => member!["identity", "id_token", "claims", index, "when", name],
        })?;
    }
    // Whether a rule counts is known as soon as the operator's settings are.
    rules.claims.retain(|rule| rule.when.as_ref().is_none_or(Condition::holds));
    Ok(rules)
}

fn claim_rule(
    rule: &mut ClaimRule,
    fill: &Fill<'_>,
    path: impl Fn(&'static str, Option<usize>) -> Vec<Segment>,
) -> Result<(), Problem> {
    if let Some(condition) = &mut rule.when {
        condition.value = fill.text(&condition.value, None, || path("value", None))?;
    }
    for (name, list) in [("one_of", &mut rule.one_of), ("none_of", &mut rule.none_of)] {
        for (at, text) in list.iter_mut().enumerate() {
            *text = fill.text(text, None, || path(name, Some(at)))?;
        }
    }
    Ok(())
}

fn revoke(rules: RevokeRules, at: &str, fill: &Fill<'_>) -> Result<Revoke, Problem> {
    Ok(Revoke {
        method: rules.method,
        url: fill.url(&rules.url, || member![at, "url"])?,
        auth: rules.auth,
        encoding: rules.encoding,
        body: rules.body,
        token: rules.token,
        ok_http: rules.ok_http,
        gone_http: rules.gone_http,
        gone_code: rules.gone_code,
        reach: rules.reach,
        takes: rules.takes,
    })
}

/// Fills in templates and says which one is wrong.
struct Fill<'f>(&'f Filler);

impl Fill<'_> {
    fn url(&self, template: &str, path: impl FnOnce() -> Vec<Segment>) -> Result<Url, Problem> {
        self.0.url(template).map_err(|message| Problem { path: path(), message })
    }

    fn optional(&self, template: Option<&str>, path: impl FnOnce() -> Vec<Segment>) -> Result<Option<Url>, Problem> {
        template.map(|template| self.url(template, path)).transpose()
    }

    fn text(
        &self,
        template: &str,
        except: Option<&str>,
        path: impl FnOnce() -> Vec<Segment>,
    ) -> Result<String, Problem> {
        self.0.text(template, except).map_err(|message| Problem { path: path(), message })
    }
}
