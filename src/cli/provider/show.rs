//! `grantd provider show`: what a person needs to know to register a client and to choose its scopes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde_json::{Value, json};
use url::Url;

use crate::broker::registry::Registry;
use crate::catalog::Settings;
use crate::catalog::schema::Definition;
use crate::cli::provider::{Chosen, ProviderError, print_json};
use crate::model::client::ClientAuth;
use crate::model::id::SlotName;
use crate::model::provider::ClientKind;
use crate::model::provider::redirect::{self, Unusable};
use crate::model::provider::rules::{PathMatch, Presets, ScopeRules, ScopesManagedBy};
use crate::model::scope::ScopeSet;

/// Everything that is shown, in one value, so that both forms say the same.
struct Sheet {
    definition: Definition,
    id: String,
    file: String,
    variant: Option<String>,
    /// The variant, if it is another than the default one.
    chosen: Option<String>,
    configured: bool,
    redirect_uri: String,
    problem: Option<Unusable>,
    /// The variants that could use this redirect URI where the chosen one cannot.
    fitting: BTreeSet<String>,
    docs_url: Option<String>,
    /// Why the settings make no provider yet, such as a variable that must be said.
    incomplete: Option<String>,
}

pub(super) fn show(chosen: &Chosen, json: bool, out: &mut dyn Write) -> Result<(), ProviderError> {
    let sheet = sheet(chosen)?;
    if json {
        return print_json(&sheet.json(), out);
    }
    sheet.print(out)
}

fn sheet(chosen: &Chosen) -> Result<Sheet, ProviderError> {
    let usage = |error: crate::catalog::SettingsError| ProviderError::Usage(error.to_string());
    let variant = chosen.settings.variant.as_deref();
    let definition = chosen.entry.variant(variant).map_err(usage)?;
    let registry =
        Registry { web_url: chosen.web.clone(), providers: BTreeMap::new(), callers: std::sync::Arc::default() };
    let redirect_uri = registry.redirect_uri(&chosen.settings.id);
    let (problem, docs_url, incomplete) = match chosen.entry.resolve(&chosen.settings) {
        Ok(provider) => {
            let problem = redirect::check(&provider, &redirect_uri);
            (problem, provider.docs_url.map(|url| url.as_str().trim_end_matches('/').to_owned()), None)
        }
        Err(error) => (None, definition.docs_url.clone(), Some(error.to_string())),
    };
    let fitting = match &problem {
        Some(_) => fitting(chosen, &redirect_uri),
        None => BTreeSet::new(),
    };
    let default = chosen.entry.definition().default_variant.clone();
    Ok(Sheet {
        definition,
        id: chosen.settings.id.to_string(),
        file: chosen.entry.file().to_owned(),
        chosen: chosen.settings.variant.clone().filter(|variant| Some(variant) != default.as_ref()),
        variant: chosen.settings.variant.clone().or(default),
        configured: chosen.configured,
        redirect_uri: redirect_uri.into(),
        problem,
        fitting,
        docs_url,
        incomplete,
    }
    .with_variants(chosen.entry.definition()))
}

/// The variants whose rules have nothing against the redirect URI.
fn fitting(chosen: &Chosen, redirect_uri: &Url) -> BTreeSet<String> {
    let names = chosen.entry.definition().variants.keys();
    let fits = |name: &&String| {
        let settings = Settings { variant: Some((*name).clone()), ..chosen.settings.clone() };
        let provider = chosen.entry.resolve(&settings);
        provider.is_ok_and(|provider| redirect::check(&provider, redirect_uri).is_none())
    };
    names.filter(fits).cloned().collect()
}

impl Sheet {
    /// A merged definition has no variants any more; the reader wants to know the others.
    fn with_variants(mut self, base: &Definition) -> Self {
        self.definition.variants.clone_from(&base.variants);
        self
    }

    fn needs_secret(&self) -> bool {
        self.definition.client.kind == ClientKind::Confidential && !self.needs_key()
    }

    fn needs_key(&self) -> bool {
        self.definition.client.auth == ClientAuth::PrivateKeyJwt
    }

