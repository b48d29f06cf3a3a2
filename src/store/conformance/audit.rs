//! What the broker relies on about the audit log.

use super::Any;
use super::fixtures::later;
use crate::store::audit::{Addition, Checkpoint, Head, Link, Position};

fn position(seq: u64) -> Position {
    Position { seq, hash: [u8::try_from(seq).unwrap(); 32], at: later(seq) }
}

fn head(base: u64, tip: u64) -> Head {
    let at = |seq| if seq == 0 { Position::default() } else { position(seq) };
    Head { base: at(base), tip: at(tip), mac: [9; 32] }
}

fn links(from: u64, to: u64) -> Vec<Link> {
    let link = |seq| Link { seq, hash: position(seq).hash, text: format!("{{\"seq\":{seq},\"é\":\"'\"}}") };
    (from..=to).map(link).collect()
}

fn checkpoint(seq: u64) -> Checkpoint {
    Checkpoint { position: position(seq), mac: [7; 32] }
}

async fn filled(store: &Any) {
    let checkpoints = vec![checkpoint(2), checkpoint(4)];
    let addition = Addition { after: 0, links: links(1, 6), checkpoints, head: head(0, 6) };
    assert!(store.audit_add(&addition).await.unwrap());
}

pub(super) async fn entries_are_kept_in_order_to_the_byte(store: Any) {
    assert_eq!(store.audit_head().await.unwrap(), None);
    assert!(store.audit_after(0, 10).await.unwrap().is_empty());
    filled(&store).await;
    assert_eq!(store.audit_head().await.unwrap(), Some(head(0, 6)));
    assert_eq!(store.audit_after(0, 10).await.unwrap(), links(1, 6));
    assert_eq!(store.audit_after(2, 2).await.unwrap(), links(3, 4));
    assert!(
        store.audit_after(6, 2).await.unwrap().is_empty() && store.audit_after(u64::MAX, 2).await.unwrap().is_empty()
    );
    assert_eq!(store.audit_checkpoints().await.unwrap(), [checkpoint(2), checkpoint(4)]);
}

pub(super) async fn an_addition_behind_another_end_changes_nothing(store: Any) {
    filled(&store).await;
    for after in [0, 5, 7] {
        let addition = Addition { after, links: links(7, 8), checkpoints: vec![checkpoint(6)], head: head(0, 8) };
        assert!(!store.audit_add(&addition).await.unwrap(), "{after}");
    }
    assert_eq!(store.audit_after(0, 10).await.unwrap().len(), 6);
    let addition = Addition { after: 6, links: links(7, 8), checkpoints: vec![checkpoint(6)], head: head(0, 8) };
    assert!(store.audit_add(&addition).await.unwrap());
    assert!(!store.audit_add(&addition).await.unwrap(), "it is added once");
    assert_eq!(store.audit_after(0, 10).await.unwrap(), links(1, 8));
}

pub(super) async fn old_entries_go_up_to_the_new_beginning(store: Any) {
    assert!(!store.audit_prune(&head(0, 0)).await.unwrap(), "there is nothing");
    filled(&store).await;
    assert!(!store.audit_prune(&head(4, 7)).await.unwrap(), "the end has moved");
    assert_eq!(store.audit_after(0, 10).await.unwrap().len(), 6);
    assert!(store.audit_prune(&head(4, 6)).await.unwrap());
    assert_eq!(store.audit_after(0, 10).await.unwrap(), links(5, 6));
    assert_eq!(store.audit_checkpoints().await.unwrap(), [checkpoint(4)], "the one that the rest begins with is kept");
    assert_eq!(store.audit_head().await.unwrap(), Some(head(4, 6)));
}
