//! Several accounts at one provider: told apart by the provider's id, named by their person, and never guessed at.

use grantd::sandbox::{Options, SandboxUser};
use serde_json::{Value, json};

use crate::support::ask::{self, Answer};
use crate::support::journey::assert_says;
use crate::support::{Journey, World};

const ADA: &str = "u-1001";
const GRACE: &str = "u-1002";

impl World {
    async fn with_both() -> (Self, String, String) {
        let world = Self::new().await;
        let mut ids = Vec::new();
        for account in [ADA, GRACE] {
            assert_says(&world.connect(account).await, &["Connected"]);
            ids.push(world.live_token(json!({"account": account})).await.text("connection").to_owned());
        }
        let [ada, grace] = <[String; 2]>::try_from(ids).unwrap();
        (world, ada, grace)
    }

    async fn name(&self, id: &str, body: Value) -> Answer {
        let path = format!("/v1/connections/{id}");
        ask::ask(&self.daemon.home.socket(), "PATCH", &path, Some(body)).await.unwrap()
    }

    /// Which account a request for a token gets, or the error.
    async fn meant(&self, more: Value) -> String {
        let answer = self.daemon.token(more).await;
        match answer.status {
            200 => answer.json["account"]["id"].as_str().unwrap().to_owned(),
            _ => answer.text("error").to_owned(),
        }
    }
}

#[tokio::test]
async fn the_default_is_meant_when_none_is_named_from_the_next_request_on() {
    let (mut world, ada, grace) = World::with_both().await;
    assert_eq!(world.meant(json!({})).await, "account_ambiguous");
    for (id, default, expected) in [
        (&ada, true, ADA),
        (&grace, true, GRACE),
        (&ada, false, GRACE),
        (&grace, false, "account_ambiguous"),
        (&ada, true, ADA),
    ] {
        let named = world.name(id, json!({"default": default})).await;
        assert_eq!((named.status, &named.json["default"]), (200, &json!(default)), "{named:?}");
        assert_eq!(world.meant(json!({})).await, expected);
        assert_eq!(world.meant(json!({"account": GRACE})).await, GRACE, "what is named goes before");
    }
    let defaults = |listed: &[Value]| -> Vec<bool> { listed.iter().map(|one| one["default"] == true).collect() };
    assert_eq!(defaults(&world.connections().await), [true, false]);

    world.daemon.kill();
    world.daemon.restart().await;
    assert_eq!(world.meant(json!({})).await, ADA, "it survives a restart");
    world.connect(ADA).await;
    assert_eq!(world.meant(json!({})).await, ADA, "and a reconnect");

    world.daemon.delete(&format!("/v1/connections/{ada}")).await;
    assert_eq!(world.meant(json!({})).await, GRACE, "the only one that is left");
    world.connect(ADA).await;
    assert_eq!(world.meant(json!({})).await, "account_ambiguous", "what is connected anew is not the default");
    world.assert_sound();
}

#[tokio::test]
async fn a_label_names_one_account_until_it_is_taken_away() {
    let (world, ada, grace) = World::with_both().await;
    let named = world.name(&ada, json!({"label": "my work"})).await;
    assert_eq!((named.status, named.text("label")), (200, "my work"), "{named:?}");
    assert_eq!(world.meant(json!({"account": "my work"})).await, ADA);
    assert_eq!(world.meant(json!({"account": "My work"})).await, "unknown_account", "compared exactly");

    for (label, field) in [
        (json!("my work"), "label"),
        (json!("ada@sandbox.example"), "label"),
        (json!(ADA), "label"),
        (json!(""), "label"),
        (json!(" x"), "label"),
        (json!("x".repeat(65)), "label"),
        (json!("a\u{200b}b"), "label"),
        (json!(7), "label"),
        (json!(ada.clone()), "label"),
    ] {
        let refused = world.name(&grace, json!({"label": label})).await;
        assert_eq!((refused.status, refused.text("field")), (400, field), "{label}: {refused:?}");
    }
    assert_eq!(world.name(&grace, json!({})).await.status, 400);
    assert_eq!(world.name("cx_AAAAAAAAAAAAAAAAAAAAAA", json!({"label": "x"})).await.status, 404);
    assert_eq!(world.connections().await[1].get("label"), None, "nothing of it was kept");
    let own = world.name(&grace, json!({"label": "grace@sandbox.example"})).await;
    assert_eq!(own.status, 200, "one's own name is nobody else's: {own:?}");

    world.connect(ADA).await;
    assert_eq!(world.meant(json!({"account": "my work"})).await, ADA, "it survives a reconnect");
    assert_eq!(world.name(&ada, json!({"label": null})).await.json.get("label"), None);
    assert_eq!(world.meant(json!({"account": "my work"})).await, "unknown_account");
    assert_eq!(world.name(&grace, json!({"label": "my work"})).await.status, 200);
    world.daemon.delete(&format!("/v1/connections/{grace}")).await;
    assert_eq!(world.meant(json!({"account": "my work"})).await, "unknown_account", "it goes with the connection");
    assert_eq!(world.name(&ada, json!({"label": "my work"})).await.status, 200);
    world.assert_sound();
}

