//! What may be lost and what may be sent twice, judged by the provider's ledger and by where the daemon was when it was
//! struck.

use std::collections::BTreeMap;

use grantd::sandbox::{Entry, Fingerprint, Kind, Ledger, Secret};

use crate::cell::{Action, Cell, Class};
use crate::life::{Reached, Span, last_of_each_flight};

/// From when a refresh token may be on its way until the first moment at which the pair that answers it can be durable.
/// Whoever dies at one of these points, or between them, takes the answer with it. `keep.storing` is the last: the next step
/// of that flight is taken by the store, and a store that had committed is seen to hold the pair.
const IN_HAND: [&str; 6] =
    ["refresh.sending", "egress.answer", "egress.body", "refresh.answered", "refresh.sealed", "keep.storing"];

/// The store has refused the pair, and the spool has not got it yet. Only two faults at once lose it here: the disk and the
/// process. A spool that had kept it is seen to hold it.
const BETWEEN_STORE_AND_SPOOL: &str = "keep.spooling";

/// Up to here a flight that unwinds takes the answer with it. From `keep.storing` on others know of it.
const UNKNOWN_TO_OTHERS: [&str; 5] =
    ["refresh.sending", "egress.answer", "egress.body", "refresh.answered", "refresh.sealed"];

/// How many answers this strike can have destroyed, at most; `died` says that the process ended by it. None but these are
/// excused, and each of them only if provider, store and spool agree that it is gone:
///
/// - killed, or ended by a panic of its main task: a flight whose last point at the moment of death was [`IN_HAND`], or
///   [`BETWEEN_STORE_AND_SPOOL`], whichever point was struck;
/// - panicked and lives on: a flight that was itself unwound while its answer was [`UNKNOWN_TO_OTHERS`];
/// - failed: a flight whose answer was thrown away on the way in, at `egress.answer` or `egress.body`;
/// - failed until it was killed or stopped: none. The daemon had the pair, was told that the store does not take it, and had
///   time to put it elsewhere.
pub fn destroyed(cell: &Cell, trace: &[Reached], died: bool) -> usize {
    match cell.action {
        Action::Kill | Action::Panic if died => {
            last_of_each_flight(trace).iter().filter(|last| is_in_hand(last)).count()
        }
        Action::Panic => trace
            .iter()
            .filter(|one| UNKNOWN_TO_OTHERS.contains(&one.point.as_str()) && one.action.as_deref() == Some("panic"))
            .count(),
        Action::Fail if ["egress.answer", "egress.body"].contains(&cell.point) => {
            trace.iter().filter(|reached| reached.action.is_some()).count()
        }
        Action::Kill | Action::Delay | Action::Fail | Action::FailUntilKilled | Action::FailUntilStopped => 0,
    }
}

/// Whether a flight that was last seen here has an answer, or may be about to get one, that is nowhere but in memory.
pub fn is_in_hand(reached: &Reached) -> bool {
    IN_HAND.contains(&reached.point.as_str()) || reached.point == BETWEEN_STORE_AND_SPOOL
}

/// The presentations of refresh tokens that must not have been.
pub fn doubles(class: Class, ledger: &Ledger, lives: &[Span]) -> Vec<String> {
    let mut told: BTreeMap<Fingerprint, Vec<&Entry>> = BTreeMap::new();
    let entries = ledger.entries().iter().filter(|entry| entry.what == Secret::Refresh);
    for entry in entries.filter(|entry| matches!(entry.kind, Kind::Presented | Kind::Refused)) {
        told.entry(entry.fingerprint).or_default().push(entry);
    }
    told.values().flat_map(|entries| doubles_of_one(class, entries, lives)).collect()
}

/// One refresh token: presented, refused, presented again. At most one presentation may follow an answer that a strike
/// destroyed, and at most one a definite rejection, to confirm it.
fn doubles_of_one(class: Class, entries: &[&Entry], lives: &[Span]) -> Vec<String> {
    let (mut wrong, mut recoveries, mut confirmations) = (Vec::new(), 0, 0);
    let mut last: Option<&Entry> = None;
    let mut refused: Option<&'static str> = None;
    for entry in entries {
        if entry.kind == Kind::Refused {
            refused = Some(entry.outcome);
            continue;
        }
        let Some(before) = last.replace(entry) else {
            refused = None;
            continue;
        };
        let same_life =
            life_of(lives, before).map(|life| life.from_ms) == life_of(lives, entry).map(|life| life.from_ms);
        let outcome = refused.take();
        if entry.concurrently_in_flight > 1 && same_life {
            wrong.push(format!("{} {:?}: sent while it was unanswered", class.provider(), entry.fingerprint));
            continue;
        }
        if !class.is_single_use() {
            continue;
        }
        match outcome {
            Some("invalid_grant") => confirmations += 1,
            // Refused without having been looked at.
            Some(_) => continue,
            None if life_of(lives, before).is_some_and(|life| life.struck) => recoveries += 1,
            None => {
                wrong.push(format!("{} {:?}: sent again after it was answered", class.provider(), entry.fingerprint));
            }
        }
        if recoveries > 1 || confirmations > 1 {
            wrong.push(format!("{} {:?}: sent again and again", class.provider(), entry.fingerprint));
        }
    }
    wrong
}

fn life_of<'a>(lives: &'a [Span], entry: &Entry) -> Option<&'a Span> {
    // What was sent right before a death may be written down right after it.
    lives.iter().rfind(|life| life.from_ms <= entry.at_ms)
}
