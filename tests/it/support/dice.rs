//! Chance that can be had again: every throw comes from a seed that is printed.

use std::io::Write as _;
use std::time::Duration;

/// A sequence of random numbers (SplitMix64).
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Throws that belong to `seed`.
    pub const fn of(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A span of time below so many milliseconds.
    pub const fn millis_below(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    /// Another sequence, which this one determines.
    pub const fn split(&mut self) -> Self {
        Self::of(self.below(u64::MAX))
    }
}

/// The seed of this run: `GRANTD_SEED`, or one that nobody knows before.
pub fn seed() -> u64 {
    match std::env::var("GRANTD_SEED") {
        Ok(given) => given.parse().expect("GRANTD_SEED is a number"),
        Err(_) => getrandom::u64().unwrap(),
    }
}

/// A number that the environment may change.
pub fn from_environment(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(given) => given.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

/// Says something about a run even when the test succeeds, where the test harness would keep it to itself.
pub fn tell(line: &str) {
    drop(std::io::stderr().write_all(format!("{line}\n").as_bytes()));
}