#[tokio::test]
async fn two_accounts_of_one_name_are_told_apart_by_their_ids_and_never_guessed_at() {
    let users = [ADA, GRACE].map(|sub| SandboxUser::new(sub, "Ada", "ada@sandbox.example")).to_vec();
    let world = World::with(Options { users, ..Options::default() }).await;
    for account in [ADA, GRACE] {
        world.connect(account).await;
    }
    for named in [json!({"account": "ada@sandbox.example"}), json!({})] {
        let torn = world.daemon.token(named).await;
        assert_eq!((torn.status, torn.text("error")), (409, "account_ambiguous"), "{torn:?}");
        let listed = torn.json["accounts"].as_array().unwrap();
        let ids: Vec<&str> = listed.iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [ADA, GRACE], "{torn:?}");
        assert!(listed.iter().all(|one| one["connection"].as_str().unwrap().starts_with("cx_")), "{torn:?}");
    }
    assert_eq!(world.meant(json!({"account": GRACE})).await, GRACE);

    let grace = world.live_token(json!({"account": GRACE})).await.text("connection").to_owned();
    assert_eq!(world.name(&grace, json!({"label": "other", "default": true})).await.status, 200);
    assert_eq!(world.meant(json!({})).await, GRACE);
    let torn = world.daemon.token(json!({"account": "ada@sandbox.example"})).await;
    assert_eq!(torn.text("error"), "account_ambiguous", "the default says nothing about what is named: {torn:?}");
    assert_eq!(torn.json["accounts"][1]["label"], "other", "{torn:?}");
    assert_eq!(world.meant(json!({"account": "other"})).await, GRACE);
    world.assert_sound();
}

#[tokio::test]
async fn an_account_that_was_renamed_is_the_same_connection_with_its_label() {
    let (world, ada, _) = World::with_both().await;
    assert_eq!(world.name(&ada, json!({"label": "work", "default": true})).await.status, 200);
    world.sandbox.adjust(|options| {
        let sub = options.users.iter().position(|user| &*user.sub == ADA).unwrap();
        options.users[sub] = SandboxUser::new(ADA, "Ada", "countess@sandbox.example");
    });
    let confirm = Journey::of(&world, json!({"provider": "sandbox", "reconnect": ada})).await;
    let confirm_page = confirm.come_back(ADA).await;
    assert!(!confirm_page.body.contains("different account"), "{}", confirm_page.body);
    confirm.browser.press(&confirm_page, "/confirm", &[]).await.unwrap();

    assert_eq!(world.connections().await.len(), 2);
    let named = world.live_token(json!({"account": "work"})).await;
    assert_eq!(
        (named.text("connection"), &named.json["account"]["name"]),
        (ada.as_str(), &json!("countess@sandbox.example"))
    );
    assert_eq!(world.meant(json!({"account": "countess@sandbox.example"})).await, ADA);
    assert_eq!(world.meant(json!({"account": "ada@sandbox.example"})).await, "unknown_account");
    assert_eq!(world.meant(json!({})).await, ADA);
    world.assert_sound();
}

#[tokio::test]
async fn a_second_account_leaves_the_first_as_it_is() {
    let world = World::new().await;
    world.connect(ADA).await;
    let first = world.live_token(json!({})).await;
    world.name(first.text("connection"), json!({"label": "work", "default": true})).await;
    let before = world.connections().await;
    world.connect(GRACE).await;
    let after = world.connections().await;
    assert_eq!(after[0], before[0]);
    assert_eq!((after.len(), after[1].get("label"), &after[1]["default"]), (2, None, &json!(false)));
    let same = world.live_token(json!({})).await;
    assert_eq!(same.json["token_id"], first.json["token_id"]);
    assert_eq!(world.refreshes(), 0);
    world.assert_renewable().await;
    world.assert_sound();
}

// The commands block the thread of the test, and the sandbox has to answer meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_name_accounts_and_show_what_they_are_called() {
    let (world, ada, _) = World::with_both().await;
    let unnamed = world.daemon.run(&["status"]);
    assert!(!unnamed.out.contains("LABEL"), "{unnamed:?}");
    for (args, out) in [
        (
            &["account", "ada@sandbox.example", "--label", "work", "--default"][..],
            "has the label work and is the default.",
        ),
        (&["account", "work", "--no-default"], "has the label work and is not the default."),
        (&["account", "work", "--label", "lab", "--default"], "has the label lab and is the default."),
    ] {
        let done = world.daemon.run(args);
        assert_eq!((done.code, done.out), (0, format!("sandbox ada@sandbox.example {out}\n")), "{args:?}");
    }
    let status = world.daemon.run(&["status"]);
    assert!(status.out.contains("LABEL") && status.out.contains("lab (default)"), "{status:?}");
    let status: Value = serde_json::from_str(&world.daemon.run(&["status", "--json"]).out).unwrap();
    let listed = &status["connections"][0];
    assert_eq!((&listed["id"], &listed["label"], &listed["default"]), (&json!(ada), &json!("lab"), &json!(true)));

    for args in [
        &["account", "sandbox", "--default"][..],
        &["account", "nobody", "--default"],
        &["account", "grace@sandbox.example", "--label", "lab"],
        &["account", "grace@sandbox.example", "--label", ""],
        &["account", "lab"],
    ] {
        let refused = world.daemon.run(args);
        assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{args:?}: {refused:?}");
        assert!(!refused.err.is_empty());
    }
    let token = world.daemon.run(&["token", "sandbox", "--account", "lab"]);
    assert_eq!(token.code, 0, "{token:?}");
    let gone = world.daemon.run(&["disconnect", "lab", "--yes"]);
    assert!(gone.code == 0 && gone.out.contains("ada@sandbox.example (lab)"), "{gone:?}");
    assert_eq!(world.connections().await.len(), 1);
    world.assert_sound();
}
