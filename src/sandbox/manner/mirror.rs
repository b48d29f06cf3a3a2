//! The mirror: a provider that behaves as a definition says, so that the definition can be tried without the provider.
//!
//! Each host of the definition becomes the first segment of a path, so that one sandbox can be all of them.

mod client;
mod device;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use url::{Position, Url};

use crate::model::id::SlotName;
use crate::model::provider::rules::{CallbackIss, DefaultTtl, Encoding, ErrorClass, ErrorRule, Match, SlotPlace};
use crate::model::provider::rules::{Rotation as Rotates, ScopesManagedBy};
use crate::model::provider::{IdentitySource, Provider, Revoke, RevokeAuth, RevokeMethod, RevokeReach};
use crate::sandbox::answer::Answer;
use crate::sandbox::assertion::{AssertionFault, Assertions, MadeKey};
use crate::sandbox::machine::{Credentials, DeviceGiven, Issued, Reach, Refusal, Revocation};
use crate::sandbox::manner::route::{Route, Spot};
use crate::sandbox::manner::{Manner, Role, Said, Scene, Wish};
use crate::sandbox::options::{DEFAULT_CLIENT, DeviceSecret, Options, Rotation, SandboxUser};
use crate::sandbox::params::Params;

/// Where the consent form of the sandbox goes.
const CONSENT: &str = "/consent";
/// Where a person enters the code of a device.
const DEVICE_PAGE: &str = "/device";
/// How long a client waits between two polls: the shortest that it believes.
const DEVICE_INTERVAL: Duration = Duration::from_secs(1);

/// A provider as one definition has it.
#[derive(Debug)]
pub struct Mirror {
    provider: Provider,
    told: Mutex<Option<Telling>>,
    /// What the client signs, if that is how it proves itself.
    assertions: Option<Assertions>,
    codes_given: AtomicUsize,
}

/// How a refusal is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Telling {
    /// The error code; absent if only the status tells.
    pub code: Option<String>,
    /// The finer code.
    pub sub: Option<String>,
    /// The status.
    pub status: u16,
}

impl Mirror {
    /// The mirror of a provider, and the key with which [`DEFAULT_CLIENT`] signs for itself, if it does.
    #[must_use]
    pub fn of(provider: Provider, key: Option<&MadeKey>) -> Arc<Self> {
        let assertions = key.map(|key| Assertions::of(DEFAULT_CLIENT, key.public()));
        Arc::new(Self { provider, told: Mutex::new(None), assertions, codes_given: AtomicUsize::new(0) })
    }

    /// The switches of the sandbox that the definition speaks about.
    #[must_use]
    pub fn options(self: &Arc<Self>) -> Options {
        let rules = &self.provider;
        Options {
            role: Role::Mirror(Arc::clone(self)),
            rotation: match rules.refresh.rotation {
                Rotates::Static => Rotation::Static,
                Rotates::MultiValid => Rotation::MultiValid,
                Rotates::SingleUse => Rotation::SingleUse {
                    kills_family: true,
                    grace: Duration::from_secs(rules.refresh.grace.unwrap_or_default()),
                },
            },
            pkce_required: rules.pkce,
            iss_on_callback: rules.issuer.callback_iss != CallbackIss::Ignore && !rules.issuer.accept.is_empty(),
            kills_access_on_refresh: rules.refresh.kills_access,
            device_interval: DEVICE_INTERVAL,
            // The mirror looks at that itself, request by request.
            device_secret: DeviceSecret::Never,
            ..Options::default()
        }
    }

    /// The provider with every address at the sandbox that stands at `origin`.
    #[must_use]
    pub fn provider_at(&self, origin: &Url) -> Provider {
        let at = |url: &Url| moved(origin.as_str(), url);
        let mut provider = self.provider.clone();
        let endpoints = &mut provider.endpoints;
        endpoints.authorize = at(&endpoints.authorize);
        endpoints.token = at(&endpoints.token);
        endpoints.device = endpoints.device.as_ref().map(at);
        endpoints.jwks = endpoints.jwks.as_ref().map(at);
        if let IdentitySource::Http { url, .. } = &mut provider.identity.source {
            *url = at(url);
        }
        for revoke in [&mut provider.revoke, &mut provider.revoke_wider].into_iter().flatten() {
            revoke.url = at(&revoke.url);
        }
        provider
    }

