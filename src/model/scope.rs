//! Scopes (RFC 6749 section 3.3): their grammar, and sets of them in one canonical order.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One scope: visible ASCII without space, `"` and `\` (RFC 6749 section 3.3).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Scope(Box<str>);

/// The text is not a scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a scope is 1 to 256 visible ASCII characters without space, comma, quote and backslash")]
pub struct ScopeError;

impl Scope {
    /// The text, as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    /// A comma is refused although the RFC allows it: two of our providers separate scopes by it.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let fits = (1..=256).contains(&text.len());
        let clean = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'"' | b'\\'));
        if fits && clean { Ok(Self(text.into())) } else { Err(ScopeError) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A set of scopes in one order, so that equal sets print and hash alike.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Reads a provider's list, leaving out what is not a scope: an answer is not refused for a stray comma.
    #[must_use]
    pub fn read(text: &str, separator: char) -> Self {
        text.split([separator, ' ']).filter_map(|part| part.parse().ok()).collect()
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this very scope is in the set.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// Whether every one of `wanted` is in the set.
    #[must_use]
    pub fn covers(&self, wanted: &Self) -> bool {
        wanted.0.is_subset(&self.0)
    }

    /// What is in `wanted` and not in the set.
    #[must_use]
    pub fn missing(&self, wanted: &Self) -> Self {
        Self(wanted.0.difference(&self.0).cloned().collect())
    }

    /// Both sets in one.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }

    /// The scopes as a provider wants them in a request.
    #[must_use]
    pub fn join(&self, separator: char) -> String {
        let mut text = String::new();
        for scope in &self.0 {
            if !text.is_empty() {
                text.push(separator);
            }
            text.push_str(scope.as_str());
        }
        text
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl fmt::Display for ScopeSet {
    /// Separated by spaces (RFC 6749 section 3.3).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.join(' '))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> ScopeSet {
        ScopeSet::read(text, ' ')
    }

    #[test]
    fn sets_are_equal_whatever_the_order_and_the_separator() {
        assert_eq!(set("b a"), ScopeSet::read("a,b", ','));
        assert_eq!(set("b a").to_string(), "a b");
        assert_eq!(set("a b").join(','), "a,b");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(set("a b c").covers(&set("a c")));
        assert_eq!(set("a").missing(&set("a b")), set("b"));
        assert!(set("a").covers(&ScopeSet::default()));
    }

    #[test]
    fn a_scope_has_no_separator_in_it() {
        for bad in ["", "a b", "a,b", "a\"", "a\\", "é", "a\n", &"x".repeat(257)] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
        }
        assert!("https://www.googleapis.com/auth/drive.file".parse::<Scope>().is_ok());
    }
}
