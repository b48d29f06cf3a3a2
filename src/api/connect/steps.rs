//! `/v1/connect/{id}/…`: the steps that a person takes on a page, taken over the socket by the session's own subject.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::connect::session;
use crate::api::input::{Invalid, parse};
use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{AuthorizeBody, CallbackBody, ConfirmBody, SessionBody};
use crate::api::{asker, known, reply};
use crate::broker::Broker;
use crate::broker::terminal::ReturnError;
use crate::model::id::ConnectId;

/// What is done to a session.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The provider's answer is given back.
    Callback,
    /// The account is the right one.
    Confirm,
    /// It is not.
    Decline,
    /// The person is on the way to the provider.
    Start,
}

impl FromStr for Step {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "callback" => Ok(Self::Callback),
            "confirm" => Ok(Self::Confirm),
            "decline" => Ok(Self::Decline),
            "start" => Ok(Self::Start),
            _ => Err(()),
        }
    }
}

pub(super) fn routes(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("v1" / "connect" / ConnectId / Step).and(warp::method()).and(asker()).and(warp::body::stream()).then(
        move |id, step, method, asker, body| {
            let broker = Arc::clone(&broker);
            async move {
                match method {
                    Method::POST => reply::answer(take(&broker, &id, step, asker, body).await),
                    _ => Problem::method_not_allowed("POST").into_response(),
                }
            }
        },
    )
}

async fn take<S, B, E>(
    broker: &Arc<Broker>,
    id: &ConnectId,
    step: Step,
    asker: Option<Asker>,
    body: S,
) -> Result<SessionBody, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let asker = known(asker)?;
    let caller = &asker.caller;
    let body = reply::read(body).await?;
    let prompt = match step {
        Step::Callback => {
            let CallbackBody { url, proof } = parse(&body)?;
            broker.return_own(caller, id, &url, &proof).await.map_err(Problem::from)?
        }
        Step::Confirm => {
            let ConfirmBody { proof } = parse(&body)?;
            broker.confirm_own(caller, id, &proof).await.map_err(Problem::from_session)?
        }
        Step::Decline => broker.decline_own(caller, id).await.map_err(Problem::from_session)?,
        Step::Start => {
            let begun = broker.begin_own(caller, id).await.map_err(Problem::from_session)?;
            let prompt = broker.own_page(caller, id).await.map_err(Problem::from_session)?;
            let redirect_uri = broker.registry().redirect_uri(&prompt.session.provider);
            let authorize = AuthorizeBody { url: begun.authorize_url, redirect_uri };
            let body = session(broker, &asker, prompt, None);
            return Ok(SessionBody { authorize: Some(authorize), proof: Some(begun.proof), ..body });
        }
    };
    Ok(session(broker, &asker, prompt, None))
}

impl From<ReturnError> for Problem {
    fn from(error: ReturnError) -> Self {
        let wrong = |why: String| Self::from(Invalid::field("url", why));
        match error {
            ReturnError::Elsewhere { expected } => {
                wrong(format!("must be the address that begins with {expected}; this one leads elsewhere"))
            }
            ReturnError::NoAnswer(_) => {
                wrong("must be the whole address, with `state` and with `code` or `error`, each once".to_owned())
            }
            ReturnError::OtherAttempt => {
                wrong("belongs to another attempt: give the address that this attempt led to".to_owned())
            }
            ReturnError::Unreadable => wrong("must be an address that begins with http:// or https://".to_owned()),
            ReturnError::Session(error) => Self::from_session(error),
        }
    }
}
