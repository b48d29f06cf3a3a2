//! What a definition is tried on: its mirror, and a daemon with a real configuration that takes the mirror for the provider.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::broker::registry::Configured;
use crate::catalog::schema::VarKind;
use crate::catalog::{Catalog, Entry, Settings};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::provider::test::ahead::Ahead;
use crate::cli::provider::test::report::Step;
use crate::cli::serve;
use crate::cli::temporary::{self, Home};
use crate::config::Config;
use crate::daemon::{Daemon, StartError};
use crate::model::client::{self, ClientAuth};
use crate::model::client_key::{ClientKey, ClientKeyError};
use crate::model::id::SlotName;
use crate::model::provider::redirect::{self, WebHosts};
use crate::model::provider::{ClientKind, Provider};
use crate::model::scope::ScopeSet;
use crate::model::secret::ClientSecret;
use crate::sandbox::browser::Browser;
use crate::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET, MadeKey, Mirror, Options, Sandbox, SandboxClient};

/// Everything that runs while one variant is tried.
pub(super) struct Stage {
    /// As the definition has it.
    pub(super) original: Provider,
    /// The same with every address at the mirror.
    pub(super) provider: Provider,
    pub(super) mirror: Arc<Mirror>,
    pub(super) sandbox: Sandbox,
    /// The mirror's time.
    pub(super) clock: Arc<Ahead>,
    /// What the client signs with, if that is how it proves itself.
    pub(super) key: Option<MadeKey>,
    /// What is asked for in each slot.
    pub(super) scopes: BTreeMap<SlotName, ScopeSet>,
    /// Whether no browser comes back, so that only the device flow connects it.
    pub(super) by_device: bool,
    pub(super) client: Client,
    pub(super) browser: Browser,
    daemon: JoinHandle<Result<(), StartError>>,
    stop: CancellationToken,
    /// Removed last.
    _home: Home,
}

impl Stage {
    /// Starts everything, or says why such a provider cannot be tried here, or by nobody.
    pub(super) async fn set(entry: &Entry, text: &str, variant: Option<&str>) -> Result<Result<Self, Step>, CliError> {
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            CliError::new(ExitCode::Failure, format!("the test cannot start: {what}: {error}"))
        };
        let chosen = chosen(entry, variant).map_err(|error| broken("the definition", &error))?;
        let original = entry.resolve(&chosen).map_err(|error| broken("the definition", &error))?;
        let port = temporary::free_port().map_err(|error| broken("its port", &error))?;
        let (web, by_device) = match (web_url(&original, port), &original.endpoints.device) {
            (Some(web), _) => (web, false),
            // The pages are nowhere that the provider would know, and nobody is sent there.
            (None, Some(_)) => (usual_url(&original, port), true),
            (None, None) => return Ok(Err(no_way(&original))),
        };
        let signs = original.client_auth == ClientAuth::PrivateKeyJwt;
        let algorithm = original.assertion.algorithms.first().copied().filter(|_| signs);
        let key = algorithm.map(MadeKey::make);
        let home = Home::make("test").map_err(|error| broken("its directory", &error))?;
        let config = furnish(&home, &original, &chosen, &web, key.as_ref(), text)
            .map_err(|error| broken("its files", &error))?;
        let name = config.display().to_string();
        let written = fs::read_to_string(&config).map_err(|error| broken("its configuration", &error))?;
        let parsed = Config::parse(&name, &written).map_err(|error| broken("its configuration", &error))?;
        let catalog = Catalog::load(Some(&home.providers())).map_err(|error| broken("the definition", &error))?;
        let mut settings = serve::settings(&parsed, &catalog, &home.paths(config), None)?;

        let (mirror, clock) = (Mirror::of(original.clone(), key.as_ref()), Arc::new(Ahead::default()));
        let time = Arc::clone(&clock);
        let options = Options { clients: vec![registered(&original)], clock: time, ..mirror.options() };
        let sandbox = Sandbox::start(options).await.map_err(|error| broken("the mirror", &error))?;
        let provider = mirror.provider_at(sandbox.url());
        let configured = settings.registry.providers.remove(&original.id).and_then(Arc::into_inner);
        let configured = configured.ok_or_else(|| broken("its configuration", &"the provider is not in it"))?;
        let scopes = configured.scopes.clone();
        let moved = Configured { provider: provider.clone(), ..configured };
        settings.registry.providers.insert(original.id.clone(), Arc::new(moved));
        let daemon = Daemon::build(settings).await.map_err(|error| broken("the daemon", &error))?;
        let browser = browser(&home, &web).map_err(|error| broken("the browser", &error))?;
        let (stop, client) = (CancellationToken::new(), Client::new(&home.socket()));
        let daemon = tokio::spawn(daemon.run(stop.clone()));
        Ok(Ok(Self {
            original,
            provider,
            mirror,
            sandbox,
            clock,
            key,
            scopes,
            by_device,
            client,
            browser,
            daemon,
            stop,
            _home: home,
        }))
    }

    /// Our registration at the mirror.
    pub(super) fn registration(&self) -> Result<client::Client, CliError> {
        match &self.key {
            Some(key) => signing(key, DEFAULT_CLIENT),
            None => Ok(client::Client { id: DEFAULT_CLIENT.to_owned(), secret: secret(&self.original), key: None }),
        }
    }

    /// Stops everything, in the order in which it depends on each other.
    pub(super) async fn strike(self) {
        self.stop.cancel();
        drop(self.daemon.await);
        self.sandbox.shutdown().await;
    }
}

