//! Compares scopes as their provider means them: short names, scopes that include others, scopes it never tells.

use crate::model::provider::rules::{ScopeRules, ScopesManagedBy};
use crate::model::scope::{Scope, ScopeSet};

impl ScopeRules {
    /// The scopes by their full names, as they go into a request. At Google `drive.file` becomes
    /// `https://www.googleapis.com/auth/drive.file`.
    #[must_use]
    pub fn expand(&self, scopes: &ScopeSet) -> ScopeSet {
        scopes.iter().map(|scope| self.full(scope)).collect()
    }

    /// Whether a grant of `granted` is enough for `wanted`.
    #[must_use]
    pub fn covers(&self, granted: &ScopeSet, wanted: &ScopeSet) -> bool {
        self.missing(granted, wanted).is_empty()
    }

    /// What of `wanted` a grant of `granted` does not give, in the words of `wanted`.
    ///
    /// Nothing is missing where the scopes are fixed in the provider's settings of the client: its answers do not say
    /// what they are, and asking again would not change them.
    #[must_use]
    pub fn missing(&self, granted: &ScopeSet, wanted: &ScopeSet) -> ScopeSet {
        if wanted.is_empty() || self.managed_by == ScopesManagedBy::App {
            return ScopeSet::default();
        }
        let given = self.with_included(granted);
        wanted.iter().filter(|scope| !self.is_silent(scope) && !given.contains(&self.full(scope))).cloned().collect()
    }

    /// Everything that a ceiling of these scopes lets through, by full names.
    #[must_use]
    pub fn reach(&self, ceiling: &ScopeSet) -> ScopeSet {
        self.with_included(ceiling)
    }

    /// What of `scopes` is not within a [`reach`](Self::reach). Unlike [`missing`](Self::missing) it passes over nothing: what
    /// the provider does not tell, and what is fixed in its settings, is not within it unless it is named.
    #[must_use]
    pub fn beyond(&self, reach: &ScopeSet, scopes: &ScopeSet) -> ScopeSet {
        scopes.iter().filter(|scope| !reach.contains(scope) && !reach.contains(&self.full(scope))).cloned().collect()
    }

    /// What a grant is good for as far as a ceiling is concerned: what was told, and of what was asked for what the provider
    /// gives without a word.
    #[must_use]
    pub fn with_silent(&self, told: &ScopeSet, asked: &ScopeSet) -> ScopeSet {
        told.union(&asked.iter().filter(|scope| self.is_silent(scope)).cloned().collect())
    }

    /// The plain sentence for a scope, by its short or its full name.
    #[must_use]
    pub fn sentence(&self, scope: &Scope) -> Option<&str> {
        let by_full_name = || {
            let full = self.full(scope);
            self.sentences.iter().find(|(short, _)| self.full(short) == full).map(|(_, sentence)| sentence)
        };
        self.sentences.get(scope).or_else(by_full_name).map(String::as_str)
    }

    pub(super) fn full(&self, scope: &Scope) -> Scope {
        if let Some(full) = self.aliases.get(scope) {
            return full.clone();
        }
        match &self.prefix {
            Some(prefix) if !scope.as_str().contains("://") => {
                format!("{prefix}{scope}").parse().unwrap_or_else(|_| scope.clone())
            }
            _ => scope.clone(),
        }
    }

    fn is_silent(&self, scope: &Scope) -> bool {
        let full = self.full(scope);
        self.not_echoed.iter().any(|silent| self.full(silent) == full)
    }

    /// The full names, with everything they include, however many steps away. A circle in the rules ends by itself.
    fn with_included(&self, granted: &ScopeSet) -> ScopeSet {
        let mut given = self.expand(granted);
        loop {
            let more = self
                .implies
                .iter()
                .filter(|(scope, _)| given.contains(&self.full(scope)))
                .fold(given.clone(), |all, (_, included)| all.union(&self.expand(included)));
            if more.len() == given.len() {
                return given;
            }
            given = more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> ScopeSet {
        ScopeSet::read(text, ' ')
    }

    fn google() -> ScopeRules {
        serde_json::from_value(serde_json::json!({
            "prefix": "https://g/",
            "aliases": {"openid": "openid", "email": "https://g/userinfo.email"},
            "implies": {"gmail.modify": ["gmail.send", "gmail.readonly"], "gmail.send": ["gmail.labels"],
                        "gmail.labels": ["gmail.modify"]},
            "not_echoed": ["offline"],
            "sentences": {"gmail.send": "Send mail"},
        }))
        .unwrap()
    }

    #[test]
    fn short_names_become_full_ones() {
        let full = google().expand(&set("openid email drive.file https://g/x api://other/y"));
        let expected = set("openid https://g/userinfo.email https://g/drive.file https://g/x api://other/y");
        assert_eq!(full, expected);
        assert_eq!(google().expand(&full), full, "expanding twice changes nothing");
    }

    #[test]
    fn what_is_missing_takes_account_of_what_a_scope_includes() {
        for (granted, wanted, missing) in [
            ("https://g/userinfo.email", "email", ""),
            ("https://g/gmail.modify", "gmail.readonly gmail.labels", ""),
            ("gmail.readonly", "gmail.modify", "gmail.modify"),
            ("", "offline", ""),
            ("", "", ""),
        ] {
            assert_eq!(google().missing(&set(granted), &set(wanted)), set(missing), "{granted} for {wanted}");
        }
    }

    #[test]
    fn a_client_with_fixed_permissions_is_not_asked_again() {
        let rules = ScopeRules { managed_by: ScopesManagedBy::App, ..ScopeRules::default() };
        assert!(rules.covers(&set(""), &set("repo")));
        assert!(!ScopeRules::default().covers(&set(""), &set("repo")));
    }

    #[test]
    fn what_is_beyond_a_ceiling_passes_over_nothing() {
        for (ceiling, scopes, beyond) in [
            ("gmail.modify", "gmail.readonly https://g/gmail.send gmail.modify", ""),
            ("gmail.readonly", "gmail.modify gmail.readonly", "gmail.modify"),
            ("email", "https://g/userinfo.email openid", "openid"),
            ("", "offline", "offline"),
            ("", "", ""),
        ] {
            let reach = google().reach(&set(ceiling));
            assert_eq!(google().beyond(&reach, &set(scopes)), set(beyond), "{scopes} under {ceiling}");
        }
        assert_eq!(google().with_silent(&set("email"), &set("offline gmail.send")), set("email offline"));
        let fixed = ScopeRules { managed_by: ScopesManagedBy::App, ..ScopeRules::default() };
        assert_eq!(fixed.beyond(&fixed.reach(&set("a")), &set("a b")), set("b"));
    }

    #[test]
    fn a_sentence_is_found_by_either_name() {
        for name in ["gmail.send", "https://g/gmail.send"] {
            assert_eq!(google().sentence(&name.parse().unwrap()), Some("Send mail"));
        }
        assert_eq!(google().sentence(&"openid".parse().unwrap()), None);
    }
}
