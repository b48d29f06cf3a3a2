//! `GET /v1/providers`: what can be connected here.

use std::sync::Arc;

use http::{Method, StatusCode};
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::problem::Problem;
use crate::api::reply;
use crate::api::wire::{ProviderBody, ProvidersBody};
use crate::broker::Broker;
use crate::broker::registry::Registry;

pub(super) fn route(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("v1" / "providers").and(warp::method()).map(move |method| match method {
        Method::GET | Method::HEAD => reply::json(StatusCode::OK, &list(&broker.registry())),
        _ => Problem::method_not_allowed("GET, HEAD").into_response(),
    })
}

fn list(registry: &Registry) -> ProvidersBody {
    let providers = registry.providers.iter().map(|(id, configured)| ProviderBody {
        id: id.clone(),
        name: configured.provider.name.clone(),
        scopes: configured.scopes.clone(),
    });
    ProvidersBody { providers: providers.collect() }
}
