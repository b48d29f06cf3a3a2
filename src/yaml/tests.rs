//! What the reader refuses, and in which words.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    #[serde(default)]
    name: String,
    #[serde(default)]
    count: u8,
    #[serde(default)]
    level: Level,
    #[serde(default)]
    inner: BTreeMap<String, Inner>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    #[default]
    Info,
    Debug,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    list: Vec<String>,
}

fn refusal(text: &str) -> String {
    read::<Sample>("f.yaml", text).unwrap_err().to_string()
}

#[test]
fn every_refusal_says_where_and_what_was_expected() {
    for (text, expected) in [
        ("", "f.yaml: is empty; expected a mapping"),
        ("# nothing\n", "f.yaml: is empty; expected a mapping"),
        ("- a\n", "f.yaml:1:1: expected a mapping: `key: value` lines"),
        (
            "name: a\nnaem: b\n",
            "f.yaml:2:1: unknown key `naem`; expected one of `name`, `count`, `level`, `inner`; did you mean `name`? (at naem)",
        ),
        ("name: a\nname: b\n", "f.yaml:2:1: the key `name` is here twice"),
        ("inner:\n  a: {list: []}\n  \"a\": {list: []}\n", "f.yaml:3:3: the key `a` is here twice"),
        ("inner: {a: {list: [x], list: [y]}}\n", "f.yaml:1:24: the key `list` is here twice"),
        ("name: 5\n", "f.yaml:1:7: expected text; put it in quotes, because YAML reads it as a number (at name)"),
        (
            "name: no\ncount: false\n",
            "f.yaml:2:8: expected a whole number, not negative and not too large, found `true` or `false` (at count)",
        ),
        (
            "count: 300\n",
            "f.yaml:1:8: expected a whole number, not negative and not too large, found a number (at count)",
        ),
        ("level: inof\n", "f.yaml:1:8: expected `info` or `debug`; did you mean `info`? (at level)"),
        (
            "inner:\n  a:\n    list:\n      - x\n      - {y: z}\n",
            "f.yaml:5:9: expected text, found a mapping (at inner.a.list[1])",
        ),
        ("inner:\n  a: {}\n", "f.yaml:2:3: expected the key `list` (at inner.a)"),
        ("name: &x a\n", "f.yaml:1:7: expected no anchor; put text that begins with `&` in quotes"),
        ("name: *x\n", "f.yaml:1:7: expected no alias; put text that begins with `*` in quotes"),
        ("inner: {a: *x}\n", "f.yaml:1:12: expected no alias; put text that begins with `*` in quotes"),
        ("name: !!str a\n", "f.yaml:1:7: expected no tag; put text that begins with `!` in quotes"),
        ("name: a\n<<: {count: 1}\n", "f.yaml:2:1: expected no merge key"),
        ("name: a\n---\nname: b\n", "f.yaml:2:1: expected one document in the file"),
        ("name: a\n...\n", "f.yaml:2:1: expected one document in the file"),
        ("%YAML 1.2\n---\nname: a\n", "f.yaml:1:1: expected no directive"),
        ("? name\n: a\n", "f.yaml:1:1: expected a plain key"),
        ("name: a\n1: b\n", "f.yaml:2:1: expected a key of text; put it in quotes"),
        ("[a]: b\n", "f.yaml:1:1: expected a key of text; put it in quotes"),
        ("count: 99999999999999999999999\n", "f.yaml:1:8: expected a smaller number; put text in quotes"),
        ("name: a\u{1}b\n", "f.yaml:1:8: expected no control character"),
        ("name: a # \u{202e}b\n", "f.yaml:1:11: expected no control character"),
        ("count: .nan\n", "f.yaml:1:8: expected a finite number; put text in quotes"),
    ] {
        assert_eq!(refusal(text), expected, "{text:?}");
    }
}

#[test]
fn broken_syntax_is_told_with_its_place() {
    for (text, place) in [
        ("name: [a\n", "f.yaml:2:1: is not valid YAML: "),
        ("name: \"a\n", "f.yaml:2:1: is not valid YAML: "),
        ("name: a\n  count: 1\n", "f.yaml:2:8: is not valid YAML: "),
        ("name: @a\n", "f.yaml:1:7: is not valid YAML: "),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(place), "{text:?}: {error}");
    }
}

