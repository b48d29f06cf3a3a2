//! Disconnecting: at once here, then at the provider, as much as was asked for and no more, and honest about the rest.

mod desk;

use std::time::Duration;

use grantd::sandbox::{BodyKind, DEFAULT_CLIENT, Endpoint, Fault, Kind, Options, Secret, What, When};
use serde_json::{Value, json};

use crate::disconnect::desk::Desk;
use crate::support::{Answer, Home, Journey, World, ask, eventually};

const ADA: &str = "u-1001";
const GRACE: &str = "u-1002";
const EVERY_SECOND: &str = "jobs: {housekeep: \"* * * * * *\"}\n";

fn down() -> What {
    What::Status { code: 503, body: BodyKind::Text }
}

/// Puts another way of taking back into the definition, beside or instead of the sandbox's own.
fn wider(home: &Home, desk: &Desk) {
    let rules = format!(
        "revoke_wider: {{method: POST, url: {}, auth: none, body: {{token: \"{{token}}\"}}, token: refresh, ok_http: [200], \
         gone_http: [404], reach: client, takes: Everything goes.}}\nscopes:\n",
        desk.url()
    );
    home.redefine("scopes:\n", &rules);
}

/// Takes the automatic way out of the definition.
fn by_hand(home: &Home) {
    home.edit("config/providers.d/sandbox.yaml", |text| {
        let (head, rest) = text.split_once("revoke:\n").unwrap();
        let (_, tail) = rest.split_once("scopes:\n").unwrap();
        format!("{head}revoke_manual_url: https://provider.example/apps\nscopes:\n{tail}")
    });
}

impl World {
    async fn disconnect(&self, token: &Answer, query: &str) -> Answer {
        self.daemon.delete(&format!("/v1/connections/{}{query}", token.text("connection"))).await
    }

