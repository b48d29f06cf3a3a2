//! What the broker relies on when the wall clock was set back.

use std::time::Duration;

use super::Any;
use super::fixtures::{
    NOW, alice, boot, connect, connected, connection, content, first, is_armed, key, later, lease, provider,
};
use crate::model::connection::{Connection, ReconnectReason, State};
use crate::model::time::Timestamp;
use crate::store::records::{Failure, Grant, Replan, Setback};

const HOUR: Duration = Duration::from_secs(3600);
const SPREAD: Duration = Duration::from_secs(300);

fn plan(now: Timestamp) -> Replan {
    let after = |seconds| now.after(Duration::from_secs(seconds));
    Replan { now, believed_until: after(5), waits_until: now.after(HOUR), leased_until: after(90), spread: SPREAD }
}

async fn replan(store: &Any, now: Timestamp) -> usize {
    let changed = store.replan(&plan(now)).await.unwrap();
    let mut more = changed;
    while more > 0 {
        more = store.replan(&plan(now)).await.unwrap();
    }
    changed
}

async fn grant(store: &Any, made: &Connection) -> Grant {
    store.grant(&key(made)).await.unwrap().unwrap().1
}

fn is_soon(at: Timestamp, now: Timestamp) -> bool {
    at >= now && at <= now.after(SPREAD)
}

pub(super) async fn what_fits_the_clock_is_left_alone(store: Any) {
    let made = connected(store.as_ref()).await;
    assert!(is_armed(&store.arm(&key(&made), first(&made), &lease(&boot(), 90), NOW).await.unwrap()));
    let before = grant(&store, &made).await;
    for now in [NOW, later(60), later(10_000_000), NOW.before(Duration::from_secs(5))] {
        let plan = Replan { leased_until: later(90), ..plan(now) };
        assert_eq!(store.replan(&plan).await.unwrap(), 0, "{now:?}");
    }
    let after = grant(&store, &made).await;
    assert_eq!(after.lease, before.lease);
    assert_eq!(
        (after.content.issued_at, after.content.expires_at, after.content.renew_at),
        (before.content.issued_at, before.content.expires_at, before.content.renew_at)
    );
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(later(1800)));
}

pub(super) async fn what_was_issued_in_the_future_is_dead_and_due_soon(store: Any) {
    let made = connected(store.as_ref()).await;
    for back in [HOUR, HOUR * 24 * 3650] {
        let now = NOW.before(back);
        assert_eq!(replan(&store, now).await, 1);
        let changed = grant(&store, &made).await;
        assert_eq!((changed.content.issued_at, changed.content.expires_at), (now, Some(now)));
        let renew_at = changed.content.renew_at.unwrap();
        assert!(is_soon(renew_at, now), "{renew_at:?}");
        assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(renew_at));
        assert_eq!(changed.version, first(&made));
        assert_eq!(changed.content.refresh_expires_at, content(None).refresh_expires_at);
    }
}

pub(super) async fn what_was_put_off_by_another_clock_comes_soon(store: Any) {
    let made = connected(store.as_ref()).await;
    let put_off = Failure {
        class: "provider_down",
        number: None,
        state: State::RefreshFailed,
        retry_at: Some(later(7200)),
        uncertain: false,
        rejections: 0,
    };
    assert!(store.record_failure(&key(&made), first(&made), &put_off).await.unwrap());
    assert_eq!(replan(&store, later(3600)).await, 0);
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), Some(later(7200)));
    assert_eq!(replan(&store, later(3599)).await, 1);
    let changed = grant(&store, &made).await;
    assert!(is_soon(changed.content.renew_at.unwrap(), later(3599)));
    assert_eq!((changed.content.issued_at, changed.content.expires_at), (NOW, Some(later(3600))));
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), changed.content.renew_at);
}

pub(super) async fn a_lease_of_another_clock_ends(store: Any) {
    let made = connected(store.as_ref()).await;
    let boot = boot();
    assert!(is_armed(&store.arm(&key(&made), first(&made), &lease(&boot, 90), NOW).await.unwrap()));
    let now = NOW.before(HOUR);
    assert_eq!(replan(&store, now).await.min(1), 1);
    let until = now.after(Duration::from_secs(90));
    assert_eq!(grant(&store, &made).await.lease.unwrap().until, until);
    assert!(store.due(&provider("github"), now, 1).await.unwrap().is_empty());
    assert_eq!(store.due(&provider("github"), now.after(SPREAD), 1).await.unwrap(), [key(&made)]);
}

pub(super) async fn what_is_not_scheduled_stays_so(store: Any) {
    let (endless, lost) = (connection(&alice(), "github", "1"), connection(&alice(), "github", "2"));
    connect(store.as_ref(), &endless, None).await;
    connect(store.as_ref(), &lost, Some(later(1800))).await;
    let state = State::NeedsReconnect(ReconnectReason::UserAction);
    let dead = Failure { class: "rejected", number: None, state, retry_at: None, uncertain: false, rejections: 0 };
    assert!(store.record_failure(&key(&lost), first(&lost), &dead).await.unwrap());
    replan(&store, NOW.before(HOUR)).await;
    for made in [&endless, &lost] {
        assert_eq!(grant(&store, made).await.content.renew_at, None);
    }
    assert_eq!(store.next_due(&provider("github")).await.unwrap(), None);
}

pub(super) async fn many_are_spread_out_and_none_is_left(store: Any) {
    for account in 0..50 {
        connect(store.as_ref(), &connection(&alice(), "github", &account.to_string()), Some(later(1800))).await;
    }
    let now = NOW.before(HOUR);
    assert_eq!(replan(&store, now).await, 50);
    let stored = store.connections_at(&alice(), &provider("github")).await.unwrap();
    let mut times: Vec<_> = stored.iter().map(|stored| stored.grants[0].content.renew_at.unwrap()).collect();
    assert!(times.iter().all(|at| is_soon(*at, now)), "{times:?}");
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 50);
}

pub(super) async fn a_setback_is_noted_until_it_is_made_good(store: Any) {
    assert_eq!(store.setback().await.unwrap(), None);
    let hour = Setback { until: NOW, by: HOUR };
    for noted in [Some(hour), Some(Setback { until: later(60), by: 2 * HOUR }), None] {
        store.note_setback(noted).await.unwrap();
        assert_eq!(store.setback().await.unwrap(), noted);
    }
}
