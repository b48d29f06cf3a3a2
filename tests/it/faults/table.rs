//! What a provider may do to a refresh, and which class of failure each is.

use std::time::Duration;

use crate::faults::front::{Frame, Play};

/// Sent, and the outcome is unknown: the answer may be on its way to nowhere.
pub const AMBIGUOUS: &str = "ambiguous";
/// Nothing was sent.
pub const UNSENT: &str = "unsent";
/// Refused for now.
pub const THROTTLED: &str = "throttled";
/// Our registration is refused, which says nothing about the grant.
pub const REGISTRATION: &str = "registration";

pub struct Row {
    pub name: String,
    pub play: Play,
    pub class: &'static str,
    /// Whether the provider has rotated although its answer is of no use.
    pub rotates: bool,
}

fn row(name: &str, class: &'static str, play: Play) -> Row {
    Row { name: name.to_owned(), play, class, rotates: false }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn json(status: &str, body: &[u8]) -> Play {
    Play::Say(answer(status, "Content-Type: application/json\r\n", body))
}

/// Every way to be throttled: what comes with the 429 makes no sense as a rule.
pub fn throttled() -> Vec<Row> {
    let values: [(&str, &[&str]); 14] = [
        ("nothing", &[]),
        ("a second", &["1"]),
        ("zero", &["0"]),
        ("an empty value", &[""]),
        ("a negative number", &["-1"]),
        ("a fraction", &["1.5"]),
        ("a date in the past", &["Wed, 21 Oct 2015 07:28:00 GMT"]),
        ("a date in the future", &["Wed, 21 Oct 2099 07:28:00 GMT"]),
        ("a date that is none", &["Wed, 99 Oct 2099 07:28:00 GMT"]),
        ("a huge number", &["99999999999999999999999999999"]),
        ("a year", &["31536000"]),
        ("words", &["later, please"]),
        ("two of them", &["1", "7200"]),
        ("bytes that are no text", &["\u{fffd}\u{e4}"]),
    ];
    values
        .into_iter()
        .map(|(name, values)| {
            let headers: String = values.iter().map(|value| format!("Retry-After: {value}\r\n")).collect();
            row(&format!("429 with {name}"), THROTTLED, Play::Say(answer("429 Too Many Requests", &headers, b"")))
        })
        .collect()
}

/// Statuses and bodies that come in one piece.
pub fn answers() -> Vec<Row> {
    let html = b"<!doctype html><title>Maintenance</title>access_token".as_slice();
    let page = |status| Play::Say(answer(status, "Content-Type: text/html\r\n", html));
    let deep = |open: &str| json("200 OK", open.repeat(100_000).as_bytes());
    let trailing = br#"{"access_token":"at_1","token_type":"Bearer","expires_in":3600}{"#;
    vec![
        row("500", AMBIGUOUS, page("500 Internal Server Error")),
        row("502", AMBIGUOUS, page("502 Bad Gateway")),
        row("503", THROTTLED, page("503 Service Unavailable")),
        row("504", AMBIGUOUS, page("504 Gateway Timeout")),
        row("500 with JSON", AMBIGUOUS, json("500 Internal Server Error", b"{}")),
        row("418 with nothing", AMBIGUOUS, json("418 I'm a teapot", b"")),
        row("403 with a page", AMBIGUOUS, page("403 Forbidden")),
        row("200 with a page", AMBIGUOUS, page("200 OK")),
        row("200 with nothing", AMBIGUOUS, json("200 OK", b"")),
        row("204", AMBIGUOUS, json("204 No Content", b"")),
        row("an empty object", AMBIGUOUS, json("200 OK", b"{}")),
        row("an array", AMBIGUOUS, json("200 OK", b"[]")),
        row("an array of answers", AMBIGUOUS, json("200 OK", br#"[{"access_token":"at_1","token_type":"Bearer"}]"#)),
        row("a string", AMBIGUOUS, json("200 OK", br#""invalid_grant""#)),
        row("null", AMBIGUOUS, json("200 OK", b"null")),
        row("a number", AMBIGUOUS, json("200 OK", b"1e999")),
        row("no access token", AMBIGUOUS, json("200 OK", br#"{"token_type":"Bearer","expires_in":3600}"#)),
        row("a null access token", AMBIGUOUS, json("200 OK", br#"{"access_token":null,"token_type":"Bearer"}"#)),
        row("an empty access token", AMBIGUOUS, json("200 OK", br#"{"access_token":"","token_type":"Bearer"}"#)),
        row(
            "an access token of parts",
            AMBIGUOUS,
            json("200 OK", br#"{"access_token":["at_1"],"token_type":"Bearer"}"#),
        ),
        row(
            "an access token of two lines",
            AMBIGUOUS,
            json("200 OK", br#"{"access_token":"at\r\n1","token_type":"Bearer"}"#),
        ),
        row("a type that nobody knows", AMBIGUOUS, json("200 OK", br#"{"access_token":"at_1","token_type":"mac"}"#)),
        row("an answer and a half", AMBIGUOUS, json("200 OK", trailing)),
        row("deep arrays", AMBIGUOUS, deep("[")),
        row("deep objects", AMBIGUOUS, deep("{\"a\":")),
        row("no UTF-8", AMBIGUOUS, json("200 OK", b"{\"access_token\":\"at_\xff\xfe\",\"token_type\":\"Bearer\"}")),
        row("UTF-16", AMBIGUOUS, json("200 OK", b"\xff\xfe{\0\"\0a\0\"\0:\0[\0]\0}\0")),
        row("an error without a code", AMBIGUOUS, json("400 Bad Request", br#"{"error":{"code":"invalid_grant"}}"#)),
        row("an error that is none", AMBIGUOUS, json("400 Bad Request", br#"{"error":["invalid_grant"]}"#)),
        row("our registration", REGISTRATION, json("401 Unauthorized", br#"{"error":"invalid_client"}"#)),
        row("our rights", REGISTRATION, json("400 Bad Request", br#"{"error":"unauthorized_client"}"#)),
        row("no HTTP", AMBIGUOUS, Play::Say(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
        row("a compressed bomb", AMBIGUOUS, compressed()),
    ]
}

/// Ten megabytes of zeros as gzip would be far more than any answer; undecoded it is no JSON.
fn compressed() -> Play {
    let mut bytes = vec![0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0x03];
    bytes.extend_from_slice(&[0xed, 0xc1, 0x01, 0x0d].repeat(10_000));
    Play::Say(answer("200 OK", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", &bytes))
}

/// Connections that come to nothing, and answers that do not end.
pub fn connections() -> Vec<Row> {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n".as_slice();
    let with = |more: &str| [head, more.as_bytes()].concat();
    let slow =
        answer("200 OK", "Content-Type: application/json\r\n", br#"{"access_token":"at_1","token_type":"Bearer"}"#);
    vec![
        row("nobody listens", UNSENT, Play::Down),
        row("hung up", AMBIGUOUS, Play::Say(Vec::new())),
        row("silence", AMBIGUOUS, Play::Silence),
        row("a byte a second", AMBIGUOUS, Play::Drip(slow, Duration::from_secs(1))),
        row(
            "a body of 10 GB",
            AMBIGUOUS,
            endless(&with("Content-Length: 10000000000\r\n\r\n{\"access_token\":\""), "a"),
        ),
        row("a body without an end", AMBIGUOUS, endless(&with("\r\n{\"access_token\":\""), "a")),
        row("chunks without an end", AMBIGUOUS, endless(&with("Transfer-Encoding: chunked\r\n\r\n"), "4\r\naaaa\r\n")),
        row("headers without an end", AMBIGUOUS, endless(head, "X-More: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")),
        row("a header without an end", AMBIGUOUS, endless(&with("X-More: "), "a")),
    ]
}

fn endless(head: &[u8], piece: &str) -> Play {
    Play::Endless(head.to_vec(), piece.repeat(65_536 / piece.len()).into_bytes())
}

/// Redirects to somebody else.
pub fn redirects(to: &str) -> Vec<Row> {
    ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
        .into_iter()
        .map(|status| row(status, AMBIGUOUS, Play::Say(answer(status, &format!("Location: {to}/token\r\n"), b""))))
        .collect()
}

/// Good answers that break off, where the provider has rotated.
pub fn cut() -> Vec<Row> {
    [Frame::Length, Frame::Chunked, Frame::UntilClose]
        .into_iter()
        .flat_map(|frame| [0, 1, 40, 150, 250].map(|at| (frame, at)))
        .map(|(frame, at)| Row {
            rotates: true,
            ..row(&format!("{frame:?} cut at {at}"), AMBIGUOUS, Play::Cut(frame, at))
        })
        .collect()
}