    /// How many names of the page the device flow has here: so many codes have to be asked for until each was read.
    #[must_use]
    pub fn page_names(&self) -> usize {
        device::page_names(self).len()
    }

    /// How many device codes were given.
    #[must_use]
    pub fn device_codes(&self) -> usize {
        self.codes_given.load(Ordering::Relaxed)
    }

    /// How many assertions of the client were good.
    #[must_use]
    pub fn assertions_good(&self) -> usize {
        self.assertions.as_ref().map_or(0, Assertions::good)
    }

    /// What was wrong with the client's last assertion; `None` if nothing was, or there was none.
    #[must_use]
    pub fn assertion_fault(&self) -> Option<AssertionFault> {
        self.assertions.as_ref().and_then(Assertions::last_fault)
    }

    /// The account that the definition should read for this person.
    #[must_use]
    pub fn account_of(&self, user: &SandboxUser) -> Value {
        let mut told = Value::Object(Map::new());
        let identity = &self.provider.identity;
        for pointer in identity.display.pointers() {
            pointer.put(&mut told, json!(user.email));
        }
        for pointer in identity.account_id.pointers() {
            pointer.put(&mut told, json!(&*user.sub));
        }
        told
    }

    /// Tells every refusal in this way from now on; `None` in its own way again.
    pub fn tell(&self, telling: Option<Telling>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = telling;
    }

    /// How a failure that this rule means would be told, for one of its codes.
    #[must_use]
    pub fn telling(&self, rule: &ErrorRule, code: Option<&str>) -> Telling {
        Telling {
            code: code.map(str::to_owned),
            sub: rule.sub.first().cloned(),
            status: rule.http.first().copied().unwrap_or_else(|| self.usual_status()),
        }
    }

    /// Whoever says by a member of the answer whether it is good, does not say it by the status.
    fn usual_status(&self) -> u16 {
        if self.provider.response.ok_when.is_some() { 200 } else { 400 }
    }

    fn own_telling(&self, refusal: Refusal) -> Telling {
        let classes: &[ErrorClass] = match refusal {
            // RFC 8628 section 3.5 and RFC 7523 section 3.2 leave no choice.
            Refusal::Assertion
            | Refusal::Denied
            | Refusal::DeviceCode(_)
            | Refusal::Expired
            | Refusal::Pending
            | Refusal::SlowDown { .. } => &[],
            Refusal::RefreshToken(_) => &[ErrorClass::Reauth],
            Refusal::Code(_) => &[ErrorClass::RestartLogin, ErrorClass::Reauth],
            _ => &[ErrorClass::Misconfigured],
        };
        let said = |rule: &&ErrorRule| !rule.code.is_empty();
        let rule =
            classes.iter().find_map(|class| self.provider.errors.iter().filter(said).find(|rule| rule.class == *class));
        match rule {
            Some(rule) => self.telling(rule, rule.code.first().map(String::as_str)),
            None => Telling { code: Some(refusal.error().to_owned()), sub: None, status: self.usual_status() },
        }
    }

    /// The place in which the answer to a code, or that to a refresh, has the grant of a slot. A refresh has it in the last
    /// one, so that every place that is written for it is tried.
    fn place(&self, issued: &Issued) -> Option<&SlotPlace> {
        let places = &self.provider.slot(&issued.slot)?.places;
        if issued.grant_type == Some("refresh_token") { places.last() } else { places.first() }
    }

    fn fine(&self, body: &mut Value) {
        if let Some(Match { pointer, equals }) = &self.provider.response.ok_when {
            pointer.put(body, equals.clone());
        }
    }

    fn put_grant(&self, body: &mut Value, issued: &Issued) {
        let Some(place) = self.place(issued) else { return };
        if let Some(Match { pointer, equals }) = &place.when {
            pointer.put(body, equals.clone());
        }
        place.access.put(body, json!(issued.access.expose()));
        if let Some(refresh) = &issued.refresh {
            place.refresh.put(body, json!(refresh.expose()));
        }
        if let (Some(ttl), true) = (issued.access_ttl, self.provider.response.access_ttl != DefaultTtl::Unknown) {
            place.expires_in.put(body, json!(ttl.as_secs()));
        }
        let rules = &self.provider.scopes;
        if rules.managed_by == ScopesManagedBy::Request {
            let told = issued.scopes.iter().filter(|scope| rules.not_echoed.iter().all(|not| not.as_str() != **scope));
            let told: Vec<&str> = told.map(String::as_str).collect();
            place.scope.put(body, json!(told.join(&rules.separator_response.to_string())));
        }
    }

