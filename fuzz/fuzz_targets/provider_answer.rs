//! Whatever a provider answers: reading it does not panic, and ends soon.

#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::provider_answer(data));
