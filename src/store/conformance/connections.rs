//! What the broker relies on about the installation and about connections.

use super::Any;
use super::fixtures::{
    NOW, account, alice, bob, confirmation, connect, connected, connection, content, first, key, later, provider,
    scopes, session, waiting,
};
use crate::model::claims::Claims;
use crate::model::connection::{Connection, ReconnectReason, State};
use crate::model::id::{ConnectionId, Epoch, InstanceId, SlotName};
use crate::model::session::{ConnectFailure, Progress};
use crate::store::StoreError;
use crate::store::records::{
    Confirmed, ConfirmedConnection, Extent, Failure, Installation, Replaced, StoredConnection,
};

fn ids(stored: &[StoredConnection]) -> Vec<&ConnectionId> {
    stored.iter().map(|stored| &stored.connection.id).collect()
}

pub(super) async fn a_store_belongs_to_whoever_installs_first(store: Any) {
    assert!(store.installation().await.unwrap().is_none());
    let installations =
        [vec![1; 200], vec![2; 200]].map(|keyring| Installation { instance: InstanceId::random(), keyring });
    let [first, second] = &installations;
    assert!(store.install(first.clone()).await.unwrap());
    assert!(!store.install(second.clone()).await.unwrap());
    let found = store.installation().await.unwrap().unwrap();
    assert_eq!((&found.instance, &found.keyring), (&first.instance, &first.keyring));
    assert_eq!(store.instance().await.unwrap().as_ref(), Some(&first.instance));
}

pub(super) async fn a_confirmation_makes_a_connection_and_ends_the_session(store: Any) {
    let made = connection(&alice(), "github", "583231");
    let confirmed = confirmation(store.as_ref(), &made, None, Some(later(60))).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);

    let stored = store.connection(&made.id).await.unwrap().unwrap();
    assert_eq!(stored.connection, made);
    let [grant] = stored.grants.as_slice() else { panic!("one grant") };
    let given = &confirmed.grants[0].1;
    assert_eq!((&grant.slot, grant.version), (&SlotName::main(), first(&made)));
    assert_eq!((grant.lease.as_ref(), grant.failures, grant.last_failure.as_ref()), (None, 0, None));
    assert_eq!(grant.content.token_id, given.token_id);
    assert_eq!((&grant.content.access, &grant.content.refresh), (&given.access, &given.refresh));
    assert_eq!(grant.content.scopes, given.scopes);
    assert_eq!((grant.content.issued_at, grant.content.expires_at), (given.issued_at, given.expires_at));
    assert_eq!(grant.content.refresh_expires_at, given.refresh_expires_at);
    assert_eq!(grant.content.renew_at, given.renew_at);

    let progress = store.session(&confirmed.session).await.unwrap().unwrap().progress;
    assert_eq!(progress, Progress::Completed { connection: made.id, account: made.account });
    assert!(store.pending(&confirmed.session).await.unwrap().is_none());
}

pub(super) async fn only_a_waiting_session_can_be_confirmed(store: Any) {
    let made = connection(&alice(), "github", "583231");
    let (fresh, failed, late) = (session(&alice()), session(&alice()), session(&alice()));
    store.put_session(&fresh).await.unwrap();
    waiting(store.as_ref(), &failed, "583231").await;
    store.fail_session(&failed.id, ConnectFailure::Denied, NOW).await.unwrap();
    waiting(store.as_ref(), &late, "583231").await;
    for (session, now) in [(&fresh, NOW), (&failed, NOW), (&late, late.expires_at)] {
        let confirmed = ConfirmedConnection {
            session: session.id.clone(),
            connection: made.clone(),
            replaces: None,
            grants: vec![(SlotName::main(), content(None))],
        };
        assert_eq!(store.confirm(&confirmed, now).await.unwrap(), Confirmed::NotWaiting);
    }
    assert!(store.connection(&made.id).await.unwrap().is_none());

    let confirmed = confirmation(store.as_ref(), &made, None, None).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::NotWaiting, "twice");
}

