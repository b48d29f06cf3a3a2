//! What the broker relies on about leases, compare-and-set and what is due.

use super::Any;
use super::fixtures::{
    NOW, alice, bob, boot, confirmation, connect, connected, connection, content, first, is_armed, key, later, lease,
    provider, slot_key,
};
use crate::model::connection::{Connection, ReconnectReason, State};
use crate::model::id::{ConnectionId, Epoch, Generation, SlotName, Version};
use crate::model::time::Timestamp;
use crate::store::records::{Armed, Confirmed, Extent, Failure, Grant, GrantKey, HELD, Replaced};

fn failure(state: State, retry_at: Option<Timestamp>) -> Failure {
    Failure { class: "provider_down", number: None, state, retry_at, uncertain: false, rejections: 0 }
}

async fn stored(store: &Any, key: &GrantKey) -> (Connection, Grant) {
    store.grant(key).await.unwrap().unwrap()
}

pub(super) async fn of_many_who_arm_one_may_send(store: Any) {
    let made = connected(store.as_ref()).await;
    let boot = boot();
    let attempts: Vec<_> = (0..32)
        .map(|_| {
            let (store, made, lease) = (store.clone(), made.clone(), lease(&boot, 90));
            tokio::spawn(async move { store.arm(&key(&made), first(&made), &lease, NOW).await.unwrap() })
        })
        .collect();
    let mut armed = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Armed::Yes { recovery } => {
                assert!(!recovery);
                armed += 1;
            }
            Armed::Held { until } => assert_eq!(until, later(90)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(armed, 1);
    assert_eq!(stored(&store, &key(&made)).await.1.lease, Some(lease(&boot, 90)));
}

pub(super) async fn a_lease_ends_with_its_time_and_leaves_a_recovery(store: Any) {
    let made = connected(store.as_ref()).await;
    let boot = boot();
    let arm = |now, until| {
        let (store, made, lease) = (store.clone(), made.clone(), lease(&boot, until));
        async move { store.arm(&key(&made), first(&made), &lease, now).await.unwrap() }
    };
    assert!(matches!(arm(NOW, 90).await, Armed::Yes { recovery: false }));
    assert!(matches!(arm(later(89), 180).await, Armed::Held { .. }));
    assert!(matches!(arm(later(90), 180).await, Armed::Yes { recovery: true }));
}

pub(super) async fn the_lease_of_a_dead_run_is_taken_over(store: Any) {
    let made = connected(store.as_ref()).await;
    let (dead, alive) = (lease(&boot(), 90), lease(&boot(), 95));
    assert!(is_armed(&store.arm(&key(&made), first(&made), &dead, NOW).await.unwrap()));
    let armed = store.arm(&key(&made), first(&made), &alive, later(1)).await.unwrap();
    assert!(matches!(armed, Armed::Yes { recovery: true }), "{armed:?}");
    assert_eq!(stored(&store, &key(&made)).await.1.lease, Some(alive));
}

pub(super) async fn arming_what_has_moved_or_gone_says_so(store: Any) {
    let made = connected(store.as_ref()).await;
    let lease = lease(&boot(), 90);
    let arm = |key: GrantKey, version| {
        let (store, lease) = (store.clone(), lease.clone());
        async move { store.arm(&key, version, &lease, NOW).await.unwrap() }
    };
    let version = first(&made);
    let another_epoch = Version { epoch: Epoch(9), ..version };
    assert!(matches!(arm(key(&made), version.next()).await, Armed::Moved));
    assert!(matches!(arm(key(&made), another_epoch).await, Armed::Moved));
    let nowhere = GrantKey { connection: ConnectionId::random(), slot: SlotName::main() };
    assert!(matches!(arm(nowhere, version).await, Armed::Gone));
    assert!(matches!(arm(slot_key(&made, "bot".parse().unwrap()), version).await, Armed::Gone));

    let dead = failure(State::NeedsReconnect(ReconnectReason::UserAction), None);
    assert!(store.record_failure(&key(&made), version, &dead).await.unwrap());
    assert!(matches!(arm(key(&made), version).await, Armed::Gone));
    store.revoke(&made.id, Extent::Alone, NOW).await.unwrap();
    assert!(matches!(arm(key(&made), version).await, Armed::Gone));
    assert_eq!(stored(&store, &key(&made)).await.1.lease, None);
}

pub(super) async fn a_replacement_counts_up_and_ends_the_lease(store: Any) {
    let made = connected(store.as_ref()).await;
    let (boot, mut version) = (boot(), first(&made));
    for _ in 0..3 {
        assert!(is_armed(&store.arm(&key(&made), version, &lease(&boot, 90), NOW).await.unwrap()));
        let mut new = content(Some(later(7200)));
        new.refresh = None;
        let replaced = store.replace_grant(&key(&made), version, &new).await.unwrap();
        assert_eq!(replaced, Replaced::Yes { version: version.next() });
        version = version.next();
        let (connection, grant) = stored(&store, &key(&made)).await;
        assert_eq!((connection, grant.version, grant.lease), (made.clone(), version, None));
        assert_eq!((grant.content.token_id, grant.content.access), (new.token_id, new.access));
        assert_eq!((grant.content.refresh, grant.content.renew_at), (None, new.renew_at));
    }
    assert_eq!(version.generation, Generation(4));
}

pub(super) async fn a_stale_generation_changes_nothing(store: Any) {
    let made = connected(store.as_ref()).await;
    let old = first(&made);
    store.replace_grant(&key(&made), old, &content(None)).await.unwrap();
    let before = stored(&store, &key(&made)).await.1;
    let replaced = store.replace_grant(&key(&made), old, &content(None)).await.unwrap();
    assert_eq!(replaced, Replaced::Stale { current: old.next() });
    let recorded = store.record_failure(&key(&made), old, &failure(State::RefreshFailed, None)).await.unwrap();
    assert!(!recorded);
    let (connection, after) = stored(&store, &key(&made)).await;
    assert_eq!(connection.state, State::Active);
    assert_eq!((after.version, after.content.access), (before.version, before.content.access));
}

pub(super) async fn of_many_replacements_of_one_version_one_counts(store: Any) {
    let made = connected(store.as_ref()).await;
    let attempts: Vec<_> = (0..32)
        .map(|_| {
            let (store, made, new) = (store.clone(), made.clone(), content(None));
            tokio::spawn(async move {
                let replaced = store.replace_grant(&key(&made), first(&made), &new).await.unwrap();
                (replaced, new.token_id)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for attempt in attempts {
        let (replaced, token_id) = attempt.await.unwrap();
        if matches!(replaced, Replaced::Yes { .. }) {
            winners.push(token_id);
        }
    }
    assert_eq!(winners, [stored(&store, &key(&made)).await.1.content.token_id]);
}

pub(super) async fn what_comes_back_after_a_reconnect_or_a_revocation_belongs_to_nobody(store: Any) {
    let made = connected(store.as_ref()).await;
    let again = Connection { epoch: Epoch(2), ..made.clone() };
    let confirmed = confirmation(store.as_ref(), &again, Some(Epoch(1)), None).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    let late = |version| {
        let (store, made) = (store.clone(), made.clone());
        async move { store.replace_grant(&key(&made), version, &content(None)).await.unwrap() }
    };
    assert_eq!(late(first(&made)).await, Replaced::Gone);
    assert_eq!(stored(&store, &key(&made)).await.1.version, first(&again));

    store.revoke(&made.id, Extent::Alone, NOW).await.unwrap();
    assert_eq!(late(first(&again)).await, Replaced::Gone);
    let failed = failure(State::RefreshFailed, Some(NOW));
    assert!(!store.record_failure(&key(&made), first(&again), &failed).await.unwrap());
    assert_eq!(stored(&store, &key(&made)).await.0.state, State::Revoked);
    let nowhere = GrantKey { connection: ConnectionId::random(), slot: SlotName::main() };
    assert_eq!(store.replace_grant(&nowhere, first(&made), &content(None)).await.unwrap(), Replaced::Gone);
}

pub(super) async fn a_late_success_revives_a_connection(store: Any) {
    let made = connected(store.as_ref()).await;
    let mut version = first(&made);
    for state in [State::RefreshFailed, State::NeedsReconnect(ReconnectReason::RefreshTokenInvalid)] {
        assert!(store.record_failure(&key(&made), version, &failure(state, None)).await.unwrap());
        let replaced = store.replace_grant(&key(&made), version, &content(Some(later(60)))).await.unwrap();
        assert_eq!(replaced, Replaced::Yes { version: version.next() });
        version = version.next();
        let (connection, grant) = stored(&store, &key(&made)).await;
        assert_eq!((connection.state, grant.failures, grant.last_failure), (State::Active, 0, None));
        assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(later(60)), "it is renewed again");
    }
}

pub(super) async fn a_failure_is_counted_and_ends_the_lease(store: Any) {
    let made = connected(store.as_ref()).await;
    let before = stored(&store, &key(&made)).await.1;
    for count in 1..=3 {
        assert!(is_armed(&store.arm(&key(&made), first(&made), &lease(&boot(), 90), NOW).await.unwrap()));
        let failed = failure(State::RefreshFailed, Some(later(5)));
        assert!(store.record_failure(&key(&made), first(&made), &failed).await.unwrap());
        let (connection, grant) = stored(&store, &key(&made)).await;
        assert_eq!((connection.state, grant.failures, grant.lease), (State::RefreshFailed, count, None));
        assert_eq!(grant.last_failure.as_deref(), Some("provider_down"));
        assert_eq!((grant.version, grant.content.renew_at), (before.version, Some(later(5))));
        assert_eq!((&grant.content.access, &grant.content.refresh), (&before.content.access, &before.content.refresh));
    }
}

pub(super) async fn a_number_is_that_of_the_last_failure(store: Any) {
    let made = connected(store.as_ref()).await;
    let kept = async || stored(&store, &key(&made)).await.1.failure_number;
    assert_eq!(kept().await, None);
    for number in [Some(7_000_222), None, Some(0), Some(u32::MAX)] {
        let failed = Failure { number, ..failure(State::RefreshFailed, Some(NOW)) };
        assert!(store.record_failure(&key(&made), first(&made), &failed).await.unwrap());
        assert_eq!(kept().await, number);
    }
    assert!(is_armed(&store.arm(&key(&made), first(&made), &lease(&boot(), 90), NOW).await.unwrap()));
    assert_eq!(kept().await, Some(u32::MAX), "it is not known yet what comes of it");
    let replaced = store.replace_grant(&key(&made), first(&made), &content(None)).await.unwrap();
    assert!(matches!(replaced, Replaced::Yes { .. }));
    assert_eq!(kept().await, None, "a token came");
}

pub(super) async fn every_state_is_kept_as_it_is(store: Any) {
    let made = connected(store.as_ref()).await;
    let dead = ReconnectReason::ALL.map(State::NeedsReconnect);
    for state in dead.into_iter().chain([State::RefreshFailed, State::Active]) {
        let failed = failure(state.clone(), None);
        assert!(store.record_failure(&key(&made), first(&made), &failed).await.unwrap());
        assert_eq!(stored(&store, &key(&made)).await.0.state, state);
    }
}

pub(super) async fn what_is_due_comes_in_order_and_in_portions(store: Any) {
    let times = [Some(30), Some(10), None, Some(20), Some(90)];
    let mut keys = Vec::new();
    for (number, seconds) in times.into_iter().enumerate() {
        let made = connection(&alice(), "github", &number.to_string());
        connect(store.as_ref(), &made, seconds.map(later)).await;
        keys.push(key(&made));
    }
    assert_eq!(store.due(&provider("github"), later(9), 10).await.unwrap(), []);
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(later(10)));
    let due = store.due(&provider("github"), later(30), 10).await.unwrap();
    assert_eq!(due, [keys[1].clone(), keys[3].clone(), keys[0].clone()]);
    assert_eq!(store.due(&provider("github"), later(30), 2).await.unwrap(), due[..2]);
}

pub(super) async fn each_provider_has_its_own_queue(store: Any) {
    for (at, account) in [("github", "1"), ("github", "2"), ("github", "3"), ("google", "1")] {
        connect(store.as_ref(), &connection(&alice(), at, account), Some(NOW)).await;
    }
    connect(store.as_ref(), &connection(&alice(), "google", "never"), None).await;
    for (at, due) in [("github", 3), ("google", 1), ("slack", 0)] {
        assert_eq!(store.due(&provider(at), NOW, 10).await.unwrap().len(), due, "{at}");
        assert_eq!(store.serving(&provider(at), 10).await.unwrap(), due, "{at}");
    }
    assert_eq!(store.serving(&provider("github"), 2).await.unwrap(), 2, "it need not count further");
}

pub(super) async fn doubts_about_a_refresh_token_are_kept_until_it_is_replaced(store: Any) {
    let made = connected(store.as_ref()).await;
    let doubts = |grant: &Grant| (grant.uncertain, grant.rejections);
    assert_eq!(doubts(&stored(&store, &key(&made)).await.1), (false, 0));
    let doubtful = Failure { uncertain: true, rejections: 1, ..failure(State::RefreshFailed, Some(NOW)) };
    assert!(store.record_failure(&key(&made), first(&made), &doubtful).await.unwrap());
    assert_eq!(doubts(&stored(&store, &key(&made)).await.1), (true, 1));
    store.replace_grant(&key(&made), first(&made), &content(Some(NOW))).await.unwrap();
    assert_eq!(doubts(&stored(&store, &key(&made)).await.1), (false, 0));
}

pub(super) async fn what_is_leased_is_due_when_the_lease_is_over(store: Any) {
    let made = connection(&alice(), "github", "1");
    connect(store.as_ref(), &made, Some(later(10))).await;
    let armed = store.arm(&key(&made), first(&made), &lease(&boot(), 90), later(10)).await.unwrap();
    assert!(is_armed(&armed));
    assert_eq!(store.due(&provider("github"), later(89), 10).await.unwrap(), []);
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(later(90)));
    assert_eq!(store.due(&provider("github"), later(90), 10).await.unwrap(), [key(&made)]);
}

pub(super) async fn what_does_not_serve_is_never_due(store: Any) {
    let made = connection(&alice(), "github", "1");
    let mut confirmed = confirmation(store.as_ref(), &made, None, None).await;
    confirmed.grants = ["bot", "user"].map(|slot| (slot.parse().unwrap(), content(Some(NOW)))).into();
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    let bot = slot_key(&made, "bot".parse().unwrap());
    assert_eq!(store.due(&provider("github"), NOW, 10).await.unwrap().len(), 2);

    let passing = failure(State::RefreshFailed, Some(NOW));
    assert!(store.record_failure(&bot, first(&made), &passing).await.unwrap());
    assert_eq!(store.due(&provider("github"), NOW, 10).await.unwrap().len(), 2, "it is tried again");
    let dead = failure(State::NeedsReconnect(ReconnectReason::RefreshTokenInvalid), Some(NOW));
    assert!(store.record_failure(&bot, first(&made), &dead).await.unwrap());
    assert_eq!(store.due(&provider("github"), NOW, 10).await.unwrap(), [], "both slots");
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), None);

    store.replace_grant(&bot, first(&made), &content(Some(NOW))).await.unwrap();
    assert_eq!(store.due(&provider("github"), NOW, 10).await.unwrap().len(), 2, "both slots again");
    store.revoke(&made.id, Extent::Alone, NOW).await.unwrap();
    assert_eq!(store.due(&provider("github"), NOW, 10).await.unwrap(), []);
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), None);
}

