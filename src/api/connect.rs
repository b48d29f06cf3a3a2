//! `/v1/connect`: make or reuse a connect session, wait for it, cancel it.

mod steps;

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use http::Method;
use serde::Serialize;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::input::{Invalid, PURPOSE_MAX, WAIT_MAX, parse, scopes, seconds, text};
use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{ConnectBody, DeviceBody, SessionBody};
use crate::api::{asker, known, query, query_value, reply};
use crate::broker::Broker;
use crate::broker::connect::{ConnectRequest, Prompt};
use crate::broker::device::DevicePrompt;
use crate::broker::error::BrokerError;
use crate::model::id::{ConnectId, ProviderId};
use crate::model::provider::redirect;
use crate::model::session::{ConnectFailure, Progress};

pub(super) fn routes(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let (other, steps) = (Arc::clone(&broker), steps::routes(Arc::clone(&broker)));
    let all = warp::path!("v1" / "connect").and(warp::method()).and(asker()).and(warp::body::stream()).then(
        move |method, asker, body| {
            let broker = Arc::clone(&broker);
            async move { reply::answer(make(&broker, method, asker, body).await) }
        },
    );
    let one = warp::path!("v1" / "connect" / ConnectId).and(warp::method()).and(asker()).and(query()).then(
        move |id, method, asker, query| {
            let broker = Arc::clone(&other);
            async move {
                match method {
                    Method::GET | Method::HEAD => reply::answer(show(&broker, &id, asker, query).await),
                    Method::DELETE => reply::answer(cancel(&broker, id, asker).await),
                    _ => Problem::method_not_allowed("GET, HEAD, DELETE").into_response(),
                }
            }
        },
    );
    all.or(one).unify().or(steps).unify()
}

async fn make<S, B, E>(
    broker: &Arc<Broker>,
    method: Method,
    asker: Option<Asker>,
    body: S,
) -> Result<SessionBody, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    if method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    let asker = known(asker)?;
    let body: ConnectBody = parse(&reply::read(body).await?)?;
    let (opens, by_device) = (body.open.unwrap_or(false), body.device.unwrap_or(false));
    if opens && by_device {
        return Err(Invalid::field("open", "must not be set with `device`: there is no browser to open").into());
    }
    let request = request(body)?;
    // Before there is a session that the caller could not go on with.
    if opens {
        broker.may_attend(&asker.caller).map_err(|error| Problem::from_broker(error, &broker.registry()))?;
    }
    let fail = |error: BrokerError| Problem::from_broker(error, &broker.registry());
    let body = if by_device {
        device(broker, &asker, broker.connect_device(&asker.caller, request).await.map_err(fail)?)
    } else {
        let prompt = broker.connect(&asker.caller, request).await.map_err(fail)?;
        let ticket = match opens {
            true => Some(broker.ticket(&asker.caller, &prompt.session.id).await.map_err(fail)?),
            false => None,
        };
        session(broker, &asker, prompt, ticket.as_deref())
    };
    let warning = warning(broker, &asker, &body.provider).await.map_err(fail)?;
    Ok(SessionBody { warning, ..body })
}

/// What a new consent does to what is connected already, if it does something.
async fn warning(broker: &Broker, asker: &Asker, provider: &ProviderId) -> Result<Option<String>, BrokerError> {
    if broker.replaced_by_consent(&asker.caller.subject, provider).await?.is_empty() {
        return Ok(None);
    }
    let registry = broker.registry();
    Ok(registry.providers.get(provider).and_then(|configured| configured.provider.consent_warning()))
}

fn device(broker: &Broker, asker: &Asker, begun: DevicePrompt) -> SessionBody {
    let body = session(broker, asker, begun.prompt, None);
    let device = DeviceBody {
        user_code: body.user_code.clone(),
        verification_uri: begun.verification_uri,
        verification_uri_complete: begun.verification_uri_complete,
        interval: begun.interval.as_secs(),
        expires_at: begun.expires_at.as_secs(),
    };
    SessionBody { device: Some(device), proof: Some(begun.proof), ..body }
}

async fn show(
    broker: &Arc<Broker>,
    id: &ConnectId,
    asker: Option<Asker>,
    query: String,
) -> Result<SessionBody, Problem> {
    let asker = known(asker)?;
    let wait = wait(&query)?;
    match broker.session(&asker.caller, id, wait).await {
        Ok(prompt) => Ok(session(broker, &asker, prompt, None)),
        Err(error) => Err(Problem::from_broker(error, &broker.registry())),
    }
}

#[derive(Serialize)]
struct Cancelled {
    connect_id: ConnectId,
    status: &'static str,
}

async fn cancel(broker: &Arc<Broker>, id: ConnectId, asker: Option<Asker>) -> Result<Cancelled, Problem> {
    let asker = known(asker)?;
    match broker.cancel(&asker.caller, &id).await {
        Ok(()) => Ok(Cancelled { connect_id: id, status: ConnectFailure::Cancelled.as_str() }),
        Err(error) => Err(Problem::from_broker(error, &broker.registry())),
    }
}

