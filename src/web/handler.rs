//! What each route does: check, ask the broker, answer. Everything that can be decided without the broker is decided elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::broker::connect::Visitor;
use crate::broker::error::PageError;
use crate::model::id::{ConnectId, ProviderId};
use crate::web::answer::Answer;
use crate::web::cookie::{self, CSRF, Cookie, PERSON};
use crate::web::form::{self, FORM_TIMEOUT};
use crate::web::gate::Site;
use crate::web::pages::{Home, Page, Problem, html};
use crate::web::person;
use crate::web::query;
use crate::web::route::{Button, Miss, Route};

/// What the handlers share.
pub(crate) struct Handler {
    broker: Arc<Broker>,
    site: Site,
    running: TaskTracker,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: SocketAddr,
    local: SocketAddr,
    person: OnceCell<Visitor>,
}

/// A request as it arrived, with its body still to come.
pub(crate) struct Request<S> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) connection: Arc<Connection>,
    pub(crate) body: S,
}

impl Handler {
    pub(crate) fn new(broker: Arc<Broker>, site: Site) -> Self {
        Self { broker, site, running: TaskTracker::new() }
    }

    pub(crate) const fn site(&self) -> &Site {
        &self.site
    }

    /// Returns when nothing that changes something is under way any more.
    pub(crate) async fn drained(&self) {
        self.running.close();
        self.running.wait().await;
    }