pub(super) async fn each_slot_has_its_own_version_and_lease(store: Any) {
    let made = connection(&alice(), "slack", "T1");
    let mut confirmed = confirmation(store.as_ref(), &made, None, None).await;
    confirmed.grants = ["bot", "user"].map(|slot| (slot.parse().unwrap(), content(None))).into();
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    let [bot, user] = ["bot", "user"].map(|slot| slot_key(&made, slot.parse().unwrap()));
    assert!(is_armed(&store.arm(&bot, first(&made), &lease(&boot(), 90), NOW).await.unwrap()));
    assert!(stored(&store, &user).await.1.lease.is_none());
    store.replace_grant(&bot, first(&made), &content(None)).await.unwrap();
    assert_eq!(stored(&store, &bot).await.1.version, first(&made).next());
    assert_eq!(stored(&store, &user).await.1.version, first(&made));
}

pub(super) async fn an_abandoned_write_is_done(store: Any) {
    let made = connected(store.as_ref()).await;
    let (grant, new) = (key(&made), content(None));
    let mut write = store.replace_grant(&grant, first(&made), &new);
    // Polled once, then dropped: what a caller does who hangs up.
    let _ = futures_util::poll!(&mut write);
    drop(write);
    store.probe(NOW).await.unwrap();
    assert_eq!(stored(&store, &grant).await.1.content.token_id, new.token_id);
}

