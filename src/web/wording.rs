//! Turns what callers and providers wrote into one harmless line, and scopes into sentences.

use crate::model::provider::rules::ScopeRules;
use crate::model::scope::ScopeSet;
use crate::model::session::ConnectSession;
use crate::web::pages::ScopeLine;

/// The longest name a page shows, in characters.
pub(crate) const NAME_SHOWN: usize = 120;
/// The longest purpose a page shows, in characters.
pub(crate) const PURPOSE_SHOWN: usize = 280;
/// The longest sentence of a definition, in characters.
pub(crate) const SENTENCE_SHOWN: usize = 280;

/// Who asks, as the person in the browser knows it. The page is shown to the session's own subject only, so a caller that is
/// known by its uid runs as that person.
pub(crate) fn caller(session: &ConnectSession) -> String {
    match session.subject.user.uid() {
        Some(uid) if session.caller.as_str() == session.subject.user.as_str() => {
            format!("a program running as you (uid {uid})")
        }
        _ => session.caller.to_string(),
    }
}

/// One line of at most `longest` characters. The template escapes it; this takes out what escaping leaves in: line
/// breaks, control characters, and invisible ones that turn or join the text around them.
pub(crate) fn line(text: &str, longest: usize) -> String {
    let visible = text.chars().filter(|c| !invisible(*c)).map(|c| if c.is_control() { ' ' } else { c });
    let mut shown = String::new();
    for (count, c) in visible.enumerate() {
        if count == longest {
            shown.push('…');
            break;
        }
        shown.push(c);
    }
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text without a glyph of its own: direction marks and overrides, zero-width characters, tags.
fn invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The scopes as a page lists them, with a sentence where the definition has one.
pub(crate) fn lines(scopes: &ScopeSet, rules: Option<&ScopeRules>) -> Vec<ScopeLine> {
    scopes
        .iter()
        .map(|scope| ScopeLine {
            sentence: rules.and_then(|rules| rules.sentence(scope)).map(|sentence| line(sentence, SENTENCE_SHOWN)),
            scope: scope.to_string(),
        })
        .collect()
}

/// What was given, and what was asked for but not given. A scope that another one includes, and one that the provider
/// grants without telling, count as given.
pub(crate) fn outcome(asked: &ScopeSet, granted: &ScopeSet, rules: Option<&ScopeRules>) -> (ScopeSet, ScopeSet) {
    let refused = rules.map_or_else(|| granted.missing(asked), |rules| rules.missing(granted, asked));
    (granted.clone(), refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> ScopeSet {
        ScopeSet::read(text, ' ')
    }

    fn rules() -> ScopeRules {
        serde_json::from_value(serde_json::json!({
            "prefix": "https://p.example/auth/",
            "aliases": {"openid": "openid", "email": "https://p.example/auth/userinfo.email"},
            "not_echoed": ["offline_access"],
            "implies": {"drive": ["drive.read"], "drive.read": ["drive.list"]},
            "sentences": {"drive.read": "See your files.", "https://p.example/auth/mail": "Send mail."},
        }))
        .unwrap()
    }

    #[test]
    fn what_callers_and_providers_wrote_becomes_one_short_visible_line() {
        for (text, shown) in [
            ("octocat", "octocat"),
            ("a\r\nb\tc\0d", "a b c d"),
            ("\u{202e}gnp.exe\u{202c}", "gnp.exe"),
            ("a\u{200b}b\u{2066}c\u{feff}", "abc"),
            ("שלום", "שלום"),
            ("12345678901", "1234567890…"),
            ("   ", ""),
        ] {
            assert_eq!(line(text, 10), shown, "{text:?}");
        }
    }

    #[test]
    fn what_was_unticked_is_told_apart_from_what_is_merely_spelt_otherwise() {
        let rules = rules();
        for (asked, granted, refused) in [
            ("email", "https://p.example/auth/userinfo.email", ""),
            ("openid", "openid", ""),
            ("drive.list", "https://p.example/auth/drive", ""),
            ("mail offline_access", "mail", ""),
            ("mail drive", "https://p.example/auth/mail", "drive"),
            ("mail", "", "mail"),
        ] {
            assert_eq!(
                outcome(&set(asked), &set(granted), Some(&rules)),
                (set(granted), set(refused)),
                "{asked} / {granted}"
            );
        }
        assert_eq!(outcome(&set("a b"), &set("b"), None), (set("b"), set("a")));
    }
}
