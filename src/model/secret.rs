//! Secrets as types: redacted when printed, wiped when dropped, never compared with `==`.

use std::fmt;

use zeroize::Zeroizing;

/// Why a text cannot be a secret of this kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretError {
    /// RFC 6749 Appendix A allows visible ASCII and space only; anything else could break out of a header.
    #[error("holds a character outside visible ASCII")]
    Character,
    /// Nothing at all.
    #[error("is empty")]
    Empty,
    /// Longer than any provider issues.
    #[error("is longer than {SECRET_MAX} bytes")]
    TooLong,
}

/// The longest secret we accept, in bytes. Microsoft's access tokens reach a few thousand.
pub const SECRET_MAX: usize = 32 * 1024;

macro_rules! secret_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(Zeroizing<String>);

        impl $name {
            /// Takes the text of the secret.
            ///
            /// # Errors
            /// If it is empty, longer than [`SECRET_MAX`], or holds anything but visible ASCII (RFC 6749 Appendix A).
            pub fn new(text: impl Into<String>) -> Result<Self, SecretError> {
                let text = Zeroizing::new(text.into());
                check(&text)?;
                Ok(Self(text))
            }

            /// The text itself, for the one place that has to send it.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    };
}

secret_type!(
    /// An access token (RFC 6749 section 1.4).
    AccessToken
);
secret_type!(
    /// A refresh token (RFC 6749 section 1.5). Not `Clone`: a rotating one is spent once.
    RefreshToken
);
secret_type!(
    /// The secret of our registration at a provider (RFC 6749 section 2.3.1).
    ClientSecret
);
secret_type!(
    /// The code that a provider sends back through the browser (RFC 6749 section 4.1.2).
    AuthorizationCode
);
secret_type!(
    /// The half of a PKCE pair that stays here until the code is redeemed (RFC 7636 section 4.1).
    CodeVerifier
);

secret_type!(
    /// What the tokens of a device flow are asked for with (RFC 8628 section 3.2).
    DeviceCode
);
secret_type!(
    /// Shows that whoever goes on with a connect session is who began it. A browser keeps it as a cookie, a command in memory.
    Proof
);

impl Clone for AccessToken {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Clone for Proof {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

fn check(text: &str) -> Result<(), SecretError> {
    if text.is_empty() {
        return Err(SecretError::Empty);
    }
    if text.len() > SECRET_MAX {
        return Err(SecretError::TooLong);
    }
    if !text.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
        return Err(SecretError::Character);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_a_secret_shows_nothing_of_it() {
        let token = AccessToken::new("gho_secret").unwrap();
        assert_eq!(format!("{token:?}"), "AccessToken([redacted])");
    }

    #[test]
    fn a_secret_cannot_carry_a_header_with_it() {
        for bad in ["", "a\r\nX: y", "a\0", "é", "a\tb", "\u{7f}"] {
            assert!(AccessToken::new(bad).is_err(), "{bad:?}");
        }
        assert!(ClientSecret::new("with space~!").is_ok());
        assert!(matches!(RefreshToken::new("x".repeat(SECRET_MAX + 1)), Err(SecretError::TooLong)));
    }
}
