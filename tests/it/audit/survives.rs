//! Nobody has a token that is not in the log: not after SIGKILL under load, and not when the disk is full.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use grantd::sandbox::Options;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::ADA;
use crate::store_faults::SmallDisk;
use crate::support::World;
use crate::support::ask::ask;
use crate::support::dice::{self, Dice, tell};
use crate::support::person::{is_root, skipped};

const KILLS: usize = 12;
const CALLERS: usize = 4;

/// What the callers sent and got.
#[derive(Default)]
struct Count {
    over: AtomicBool,
    asked: AtomicUsize,
    got: AtomicUsize,
}

async fn keep_asking(socket: PathBuf, count: Arc<Count>) {
    while !count.over.load(Ordering::Relaxed) {
        count.asked.fetch_add(1, Ordering::Relaxed);
        match ask(&socket, "POST", "/v1/token", Some(json!({"provider": "sandbox", "connect": false}))).await {
            Ok(answer) if answer.status == 200 => {
                count.got.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => assert!(answer.status >= 500, "{answer:?}"),
            // The daemon may be away.
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_got_a_token_before_the_kill_is_in_the_log_once() {
    let seed = dice::seed();
    tell(&format!("audit: seed={seed}"));
    let mut dice = Dice::of(seed);
    let mut world = World::new().await;
    assert_eq!(world.connect(ADA).await.status, 200);
    let count = Arc::new(Count::default());
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(keep_asking(world.daemon.home.socket(), Arc::clone(&count)))).collect();
    for _ in 0..KILLS {
        // Some before the journal has been moved, some in the middle of it, some long after.
        sleep(dice.millis_below(1500)).await;
        world.daemon.kill();
        world.daemon.restart().await;
    }
    count.over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let entries = world.exported();
    let granted = entries.iter().filter(|entry| entry["act"] == "token_granted").count();
    let (asked, got) = (count.asked.load(Ordering::Relaxed), count.got.load(Ordering::Relaxed));
    tell(&format!("audit: seed={seed} kills={KILLS} asked={asked} got={got} granted={granted}"));
    assert!(got > KILLS * 10, "callers were served between the kills: {got}");
    assert!(got <= granted, "{} tokens are in nobody's log", got.saturating_sub(granted));
    // Each kill can have cut off one answer for each caller, after its entry was written.
    assert!(granted <= got + KILLS * CALLERS, "{granted} entries for {got} answers: some are there twice");
    let numbers: Vec<Value> = entries.iter().map(|entry| entry["seq"].clone()).collect();
    assert_eq!(numbers, (1..=entries.len()).map(Value::from).collect::<Vec<_>>());
    assert_eq!(world.verified().0, 0, "{}", world.verified().1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_hands_out_nothing_that_cannot_be_written_down() {
    if !is_root("a full disk") {
        return;
    }
    let mut disk = None;
    let world = World::arranged(Options::default(), |home, _| disk = SmallDisk::mount(home.file("state"), "3m")).await;
    let Some(disk) = disk else {
        return skipped("a full disk", "no file system can be mounted");
    };
    assert_eq!(world.connect(ADA).await.status, 200);
    disk.fill();
    let mut got = 0;
    let refused = loop {
        let answer = world.daemon.token(json!({"connect": false})).await;
        if answer.status != 200 {
            break answer;
        }
        got += 1;
        assert!(got < 20_000, "it never ends");
    };
    assert_eq!((refused.status, refused.text("error")), (503, "store_unavailable"), "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    assert!(got > 100, "there is room for a while: {got}");
    assert!(world.daemon.log().contains("The audit journal cannot be written"));
    disk.free();
    let after = world.daemon.token(json!({})).await;
    assert_eq!(after.status, 200, "{after:?}");
    assert_eq!(world.acts("token_granted").len(), got + 1);
    assert_eq!(world.verified().0, 0, "{}", world.verified().1);
}
