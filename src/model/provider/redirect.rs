//! Says why a redirect URI cannot work at a provider, before a person finds out in the browser.

use url::{Host, Url};

use crate::model::provider::Provider;

/// Why `redirect_uri` cannot be registered at `provider`, one plain sentence each; none if nothing is known against it.
#[must_use]
pub fn check(provider: &Provider, redirect_uri: &Url) -> Vec<String> {
    let (name, rules) = (&provider.name, &provider.redirect);
    let host = redirect_uri.host_str().unwrap_or_default();
    let http = redirect_uri.scheme() == "http";
    if !is_loopback(redirect_uri) {
        return if http {
            vec![format!("{name} needs https for {redirect_uri}: http is for this machine only.")]
        } else {
            Vec::new()
        };
    }
    let mut problems = Vec::new();
    if rules.loopback_hosts.is_empty() {
        problems.push(format!("{name} sends no browser back to this machine with this kind of client."));
    } else if !rules.loopback_hosts.iter().any(|accepted| accepted == host) {
        problems.push(format!("{name} does not accept {host}; use {}.", rules.loopback_hosts.join(" or ")));
    }
    if http && !rules.loopback_http && !rules.loopback_hosts.is_empty() {
        problems.push(format!("{name} needs https even for {host}, with this kind of client."));
    }
    problems
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
