//! A request that makes no sense gets a stable code, the field it is about and a request id, and the daemon goes on.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::support::ask::ask_raw;
use crate::support::raw::{RawAnswer, exchange};
use crate::support::{Answer, World};

impl World {
    async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        ask_raw(&self.daemon.home.socket(), method, path, &[], body.into()).await.unwrap()
    }

    async fn with_header(&self, name: &str, value: &str) -> Answer {
        let body = Bytes::from_static(b"{\"provider\":\"sandbox\"}");
        ask_raw(&self.daemon.home.socket(), "POST", "/v1/token", &[(name, value)], body).await.unwrap()
    }

    async fn raw(&self, bytes: &[u8]) -> RawAnswer {
        exchange(UnixStream::connect(self.daemon.home.socket()).await.unwrap(), bytes).await
    }
}

/// An error as every error is: flat, with a code, a sentence and a request id, not to be cached.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(answer.json["error"], code, "{what}: {answer:?}");
    assert!(answer.text("request_id").starts_with("rq_"), "{what}: {answer:?}");
    assert!(answer.text("error_description").ends_with(|end: char| end != ' '), "{what}: {answer:?}");
    assert!(answer.text("error_description").len() < 400, "{what}: {answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store", "{what}");
    assert_eq!(answer.headers["content-type"], "application/json", "{what}");
}

#[tokio::test]
async fn every_field_that_does_not_fit_is_named() {
    let world = World::new().await;
    let text = |length: usize| "x".repeat(length);
    let both = [
        ("provider", json!(null)),
        ("provider", json!(7)),
        ("provider", json!("Git Hub")),
        ("provider", json!("")),
        ("provider", json!("../etc/passwd")),
        ("provider", json!(text(500))),
        ("scopes", json!("openid")),
        ("scopes", json!({"a": 1})),
        ("scopes[0]", json!([7])),
        ("scopes[0]", json!([""])),
        ("scopes[1]", json!(["a", "b c"])),
        ("scopes[0]", json!(["a\"b"])),
        ("scopes[0]", json!([text(300)])),
        ("scopes", json!((0..101).map(|number| format!("s{number}")).collect::<Vec<_>>())),
        ("purpose", json!(7)),
        ("purpose", json!(text(121))),
        ("purpose", json!("a\nb")),
        ("purpose", json!("a\u{0}b")),
        ("purpose", json!("\u{202e}txt.exe")),
    ];
    let token = [
        ("account", json!(["a"])),
        ("account", json!(text(257))),
        ("account", json!("a\u{1b}[2J")),
        ("slot", json!(7)),
        ("slot", json!("Main Slot")),
        ("slot", json!("")),
        ("min_ttl", json!("60")),
        ("min_ttl", json!(-1)),
        ("min_ttl", json!(1.5)),
        ("min_ttl", json!(3601)),
        ("min_ttl", json!(u64::MAX)),
        ("min_ttl", json!(1e300)),
        ("rejected", json!(7)),
        ("rejected", json!("cx_AAAAAAAAAAAAAAAAAAAAAA")),
        ("rejected", json!("")),
        ("rejected", json!("tk_../../x")),
        ("wait", json!(-1)),
        ("wait", json!(61)),
        ("wait", json!(0.5)),
        ("wait", json!(true)),
        ("connect", json!("no")),
        ("connect", json!(0)),
    ];
    let connect = [
        ("reconnect", json!(7)),
        ("reconnect", json!("tk_AAAAAAAAAAAAAAAAAAAAAA")),
        ("reconnect", json!("x")),
        ("open", json!("yes")),
        ("open", json!(1)),
    ];
    let cases = both.iter().flat_map(|case| [("/v1/token", case), ("/v1/connect", case)]);
    let cases = cases.chain(token.iter().map(|case| ("/v1/token", case)));
    for (path, (field, value)) in cases.chain(connect.iter().map(|case| ("/v1/connect", case))) {
        let mut body = json!({"provider": "sandbox"});
        body[field.split('[').next().unwrap()] = value.clone();
        let what = format!("{path} {field} {}", value.to_string().chars().take(60).collect::<String>());
        let answer = world.daemon.post(path, body).await;
        assert_problem(&answer, 400, "invalid_request", &what);
        assert_eq!(answer.json["field"], *field, "{what}: {answer:?}");
    }
    for path in ["/v1/token", "/v1/connect"] {
        let answer = world.daemon.post(path, json!({"provider": "nobody"})).await;
        assert_problem(&answer, 404, "unknown_provider", path);
    }
    for wait in ["-1", "61", "x", "", "1.5", "99999999999999999999"] {
        let path = format!("/v1/connect/cn_AAAAAAAAAAAAAAAAAAAAAA?wait={wait}");
        let answer = world.daemon.get(&path).await;
        assert_problem(&answer, 400, "invalid_request", &path);
        assert_eq!(answer.json["field"], "wait");
    }
    assert_problem(&world.daemon.get("/v1/connections?all=perhaps").await, 400, "invalid_request", "all");
    assert_eq!(sessions(&world), 0, "not one of them made a connect session");
    still_serves(&world).await;
}

