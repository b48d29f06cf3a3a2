//! What the broker relies on about sessions that go on by a device flow.

use super::Any;
use super::fixtures::{
    NOW, alice, confirmation, connection, content, device_opening, first, key, later, opening, pending, sealed, session,
};
use crate::model::connection::Connection;
use crate::model::grant_type::GrantType;
use crate::model::id::{ConnectId, Epoch, SlotName};
use crate::model::session::{ConnectFailure, ConnectSession, Progress};
use crate::store::records::{Confirmed, ConfirmedConnection, DeviceAnswer, Extent, Replaced};

pub(super) async fn a_device_flow_is_kept_as_it_was_made_until_the_session_moves_on(store: Any) {
    let (made, device) = (session(&alice()), device_opening());
    store.put_session(&session(&alice())).await.unwrap();
    store.put_device_session(&made, &device).await.unwrap();
    let opened = ConnectSession { progress: Progress::Opened, ..made.clone() };
    assert_eq!(store.session(&made.id).await.unwrap(), Some(opened.clone()));

    let all = store.device_sessions().await.unwrap();
    let [(session, kept)] = all.as_slice() else { panic!("{} of them", all.len()) };
    assert_eq!(*session, opened);
    assert_eq!((&kept.code, kept.browser), (&device.code, device.browser));
    assert_eq!((&kept.token_endpoint, kept.interval), (&device.token_endpoint, device.interval));
    assert_eq!(kept.expires_at, device.expires_at);
    assert!(store.device_opening(&made.id).await.unwrap().is_some());
    assert!(store.device_opening(&ConnectId::random()).await.unwrap().is_none());

    assert!(store.await_confirmation(&made.id, &pending("1"), NOW).await.unwrap());
    assert!(store.device_opening(&made.id).await.unwrap().is_none(), "it has done its work");
    assert!(store.device_sessions().await.unwrap().is_empty());
}

pub(super) async fn a_device_flow_is_nobody_elses_session_and_opens_no_other_way(store: Any) {
    let made = session(&alice());
    store.put_device_session(&made, &device_opening()).await.unwrap();
    assert_eq!(store.same_session(&session(&alice()), NOW).await.unwrap(), None);
    assert!(!store.open_session(&made.id, &opening(), NOW).await.unwrap());
    assert_eq!(store.open_sessions(&alice(), NOW).await.unwrap(), 1, "it counts like any other");
}

pub(super) async fn what_a_code_brought_is_kept_until_the_session_moves_on_or_ends(store: Any) {
    let (made, ended) = (session(&alice()), session(&alice()));
    for made in [&made, &ended] {
        store.put_device_session(made, &device_opening()).await.unwrap();
        let answer = DeviceAnswer { body: sealed(), sent_at: later(7) };
        assert!(store.keep_device_answer(&made.id, &answer).await.unwrap());
        let kept = store.device_opening(&made.id).await.unwrap().unwrap().answer.unwrap();
        assert_eq!((kept.body, kept.sent_at), (answer.body, later(7)));
    }
    let all = store.device_sessions().await.unwrap();
    assert_eq!(all.iter().filter(|(_, opening)| opening.answer.is_some()).count(), 2);
    assert!(store.await_confirmation(&made.id, &pending("1"), NOW).await.unwrap());
    store.fail_session(&ended.id, ConnectFailure::Cancelled, NOW).await.unwrap();
    assert!(store.device_sessions().await.unwrap().is_empty());
    let late = DeviceAnswer { body: sealed(), sent_at: NOW };
    for gone in [&made.id, &ended.id, &ConnectId::random()] {
        assert!(!store.keep_device_answer(gone, &late).await.unwrap());
    }
}

pub(super) async fn an_ended_session_forgets_its_device_code(store: Any) {
    let made = session(&alice());
    store.put_device_session(&made, &device_opening()).await.unwrap();
    assert!(store.fail_session(&made.id, ConnectFailure::Cancelled, NOW).await.unwrap().is_some());
    assert!(store.device_opening(&made.id).await.unwrap().is_none());
    assert!(!store.await_confirmation(&made.id, &pending("1"), NOW).await.unwrap());
}

pub(super) async fn a_grant_stays_of_the_type_of_its_consent(store: Any) {
    let asked = ConnectSession { grant_type: GrantType::DeviceCode, ..session(&alice()) };
    store.put_device_session(&asked, &device_opening()).await.unwrap();
    assert!(store.await_confirmation(&asked.id, &pending("1"), NOW).await.unwrap());
    assert_eq!(store.session(&asked.id).await.unwrap().unwrap().grant_type, GrantType::DeviceCode);
    let made = Connection { grant_type: GrantType::DeviceCode, ..connection(&alice(), "github", "1") };
    let confirmed = ConfirmedConnection {
        session: asked.id,
        connection: made.clone(),
        replaces: None,
        grants: vec![(SlotName::main(), content(None))],
    };
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    let replaced = store.replace_grant(&key(&made), first(&made), &content(Some(later(1)))).await.unwrap();
    assert!(matches!(replaced, Replaced::Yes { .. }));
    let (renewed, _) = store.grant(&key(&made)).await.unwrap().unwrap();
    assert_eq!(renewed.grant_type, GrantType::DeviceCode);

    let again = Connection { epoch: Epoch(2), grant_type: GrantType::AuthorizationCode, ..made.clone() };
    let confirmed = confirmation(store.as_ref(), &again, Some(Epoch(1)), None).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    let (reconnected, _) = store.grant(&key(&made)).await.unwrap().unwrap();
    assert_eq!(reconnected.grant_type, GrantType::AuthorizationCode, "the new consent came in another way");

    let third = Connection { epoch: Epoch(3), grant_type: GrantType::DeviceCode, ..made.clone() };
    let confirmed = confirmation(store.as_ref(), &third, Some(Epoch(2)), None).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    store.revoke(&made.id, Extent::Alone, NOW).await.unwrap().unwrap();
    let [unfinished] = &store.unfinished_revocations().await.unwrap()[..] else { panic!("there is one") };
    assert_eq!(unfinished.ended.connection.grant_type, GrantType::DeviceCode, "it may have to be renewed once more");
}

pub(super) async fn what_nobody_confirmed_keeps_the_type_of_its_session(store: Any) {
    let asked = ConnectSession { grant_type: GrantType::DeviceCode, ..session(&alice()) };
    store.put_device_session(&asked, &device_opening()).await.unwrap();
    assert!(store.await_confirmation(&asked.id, &pending("1"), NOW).await.unwrap());
    store.fail_session(&asked.id, ConnectFailure::Denied, NOW).await.unwrap();
    let [(left, _)] = &store.unreturned().await.unwrap()[..] else { panic!("there is one") };
    assert_eq!(left.grant_type, GrantType::DeviceCode);
}
