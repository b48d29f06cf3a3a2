//! How a person's consent came to us (RFC 6749 section 1.3). A grant stays of its type: whoever renews it proves the client as the
//! one did who obtained it.

use std::str::FromStr;

/// The kind of authorization that a grant was obtained with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrantType {
    /// A code that a browser brought back (RFC 6749 section 4.1).
    AuthorizationCode,
    /// A code that a person entered on another device (RFC 8628 section 3.4).
    DeviceCode,
}

/// The word names no type.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected `authorization_code` or `device_code`")]
pub struct UnknownGrantType;

impl GrantType {
    /// Every type, for the store.
    pub const ALL: [Self; 2] = [Self::AuthorizationCode, Self::DeviceCode];

    /// The stable word, in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "device_code",
        }
    }
}

impl FromStr for GrantType {
    type Err = UnknownGrantType;

    fn from_str(word: &str) -> Result<Self, UnknownGrantType> {
        Self::ALL.into_iter().find(|known| known.as_str() == word).ok_or(UnknownGrantType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_as_it_is_written_and_nothing_else_is_one() {
        for known in GrantType::ALL {
            assert_eq!(known.as_str().parse(), Ok(known));
        }
        for word in ["", "refresh_token", "Device_Code", "device_code "] {
            assert_eq!(word.parse::<GrantType>(), Err(UnknownGrantType), "{word:?}");
        }
    }
}