#[tokio::test]
async fn a_body_that_is_not_one_json_object_is_refused() {
    let world = World::new().await;
    let nested = |open: &str, close: &str| format!("{{\"provider\":{}{}}}", open.repeat(20_000), close.repeat(20_000));
    let bodies: [(&str, Vec<u8>); 17] = [
        ("nothing", b"".to_vec()),
        ("spaces", b"  \n".to_vec()),
        ("a list", b"[\"sandbox\"]".to_vec()),
        ("a text", b"\"sandbox\"".to_vec()),
        ("null", b"null".to_vec()),
        ("half of it", b"{\"provider\":\"sand".to_vec()),
        ("two objects", b"{\"provider\":\"sandbox\"}{}".to_vec()),
        ("something behind", b"{\"provider\":\"sandbox\"} x".to_vec()),
        ("a form", b"provider=sandbox".to_vec()),
        ("a key twice", b"{\"provider\":\"sandbox\",\"provider\":\"other\"}".to_vec()),
        ("no key", b"{}".to_vec()),
        ("bytes that are no text", b"{\"provider\":\"sand\xffbox\"}".to_vec()),
        ("half a surrogate", b"{\"provider\":\"\\ud800\"}".to_vec()),
        ("NUL", b"{\"provider\":\"sandbox\"}\0".to_vec()),
        ("deep lists", nested("[", "]").into_bytes()),
        ("deep objects", nested("{\"a\":", "").into_bytes()),
        ("a byte order mark", b"\xef\xbb\xbf{\"provider\":\"sandbox\"}".to_vec()),
    ];
    for (what, body) in bodies {
        for path in ["/v1/token", "/v1/connect"] {
            let answer = world.send("POST", path, body.clone()).await;
            if body.len() > 64 * 1024 {
                assert_problem(&answer, 413, "payload_too_large", what);
            } else {
                assert_problem(&answer, 400, "invalid_request", what);
            }
        }
    }
    // A body that is far too long is not read to its end: its sender may see the connection break instead of the answer.
    let head = "POST /v1/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\nConnection: close\r\n\r\n";
    let huge = [head.as_bytes(), b"{\"provider\":\"", &vec![b'x'; 1024 * 1024]].concat();
    assert!(matches!(world.raw(&huge).await.status, 413 | 0));
    let padded = format!("{{\"provider\":\"sandbox\",\"x\":\"{}\"}}", "y".repeat(65 * 1024));
    assert_problem(&world.send("POST", "/v1/token", padded).await, 413, "payload_too_large", "65 KiB");
    assert_eq!(sessions(&world), 0);
    still_serves(&world).await;
}

#[tokio::test]
async fn fields_that_nobody_knows_are_ignored() {
    let world = World::new().await;
    world.connect("u-1001").await;
    let tomorrow = json!({"provider": "sandbox", "tomorrow": {"a": [1, {"b": null}]}, "Provider": 7, "": true});
    assert_eq!(world.daemon.post("/v1/token", tomorrow).await.status, 200);
    let nulls = json!({"account": null, "scopes": null, "min_ttl": null, "wait": null, "purpose": null, "slot": null});
    assert_eq!(world.daemon.token(nulls).await.status, 200, "null is as good as nothing");
    let edges = json!({"account": "ada@sandbox.example", "scopes": [], "min_ttl": 0, "wait": 0, "purpose": ""});
    assert_eq!(world.daemon.token(edges).await.status, 200);
    let unknown = world.daemon.token(json!({"slot": "bot"})).await;
    assert_problem(&unknown, 400, "invalid_request", "a slot that the provider does not have");
    assert_eq!(unknown.json["field"], "slot");
    assert_eq!(world.daemon.token(json!({"rejected": "tk_AAAAAAAAAAAAAAAAAAAAAA"})).await.status, 200);
    assert_eq!(world.token_requests(), 1, "a token that is not the current one costs no refresh");
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_told_apart() {
    let world = World::new().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/token",
        "//v1/token",
        "/v1/token/x",
        "/V1/token",
        "/v1/%74oken",
        "/v1/../v1/token",
        "/v1/connect/x",
        "/v1/connect/cx_AAAAAAAAAAAAAAAAAAAAAA",
        "/v1/connect/cn_AAAAAAAAAAAAAAAAAAAAAA",
        "/v1/connections/x",
        "/v1/connections/cx_AAAAAAAAAAAAAAAAAAAAAA",
        "/v1/connections/..%2f..",
        "/connect/cn_AAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert_problem(&world.daemon.get(path).await, 404, "not_found", path);
    }
    for (path, wrong, allow) in [
        ("/v1/token", &["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"][..], "POST"),
        ("/v1/connect", &["GET", "PUT", "DELETE", "OPTIONS"], "POST"),
        ("/v1/connect/cn_AAAAAAAAAAAAAAAAAAAAAA", &["POST", "PUT"], "GET, HEAD, DELETE"),
        ("/v1/connections", &["POST", "DELETE"], "GET, HEAD"),
        ("/v1/connections/cx_AAAAAAAAAAAAAAAAAAAAAA", &["POST", "PUT"], "GET, HEAD, DELETE, PATCH"),
        ("/v1/providers", &["POST", "DELETE"], "GET, HEAD"),
        ("/v1/providers/sandbox/release", &["GET", "DELETE"], "POST"),
        ("/v1/whoami", &["POST"], "GET, HEAD"),
        ("/v1/health", &["POST"], "GET, HEAD"),
    ] {
        for method in wrong {
            let answer = world.send(method, path, "{\"provider\":\"sandbox\"}").await;
            let what = format!("{method} {path}");
            assert_problem(&answer, 405, "method_not_allowed", &what);
            assert_eq!(answer.headers["allow"], allow, "{what}");
        }
    }
    still_serves(&world).await;
}

