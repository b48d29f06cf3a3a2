//! A provider that refuses our client and a dead grant in the same words: one dead grant costs the others nothing, and a wrong
//! secret costs nobody a connection.

use std::time::Duration;

use grantd::sandbox::browser::Browser;
use grantd::sandbox::{DEFAULT_SECRET, Fault, Options, What, When};
use serde_json::json;
use tokio::time::sleep;

use crate::guards::{ADA, HOUR, PATIENCE};
use crate::support::{Answer, World, eventually_within};

const GRACE: &str = "u-1002";

/// A world whose provider says the same of a dead refresh token and of a wrong secret.
async fn mumbling() -> World {
    World::arranged(Options::default(), |home, _| {
        home.redefine(
            "{code: [invalid_grant], class: reauth}",
            "{code: [invalid_grant, mumble], class: client_or_grant}",
        );
    })
    .await
}

impl World {
    /// A caller says that the upstream refuses this account's token, which renews it.
    async fn renew(&self, account: &str) -> Answer {
        let living = self.live_token(json!({"account": account})).await;
        self.daemon.token(json!({"account": account, "rejected": living.json["token_id"]})).await
    }

    async fn state_of(&self, account: &str) -> String {
        let listed = self.connections().await;
        let found = listed.iter().find(|listed| listed["account"]["id"] == account).unwrap();
        found["state"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_grant_does_not_stop_the_others_and_needs_a_person_once_they_show_that_our_client_is_good() {
    let world = mumbling().await;
    for account in [ADA, GRACE] {
        assert_eq!(world.connect(account).await.status, 200);
    }
    let grace = world.live_token(json!({"account": GRACE})).await;
    assert_eq!(world.sandbox.revoke_user(ADA), 1);
    let ada = world.daemon.token(json!({"account": ADA})).await;
    let refused = world.daemon.token(json!({"account": ADA, "rejected": ada.json["token_id"]})).await;
    assert_eq!((refused.status, refused.text("error")), (502, "provider_error"), "{refused:?}");
    assert_eq!((world.state_of(ADA).await.as_str(), world.refreshed()), ("refresh_failed", 0));

    let renewed = world.renew(GRACE).await;
    assert_eq!(renewed.status, 200, "one dead grant stops the others: {renewed:?}");
    assert_ne!(renewed.json["token_id"], grace.json["token_id"]);
    assert_eq!(world.provider_state("sandbox").await, "ok");
    assert_eq!(world.state_of(ADA).await, "refresh_failed", "nobody has asked about it again");

    // It is asked about twice more, now that another one was renewed after it was refused.
    for _ in 0..2 {
        world.make_due_but(GRACE);
        let sent = world.refreshes();
        eventually_within(PATIENCE, "it is asked about again", async || world.refreshes() > sent).await;
    }
    eventually_within(PATIENCE, "a person has to act", async || world.state_of(ADA).await == "needs_reconnect").await;
    assert_eq!(
        (world.provider_state("sandbox").await.as_str(), world.state_of(GRACE).await.as_str()),
        ("ok", "active")
    );
    assert_eq!(world.renew(GRACE).await.status, 200);
    world.connect(ADA).await;
    world.live_token(json!({"account": ADA})).await;
    world.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_every_grant_is_said_of_our_client() {
    const ALL: usize = 20;
    let mut world = mumbling().await;
    world.stock(ALL, HOUR).await;
    world.refuse_refreshes("mumble");
    world.make_due();
    eventually_within(PATIENCE, "it is noticed", async || {
        world.provider_state("sandbox").await == "registration_refused"
    })
    .await;
    sleep(Duration::from_secs(2)).await;
    let sent = world.refreshes();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.refreshes(), sent, "nothing is sent while it is refused");
    assert_eq!(world.in_state("needs_reconnect").await, 0);
    assert!(world.alarms().iter().any(|alarm| alarm.contains("refuses our registration")), "{:?}", world.alarms());

    world.sandbox.clear_faults();
    world.daemon.home.write("config/secret", &format!("{DEFAULT_SECRET}\n"));
    world.daemon.signal("HUP");
    eventually_within(PATIENCE, "all are renewed", async || world.refreshed() == ALL).await;
    eventually_within(PATIENCE, "all are well", async || world.in_state("active").await == ALL).await;
    assert_eq!(world.provider_state("sandbox").await, "ok");
    world.assert_sound();
}

#[tokio::test]
async fn the_only_grant_is_not_condemned_and_its_operator_hears_of_both_causes() {
    let world = mumbling().await;
    assert_eq!(world.connect(ADA).await.status, 200);
    world.sandbox.script(Fault::of_refresh(When::Always, What::OAuthError("mumble".to_owned())));
    assert_eq!(world.refuse(ADA).await.status, 502);
    assert_eq!(world.provider_state("sandbox").await, "registration_refused");
    let alarms = world.alarms();
    assert!(alarms.iter().any(|alarm| alarm.contains("or the grant is dead")), "{alarms:?}");
    // A person who connects again shows that it was the grant, and everything goes on.
    world.sandbox.clear_faults();
    world.connect(ADA).await;
    assert_eq!(world.provider_state("sandbox").await, "ok");
    assert_eq!(world.refuse(ADA).await.status, 200);
    world.assert_sound();
}

#[tokio::test]
async fn a_code_that_is_refused_for_our_client_stops_the_refreshes() {
    let world = World::guarded().await;
    world.daemon.home.write("config/secret", "cs_MARK_another-secret\n");
    world.daemon.signal("HUP");
    eventually_within(PATIENCE, "it is taken", async || world.daemon.log().contains("Took the new configuration"))
        .await;
    world.come_back(&Browser::new(), GRACE).await;
    assert_eq!(world.provider_state("sandbox").await, "registration_refused");
    assert_eq!(world.refuse(ADA).await.status, 502);
    assert_eq!((world.refreshes(), world.state().await.as_str()), (0, "active"), "nothing was sent");
    world.daemon.home.write("config/secret", &format!("{DEFAULT_SECRET}\n"));
    world.daemon.signal("HUP");
    eventually_within(PATIENCE, "it is tried again", async || world.provider_state("sandbox").await == "ok").await;
    assert_eq!(world.refuse(ADA).await.status, 200);
    world.assert_sound();
}