    /// How exactly the redirect URI has to be registered.
    fn to_register(&self) -> &'static str {
        let rules = &self.definition.redirect;
        let on_loopback = Url::parse(&self.redirect_uri).is_ok_and(|url| redirect::is_loopback(&url));
        match (rules.path, on_loopback && rules.loopback_any_port) {
            (PathMatch::Below, _) => "to be registered like this, or a path above it",
            (PathMatch::Exact, true) => "to be registered exactly like this; only its port may differ",
            (PathMatch::Exact, false) => "to be registered exactly like this",
        }
    }

    fn presets(&self) -> [(&'static str, &BTreeMap<SlotName, ScopeSet>); 3] {
        let Presets { default, read_only, full } = &self.definition.presets;
        [("default", default), ("read-only", read_only), ("full", full)]
    }

    fn print(&self, out: &mut dyn Write) -> Result<(), ProviderError> {
        let definition = &self.definition;
        writeln!(out, "{} ({})", definition.name, self.id)?;
        if let Some(variant) = &self.variant {
            let about = definition.variants.get(variant).map_or("", |variant| variant.about.as_str());
            writeln!(out, "variant       {variant}: {about}")?;
        }
        writeln!(out, "definition    {}", self.file)?;
        if let Some(url) = &self.docs_url {
            writeln!(out, "register at   {url}")?;
        }
        writeln!(out, "redirect URI  {}", self.redirect_uri)?;
        match &self.problem {
            Some(Unusable { why, next, .. }) => writeln!(out, "              ! {why}\n              ! {next}")?,
            None => writeln!(out, "              {}", self.to_register())?,
        }
        let secret = match (self.needs_secret(), self.needs_key()) {
            (true, _) => "needed",
            (false, true) => "none: the client signs with its key",
            (false, false) => "none",
        };
        writeln!(out, "client secret {secret}")?;
        if let Some(incomplete) = &self.incomplete {
            writeln!(out, "! {incomplete}")?;
        }
        self.section(out, "To write into grantd.yaml", self.configuration().into_iter())?;
        self.section(out, "Notes", definition.setup_notes.iter().map(|note| format!("- {note}")))?;
        let vars = definition.vars.iter().map(|(name, var)| match &var.default {
            Some(default) => format!("{name}: {} (default {default})", var.about),
            None => format!("{name}: {} (must be said)", var.about),
        });
        self.section(out, "Variables", vars)?;
        let variants = definition.variants.iter();
        let variants = variants.map(|(name, variant)| match self.fitting.contains(name) {
            true => format!("{name}: {} It takes this redirect URI.", variant.about),
            false => format!("{name}: {}", variant.about),
        });
        self.section(out, "Variants", variants)?;
        self.print_presets(out)
    }

    /// What a configuration with this provider looks like; nothing if there is one.
    fn configuration(&self) -> Vec<String> {
        if self.configured {
            return Vec::new();
        }
        let id = &self.id;
        let mut lines = vec!["providers:".to_owned(), format!("  {id}:"), "    client_id: CLIENT_ID".to_owned()];
        if self.needs_secret() {
            lines.push(format!("    client_secret: {{file: /home/you/.config/grantd/{id}.secret}}"));
        }
        if self.needs_key() {
            lines.push(format!("    client_key: {{file: /home/you/.config/grantd/{id}.key}}"));
            lines.push(format!("    client_certificate: {{file: /home/you/.config/grantd/{id}.crt}}"));
        }
        lines.extend(self.chosen.iter().map(|variant| format!("    variant: {variant}")));
        let vars = self.definition.vars.iter().filter(|(_, var)| var.default.is_none());
        let vars: Vec<_> = vars.map(|(name, _)| format!("{name}: \"…\"")).collect();
        if !vars.is_empty() {
            lines.push(format!("    vars: {{{}}}", vars.join(", ")));
        }
        lines
    }

    fn print_presets(&self, out: &mut dyn Write) -> Result<(), ProviderError> {
        let rules = &self.definition.scopes;
        if rules.managed_by == ScopesManagedBy::App {
            return Ok(writeln!(out, "\nScopes: fixed in the provider's settings of the client")?);
        }
        let always = rules.always.iter().map(|scope| line(rules, scope.as_str()));
        self.section(out, "Scopes that are always asked for", always)?;
        for (name, preset) in self.presets() {
            let several = preset.len() > 1;
            for (slot, scopes) in preset {
                let title =
                    if several { format!("Preset {name}, for the {slot} token") } else { format!("Preset {name}") };
                self.section(out, &title, scopes.iter().map(|scope| line(rules, scope.as_str())))?;
            }
        }
        Ok(())
    }

    fn section(
        &self,
        out: &mut dyn Write,
        title: &str,
        lines: impl Iterator<Item = String>,
    ) -> Result<(), ProviderError> {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return Ok(());
        }
        writeln!(out, "\n{title}")?;
        for line in lines {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let definition = &self.definition;
        let sentences: BTreeMap<_, _> = definition.scopes.sentences.iter().collect();
        let vars = definition.vars.iter().map(|(name, var)| {
            (name.clone(), json!({"about": var.about, "default": var.default, "one_of": var.one_of}))
        });
        let variants = definition.variants.iter();
        json!({
            "id": self.id,
            "definition": definition.id,
            "name": definition.name,
            "file": self.file,
            "configured": self.configured,
            "variant": self.variant,
            "docs_url": self.docs_url,
            "redirect_uri": self.redirect_uri,
            "redirect_uri_instead": self.problem.as_ref().and_then(|problem| problem.instead.as_ref()),
            "problems": self.problem.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "incomplete": self.incomplete,
            "client_secret": self.needs_secret(),
            "client_key": self.needs_key(),
            "device_flow": definition.endpoints.device.is_some(),
            "setup_notes": definition.setup_notes,
            "vars": vars.collect::<serde_json::Map<_, _>>(),
            "variants": variants.map(|(name, variant)| (name.clone(), json!(variant.about))).collect::<serde_json::Map<_, _>>(),
            "scopes": {
                "managed_by": definition.scopes.managed_by,
                "always": definition.scopes.always,
                "presets": self.presets().map(|(name, preset)| json!({"name": name, "slots": preset})),
                "sentences": sentences,
            },
        })
    }
}

fn line(rules: &ScopeRules, scope: &str) -> String {
    let sentence = scope.parse().ok().and_then(|scope| rules.sentence(&scope));
    match sentence {
        Some(sentence) => format!("{scope:28} {sentence}"),
        None => scope.to_owned(),
    }
}