pub(super) async fn what_was_put_off_by_a_hold_is_due_when_it_is_released(store: Any) {
    let held = connected(store.as_ref()).await;
    let other = connection(&bob(), "github", "2");
    connect(store.as_ref(), &other, Some(later(1800))).await;
    for (made, class) in [(&held, HELD), (&other, "unavailable")] {
        let failure = Failure { class, ..failure(State::Active, Some(later(300))) };
        assert!(store.record_failure(&key(made), first(made), &failure).await.unwrap());
    }
    assert!(store.due(&provider("github"), NOW, 9).await.unwrap().is_empty());
    store.release_hold().await.unwrap();
    assert_eq!(store.due(&provider("github"), NOW, 9).await.unwrap(), [key(&held)]);
    assert_eq!(stored(&store, &key(&held)).await.1.failures, 0);
}

pub(super) async fn what_waits_after_one_kind_of_failure_can_be_tried_now(store: Any) {
    let rows = [
        (connected(store.as_ref()).await, "suspect_incident", State::RefreshFailed),
        (connection(&bob(), "github", "2"), "throttled", State::RefreshFailed),
        (connection(&bob(), "github", "3"), "suspect_incident", State::NeedsReconnect(ReconnectReason::UserAction)),
        (connection(&bob(), "notion", "4"), "suspect_incident", State::RefreshFailed),
    ];
    for (made, class, state) in &rows {
        if made.id != rows[0].0.id {
            connect(store.as_ref(), made, Some(later(1800))).await;
        }
        let failure = Failure { class, ..failure(state.clone(), Some(later(300))) };
        assert!(store.record_failure(&key(made), first(made), &failure).await.unwrap());
    }
    let suspect = key(&rows[0].0);
    let retry = || store.retry(&rows[0].0.provider, "suspect_incident", NOW);
    assert_eq!(retry().await.unwrap(), 1);
    assert_eq!(store.due(&provider("github"), NOW, 9).await.unwrap(), std::slice::from_ref(&suspect));
    assert!(store.due(&provider("notion"), NOW, 9).await.unwrap().is_empty());
    assert_eq!(retry().await.unwrap(), 0, "it is due already");

    let (_, grant) = stored(&store, &suspect).await;
    assert_eq!((grant.last_failure.as_deref(), grant.failures), (Some("suspect_incident"), 1), "its past is kept");
    assert!(is_armed(&store.arm(&suspect, grant.version, &lease(&boot(), 90), NOW).await.unwrap()));
    store.retry(&rows[0].0.provider, "suspect_incident", NOW).await.unwrap();
    assert!(store.due(&provider("github"), NOW, 9).await.unwrap().is_empty(), "it is under way");
}
