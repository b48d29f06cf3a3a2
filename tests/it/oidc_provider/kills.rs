//! SIGKILL at random times against a provider that revokes the whole grant when a refresh token comes back a second time.
//!
//! `GRANTD_KILLS` asks for more kills (a tenth of that number here), `GRANTD_SEED` has the same throws again.

use std::path::PathBuf;
use std::time::Duration;

use grantd::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::oidc_provider::World;
use crate::oidc_provider::server::SECRET;
use crate::support::ask::ask;
use crate::support::dice::{self, Dice, tell};

/// How many refreshes there are at least, and how many kills.
const RENEWALS: usize = 40;
const KILLS: usize = 300;
/// How long a request and its answer are on their way, in milliseconds, at most.
const DISTANCE: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_reuse_no_refresh_token_but_one_whose_successor_they_destroyed() {
    let kills = dice::from_environment("GRANTD_KILLS", KILLS).div_ceil(10);
    let seed = dice::seed();
    tell(&format!("kills: oidc-provider seed={seed}"));
    let mut run = Run { dice: Dice::of(seed), world: World::away(SECRET, DISTANCE).await, killed: Vec::new(), lost: 0 };
    assert_eq!(run.world.connect().await.status, 200);
    while run.killed.len() < kills || run.world.renewals() < RENEWALS {
        run.kill_while_it_renews().await;
        if !run.goes_on().await {
            run.had_to_be_lost();
            assert_eq!(run.world.connect().await.status, 200);
        }
    }
    run.settle().await;
    tell(&format!(
        "kills: oidc-provider seed={seed} kills={} refreshes={} reused={} lost={}",
        run.killed.len(),
        run.world.renewals(),
        run.reuses().len(),
        run.lost
    ));
}

struct Run {
    dice: Dice,
    world: World,
    /// When, in milliseconds.
    killed: Vec<i64>,
    lost: usize,
}

impl Run {
    async fn kill_while_it_renews(&mut self) {
        let asking = tokio::spawn(keep_renewing(self.world.daemon.home.socket()));
        sleep(self.dice.millis_below(200)).await;
        self.world.daemon.kill();
        self.killed.push(SystemClock.now().as_millis());
        asking.abort();
        // What was sent before the kill is still worked on; a service manager waits longer than that.
        sleep(Duration::from_millis(u64::from(DISTANCE) + 100)).await;
        self.world.daemon.restart().await;
    }

    /// Whether another token comes. If not, then because the provider took a refresh token for stolen.
    async fn goes_on(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut old = Value::Null;
        loop {
            let answer = self.world.token(json!({"connect": false, "rejected": old})).await;
            match answer.status {
                _ if self.reuses().len() > self.lost => return false,
                200 if old.is_null() => old = answer.json["token_id"].clone(),
                200 if answer.json["token_id"] != old => {
                    assert!(self.world.is_live(&answer).await, "{answer:?}\n{}", self.world.server.story());
                    return true;
                }
                // What the provider tells of it may be a moment behind.
                200 | 409 | 502..=504 => {}
                _ => panic!("{answer:?}\n{}", self.world.server.story()),
            }
            assert!(Instant::now() < deadline, "{answer:?}\n{}", self.world.server.story());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Fails unless the provider has rotated once more than is stored, and the daemon was killed since the rotation before.
    fn had_to_be_lost(&mut self) {
        self.lost += 1;
        let reuse = self.reuses().pop().unwrap();
        let of_grant = |told: &Value| told["grant"] == reuse["grant"];
        let rotations: Vec<Value> =
            self.world.server.events("refresh_token.rotated").into_iter().filter(of_grant).collect();
        let story = || self.world.server.story();
        let (last, before) = rotations.split_last().expect("a token that was used before was rotated");
        assert_eq!(last["token"], reuse["token"], "it is the last one that was sent again\n{}", story());
        assert_eq!(before.len(), self.replacements_stored(), "an answer was destroyed\n{}", story());
        let since = before.last().map_or(0, |rotation| rotation["at_ms"].as_i64().unwrap());
        let killed = self.killed.iter().any(|at| (since..=reuse["at_ms"].as_i64().unwrap()).contains(at));
        assert!(killed, "and it was a kill that destroyed it\n{}", story());
    }

    fn reuses(&self) -> Vec<Value> {
        self.world.server.events("refresh_token.reused")
    }

    fn replacements_stored(&self) -> usize {
        let read_only = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = rusqlite::Connection::open_with_flags(self.world.daemon.home.store(), read_only).unwrap();
        let generation: i64 = database.query_row("SELECT generation FROM grants", [], |row| row.get(0)).unwrap();
        usize::try_from(generation - 1).unwrap()
    }

    async fn settle(&mut self) {
        assert_eq!(self.reuses().len(), self.lost, "{}", self.world.server.story());
        assert!(self.world.server.events("server_error").is_empty(), "{}", self.world.server.story());
        self.world.live_token().await;
        self.world.daemon.signal("TERM");
        assert_eq!(self.world.daemon.ended().await.code(), Some(0), "{}", self.world.daemon.log());
        assert!(!self.world.daemon.log().contains("panicked"), "{}", self.world.daemon.log());
    }
}

/// Has the token renewed again and again, as a caller does whom the provider's API refuses.
async fn keep_renewing(socket: PathBuf) {
    let mut old = Value::Null;
    loop {
        let body = json!({"provider": "test", "connect": false, "rejected": old});
        match ask(&socket, "POST", "/v1/token", Some(body)).await {
            Ok(answer) if answer.status == 200 => old = answer.json["token_id"].clone(),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}
