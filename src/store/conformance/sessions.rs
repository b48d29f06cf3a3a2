//! What the broker relies on about connect sessions.

use std::time::Duration;

use super::Any;
use super::fixtures::{
    NOW, account, alice, bob, connection, content, later, opening, pending, scopes, session, waiting,
};
use crate::model::id::{ConnectId, ConnectionId, SlotName};
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::store::records::{Confirmed, ConfirmedConnection};

pub(super) async fn a_session_is_kept_as_it_was_made(store: Any) {
    let mut made = session(&alice());
    made.reconnect = Some(ConnectionId::random());
    store.put_session(&made).await.unwrap();
    assert_eq!(store.session(&made.id).await.unwrap(), Some(made));

    let mut bare = session(&alice());
    bare.purpose = None;
    bare.scopes = scopes("");
    store.put_session(&bare).await.unwrap();
    assert_eq!(store.session(&bare.id).await.unwrap(), Some(bare));
    assert_eq!(store.session(&ConnectId::random()).await.unwrap(), None);
}

pub(super) async fn of_fifty_who_take_an_opening_one_gets_it(store: Any) {
    let (session, opening) = (session(&alice()), opening());
    store.put_session(&session).await.unwrap();
    assert!(store.open_session(&session.id, &opening, NOW).await.unwrap());

    let takers: Vec<_> = (0..50)
        .map(|_| {
            let (store, state) = (store.clone(), opening.state);
            tokio::spawn(async move { store.take_opening(&state).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }
    let [(of, found)] = taken.as_slice() else {
        panic!("{} took it", taken.len());
    };
    assert_eq!((of.id.clone(), of.progress.clone()), (session.id, Progress::Opened));
    assert_eq!(found.state, opening.state);
    assert_eq!(found.browser, opening.browser);
    assert_eq!(found.verifier, opening.verifier);
    assert_eq!(found.nonce, opening.nonce);
    assert_eq!(found.redirect_uri, opening.redirect_uri);
    assert_eq!(found.token_endpoint, opening.token_endpoint);
}

pub(super) async fn a_second_opening_replaces_the_first(store: Any) {
    let (session, earlier, later) = (session(&alice()), opening(), opening());
    store.put_session(&session).await.unwrap();
    assert!(store.open_session(&session.id, &earlier, NOW).await.unwrap());
    assert!(store.open_session(&session.id, &later, NOW).await.unwrap());
    assert!(store.take_opening(&earlier.state).await.unwrap().is_none());
    assert!(store.take_opening(&later.state).await.unwrap().is_some());
}

pub(super) async fn an_ended_or_expired_session_does_not_open(store: Any) {
    let (ended, expired, waits) = (session(&alice()), session(&alice()), session(&alice()));
    let opened = opening();
    store.put_session(&ended).await.unwrap();
    assert!(store.open_session(&ended.id, &opened, NOW).await.unwrap());
    store.fail_session(&ended.id, ConnectFailure::Cancelled, NOW).await.unwrap();
    assert!(!store.open_session(&ended.id, &opening(), NOW).await.unwrap());
    assert!(store.take_opening(&opened.state).await.unwrap().is_none(), "what was opened is void");

    store.put_session(&expired).await.unwrap();
    assert!(!store.open_session(&expired.id, &opening(), expired.expires_at).await.unwrap());

    waiting(store.as_ref(), &waits, "1").await;
    assert!(!store.open_session(&waits.id, &opening(), NOW).await.unwrap());
    assert!(!store.open_session(&ConnectId::random(), &opening(), NOW).await.unwrap());
}

pub(super) async fn the_same_request_finds_the_same_session(store: Any) {
    let made = session(&alice());
    store.put_session(&made).await.unwrap();
    let same = |like: ConnectSession, now| {
        let store = store.clone();
        async move { store.same_session(&like, now).await.unwrap().map(|found| found.id) }
    };
    assert_eq!(same(session(&alice()), NOW).await, Some(made.id.clone()));

    let like = || session(&alice());
    let others = [
        session(&bob()),
        ConnectSession { caller: "other".parse().unwrap(), ..like() },
        ConnectSession { provider: "slack".parse().unwrap(), ..like() },
        ConnectSession { scopes: scopes("repo"), ..like() },
        ConnectSession { reconnect: Some(ConnectionId::random()), ..like() },
    ];
    for other in others {
        assert_eq!(same(other.clone(), NOW).await, None, "{other:?}");
    }
    assert_eq!(same(like(), made.expires_at).await, None, "expired");

    let newer = ConnectSession { created_at: later(1), ..like() };
    store.put_session(&newer).await.unwrap();
    assert_eq!(same(like(), NOW).await, Some(newer.id.clone()), "the latest");
    store.fail_session(&newer.id, ConnectFailure::Denied, NOW).await.unwrap();
    assert_eq!(same(like(), NOW).await, Some(made.id.clone()), "not one that has ended");
    assert!(store.open_session(&made.id, &opening(), NOW).await.unwrap());
    assert_eq!(same(like(), NOW).await, Some(made.id.clone()), "whoever presses the button again takes it over");
    assert!(store.await_confirmation(&made.id, &pending("1"), NOW).await.unwrap());
    assert_eq!(same(like(), NOW).await, None, "it belongs to one browser, which may be gone");
}

pub(super) async fn only_open_sessions_of_the_subject_count(store: Any) {
    let sessions = [session(&alice()), session(&alice()), session(&bob())];
    for session in &sessions {
        store.put_session(session).await.unwrap();
    }
    assert_eq!(store.open_sessions(&alice(), NOW).await.unwrap(), 2);
    store.fail_session(&sessions[0].id, ConnectFailure::Denied, NOW).await.unwrap();
    assert_eq!(store.open_sessions(&alice(), NOW).await.unwrap(), 1);
    assert_eq!(store.open_sessions(&alice(), sessions[1].expires_at).await.unwrap(), 0);
}

pub(super) async fn an_opened_session_awaits_confirmation_once(store: Any) {
    let (session, pending, opened) = (session(&alice()), pending("583231"), opening());
    store.put_session(&session).await.unwrap();
    assert!(!store.await_confirmation(&session.id, &pending, NOW).await.unwrap(), "not opened");
    assert!(store.open_session(&session.id, &opened, NOW).await.unwrap());
    assert!(!store.await_confirmation(&session.id, &pending, session.expires_at).await.unwrap());
    assert!(store.pending(&session.id).await.unwrap().is_none());

    assert!(store.await_confirmation(&session.id, &pending, NOW).await.unwrap());
    assert!(!store.await_confirmation(&session.id, &pending, NOW).await.unwrap(), "twice");
    assert!(store.take_opening(&opened.state).await.unwrap().is_none(), "other openings are void");

    let progress = store.session(&session.id).await.unwrap().unwrap().progress;
    assert_eq!(progress, Progress::AwaitingConfirmation { account: account("583231"), granted: scopes("repo") });
    let held = store.pending(&session.id).await.unwrap().unwrap();
    assert_eq!((held.account, held.granted, held.browser), (pending.account, pending.granted, pending.browser));
    let slots: Vec<_> = held.grants.iter().map(|grant| grant.slot.as_str()).collect();
    assert_eq!(slots, ["bot", "user"]);
    let (held, given) = (&held.grants[1], &pending.grants[0]);
    assert_eq!((&held.access, &held.refresh, &held.scopes), (&given.access, &given.refresh, &given.scopes));
    assert_eq!((held.issued_at, held.expires_at, held.refresh_expires_at), (NOW, Some(later(3600)), None));
}

pub(super) async fn a_failed_session_gives_back_what_it_held_once(store: Any) {
    let (plain, holding) = (session(&alice()), session(&alice()));
    store.put_session(&plain).await.unwrap();
    waiting(store.as_ref(), &holding, "583231").await;

    let fail = |id: ConnectId| {
        let store = store.clone();
        async move { store.fail_session(&id, ConnectFailure::Denied, NOW).await.unwrap() }
    };
    assert!(matches!(fail(plain.id.clone()).await, Some(None)));
    let held = fail(holding.id.clone()).await.unwrap().unwrap().grants;
    assert_eq!(held.len(), 2);
    let of = |slot: &str| held.iter().filter(|grant| grant.slot.as_str() == slot).cloned().collect::<Vec<_>>();
    assert!(fail(holding.id.clone()).await.is_none(), "ended before");
    assert!(fail(ConnectId::random()).await.is_none(), "not there");
    assert!(store.pending(&holding.id).await.unwrap().is_none());

    let left = async || {
        let unreturned = store.unreturned().await.unwrap();
        unreturned.into_iter().map(|(session, grants)| (session.id, grants.len())).collect::<Vec<_>>()
    };
    assert_eq!(left().await, [(holding.id.clone(), 2)]);
    store.forget_pending(&holding.id, &of("bot")).await.unwrap();
    assert_eq!(left().await, [(holding.id.clone(), 1)]);
    assert_eq!(store.prune_sessions(later(1)).await.unwrap(), 1, "not the one that holds something");
    store.forget_pending(&holding.id, &of("user")).await.unwrap();
    assert_eq!(left().await, []);
    assert_eq!(store.session(&holding.id).await.unwrap().unwrap().progress, Progress::Failed(ConnectFailure::Denied));
}

pub(super) async fn what_a_session_cannot_hold_is_kept_until_it_is_given_back(store: Any) {
    let (failing, waits) = (session(&alice()), session(&alice()));
    store.put_session(&failing).await.unwrap();
    waiting(store.as_ref(), &waits, "583231").await;
    let [first, second] = ["1", "2"].map(|id| pending(id).grants);
    let left = async |id: &ConnectId| {
        let unreturned = store.unreturned().await.unwrap();
        let found = unreturned.into_iter().find(|(session, _)| session.id == *id);
        found.map(|(_, grants)| grants).unwrap_or_default()
    };
    assert!(left(&waits.id).await.is_empty(), "what waits for a person is not given back");
    assert!(store.keep_unwanted(&ConnectId::random(), &first).await.is_err(), "not there");

    // Of a session that has not ended, beside what it holds itself, and twice the same slot.
    for grants in [&first, &second] {
        store.keep_unwanted(&waits.id, grants).await.unwrap();
    }
    assert_eq!(left(&waits.id).await.len(), 4);
    assert_eq!(store.pending(&waits.id).await.unwrap().unwrap().grants.len(), 2);
    store.forget_pending(&waits.id, &store.pending(&waits.id).await.unwrap().unwrap().grants).await.unwrap();
    assert_eq!(store.pending(&waits.id).await.unwrap().unwrap().grants.len(), 2, "a person may still want it");
    store.forget_pending(&waits.id, &first).await.unwrap();
    let rest = left(&waits.id).await;
    assert!(rest.len() == 2 && rest.iter().all(|kept| second.iter().any(|grant| grant.is_same(kept))));

    // It is still there when the session has become a connection, and when it has failed.
    let confirmed = ConfirmedConnection {
        session: waits.id.clone(),
        connection: connection(&alice(), "github", "583231"),
        replaces: None,
        grants: vec![(SlotName::main(), content(None))],
    };
    assert!(matches!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes));
    assert_eq!(left(&waits.id).await.len(), 2);
    assert_eq!(store.prune_sessions(later(1)).await.unwrap(), 0, "not while it holds something");
    store.forget_pending(&waits.id, &second).await.unwrap();
    assert_eq!(store.prune_sessions(later(1)).await.unwrap(), 1);

    store.keep_unwanted(&failing.id, &first).await.unwrap();
    store.fail_session(&failing.id, ConnectFailure::Identity, NOW).await.unwrap();
    store.keep_unwanted(&failing.id, &second).await.unwrap();
    assert_eq!(left(&failing.id).await.len(), 4);
    for grants in [&first, &second] {
        store.forget_pending(&failing.id, grants).await.unwrap();
    }
    assert!(store.unreturned().await.unwrap().is_empty());
}

pub(super) async fn every_failure_is_kept_as_it_is(store: Any) {
    for failure in ConnectFailure::ALL {
        let session = session(&alice());
        store.put_session(&session).await.unwrap();
        store.fail_session(&session.id, failure, NOW).await.unwrap();
        let progress = store.session(&session.id).await.unwrap().unwrap().progress;
        assert_eq!(progress, Progress::Failed(failure));
    }
}

pub(super) async fn overdue_sessions_are_found_and_ended_ones_pruned(store: Any) {
    let mut sessions = [session(&alice()), session(&alice()), session(&alice())];
    sessions[0].expires_at = later(20);
    sessions[1].expires_at = later(10);
    for session in &sessions {
        store.put_session(session).await.unwrap();
    }
    assert!(store.overdue_sessions(NOW).await.unwrap().is_empty());
    let overdue = store.overdue_sessions(later(20)).await.unwrap();
    assert_eq!(overdue, [sessions[1].id.clone(), sessions[0].id.clone()]);

    store.fail_session(&sessions[0].id, ConnectFailure::Expired, later(30)).await.unwrap();
    assert_eq!(store.overdue_sessions(later(20)).await.unwrap(), [sessions[1].id.clone()]);
    assert_eq!(store.prune_sessions(later(30)).await.unwrap(), 0, "not before");
    assert_eq!(store.prune_sessions(later(30).after(Duration::from_millis(1))).await.unwrap(), 1);
    assert!(store.session(&sessions[0].id).await.unwrap().is_none());
    assert!(store.session(&sessions[1].id).await.unwrap().is_some(), "it has not ended");
}

pub(super) async fn an_opening_can_be_looked_at_without_being_taken(store: Any) {
    let (session, opened) = (session(&alice()), opening());
    store.put_session(&session).await.unwrap();
    assert!(store.opening(&session.id).await.unwrap().is_none());
    assert!(store.open_session(&session.id, &opened, NOW).await.unwrap());
    for _ in 0..2 {
        assert_eq!(store.opening(&session.id).await.unwrap().unwrap().state, opened.state);
    }
    assert!(store.opening(&ConnectId::random()).await.unwrap().is_none());
    assert!(store.take_opening(&opened.state).await.unwrap().is_some());
    assert!(store.opening(&session.id).await.unwrap().is_none());
}