pub(super) async fn a_confirmation_of_something_older_is_stale_and_changes_nothing(store: Any) {
    let made = connected(store.as_ref()).await;
    let reconnected = |epoch| Connection { epoch: Epoch(epoch), account: account("another"), ..made.clone() };
    let gone = connection(&alice(), "github", "77");
    for (connection, replaces) in [
        (reconnected(1), Some(Epoch(0))),
        (reconnected(3), Some(Epoch(2))),
        (reconnected(1), None),
        (gone, Some(Epoch(1))),
        (Connection { subject: bob(), ..reconnected(2) }, Some(Epoch(1))),
    ] {
        let confirmed = confirmation(store.as_ref(), &connection, replaces, None).await;
        assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Stale, "{replaces:?}");
        let session = store.session(&confirmed.session).await.unwrap().unwrap();
        assert!(!session.progress.is_final(), "it can be confirmed after reading again");
        assert!(store.pending(&confirmed.session).await.unwrap().is_some());
    }
    let stored = store.connection(&made.id).await.unwrap().unwrap();
    assert_eq!((&stored.connection, stored.grants.len()), (&made, 1));
}

pub(super) async fn a_reconnect_replaces_the_grants_and_keeps_the_name(store: Any) {
    let made = connected(store.as_ref()).await;
    let again = Connection {
        epoch: Epoch(2),
        account: account("583231-renamed"),
        scopes: scopes("repo gist"),
        created_at: later(5),
        ..made.clone()
    };
    let mut confirmed = confirmation(store.as_ref(), &again, Some(Epoch(1)), None).await;
    confirmed.grants = ["user", "bot"].map(|slot| (slot.parse().unwrap(), content(None))).into();
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);

    let stored = store.connection(&made.id).await.unwrap().unwrap();
    let expected = Connection { created_at: made.created_at, ..again };
    assert_eq!(stored.connection, expected);
    let grants: Vec<_> = stored.grants.iter().map(|grant| (grant.slot.as_str(), grant.version)).collect();
    assert_eq!(grants, [("bot", first(&expected)), ("user", first(&expected))]);
}

pub(super) async fn one_subject_has_one_connection_for_an_account_until_it_is_revoked(store: Any) {
    let made = connected(store.as_ref()).await;
    let second = connection(&alice(), "github", "583231");
    let confirmed = confirmation(store.as_ref(), &second, None, None).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Stale);

    let other = connection(&alice(), "github", "other");
    connect(store.as_ref(), &other, None).await;
    let onto_the_first = Connection { epoch: Epoch(2), account: made.account.clone(), ..other.clone() };
    let moved = confirmation(store.as_ref(), &onto_the_first, Some(Epoch(1)), None).await;
    assert_eq!(store.confirm(&moved, NOW).await.unwrap(), Confirmed::Stale);

    connect(store.as_ref(), &connection(&bob(), "github", "583231"), None).await;
    connect(store.as_ref(), &connection(&alice(), "github-work", "583231"), None).await;
    store.revoke(&made.id, Extent::Alone, NOW).await.unwrap();
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
}

pub(super) async fn connections_are_listed_by_age_and_only_the_subjects_own(store: Any) {
    let at = |account: &str, name: &str, age: u64| Connection {
        created_at: later(100 - age),
        ..connection(&alice(), name, account)
    };
    let (young, old, slack) = (at("1", "github", 1), at("2", "github", 9), at("3", "slack", 20));
    for made in [&young, &old, &slack, &connection(&bob(), "github", "1")] {
        connect(store.as_ref(), made, None).await;
    }
    let github = store.connections_at(&alice(), &provider("github")).await.unwrap();
    assert_eq!(ids(&github), [&old.id, &young.id]);
    assert_eq!(github[0].grants.len(), 1);
    let all = store.connections_of(&alice()).await.unwrap();
    assert_eq!(ids(&all), [&old.id, &young.id, &slack.id]);

    store.revoke(&old.id, Extent::Alone, NOW).await.unwrap();
    assert_eq!(ids(&store.connections_at(&alice(), &provider("github")).await.unwrap()), [&young.id]);
    assert_eq!(ids(&store.connections_of(&alice()).await.unwrap()), [&young.id, &slack.id]);
}

pub(super) async fn pages_cover_everything_once(store: Any) {
    let mut expected = Vec::new();
    for number in 0..7 {
        let made = connection(&alice(), "github", &number.to_string());
        connect(store.as_ref(), &made, None).await;
        expected.push(made.id);
    }
    store.revoke(&expected.remove(3), Extent::Alone, NOW).await.unwrap();
    expected.sort();
    let mut seen: Vec<ConnectionId> = Vec::new();
    loop {
        let page = store.connections(seen.last(), 4).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 4);
        seen.extend(page.into_iter().map(|stored| stored.connection.id));
    }
    assert_eq!(seen, expected);
}

