//! Strikes the real daemon at every failpoint and shows from the provider's ledger that no grant is lost that could have been
//! kept. `make chaos`; the first argument chooses cells by a part of their name, the variable `SEED` repeats a run.

#![expect(unreachable_pub, reason = "what the modules share is public among them and goes nowhere else")]
#![expect(clippy::print_stdout, reason = "this is a program that reports what it saw")]
#![allow(dead_code, reason = "not everything the support has is needed here")]
#![allow(unused_imports, reason = "as above")]

mod cell;
mod control;
mod device;
mod field;
mod life;
mod run;
#[path = "../it/support/mod.rs"]
mod support;
mod verdict;

use std::process::ExitCode;
use std::time::Instant;

use futures_util::future::join_all;

use crate::cell::Cell;
use crate::field::Field;
use crate::run::Tally;

/// How many daemons are struck at once.
const LANES: usize = 4;

#[tokio::main]
async fn main() -> ExitCode {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let seed =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| getrandom::u32().unwrap());
    let cells = cell::plan(&only, dice(seed));
    println!("seed={seed} cells={}", cells.len());
    if cells.is_empty() {
        println!("no cell has `{only}` in its name");
        return ExitCode::FAILURE;
    }
    let started = Instant::now();
    let lanes = (0..LANES).map(|lane| {
        let own: Vec<Cell> = cells.iter().skip(lane).step_by(LANES).copied().collect();
        tokio::spawn(lane_of(own))
    });
    let mut whole = Outcome::default();
    for outcome in join_all(lanes).await {
        whole.add(outcome.unwrap());
    }
    let control = if control::is_seen_to_fail().await { "failed" } else { "passed" };
    println!("in {} s", started.elapsed().as_secs());
    let Outcome { tally: Tally { kills, lost, unavoidable }, refreshes, doubles, wrong } = whole;
    doubles.iter().for_each(|double| println!("double: {double}"));
    wrong.iter().for_each(|wrong| println!("wrong: {wrong}"));
    println!(
        "kills={kills} refreshes={refreshes} lost={lost} unavoidable={unavoidable} double={} control={control}",
        doubles.len()
    );
    let passed = lost == unavoidable && doubles.is_empty() && wrong.is_empty() && control == "failed";
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Outcome {
    tally: Tally,
    refreshes: usize,
    doubles: Vec<String>,
    wrong: Vec<String>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.tally.kills += other.tally.kills;
        self.tally.lost += other.tally.lost;
        self.tally.unavoidable += other.tally.unavoidable;
        self.refreshes += other.refreshes;
        self.doubles.extend(other.doubles);
        self.wrong.extend(other.wrong);
    }
}

/// Plays cells one after the other in a home of their own.
async fn lane_of(cells: Vec<Cell>) -> Outcome {
    let mut outcome = Outcome::default();
    if cells.is_empty() {
        return outcome;
    }
    let mut field = Field::new().await;
    for cell in &cells {
        let started = Instant::now();
        let tally = run::play(&mut field, cell).await;
        println!(
            "{cell}: kills={} lost={} unavoidable={} in {} ms",
            tally.kills,
            tally.lost,
            tally.unavoidable,
            started.elapsed().as_millis()
        );
        if tally.lost != tally.unavoidable {
            outcome.wrong.push(format!("{cell}: lost what could have been kept"));
        }
        outcome.add(Outcome { tally, ..Outcome::default() });
    }
    field.look_at_log();
    for (class, sandbox) in field.sandboxes() {
        let ledger = sandbox.ledger();
        outcome.refreshes += ledger.refreshed();
        outcome.doubles.extend(verdict::doubles(class, &ledger, &field.lives));
    }
    outcome.wrong.append(&mut field.wrong);
    outcome
}

/// Numbers below a bound that a seed decides.
fn dice(seed: u32) -> impl FnMut(u32) -> u32 {
    let mut state = u64::from(seed) + 1;
    move |below| {
        // The generator of Knuth's MMIX; its high bits are good enough to draw lots.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 40).unwrap_or_default() % below
    }
}
