//! The stylesheet and the mark, compiled in and addressed by their content so that browsers may keep them for ever.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// A file that pages refer to.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// What it holds.
    pub text: &'static str,
}

/// The one stylesheet.
pub const STYLESHEET: Asset = Asset {
    path: "/assets/grantd.css",
    content_type: "text/css; charset=utf-8",
    text: include_str!("assets/grantd.css"),
};

/// The mark, as browsers show it in a tab.
pub const MARK: Asset =
    Asset { path: "/assets/mark.svg", content_type: "image/svg+xml", text: include_str!("assets/mark.svg") };

impl Asset {
    /// A short digest of the content.
    #[must_use]
    pub fn version(&self) -> String {
        URL_SAFE_NO_PAD.encode(&Sha256::digest(self.text)[..9])
    }

    fn versioned_path(&self) -> String {
        format!("{}?v={}", self.path, self.version())
    }
}

/// The address of the stylesheet with its version, for the layout.
#[must_use]
pub fn stylesheet_path() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| STYLESHEET.versioned_path());
    &PATH
}

/// The address of the mark with its version, for the layout.
#[must_use]
pub fn mark_path() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| MARK.versioned_path());
    &PATH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stylesheet_is_small_and_asks_nobody_else_for_anything() {
        assert!(STYLESHEET.text.len() < 12 * 1024);
        assert!(!STYLESHEET.text.contains("url("));
        assert!(!STYLESHEET.text.contains("@import"));
    }

    #[test]
    fn the_address_names_the_content() {
        assert_eq!(stylesheet_path(), format!("/assets/grantd.css?v={}", STYLESHEET.version()));
        assert_ne!(STYLESHEET.version(), MARK.version());
    }

    #[test]
    fn every_colour_can_be_read_on_its_ground_in_light_and_in_dark() {
        let (light, dark) = STYLESHEET.text.split_once("prefers-color-scheme: dark").unwrap();
        for (scheme, text) in [("light", light), ("dark", dark)] {
            // WCAG 2 section 1.4.3 for text, section 1.4.11 for the edge of a button.
            for (front, ground, least) in [
                ("ink", "paper", 4.5),
                ("ink", "card", 4.5),
                ("ink", "field", 4.5),
                ("ink", "warn-tint", 4.5),
                ("soft", "paper", 4.5),
                ("soft", "card", 4.5),
                ("soft", "field", 4.5),
                ("on-accent", "accent", 4.5),
                ("on-accent", "accent-press", 4.5),
                ("accent", "card", 4.5),
                ("warn", "warn-tint", 4.5),
                ("stop", "stop-tint", 4.5),
                ("accent", "tint", 3.0),
                ("edge", "card", 3.0),
            ] {
                let contrast = contrast(luminance(text, front), luminance(text, ground));
                assert!(contrast >= least, "{front} on {ground}, {scheme}: {contrast:.2}");
            }
        }
    }

    fn contrast(one: f64, other: f64) -> f64 {
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// Relative luminance of a colour of the stylesheet, as WCAG 2 defines it.
    fn luminance(text: &str, name: &str) -> f64 {
        let hex = text.split(&format!("--{name}: #")).nth(1).unwrap().split(';').next().unwrap();
        let wide = if hex.len() == 3 { hex.chars().flat_map(|c| [c, c]).collect() } else { hex.to_owned() };
        [(0, 0.2126), (2, 0.7152), (4, 0.0722)]
            .into_iter()
            .map(|(at, weight)| {
                let value = f64::from(u8::from_str_radix(&wide[at..at + 2], 16).unwrap()) / 255.0;
                let linear = if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) };
                weight * linear
            })
            .sum()
    }
}
