//! What the broker relies on about last use, renewals that are put off, and what will need a person.

use super::Any;
use super::fixtures::{
    NOW, account, alice, boot, confirmation, connect, connected, connection, content, first, key, later, lease,
    provider,
};
use crate::model::connection::{Connection, ReconnectReason, State};
use crate::model::id::{ConnectionId, Epoch, SlotName};
use crate::model::time::Timestamp;
use crate::store::records::{Confirmed, Ending, Ends, Extent, Failure, NewGrant};

/// A connection with one grant that ends then.
async fn ending(store: &Any, account_id: &str, ends: Ends) -> Connection {
    let made = connection(&alice(), "github", account_id);
    let mut confirmed = confirmation(store.as_ref(), &made, None, None).await;
    confirmed.grants = vec![(SlotName::main(), NewGrant { ends, ..content(Some(later(1800))) })];
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    made
}

fn at(seconds: u64) -> Ends {
    Ends { at: Some(later(seconds)), unless_renewed: None }
}

fn unless_renewed(seconds: u64) -> Ends {
    Ends { at: None, unless_renewed: Some(later(seconds)) }
}

async fn fail(store: &Any, made: &Connection, state: State) {
    let failure = Failure {
        class: "provider_down",
        number: None,
        state,
        retry_at: Some(later(10)),
        uncertain: false,
        rejections: 0,
    };
    assert!(store.record_failure(&key(made), first(made), &failure).await.unwrap());
}

fn times(ending: &[Ending]) -> Vec<(Timestamp, &ConnectionId)> {
    ending.iter().map(|ending| (ending.at, &ending.key.connection)).collect()
}

pub(super) async fn the_last_use_is_noted_and_never_moves_back(store: Any) {
    let (made, other) = (connected(store.as_ref()).await, connection(&alice(), "github", "other"));
    connect(store.as_ref(), &other, None).await;
    let used = async |made: &Connection| store.connection(&made.id).await.unwrap().unwrap().connection.used_at;
    assert_eq!(used(&made).await, None);
    let nobody = ConnectionId::random();
    store.note_used(&[(made.id.clone(), later(60)), (nobody, later(60))]).await.unwrap();
    assert_eq!((used(&made).await, used(&other).await), (Some(later(60)), None));
    store.note_used(&[(made.id.clone(), later(30)), (other.id.clone(), later(90))]).await.unwrap();
    assert_eq!((used(&made).await, used(&other).await), (Some(later(60)), Some(later(90))));

    let again = Connection { epoch: Epoch(2), confirmed_at: later(100), ..made.clone() };
    let confirmed = confirmation(store.as_ref(), &again, Some(Epoch(1)), None).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    let stored = store.connection(&made.id).await.unwrap().unwrap().connection;
    assert_eq!((stored.used_at, stored.confirmed_at, stored.created_at), (Some(later(60)), later(100), NOW));
}

pub(super) async fn a_renewal_is_put_off_unless_something_has_moved_or_is_under_way(store: Any) {
    let made = connected(store.as_ref()).await;
    let version = first(&made);
    let postpone = async |version, seconds| store.postpone(&key(&made), version, later(seconds)).await.unwrap();
    assert!(!postpone(version.next(), 5000).await);
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(later(1800)));
    assert!(postpone(version, 5000).await);
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(later(5000)));
    assert!(store.due(&provider("github"), later(4999), 10).await.unwrap().is_empty());
    let (_, grant) = store.grant(&key(&made)).await.unwrap().unwrap();
    assert_eq!((grant.content.renew_at, grant.version), (Some(later(5000)), version));

    store.arm(&key(&made), version, &lease(&boot(), 90), NOW).await.unwrap();
    assert!(!postpone(version, 9000).await, "it may have been sent");
    fail(&store, &made, State::NeedsReconnect(ReconnectReason::UserAction)).await;
    assert!(!postpone(version, 9000).await, "it is not renewed any more");
    let gone = connection(&alice(), "github", "gone");
    assert!(!store.postpone(&key(&gone), first(&gone), NOW).await.unwrap());
}

