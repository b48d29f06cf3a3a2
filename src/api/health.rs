//! `GET /v1/health`: whether the daemon answers, and with `?deep=true` whether it could keep a token.

use std::sync::Arc;

use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::problem::Problem;
use crate::api::wire::HealthBody;
use crate::api::{query, query_value, reply};
use crate::broker::Broker;

pub(super) fn route(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("v1" / "health").and(warp::method()).and(query()).then(move |method, query: String| {
        let broker = Arc::clone(&broker);
        async move {
            match method {
                Method::GET | Method::HEAD => reply::answer(health(&broker, is_deep(&query)).await),
                _ => Problem::method_not_allowed("GET, HEAD").into_response(),
            }
        }
    })
}

async fn health(broker: &Broker, deep: bool) -> Result<HealthBody, Problem> {
    if deep {
        let probed = broker.probe().await;
        probed.map_err(|error| Problem::from_broker(error, &broker.registry()))?;
    }
    Ok(HealthBody { status: "ok".into(), version: env!("CARGO_PKG_VERSION").into() })
}

fn is_deep(query: &str) -> bool {
    matches!(query_value(query, "deep").as_deref(), Some("" | "true" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_to_be_asked_for() {
        for (query, expected) in [("", false), ("deep=false", false), ("deep", true), ("deep=true", true)] {
            assert_eq!(is_deep(query), expected, "{query}");
        }
    }
}
