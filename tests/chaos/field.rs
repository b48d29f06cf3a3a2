//! A home with four providers, one for each way in which refresh tokens rotate, and the accounts connected at them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use grantd::clock::{Clock as _, SystemClock};
use grantd::sandbox::browser::Browser;
use grantd::sandbox::{Fingerprint, GrantId, GrantView, Options, Sandbox, SandboxUser, definition};
use grantd::store::spool::Spooled;
use rusqlite::OpenFlags;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::cell::Class;
use crate::device;
use crate::life::{self, Life, Span};
use crate::support::ask::ask;
use crate::support::{Answer, Home};

/// How many accounts are connected at each provider all the time.
pub const ACCOUNTS: usize = 3;
/// An account that comes and goes.
pub const VISITOR: &str = "u-visitor";
/// How long a grant may take to be refreshed once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// An account at a provider.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Account {
    pub provider: &'static str,
    pub id: String,
}

/// Whether a grant can be refreshed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewal {
    Done,
    /// A person has to act.
    Lost,
    /// Neither, for too long.
    Stuck,
}

/// What the lives of its daemons have in common.
pub struct Field {
    pub home: Home,
    sandboxes: Vec<(Class, Sandbox)>,
    pub lives: Vec<Span>,
    /// The version of each grant when it was last looked at.
    versions: BTreeMap<String, (i64, i64)>,
    /// The device flows of this cell.
    pub flows: Vec<device::Flow>,
    /// What must never happen and has.
    pub wrong: Vec<String>,
}

impl Field {
    /// Everything is set up and everybody is connected; no daemon is running.
    pub async fn new() -> Self {
        let home = Home::new();
        let (mut sandboxes, mut lines) = (Vec::new(), String::new());
        for class in Class::ALL {
            let users = accounts_at(class).map(|account| account.id).chain([VISITOR.to_owned()]);
            let users = users.map(|id| SandboxUser::new(&id, &id, &format!("{id}@sandbox.example"))).collect();
            let options = Options {
                rotation: class.rotation(),
                users,
                device_interval: Duration::from_secs(1),
                ..Options::default()
            };
            let sandbox = Sandbox::start(options).await.unwrap();
            home.knows(&sandbox);
            let (id, (rotation, after_ambiguous)) = (class.provider(), class.rules());
            let text = definition(sandbox.url())
                .replace("id: sandbox", &format!("id: {id}"))
                .replace("rotation: single_use", &format!("rotation: {rotation}"))
                .replace("after_ambiguous: once", &format!("after_ambiguous: {after_ambiguous}"));
            home.write(&format!("config/providers.d/{id}.yaml"), &text);
            lines.push_str(&home.sandbox_line(id));
            sandboxes.push((class, sandbox));
        }
        std::fs::remove_file(home.file("config/providers.d/sandbox.yaml")).unwrap();
        home.configure_and(&lines, "", "jobs: {housekeep: \"* * * * * *\"}\n");
        home.edit("config/grantd.yaml", |text| text.replace("level: trace", "level: info"));
        let mut field = Self {
            home,
            sandboxes,
            lives: Vec::new(),
            versions: BTreeMap::new(),
            flows: Vec::new(),
            wrong: Vec::new(),
        };
        let life = field.peace().await;
        for account in everybody() {
            assert!(field.connect(&account, None).await, "{account:?} cannot be connected");
        }
        field.over(life, false);
        field
    }

    pub fn sandbox(&self, provider: &str) -> &Sandbox {
        let found = self.sandboxes.iter().find(|(class, _)| class.provider() == provider);
        &found.expect("every class has a sandbox").1
    }

    pub fn sandboxes(&self) -> impl Iterator<Item = (Class, &Sandbox)> {
        self.sandboxes.iter().map(|(class, sandbox)| (*class, sandbox))
    }

    /// A daemon to which nothing happens.
    pub async fn peace(&mut self) -> Life {
        let mut life = Life::begin(&self.home, "");
        assert!(life.is_ready(&self.home).await, "the daemon does not start; its log:\n{}", self.log());
        life
    }

