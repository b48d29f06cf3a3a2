//! Whatever happens in whatever order, the refresh engine keeps its promises: random scripts of events, and after each event
//! the promises are looked at in the store, in the spool and in the provider's ledger.
//!
//! A script that fails is made as short as can be and printed in words, with the seed that made it. `GRANTD_SEED` runs the
//! same scripts again, `GRANTD_CASES` more of them.

mod class;
mod consent;
mod event;
mod life;
mod model;
mod promises;
mod scripts;
mod stage;
mod upheaval;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::class::Class;
use self::event::{Event, events};
use self::stage::Stage;
use crate::support::dice::{from_environment, seed, tell};

/// How many scripts are played for each class of provider.
const CASES: usize = 5;
/// How many events a script has at least and at most.
const EVENTS: std::ops::RangeInclusive<usize> = 10..=40;
/// How long a script that fails is made shorter, in milliseconds: shorter is nicer, but each try takes its time.
const SHRINK_MS: u32 = 40_000;

/// Plays random scripts at a provider of this class.
fn explore(class: Class) {
    let (seed, cases) = (seed(), from_environment("GRANTD_CASES", CASES));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: u32::try_from(cases).expect("nobody waits for so many"),
        failure_persistence: None,
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&vec(events(), EVENTS), |script| play(class, &script).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, script)) => {
            panic!("{class:?}, GRANTD_SEED={seed}: {why}\nThe script:\n{}", in_words(&script))
        }
        Err(other) => panic!("{class:?}, GRANTD_SEED={seed}: {other}"),
    }
}

/// Plays one script to its end, and then lets everything calm down. What is broken, and when, if anything is.
fn play(class: Class, script: &[Event]) -> Result<(), String> {
    let mut stage = Stage::new(class);
    for (number, event) in script.iter().enumerate() {
        let looked = stage.play(event).and_then(|()| stage.look());
        looked.map_err(|broken| format!("after event {} ({event}): {broken}", number + 1))?;
    }
    let calmed = stage.calm_down();
    tell_if_asked(&stage);
    calmed.map_err(|broken| format!("when everything had calmed down: {broken}"))
}

fn in_words(script: &[Event]) -> String {
    script.iter().enumerate().map(|(number, event)| format!("{:>4}. {event}\n     {event:?}\n", number + 1)).collect()
}

/// With `GRANTD_TELL`, what a script has stirred: a test that meets nothing proves nothing.
fn tell_if_asked(stage: &Stage) {
    if std::env::var_os("GRANTD_TELL").is_some() {
        tell(&stage.summary());
    }
}

#[test]
fn where_refresh_tokens_stay_the_same() {
    explore(Class::Static);
}

#[test]
fn where_old_refresh_tokens_go_on_working() {
    explore(Class::MultiValid);
}

#[test]
fn where_refresh_tokens_work_once() {
    explore(Class::SingleUse);
}

#[test]
fn where_refresh_tokens_work_once_and_a_little_longer() {
    explore(Class::Grace);
}

#[test]
fn where_a_second_use_ends_everything() {
    explore(Class::KillsFamily);
}
