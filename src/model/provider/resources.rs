//! Which resource a scope is for, where one access token serves one resource only.
//!
//! The full name of such a scope is an address: the resource, a slash, and what may be done there. What is no address, as
//! `openid` is none, says something about the person and goes with every token.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::provider::rules::ScopeRules;
use crate::model::scope::{Scope, ScopeSet};

/// A resource, as scopes name it: `https://graph.microsoft.com/`, with the slash.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Resource(Box<str>);

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ScopeRules {
    /// The resource that the token of a grant with these scopes is for: the one of the prefix, or else the first by name.
    /// `None` where a token is for everything, or where no scope is for a resource.
    #[must_use]
    pub fn main_resource(&self, granted: &ScopeSet) -> Option<Resource> {
        if !self.one_resource {
            return None;
        }
        let resources = self.resources(granted);
        let of_prefix = self.prefix.as_deref().map(|prefix| Resource(prefix.into()));
        of_prefix.filter(|resource| resources.contains(resource)).or_else(|| resources.into_iter().next())
    }

    /// The one resource that a token for `wanted` is for. `None` if any will do.
    ///
    /// # Errors
    /// All of them, if there are several: no token has all of `wanted`.
    pub fn wanted_resource(&self, wanted: &ScopeSet) -> Result<Option<Resource>, BTreeSet<Resource>> {
        if !self.one_resource || wanted.is_empty() {
            return Ok(None);
        }
        let mut resources = self.resources(wanted);
        if resources.len() > 1 { Err(resources) } else { Ok(resources.pop_first()) }
    }

    /// What of `scopes` a token for `resource` has, or of all of them if there is none: those for the resource, and those for
    /// no resource at all.
    #[must_use]
    pub fn at_resource(&self, scopes: &ScopeSet, resource: Option<&Resource>) -> ScopeSet {
        let Some(resource) = resource else { return scopes.clone() };
        let is_there = |scope: &&Scope| self.resource(scope).is_none_or(|other| other == *resource);
        scopes.iter().filter(is_there).cloned().collect()
    }

    /// What a grant may do: what the answer tells of the resource that its token is for, and what was asked for at the
    /// others, to which the person has consented in the same step. Without a word of the answer it is what was asked for
    /// (RFC 6749 section 5.1).
    #[must_use]
    pub fn granted(&self, told: Option<ScopeSet>, asked: &ScopeSet) -> ScopeSet {
        let Some(told) = told else { return asked.clone() };
        let Some(main) = self.main_resource(asked) else { return told };
        let elsewhere = |scope: &&Scope| self.resource(scope).is_some_and(|other| other != main);
        told.union(&asked.iter().filter(elsewhere).cloned().collect())
    }

    fn resources(&self, scopes: &ScopeSet) -> BTreeSet<Resource> {
        scopes.iter().filter_map(|scope| self.resource(scope)).collect()
    }

    fn resource(&self, scope: &Scope) -> Option<Resource> {
        let full = self.full(scope);
        let (_, rest) = full.as_str().split_once("://")?;
        let name = rest.rsplit('/').next()?;
        // An address that ends with its host is the resource itself.
        let end = if name.len() == rest.len() { full.as_str().len() } else { full.as_str().len() - name.len() };
        Some(Resource(full.as_str()[..end].into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> ScopeSet {
        ScopeSet::read(text, ' ')
    }

    fn rules() -> ScopeRules {
        serde_json::from_value(serde_json::json!({
            "one_resource": true,
            "prefix": "https://graph/",
            "aliases": {"openid": "openid", "offline_access": "offline_access"},
        }))
        .unwrap()
    }

    #[test]
    fn the_main_resource_is_that_of_the_prefix_or_else_the_first() {
        for (granted, expected) in [
            ("openid", None),
            ("", None),
            ("openid Mail.Read", Some("https://graph/")),
            ("https://graph/Mail.Read api://app/x", Some("https://graph/")),
            ("https://vault/user_impersonation api://app/x", Some("api://app/")),
            ("https://vault//user_impersonation", Some("https://vault//")),
            ("https://vault/.default", Some("https://vault/")),
            ("https://vault", Some("https://vault")),
        ] {
            let main = rules().main_resource(&set(granted)).map(|resource| resource.to_string());
            assert_eq!(main.as_deref(), expected, "{granted}");
        }
        assert_eq!(ScopeRules::default().main_resource(&set("https://vault/x")), None);
    }

    #[test]
    fn what_is_wanted_is_for_one_resource() {
        let wanted = |scopes: &str| {
            let found = rules().wanted_resource(&set(scopes));
            found.map(|one| one.map(|one| one.to_string())).map_err(|several| several.len())
        };
        assert_eq!(wanted(""), Ok(None));
        assert_eq!(wanted("openid"), Ok(None));
        assert_eq!(wanted("openid Mail.Read https://graph/User.Read"), Ok(Some("https://graph/".to_owned())));
        assert_eq!(wanted("https://vault/x https://vault/y"), Ok(Some("https://vault/".to_owned())));
        assert_eq!(wanted("Mail.Read https://vault/x"), Err(2));
        assert_eq!(ScopeRules::default().wanted_resource(&set("https://a/x https://b/x")), Ok(None));
    }

    #[test]
    fn a_token_has_the_scopes_of_its_resource_and_those_of_none() {
        let (rules, all) = (rules(), set("openid Mail.Read https://vault/x https://vault/y"));
        let vault = rules.wanted_resource(&set("https://vault/x")).unwrap();
        assert_eq!(rules.at_resource(&all, vault.as_ref()), set("openid https://vault/x https://vault/y"));
        assert_eq!(rules.at_resource(&all, rules.main_resource(&all).as_ref()), set("openid Mail.Read"));
        assert_eq!(rules.at_resource(&all, None), all);
    }

    #[test]
    fn an_answer_speaks_for_one_resource_and_says_nothing_of_the_others() {
        let (rules, asked) = (rules(), set("openid Mail.Read User.Read https://vault/x"));
        for (told, expected) in [
            (Some("https://graph/Mail.Read"), "https://graph/Mail.Read https://vault/x"),
            (Some(""), "https://vault/x"),
            (None, "openid Mail.Read User.Read https://vault/x"),
        ] {
            assert_eq!(rules.granted(told.map(set), &asked), set(expected), "{told:?}");
        }
        let plain = ScopeRules::default();
        assert_eq!(
            plain.granted(Some(set("a")), &set("a b https://vault/x")),
            set("a"),
            "elsewhere what is told is all"
        );
        assert_eq!(plain.granted(None, &set("a b")), set("a b"));
    }
}
