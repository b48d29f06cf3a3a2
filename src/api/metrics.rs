//! `GET /metrics`: what the daemon counts about itself. It names no person and no connection, so whoever may ask may see it but
//! for configured callers.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method};
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::asker;
use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::broker::Broker;

/// The format of OpenMetrics 1.0, which Prometheus reads.
const FORMAT: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(super) fn route(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("metrics").and(warp::method()).and(asker()).then(move |method, asker: Option<Asker>| {
        let broker = Arc::clone(&broker);
        async move {
            match method {
                // It names every provider, and a configured caller knows of its own only.
                _ if asker.is_some_and(|asker| asker.caller.rules.is_some()) => Problem::not_found().into_response(),
                Method::GET | Method::HEAD => answer(&broker).await,
                _ => Problem::method_not_allowed("GET, HEAD").into_response(),
            }
        }
    })
}

async fn answer(broker: &Broker) -> Response {
    let text = match broker.metrics().await {
        Ok(text) => text,
        Err(error) => return Problem::from_broker(error, &broker.registry()).into_response(),
    };
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, FORMAT);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
