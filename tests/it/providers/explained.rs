//! A number with which a provider refuses is told to administrators in the words of its definition, and nothing else of what
//! the provider said is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use grantd::model::secret::ClientSecret;
use grantd::sandbox::{
    DEFAULT_CLIENT, DEFAULT_SECRET, Endpoint, Fault, Options, Role, SandboxClient, What, When, adapted,
};
use serde_json::{Value, json};

use crate::providers::stage::{ADA, Stage};
use crate::providers::{MICROSOFT, VARIANTS};
use crate::support::ask::ask;
use crate::support::person::is_root;
use crate::support::{Journey, Person, World, eventually_within};

/// A rejection is confirmed after some seconds.
const PATIENCE: Duration = Duration::from_secs(90);
const REVOKED: &str =
    "The grant was revoked, for example because the password was changed; the person has to connect again.";
const EXPIRED: &str = "The client secret has expired; make a new one in the app registration.";
const WRONG: &str = "The client secret is wrong; take the secret's value and not its id.";
const MISSING: &str = "The client secret is missing; use the variant public for a public client, or switch Allow public client \
                       flows on.";

/// What Microsoft would say, with words of its own that nobody is to see.
fn says(code: &str, number: u64) -> What {
    let members = json!({"error_codes": [number], "error_description": "MARK_TEXT", "trace_id": "MARK_TRACE"});
    What::Error { code: code.to_owned(), status: None, members: members.as_object().cloned().unwrap() }
}

async fn last_failure(world: &World) -> Value {
    let listed = world.daemon.get("/v1/connections").await;
    assert!(!listed.json.to_string().contains("MARK_"), "{listed:?}");
    listed.json["connections"][0]["slots"][0]["last_failure"].clone()
}

async fn last_refusal(world: &World) -> Value {
    let listed = world.daemon.get("/v1/providers").await;
    assert!(!listed.json.to_string().contains("MARK_"), "{listed:?}");
    listed.json["providers"][0]["last_refusal"].clone()
}

