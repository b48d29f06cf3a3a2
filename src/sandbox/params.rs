//! Request parameters as OAuth reads them: without a value is absent, and twice is an error (RFC 6749 section 3.1).

use serde_json::Value;

/// The parameters of a query, a form or a JSON object.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

/// Parameters that may stand more than once (RFC 8707 section 2).
const REPEATABLE: &[&str] = &["resource", "audience"];

impl Params {
    /// Reads form encoding.
    pub(super) fn parse(text: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(text);
        Self(pairs.into_owned().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Reads the members of a JSON object; those that are no text are read as they are written. Anything else has no
    /// parameters.
    pub(super) fn of_json(text: &[u8]) -> Self {
        let members: serde_json::Map<String, Value> = serde_json::from_slice(text).unwrap_or_default();
        let pairs = members.into_iter().map(|(name, value)| match value {
            Value::String(text) => (name, text),
            Value::Null => (name, String::new()),
            other => (name, other.to_string()),
        });
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a parameter, for checkboxes.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter stands twice that must not.
    pub(super) fn has_duplicates(&self) -> bool {
        let is_twice = |at: usize, key: &String| self.0[..at].iter().any(|(earlier, _)| earlier == key);
        self.0.iter().enumerate().any(|(at, (key, _))| !REPEATABLE.contains(&key.as_str()) && is_twice(at, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_parameter_is_absent_and_a_repeated_one_is_seen() {
        for (text, twice) in
            [("a=1&b=2", false), ("a=1&a=1", true), ("a=1&a=", false), ("resource=x&resource=y", false)]
        {
            assert_eq!(Params::parse(text.as_bytes()).has_duplicates(), twice, "{text}");
        }
        assert_eq!(Params::parse(b"scope=&x=1").get("scope"), None);
        assert_eq!(Params::parse(b"x=a+b%26").get("x"), Some("a b&"));
    }

    #[test]
    fn the_members_of_an_object_are_parameters() {
        let params = Params::of_json(br#"{"a":"x y","b":7,"c":null,"d":""}"#);
        let found = ["a", "b", "c", "d"].map(|name| params.get(name));
        assert_eq!(found, [Some("x y"), Some("7"), None, None]);
        assert_eq!(Params::of_json(b"[1]").get("0"), None);
        assert_eq!(Params::of_json(b"{").get("a"), None);
    }
}
