//! A home for a daemon, the daemon itself as a process, and the provider it talks to.

pub mod aftermath;
pub mod ask;
pub mod daemon;
pub mod dice;
pub mod home;
pub mod journey;
pub mod launch;
pub mod person;
pub mod raw;
pub mod stock;

use std::future::Future;
use std::time::Duration;

use grantd::sandbox::browser::{Browser, Page};
use grantd::sandbox::{Kind, Options, Sandbox, Secret};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

pub use ask::Answer;
pub use daemon::Daemon;
pub use home::Home;
pub use journey::Journey;
pub use launch::Launch;
pub use person::Person;

/// A sandbox, a home that knows it as the provider `sandbox`, and a running daemon.
pub struct World {
    pub sandbox: Sandbox,
    pub daemon: Daemon,
}

impl World {
    /// A world with access tokens that live an hour.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        Self::arranged(options, |_, _| {}).await
    }

    /// A world whose home is changed by `arrange` before the daemon starts.
    pub async fn arranged(options: Options, arrange: impl FnOnce(&Home, &Sandbox)) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let home = Home::new();
        home.knows(&sandbox);
        arrange(&home, &sandbox);
        let daemon = Daemon::start(home).await;
        Self { sandbox, daemon }
    }

    /// Connects an account as a person does in a browser: page, button, consent, confirmation. Returns the last page.
    pub async fn connect(&self, account: &str) -> Page {
        let browser = Browser::new();
        let account_page = self.come_back(&browser, account).await;
        browser.press(&account_page, "/confirm", &[]).await.unwrap()
    }

    /// As [`connect`](Self::connect), up to the page that shows which account came back.
    pub async fn come_back(&self, browser: &Browser, account: &str) -> Page {
        let consent = self.consent(browser).await;
        browser.press(&consent, "allow", &[("account", account)]).await.unwrap()
    }

    /// Up to the provider's own page.
    pub async fn consent(&self, browser: &Browser) -> Page {
        let session = self.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
        assert_eq!(session.status, 200, "{session:?}");
        let page = browser.open(&session.url("connect_url")).await.unwrap();
        browser.press(&page, "/start", &[]).await.unwrap()
    }

    /// How many token requests the provider has seen.
    pub fn token_requests(&self) -> usize {
        let ledger = self.sandbox.ledger();
        ledger.of(Kind::Presented, Secret::Code).count() + ledger.of(Kind::Presented, Secret::Refresh).count()
    }

    /// How many grants are alive at the provider.
    pub fn live_grants(&self) -> usize {
        self.sandbox.grants().iter().filter(|grant| grant.ended.is_none()).count()
    }

    /// Nothing is connected, nothing lies half done in the store, and nothing that the provider gave is still alive there.
    pub async fn assert_nothing_kept(&self, after: &str) {
        let listed = self.daemon.get("/v1/connections").await;
        assert_eq!(listed.json["connections"], json!([]), "{after}");
        let store = rusqlite::Connection::open(self.daemon.home.store()).unwrap();
        for table in ["openings", "pending_grants", "connections", "grants"] {
            let rows: i64 = store.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 0, "{table} after {after}");
        }
        assert_eq!(self.live_grants(), 0, "{after}: {:?}", self.sandbox.grants());
    }

    /// A token that the provider itself accepts.
    pub async fn is_live(&self, token: &Value) -> bool {
        let me = self.sandbox.url().join("api/me").unwrap();
        Browser::new().with_bearer(token.as_str().unwrap(), &me).await == Some(200)
    }
}

/// Waits until `check` says so, for at most thirty seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, check: impl FnMut() -> F) {
    eventually_within(Duration::from_secs(30), what, check).await;
}

/// As [`eventually`], for what takes its time.
pub async fn eventually_within<F: Future<Output = bool>>(limit: Duration, what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + limit;
    while !check().await {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
