//! Values of the configuration whose constructor is the check.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::Url;

use crate::model::id::{ProviderId, SlotName};
use crate::model::provider::redirect::is_loopback;
use crate::model::scope::ScopeSet;

/// Why a value of the configuration is refused: what was expected. It never holds the value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub &'static str);

macro_rules! from_text {
    ($name:ident, $about:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $about})
            }
        }
    };
}

/// A path that means the same wherever the daemon is started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AbsolutePath(PathBuf);

from_text!(AbsolutePath, "A path that begins with `/`.");

impl AbsolutePath {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for AbsolutePath {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        if text.starts_with('/') && text.len() <= 4096 && !text.contains(char::is_control) {
            Ok(Self(PathBuf::from(text)))
        } else {
            Err(Expected("a path that begins with `/`"))
        }
    }
}

/// Permission bits of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mode(u32);

from_text!(Mode, "Three or four octal digits in quotes, such as \"0660\".");

impl Mode {
    /// The bits, at most `0o777`.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(bits) if octal && bits <= 0o777 => Ok(Self(bits)),
            _ => Err(Expected("octal digits in quotes from \"0000\" to \"0777\", such as \"0660\"")),
        }
    }
}

/// The name of a group of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupName(String);

from_text!(GroupName, "The name of a group.");

impl GroupName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if plain && (1..=32).contains(&text.len()) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected("the name of a group"))
        }
    }
}

/// Where a browser on this machine reaches the pages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebUrl(Url);

from_text!(WebUrl, "Such as http://localhost:8717: http or https on loopback with a port.");

impl WebUrl {
    /// The URL; its path is `/`.
    #[must_use]
    pub const fn as_url(&self) -> &Url {
        &self.0
    }
}

impl Default for WebUrl {
    /// The form that most built-in providers can register.
    fn default() -> Self {
        "http://localhost:8717".parse().expect("the default is a web address")
    }
}

impl FromStr for WebUrl {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        const EXAMPLE: Expected = Expected("an address such as `http://localhost:8717`, with nothing after the port");
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['\\', '@', '?', '#']) {
            return Err(EXAMPLE);
        }
        let url = Url::parse(text).map_err(|_| EXAMPLE)?;
        let named = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if !matches!(url.scheme(), "http" | "https") || !named || !is_loopback(&url) {
            return Err(Expected(
                "http or https on `localhost`, `127.0.0.1` or `[::1]`: the pages are for browsers on this machine, and other addresses are not served yet",
            ));
        }
        if url.path() != "/" {
            return Err(EXAMPLE);
        }
        if url.port().is_none_or(|port| port == 0) {
            return Err(Expected("a port other than 80 and 443, such as `http://localhost:8717`"));
        }
        Ok(Self(url))
    }
}

/// Which scopes are asked for when nobody says more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ScopeChoice {
    /// A list, for a provider with one slot.
    List(ScopeSet),
    /// One of the definition's ready lists.
    Preset(Preset),
    /// A list for each slot.
    Slots(BTreeMap<SlotName, ScopeSet>),
}

/// The providers that a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProviderChoice {
    /// All that are configured.
    Any,
    /// This one.
    One(ProviderId),
}

impl FromStr for ProviderChoice {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text {
            "*" => Ok(Self::Any),
            name => name.parse().map(Self::One).map_err(|_| Expected("the name of a provider, or `*`")),
        }
    }
}

from_text!(ProviderChoice, "The name of a provider under `providers`, or `*` for all of them.");

/// One of a definition's ready lists of scopes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Preset {
    /// What most people want.
    Default,
    /// Looking only.
    ReadOnly,
    /// Everything that is commonly used.
    Full,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 3] = [Self::Default, Self::ReadOnly, Self::Full];

    /// Its name in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
        }
    }
}

const CHOICE: &str =
    "expected `default`, `read-only` or `full`, or a list such as `[repo, gist]`, or a list for each slot";

impl<'de> Deserialize<'de> for ScopeChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(name) => Preset::ALL
                .into_iter()
                .find(|preset| preset.as_str() == name)
                .map(Self::Preset)
                .ok_or_else(|| D::Error::custom(CHOICE)),
            list @ Value::Array(_) => serde_json::from_value(list).map(Self::List).map_err(D::Error::custom),
            slots @ Value::Object(_) => serde_json::from_value(slots).map(Self::Slots).map_err(D::Error::custom),
            _ => Err(D::Error::custom(CHOICE)),
        }
    }
}

impl JsonSchema for ScopeChoice {
    fn schema_name() -> Cow<'static, str> {
        "ScopeChoice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let list = json_schema!({"type": "array", "items": {"type": "string"}});
        json_schema!({
            "description": "A preset, a list of scopes, or a list for each slot.",
            "anyOf": [
                {"enum": Preset::ALL.map(Preset::as_str)},
                list,
                {"type": "object", "additionalProperties": list},
            ],
        })
    }
}
