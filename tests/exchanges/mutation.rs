//! Recorded answers and definitions, changed at random in ways that nearly make sense: the same each time, and more often.

use std::path::Path;

use grantd::oauth::transport::ANSWER_MAX;

use crate::entries;
use crate::record::records;

/// SplitMix64: enough to choose with, and the same on every machine.
struct Dice(u64);

impl Dice {
    const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % (end.max(1) as u64)).unwrap_or_default()
    }
}

/// What stands in for a piece of the original.
const PIECES: [&str; 24] = [
    "",
    "null",
    "true",
    "-1",
    "1e400",
    "18446744073709551616",
    "0.0000001",
    "[]",
    "{}",
    "[[",
    "{\"a\":",
    "\"",
    "\\u0000",
    "\u{202e}",
    "\u{feff}",
    ",",
    ":",
    "  - ",
    "\n",
    "{",
    "}",
    "*a",
    "&a x",
    "~",
];

fn mutated(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let (at, end) = (dice.below(bytes.len()), dice.below(bytes.len()));
        let range = at.min(end)..at.max(end).min(at.min(end) + 40);
        match dice.below(5) {
            0 if !bytes.is_empty() => bytes[at] = u8::try_from(dice.roll() & 0xff).unwrap_or_default(),
            1 => drop(bytes.drain(range)),
            2 => {
                let piece = bytes[range].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => {
                let piece = PIECES[dice.below(PIECES.len())];
                bytes.splice(range, piece.bytes());
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[test]
fn no_mutation_of_an_answer_breaks_its_reader() {
    let (records, mut dice) = (records(), Dice(4));
    for round in 0..4000 {
        let body = records[round % records.len()].response().into_body();
        let mut data = vec![u8::try_from(dice.roll() & 0xff).unwrap_or_default()];
        data.extend(mutated(&body, &mut dice));
        entries::provider_answer(&data);
    }
}

#[test]
fn no_mutation_of_a_definition_breaks_its_reader() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("providers");
    let mut files: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut dice = Dice(7);
    for round in 0..300 {
        let text = std::fs::read(&files[round % files.len()]).unwrap();
        entries::definition(&text);
        entries::definition(&mutated(&text, &mut dice));
    }
}

#[test]
fn what_is_huge_or_deep_is_answered_soon() {
    // No answer is longer than the second; a text is tried beyond it.
    let (million, most) = (1 << 20, ANSWER_MAX);
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(million / 4), close.repeat(million / 4));
    for body in [
        format!("{{\"access_token\":\"{}\"}}", "a".repeat(million)),
        format!("{{\"error\":\"{}\"}}", "e".repeat(million)),
        format!("{{\"error\":\"invalid_grant\",\"claims\":\"{}\"}}", "c".repeat(million)),
        format!("{{\"access_token\":\"a\",\"scope\":\"{}\"}}", "s ".repeat(most / 2)),
        format!("{{\"access_token\":\"a\",\"expires_in\":{}}}", "9".repeat(300)),
        format!("{{\"access_token\":\"a\",\"expires_in\":\"{}\"}}", "9".repeat(million)),
        format!("{{\"error_codes\":[{}1]}}", "1,".repeat(most / 2)),
        format!("access_token={}", "a&b=".repeat(million / 4)),
        deep("[", "]"),
        deep("{\"access_token\":", "}"),
    ] {
        let kind = if body.starts_with("access_token") { 8 } else { 0 };
        entries::provider_answer(&[&[kind], body.as_bytes()].concat());
    }
    for text in [deep("[", "]"), deep("{a: ", "}"), format!("id: {}", "a".repeat(million)), "- ".repeat(10_000)] {
        entries::definition(text.as_bytes());
    }
}
