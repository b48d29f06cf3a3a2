//! Names that have been parsed: whoever holds one need not check it again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many characters a name that an operator or a caller chooses may have.
pub const NAME_MAX: usize = 64;

/// Why a text is not a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// A character that this kind of name does not allow.
    #[error("`{found}` is not allowed here; expected {expected}")]
    Character {
        /// The first character that is not allowed, escaped.
        found: String,
        /// The alphabet in words.
        expected: &'static str,
    },
    /// Nothing at all.
    #[error("must not be empty")]
    Empty,
    /// A handle whose first letters say that it names something else.
    #[error("must begin with `{expected}`")]
    Prefix {
        /// The prefix of this kind of handle.
        expected: &'static str,
    },
    /// Longer than any such name can be.
    #[error("is longer than {max} characters")]
    TooLong {
        /// The limit, in characters.
        max: usize,
    },
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text, as it was parsed.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $parse;
                check(text).map(|()| Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Text(std::marker::PhantomData))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": NAME_MAX})
            }
        }
    };
}

/// Reads a name from whatever text the format has at hand, without a copy of its own.
struct Text<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = NameError>> serde::de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! handle_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        text_type!($(#[$doc])* $name, |text| handle(text, $prefix));

        impl $name {
            /// A new handle: 128 random bits.
            #[must_use]
            pub fn random() -> Self {
                Self(format!("{}{}", $prefix, random_text::<16>()).into())
            }
        }
    };
}

text_type!(
    /// The name of a provider in the configuration, such as `github`.
    ProviderId,
    slug
);
text_type!(
    /// The name of one of the grants that a connection holds, such as `bot` or `user`; `main` where there is one.
    SlotName,
    slug
);
text_type!(
    /// The name of a caller as the policy and the audit trail show it.
    CallerName,
    label
);
text_type!(
    /// Who shares one set of connections, clients and rules. A machine of one's own has the tenant `local`.
    TenantId,
    label
);
text_type!(
    /// A person or service within a tenant: `uid:1000` on a socket, the `sub` of a login elsewhere.
    UserId,
    label
);
handle_type!(
    /// Names a connection: `cx_` and 128 random bits.
    ConnectionId,
    "cx_"
);
handle_type!(
    /// Names a connect session: `cn_` and 128 random bits. Knowing it is never enough to complete it.
    ConnectId,
    "cn_"
);
handle_type!(
    /// Names one version of an access token, so that a caller can say which one was rejected upstream.
    TokenId,
    "tk_"
);
handle_type!(
    /// Names one request in the logs and in the error it was answered with.
    RequestId,
    "rq_"
);
handle_type!(
    /// Names one installation; every sealed value is bound to it.
    InstanceId,
    "gi_"
);
handle_type!(
    /// Names one run of the daemon, so that a lease taken before a crash is known to be dead.
    BootId,
    "gb_"
);

impl TenantId {
    /// The tenant of everybody on this machine.
    #[must_use]
    pub fn local() -> Self {
        Self("local".into())
    }
}

impl UserId {
    /// The user that the kernel knows by this number.
    #[must_use]
    pub fn from_uid(uid: u32) -> Self {
        Self(format!("uid:{uid}").into())
    }

    /// The number the kernel knows this user by, if it is such a user.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.0.strip_prefix("uid:")?.parse().ok()
    }
}

impl SlotName {
    /// The slot of a provider that gives one grant per connection.
    #[must_use]
    pub fn main() -> Self {
        Self("main".into())
    }
}

/// Counts the replacements of a grant since a person last consented.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Counts how often a person consented to a connection, the first time included.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Which consent and which replacement a stored token belongs to. Compare-and-set on it is what keeps two refreshes
/// from undoing each other.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Version {
    /// The consent.
    pub epoch: Epoch,
    /// The replacement since then.
    pub generation: Generation,
}

impl Version {
    /// The version after one more replacement.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, generation: self.generation.next() }
    }
}

/// `BYTES` random bytes from the kernel.
///
/// # Panics
/// If the kernel has no randomness to give: nothing in grantd is safe without it.
#[must_use]
pub fn random_bytes<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// `BYTES` random bytes in base64url without padding.
#[must_use]
pub fn random_text<const BYTES: usize>() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random_bytes::<BYTES>())
}

fn slug(text: &str) -> Result<(), NameError> {
    bounded(text)?;
    only(text, "lower-case letters, digits and `-`", |c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
}

fn label(text: &str) -> Result<(), NameError> {
    bounded(text)?;
    only(text, "letters, digits and `._:@-`", |c| c.is_ascii_alphanumeric() || "._:@-".contains(c))
}

fn handle(text: &str, prefix: &'static str) -> Result<(), NameError> {
    bounded(text)?;
    let Some(rest) = text.strip_prefix(prefix) else {
        return Err(NameError::Prefix { expected: prefix });
    };
    if rest.is_empty() {
        return Err(NameError::Empty);
    }
    only(rest, "letters, digits, `_` and `-`", |c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn bounded(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_MAX {
        return Err(NameError::TooLong { max: NAME_MAX });
    }
    Ok(())
}

fn only(text: &str, expected: &'static str, allowed: fn(char) -> bool) -> Result<(), NameError> {
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(NameError::Character { found: found.escape_default().to_string(), expected }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_could_confuse_a_log_or_a_path() {
        for bad in ["", "Git Hub", "a/b", "a\nb", "é", "\u{202e}x", &"x".repeat(65)] {
            assert!(bad.parse::<ProviderId>().is_err(), "{bad:?}");
            assert!(bad.parse::<UserId>().is_err(), "{bad:?}");
        }
        assert!("GitHub".parse::<ProviderId>().is_err());
        assert_eq!("github-work".parse::<ProviderId>().unwrap().as_str(), "github-work");
    }

    #[test]
    fn a_handle_of_one_kind_is_not_a_handle_of_another() {
        let connection = ConnectionId::random();
        assert_eq!(connection.as_str().parse(), Ok(connection.clone()));
        assert_eq!(connection.as_str().parse::<ConnectId>(), Err(NameError::Prefix { expected: "cn_" }));
        assert_eq!("cx_".parse::<ConnectionId>(), Err(NameError::Empty));
    }

    #[test]
    fn a_user_of_the_kernel_is_known_by_number() {
        assert_eq!(UserId::from_uid(1000).uid(), Some(1000));
        assert_eq!("alice".parse::<UserId>().unwrap().uid(), None);
    }
}