pub(super) async fn what_ends_comes_in_order_and_page_by_page(store: Any) {
    let mut expected = Vec::new();
    for (number, seconds) in [500, 100, 300, 100, 900].into_iter().enumerate() {
        let made = ending(&store, &number.to_string(), at(seconds)).await;
        expected.push((later(seconds), made.id));
    }
    expected.sort();
    let last = expected.pop().unwrap();
    ending(&store, "endless", Ends::default()).await;
    let revoked = ending(&store, "revoked", at(200)).await;
    store.revoke(&revoked.id, Extent::Alone, NOW).await.unwrap();
    let waits = ending(&store, "waits", at(200)).await;
    fail(&store, &waits, State::NeedsReconnect(ReconnectReason::UserAction)).await;

    let mut seen: Vec<Ending> = Vec::new();
    loop {
        let page = store.ending(later(500), seen.last(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        seen.extend(page);
    }
    let expected: Vec<_> = expected.iter().map(|(at, id)| (*at, id)).collect();
    assert_eq!(times(&seen), expected);
    assert_eq!(times(&store.ending(later(900), seen.last(), 9).await.unwrap()), [(last.0, &last.1)]);
}

pub(super) async fn what_can_be_renewed_ends_only_while_that_fails_or_comes_too_late(store: Any) {
    let made = ending(&store, "1", unless_renewed(4000)).await;
    let late = ending(&store, "2", unless_renewed(1800)).await;
    let ends = async || store.ending(later(9000), None, 9).await.unwrap();
    assert_eq!(times(&ends().await), [(later(1800), &late.id)], "it is renewed no earlier than it dies");
    fail(&store, &made, State::RefreshFailed).await;
    assert_eq!(times(&ends().await), [(later(1800), &late.id), (later(4000), &made.id)]);

    let new = NewGrant { ends: unless_renewed(8000), ..content(Some(later(3600))) };
    store.replace_grant(&key(&made), first(&made), &new).await.unwrap();
    assert_eq!(times(&ends().await), [(later(1800), &late.id)]);
    let (_, grant) = store.grant(&key(&made)).await.unwrap().unwrap();
    assert_eq!(grant.content.ends, unless_renewed(8000));

    let both = ending(&store, "3", Ends { at: Some(later(700)), unless_renewed: Some(later(600)) }).await;
    assert_eq!(ends().await[0].at, later(600));
    fail(&store, &both, State::RefreshFailed).await;
    assert_eq!(ends().await[0].at, later(600));
}

pub(super) async fn what_needs_a_person_is_counted_once(store: Any) {
    let count = async |seconds| store.count_needing_person(later(seconds)).await.unwrap();
    assert_eq!(count(1000).await, 0);
    let made = connection(&alice(), "github", "two slots");
    let mut confirmed = confirmation(store.as_ref(), &made, None, None).await;
    let grant = |seconds| NewGrant { ends: at(seconds), ..content(None) };
    confirmed.grants = vec![("bot".parse().unwrap(), grant(100)), ("user".parse().unwrap(), grant(200))];
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    assert_eq!([count(99).await, count(100).await, count(200).await], [0, 1, 1]);

    let waits = ending(&store, "waits", at(100)).await;
    fail(&store, &waits, State::NeedsReconnect(ReconnectReason::LostResponse)).await;
    assert_eq!([count(0).await, count(100).await], [1, 2]);
    store.revoke(&waits.id, Extent::Alone, NOW).await.unwrap();
    store.revoke(&made.id, Extent::Alone, NOW).await.unwrap();
    assert_eq!(count(1000).await, 0);

    let due = async |seconds| store.count_due(&provider("github"), later(seconds)).await.unwrap();
    assert_eq!(due(9000).await, 0);
    connected(store.as_ref()).await;
    assert_eq!([due(1799).await, due(1800).await], [0, 1]);
}

pub(super) async fn a_warning_is_remembered_until_the_person_consents_again(store: Any) {
    let made = ending(&store, "1", at(1000)).await;
    let warned = async || store.ending(later(1000), None, 9).await.unwrap()[0].warned;
    assert_eq!(warned().await, None);
    store.note_warned(&[(made.id.clone(), later(400))]).await.unwrap();
    store.note_warned(&[(made.id.clone(), later(600))]).await.unwrap();
    assert_eq!(warned().await, Some(later(600)));

    let again = Connection { epoch: Epoch(2), account: account("1"), ..made.clone() };
    let mut confirmed = confirmation(store.as_ref(), &again, Some(Epoch(1)), None).await;
    confirmed.grants = vec![(SlotName::main(), NewGrant { ends: at(900), ..content(None) })];
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    assert_eq!(warned().await, None);
}
