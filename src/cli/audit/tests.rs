//! What `grantd audit` asks and prints.

use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::cli::client::fake::Daemon;
use crate::cli::screen::fake::Recorder;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: AuditArgs,
}

async fn ran(daemon: &Daemon, words: &[&str]) -> (Result<ExitCode, CliError>, Recorder) {
    let line = Line::try_parse_from(["audit"].iter().chain(words)).unwrap();
    let mut recorder = Recorder::default();
    let result = run(line.args, &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await;
    (result, recorder)
}

fn entry(seq: u64) -> Value {
    json!({"entry": {"seq": seq, "at": 1000, "act": "token_granted", "caller": "uid:7", "rule": "own"}, "hash": "00"})
}

#[tokio::test]
async fn what_is_looked_for_is_asked_page_by_page() {
    let pages = AtomicUsize::new(0);
    let daemon = Daemon::start(move |_, _| match pages.fetch_add(1, Ordering::SeqCst) {
        0 => (200, json!({"entries": [entry(1)], "next": 20_000, "more": true})),
        _ => (200, json!({"entries": [entry(20_001)], "next": 20_001, "more": false})),
    });
    let words = ["search", "--caller", "uid:7", "--code", "a&b", "--since", "2026-11-28", "--json"];
    let (result, screen) = ran(&daemon, &words).await;
    assert_eq!(result, Ok(ExitCode::Ok));
    assert_eq!(
        daemon.asked(),
        [
            "GET /v1/audit?after=0&limit=1000&caller=uid%3A7&code=a%26b&since=1795824000",
            "GET /v1/audit?after=20000&limit=999&caller=uid%3A7&code=a%26b&since=1795824000"
        ]
    );
    let lines: Vec<Value> = screen.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [entry(1), entry(20_001)]);
}

#[tokio::test]
async fn a_search_that_is_cut_short_says_so() {
    let daemon = Daemon::start(|_, _| (200, json!({"entries": [entry(1), entry(2)], "next": 2, "more": true})));
    let (result, screen) = ran(&daemon, &["search", "--limit", "2"]).await;
    assert_eq!(result, Ok(ExitCode::Ok));
    assert_eq!(screen.out().lines().count(), 3, "{}", screen.out());
    assert!(screen.err().contains("--limit"), "{}", screen.err());
}

#[tokio::test]
async fn the_last_entries_are_asked_from_the_end() {
    let daemon = Daemon::start(|_, _| (200, json!({"entries": [entry(8)], "next": 8, "more": false})));
    let (result, screen) = ran(&daemon, &["tail", "-n", "3"]).await;
    assert_eq!((result, daemon.asked()), (Ok(ExitCode::Ok), vec!["GET /v1/audit?last=3&limit=1000".to_owned()]));
    assert!(screen.out().starts_with("TIME ") && screen.out().contains("uid:7"), "{}", screen.out());
}

#[tokio::test]
async fn the_exit_code_says_whether_the_log_is_whole() {
    for (finding, from, to, last, code, said) in [
        (
            "intact",
            None,
            None,
            9,
            ExitCode::Ok,
            "Intact: entries 3 to 9, 2 signed days.\nThe last one has the hash ab.\n",
        ),
        ("intact", None, None, 2, ExitCode::Ok, "Intact: there are no entries yet.\n"),
        (
            "changed",
            Some(5),
            Some(5),
            4,
            ExitCode::Failure,
            "BROKEN: entry 5 is not what was written, or follows one that is not.\nEntries 3 to 4 are good.\n",
        ),
        (
            "truncated",
            Some(5),
            Some(9),
            2,
            ExitCode::Failure,
            "BROKEN: the tail is missing: entries 5 to 9 not there.\nNo entry before it is sure.\n",
        ),
    ] {
        let body = json!({
            "intact": finding == "intact", "finding": finding, "from": from, "to": to, "first": 3, "last": last,
            "hash": "ab", "checkpoints": 2,
        });
        let daemon = Daemon::start(move |_, _| (200, body.clone()));
        let (result, screen) = ran(&daemon, &["verify"]).await;
        assert_eq!((result, screen.out()), (Ok(code), said));
    }
}

#[test]
fn a_time_is_a_span_a_day_or_a_moment() {
    let day = Timestamp::from_secs(1_795_824_000);
    for (text, expected) in [
        ("2h", Some(When::Ago(Duration::from_secs(7200)))),
        ("2026-11-28", Some(When::At(day))),
        ("2026-11-28T01:00:00+01:00", Some(When::At(day))),
        ("yesterday", None),
        ("2026-13-01", None),
    ] {
        assert_eq!(when(text).ok(), expected, "{text}");
    }
    assert_eq!(When::Ago(Duration::from_secs(9)).seconds(Timestamp::from_secs(5)), 0);
}
