//! Entries on a screen: a table that grows at its end, or one JSON object a line.

use std::borrow::Cow;

use crate::api::wire::AuditEntryBody;
use crate::cli::exit::CliError;
use crate::cli::screen::{Screen, plain};
use crate::model::audit::{Act, Entry};
use crate::model::time::Timestamp;

/// How wide each column is at least: later lines are not known when the first is printed.
const WIDTHS: [usize; 6] = [20, 22, 12, 12, 14, 18];
const TITLES: [&str; 7] = ["TIME", "ACT", "CALLER", "SUBJECT", "PROVIDER", "ACCOUNT", "WHY"];

/// Prints entries as they come.
pub(super) struct Printer {
    json: bool,
    began: bool,
}

impl Printer {
    pub(super) const fn new(json: bool) -> Self {
        Self { json, began: false }
    }

    pub(super) fn print(&mut self, entries: &[AuditEntryBody], screen: &mut Screen<'_>) -> Result<(), CliError> {
        for entry in entries {
            if self.json {
                let text = serde_json::to_string(entry).map_err(std::io::Error::from)?;
                writeln!(screen.out, "{text}")?;
                continue;
            }
            if !self.began {
                self.began = true;
                writeln!(screen.out, "{}", line(TITLES.map(Cow::Borrowed)))?;
            }
            writeln!(screen.out, "{}", line(fields(&entry.entry)))?;
        }
        screen.out.flush()?;
        Ok(())
    }
}

fn fields(entry: &Entry<'_>) -> [Cow<'static, str>; 7] {
    let text = |field: &Option<Cow<'_, str>>| Cow::Owned(field.as_deref().map_or_else(|| "-".to_owned(), plain));
    [
        time(entry.at).into(),
        entry.act.as_str().into(),
        text(&entry.caller),
        text(&entry.subject),
        text(&entry.provider),
        text(&entry.account),
        why(entry).into(),
    ]
}

/// What decided, how it ended, and which token it was about.
fn why(entry: &Entry<'_>) -> String {
    let token = entry.token_id.as_deref().filter(|_| entry.act == Act::TokenGranted);
    let parts = [&entry.what, &entry.code, &entry.rule].map(Option::as_deref);
    let parts: Vec<String> = parts.into_iter().chain([token]).flatten().map(plain).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

fn line(fields: [Cow<'static, str>; 7]) -> String {
    let mut text = String::new();
    for (at, field) in fields.iter().enumerate() {
        text.push_str(field);
        if let Some(width) = WIDTHS.get(at) {
            let gap = width.saturating_sub(field.chars().count()) + 2;
            text.extend(std::iter::repeat_n(' ', gap));
        }
    }
    text
}

fn time(at: Timestamp) -> String {
    let date = chrono::DateTime::from_timestamp_millis(at.as_millis());
    date.map_or_else(|| at.as_secs().to_string(), |date| date.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_who_what_and_why() {
        let entry = Entry {
            at: Timestamp::from_secs(1_795_412_345),
            caller: Some("uid:1000".into()),
            subject: Some("uid:1000".into()),
            provider: Some("github".into()),
            account: Some("a\u{1b}[2J".into()),
            rule: Some("own".into()),
            token_id: Some("tk_1".into()),
            ..Entry::new(Act::TokenGranted)
        };
        assert_eq!(
            line(fields(&entry)),
            "2026-11-23T05:39:05Z  token_granted           uid:1000      uid:1000      github          a\u{fffd}[2J               own, tk_1"
        );
        let bare = line(fields(&Entry::new(Act::DaemonStarted)));
        assert!(bare.starts_with("1970-01-01T00:00:00Z  daemon_started") && bare.ends_with('-'), "{bare}");
    }
}
