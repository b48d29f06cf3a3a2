//! The guards: one rejection, one provider that is down and one wrong secret cost nobody a connection, and none of them
//! makes the daemon knock without end.

mod doubt;
mod patience;
mod registration;
mod rejections;
mod trouble;
mod turns;

use std::time::Duration;

use grantd::sandbox::{Fault, Options, What, When};
use rusqlite::params;
use serde_json::{Value, json};

use crate::support::daemon::Output;
use crate::support::{Answer, World};

const ADA: &str = "u-1001";
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(120);

impl World {
    /// A world with one connection.
    async fn guarded() -> Self {
        let world = Self::new().await;
        assert_eq!(world.connect(ADA).await.status, 200);
        world
    }

    /// A world with so many connections and with more lines in the definition's `refresh:`.
    async fn guarded_stock(count: usize, refresh: &str) -> Self {
        let mut world = Self::arranged(Options::default(), |home, _| {
            home.redefine("  lead: 60\n", &format!("  lead: 60\n{refresh}"));
        })
        .await;
        world.stock(count, HOUR).await;
        world
    }

    fn refuse_refreshes(&self, code: &str) {
        self.sandbox.script(Fault::of_refresh(When::Always, What::OAuthError(code.to_owned())));
    }

    /// Makes every grant due now, as if time had passed, but those of one account.
    fn make_due_but(&self, account: &str) {
        let store = rusqlite::Connection::open(self.daemon.home.store()).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        let but = "(SELECT id FROM connections WHERE account_id = ?1)";
        let statement = format!("UPDATE grants SET renew_at = 0, due_at = 0 WHERE connection NOT IN {but}");
        store.execute(&statement, params![account]).unwrap();
    }

    fn make_due(&self) {
        self.make_due_but("");
    }

    /// How many connections are in this state.
    async fn in_state(&self, state: &str) -> usize {
        self.connections().await.iter().filter(|listed| listed["state"] == state).count()
    }

    /// How the daemon says that a provider is doing.
    async fn provider_state(&self, name: &str) -> String {
        let providers = self.daemon.get("/v1/providers").await.json;
        let found = providers["providers"].as_array().unwrap().iter().find(|found| found["id"] == name).cloned();
        found.unwrap()["state"].as_str().unwrap().to_owned()
    }

    /// What an operator reads.
    async fn read_status(&self) -> Output {
        let home = &self.daemon.home;
        let mut command = crate::support::Daemon::command(home);
        command.arg("status");
        tokio::task::spawn_blocking(move || Output::of(&mut command)).await.unwrap()
    }

    async fn release(&self, name: &str) -> Output {
        let mut command = crate::support::Daemon::command(&self.daemon.home);
        command.args(["provider", "release", name]);
        tokio::task::spawn_blocking(move || Output::of(&mut command)).await.unwrap()
    }

    /// A caller says that the upstream refuses what it was handed.
    async fn refuse(&self, account: &str) -> Answer {
        let living = self.daemon.token(json!({"account": account})).await;
        assert_eq!(living.status, 200, "{living:?}");
        self.daemon.token(json!({"account": account, "rejected": living.json["token_id"]})).await
    }

    /// Lines of the log that are errors.
    fn alarms(&self) -> Vec<String> {
        let log = self.daemon.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["level"] == "ERROR").map(|line| line.to_string()).collect()
    }
}

/// What a caller is told to wait, in seconds.
fn retry_after(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 503, "{answer:?}");
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}
