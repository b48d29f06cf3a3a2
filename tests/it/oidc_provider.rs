//! A provider that nobody here wrote: a certified OpenID implementation with PKCE, rotation, and access tokens of five seconds,
//! which grantd knows from a YAML file and nothing else.

mod kills;
mod server;

use std::time::Duration;

use grantd::sandbox::browser::{Browser, Page};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::oidc_provider::server::{CLIENT, SECRET, Server};
use crate::support::{Answer, Daemon, Home};

/// How many renewals are watched, and how many of them come without anybody asking.
const RENEWALS: usize = 20;
const BY_THEMSELVES: usize = 5;

struct World {
    server: Server,
    daemon: Daemon,
}

#[tokio::test]
async fn a_provider_known_from_yaml_alone_is_connected_renewed_twenty_times_and_revoked() {
    let world = World::new(SECRET).await;
    let done = world.connect().await;
    assert_eq!(done.status, 200, "{}", done.body);
    let first = world.live_token().await;
    assert_eq!(first.json["account"]["id"], "alice", "the account is the subject of the verified ID token");
    let scope = first.text("scope");
    assert!(["openid", "email", "profile", "offline_access"].iter().all(|wanted| scope.contains(wanted)), "{scope}");

    let mut last = first;
    for _ in 0..BY_THEMSELVES {
        world.renewed_by_itself().await;
        for _ in 1..RENEWALS / BY_THEMSELVES {
            last = world.live_token().await;
            let next = world.token(json!({"rejected": last.text("token_id")})).await;
            assert_eq!(next.status, 200, "{next:?}\n{}", world.server.story());
            assert_ne!(next.text("token_id"), last.text("token_id"));
            assert!(world.is_live(&next).await, "{}", world.server.story());
            last = next;
        }
    }
    assert!(world.renewals() >= RENEWALS, "{}", world.server.story());
    assert_eq!(world.server.count("grant.error", ""), 0, "{}", world.server.story());

    let gone = world.daemon.delete(&format!("/v1/connections/{}", last.text("connection"))).await;
    assert_eq!((gone.status, gone.text("upstream")), (200, "revoked"), "{gone:?}");
    assert_eq!(world.server.count("grant.revoked", ""), 1, "{}", world.server.story());
    assert!(!world.is_live(&last).await, "the access token outlived its grant");
    assert_eq!(world.token(json!({})).await.status, 409);
}

#[tokio::test]
async fn who_cancels_at_the_provider_has_connected_nothing() {
    let world = World::new(SECRET).await;
    let (browser, login, session) = world.login_page().await;
    let abort = login.url.join(&format!("{}/abort", login.url.path())).unwrap();
    let end = browser.open(&abort).await.unwrap();
    assert!(end.body.contains("The answer was no"), "{}", end.body);
    assert_eq!(world.status_of(&session).await, "denied");
    assert_eq!(world.token(json!({"connect": false})).await.text("error"), "connection_required");
    assert_eq!(world.server.count("grant.success", ""), 0);
}

#[tokio::test]
async fn a_wrong_client_secret_is_said_to_be_the_operators_to_correct() {
    let world = World::new("not-the-secret").await;
    let (browser, login, session) = world.login_page().await;
    let end = agree(&browser, &login).await;
    assert!(end.body.contains("does not accept this grantd"), "{}", end.body);
    assert!(end.body.contains(&world.redirect_uri()), "{}", end.body);
    assert_eq!(world.status_of(&session).await, "misconfigured");
    assert_eq!((world.server.count("grant.success", ""), world.server.count("grant.error", "")), (0, 1), "asked once");
    let log = world.daemon.log();
    assert!(!log.contains("not-the-secret"));
}

impl World {
    async fn new(secret: &str) -> Self {
        Self::away(secret, 0).await
    }

    /// A provider that requests and answers take up to so many milliseconds to reach.
    async fn away(secret: &str, distance: u32) -> Self {
        let home = Home::new();
        let server = Server::start_away(&redirect_uri(&home), distance).await;
        home.write("config/providers.d/test.yaml", &server.definition());
        home.write("config/secret", secret);
        let secret = home.file("config/secret");
        home.configure(&format!("  test: {{client_id: {CLIENT}, client_secret: {{file: {}}}}}\n", secret.display()));
        Self { server, daemon: Daemon::start(home).await }
    }

    fn redirect_uri(&self) -> String {
        redirect_uri(&self.daemon.home)
    }

    /// Up to the provider's login page.
    async fn login_page(&self) -> (Browser, Page, Answer) {
        let session = self.daemon.post("/v1/connect", json!({"provider": "test"})).await;
        assert_eq!(session.status, 200, "{session:?}");
        let browser = Browser::new();
        let ask = browser.open(&session.url("connect_url")).await.unwrap();
        let login = browser.press(&ask, "/start", &[]).await.unwrap();
        assert!(login.url.path().starts_with("/interaction/"), "{} {}", login.url, login.body);
        (browser, login, session)
    }

    async fn connect(&self) -> Page {
        let (browser, login, _) = self.login_page().await;
        let account = agree(&browser, &login).await;
        assert!(account.body.contains("alice"), "{}\n{}", account.body, self.server.story());
        browser.press(&account, "/confirm", &[]).await.unwrap()
    }

    async fn status_of(&self, session: &Answer) -> String {
        let path = format!("/v1/connect/{}", session.text("connect_id"));
        self.daemon.get(&path).await.text("status").to_owned()
    }

    async fn token(&self, more: Value) -> Answer {
        let mut body = json!({"provider": "test"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.daemon.post("/v1/token", body).await
    }

    /// A token as a caller gets it, which the provider accepts.
    async fn live_token(&self) -> Answer {
        let token = self.token(json!({})).await;
        assert_eq!(token.status, 200, "{token:?}\n{}", self.server.story());
        assert!(self.is_live(&token).await, "{}", self.server.story());
        token
    }

    async fn is_live(&self, token: &Answer) -> bool {
        Browser::new().with_bearer(token.text("access_token"), &self.server.at("/me")).await == Some(200)
    }

    fn renewals(&self) -> usize {
        self.server.count("grant.success", "refresh_token")
    }

    /// Asks for nothing until the provider has seen one more refresh.
    async fn renewed_by_itself(&self) {
        let (before, deadline) = (self.renewals(), Instant::now() + Duration::from_secs(30));
        while self.renewals() == before {
            assert!(Instant::now() < deadline, "nothing renews the token\n{}", self.server.story());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Logs in and agrees. Returns the page of grantd that comes after.
async fn agree(browser: &Browser, login: &Page) -> Page {
    let consent = browser.press(login, "/interaction/", &[("login", "alice"), ("password", "x")]).await.unwrap();
    browser.press(&consent, "/interaction/", &[]).await.unwrap()
}

fn redirect_uri(home: &Home) -> String {
    format!("http://localhost:{}/callback/test", home.port)
}