    /// An error as the definition reads it.
    fn written(&self, code: Option<&str>, sub: Option<&str>) -> Value {
        let rules = &self.provider.response;
        let mut body = Value::Object(Map::new());
        if let Some(Match { pointer, equals }) = &rules.ok_when {
            // Anything else than what a good answer has.
            pointer.put(&mut body, json!(*equals == json!(false)));
        }
        for (places, word) in [(&rules.error, code), (&rules.error_sub, sub)] {
            if let (Some(place), Some(word)) = (places.first(), word) {
                place.put(&mut body, json!(word));
            }
        }
        body
    }

    /// The ways to take something back, the narrow one first.
    fn revocations(&self) -> impl Iterator<Item = &Revoke> {
        [&self.provider.revoke, &self.provider.revoke_wider].into_iter().flatten()
    }

    /// The way that a request takes.
    fn revocation_rules(&self, scene: &Scene<'_>) -> Option<&Revoke> {
        let meant = |rules: &&Revoke| path(&rules.url) == scene.call.path && method(rules.method) == scene.call.method;
        self.revocations().find(meant)
    }
}

impl PartialEq for Mirror {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Mirror {}

impl Manner for Mirror {
    fn routes(&self) -> Vec<Route> {
        let provider = &self.provider;
        let mut routes = vec![
            Route::at("authorize", path(&provider.endpoints.authorize), Spot::Authorize),
            Route::at("consent", CONSENT, Spot::Consent),
            Route::at("token", path(&provider.endpoints.token), Spot::Token).only(Method::POST),
        ];
        if let Some(url) = &provider.endpoints.device {
            routes.push(Route::at("device authorization", path(url), Spot::Device).only(Method::POST));
            routes.push(Route::at("enter a code", DEVICE_PAGE, Spot::DevicePage));
        }
        routes.extend(provider.endpoints.jwks.iter().map(|url| Route::at("keys", path(url), Spot::Jwks)));
        if let IdentitySource::Http { url, .. } = &provider.identity.source {
            routes.push(Route::at("account", path(url), Spot::Account).only(Method::GET));
        }
        let revoke = |rules: &Revoke| Route::at("revoke", path(&rules.url), Spot::Revoke).only(method(rules.method));
        routes.extend(self.revocations().map(revoke));
        routes
    }

    fn encoding(&self, at: Spot) -> Encoding {
        match at {
            Spot::Device | Spot::Token => self.provider.token.encoding,
            Spot::Revoke => self.revocations().next().map_or(Encoding::Form, |rules| rules.encoding),
            _ => Encoding::Form,
        }
    }

    fn credentials(&self, scene: &Scene<'_>, params: &Params) -> Result<Credentials, Refusal> {
        client::read(self, scene, params)
    }

    fn wishes(&self, _scene: &Scene<'_>, params: &Params) -> Vec<Wish> {
        let asked = &self.provider.authorize.scope_params;
        if asked.is_empty() {
            let slots = self.provider.slots.iter();
            return slots.map(|slot| Wish { slot: slot.name.clone(), scopes: Vec::new() }).collect();
        }
        let separator = self.provider.scopes.separator_request;
        let wish = |param: &str, slot: &SlotName| Wish::of(slot.clone(), params.get(param), separator);
        asked.iter().map(|asked| wish(&asked.param, &asked.slot)).collect()
    }

    fn revocation(&self, scene: &Scene<'_>, params: &Params) -> Result<Revocation, Refusal> {
        let rules = self.revocation_rules(scene).ok_or(Refusal::Request("there is no revocation"))?;
        let by = match rules.auth {
            RevokeAuth::Basic | RevokeAuth::Post => {
                client::signed(self, scene, params)?;
                Some(Credentials::read(&scene.call.headers, params)?)
            }
            RevokeAuth::Bearer | RevokeAuth::None => None,
        };
        let token = match rules.auth {
            RevokeAuth::Bearer => scene.call.header(AUTHORIZATION).and_then(|header| header.strip_prefix("Bearer ")),
            _ => rules.body.iter().find_map(|(name, value)| {
                let (before, after) = value.split_once("{token}")?;
                params.get(name)?.strip_prefix(before)?.strip_suffix(after)
            }),
        };
        let reach = match rules.reach {
            RevokeReach::Client | RevokeReach::Project => Reach::Person,
            RevokeReach::Grant => Reach::Grant,
            RevokeReach::Token => Reach::Token,
        };
        Ok(Revocation { reach, ..Revocation::of(by, token)? })
    }

