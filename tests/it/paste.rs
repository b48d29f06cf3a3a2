//! A person whose browser is elsewhere gives back the address it could not open: the same checks as at the callback, and
//! nothing serves before the yes of whoever began.

use std::io::Write as _;
use std::process::Stdio;

use grantd::sandbox::browser::Browser;
use serde_json::{Value, json};
use url::Url;

use crate::support::journey::{assert_says, param, with_param};
use crate::support::person::is_root;
use crate::support::{Answer, Daemon, Journey, Person, World, ask, eventually};

/// An attempt that was begun over the socket.
struct Attempt {
    id: String,
    proof: String,
    begun: Answer,
}

impl Attempt {
    async fn begin(world: &World) -> Self {
        Self::of(world, json!({"provider": "sandbox"})).await
    }

    async fn of(world: &World, request: Value) -> Self {
        let made = world.daemon.post("/v1/connect", request).await;
        let id = made.text("connect_id").to_owned();
        let begun = world.daemon.post(&format!("/v1/connect/{id}/start"), json!({})).await;
        assert_eq!(begun.status, 200, "{begun:?}");
        Self { id, proof: begun.text("proof").to_owned(), begun }
    }

    fn authorize(&self) -> Url {
        self.begun.json["authorize"]["url"].as_str().unwrap().parse().unwrap()
    }

    /// Agrees at the provider in a browser somewhere else. The address that it cannot open.
    async fn agree(&self, account: &str) -> Url {
        self.decide("allow", account).await
    }

    async fn decide(&self, decision: &str, account: &str) -> Url {
        let browser = Browser::new();
        let consent = browser.open(&self.authorize()).await.unwrap();
        let sent = browser.press_once(&consent, decision, &[("account", account)]).await.unwrap();
        sent.location().unwrap().unwrap()
    }

    async fn give_back(&self, world: &World, address: &str) -> Answer {
        self.give_back_with(world, address, &self.proof).await
    }

    async fn give_back_with(&self, world: &World, address: &str, proof: &str) -> Answer {
        world.daemon.post(&format!("/v1/connect/{}/callback", self.id), json!({"url": address, "proof": proof})).await
    }

    async fn confirm(&self, world: &World) -> Answer {
        world.daemon.post(&format!("/v1/connect/{}/confirm", self.id), json!({"proof": self.proof})).await
    }

    async fn status(&self, world: &World) -> String {
        world.daemon.get(&format!("/v1/connect/{}", self.id)).await.text("status").to_owned()
    }
}

#[tokio::test]
async fn the_address_brings_the_account_and_the_yes_brings_the_token() {
    let world = World::new().await;
    let attempt = Attempt::begin(&world).await;
    let redirect_uri = format!("http://localhost:{}/callback/sandbox", world.daemon.home.port);
    assert_eq!(attempt.begun.json["authorize"]["redirect_uri"], redirect_uri);
    assert_eq!(attempt.authorize().origin(), world.sandbox.url().origin());
    assert_eq!(param(&attempt.authorize(), "code_challenge_method"), "S256");
    assert_eq!(attempt.begun.text("status"), "opened");

    let address = attempt.agree("u-1002").await;
    let waits = attempt.give_back(&world, &format!(" {address}\n")).await;
    assert_eq!((waits.status, waits.text("status")), (200, "awaiting_confirmation"), "{waits:?}");
    assert_eq!(waits.json["account"]["id"], "u-1002");
    assert_eq!(waits.json["granted"], json!(["email", "openid", "profile"]));
    assert_eq!(world.daemon.token(json!({})).await.status, 409, "nothing serves yet");

    let again = attempt.give_back(&world, address.as_str()).await;
    assert_eq!((again.status, again.text("error")), (410, "already_used"));
    let done = attempt.confirm(&world).await;
    assert_eq!((done.status, done.text("status")), (200, "completed"), "{done:?}");
    assert_eq!(attempt.give_back(&world, address.as_str()).await.status, 410, "an answer counts once");
    assert_eq!(attempt.confirm(&world).await.status, 410);
    assert_eq!(world.token_requests(), 1);

    assert!(world.is_live(&world.daemon.token(json!({})).await.json["access_token"]).await);
    world.assert_sound();
    for never in [&*param(&address, "code"), &*param(&address, "state"), &attempt.proof] {
        assert!(!world.daemon.log().contains(never), "{never} is in the log");
    }
}

