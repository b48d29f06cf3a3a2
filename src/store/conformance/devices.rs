//! What the broker relies on about sessions that go on by a device flow.

use super::Any;
use super::fixtures::{NOW, alice, device_opening, opening, pending, session};
use crate::model::id::ConnectId;
use crate::model::session::{ConnectFailure, ConnectSession, Progress};

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

pub(super) async fn an_ended_session_forgets_its_device_code(store: Any) {
    let made = session(&alice());
    store.put_device_session(&made, &device_opening()).await.unwrap();
    assert!(store.fail_session(&made.id, ConnectFailure::Cancelled, NOW).await.unwrap().is_some());
    assert!(store.device_opening(&made.id).await.unwrap().is_none());
    assert!(!store.await_confirmation(&made.id, &pending("1"), NOW).await.unwrap());
}