    pub(crate) async fn answer<S, B, E>(&self, request: Request<S>) -> Answer
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let route = match Route::find(&request.method, &request.path) {
            Ok(route) => route,
            Err(Miss::Missing) => return Answer::problem(Problem::Missing),
            Err(Miss::WrongMethod(allowed)) => return Answer::wrong_method(allowed),
        };
        match route {
            Route::Home => Answer::html(StatusCode::OK, html(&Home::of(&self.broker.registry()))),
            Route::Asset(asset) => Answer::asset(&asset, &request.query),
            Route::Stopped(problem) => Answer::problem(problem),
            Route::Callback(provider) => self.callback(provider, request).await,
            Route::Connect(id) => self.session(&id, &request).await,
            Route::Press(button, id) => self.press(button, id, request).await,
        }
    }

    async fn session<S>(&self, id: &ConnectId, request: &Request<S>) -> Answer {
        if let Some(ticket) = query::ticket(&request.query) {
            // A ticket that no longer counts leads to the same page, which then judges by what else is known.
            let person = self.broker.redeem_ticket(id, &ticket).map(Cookie::person);
            return Answer::to_session(id).with_cookie(person);
        }
        let visitors = self.visitors(&request.headers, &request.connection).await;
        let browser = self.cookie(&request.headers, &cookie::flow(id));
        let visit = match self.broker.visit(id, &visitors, browser.as_deref()).await {
            Ok(visit) => visit,
            Err(error) => return Answer::problem(error.into()),
        };
        let (csrf, fresh) = cookie::csrf_value(&request.headers, self.site.is_secure());
        let page = Page::of(&visit, &self.form_token(&csrf, id));
        let answer = Answer::html(StatusCode::OK, page.html()).with_cookie(fresh);
        match (page, visit.configured) {
            (Page::Ask(_), Some(configured)) => answer.leading_to(&configured.provider.endpoints.authorize),
            _ => answer,
        }
    }

    async fn callback<S>(&self, provider: ProviderId, request: Request<S>) -> Answer {
        let callback = match query::callback(&request.query) {
            Ok(callback) => callback,
            Err(problem) => return Answer::problem_moving_on(problem),
        };
        let broker = Arc::clone(&self.broker);
        let (headers, secure) = (request.headers, self.site.is_secure());
        let done = self.finish(async move {
            let browser = |id: &ConnectId| cookie::read(&headers, &cookie::flow(id), secure);
            broker.callback(&provider, callback, &browser).await
        });
        match done.await {
            Ok(id) => Answer::to_session(&id),
            Err(problem) => Answer::problem_moving_on(problem),
        }
    }

    async fn press<S, B, E>(&self, button: Button, id: ConnectId, request: Request<S>) -> Answer
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let Request { headers, connection, body, .. } = request;
        match self.is_ours(&id, &headers, body).await {
            Ok(()) => {}
            Err(Problem::Forged) => return Answer::old_form(&id),
            Err(problem) => return Answer::problem(problem),
        }
        let pressed = match button {
            Button::Confirm => self.confirm(&id, &headers).await,
            Button::Decline => self.decline(&id, &headers, &connection).await,
            Button::Start => self.start(&id, &headers, &connection).await,
        };
        match pressed {
            Ok(answer) => answer,
            // A second click, a tab from before, a rule that has changed: the page of the session tells how it stands.
            Err(Problem::Used | Problem::NoWayBack) => Answer::to_session(&id),
            Err(problem) => Answer::problem(problem),
        }
    }

    async fn start(&self, id: &ConnectId, headers: &HeaderMap, connection: &Connection) -> Result<Answer, Problem> {
        let visitors = self.visitors(headers, connection).await;
        let broker = Arc::clone(&self.broker);
        let session = id.clone();
        let begun = self.finish(async move { broker.begin(&session, &visitors).await }).await?;
        Ok(Answer::see_other(begun.authorize_url.as_str())
            .with_cookie(Cookie::flow(id, begun.proof.expose().to_owned())))
    }

    async fn confirm(&self, id: &ConnectId, headers: &HeaderMap) -> Result<Answer, Problem> {
        let browser = self.cookie(headers, &cookie::flow(id)).ok_or(Problem::OtherBrowser)?;
        let (broker, session) = (Arc::clone(&self.broker), id.clone());
        let session = self.finish(async move { broker.confirm(&session, &browser).await }).await?;
        Ok(Answer::to_session(&session.id))
    }

    async fn decline(&self, id: &ConnectId, headers: &HeaderMap, connection: &Connection) -> Result<Answer, Problem> {
        let visitors = self.visitors(headers, connection).await;
        let browser = self.cookie(headers, &cookie::flow(id));
        let broker = Arc::clone(&self.broker);
        let session = id.clone();
        self.finish(async move { broker.decline(&session, &visitors, browser.as_deref()).await }).await?;
        Ok(Answer::to_session(id))
    }

    /// Whether a form comes from a page of ours in this very browser, for this very session.
    async fn is_ours<S, B, E>(&self, id: &ConnectId, headers: &HeaderMap, body: S) -> Result<(), Problem>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        if !self.site.is_own_form(headers) {
            return Err(Problem::Forged);
        }
        let given = form::token(headers, body, FORM_TIMEOUT).await?;
        let csrf = self.cookie(headers, CSRF).ok_or(Problem::Forged)?;
        if !form::matches(&self.form_token(&csrf, id), &given) {
            return Err(Problem::Forged);
        }
        Ok(())
    }

    fn cookie(&self, headers: &HeaderMap, name: &str) -> Option<String> {
        cookie::read(headers, name, self.site.is_secure())
    }

    fn form_token(&self, csrf: &str, id: &ConnectId) -> String {
        self.broker.page_digest(&["csrf", csrf, id.as_str()])
    }

    /// Everything that is known of who is in the browser.
    async fn visitors(&self, headers: &HeaderMap, connection: &Connection) -> Vec<Visitor> {
        let ticketed = self.cookie(headers, PERSON).map(|cookie| self.broker.ticketed(&cookie));
        [connection.person().await].into_iter().chain(ticketed).collect()
    }

    /// Work that changes something runs on a task of its own: a browser that goes away drops its request, and a code that
    /// has been redeemed must still be stored.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PageError>> + Send + 'static,
    ) -> Result<T, Problem> {
        match self.running.spawn(work).await {
            Ok(done) => done.map_err(Problem::from),
            Err(_) => Err(Problem::Internal),
        }
    }
}

impl Connection {
    pub(crate) const fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { peer, local, person: OnceCell::const_new() }
    }

    /// Looked up once: the user of a socket does not change.
    async fn person(&self) -> Visitor {
        self.person.get_or_init(|| person::visitor(self.peer, self.local)).await.clone()
    }
}