#[test]
fn a_refusal_never_repeats_a_value() {
    for text in [
        "name: [hunter2]\n",
        "count: hunter2\n",
        "count: \"hunter2, expected hunter2\"\n",
        "level: hunter2\n",
        "level: \"hunter2`, expected `hunter2\"\n",
        "inner: hunter2\n",
        "inner: {a: hunter2}\n",
        "inner: {a: {list: hunter2}}\n",
        "name: \"hunter2\n",
        "name: *hunter2\n",
        "name: !hunter2 x\n",
        "hunter2\n",
    ] {
        let error = refusal(text);
        assert!(!error.contains("hunter2"), "{text:?}: {error}");
    }
}

#[test]
fn what_looks_like_an_anchor_inside_text_is_text() {
    let text = "---\n# *comment &x !y\nname: 'it''s *not, &an !alias'\ninner:\n  a:\n    list:\n      - \"*x \\\" &y\"\n      - a*b & c! [ {\n      - |\n        *block\n        &scalar\n      - x: y\n        ";
    let text = text.replace("      - x: y\n        ", "  b: {list: [a#b, c]} # *x\n");
    let sample: Sample = read("f.yaml", &text).unwrap();
    assert_eq!(sample.name, "it's *not, &an !alias");
    assert_eq!(sample.inner["a"].list, ["*x \" &y", "a*b & c! [ {", "*block\n&scalar\n"]);
    assert_eq!(sample.inner["b"].list, ["a#b", "c"]);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
    let sample: Sample = read("f.yaml", "\u{feff}name: a\r\ncount: 2\r\n").unwrap();
    assert_eq!((sample.name.as_str(), sample.count), ("a", 2));
    assert!(matches!(sample.level, Level::Info));
}

#[test]
fn bytes_that_are_not_text_are_placed() {
    let error = utf8("f.yaml", b"name: a\nb\xff".to_vec()).unwrap_err();
    assert_eq!(error.to_string(), "f.yaml:2:2: expected UTF-8 text");
}

#[test]
fn a_file_that_somebody_else_could_write_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.yaml");
    std::fs::write(&path, "name: a\n").unwrap();
    for (mode, fits) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(open_trusted(&path).is_ok(), fits, "{mode:o}");
        assert_eq!(open(&path).unwrap(), "name: a\n");
    }
    let error = open_trusted(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("f.yaml: has the mode 0646; expected no writing by group and others, such as 0644"),
        "{error}"
    );
}

#[test]
fn bombs_are_refused_at_once() {
    let aliases: String = (1..9)
        .fold("a0: &a0 [x, x]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1));
    let steps: String = (0..500).fold(String::new(), |text, n| format!("{text}{}a:\n", " ".repeat(n)));
    for (name, bomb) in [
        ("brackets", "[".repeat(100_000)),
        ("braces", format!("a: {}", "{a: ".repeat(60_000))),
        ("brackets on lines", "[\n".repeat(100_000)),
        ("items", "- ".repeat(100_000)),
        ("keys", "? ".repeat(100_000)),
        ("aliases", aliases),
        ("steps", steps),
        ("large", format!("name: {}", "x".repeat(FILE_MAX))),
        ("quotes", format!("name: {}", "\"".repeat(100_001))),
    ] {
        let start = Instant::now();
        let error = refusal(&bomb);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "{name}: {took:?}");
        assert!(error.len() < 300, "{name}: {error}");
    }
}

#[test]
fn a_member_is_found_by_its_path() {
    let text = "name: a\ninner:\n  b:\n    list: [x, \"y\"]\n";
    let path = |keys: &[&str]| keys.iter().map(|key| Segment::from(*key)).collect::<Vec<_>>();
    let at = |line, column| Some(Place { line, column });
    assert_eq!(locate(text, &path(&["name"])), at(1, 7));
    let mut item = path(&["inner", "b", "list"]);
    assert_eq!(locate(text, &item), at(4, 11));
    item.push(Segment::Index(1));
    assert_eq!(locate(text, &item), at(4, 15));
    assert_eq!(locate(text, &path(&["inner", "c"])), None);
    assert_eq!(
        YamlError::at("f.yaml", text, &path(&["inner", "c"]), "expected c").to_string(),
        "f.yaml:2:1: expected c (at inner.c)"
    );
}