/// The number that the store keeps for each grant.
fn stored(world: &World) -> Vec<Option<u32>> {
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    let mut statement = store.prepare("SELECT failure_number FROM grants").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// What `grantd status` prints, for people and for programs.
async fn status(world: &World) -> (String, Value) {
    tokio::task::block_in_place(|| {
        let (human, json) = (world.daemon.run(&["status"]), world.daemon.run(&["status", "--json"]));
        assert!(!human.out.contains("MARK_") && !json.out.contains("MARK_"), "{human:?} {json:?}");
        (human.out, serde_json::from_str(&json.out).unwrap())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_connection_needs_a_person_is_told_and_survives_a_restart() {
    let mut world = MICROSOFT.world().await;
    world.connects(ADA).await;
    let token = world.living(json!({})).await;
    assert_eq!(last_failure(&world).await, Value::Null);
    world.sandbox.script(Fault::of_refresh(When::Always, says("invalid_grant", 50173)));
    world.rejects(&token).await;
    let told = json!({"class": "rejected", "number": 50173, "explanation": REVOKED});
    let ended = async || world.daemon.get("/v1/connections").await.json["connections"][0]["state"] == "needs_reconnect";
    eventually_within(PATIENCE, "it needs a person", ended).await;
    assert_eq!(last_failure(&world).await, told);
    assert_eq!(last_refusal(&world).await, Value::Null, "it says nothing about the provider");

    assert_eq!(stored(&world), [Some(50173)]);

    world.daemon.restart().await;
    assert_eq!(last_failure(&world).await, told, "after a restart");
    let (human, json) = status(&world).await;
    assert!(human.contains(&format!("  50173: {REVOKED}\n  grantd connect sandbox --reconnect ")), "{human}");
    assert_eq!(json["connections"][0]["slots"][0]["last_failure"], told);

    world.sandbox.clear_faults();
    world.connects(ADA).await;
    assert_eq!(last_failure(&world).await, Value::Null, "it was connected again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_the_definition_does_not_know_is_not_kept() {
    let world = MICROSOFT.world().await;
    world.connects(ADA).await;
    let token = world.living(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Always, says("temporarily_unavailable", 987_654)));
    world.rejects(&token).await;
    assert_eq!(last_failure(&world).await, json!({"class": "throttled"}));
    assert_eq!(last_refusal(&world).await, Value::Null);
    assert!(!status(&world).await.0.contains("987654"));
    assert_eq!(stored(&world), [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_registration_is_told_of_the_provider_until_a_token_comes() {
    let mut world = MICROSOFT.world().await;
    world.connects(ADA).await;
    let token = world.living(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Always, says("invalid_client", 7_000_222)));
    world.rejects(&token).await;
    let refusal = last_refusal(&world).await;
    assert_eq!((&refusal["number"], &refusal["explanation"]), (&json!(7_000_222), &json!(EXPIRED)));
    assert!(refusal["at"].as_i64().unwrap() > 1_700_000_000, "{refusal}");
    let told = json!({"class": "registration", "number": 7_000_222, "explanation": EXPIRED});
    assert_eq!(last_failure(&world).await, told);
    let (human, json) = status(&world).await;
    assert_eq!(human.matches(&format!("  7000222: {EXPIRED}\n")).count(), 1, "once, however many it hits: {human}");
    assert!(human.contains("sandbox: refuses our client id or secret"), "{human}");
    assert_eq!(json["providers"][0]["last_refusal"], refusal);

    world.daemon.restart().await;
    assert_eq!(last_failure(&world).await, told);
    assert!(
        status(&world)
            .await
            .0
            .contains(&format!("sandbox ada@sandbox.example: the last renewal was refused.\n  7000222: {EXPIRED}\n"))
    );
    world.sandbox.clear_faults();
    world.daemon.post("/v1/providers/sandbox/release", json!({})).await;
    let renewed = async || last_failure(&world).await == Value::Null && last_refusal(&world).await == Value::Null;
    eventually_within(PATIENCE, "it is renewed", renewed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_nobody_can_be_connected_is_told_of_the_provider() {
    let client = |secret: &str| {
        let secret = ClientSecret::new(secret).unwrap();
        vec![SandboxClient::confidential(DEFAULT_CLIENT, secret)]
    };
    let world = MICROSOFT.world_with(|options| options.clients = client("cs_MARK_another-one"), |text| text).await;
    let journey = Journey::begin(&world).await;
    journey.come_back(ADA).await;
    assert_eq!(journey.status(&world).await, "misconfigured");
    let refusal = last_refusal(&world).await;
    assert_eq!((&refusal["number"], &refusal["explanation"]), (&json!(7_000_215), &json!(WRONG)));
    world.sandbox.adjust(|options| options.clients = client(DEFAULT_SECRET));
    world.connects(ADA).await;
    assert_eq!(last_refusal(&world).await, Value::Null);
    assert!(!status(&world).await.0.contains("7000215"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_flow_that_is_refused_is_explained_too() {
    let public = VARIANTS.into_iter().find(|case| case.name == "Microsoft public client").unwrap();
    let world = public.world().await;
    world.sandbox.script(Fault::new(Endpoint::Device, When::Next(1), says("invalid_client", 7_000_218)));
    let refused = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "device": true})).await;
    assert_eq!(refused.status, 502, "{refused:?}");
    let refusal = last_refusal(&world).await;
    assert_eq!((&refusal["number"], &refusal["explanation"]), (&json!(7_000_218), &json!(MISSING)));
    let human = status(&world).await.0;
    assert!(
        human.contains("Nothing is connected yet") && human.contains(&format!("  7000218: {MISSING}\n")),
        "{human}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_administer_is_told_the_state_alone() {
    if !is_root("what others are told of a provider") {
        return;
    }
    let world = World::arranged(Options::of(Role::Microsoft), |home, sandbox| {
        home.write("config/providers.d/microsoft.yaml", &adapted(&Role::Microsoft, sandbox.url()));
        home.write("config/secret", "cs_MARK_another-one\n");
        let line = format!("  sandbox: {{definition: microsoft, {}}}\n", home.client());
        home.configure_and(&line, ", mode: \"0660\", group: root", "");
        let run = home.file("run");
        fs::create_dir(&run).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    })
    .await;
    Journey::begin(&world).await.come_back(ADA).await;
    assert_eq!(last_refusal(&world).await["number"], 7_000_215);
    let socket = world.daemon.home.socket();
    let person = Person { uid: 41_001, gid: 0 };
    let hers = person.does(move || async move { ask(&socket, "GET", "/v1/providers", None).await.unwrap() }).await;
    assert_eq!(
        (&hers.json["providers"][0]["id"], hers.json["providers"][0].get("last_refusal")),
        (&json!("sandbox"), None)
    );
}
