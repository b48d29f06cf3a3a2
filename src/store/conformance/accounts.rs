//! What the broker relies on about several accounts, and about how they end.

use super::Any;
use super::fixtures::{
    NOW, alice, bob, boot, confirmation, connect, connected, connection, content, first, is_armed, key, later, lease,
    slot_key,
};
use crate::model::connection::{Account, Connection};
use crate::model::id::{ConnectionId, Epoch, SlotName};
use crate::model::label::Label;
use crate::store::records::{Armed, Confirmed, Extent, Named, Naming, StoredConnection};

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn labelled(text: &str) -> Naming {
    Naming { label: Some(Some(label(text))), is_default: None }
}

fn default(is_default: bool) -> Naming {
    Naming { label: None, is_default: Some(is_default) }
}

async fn two(store: &Any) -> (Connection, Connection) {
    let made = [connection(&alice(), "github", "1"), connection(&alice(), "github", "2")];
    for made in &made {
        connect(store.as_ref(), made, None).await;
    }
    made.into()
}

async fn stored(store: &Any, id: &ConnectionId) -> Connection {
    store.connection(id).await.unwrap().unwrap().connection
}

pub(super) async fn a_label_belongs_to_one_account_and_can_be_given_away_again(store: Any) {
    let (one, other) = two(&store).await;
    let Named::Yes(named) = store.name(&one.id, &labelled("work")).await.unwrap() else { panic!("it is free") };
    assert_eq!(*named, Connection { label: Some(label("work")), ..one.clone() });
    assert_eq!(stored(&store, &one.id).await, *named);

    assert_eq!(store.name(&other.id, &labelled("work")).await.unwrap(), Named::Taken);
    assert_eq!(stored(&store, &other.id).await.label, None);
    assert!(matches!(store.name(&one.id, &labelled("work")).await.unwrap(), Named::Yes(_)), "it has it already");
    assert!(matches!(store.name(&other.id, &labelled("Work")).await.unwrap(), Named::Yes(_)), "compared exactly");
    let elsewhere = connection(&alice(), "slack", "1");
    connect(store.as_ref(), &elsewhere, None).await;
    assert!(matches!(store.name(&elsewhere.id, &labelled("work")).await.unwrap(), Named::Yes(_)));

    let nothing = Naming { label: Some(None), is_default: None };
    assert!(matches!(store.name(&one.id, &nothing).await.unwrap(), Named::Yes(named) if named.label.is_none()));
    assert!(matches!(store.name(&other.id, &labelled("work")).await.unwrap(), Named::Yes(_)));
    assert_eq!(store.name(&ConnectionId::random(), &labelled("x")).await.unwrap(), Named::Gone);
}

pub(super) async fn a_label_that_another_account_answers_to_is_taken(store: Any) {
    let account = |id: &str, name: &str| Account { id: id.into(), name: name.into() };
    let made =
        |at: &str, id: &str, name: &str| Connection { account: account(id, name), ..connection(&alice(), at, id) };
    let (one, other, elsewhere) =
        (made("github", "583231", "octocat"), made("github", "77", "hubot"), made("slack", "U1", "acme"));
    let foreign = Connection { account: account("9", "eve"), ..connection(&bob(), "github", "9") };
    for made in [&one, &other, &elsewhere, &foreign] {
        connect(store.as_ref(), made, None).await;
    }
    for (text, taken) in [
        ("hubot", true),
        ("77", true),
        ("acme", true),
        ("U1", true),
        ("octocat", false),
        ("583231", false),
        ("eve", false),
        ("Hubot", false),
    ] {
        let named = store.name(&one.id, &labelled(text)).await.unwrap();
        assert_eq!(named == Named::Taken, taken, "{text}");
    }
    store.revoke(&other.id, Extent::Alone, NOW).await.unwrap();
    assert!(matches!(store.name(&one.id, &labelled("hubot")).await.unwrap(), Named::Yes(_)));
}

pub(super) async fn one_account_is_the_default_at_most(store: Any) {
    let (one, other) = two(&store).await;
    let elsewhere = connection(&alice(), "slack", "1");
    let foreign = connection(&bob(), "github", "1");
    for made in [&elsewhere, &foreign] {
        connect(store.as_ref(), made, None).await;
        assert!(matches!(store.name(&made.id, &default(true)).await.unwrap(), Named::Yes(_)));
    }
    let defaults = async || {
        let mut defaults = Vec::new();
        for id in [&one.id, &other.id, &elsewhere.id, &foreign.id] {
            defaults.push(stored(&store, id).await.is_default);
        }
        defaults
    };
    for (named, is_default, expected) in [
        (&one, true, [true, false]),
        (&one, true, [true, false]),
        (&other, true, [false, true]),
        (&one, false, [false, true]),
        (&other, false, [false, false]),
    ] {
        let done = store.name(&named.id, &default(is_default)).await.unwrap();
        assert!(matches!(done, Named::Yes(named) if named.is_default == is_default));
        assert_eq!(defaults().await, [&expected[..], &[true, true]].concat());
    }
}