#[tokio::test]
async fn headers_that_no_honest_client_sends_are_refused() {
    let world = World::new().await;
    for (name, value, status, code) in [
        ("authorization", "Bearer abc", 401, "invalid_api_key"),
        ("authorization", "", 401, "invalid_api_key"),
        ("authorization", "Basic YTpi", 401, "invalid_api_key"),
        ("origin", "http://evil.example", 403, "peer_denied"),
        ("origin", "null", 403, "peer_denied"),
        ("sec-fetch-site", "same-origin", 403, "peer_denied"),
    ] {
        let answer = world.with_header(name, value).await;
        assert_problem(&answer, status, code, name);
        if status == 401 {
            assert_eq!(answer.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
        }
        assert!(!answer.json.to_string().contains("evil"), "{answer:?}");
    }
    let many: Vec<String> = (0..65).map(|number| format!("X-{number}: a\r\n")).collect();
    let head = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    assert_eq!(world.raw(format!("{head}{}\r\n", many.concat()).as_bytes()).await.status, 431);
    let large = format!("{head}X-Large: {}\r\n\r\n", "x".repeat(17 * 1024));
    assert!(matches!(world.raw(large.as_bytes()).await.status, 431 | 0));
    let path = format!("GET /v1/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(17 * 1024));
    assert!(matches!(world.raw(path.as_bytes()).await.status, 414 | 431 | 0));
    assert_eq!(sessions(&world), 0);
    still_serves(&world).await;
}

#[tokio::test]
async fn what_is_no_http_ends_the_connection_and_nothing_else() {
    let world = World::new().await;
    let ask = "POST /v1/token HTTP/1.1\r\nHost: localhost\r\n";
    for (what, bytes) in [
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("a line without an end", vec![b'A'; 64 * 1024]),
        ("a header with NUL", b"GET /v1/health HTTP/1.1\r\nHost: a\0b\r\n\r\n".to_vec()),
        ("a folded header", b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n".to_vec()),
        ("two lengths", format!("{ask}Content-Length: 2\r\nContent-Length: 22\r\n\r\n{{}}").into_bytes()),
        ("a negative length", format!("{ask}Content-Length: -1\r\n\r\n{{}}").into_bytes()),
        ("a length beyond all", format!("{ask}Content-Length: 99999999999999999999\r\n\r\n{{}}").into_bytes()),
        ("bad chunks", format!("{ask}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n{{}}").into_bytes()),
        ("an odd coding", format!("{ask}Transfer-Encoding: gzip\r\n\r\n{{}}").into_bytes()),
    ] {
        let answer = world.raw(&bytes).await;
        assert!(answer.status == 0 || (400..500).contains(&answer.status), "{what}: {answer:?}");
    }
    assert_eq!(sessions(&world), 0);
    still_serves(&world).await;
}

fn sessions(world: &World) -> i64 {
    let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
    store.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap()
}

/// The daemon answers as before, nothing panicked, and what it was sent is not in its log.
async fn still_serves(world: &World) {
    let health = world.daemon.get("/v1/health").await;
    assert_eq!((health.status, health.text("status")), (200, "ok"));
    world.connect("u-1001").await;
    let token: Value = world.daemon.token(json!({})).await.json["access_token"].clone();
    assert!(world.is_live(&token).await);
    let log = world.daemon.log();
    for never in ["panicked", "RUST_BACKTRACE", "evil.example", "Bearer abc"] {
        assert!(!log.contains(never), "{never} is in the log");
    }
}
