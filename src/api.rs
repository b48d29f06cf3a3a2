//! The socket API, version 1: HTTP/1.1 and JSON over a Unix socket, one file per resource.

mod audit;
mod census;
mod connect;
mod connections;
pub mod deadline;
mod eager;
mod explain;
mod health;
pub mod input;
mod invitation;
pub mod kernel;
pub mod listener;
mod metrics;
pub mod peer;
pub mod problem;
mod providers;
mod reply;
mod restore;
pub mod serve;
mod token;
mod whoami;
pub mod wire;

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::Body;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::serve::Asked;
use crate::api::serve::Limits;
use crate::broker::Broker;

/// The whole API, ready for [`serve::serve`].
pub fn service<B>(
    broker: Arc<Broker>,
) -> impl Service<Asked<B>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
where
    B: Body<Data: Send> + Send + Sync + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Guarded { routed: warp::service(routes(Arc::clone(&broker))), broker }
}

/// Serves the API at `listener` until `shutdown`; see [`serve::serve`].
///
/// # Errors
/// Only if the listener cannot be used at all.
pub async fn run(
    listener: UnixListener,
    broker: Arc<Broker>,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve::serve(listener, service(broker), limits, shutdown).await
}

/// The resources, all but the hot path.
fn routes(broker: Arc<Broker>) -> BoxedFilter<(Response,)> {
    connect::routes(Arc::clone(&broker))
        .or(connections::routes(Arc::clone(&broker)))
        .unify()
        .or(providers::routes(Arc::clone(&broker)))
        .unify()
        .or(restore::routes(Arc::clone(&broker)))
        .unify()
        .or(audit::routes(Arc::clone(&broker)))
        .unify()
        .or(explain::route(Arc::clone(&broker)))
        .unify()
        .or(whoami::route())
        .unify()
        .or(metrics::route(Arc::clone(&broker)))
        .unify()
        .or(health::route(broker))
        .unify()
        .or(warp::any().map(|| Problem::not_found().into_response()))
        .unify()
        .boxed()
}

/// Who asks, for the routes. `None` only if a request came around [`Guarded`].
fn asker() -> impl Filter<Extract = (Option<Asker>,), Error = Infallible> + Copy {
    warp::ext::optional()
}

/// The caller of a request.
fn known(asker: Option<Asker>) -> Result<Asker, Problem> {
    asker.ok_or_else(|| {
        tracing::error!("a request without its peer");
        Problem::internal()
    })
}

/// The query, empty if there is none.
fn query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// The last value that a query gives for `key`.
fn query_value(query: &str, key: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == key)
        .last()
        .map(|(_, value)| value.into_owned())
}

/// Turns away what no honest client sends, answers the hot path, and leaves the rest to the routes.
#[derive(Clone)]
struct Guarded<S> {
    broker: Arc<Broker>,
    routed: S,
}

impl<S, B> Service<Asked<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data: Send> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.routed.poll_ready(cx)
    }

    fn call(&mut self, Asked { asker, mut request }: Asked<B>) -> Self::Future {
        if let Err(problem) = peer::admit(request.headers()) {
            return Box::pin(ready(Ok(problem.into_response())));
        }
        let asker = match asker.among(&self.broker.registry().callers) {
            Ok(asker) => asker,
            Err(problem) => return Box::pin(ready(Ok(problem.into_response()))),
        };
        if request.uri().path() == token::PATH {
            return Box::pin(token::answer(Arc::clone(&self.broker), asker, request));
        }
        request.extensions_mut().insert(asker);
        Box::pin(self.routed.call(request))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::broker::Parts;
    use crate::broker::audit::AuditParts;
    use crate::broker::registry::Registry;
    use crate::clock::SystemClock;
    use crate::egress::Egress;
    use crate::model::caller::Peer;
    use crate::model::id::InstanceId;
    use crate::seal::Keyring;
    use crate::store::journal::Journal;
    use crate::store::memory::MemoryStore;
    use crate::store::spool::Spool;

    #[test]
    fn the_last_value_of_a_query_counts() {
        assert_eq!(query_value("wait=1&x=2&wait=30", "wait").as_deref(), Some("30"));
        assert_eq!(query_value("wait=%33", "wait").as_deref(), Some("3"));
        assert_eq!(query_value("", "wait"), None);
    }

    /// A broker that knows no provider.
    fn idle_broker() -> Arc<Broker> {
        Broker::new(Parts {
            registry: Registry {
                web_url: "http://localhost:8717".parse().unwrap(),
                providers: BTreeMap::new(),
                callers: Arc::default(),
            },
            store: Arc::new(MemoryStore::new()),
            keyring: Keyring::create(&InstanceId::random()),
            clock: Arc::new(SystemClock),
            egress: Egress::open().unwrap(),
            spool: Spool::open(tempfile::tempdir().unwrap().path()).unwrap(),
            audit: AuditParts {
                journal: Journal::open(&tempfile::tempdir().unwrap().path().join("db")).unwrap(),
                keep: Duration::from_secs(86_400),
                copy: false,
            },
            cache_entries: 1,
            open_sessions: 1,
        })
    }

    #[tokio::test]
    async fn the_hot_path_is_answered_without_a_route() {
        let nothing = warp::any().map(|| reply::json(StatusCode::OK, &"a route"));
        let mut api = Guarded { broker: idle_broker(), routed: warp::service(nothing) };
        let peer = Peer { uid: 1000, gid: 1000, pid: None };
        for (method, body, status) in [("GET", "", 405), ("POST", "{", 400), ("POST", r#"{"provider":"nowhere"}"#, 404)]
        {
            let asker = Asker::new(peer, 0).unwrap();
            let request = Request::builder().method(method).uri("/v1/token").body(body.to_owned()).unwrap();
            let answer = api.call(Asked { asker, request }).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{method} {body}");
        }
    }

    #[tokio::test]
    async fn a_refused_request_never_reaches_a_route() {
        let reached = warp::any().map(|| reply::json(StatusCode::OK, &"reached"));
        let mut guarded = Guarded { broker: idle_broker(), routed: warp::service(reached) };
        for (header, status) in [("origin", 403), ("authorization", 401), ("accept", 200)] {
            let asker = Asker::new(Peer { uid: 1000, gid: 1000, pid: None }, 0).unwrap();
            let request = Request::builder().header(header, "x").body(String::new()).unwrap();
            let response = guarded.call(Asked { asker, request }).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{header}");
        }
    }

    #[tokio::test]
    async fn a_request_may_have_no_query() {
        let mut echo = warp::service(query().map(|query: String| reply::json(StatusCode::OK, &query)));
        for uri in ["/", "/?a=1"] {
            let request = Request::builder().uri(uri).body(String::new()).unwrap();
            assert_eq!(echo.call(request).await.unwrap().status(), StatusCode::OK, "{uri}");
        }
    }
}
