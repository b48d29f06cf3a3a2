//! Bodies in and out: bounded reading, and JSON that nobody may keep.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use warp::reply::Response;

use crate::api::input::BODY_MAX;
use crate::api::problem::Problem;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut text = Vec::with_capacity(512);
    serde_json::to_writer(&mut text, body).expect("the wire shapes have text keys and no failing serializer");
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer or a problem.
pub(crate) fn answer<T: Serialize>(result: Result<T, Problem>) -> Response {
    match result {
        Ok(body) => json(StatusCode::OK, &body),
        Err(problem) => problem.into_response(),
    }
}

/// Reads a request body of at most [`BODY_MAX`] bytes, whatever its `Content-Length` promises.
pub(crate) async fn read<S, B, E>(body: S) -> Result<Vec<u8>, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    read_within(BODY_TIMEOUT, body).await
}

async fn read_within<S, B, E>(span: Duration, body: S) -> Result<Vec<u8>, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut collecting = std::pin::pin!(collect(body));
    // hyper hands a body over only after it has been asked for. What is there when it is asked again needs no timer.
    let mut asked = false;
    let early = poll_fn(|cx| match collecting.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending if asked => Poll::Ready(None),
        Poll::Pending => {
            asked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match early.await {
        Some(read) => read,
        // In a box, because the timer is large and hardly ever needed.
        None => {
            let timed = Box::pin(tokio::time::timeout(span, collecting));
            timed.await.unwrap_or_else(|_| Err(Problem::body_timeout()))
        }
    }
}

async fn collect<S, B, E>(body: S) -> Result<Vec<u8>, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| Problem::body_broken())?;
        if bytes.len() + chunk.remaining() > BODY_MAX {
            return Err(Problem::payload_too_large());
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            let length = part.len();
            bytes.extend_from_slice(part);
            chunk.advance(length);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    fn chunks(sizes: &[usize]) -> impl Stream<Item = Result<Bytes, ()>> {
        let chunks: Vec<_> = sizes.iter().map(|size| Ok(Bytes::from(vec![b'x'; *size]))).collect();
        stream::iter(chunks)
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit_and_no_further() {
        assert_eq!(read(chunks(&[BODY_MAX - 1, 1])).await.unwrap().len(), BODY_MAX);
        let problem = read(chunks(&[BODY_MAX, 1])).await.unwrap_err();
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_the_callers_fault() {
        let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(())]);
        assert_eq!(read(broken).await.unwrap_err().status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up() {
        let never = stream::pending::<Result<Bytes, ()>>();
        let given_up = read_within(Duration::from_millis(10), never).await;
        assert_eq!(given_up.unwrap_err().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