pub(super) async fn what_an_account_is_called_survives_a_reconnect_and_goes_with_a_revocation(store: Any) {
    let (one, other) = two(&store).await;
    let naming = Naming { label: Some(Some(label("work"))), is_default: Some(true) };
    assert!(matches!(store.name(&one.id, &naming).await.unwrap(), Named::Yes(_)));
    // Whoever confirms may have read it before it was named.
    let renamed = Account { name: "new name".into(), ..one.account.clone() };
    let again = Connection { epoch: Epoch(2), account: renamed.clone(), given_at: later(9), ..one.clone() };
    let confirmed = confirmation(store.as_ref(), &again, Some(Epoch(1)), None).await;
    assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
    let now = stored(&store, &one.id).await;
    assert_eq!((&now.label, now.is_default), (&Some(label("work")), true));
    assert_eq!((&now.account, now.given_at), (&renamed, later(9)));

    let ended = store.revoke(&one.id, Extent::Alone, NOW).await.unwrap().unwrap().connection;
    assert_eq!((&ended.label, ended.is_default), (&None, false));
    assert_eq!(stored(&store, &one.id).await, ended);
    assert_eq!(store.name(&one.id, &naming).await.unwrap(), Named::Gone);
    assert!(matches!(store.name(&other.id, &naming).await.unwrap(), Named::Yes(_)), "both are free again");
}

pub(super) async fn what_was_to_be_revoked_is_kept_until_every_grant_is_forgotten(store: Any) {
    let [bot, user]: [SlotName; 2] = ["bot", "user"].map(|slot| slot.parse().unwrap());
    for extent in [Extent::Alone, Extent::Wider] {
        let made = connection(&alice(), "slack", "U1");
        let mut confirmed = confirmation(store.as_ref(), &made, None, None).await;
        confirmed.grants = vec![(bot.clone(), content(None)), (user.clone(), content(None))];
        assert_eq!(store.confirm(&confirmed, NOW).await.unwrap(), Confirmed::Yes);
        store.revoke(&made.id, extent, NOW).await.unwrap().unwrap();

        let left = async || {
            let unfinished = store.unfinished_revocations().await.unwrap();
            let left = unfinished.iter().find(|unfinished| unfinished.ended.connection.id == made.id);
            left.map(|left| (left.extent, slots(&left.ended)))
        };
        assert_eq!(left().await, Some((extent, vec![bot.clone(), user.clone()])));
        store.forget_grants(&made.id, &[]).await.unwrap();
        assert_eq!(left().await, Some((extent, vec![bot.clone(), user.clone()])));
        store.forget_grants(&made.id, std::slice::from_ref(&bot)).await.unwrap();
        assert_eq!(left().await, Some((extent, vec![user.clone()])));
        store.forget_grants(&made.id, &[bot.clone(), user.clone()]).await.unwrap();
        assert_eq!(left().await, None);
    }
}

fn slots(stored: &StoredConnection) -> Vec<SlotName> {
    stored.grants.iter().map(|grant| grant.slot.clone()).collect()
}

pub(super) async fn the_last_refresh_of_a_revoked_grant_is_made_by_one(store: Any) {
    let made = connected(store.as_ref()).await;
    let (key, read, run) = (key(&made), first(&made), boot());
    let no_such_slot = slot_key(&made, "bot".parse().unwrap());
    let arm = async |key, read, lease, now| store.arm_last(key, read, &lease, now).await.unwrap();
    assert!(matches!(arm(&key, read, lease(&run, 60), NOW).await, Armed::Gone), "not while it serves");
    store.revoke(&made.id, Extent::Alone, NOW).await.unwrap();
    assert!(!is_armed(&store.arm(&key, read, &lease(&run, 60), NOW).await.unwrap()), "not to be kept");

    assert!(matches!(arm(&key, read.next(), lease(&run, 60), NOW).await, Armed::Moved));
    assert!(matches!(arm(&no_such_slot, read, lease(&run, 60), NOW).await, Armed::Gone));
    assert!(matches!(arm(&key, read, lease(&run, 60), NOW).await, Armed::Yes { recovery: false }));
    assert!(matches!(arm(&key, read, lease(&run, 60), later(1)).await, Armed::Held { .. }));
    store.disarm_last(&key, read.next()).await.unwrap();
    assert!(matches!(arm(&key, read, lease(&run, 60), later(1)).await, Armed::Held { .. }), "another version");
    store.disarm_last(&key, read).await.unwrap();
    assert!(matches!(arm(&key, read, lease(&run, 60), later(2)).await, Armed::Yes { recovery: false }));
    assert!(
        matches!(arm(&key, read, lease(&boot(), 60), later(3)).await, Armed::Yes { recovery: true }),
        "a dead run's"
    );
    assert!(store.due(&made.provider, later(9999), 9).await.unwrap().is_empty());
}
