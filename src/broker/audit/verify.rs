//! Whether the audit log is what was written: every entry in its place, none changed, and none missing at either end.

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::restore::administrator;
use crate::model::audit::Entry;
use crate::model::caller::Caller;
use crate::store::StoreError;
use crate::store::audit::{Checkpoint, Head, Link, Position};

/// How many entries are read at once.
const PAGE: usize = 1000;

/// What was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finding {
    /// Everything is as it was written.
    Intact,
    /// This entry is not what was written, or what was before it is not.
    Changed {
        /// Its number.
        seq: u64,
    },
    /// These entries are not there, and later ones are.
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The last entries are not there.
    Truncated {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// There is an entry behind the last one that was written.
    Added {
        /// Its number.
        seq: u64,
    },
    /// The checkpoint of the day that ended with this entry is gone or not what was written.
    Checkpoint {
        /// The number of the entry.
        seq: u64,
    },
    /// Where the log begins and ends was written by somebody else, or is gone.
    Head,
}

impl Finding {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Changed { .. } => "changed",
            Self::Missing { .. } => "missing",
            Self::Truncated { .. } => "truncated",
            Self::Added { .. } => "added",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Head => "head",
        }
    }

    /// The first and the last entry that it is about.
    #[must_use]
    pub const fn entries(self) -> Option<(u64, u64)> {
        match self {
            Self::Intact | Self::Head => None,
            Self::Changed { seq } | Self::Added { seq } | Self::Checkpoint { seq } => Some((seq, seq)),
            Self::Missing { from, to } | Self::Truncated { from, to } => Some((from, to)),
        }
    }
}

/// What was looked at, and the first thing that is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// What was found.
    pub finding: Finding,
    /// The number of the first entry that is kept.
    pub first: u64,
    /// The last entry that is as it was written, with what all before it come to.
    pub last: Position,
    /// How many checkpoints there are.
    pub checkpoints: usize,
}

impl Broker {
    /// Goes through the whole audit log. Nothing is moved into it meanwhile.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] unless an administrator asks; if the store cannot be read.
    pub async fn verify_audit(&self, caller: &Caller) -> Result<Verdict, BrokerError> {
        administrator(caller)?;
        self.settle_audit().await;
        let known = self.audit.head.lock().await;
        let checkpoints = self.store.audit_checkpoints().await?;
        let count = checkpoints.len();
        let verdict = |finding, first, last| Verdict { finding, first, last, checkpoints: count };
        let Some(head) = self.store.audit_head().await? else {
            let is_empty = self.store.audit_after(0, 1).await?.is_empty() && count == 0;
            let finding = if is_empty && is_new(known.as_ref()) { Finding::Intact } else { Finding::Head };
            return Ok(verdict(finding, 1, Position::default()));
        };
        let (finding, last) = self.walk(&head, checkpoints).await?;
        // What this run wrote itself is known whatever the database says.
        let is_own = known.as_ref().is_none_or(|known| *known == head) && self.is_head(&head);
        let finding = if finding == Finding::Intact && !is_own { Finding::Head } else { finding };
        Ok(verdict(finding, head.base.seq + 1, last))
    }

    /// The first thing that is wrong, and the last entry before it.
    async fn walk(&self, head: &Head, checkpoints: Vec<Checkpoint>) -> Result<(Finding, Position), StoreError> {
        let mut ends: BTreeMap<u64, Checkpoint> =
            checkpoints.into_iter().map(|checkpoint| (checkpoint.position.seq, checkpoint)).collect();
        // The one that the log was dropped up to.
        if let Some(end) = ends.remove(&head.base.seq)
            && (!self.is_authentic(&end) || end.position.hash != head.base.hash)
        {
            return Ok((Finding::Checkpoint { seq: head.base.seq }, head.base));
        }
        let mut at = head.base;
        loop {
            let links = self.store.audit_after(at.seq, PAGE).await?;
            let is_last = links.len() < PAGE;
            for link in &links {
                match self.step_on(at, link, head, &mut ends) {
                    Ok(next) => at = next,
                    Err(finding) => return Ok((finding, at)),
                }
            }
            if is_last {
                break;
            }
        }
        let finding = if at.seq < head.tip.seq {
            Finding::Truncated { from: at.seq + 1, to: head.tip.seq }
        } else if at.hash != head.tip.hash {
            Finding::Changed { seq: at.seq }
        } else if let Some(seq) = ends.keys().next() {
            Finding::Checkpoint { seq: *seq }
        } else {
            Finding::Intact
        };
        Ok((finding, at))
    }

    fn step_on(
        &self,
        before: Position,
        link: &Link,
        head: &Head,
        ends: &mut BTreeMap<u64, Checkpoint>,
    ) -> Result<Position, Finding> {
        if link.seq > head.tip.seq {
            let truncated = before.seq < head.tip.seq;
            return Err(if truncated {
                Finding::Truncated { from: before.seq + 1, to: head.tip.seq }
            } else {
                Finding::Added { seq: link.seq }
            });
        }
        if link.seq != before.seq + 1 {
            return Err(Finding::Missing { from: before.seq + 1, to: link.seq.saturating_sub(1) });
        }
        let changed = Finding::Changed { seq: link.seq };
        let entry: Entry<'static> = serde_json::from_str(&link.text).map_err(|_| changed)?;
        let next = before.next(link.seq, entry.at, &link.text);
        if next.hash != link.hash || entry.seq != link.seq {
            return Err(changed);
        }
        // The entry that the log was dropped up to has its checkpoint looked at already.
        if before.seq > head.base.seq {
            let end = ends.remove(&before.seq);
            let fits = |end: &Checkpoint| end.position.hash == before.hash && self.is_authentic(end);
            let is_right = end.as_ref().map_or_else(|| !before.ends_a_day(entry.at), fits);
            if !is_right {
                return Err(Finding::Checkpoint { seq: before.seq });
            }
        }
        Ok(next)
    }
}

/// Whether nothing was ever written to this log.
fn is_new(known: Option<&Head>) -> bool {
    known.is_none_or(|head| head.tip == Position::default())
}