    fn rows(&self, sql: &str) -> i64 {
        let store = rusqlite::Connection::open(self.daemon.home.store()).unwrap();
        store.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    async fn assert_finished(&self) {
        eventually("the grants are wiped", async || self.rows("SELECT count(*) FROM grants") == 0).await;
        assert_eq!(self.rows("SELECT count(*) FROM connections WHERE revoking > 0"), 0);
    }
}

#[tokio::test]
async fn a_daemon_that_dies_between_here_and_the_provider_goes_on_where_it_was() {
    let mut world = World::arranged(Options::default(), |home, _| home.set(EVERY_SECOND)).await;
    world.connect(ADA).await;
    let token = world.live_token(json!({})).await;
    world.sandbox.script(Fault::new(Endpoint::Revoke, When::Next(1), What::Delay(Duration::from_secs(600))));
    let (socket, path) = (world.daemon.home.socket(), format!("/v1/connections/{}", token.text("connection")));
    let asking = tokio::spawn(async move { ask::ask(&socket, "DELETE", &path, None).await });
    eventually("it is over here", async || world.rows("SELECT count(*) FROM connections WHERE revoking = 1") == 1)
        .await;
    world.daemon.kill();
    world.sandbox.clear_faults();
    assert!(asking.await.unwrap().is_err(), "nobody was told that it is done");
    assert_eq!(world.live_grants(), 1, "the provider knows nothing yet");

    world.daemon.restart().await;
    assert_eq!(world.daemon.token(json!({})).await.text("error"), "connection_required");
    eventually("the provider is told", async || world.live_grants() == 0).await;
    world.assert_finished().await;
    assert_eq!(world.refreshes(), 0, "nothing was renewed on the way");
    world.assert_sound();
}

#[tokio::test]
async fn more_than_the_connection_goes_only_when_it_was_asked_for() {
    let desk = Desk::open().await;
    let world = World::arranged(Options::default(), |home, _| wider(home, &desk)).await;
    desk.ends_everything_of(&world.sandbox, ADA);
    world.connect(ADA).await;
    world.sandbox.give(DEFAULT_CLIENT, ADA, &["openid"]).unwrap();
    let providers = world.daemon.get("/v1/providers").await;
    let told = &providers.json["providers"][0];
    assert_eq!((&told["revoke"], &told["revoke_wider"]["takes"]), (&json!("grant"), &json!("Everything goes.")));

    let token = world.live_token(json!({})).await;
    let gone = world.disconnect(&token, "?wider=false").await;
    assert_eq!((gone.text("upstream"), &gone.json["wider"]), ("revoked", &Value::Null), "{gone:?}");
    assert_eq!((world.live_grants(), desk.asked()), (1, 0), "the other machine's grant lives on");

    world.connect(ADA).await;
    let token = world.live_token(json!({})).await;
    let refused = world.disconnect(&token, "?wider=perhaps").await;
    assert_eq!((refused.status, refused.text("field")), (400, "wider"), "{refused:?}");
    assert_eq!(world.live_grants(), 2);
    let gone = world.disconnect(&token, "?wider=true").await;
    assert_eq!(
        (gone.text("upstream"), gone.text("wider"), gone.text("reach")),
        ("revoked", "revoked", "client"),
        "{gone:?}"
    );
    assert_eq!((world.live_grants(), desk.asked()), (0, 1));
    let alone = world.sandbox.ledger().count(Kind::Revoked, Secret::Refresh, "revoked_by_client");
    assert_eq!(alone, 1, "what takes everything was not asked for this one alone besides");
    world.assert_finished().await;
    world.assert_sound();
}

#[tokio::test]
async fn what_was_asked_for_survives_a_crash_while_the_provider_is_down() {
    let desk = Desk::open().await;
    let mut world = World::arranged(Options::default(), |home, _| {
        home.set(EVERY_SECOND);
        wider(home, &desk);
    })
    .await;
    desk.ends_everything_of(&world.sandbox, ADA);
    desk.answers(503);
    world.connect(ADA).await;
    world.sandbox.give(DEFAULT_CLIENT, ADA, &["openid"]).unwrap();
    let token = world.live_token(json!({})).await;
    let gone = world.disconnect(&token, "?wider=true").await;
    assert_eq!((gone.text("upstream"), gone.text("wider")), ("pending", "pending"), "{gone:?}");
    assert_eq!(gone.json["slots"], json!([{"slot": "main", "upstream": "pending", "because": "unreachable"}]));
    assert_eq!(world.live_grants(), 2, "one alone would take away what the wider request has to show");
    world.daemon.kill();

    desk.answers(200);
    world.daemon.restart().await;
    eventually("everything is gone", async || world.live_grants() == 0).await;
    world.assert_finished().await;
    assert_eq!(world.sandbox.ledger().count(Kind::Revoked, Secret::Refresh, "revoked_by_client"), 0);
    world.assert_sound();
}

#[tokio::test]
async fn where_the_wider_way_is_refused_the_connection_itself_is_still_taken_back() {
    let desk = Desk::open().await;
    let world = World::arranged(Options::default(), |home, _| wider(home, &desk)).await;
    for (status, connection) in [(403, ADA), (404, GRACE)] {
        desk.answers(status);
        world.connect(connection).await;
        let token = world.live_token(json!({})).await;
        let gone = world.disconnect(&token, "?wider=true").await;
        assert_eq!((gone.text("upstream"), gone.text("wider")), ("revoked", "by_hand"), "{gone:?}");
        assert_eq!(world.live_grants(), 0);
    }
    world.assert_finished().await;
    world.assert_sound();
}

#[tokio::test]
async fn a_provider_without_a_way_is_left_to_the_person_and_nothing_wider_is_made_up() {
    let world = World::arranged(Options::default(), |home, _| by_hand(home)).await;
    world.connect(ADA).await;
    let token = world.live_token(json!({})).await;
    let refused = world.disconnect(&token, "?wider=true").await;
    assert_eq!((refused.status, refused.text("field")), (400, "wider"), "{refused:?}");
    world.live_token(json!({})).await;
    let gone = world.disconnect(&token, "").await;
    assert_eq!(
        (gone.text("upstream"), gone.text("manual_url")),
        ("by_hand", "https://provider.example/apps"),
        "{gone:?}"
    );
    assert_eq!(gone.json["slots"], json!([{"slot": "main", "upstream": "by_hand", "because": "no_way"}]));
    assert_eq!(world.live_grants(), 1, "and that is what was said");
    world.assert_finished().await;
}

/// A world whose provider gives two grants, one of which is found at `user`, and takes them back at the desk.
async fn two_slots(desk: &Desk, user: &str) -> World {
    let world = World::arranged(Options::default(), |home, sandbox| {
        home.set(EVERY_SECOND);
        let slots = format!(
            "slots:\n  - {{name: bot, places: [{{}}]}}\n  - {{name: user, places: [{{access: {user}, refresh: /none}}]}}\nscopes:\n"
        );
        home.redefine("scopes:\n", &slots);
        home.redefine("authorize:\n", "authorize:\n  scope_params: [{param: scope, slot: bot}]\n");
        home.redefine("{main: ", "{bot: ");
        home.redefine(&format!("{}revoke", sandbox.url()), desk.url().as_str());
        home.redefine("  token: refresh\n", "  token: access\n");
    })
    .await;
    world.connect(ADA).await;
    world
}

#[tokio::test]
async fn a_token_that_is_told_twice_is_one_grant_and_taken_back_once() {
    let desk = Desk::open().await;
    let world = two_slots(&desk, "/access_token").await;
    assert_eq!(world.rows("SELECT count(*) FROM grants"), 1);
    let id = world.connections().await[0]["id"].as_str().unwrap().to_owned();
    let gone = world.daemon.delete(&format!("/v1/connections/{id}")).await;
    assert_eq!((gone.text("upstream"), desk.asked()), ("revoked", 1), "{gone:?}");
    assert_eq!(gone.json["slots"].as_array().unwrap().len(), 1);
    world.assert_finished().await;
}

#[tokio::test]
async fn each_slot_is_taken_back_on_its_own_and_only_what_is_left_is_tried_again() {
    let desk = Desk::open().await;
    // Any other text of the answer will do for a second token.
    let world = two_slots(&desk, "/token_type").await;
    desk.answers_next(&[200, 503]);
    desk.answers(503);
    let id = world.connections().await[0]["id"].as_str().unwrap().to_owned();
    let gone = world.daemon.delete(&format!("/v1/connections/{id}")).await;
    assert_eq!(gone.text("upstream"), "pending", "{gone:?}");
    let mut told: Vec<_> =
        gone.json["slots"].as_array().unwrap().iter().map(|slot| slot["because"].as_str().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, ["confirmed", "unreachable"], "{gone:?}");
    eventually("one is wiped", async || world.rows("SELECT count(*) FROM grants") == 1).await;
    assert_eq!(world.rows("SELECT count(*) FROM connections WHERE revoking = 1"), 1);

    desk.answers(200);
    world.assert_finished().await;
    world.assert_sound();
}

#[tokio::test]
async fn nobody_waits_for_ever_for_a_provider_that_hangs() {
    let world = World::arranged(Options::default(), |home, _| home.set(EVERY_SECOND)).await;
    world.connect(ADA).await;
    let token = world.live_token(json!({})).await;
    world.sandbox.script(Fault::new(Endpoint::Revoke, When::Next(1), What::Delay(Duration::from_secs(600))));
    let gone = world.disconnect(&token, "").await;
    assert_eq!(gone.text("upstream"), "pending", "{gone:?}");
    world.sandbox.clear_faults();
    world.assert_finished().await;
    assert_eq!(world.live_grants(), 0);
}

/// A world whose provider takes back living access tokens only, and in which nothing is renewed by itself.
async fn wants_access() -> World {
    let world = World::arranged(Options::default(), |home, _| {
        home.set("jobs: {renew: \"0 0 0 1 1 *\", housekeep: \"* * * * * *\"}\n");
        home.redefine(
            "  token: refresh\n  ok_http: [200]\n  reach: grant",
            "  token: access\n  ok_http: [200]\n  reach: token",
        );
    })
    .await;
    world.connect(ADA).await;
    world
}

/// The connection's id. Its access token has died, as far as the store knows: nobody has to wait for that.
async fn expired(world: &World) -> String {
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    assert_eq!(store.execute("UPDATE grants SET expires_at = issued_at + 1", []).unwrap(), 1);
    world.connections().await[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_dead_access_token_is_renewed_once_and_what_comes_is_revoked_and_kept_nowhere() {
    let world = wants_access().await;
    let id = expired(&world).await;
    let gone = world.daemon.delete(&format!("/v1/connections/{id}")).await;
    assert_eq!((gone.text("upstream"), gone.text("reach")), ("revoked", "token"), "{gone:?}");
    assert_eq!((world.refreshes(), world.refreshed()), (1, 1));
    assert_eq!(world.sandbox.ledger().count(Kind::Revoked, Secret::Access, "revoked_by_client"), 1);
    assert_eq!(world.daemon.token(json!({})).await.text("error"), "connection_required");
    world.assert_finished().await;
    world.assert_sound();
}

#[tokio::test]
async fn the_last_refresh_is_put_off_or_given_up_and_never_made_twice() {
    for (fault, told, because, later) in [
        (Some(down()), "pending", "unreachable", true),
        (Some(What::DropAfterProcessing), "by_hand", "lost_response", false),
        (None, "revoked", "gone", false),
    ] {
        let world = wants_access().await;
        let id = expired(&world).await;
        match fault {
            Some(fault) => world.sandbox.script(Fault::of_refresh(When::Always, fault)),
            // The person has taken it back at the provider already.
            None => assert_eq!(world.sandbox.revoke_user(ADA), 1),
        }
        let gone = world.daemon.delete(&format!("/v1/connections/{id}")).await;
        assert_eq!(gone.text("upstream"), told, "{gone:?}");
        assert_eq!(gone.json["slots"], json!([{"slot": "main", "upstream": told, "because": because}]));
        world.sandbox.clear_faults();
        if later {
            let revoked = || world.sandbox.ledger().count(Kind::Revoked, Secret::Access, "revoked_by_client");
            eventually("it is revoked later", async || revoked() == 1).await;
        }
        world.assert_finished().await;
        assert!(world.sandbox.ledger().double_presentations().is_empty());
    }
}

// The commands block the thread of the test, and the sandbox has to answer meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_is_told_one_by_one() {
    let desk = Desk::open().await;
    desk.answers(503);
    let world = World::arranged(Options::default(), |home, sandbox| {
        let definition = grantd::sandbox::definition(sandbox.url());
        let down = definition
            .replace("id: sandbox", "id: down")
            .replace(&format!("{}revoke", sandbox.url()), desk.url().as_str());
        assert_ne!(down, definition);
        home.write("config/providers.d/down.yaml", &down);
        home.write("config/providers.d/byhand.yaml", &definition.replace("id: sandbox", "id: byhand"));
        home.edit("config/providers.d/byhand.yaml", |text| {
            let (head, rest) = text.split_once("revoke:\n").unwrap();
            format!("{head}scopes:\n{}", rest.split_once("scopes:\n").unwrap().1)
        });
        let lines = ["sandbox", "down", "byhand"].map(|name| home.sandbox_line(name)).concat();
        home.configure(&lines);
    })
    .await;
    let nothing = world.daemon.run(&["disconnect", "--all", "--yes"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (0, "Nothing is connected.\n"), "{nothing:?}");

    let connect = async |provider: &str, account: &str| {
        let journey = Journey::of(&world, json!({"provider": provider})).await;
        assert_eq!(journey.finish(account).await.status, 200);
    };
    for (provider, account) in [("sandbox", ADA), ("sandbox", GRACE), ("byhand", ADA)] {
        connect(provider, account).await;
    }
    let refused = world.daemon.run(&["disconnect", "--all"]);
    assert_eq!((refused.code, world.connections().await.len()), (2, 3), "{refused:?}");
    let done = world.daemon.run(&["disconnect", "--all", "--yes"]);
    assert_eq!(done.code, 0, "what is left to the person is told, and no failure: {done:?}");
    for part in ["RESULT", "left to you", "revoked", "ada@sandbox.example", "grace@sandbox.example", "yourself"] {
        assert!(done.out.contains(part), "no {part:?} in {done:?}");
    }
    assert_eq!((world.connections().await.len(), world.live_grants()), (0, 1));

    connect("sandbox", ADA).await;
    connect("down", ADA).await;
    let done = world.daemon.run(&["disconnect", "--all", "--yes", "--json"]);
    assert_eq!(done.code, 6, "one is not confirmed yet: {done:?}");
    let told: Value = serde_json::from_str(&done.out).unwrap();
    let mut told: Vec<(&str, &str)> = told["disconnected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["provider"].as_str().unwrap(), one["upstream"].as_str().unwrap()))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("down", "pending"), ("sandbox", "revoked")]);
    assert!(world.connections().await.is_empty());
    world.assert_sound();
}
