//! Where an access token is for one resource only: which one a request names, and what its token opens.

use std::collections::BTreeSet;

use crate::sandbox::ledger::Fingerprint;
use crate::sandbox::machine::{Machine, Refusal, State};

/// Scopes that go with every token, for they are for no resource.
const FOR_NONE: [&str; 4] = ["openid", "profile", "email", "offline_access"];

impl Machine {
    /// The resource that a live access token is for, where there are several.
    pub(in crate::sandbox) fn resource_of(&self, token: &str) -> Option<String> {
        let now = self.now();
        let state = self.state();
        let access = state.access.get(&Fingerprint::of(token)).filter(|access| now < access.expires)?;
        access.resource.clone()
    }
}

impl State {
    /// The resource that a token with these scopes is for. `None` where a token is for everything.
    ///
    /// # Errors
    /// If the scopes are for several.
    pub(super) fn one_resource(&self, scopes: &[String]) -> Result<Option<String>, Refusal> {
        let Some(default) = &self.options.quirks.one_resource else { return Ok(None) };
        let mut named: BTreeSet<&str> = scopes.iter().filter_map(|scope| resource(scope, default)).collect();
        if named.len() > 1 {
            return Err(Refusal::Request("AADSTS28000: The scope is for more than one resource."));
        }
        Ok(Some(named.pop_first().unwrap_or(default).to_owned()))
    }

    /// Whether the token may be used at the API that is played here.
    pub(super) fn is_for_api(&self, resource: Option<&str>) -> bool {
        resource == self.options.quirks.one_resource.as_deref()
    }

    /// Whether a scope that is asked for is this one, by either spelling.
    pub(super) fn is_same_scope(&self, one: &str, other: &str) -> bool {
        match &self.options.quirks.one_resource {
            Some(default) => full(one, default) == full(other, default),
            None => short(one) == short(other),
        }
    }
}

fn full(scope: &str, default: &str) -> String {
    let is_full = scope.contains("://") || FOR_NONE.contains(&scope);
    if is_full { scope.to_owned() } else { format!("{default}{scope}") }
}

fn resource<'s>(scope: &'s str, default: &'s str) -> Option<&'s str> {
    if FOR_NONE.contains(&scope) {
        return None;
    }
    let name = scope.rsplit('/').next().filter(|_| scope.contains("://"));
    Some(name.map_or(default, |name| &scope[..scope.len() - name.len()]))
}

/// The last part of a scope that is an address: providers that have such scopes take both spellings.
fn short(scope: &str) -> &str {
    if scope.contains("://") { scope.rsplit('/').next().unwrap_or(scope) } else { scope }
}
