//! SIGKILL at random times, hundreds of them, while callers ask and refreshes of every class of rotation fly. What may be
//! lost is what the kill itself destroyed: an answer in flight, where the provider had already ended what it replaces.
//!
//! `GRANTD_KILLS` changes how many kills there are in all, `GRANTD_SEED` has the same throws again.

mod callers;
mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use grantd::clock::{Clock as _, SystemClock};
use grantd::sandbox::browser::Browser;
use grantd::sandbox::{Fault, Fingerprint, GrantId, Options, Rotation, What, When};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::kills::callers::Callers;
use crate::support::World;
use crate::support::dice::{self, Dice, tell};

/// How many kills a normal run of the tests has, over all classes.
const KILLS: usize = 240;
/// How many classes of rotation there are, and how many daemons are killed side by side for each.
const CLASSES: usize = 4;
const DAEMONS: usize = 2;
/// How many connections are refreshed all the time.
const CONNECTIONS: usize = 6;
const LIFETIME: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_nothing_where_the_refresh_token_stays_the_same() {
    killed_side_by_side(Rotation::Static).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_nothing_where_old_refresh_tokens_live_on() {
    killed_side_by_side(Rotation::MultiValid).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_nothing_where_an_old_refresh_token_has_some_grace() {
    killed_side_by_side(Rotation::SingleUse { kills_family: true, grace: PATIENCE }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_only_what_they_destroyed_where_an_old_refresh_token_is_dead_at_once() {
    killed_side_by_side(Rotation::SingleUse { kills_family: true, grace: Duration::ZERO }).await;
}

async fn killed_side_by_side(rotation: Rotation) {
    let kills = dice::from_environment("GRANTD_KILLS", KILLS).div_ceil(CLASSES * DAEMONS);
    let mut dice = Dice::of(dice::seed());
    let runs = (0..DAEMONS).map(|_| Run::begin(rotation, dice.split().below(u64::MAX)));
    let runs = futures_util::future::join_all(runs).await;
    futures_util::future::join_all(runs.into_iter().map(|run| run.finish(kills))).await;
}

/// One daemon on its way through many kills.
struct Run {
    rotation: Rotation,
    seed: u64,
    dice: Dice,
    world: World,
    callers: Callers,
    /// How many accounts there have been.
    stocked: usize,
    /// What each account began with.
    first_tokens: BTreeMap<String, Fingerprint>,
    /// When it was killed, in milliseconds.
    kills: Vec<i64>,
}

impl Run {
    async fn begin(rotation: Rotation, seed: u64) -> Self {
        tell(&format!("kills: {rotation:?} seed={seed}"));
        let mut dice = Dice::of(seed);
        let options = Options { access_ttl: LIFETIME, rotation, ..Options::default() };
        let mut world = World::arranged(options, |home, _| home.tell(rotation)).await;
        world.daemon.kill();
        // An answer takes its time, before the provider acts or after: most kills find one on its way.
        world.sandbox.script(Fault::of_refresh(When::Every(3), What::Delay(Duration::from_millis(15))));
        world.sandbox.script(Fault::of_refresh(When::Every(2), What::Slow(20_000)));
        let callers = Callers::start(3, &world.daemon.home.socket(), &mut dice);
        let mut run =
            Self { rotation, seed, dice, world, callers, stocked: 0, first_tokens: BTreeMap::new(), kills: Vec::new() };
        run.restock().await;
        run.world.daemon.restart().await;
        run
    }

    async fn finish(mut self, kills: usize) {
        while self.kills.len() < kills {
            // One in four hits the start.
            if self.dice.below(4) > 0 {
                self.world.daemon.wait_until_ready().await;
            }
            sleep(self.dice.millis_below(250)).await;
            self.world.daemon.kill();
            self.hear_out_the_dead().await;
            self.kills.push(SystemClock.now().as_millis());
            self.callers.check();
            if self.is_dead_at_once() {
                // What was sent before the kill is still worked on; a service manager waits longer than that.
                sleep(Duration::from_millis(100)).await;
            }
            self.restock().await;
            self.world.daemon.revive();
        }
        self.world.daemon.wait_until_ready().await;
        self.callers.stop().await;
        self.world.sandbox.clear_faults();
        self.settle().await;
    }

    /// Waits until the provider has noted what the daemon had sent: on a busy machine that can be after the kill, and would
    /// look as if nothing lay between it and what the next daemon sends. Connections are taken up in their order, so whoever
    /// comes last and is answered comes after all of them.
    async fn hear_out_the_dead(&self) {
        for _ in 0..2 {
            Browser::new().open(self.world.sandbox.url()).await.unwrap();
        }
    }

    /// Replaces the connections that were lost, so that the load stays what it is. The daemon is not running.
    async fn restock(&mut self) {
        let living = self.callers.diary.living().len();
        let more = self.stocked..self.stocked + CONNECTIONS.saturating_sub(living);
        if more.is_empty() {
            return;
        }
        self.stocked = more.end;
        let tokens = self.world.stock_while_away(more.clone(), LIFETIME).await;
        let accounts = more.map(|index| format!("stock-{index}"));
        self.callers.diary.accounts.lock().unwrap().extend(accounts.clone());
        self.first_tokens.extend(accounts.zip(tokens));
    }

    /// Says what became of each connection, and whether it had to.
    async fn settle(mut self) {
        let grants = verdict::grants_of_accounts(&self.world.sandbox.ledger(), &self.first_tokens, &self.callers.diary);
        let mut lost = Vec::new();
        for (account, grant) in &grants {
            if !self.can_be_renewed(account, *grant).await {
                lost.push((account, *grant));
            }
        }
        self.world.daemon.signal("TERM");
        assert_eq!(self.world.daemon.ended().await.code(), Some(0), "{}", self.world.daemon.log());
        self.store_is_whole();

        let ledger = self.world.sandbox.ledger();
        let (given, stored) = (verdict::replacements_given(&ledger), verdict::replacements_stored(&self.world));
        let rotates = self.rotation != Rotation::Static;
        verdict::nothing_was_sent_twice(&ledger, rotates, &self.kills);
        let mut all_destroyed = 0;
        for (account, grant) in &grants {
            let destroyed = given.get(grant).copied().unwrap_or_default() - stored[account];
            let is_lost = lost.contains(&(account, *grant));
            all_destroyed += destroyed;
            let expected = if self.is_dead_at_once() { destroyed } else { 0 };
            assert_eq!(
                usize::from(is_lost),
                expected,
                "{account} lost: {is_lost}, answers destroyed: {destroyed}, seed {}",
                self.seed
            );
        }
        for (account, reason) in self.callers.diary.refused.lock().unwrap().iter() {
            assert!(lost.iter().any(|(lost, _)| *lost == account), "{account} needs nobody");
            assert_eq!(reason, "lost_response", "{account}");
        }
        let log = self.world.daemon.log();
        assert!(!log.contains("panicked"), "the daemon panicked:\n{log}");
        let served = self.callers.diary.served.lock().unwrap().len();
        assert!(served > self.kills.len(), "callers were served between the kills");
        let refreshes = ledger.refreshed();
        assert!(all_destroyed > 0 || self.kills.len() < 25, "no kill met a refresh");
        tell(&format!(
            "kills: {:?} seed={} kills={} refreshes={refreshes} served={served} destroyed={all_destroyed} lost={}",
            self.rotation,
            self.seed,
            self.kills.len(),
            lost.len(),
        ));
    }

    /// Whether the provider ends a refresh token the moment it is used.
    const fn is_dead_at_once(&self) -> bool {
        matches!(self.rotation, Rotation::SingleUse { grace: Duration::ZERO, .. })
    }

    /// Whether another token comes. If not, then because the provider has said that the refresh token is spent.
    async fn can_be_renewed(&self, account: &str, grant: GrantId) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut old = Value::Null;
        loop {
            let body = json!({"account": account, "connect": false, "rejected": old});
            let answer = self.world.daemon.token(body).await;
            match answer.status {
                200 if old.is_null() => old = answer.json["token_id"].clone(),
                200 if answer.json["token_id"] != old => {
                    assert!(self.world.is_live(&answer.json["access_token"]).await, "{answer:?}");
                    return true;
                }
                409 => {
                    self.callers
                        .diary
                        .refused
                        .lock()
                        .unwrap()
                        .insert(account.to_owned(), answer.text("reason").to_owned());
                    return false;
                }
                _ if verdict::was_refused(&self.world.sandbox.ledger(), grant) => return false,
                _ => {
                    assert!(Instant::now() < deadline, "{answer:?}, seed {}", self.seed);
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn store_is_whole(&self) {
        let database = rusqlite::Connection::open(self.world.daemon.home.store()).unwrap();
        let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
}