    /// Where a definition has a template, each account has an issuer of its own, which its ID token names.
    fn issuer(&self, origin: &str) -> String {
        self.provider.issuer.accept.first().cloned().unwrap_or_else(|| origin.to_owned())
    }

    fn id_claims(&self, scene: &Scene<'_>, user: &SandboxUser) -> Map<String, Value> {
        let mut claims = Map::from_iter([
            ("iss".to_owned(), json!(self.issuer(scene.origin))),
            ("sub".to_owned(), json!(&*user.sub)),
        ]);
        if let Value::Object(account) = self.account_of(user) {
            claims.extend(account);
        }
        if let IdentitySource::IdToken(rules) = &self.provider.identity.source
            && let (Some(template), Some(claim)) = (&rules.issuer_template, &rules.issuer_claim)
        {
            claims.insert(claim.clone(), json!(&*user.sub));
            claims.insert("iss".to_owned(), json!(template.replace(&format!("{{{claim}}}"), &user.sub)));
        }
        claims
    }

    fn issued(&self, _scene: &Scene<'_>, issued: &[Issued], id_token: Option<&str>) -> Answer {
        let mut body = Value::Object(Map::new());
        if matches!(self.provider.identity.source, IdentitySource::Token)
            && let Some(first) = issued.first()
        {
            body = self.account_of(&first.user);
        }
        if let Some(kind) = self.provider.response.token_types.first() {
            body["token_type"] = json!(kind);
        }
        if let (Some(id_token), IdentitySource::IdToken(_)) = (id_token, &self.provider.identity.source) {
            body["id_token"] = json!(id_token);
        }
        issued.iter().for_each(|issued| self.put_grant(&mut body, issued));
        self.fine(&mut body);
        Answer::json(StatusCode::OK, &body)
    }

    fn device_given(&self, _scene: &Scene<'_>, given: &DeviceGiven, page: &str) -> Answer {
        Answer::json(StatusCode::OK, &device::given(self, given, page))
    }

    fn refused(&self, _scene: &Scene<'_>, refusal: Refusal) -> Answer {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let telling = told.unwrap_or_else(|| self.own_telling(refusal));
        let status = StatusCode::from_u16(telling.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut body = self.written(telling.code.as_deref(), telling.sub.as_deref());
        if let Refusal::SlowDown { interval } = refusal {
            body["interval"] = json!(interval);
        }
        Answer::json(status, &body)
    }

    fn error(&self, _scene: &Scene<'_>, said: &Said) -> Answer {
        let usual = self.usual_status();
        Answer::json(said.status_or(usual), &self.written(Some(&said.code), None))
    }

    fn revoked(&self, scene: &Scene<'_>) -> Answer {
        let status = self.revocation_rules(scene).and_then(|rules| rules.ok_http.first()).copied().unwrap_or(200);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        if status == StatusCode::NO_CONTENT {
            return Answer::empty(status);
        }
        let mut body = Value::Object(Map::new());
        self.fine(&mut body);
        Answer::json(status, &body)
    }

    fn account(&self, _scene: &Scene<'_>, user: &SandboxUser) -> Answer {
        Answer::json(StatusCode::OK, &self.account_of(user))
    }

    fn dead_token(&self, _scene: &Scene<'_>, _sent: bool) -> Answer {
        Answer::json(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_token"}))
    }
}

const fn method(method: RevokeMethod) -> Method {
    match method {
        RevokeMethod::Delete => Method::DELETE,
        RevokeMethod::Post => Method::POST,
    }
}

/// The address at the sandbox that stands at `origin`.
fn moved(origin: &str, url: &Url) -> Url {
    let mut moved: Url = origin.parse().expect("a sandbox is somewhere");
    moved.set_path(&path(url));
    moved.set_query(url.query());
    moved
}

/// Host, port and path of an address, as one path.
fn path(url: &Url) -> String {
    format!("/{}", &url[Position::BeforeHost..Position::AfterPath])
}