    /// A life has ended, or ends now.
    pub fn over(&mut self, life: Life, struck: bool) {
        self.lives.push(life.end(struck));
        self.look_at_versions();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.file("log")).unwrap_or_default()
    }

    /// Nobody panicked who was not told to, and no secret was logged.
    pub fn look_at_log(&mut self) {
        for line in self.log().lines() {
            let own_panic = line.contains("panicked at") && !line.contains("src/failpoint.rs");
            if own_panic || line.contains("_MARK_") {
                self.wrong.push(format!("the log says: {line}"));
            }
        }
    }

    /// The grant that the provider gave last for this account.
    pub fn grant(&self, account: &Account) -> Option<GrantView> {
        self.sandbox(account.provider).grants().into_iter().rfind(|grant| *grant.sub == *account.id)
    }

    /// How often the provider has replaced the tokens of a grant.
    pub fn replacements_given(&self, provider: &str, grant: GrantId) -> i64 {
        use grantd::sandbox::{Kind, Secret};
        let ledger = self.sandbox(provider).ledger();
        let issued = ledger.of(Kind::Issued, Secret::Access);
        let count =
            issued.filter(|entry| entry.grant == Some(grant) && entry.grant_type == Some("refresh_token")).count();
        i64::try_from(count).unwrap()
    }

    /// How often a daemon that is dead has: a first pair is generation 1. Looks into the store and the spool without touching
    /// what it has left.
    pub fn replacements_kept(&self, account: &Account) -> i64 {
        let sql = "SELECT c.id, max(generation) FROM grants g JOIN connections c ON c.id = g.connection
                   WHERE c.provider = ?1 AND c.account_id = ?2 AND c.state <> 'revoked' GROUP BY c.id";
        let database = self.database();
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([account.provider, &account.id], |row| Ok((row.get(0)?, row.get(1)?)));
        let kept = rows.unwrap().map(|row| {
            let (id, stored): (String, i64) = row.unwrap();
            self.spooled(&id).map_or(stored, |spooled| spooled.max(stored))
        });
        kept.max().unwrap_or(1) - 1
    }

    /// The generation of what lies in the spool for a connection.
    fn spooled(&self, connection: &str) -> Option<i64> {
        let record = std::fs::read(self.spool().join(format!("{connection}.main"))).ok()?;
        let spooled = Spooled::decode(&record).ok()?;
        i64::try_from(spooled.read.next().generation.0).ok()
    }

    /// How many records lie in the spool.
    pub fn spooled_records(&self) -> usize {
        let names = std::fs::read_dir(self.spool()).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".main")).count()
    }

    fn spool(&self) -> PathBuf {
        self.home.file("state/grantd.db.spool")
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open_with_flags(self.home.store(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
    }

    /// Generations and epochs only grow.
    fn look_at_versions(&mut self) {
        let Ok(database) = rusqlite::Connection::open_with_flags(self.home.store(), OpenFlags::SQLITE_OPEN_READ_ONLY)
        else {
            return;
        };
        let mut statement = database.prepare("SELECT connection, slot, epoch, generation FROM grants").unwrap();
        let rows = statement.query_map([], |row| {
            let key: String = format!("{}/{}", row.get::<_, String>(0)?, row.get::<_, String>(1)?);
            Ok((key, (row.get(2)?, row.get(3)?)))
        });
        for (key, version) in rows.unwrap().map(Result::unwrap) {
            let before = self.versions.insert(key.clone(), version);
            if before.is_some_and(|before| before > version) {
                self.wrong.push(format!("{key} went back from {before:?} to {version:?}"));
            }
        }
    }

    /// Connects an account as a person does. Whether it went well: the daemon may not be there.
    pub async fn connect(&self, account: &Account, reconnect: Option<&str>) -> bool {
        let mut body = json!({"provider": account.provider});
        if let Some(id) = reconnect {
            body["reconnect"] = id.into();
        }
        let Some(session) = life::post(&self.home, "/v1/connect", body).await else { return false };
        matches!(timeout(PATIENCE, go_through(&session, account)).await, Ok(Some(())))
    }

    /// The id of the account's connection.
    pub async fn connection(&self, account: &Account) -> Option<String> {
        let listed = life::get(&self.home, "/v1/connections").await?;
        let mut all = listed.json["connections"].as_array()?.iter();
        let own = all.find(|one| one["provider"] == account.provider && one["account"]["id"] == account.id)?;
        own["id"].as_str().map(str::to_owned)
    }

    /// A person connects again what was lost.
    pub async fn reconnect(&mut self, account: &Account) {
        let id = self.connection(account).await;
        if !self.connect(account, id.as_deref()).await {
            self.wrong.push(format!("{account:?} cannot be connected again"));
        }
    }

    /// Asks for a token; `None` while nobody answers.
    pub async fn ask(&self, account: &Account, rejected: &Value) -> Option<Answer> {
        let body = json!({"provider": account.provider, "account": account.id, "min_ttl": 0, "connect": false,
            "rejected": rejected});
        life::post(&self.home, "/v1/token", body).await
    }

    /// Asks once for a refresh, whatever comes of it. Whether it brought another token.
    pub async fn refresh(&self, account: &Account) -> bool {
        let Some(old) = self.ask(account, &Value::Null).await else { return false };
        let Some(new) = self.ask(account, &old.json["token_id"]).await else { return false };
        new.status == 200 && new.json["token_id"] != old.json["token_id"]
    }

    /// Whether the grant can be refreshed now that nothing goes wrong. What was served goes into `wrong` if it was not good.
    pub async fn renew(&self, account: &Account, wrong: &mut Vec<String>) -> Renewal {
        let (mut old, deadline) = (Value::Null, Instant::now() + PATIENCE);
        loop {
            let asked = SystemClock.now().as_secs();
            let answer = self.ask(account, &old).await;
            match &answer {
                Some(answer) if answer.status == 200 => {
                    wrong.extend(self.fault_of(account, answer, asked).await);
                    if !old.is_null() && answer.json["token_id"] != old {
                        return Renewal::Done;
                    }
                    old = answer.json["token_id"].clone();
                }
                Some(answer) if answer.status == 409 => return Renewal::Lost,
                _ => {
                    // Dead for good at the provider, whatever the daemon still hopes for.
                    if self.grant(account).is_none_or(|grant| grant.ended.is_some()) {
                        return Renewal::Lost;
                    }
                    sleep(Duration::from_millis(30)).await;
                }
            }
            if Instant::now() > deadline {
                return Renewal::Stuck;
            }
        }
    }

    /// What is wrong with a token that was served.
    async fn fault_of(&self, account: &Account, answer: &Answer, asked: i64) -> Option<String> {
        let text = answer.json["access_token"].as_str()?;
        let (sandbox, print) = (self.sandbox(account.provider), Fingerprint::of(text));
        let me = sandbox.url().join("api/me").unwrap();
        let is_live = Browser::new().with_bearer(text, &me).await == Some(200);
        let ledger = sandbox.ledger();
        let grant = ledger.entries().iter().find(|entry| entry.fingerprint == print).and_then(|entry| entry.grant);
        let grants = sandbox.grants();
        let Some(grant) = grants.iter().find(|one| Some(one.id) == grant) else {
            return Some(format!("{account:?} was served a token that the provider never gave"));
        };
        if *grant.sub != *account.id {
            return Some(format!("{account:?} was served a token of {}", grant.sub));
        }
        if answer.json["expires_at"].as_i64().is_some_and(|at| at < asked) {
            return Some(format!("{account:?} was served a token after its end"));
        }
        // A grant that the provider has ended took its tokens with it, and nobody has told the daemon.
        (!is_live && grant.ended.is_none()).then(|| format!("{account:?} was served a dead token"))
    }
}

/// From the first page to the confirmation; `None` if there is no such way.
async fn go_through(session: &Answer, account: &Account) -> Option<()> {
    let link = session.json["connect_url"].as_str()?.parse().ok()?;
    let browser = Browser::new();
    let page = browser.open(&link).await.ok()?;
    let consent = browser.press(&page, "/start", &[]).await.ok()?;
    let shown = browser.press(&consent, "allow", &[("account", &account.id)]).await.ok()?;
    let confirmed = browser.press(&shown, "/confirm", &[]).await.ok()?;
    (confirmed.status == 200).then_some(())
}

pub fn accounts_at(class: Class) -> impl Iterator<Item = Account> {
    (0..ACCOUNTS).map(move |index| Account { provider: class.provider(), id: format!("u-{index}") })
}

/// One of each class after the other.
pub fn everybody() -> impl Iterator<Item = Account> {
    (0..ACCOUNTS).flat_map(|index| Class::ALL.into_iter().filter_map(move |class| accounts_at(class).nth(index)))
}