/// A client that signs with this key.
pub(super) fn signing(key: &MadeKey, id: &str) -> Result<client::Client, CliError> {
    let unusable = |error: ClientKeyError| CliError::new(ExitCode::Failure, format!("the key of the run {error}"));
    let read = ClientKey::from_pem(key.pem().as_bytes()).map_err(unusable)?;
    let named = read.with_certificate(key.certificate().as_bytes()).map_err(unusable)?;
    Ok(client::Client { id: id.to_owned(), secret: None, key: Some(named) })
}

/// Why nobody is connected here: the provider's rules want pages on the web, or the definition has no way at all.
fn no_way(provider: &Provider) -> Step {
    match provider.redirect.web {
        WebHosts::None => {
            let came = "no browser comes back from this kind of client (redirect), and it has no device flow";
            Step::failed("authorize", "", came, "endpoints.device")
        }
        WebHosts::Any | WebHosts::Named => {
            Step::skipped("authorize", "the pages would have to be on the web (redirect), and this runs on one machine")
        }
    }
}

/// The variant, with values that stand in for an operator's.
fn chosen(entry: &Entry, variant: Option<&str>) -> Result<Settings, crate::catalog::SettingsError> {
    let definition = entry.variant(variant)?;
    let needed = definition.vars.iter().filter(|(_, var)| var.default.is_none());
    let vars: BTreeMap<String, String> = needed
        .map(|(name, var)| {
            let value = match (var.one_of.first(), var.kind) {
                (Some(first), _) => first.clone(),
                (None, VarKind::Host) => "host.example".to_owned(),
                (None, VarKind::Segment) => "segment".to_owned(),
            };
            (name.clone(), value)
        })
        .collect();
    Ok(Settings { variant: variant.map(str::to_owned), vars, ..Settings::plain(definition.id, DEFAULT_CLIENT) })
}

fn usual_url(provider: &Provider, port: u16) -> Url {
    let url = format!("http://localhost:{port}/callback/{}", provider.id);
    url.parse().expect("a port and the name of a provider make an address")
}

/// Where the pages are so that the provider's redirect rules allow it.
fn web_url(provider: &Provider, port: u16) -> Option<Url> {
    let usual = usual_url(provider, port);
    let mut url = match redirect::check(provider, &usual) {
        None => usual,
        Some(unusable) => unusable.instead?,
    };
    url.set_path("/");
    Some(url)
}

fn furnish(
    home: &Home,
    provider: &Provider,
    chosen: &Settings,
    web: &Url,
    key: Option<&MadeKey>,
    text: &str,
) -> std::io::Result<std::path::PathBuf> {
    fs::create_dir(home.providers())?;
    temporary::write(&home.providers().join("definition.yaml"), text)?;
    let mut settings = json!({"client_id": DEFAULT_CLIENT, "vars": chosen.vars});
    if let Some(variant) = &chosen.variant {
        settings["variant"] = json!(variant);
    }
    if let Some(key) = key {
        let (private, certificate) = (home.path().join("client.key"), home.path().join("client.pem"));
        temporary::write(&private, key.pem())?;
        temporary::write(&certificate, key.certificate())?;
        settings["client_key"] = json!({"file": private});
        settings["client_certificate"] = json!({"file": certificate});
    } else if provider.client_kind == ClientKind::Confidential {
        let secret = home.path().join("client.secret");
        temporary::write(&secret, DEFAULT_SECRET)?;
        settings["client_secret"] = json!({"file": secret});
    }
    let config = home.path().join("grantd.yaml");
    // JSON is YAML.
    let all =
        json!({"web": {"url": web.origin().ascii_serialization()}, "providers": {provider.id.as_str(): settings}});
    temporary::write(&config, &all.to_string())?;
    Ok(config)
}

fn browser(home: &Home, web: &Url) -> Result<Browser, Box<dyn std::error::Error>> {
    if web.scheme() == "http" {
        return Ok(Browser::new());
    }
    let certificate: &Path = &home.state().join("web-certificate.pem");
    Ok(Browser::trusting(&fs::read(certificate)?)?)
}

fn registered(provider: &Provider) -> SandboxClient {
    SandboxClient { id: DEFAULT_CLIENT.into(), secret: secret(provider), redirect_uris: None }
}

fn secret(provider: &Provider) -> Option<ClientSecret> {
    let has_one = provider.client_kind == ClientKind::Confidential && provider.client_auth != ClientAuth::PrivateKeyJwt;
    has_one.then(|| ClientSecret::new(DEFAULT_SECRET).expect("the constant is visible ASCII"))
}
