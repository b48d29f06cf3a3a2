//! What a person calls one of several accounts at a provider.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::model::id::ConnectionId;

/// The longest label, in characters.
pub const LABEL_MAX: usize = 64;

/// A label: 1 to [`LABEL_MAX`] visible characters, compared exactly. Spaces are allowed between them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Label(Arc<str>);

/// Why a text is no label.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LabelError {
    /// It reads as the name of a connection.
    #[error("must not look like the ID of a connection")]
    ConnectionId,
    /// Nothing at all, or more than a label may have.
    #[error("must have 1 to {LABEL_MAX} characters")]
    Length,
    /// Something in it cannot be seen, so that two labels could look the same.
    #[error("must hold visible characters only, with spaces between them if need be")]
    Invisible,
}

impl Label {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        if !(1..=LABEL_MAX).contains(&text.chars().count()) {
            return Err(LabelError::Length);
        }
        if text.starts_with(' ') || text.ends_with(' ') || text.contains("  ") || text.chars().any(is_invisible) {
            return Err(LabelError::Invisible);
        }
        if text.parse::<ConnectionId>().is_ok() {
            return Err(LabelError::ConnectionId);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Control characters, spaces but the plain one, and what has no glyph of its own: marks and overrides of the direction,
/// characters of no width, tags.
fn is_invisible(c: char) -> bool {
    (c != ' ' && c.is_whitespace())
        || c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_a_person_can_see_and_nothing_else() {
        let longest = "é".repeat(LABEL_MAX);
        for good in ["work", "my work", "Büro", "自宅", "a", "cx", "🏠", &longest] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        let too_long = "x".repeat(LABEL_MAX + 1);
        for (bad, why) in [
            ("", LabelError::Length),
            (too_long.as_str(), LabelError::Length),
            (" ", LabelError::Invisible),
            (" work", LabelError::Invisible),
            ("work ", LabelError::Invisible),
            ("my  work", LabelError::Invisible),
            ("a\tb", LabelError::Invisible),
            ("a\u{a0}b", LabelError::Invisible),
            ("a\nb", LabelError::Invisible),
            ("wo\u{200b}rk", LabelError::Invisible),
            ("\u{202e}krow", LabelError::Invisible),
            ("work\u{fe0f}", LabelError::Invisible),
            ("\u{3164}", LabelError::Invisible),
            ("cx_h1cE3mIrDmSyQ2u0oWvZ5g", LabelError::ConnectionId),
        ] {
            assert_eq!(bad.parse::<Label>().unwrap_err(), why, "{bad:?}");
        }
    }
}
