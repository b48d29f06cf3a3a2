//! Moves entries from the journal into the store's chain of hashes, signs the days that ended, and drops what is too old.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use subtle::ConstantTimeEq as _;
use tokio::task::spawn_blocking;
use tracing::{Level, enabled, error, info, warn};

use crate::broker::Broker;
use crate::model::audit::Entry;
use crate::store::StoreError;
use crate::store::audit::{Addition, Checkpoint, Hash, Head, Link, Position};
use crate::store::journal::{Journal, Part, Record};

/// How many files of the journal there are to be moved in one round.
const FILES: usize = 2;
/// How many entries share a transaction.
const BATCH: usize = 500;
/// How many entries are dropped at once.
const DROPPED: u64 = 5_000;
/// How often the end of the log is read again that somebody else has moved.
const TRIES: usize = 3;

/// Purposes of a digest: what is authenticated as one is never taken for the other.
const CHECKPOINT: &str = "checkpoint";
const HEAD: &str = "head";
const KEY: &str = "audit";

impl Broker {
    /// Takes up what an earlier run wrote and the store does not have, before anything is written: the numbers go on behind it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn take_up_audit(&self) -> Result<(), StoreError> {
        let head = self.audit_head().await?;
        self.audit.journal.begin_after(head.tip.seq);
        *self.audit.head.lock().await = Some(head);
        self.settle_audit().await;
        Ok(())
    }

    /// Makes durable what was written since the last time, and moves it into the store. What does not work is tried the next
    /// time; the operator hears of it once.
    pub async fn settle_audit(&self) {
        let round = async {
            self.journal_synced().await.map_err(|error| format!("the journal cannot be synced: {error}"))?;
            self.journal_moved().await.map_err(|error| error.to_string())
        };
        // Whatever becomes of one round, there is a next one, and the end of the daemon is not in its way.
        let outcome = AssertUnwindSafe(round).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| Err("moving them broke down".to_owned()));
        match outcome {
            Ok(()) if self.audit.stuck.swap(false, Ordering::Relaxed) => info!("The audit log takes entries again"),
            Ok(()) => {}
            Err(why) if !self.audit.stuck.swap(true, Ordering::Relaxed) => {
                warn!(why, "Entries of the audit log wait in the journal: they are kept, and moved later");
            }
            Err(_) => {}
        }
    }

    /// Drops entries that are older than they are to be kept, up to the end of a day.
    ///
    /// # Errors
    /// If the store cannot be used; what was not dropped is dropped the next time.
    pub async fn prune_audit(&self) -> Result<(), StoreError> {
        let cutoff = self.clock.now().before(self.audit.keep);
        let mut known = self.audit.head.lock().await;
        let mut head = self.audit_head().await?;
        let checkpoints = self.store.audit_checkpoints().await?;
        let ends = checkpoints.iter().filter(|end| end.position.at < cutoff && self.is_authentic(end));
        let Some(end) = ends.map(|end| end.position).max_by_key(|end| end.seq).filter(|end| end.seq > head.base.seq)
        else {
            return Ok(());
        };
        let before = head.base.seq;
        *known = None;
        while head.base.seq < end.seq {
            let base = self.pruned_next(head.base, end).await?;
            head = self.head_of(base, head.tip);
            if !self.store.audit_prune(&head).await? {
                return Err(StoreError::Busy("the audit log was changed meanwhile".to_owned()));
            }
        }
        *known = Some(head);
        info!(entries = end.seq - before, kept_from = end.seq + 1, "Old entries of the audit log were dropped");
        Ok(())
    }

    /// The next place to drop up to.
    async fn pruned_next(&self, base: Position, end: Position) -> Result<Position, StoreError> {
        if end.seq - base.seq <= DROPPED {
            return Ok(end);
        }
        let links = self.store.audit_after(base.seq, usize::try_from(DROPPED).unwrap_or(usize::MAX)).await?;
        let last = links.last().filter(|last| last.seq < end.seq);
        Ok(last.map_or(end, |last| Position { seq: last.seq, hash: last.hash, at: end.at }))
    }

    async fn journal_synced(&self) -> io::Result<()> {
        let journal = Arc::clone(&self.audit.journal);
        spawn_blocking(move || journal.sync()).await.map_err(io::Error::other)?
    }

    async fn journal_moved(&self) -> Result<(), StoreError> {
        let mut head = self.audit.head.lock().await;
        for _ in 0..FILES {
            let Some(which) = self.audit.journal.to_move() else { break };
            let mut from = Some(0);
            while let Some(at) = from {
                let Part { records, next } = self.journal_part(which, at).await?;
                for batch in records.chunks(BATCH) {
                    self.chain_on(&mut head, batch).await?;
                }
                from = next;
            }
            self.audit.journal.moved(which).map_err(unreadable)?;
        }
        Ok(())
    }

    async fn journal_part(&self, which: usize, from: u64) -> Result<Part, StoreError> {
        let journal: Arc<Journal> = Arc::clone(&self.audit.journal);
        let read = spawn_blocking(move || journal.read(which, from)).await;
        read.map_err(unreadable)?.map_err(unreadable)
    }

    /// Adds what the log does not have yet.
    async fn chain_on(&self, known: &mut Option<Head>, records: &[Record]) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            // Taken: if the store fails, nobody knows what it has, and it is read again.
            let head = match known.take() {
                Some(head) => head,
                None => self.audit_head().await?,
            };
            let fresh: Vec<&Record> = records.iter().filter(|record| record.seq > head.tip.seq).collect();
            if fresh.is_empty() {
                *known = Some(head);
                return Ok(());
            }
            let addition = self.addition(&head, &fresh);
            if self.store.audit_add(&addition).await? {
                self.copy_to_log(&addition);
                *known = Some(addition.head);
                return Ok(());
            }
        }
        Err(StoreError::Busy("somebody else writes to the audit log".to_owned()))
    }

    fn addition(&self, head: &Head, records: &[&Record]) -> Addition {
        let (mut tip, mut links, mut checkpoints) = (head.tip, Vec::with_capacity(records.len()), Vec::new());
        for record in records {
            if tip.ends_a_day(record.at) {
                checkpoints.push(self.checkpoint(tip));
            }
            tip = tip.next(record.seq, record.at, &record.text);
            links.push(Link { seq: record.seq, hash: tip.hash, text: record.text.clone() });
        }
        Addition { after: head.tip.seq, links, checkpoints, head: self.head_of(head.base, tip) }
    }

    /// The head of the log. The chain does not go on from one that nobody with the key has written: what comes then does not
    /// fit what was before, and whoever verifies the log is told so.
    async fn audit_head(&self) -> Result<Head, StoreError> {
        let Some(head) = self.store.audit_head().await? else {
            let last = self.last_without_head().await?;
            return Ok(self.head_of(Position::default(), Position { seq: last, ..Position::default() }));
        };
        if self.is_head(&head) {
            return Ok(head);
        }
        error!(
            seq = head.tip.seq,
            "The head of the audit log is not the one that grantd wrote: see `grantd audit verify`"
        );
        Ok(Head { tip: Position { hash: Hash::default(), ..head.tip }, ..head })
    }

    /// The number of the last entry of a log whose head is gone; 0 if there never was an entry.
    async fn last_without_head(&self) -> Result<u64, StoreError> {
        let mut last = 0;
        while let Some(link) = self.store.audit_after(last, BATCH).await?.last() {
            last = link.seq;
        }
        if last > 0 {
            error!(seq = last, "The head of the audit log is gone: see `grantd audit verify`");
        }
        Ok(last)
    }

    pub(super) fn head_of(&self, base: Position, tip: Position) -> Head {
        Head { mac: self.head_mac(base, tip), base, tip }
    }

    pub(super) fn is_head(&self, head: &Head) -> bool {
        self.head_mac(head.base, head.tip).ct_eq(&head.mac).into()
    }

    fn head_mac(&self, base: Position, tip: Position) -> Hash {
        let mut data = base.sealed_as(HEAD);
        data.extend(tip.sealed_as(HEAD));
        self.keyring.digest(KEY, &data)
    }

    fn checkpoint(&self, position: Position) -> Checkpoint {
        Checkpoint { mac: self.keyring.digest(KEY, &position.sealed_as(CHECKPOINT)), position }
    }

    pub(super) fn is_authentic(&self, checkpoint: &Checkpoint) -> bool {
        self.checkpoint(checkpoint.position).mac.ct_eq(&checkpoint.mac).into()
    }

    /// The second copy, in the daemon's own log.
    fn copy_to_log(&self, addition: &Addition) {
        for Checkpoint { position, .. } in &addition.checkpoints {
            info!(target: "audit", seq = position.seq, hash = hex(&position.hash), "A day of the audit log has ended");
        }
        if !self.audit.copy || !enabled!(target: "audit", Level::INFO) {
            return;
        }
        for link in &addition.links {
            let Ok(entry) = serde_json::from_str::<Entry<'static>>(&link.text) else { continue };
            let act = entry.act.as_str();
            info!(
                target: "audit", seq = entry.seq, at = entry.at.as_millis(), act, caller = entry.caller.as_deref(),
                tenant = entry.tenant.as_deref(), subject = entry.subject.as_deref(), uid = entry.uid, pid = entry.pid,
                provider = entry.provider.as_deref(), account = entry.account.as_deref(),
                connection = entry.connection.as_deref(), session = entry.session.as_deref(), slot = entry.slot.as_deref(),
                scopes = entry.scopes.as_deref(), rule = entry.rule.as_deref(), code = entry.code.as_deref(),
                what = entry.what.as_deref(), token_id = entry.token_id.as_deref(),
                fingerprint = entry.fingerprint.as_deref(), request_id = entry.request_id.as_deref(), "audit: {act}"
            );
        }
    }
}

/// A hash as people write it.
#[must_use]
pub fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Busy(format!("the audit journal: {error}"))
}
