//! Metrics: what the daemon counts is read by any Prometheus, and names nobody.

use std::collections::{BTreeMap, HashSet};

use serde_json::json;
use tokio::net::UnixStream;

use crate::support::raw::{RawAnswer, exchange};
use crate::support::{Home, World, eventually};

const ADA: &str = "u-1001";

async fn scrape(home: &Home) -> RawAnswer {
    let stream = UnixStream::connect(home.socket()).await.unwrap();
    exchange(stream, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await
}

/// Samples by what stands before their value. Everything that OpenMetrics asks of the text is looked at on the way.
fn read(text: &str) -> BTreeMap<String, f64> {
    let Some(body) = text.strip_suffix("# EOF\n") else { panic!("it ends with `# EOF`:\n{text}") };
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.splitn(3, ' ').collect();
            let [kind, name, rest] = words[..] else { panic!("{line}") };
            assert!(matches!(kind, "HELP" | "TYPE" | "UNIT"), "{line}");
            if kind == "TYPE" {
                assert!(kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "twice: {line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with("grantd_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
        let suffixed =
            |family: &str, suffixes: &[&str]| suffixes.iter().any(|suffix| name == format!("{family}{suffix}"));
        let known = kinds.iter().any(|(family, kind)| match kind.as_str() {
            "counter" => suffixed(family, &["_total"]),
            "gauge" => suffixed(family, &[""]),
            "histogram" => suffixed(family, &["_bucket", "_count", "_sum"]),
            _ => false,
        });
        assert!(known, "no family has {line}");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let inner = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
            for pair in inner.unwrap_or_else(|| panic!("{line}")).split(',') {
                let (_, value) = pair.split_once('=').unwrap_or_else(|| panic!("{line}"));
                assert!(value.len() > 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
            }
        }
        assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_and_connections_are_counted_and_nobody_is_named() {
    let world = World::arranged(grantd::sandbox::Options::default(), |home, _| {
        home.redefine("  lead: 60\n", "  lead: 60\n  expires_after: 259200\n");
    })
    .await;
    let idle = read(&scrape(&world.daemon.home).await.body);
    assert_eq!(idle["grantd_connections_need_person{within=\"14d\"}"], 0.0);

    assert_eq!(world.connect(ADA).await.status, 200);
    let first = world.live_token(json!({})).await;
    world.live_token(json!({"rejected": first.json["token_id"]})).await;
    let renewed = "grantd_refreshes_total{provider=\"sandbox\",outcome=\"renewed\"}";
    eventually("the refresh is counted", async || {
        read(&scrape(&world.daemon.home).await.body).get(renewed) == Some(&1.0)
    })
    .await;

    let answer = scrape(&world.daemon.home).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let samples = read(&answer.body);
    for (series, expected) in [
        ("grantd_refresh_duration_seconds_count{provider=\"sandbox\"}", 1.0),
        ("grantd_refresh_duration_seconds_bucket{le=\"+Inf\",provider=\"sandbox\"}", 1.0),
        ("grantd_connections_need_person{within=\"now\"}", 0.0),
        ("grantd_connections_need_person{within=\"1d\"}", 0.0),
        ("grantd_connections_need_person{within=\"7d\"}", 1.0),
        ("grantd_connections_need_person{within=\"14d\"}", 1.0),
        ("grantd_grants_due", 0.0),
        ("grantd_flights", 0.0),
        ("grantd_provider_state{provider=\"sandbox\",state=\"ok\"}", 1.0),
        ("grantd_provider_state{provider=\"sandbox\",state=\"unreachable\"}", 0.0),
    ] {
        assert_eq!(samples.get(series), Some(&expected), "{series} in\n{}", answer.body);
    }
    let labels: HashSet<&str> =
        answer.body.split(['{', ',']).filter_map(|part| part.split_once("=\"")).map(|(name, _)| name).collect();
    assert_eq!(labels, HashSet::from(["le", "outcome", "provider", "state", "within"]));
    for secret in ["_MARK_", ADA, "ada@sandbox.example", first.text("connection")] {
        assert!(!answer.body.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_only_read() {
    let world = World::new().await;
    let refused = world.daemon.post("/metrics", json!({})).await;
    assert_eq!((refused.status, refused.text("error")), (405, "method_not_allowed"), "{refused:?}");
    assert_eq!(world.daemon.get("/metrics/x").await.status, 404);
}
