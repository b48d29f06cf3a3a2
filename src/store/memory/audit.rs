//! The audit log in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::store::StoreError;
use crate::store::audit::{Addition, AuditLog, Checkpoint, Head, Link};
use crate::store::memory::MemoryStore;

#[derive(Debug, Default)]
pub(super) struct Log {
    head: Option<Head>,
    links: BTreeMap<u64, Link>,
    checkpoints: BTreeMap<u64, Checkpoint>,
}

#[async_trait]
impl AuditLog for MemoryStore {
    async fn audit_head(&self) -> Result<Option<Head>, StoreError> {
        Ok(self.content()?.audit.head.clone())
    }

    async fn audit_add(&self, addition: &Addition) -> Result<bool, StoreError> {
        let log = &mut self.content()?.audit;
        if log.head.as_ref().map_or(0, |head| head.tip.seq) != addition.after {
            return Ok(false);
        }
        log.links.extend(addition.links.iter().map(|link| (link.seq, link.clone())));
        log.checkpoints.extend(addition.checkpoints.iter().map(|end| (end.position.seq, end.clone())));
        log.head = Some(addition.head.clone());
        Ok(true)
    }

    async fn audit_after(&self, seq: u64, limit: usize) -> Result<Vec<Link>, StoreError> {
        let Some(first) = seq.checked_add(1) else { return Ok(Vec::new()) };
        Ok(self.content()?.audit.links.range(first..).take(limit).map(|(_, link)| link.clone()).collect())
    }

    async fn audit_checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        Ok(self.content()?.audit.checkpoints.values().cloned().collect())
    }

    async fn audit_prune(&self, head: &Head) -> Result<bool, StoreError> {
        let log = &mut self.content()?.audit;
        if log.head.as_ref().is_none_or(|current| current.tip != head.tip) {
            return Ok(false);
        }
        log.links.retain(|seq, _| *seq > head.base.seq);
        log.checkpoints.retain(|seq, _| *seq >= head.base.seq);
        log.head = Some(head.clone());
        Ok(true)
    }
}