fn request(body: ConnectBody) -> Result<ConnectRequest, Invalid> {
    Ok(ConnectRequest {
        provider: body.provider,
        scopes: scopes(body.scopes)?,
        reconnect: body.reconnect,
        purpose: text("purpose", body.purpose, PURPOSE_MAX)?,
    })
}

fn wait(query: &str) -> Result<Duration, Invalid> {
    let given = match query_value(query, "wait") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| Invalid::field("wait", "must be a number of seconds"))?),
    };
    seconds("wait", given, Duration::ZERO, WAIT_MAX)
}

fn session(broker: &Broker, asker: &Asker, prompt: Prompt, ticket: Option<&str>) -> SessionBody {
    let body = written(broker, prompt, ticket);
    // The person may have picked an account that is not for this caller.
    match &body.account {
        Some(account) if !broker.sees_account(&asker.caller, &body.provider, account) => {
            SessionBody { account: None, granted: None, connection: None, ..body }
        }
        _ => body,
    }
}

fn written(broker: &Broker, prompt: Prompt, ticket: Option<&str>) -> SessionBody {
    let registry = broker.registry();
    let configured = registry.providers.get(&prompt.session.provider);
    let device_flow = configured.is_some_and(|configured| configured.provider.endpoints.device.is_some());
    let no_way_back = configured.and_then(|configured| {
        let unusable = redirect::check(&configured.provider, &registry.redirect_uri(&prompt.session.provider))?;
        Some(unusable.why)
    });
    let body = plain(prompt, ticket);
    let missing = configured.zip(body.granted.as_ref());
    let missing = missing.map(|(configured, granted)| configured.provider.scopes.missing(granted, &body.scopes));
    SessionBody { device_flow, no_way_back, missing_scopes: missing.filter(|missing| !missing.is_empty()), ..body }
}

fn plain(prompt: Prompt, ticket: Option<&str>) -> SessionBody {
    let browser_url = ticket.map(|ticket| {
        let mut url = prompt.connect_url.clone();
        url.query_pairs_mut().append_pair("ticket", ticket);
        url
    });
    let session = prompt.session;
    let (account, granted, connection) = match &session.progress {
        Progress::AwaitingConfirmation { account, granted } => (Some(account.clone()), Some(granted.clone()), None),
        Progress::Completed { account, connection } => (Some(account.clone()), None, Some(connection.clone())),
        Progress::Pending | Progress::Opened | Progress::Failed(_) => (None, None, None),
    };
    SessionBody {
        connect_id: session.id,
        provider: session.provider,
        status: session.progress.as_str().into(),
        done: session.progress.is_final(),
        connect_url: prompt.connect_url,
        browser_url,
        connect_expires_at: session.expires_at.as_secs(),
        user_code: session.user_code,
        warning: None,
        scopes: session.scopes,
        account,
        granted,
        missing_scopes: None,
        connection,
        device_flow: false,
        no_way_back: None,
        device: None,
        authorize: None,
        proof: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::connection::Account;
    use crate::model::grant_type::GrantType;
    use crate::model::scope::ScopeSet;
    use crate::model::session::ConnectSession;
    use crate::model::subject::Subject;
    use crate::model::time::Timestamp;

    fn prompt(progress: Progress) -> Prompt {
        Prompt {
            session: ConnectSession {
                id: "cn_1".parse().unwrap(),
                subject: Subject::from_uid(1000),
                caller: "uid:1000".parse().unwrap(),
                purpose: None,
                provider: "github".parse().unwrap(),
                scopes: ScopeSet::read("repo", ' '),
                reconnect: None,
                grant_type: GrantType::AuthorizationCode,
                user_code: "WDJB-MJHT".to_owned(),
                progress,
                created_at: Timestamp::from_secs(1),
                expires_at: Timestamp::from_secs(601),
            },
            connect_url: "http://localhost:8717/connect/cn_1".parse().unwrap(),
        }
    }

    #[test]
    fn the_ticket_is_in_the_browsers_link_and_in_no_other() {
        let body = plain(prompt(Progress::Pending), Some("a&b"));
        let link = body.browser_url.as_ref().map(ToString::to_string);
        assert_eq!(link.as_deref(), Some("http://localhost:8717/connect/cn_1?ticket=a%26b"));
        assert_eq!(body.connect_url.query(), None);
        assert!(plain(prompt(Progress::Pending), None).browser_url.is_none());
    }

    #[test]
    fn a_completed_session_names_the_account_and_the_connection() {
        let account = Account { id: "1".to_owned(), name: "octocat".to_owned() };
        let body =
            plain(prompt(Progress::Completed { connection: "cx_1".parse().unwrap(), account: account.clone() }), None);
        assert!(body.done);
        assert_eq!(body.status, "completed");
        assert_eq!(body.account, Some(account));
        assert_eq!(body.connection.unwrap().as_str(), "cx_1");
    }

    #[test]
    fn a_wait_is_a_number_of_seconds_up_to_a_minute() {
        assert_eq!(wait(""), Ok(Duration::ZERO));
        assert_eq!(wait("wait=60"), Ok(Duration::from_secs(60)));
        for bad in ["wait=61", "wait=", "wait=x", "wait=-1", "wait=1.5"] {
            assert_eq!(wait(bad).unwrap_err().field.as_deref(), Some("wait"), "{bad}");
        }
    }
}
