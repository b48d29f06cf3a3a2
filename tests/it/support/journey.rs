//! One person's way through a connect session, with a stop at every station.

use grantd::sandbox::browser::{Browser, Page};
use serde_json::{Value, json};
use url::Url;

use crate::support::{Answer, World};

/// A connect session and the browser in which it was opened.
pub struct Journey {
    pub browser: Browser,
    /// The connect session.
    pub id: String,
    /// Its first page.
    pub page: Page,
}

impl Journey {
    /// Asks for a connect session at the provider `sandbox` and opens its page.
    pub async fn begin(world: &World) -> Self {
        Self::of(world, json!({"provider": "sandbox"})).await
    }

    /// As [`begin`](Self::begin), for any request.
    pub async fn of(world: &World, request: Value) -> Self {
        Self::open(&world.daemon.post("/v1/connect", request).await).await
    }

    /// Opens the page of a session, or of the 409 that brought it.
    pub async fn open(session: &Answer) -> Self {
        assert!(matches!(session.status, 200 | 409), "{session:?}");
        let browser = Browser::new();
        let page = browser.open(&session.url("connect_url")).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        Self { browser, id: session.text("connect_id").to_owned(), page }
    }

    /// Presses the button. The address at the provider, not opened yet.
    pub async fn start(&self) -> Url {
        let sent = self.browser.press_once(&self.page, "/start", &[]).await.unwrap();
        assert_eq!(sent.status, 303, "{}", sent.body);
        sent.location().unwrap().unwrap()
    }

    /// The provider's own page.
    pub async fn consent(&self) -> Page {
        let page = self.browser.open(&self.start().await).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        page
    }

    /// Agrees at the provider. The address to which it sends the browser back, not opened yet.
    pub async fn callback(&self, account: &str) -> Url {
        let consent = self.consent().await;
        let sent = self.browser.press_once(&consent, "allow", &[("account", account)]).await.unwrap();
        sent.location().unwrap().unwrap()
    }

    /// Comes back from the provider: the page that shows which account it is.
    pub async fn come_back(&self, account: &str) -> Page {
        let callback = self.callback(account).await;
        self.browser.open(&callback).await.unwrap()
    }

    /// Says yes to the account as well: the last page.
    pub async fn finish(&self, account: &str) -> Page {
        let confirm = self.come_back(account).await;
        self.browser.press(&confirm, "/confirm", &[]).await.unwrap()
    }

    /// The session as the caller sees it.
    pub async fn standing(&self, world: &World) -> Answer {
        world.daemon.get(&format!("/v1/connect/{}", self.id)).await
    }

    /// The word for how the session stands.
    pub async fn status(&self, world: &World) -> String {
        self.standing(world).await.text("status").to_owned()
    }

    /// The page of the session as this browser sees it now.
    pub async fn look(&self) -> Page {
        self.browser.open(&self.page.url).await.unwrap()
    }
}

/// The value of a parameter of an address; it must be there once.
pub fn param(url: &Url, name: &str) -> String {
    let mut found = url.query_pairs().filter(|(key, _)| key == name);
    let value = found.next().unwrap_or_else(|| panic!("no `{name}` in {url}")).1.into_owned();
    assert!(found.next().is_none(), "`{name}` stands twice in {url}");
    value
}

/// The address with one parameter changed, or taken out.
pub fn with_param(url: &Url, name: &str, value: Option<&str>) -> Url {
    let kept: Vec<_> = url.query_pairs().into_owned().filter(|(key, _)| key != name).collect();
    let mut changed = url.clone();
    changed.query_pairs_mut().clear().extend_pairs(kept);
    if let Some(value) = value {
        changed.query_pairs_mut().append_pair(name, value);
    }
    changed
}

/// The page says all of this.
#[track_caller]
pub fn assert_says(page: &Page, said: &[&str]) {
    for said in said {
        assert!(
            page.body.contains(said),
            "{said} is not on the page at {} ({}):\n{}",
            page.url,
            page.status,
            page.body
        );
    }
}