#[tokio::test]
async fn a_wrong_address_says_what_is_wrong_and_uses_nothing_up() {
    let world = World::new().await;
    let attempt = Attempt::begin(&world).await;
    let good = attempt.agree("u-1001").await;
    let elsewhere = |change: fn(&mut Url)| {
        let mut url = good.clone();
        change(&mut url);
        url.to_string()
    };
    let state = param(&good, "state");
    let swapped: String = state.chars().rev().collect();
    for (address, why) in [
        (String::new(), "must be an address"),
        ("yes".to_owned(), "must be an address"),
        (good.query().unwrap().to_owned(), "must be an address"),
        (attempt.authorize().to_string(), "this one leads elsewhere"),
        (elsewhere(|url| url.set_path("/callback/other")), "this one leads elsewhere"),
        (elsewhere(|url| url.set_path("/callback/sandbox/x")), "this one leads elsewhere"),
        (elsewhere(|url| url.set_port(Some(1)).unwrap()), "this one leads elsewhere"),
        (elsewhere(|url| url.set_host(Some("127.0.0.1")).unwrap()), "this one leads elsewhere"),
        (elsewhere(|url| url.set_query(None)), "must be the whole address"),
        (with_param(&good, "code", None).to_string(), "must be the whole address"),
        (format!("{good}&code=another"), "must be the whole address"),
        (format!("{good}&error=access_denied"), "must be the whole address"),
        (with_param(&good, "state", None).to_string(), "must be the whole address"),
        (with_param(&good, "state", Some(&swapped)).to_string(), "belongs to another attempt"),
        (with_param(&good, "state", Some(&state[1..])).to_string(), "belongs to another attempt"),
        (format!("{good}&x={}", "x".repeat(17_000)), "must be the whole address"),
    ] {
        let refused = attempt.give_back(&world, &address).await;
        assert_eq!((refused.status, refused.text("field")), (400, "url"), "{address:.100}: {refused:?}");
        assert!(refused.text("error_description").contains(why), "{address:.100}: {refused:?}");
    }
    for proof in ["guessed", &attempt.proof[1..], &attempt.id] {
        let refused = attempt.give_back_with(&world, good.as_str(), proof).await;
        assert_eq!((refused.status, refused.text("error")), (403, "wrong_proof"));
    }
    assert_eq!((world.token_requests(), &*attempt.status(&world).await), (0, "opened"));
    assert_eq!(attempt.give_back(&world, good.as_str()).await.text("status"), "awaiting_confirmation");
}

#[tokio::test]
async fn the_answer_to_one_attempt_is_none_to_another() {
    let world = World::new().await;
    let one = Attempt::begin(&world).await;
    let other = Attempt::of(&world, json!({"provider": "sandbox", "scopes": ["openid", "more"]})).await;
    assert_ne!(one.id, other.id);
    let (ones, others) = (one.agree("u-1001").await, other.agree("u-1002").await);
    assert_eq!(one.give_back(&world, others.as_str()).await.status, 400);
    assert_eq!(one.give_back_with(&world, others.as_str(), &other.proof).await.status, 403);
    assert_eq!(one.give_back(&world, ones.as_str()).await.json["account"]["id"], "u-1001");
    assert_eq!(other.give_back(&world, others.as_str()).await.json["account"]["id"], "u-1002", "it is still good");

    // Who begins again has a new attempt, and the answer to the old one counts no more.
    let first = Attempt::begin(&world).await;
    let late = first.agree("u-1001").await;
    let again = Attempt::begin(&world).await;
    assert_eq!(first.id, again.id, "the same session");
    assert_eq!(again.give_back(&world, late.as_str()).await.status, 400);
    assert_eq!(first.give_back(&world, late.as_str()).await.status, 403);
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test]
async fn what_the_provider_says_ends_the_session_as_it_does_in_a_browser() {
    let world = World::new().await;
    let evil = Attempt::begin(&world).await;
    let address = with_param(&evil.agree("u-1001").await, "iss", Some("https://evil.example"));
    assert_eq!(evil.give_back(&world, address.as_str()).await.text("status"), "identity_failed");

    let denied = Attempt::begin(&world).await;
    let address = denied.decide("deny", "u-1001").await;
    assert_eq!(denied.give_back(&world, address.as_str()).await.text("status"), "denied");
    assert_eq!(world.token_requests(), 0);

    let forged = Attempt::begin(&world).await;
    let address = with_param(&forged.agree("u-1001").await, "code", Some("made-up"));
    assert_eq!(forged.give_back(&world, address.as_str()).await.text("status"), "code_refused");

    let declined = Attempt::begin(&world).await;
    let address = declined.agree("u-1001").await;
    declined.give_back(&world, address.as_str()).await;
    let no = world.daemon.post(&format!("/v1/connect/{}/decline", declined.id), json!({})).await;
    assert_eq!(no.text("status"), "denied");
    eventually("what was given is given back", || async { world.live_grants() == 0 }).await;
    world.assert_nothing_kept("four ends").await;
}

