//! Configured callers: each has what its rules allow, on behalf of whom they say, and nothing else; what is not a caller's is
//! not there for it.

mod matrix;
mod peers;
mod recorded;
mod seen;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use grantd::sandbox::browser::Browser;
use grantd::sandbox::{Options, Sandbox};
use serde_json::{Value, json};

use crate::support::ask::ask;
use crate::support::{Answer, Daemon, Home, Person, World};

/// Whose accounts they are: `u-1001`, the default, and `u-1002`, called `work`.
const ALICE: Person = Person { uid: 41_001, gid: 41_001 };
const READER: Person = Person { uid: 42_001, gid: 42_001 };
const NARROW: Person = Person { uid: 42_002, gid: 42_002 };
const BROAD: Person = Person { uid: 42_003, gid: 42_003 };
const LABEL: Person = Person { uid: 42_004, gid: 42_004 };
const NOTHING: Person = Person { uid: 42_005, gid: 42_005 };
/// In the group 42050 and for itself.
const GROUP: Person = Person { uid: 42_006, gid: 42_050 };
const OTHER: Person = Person { uid: 42_007, gid: 42_007 };
/// No configured caller.
const STRANGER: Person = Person { uid: 43_000, gid: 43_000 };

const CALLERS: &str = "\
callers:
  reader: {peer: {uid: 42001}, on_behalf_of: 41001, allow: [{provider: sandbox, accounts: [u-1001], scopes: default}]}
  narrow: {peer: {uid: 42002}, on_behalf_of: 41001, allow: [{provider: sandbox, scopes: [openid]}]}
  broad: {peer: {uid: 42003}, on_behalf_of: 41001, allow: [{provider: sandbox, scopes: [openid], allow_broader: true}]}
  label: {peer: {uid: 42004}, on_behalf_of: 41001, allow: [{provider: sandbox, accounts: [work]}]}
  nothing: {peer: {uid: 42005}, on_behalf_of: 41001, allow: []}
  group: {peer: {gid: 42050}, allow: [{provider: '*'}]}
  other: {peer: {uid: 42007}, on_behalf_of: 41001, allow: [{provider: other}]}
";

/// A machine where everybody may ask, and two accounts of Alice are connected.
struct Site {
    world: World,
}

impl Site {
    async fn new(callers: &str) -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let home = Home::new();
        home.knows_and(&sandbox, ", mode: \"0660\"", callers);
        home.edit("config/grantd.yaml", |text| format!("{text}  other: {{definition: sandbox, {}}}\n", home.client()));
        let run = home.file("run");
        fs::create_dir(&run).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = Daemon::start(home).await;
        // In the place of a group that all of them are in.
        fs::set_permissions(daemon.home.socket(), fs::Permissions::from_mode(0o666)).unwrap();
        let site = Self { world: World { sandbox, daemon } };
        for account in ["u-1001", "u-1002"] {
            site.connect(account).await;
        }
        for (account, naming) in [("u-1001", json!({"default": true})), ("u-1002", json!({"label": "work"}))] {
            let path = format!("/v1/connections/{}", site.connection(account).await);
            assert_eq!(site.ask(ALICE, "PATCH", &path, Some(naming)).await.status, 200);
        }
        site
    }

    /// Alice connects an account in a browser that her own command opened.
    async fn connect(&self, account: &str) {
        let body = json!({"provider": "sandbox", "open": true});
        let session = self.ask(ALICE, "POST", "/v1/connect", Some(body)).await;
        assert_eq!(session.status, 200, "{session:?}");
        let browser = Browser::new();
        let page = browser.open(&session.url("browser_url")).await.unwrap();
        let consent = browser.press(&page, "/start", &[]).await.unwrap();
        let came = browser.press(&consent, "allow", &[("account", account)]).await.unwrap();
        assert_eq!(browser.press(&came, "/confirm", &[]).await.unwrap().status, 200);
    }

    /// The connection of one of Alice's accounts.
    async fn connection(&self, account: &str) -> String {
        let listed = self.ask(ALICE, "GET", "/v1/connections", None).await;
        let all = listed.json["connections"].as_array().unwrap().clone();
        let found = all.iter().find(|connection| connection["account"]["id"] == account).unwrap();
        found["id"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, who: Person, method: &'static str, path: &str, body: Option<Value>) -> Answer {
        let (socket, path) = (self.world.daemon.home.socket(), path.to_owned());
        who.does(move || async move { ask(&socket, method, &path, body).await.unwrap() }).await
    }

    async fn token(&self, who: Person, more: Value) -> Answer {
        let mut body = json!({"provider": "sandbox", "connect": false});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ask(who, "POST", "/v1/token", Some(body)).await
    }
}

/// A body without what differs from request to request.
fn without_id(answer: &Answer) -> (u16, Value) {
    let mut body = answer.json.clone();
    body.as_object_mut().unwrap().remove("request_id").expect("every problem has a request id");
    (answer.status, body)
}