pub(super) async fn revoking_happens_once_and_ends_everything(store: Any) {
    let made = connected(store.as_ref()).await;
    let revoked = store.revoke(&made.id, Extent::Alone, NOW).await.unwrap().unwrap();
    assert_eq!((&revoked.connection.state, revoked.connection.epoch), (&State::Revoked, Epoch(2)));
    assert_eq!(revoked.grants[0].version, first(&made), "as they were, to be opened once more");
    assert!(store.revoke(&made.id, Extent::Alone, NOW).await.unwrap().is_none());
    assert!(store.revoke(&ConnectionId::random(), Extent::Alone, NOW).await.unwrap().is_none());
    let stored = store.connection(&made.id).await.unwrap().unwrap();
    assert_eq!((stored.connection, stored.grants.len()), (revoked.connection, 1));
}

pub(super) async fn a_revocation_is_unfinished_until_the_grants_are_forgotten(store: Any) {
    let made = connected(store.as_ref()).await;
    store.forget_grants(&made.id, &[SlotName::main()]).await.unwrap();
    assert!(store.grant(&key(&made)).await.unwrap().is_some(), "not while it serves");
    assert!(store.unfinished_revocations().await.unwrap().is_empty());

    store.revoke(&made.id, Extent::Alone, NOW).await.unwrap();
    let unfinished = store.unfinished_revocations().await.unwrap();
    assert_eq!((&unfinished[0].ended.connection.id, unfinished[0].ended.grants.len()), (&made.id, 1));
    store.forget_grants(&made.id, &[SlotName::main()]).await.unwrap();
    assert!(store.unfinished_revocations().await.unwrap().is_empty());
    assert!(store.grant(&key(&made)).await.unwrap().is_none());
    assert!(store.connection(&made.id).await.unwrap().unwrap().grants.is_empty());
}

pub(super) async fn a_closed_store_says_so(store: Any) {
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.probe(NOW).await, Err(StoreError::Busy(_))));
    assert!(matches!(store.installation().await, Err(StoreError::Busy(_))));
}

pub(super) async fn a_probe_succeeds_again_and_again(store: Any) {
    for seconds in 0..3 {
        store.probe(later(seconds)).await.unwrap();
    }
}

pub(super) async fn a_store_that_nothing_is_wrong_with_is_not_held(store: Any) {
    connected(store.as_ref()).await;
    assert_eq!(store.hold().await.unwrap(), None);
    assert!(!store.release_hold().await.unwrap(), "there is nothing to release");
}

pub(super) async fn a_challenge_is_kept_until_the_connection_serves_again(store: Any) {
    let made = connected(store.as_ref()).await;
    let challenge = |text: &str| Claims::new(text).unwrap();
    let kept = async || store.claims(&made.id).await.unwrap();
    assert_eq!(kept().await, None);
    store.keep_claims(&made.id, &challenge("{\"a\":1}")).await.unwrap();
    store.keep_claims(&made.id, &challenge("{\"b\":\"'; é\"}")).await.unwrap();
    assert_eq!(kept().await, Some(challenge("{\"b\":\"'; é\"}")));
    assert_eq!(store.claims(&ConnectionId::random()).await.unwrap(), None);

    let reason = ReconnectReason::UserAction;
    let state = State::NeedsReconnect(reason);
    let failure =
        Failure { class: "user_action", number: None, state, retry_at: None, uncertain: false, rejections: 1 };
    assert!(store.record_failure(&key(&made), first(&made), &failure).await.unwrap());
    assert!(kept().await.is_some(), "a failure is what it is kept for");

    let again = Connection { epoch: Epoch(2), ..made.clone() };
    let confirmed = confirmation(store.as_ref(), &again, Some(Epoch(1)), None).await;
    assert!(kept().await.is_some(), "nobody has confirmed yet");
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    assert_eq!(kept().await, None);

    store.keep_claims(&made.id, &challenge("{}")).await.unwrap();
    let late = Failure { state: State::NeedsReconnect(reason), ..failure };
    assert!(store.record_failure(&key(&again), first(&again), &late).await.unwrap());
    let replaced = store.replace_grant(&key(&again), first(&again), &content(None)).await.unwrap();
    assert!(matches!(replaced, Replaced::Yes { .. }));
    assert_eq!(kept().await, None, "a late success needs no person");
}
