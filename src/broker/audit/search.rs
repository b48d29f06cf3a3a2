//! Looks through the audit log, page by page, for administrators.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::restore::administrator;
use crate::model::audit::{Act, Entry};
use crate::model::caller::Caller;
use crate::model::time::Timestamp;
use crate::store::audit::{Hash, Head};

/// The most entries of one page.
pub const PAGE_MAX: usize = 1000;
/// How many entries are looked at for one page: whoever looks for something rare goes on behind them.
const LOOK_MAX: usize = 20_000;

/// What is looked for. What is left out does not matter.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// By whom, by the caller's name.
    pub caller: Option<String>,
    /// About whom: the user, or `tenant/user`.
    pub subject: Option<String>,
    /// At which provider.
    pub provider: Option<String>,
    /// Which connection.
    pub connection: Option<String>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
    /// How it ended.
    pub code: Option<String>,
    /// What was done.
    pub act: Option<Act>,
    /// Which token, by the digits of its fingerprint.
    pub fingerprint: Option<String>,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum From {
    /// Behind the entry of this number.
    Behind(u64),
    /// So many entries before the end.
    Last(u64),
}

/// Some entries, in order.
#[derive(Clone, Debug)]
pub struct Page {
    /// Those that were looked for, with their hashes.
    pub entries: Vec<(Entry<'static>, Hash)>,
    /// Where to go on: behind the last entry that was looked at.
    pub next: u64,
    /// Whether there are more entries to look at now.
    pub more: bool,
}

impl Wanted {
    fn is(&self, entry: &Entry<'_>) -> bool {
        let same = |wanted: &Option<String>, found: &Option<std::borrow::Cow<'_, str>>| {
            wanted.as_deref().is_none_or(|wanted| found.as_deref() == Some(wanted))
        };
        let subject = self.subject.as_deref().is_none_or(|wanted| {
            let (tenant, user) = (entry.tenant.as_deref().unwrap_or_default(), entry.subject.as_deref());
            user.is_some_and(|user| user == wanted || wanted.strip_prefix(tenant) == Some(&format!("/{user}")))
        });
        subject
            && same(&self.caller, &entry.caller)
            && same(&self.provider, &entry.provider)
            && same(&self.connection, &entry.connection)
            && same(&self.code, &entry.code)
            && same(&self.fingerprint, &entry.fingerprint)
            && self.act.is_none_or(|act| act == entry.act)
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

impl Broker {
    /// Entries of the audit log, oldest first, up to and with what has happened just now.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] unless an administrator asks; if the store cannot be read.
    pub async fn audit_page(
        &self,
        caller: &Caller,
        from: From,
        limit: usize,
        wanted: &Wanted,
    ) -> Result<Page, BrokerError> {
        administrator(caller)?;
        self.settle_audit().await;
        let limit = limit.clamp(1, PAGE_MAX);
        let mut page = Page { entries: Vec::new(), next: self.begin_at(from).await?, more: true };
        let mut looked = 0;
        while looked < LOOK_MAX {
            let links = self.store.audit_after(page.next, PAGE_MAX).await?;
            let is_last = links.len() < PAGE_MAX;
            for link in links {
                page.next = link.seq;
                looked += 1;
                // One that makes no sense was changed, and whoever verifies the log is told so.
                let Ok(entry) = serde_json::from_str::<Entry<'static>>(&link.text) else { continue };
                if !wanted.is(&entry) {
                    continue;
                }
                page.entries.push((entry, link.hash));
                if page.entries.len() == limit {
                    page.more = !is_last || !self.store.audit_after(page.next, 1).await?.is_empty();
                    return Ok(page);
                }
            }
            if is_last {
                page.more = false;
                break;
            }
        }
        Ok(page)
    }

    async fn begin_at(&self, from: From) -> Result<u64, BrokerError> {
        Ok(match (from, self.store.audit_head().await?) {
            (From::Behind(seq), _) => seq,
            (From::Last(count), Some(Head { tip, .. })) => tip.seq.saturating_sub(count),
            (From::Last(_), None) => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_is_looked_for_in_every_respect() {
        let entry = Entry {
            at: Timestamp::from_secs(100),
            caller: Some("uid:1000".into()),
            tenant: Some("local".into()),
            subject: Some("uid:1000".into()),
            provider: Some("github".into()),
            connection: Some("cx_1".into()),
            code: Some("access_denied".into()),
            ..Entry::new(Act::TokenRefused)
        };
        let text = |text: &str| Some(text.to_owned());
        let at = |seconds| Some(Timestamp::from_secs(seconds));
        for (wanted, found) in [
            (Wanted::default(), true),
            (Wanted { caller: text("uid:1000"), provider: text("github"), ..Wanted::default() }, true),
            (Wanted { caller: text("uid:1001"), provider: text("github"), ..Wanted::default() }, false),
            (Wanted { subject: text("uid:1000"), ..Wanted::default() }, true),
            (Wanted { subject: text("local/uid:1000"), ..Wanted::default() }, true),
            (Wanted { subject: text("other/uid:1000"), ..Wanted::default() }, false),
            (Wanted { connection: text("cx_2"), ..Wanted::default() }, false),
            (Wanted { code: text("access_denied"), ..Wanted::default() }, true),
            (Wanted { fingerprint: text("ba7816bf8f01cfea"), ..Wanted::default() }, false),
            (Wanted { act: Some(Act::TokenRefused), ..Wanted::default() }, true),
            (Wanted { act: Some(Act::TokenGranted), ..Wanted::default() }, false),
            (Wanted { since: at(100), until: at(101), ..Wanted::default() }, true),
            (Wanted { since: at(101), ..Wanted::default() }, false),
            (Wanted { until: at(100), ..Wanted::default() }, false),
        ] {
            assert_eq!(wanted.is(&entry), found, "{wanted:?}");
        }
    }
}
