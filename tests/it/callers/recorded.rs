//! What a configured caller was given or refused is in the audit log with the rule that decided.

use serde_json::{Value, json};

use super::{BROAD, CALLERS, NARROW, NOTHING, READER, Site};

#[tokio::test]
async fn each_entry_names_the_caller_its_subject_and_the_rule() {
    let site = Site::new(CALLERS).await;
    for (who, status) in [(READER, 200), (NARROW, 403), (BROAD, 200), (NOTHING, 404)] {
        let answer = site.token(who, json!({"account": "u-1001"})).await;
        assert_eq!(answer.status, status, "{}: {answer:?}", who.uid);
    }
    let above = site.token(NARROW, json!({"account": "u-1001", "scopes": ["email"]})).await;
    assert_eq!((above.status, above.text("error")), (403, "scope_denied"), "{above:?}");

    let output = site.world.daemon.run(&["audit", "export"]);
    assert_eq!(output.code, 0, "{}", output.err);
    let entries = output.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["entry"].clone());
    let told: Vec<_> = entries
        .filter(|entry| matches!(entry["caller"].as_str(), Some("reader" | "narrow" | "broad" | "nothing")))
        .map(|entry| {
            assert_eq!((&entry["tenant"], &entry["subject"]), (&json!("local"), &json!("uid:41001")), "{entry}");
            let text = |member: &str| entry[member].as_str().unwrap_or("-").to_owned();
            [text("caller"), text("act"), text("rule"), text("code"), entry["uid"].to_string()]
        })
        .collect();
    let expected = [
        ["reader", "token_granted", "callers.reader.allow[0]", "-", "42001"],
        ["narrow", "token_refused", "callers.narrow.allow[0]", "scope_denied", "42002"],
        ["broad", "token_granted", "callers.broad.allow[0]", "-", "42003"],
        ["nothing", "token_refused", "default deny", "unknown_provider", "42005"],
        ["narrow", "token_refused", "callers.narrow.allow[0]", "scope_denied", "42002"],
    ];
    assert_eq!(told, expected.map(|entry| entry.map(str::to_owned)));
}
