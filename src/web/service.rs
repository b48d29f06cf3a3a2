//! Puts the parts in a row: the gate before anything else, then the routes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Method, Uri};
use tower_service::Service;
use warp::Filter;
use warp::Reply as _;
use warp::reply::Response;

use crate::web::answer::Answer;
use crate::web::gate::{Arrival, Site};
use crate::web::handler::{Connection, Handler, Request};

/// The routes as one filter. Which path means what is a table of its own, so that a page for every miss is ours too.
pub(crate) fn routes(
    handler: Arc<Handler>,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Arc<Connection>>())
        .and(warp::body::stream())
        .then(move |method, path: warp::path::FullPath, query, headers, connection, body| {
            let handler = Arc::clone(&handler);
            async move {
                let request = Request { method, path: path.as_str().to_owned(), query, headers, connection, body };
                let answer = handler.answer(request).await;
                answer.into_response(handler.site().is_secure()).into_response()
            }
        })
}

/// Turns away what is not meant for us, and tells the routes which connection a request came on.
#[derive(Clone)]
pub(crate) struct Gate<S> {
    pub(crate) inner: S,
    pub(crate) site: Arc<Site>,
    pub(crate) connection: Arc<Connection>,
}

impl<S, B> Service<http::Request<B>> for Gate<S>
where
    S: Service<http::Request<B>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        if let Some(answer) = turned_away(&self.site, request.method(), request.uri(), request.headers()) {
            let response = answer.into_response(self.site.is_secure()).into_response();
            return Box::pin(std::future::ready(Ok(response)));
        }
        request.extensions_mut().insert(Arc::clone(&self.connection));
        Box::pin(self.inner.call(request))
    }
}

/// The answer to a request that the routes do not get to see.
fn turned_away(site: &Site, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Answer> {
    match site.arrival(uri, headers) {
        Ok(Arrival::Canonical) => None,
        // The cookies are with the other name, and so is the redirect URI that the provider knows.
        Ok(Arrival::Alias) if *method == Method::GET => {
            let target = uri.path_and_query().map_or("/", |target| target.as_str());
            Some(Answer::see_other(&format!("{}{target}", site.origin())))
        }
        Ok(Arrival::Alias) | Err(_) => Some(Answer::misdirected()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{HOST, LOCATION};
    use http_body_util::Empty;

    use super::*;

    async fn through(method: Method, uri: &str, host: &str) -> Response {
        let inner = warp::service(warp::ext::get::<Arc<Connection>>().map(|_| "seen"));
        let local = "127.0.0.1:8717".parse().unwrap();
        let mut gate = Gate {
            inner,
            site: Arc::new(Site::of(&"http://localhost:8717".parse().unwrap())),
            connection: Arc::new(Connection::new(local, local)),
        };
        let request = http::Request::builder().method(method).uri(uri).header(HOST, host);
        gate.call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_foreign_host_sees_nothing_whatever_it_asks_for() {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS, Method::DELETE] {
            for path in ["/", "/assets/grantd.css", "/connect/cn_x", "/callback/github?code=c&state=s"] {
                let response = through(method.clone(), path, "evil.example:8717").await;
                assert_eq!(response.status(), 421, "{method} {path}");
                assert!(response.headers().contains_key("content-security-policy"));
            }
        }
    }

    #[tokio::test]
    async fn the_configured_host_reaches_the_routes() {
        assert_eq!(through(Method::GET, "/", "localhost:8717").await.status(), 200);
    }

    #[tokio::test]
    async fn another_spelling_of_this_machine_leads_to_the_one_that_has_the_cookies() {
        for (uri, location) in [
            ("/connect/cn_x?ticket=t", "http://localhost:8717/connect/cn_x?ticket=t"),
            ("//evil.example/", "http://localhost:8717//evil.example/"),
            ("/\\evil.example", "http://localhost:8717/\\evil.example"),
            ("/@evil.example", "http://localhost:8717/@evil.example"),
        ] {
            let Ok(_) = uri.parse::<Uri>() else { continue };
            let response = through(Method::GET, uri, "127.0.0.1:8717").await;
            assert_eq!(response.status(), 303, "{uri}");
            assert_eq!(response.headers()[LOCATION], location);
        }
        assert_eq!(through(Method::POST, "/", "[::1]:8717").await.status(), 421);
    }
}
