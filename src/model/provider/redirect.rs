//! Which redirect URIs a provider takes: why one cannot work, and which one would, before a person finds out in the browser.

use std::fmt;
use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::model::provider::Provider;

/// What the provider accepts as redirect URI (RFC 6749 section 3.1.2, RFC 8252 section 7.3).
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedirectRules {
    /// The loopback names that may be registered, of `localhost`, `127.0.0.1` and `[::1]`.
    pub loopback_hosts: Vec<String>,
    /// Whether http is accepted on those; else https is needed even there.
    pub loopback_http: bool,
    /// Whether any port is accepted on those, whichever was registered.
    pub loopback_any_port: bool,
    /// Which https addresses away from this machine may be registered.
    pub web: WebHosts,
    /// Which paths are accepted beside the registered one.
    pub path: PathMatch,
    /// How long a redirect URI may be, in characters; as long as it likes if absent.
    pub max_length: Option<NonZeroU16>,
    /// Whether the redirect URI has to be repeated in the token request (RFC 6749 section 4.1.3).
    pub send_in_token: bool,
}

impl Default for RedirectRules {
    fn default() -> Self {
        Self {
            loopback_hosts: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec(),
            loopback_http: true,
            loopback_any_port: false,
            web: WebHosts::Any,
            path: PathMatch::Exact,
            max_length: None,
            send_in_token: true,
        }
    }
}

/// Which https addresses away from this machine may be registered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WebHosts {
    /// Any.
    Any,
    /// Those with a name, and no bare IP addresses.
    Named,
    /// None: such a client runs on the machine of its person.
    None,
}

/// Which paths are accepted beside the registered one (RFC 9700 section 2.1 wants none).
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// Those below it too.
    Below,
    /// None: letter by letter.
    Exact,
}

/// Why a provider sends nobody back to a redirect URI, and what helps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unusable {
    /// Why, in one sentence.
    pub why: String,
    /// What an operator does about it, in plain sentences.
    pub next: String,
    /// The redirect URI at another address of the pages that would work.
    pub instead: Option<Url>,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.why, self.next)
    }
}

/// What speaks against `redirect_uri` at `provider` (RFC 6749 section 3.1.2, RFC 8252 section 7.3); `None` if nothing is known.
#[must_use]
pub fn check(provider: &Provider, redirect_uri: &Url) -> Option<Unusable> {
    let rules = &provider.redirect;
    let obstacle = obstacle(rules, redirect_uri)?;
    let instead = candidates(rules, redirect_uri).find(|candidate| self::obstacle(rules, candidate).is_none());
    let next = match (&obstacle, &instead) {
        (Obstacle::Long { .. }, _) => "Give it a shorter name in grantd.yaml.".to_owned(),
        (_, Some(instead)) => format!(
            "Set `web.url` to {} in grantd.yaml, register {instead} there, and restart grantd; the redirect URIs of all \
             other providers change with it.",
            instead.origin().ascii_serialization()
        ),
        (_, None) if provider.endpoints.device.is_some() => {
            "This kind of client connects with a code that is typed in on another device, which needs no redirect URI."
                .to_owned()
        }
        (_, None) => {
            format!("Use another kind of client: `grantd provider show {}` lists the variants.", provider.definition)
        }
    };
    Some(Unusable { why: obstacle.sentence(&provider.name, redirect_uri, rules), next, instead })
}

/// Whether the URL leads to the machine that the browser runs on (RFC 8252 section 7.3).
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The one thing that speaks against a redirect URI.
enum Obstacle {
    /// http away from this machine.
    Http,
    /// http although https is wanted on loopback too.
    HttpOnLoopback,
    /// Longer than the provider takes.
    Long { most: usize },
    /// Another name of this machine is wanted.
    LoopbackName,
    /// Nothing on this machine is.
    NoLoopback,
    /// Nothing on the web is.
    NoWeb,
    /// An address where a name is wanted.
    RawAddress,
}

fn obstacle(rules: &RedirectRules, url: &Url) -> Option<Obstacle> {
    let http = url.scheme() == "http";
    let host = url.host_str().unwrap_or_default();
    let long = rules.max_length.map(|most| usize::from(most.get())).filter(|most| url.as_str().len() > *most);
    if let Some(most) = long {
        return Some(Obstacle::Long { most });
    }
    if !is_loopback(url) {
        let raw = !matches!(url.host(), Some(Host::Domain(_)));
        return match rules.web {
            _ if http => Some(Obstacle::Http),
            WebHosts::None => Some(Obstacle::NoWeb),
            WebHosts::Named if raw => Some(Obstacle::RawAddress),
            WebHosts::Any | WebHosts::Named => None,
        };
    }
    if rules.loopback_hosts.is_empty() {
        return Some(Obstacle::NoLoopback);
    }
    if !rules.loopback_hosts.iter().any(|accepted| accepted == host) {
        return Some(Obstacle::LoopbackName);
    }
    (http && !rules.loopback_http).then_some(Obstacle::HttpOnLoopback)
}

/// The same path on this machine, in the ways that grantd can serve: the scheme that is configured first.
fn candidates<'a>(rules: &'a RedirectRules, url: &'a Url) -> impl Iterator<Item = Url> + 'a {
    let schemes = if url.scheme() == "https" { ["https", "http"] } else { ["http", "https"] };
    schemes.into_iter().flat_map(move |scheme| {
        rules.loopback_hosts.iter().filter_map(move |host| {
            let port = url.port()?;
            Url::parse(&format!("{scheme}://{host}:{port}{}", url.path())).ok()
        })
    })
}

impl Obstacle {
    fn sentence(&self, name: &str, url: &Url, rules: &RedirectRules) -> String {
        let host = url.host_str().unwrap_or_default();
        match self {
            Self::Http => format!("{name} needs https for {url}: http is for this machine only."),
            Self::HttpOnLoopback => format!("{name} needs https even for {host}, with this kind of client."),
            Self::Long { most } => format!("{name} takes redirect URIs of at most {most} characters."),
            Self::LoopbackName => format!("{name} does not accept {host}, only {}.", rules.loopback_hosts.join(" or ")),
            Self::NoLoopback => format!("{name} sends no browser back to this machine with this kind of client."),
            Self::NoWeb => format!("{name} sends a browser back to its own machine only, with this kind of client."),
            Self::RawAddress => format!("{name} wants the name of a host, not an address such as {host}."),
        }
    }
}
