//! Whatever stands in a definition: reading and resolving it does not panic, and ends soon.

#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::definition(data));
