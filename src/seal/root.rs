//! The root key: 256 bits that an operator keeps outside the store, and the forms they are written in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::seal::format::Kid;
use crate::seal::key::{KEY_LEN, Key};

/// Seals the keyring. Whoever has it and the store has everything.
#[derive(Debug)]
pub struct RootKey(Key);

/// Why something is not a root key.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum RootKeyError {
    /// Nothing but zeros: a file that was made and never filled.
    #[error("holds only zeros")]
    Blank,
    /// None of the forms a key is written in.
    #[error("expected 32 bytes, or 64 hexadecimal digits, or 43 characters of base64url")]
    Form,
}

impl RootKey {
    /// A new one, from the kernel's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(Key::random())
    }

    /// Reads 32 raw bytes, or 64 hexadecimal digits (what [`to_text`](Self::to_text) writes), or 43 characters of
    /// base64url; a text may end in one line break.
    ///
    /// # Errors
    /// If it has none of these forms, or is all zeros.
    pub fn parse(bytes: &[u8]) -> Result<Self, RootKeyError> {
        let key = Key::copy_of(bytes).or_else(|| from_text(trim_line_break(bytes))).ok_or(RootKeyError::Form)?;
        if key.expose() == &[0; KEY_LEN] {
            return Err(RootKeyError::Blank);
        }
        Ok(Self(key))
    }

    /// 64 lower-case hexadecimal digits, for the file the operator keeps.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN));
        for byte in self.0.expose() {
            text.push(hex_digit(byte >> 4));
            text.push(hex_digit(byte & 0xf));
        }
        text
    }

    /// 16 hexadecimal digits that tell two root keys apart and tell nothing about them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint_text(&self.kid())
    }

    /// The fingerprint as it stands in the header of a sealed keyring.
    pub(super) fn kid(&self) -> Kid {
        let derived = self.0.derive(&[], "fingerprint");
        let (kid, _) = derived.expose().split_first_chunk().expect("a key is longer than a kid");
        *kid
    }

    pub(super) const fn key(&self) -> &Key {
        &self.0
    }
}

/// How a fingerprint is written for people.
pub(super) fn fingerprint_text(kid: &Kid) -> String {
    kid.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 0xf)]).collect()
}

fn trim_line_break(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

fn from_text(text: &[u8]) -> Option<Key> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    match text.len() {
        64 => {
            for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
                *byte = (hex_value(digits[0])? << 4) | hex_value(digits[1])?;
            }
        }
        43 => {
            URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
        }
        _ => return None,
    }
    Key::copy_of(bytes.as_slice())
}

fn hex_value(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).expect("half a byte is one digit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_key_is_the_same_key() {
        let key = RootKey::generate();
        let text = key.to_text();
        let base64 = URL_SAFE_NO_PAD.encode(key.0.expose());
        for form in [
            key.0.expose().to_vec(),
            text.as_bytes().to_vec(),
            format!("{}\n", *text).into_bytes(),
            format!("{}\r\n", *text).into_bytes(),
            text.to_uppercase().into_bytes(),
            base64.clone().into_bytes(),
            format!("{base64}\n").into_bytes(),
        ] {
            assert_eq!(RootKey::parse(&form).unwrap().fingerprint(), key.fingerprint());
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let digits = "0123456789abcdef".repeat(4);
        for bad in [
            String::new(),
            digits[1..].to_owned(),
            format!("{digits}\n\n"),
            format!(" {digits}"),
            digits.replace('a', "g"),
            digits.replace('a', "+"),
            format!("{}=", "A".repeat(42)),
            "x".repeat(33),
        ] {
            assert_eq!(RootKey::parse(bad.as_bytes()).unwrap_err(), RootKeyError::Form, "{bad:?}");
        }
        assert_eq!(RootKey::parse(&[0; 32]).unwrap_err(), RootKeyError::Blank);
        assert_eq!(RootKey::parse("0".repeat(64).as_bytes()).unwrap_err(), RootKeyError::Blank);
    }

    #[test]
    fn printing_a_root_key_shows_nothing_of_it() {
        let key = RootKey::generate();
        assert_eq!(format!("{key:?}"), "RootKey(Key([redacted]))");
        assert!(!key.to_text().contains(&key.fingerprint()));
        assert_eq!(key.fingerprint().len(), 16);
        assert_ne!(key.fingerprint(), RootKey::generate().fingerprint());
    }
}