#[tokio::test]
async fn after_its_time_nothing_is_sent_and_after_a_crash_it_goes_on() {
    let mut world = World::new().await;
    let late = Attempt::begin(&world).await;
    let too_late = late.agree("u-1001").await;
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    store.execute("UPDATE sessions SET created_at = created_at - 600000, expires_at = created_at", []).unwrap();
    drop(store);
    assert_eq!(late.give_back(&world, too_late.as_str()).await.status, 410);
    assert_eq!((world.token_requests(), &*late.status(&world).await), (0, "expired"));

    let attempt = Attempt::begin(&world).await;
    let address = attempt.agree("u-1001").await;
    world.daemon.kill();
    world.daemon.restart().await;
    assert_eq!(attempt.give_back(&world, address.as_str()).await.text("status"), "awaiting_confirmation");
    world.daemon.kill();
    world.daemon.restart().await;
    assert_eq!(attempt.confirm(&world).await.text("status"), "completed");
}

#[tokio::test]
async fn an_attempt_of_the_terminal_is_none_of_a_browser() {
    let world = World::new().await;
    let attempt = Attempt::begin(&world).await;
    let address = attempt.agree("u-1001").await;
    let waits = attempt.give_back(&world, address.as_str()).await;
    let page = Browser::new().open(&waits.url("connect_url")).await.unwrap();
    assert!(page.forms().is_empty(), "only whoever has the proof may say yes: {}", page.body);
    world.daemon.delete(&format!("/v1/connect/{}", attempt.id)).await;

    // The browser comes back to this machine after all: it has no cookie, so nothing is connected.
    let attempt = Attempt::begin(&world).await;
    let page = Browser::new().open(&attempt.agree("u-1001").await).await.unwrap();
    assert_eq!(page.status, 403);
    assert_says(&page, &["This began in another browser"]);

    // A person who presses the button on the page takes the session over.
    let attempt = Attempt::begin(&world).await;
    let journey = Journey::begin(&world).await;
    assert_eq!(journey.id, attempt.id);
    let address = journey.callback("u-1001").await;
    assert_eq!(attempt.give_back(&world, address.as_str()).await.status, 403);
    assert_says(&journey.browser.open(&address).await.unwrap(), &["Is this your account?"]);
}

#[tokio::test]
async fn the_attempt_of_another_user_is_not_there() {
    if !is_root("the attempts of other users") {
        return;
    }
    let world = World::arranged(grantd::sandbox::Options::default(), |home, sandbox| {
        home.knows_and(sandbox, ", mode: \"0660\"", "");
        std::fs::create_dir(home.file("run")).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(home.file("run"), open).unwrap();
    })
    .await;
    let attempt = Attempt::begin(&world).await;
    let address = attempt.agree("u-1001").await;
    let mallory = Person { uid: 41_009, gid: 0 };
    let body = json!({"url": address, "proof": attempt.proof});
    for step in ["start", "callback", "confirm", "decline"] {
        let (socket, body) = (world.daemon.home.socket(), body.clone());
        let path = format!("/v1/connect/{}/{step}", attempt.id);
        let answer =
            mallory.does(move || async move { ask::ask(&socket, "POST", &path, Some(body)).await.unwrap() }).await;
        assert_eq!((answer.status, answer.text("error")), (404, "not_found"), "{step}: {answer:?}");
    }
    assert_eq!(attempt.give_back(&world, address.as_str()).await.text("status"), "awaiting_confirmation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_takes_the_address_and_names_the_account() {
    let world = World::new().await;
    let mut command = Daemon::command(&world.daemon.home);
    command.args(["connect", "sandbox", "--paste", "--yes", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
    let link = tokio::task::block_in_place(|| {
        loop {
            let mut line = String::new();
            assert_ne!(std::io::BufRead::read_line(&mut told, &mut line).unwrap(), 0, "no link");
            if line.contains("/authorize?") {
                return line.trim().to_owned();
            }
        }
    });
    let browser = Browser::new();
    let consent = browser.open(&link.parse().unwrap()).await.unwrap();
    let sent = browser.press_once(&consent, "allow", &[("account", "u-1002")]).await.unwrap();
    let address = sent.location().unwrap().unwrap();
    let ended = tokio::task::block_in_place(|| {
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{link}\n{address}").unwrap();
        drop(input);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut told, &mut rest).unwrap();
        (child.wait_with_output().unwrap(), rest)
    });
    let (output, rest) = ended;
    assert!(output.status.success(), "{output:?} {rest}");
    assert!(rest.contains("That cannot be it") && rest.contains("grace@sandbox.example"), "{rest}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&printed["status"], &printed["account"]["id"]), (&json!("completed"), &json!("u-1002")));
}
