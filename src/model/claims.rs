//! A claims challenge: what a provider wants to see proven in the next authorization (OpenID Connect Core section 5.5).

use std::fmt;

/// A JSON object in the provider's own words. It goes back to the provider and nowhere else, so it is not printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Claims(Box<str>);

impl Claims {
    /// The longest challenge that is kept, in bytes: it has to fit into a URL.
    pub const LENGTH_MAX: usize = 4096;

    /// Takes the text of a challenge; nothing if it is longer, or no JSON object.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.len() <= Self::LENGTH_MAX;
        let is_object = || serde_json::from_str(text).is_ok_and(|value: serde_json::Value| value.is_object());
        (fits && is_object()).then(|| Self(text.into()))
    }

    /// The text, for the authorization request and the store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_json_object_of_a_bounded_length_is_a_challenge() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(Claims::LENGTH_MAX));
        for (text, taken) in [
            ("{\"access_token\":{\"acrs\":{\"value\":\"c1\"}}}", true),
            ("{}", true),
            ("[]", false),
            ("{", false),
            (&*long, false),
        ] {
            assert_eq!(Claims::new(text).is_some(), taken);
        }
    }

    #[test]
    fn it_is_not_printed() {
        assert!(!format!("{:?}", Claims::new("{\"MARK\":1}")).contains("MARK"));
    }
}
