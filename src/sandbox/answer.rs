//! An answer on its way out: what it says, what the script does to it, and what is written down when it is out.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

use crate::sandbox::fault::{BodyKind, What};
use crate::sandbox::machine::{Presentation, Receipt};
use crate::sandbox::manner::Said;

const WEB_PAGE: &str = "<!doctype html><title>Oops</title><h1>Something went wrong</h1>";

/// What a request is answered with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) damage: Damage,
    pub(super) parcel: Parcel,
}

/// What the script does to the body.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Damage {
    #[default]
    None,
    /// So many bytes, then a broken connection.
    Truncate(usize),
    /// So many bytes per second.
    Slow(u32),
    /// So many bytes of filler, instead of the body.
    Huge(u64),
}

/// What is written down once the kernel has the last byte, or when it is clear that it never will.
#[derive(Default)]
pub(super) struct Parcel {
    pub(super) receipt: Option<Receipt>,
    pub(super) presentation: Option<Presentation>,
}

/// The connection is to be broken without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the script breaks the connection")]
pub(super) struct Broken;

/// What a fault leaves to be done.
pub(super) enum Plan {
    /// Process the request, then do this to the answer.
    Process(After),
    /// Answer this instead.
    Answer(Box<Answer>),
    /// Break the connection now.
    Break,
}

/// What happens to the answer of a processed request.
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    Send(Damage),
    Break,
}

impl Answer {
    pub(super) fn empty(status: StatusCode) -> Self {
        Self::text(status, "text/plain; charset=utf-8", Bytes::new())
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self::text(status, "application/json", body.to_string())
    }

    pub(super) fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]),
            body: body.into(),
            damage: Damage::None,
            parcel: Parcel::default(),
        }
    }

    /// With one more header. A value that cannot stand in a header is left out.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn carrying(mut self, receipt: Receipt) -> Self {
        self.parcel.receipt = Some(receipt);
        self
    }
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel").finish_non_exhaustive()
    }
}

impl Plan {
    /// What the script wants; `tell` writes an error down as the provider does. Waits where the script says so.
    pub(super) async fn of(fault: Option<What>, tell: &(dyn Fn(&Said) -> Answer + Send + Sync)) -> Self {
        let Some(fault) = fault else {
            return Self::Process(After::Send(Damage::None));
        };
        match fault {
            What::Delay(span) => {
                tokio::time::sleep(span).await;
                Self::Process(After::Send(Damage::None))
            }
            What::Truncate(bytes) => Self::Process(After::Send(Damage::Truncate(bytes))),
            What::Slow(per_second) => Self::Process(After::Send(Damage::Slow(per_second))),
            What::DropAfterProcessing => Self::Process(After::Break),
            What::DropBeforeProcessing => Self::Break,
            What::Status { code, body } => Self::Answer(Box::new(status(code, body))),
            What::OAuthError(code) => Self::Answer(Box::new(tell(&Said::of(&code, "scripted")))),
            What::Error { code, status, members } => {
                let status = status.and_then(|status| StatusCode::from_u16(status).ok());
                let said = Said { status, more: members, ..Said::of(&code, "scripted") };
                Self::Answer(Box::new(tell(&said)))
            }
            What::Garbage => {
                let noise = &b"\xff\xfe{\"access_to"[..];
                Self::Answer(Box::new(Answer::text(StatusCode::OK, "application/json", noise)))
            }
            What::Html => Self::Answer(Box::new(Answer::text(StatusCode::OK, "text/html; charset=utf-8", WEB_PAGE))),
            What::RetryAfter { code, value } => {
                Self::Answer(Box::new(status(code, BodyKind::Json).header(RETRY_AFTER, &value)))
            }
            What::Huge(bytes) => {
                let mut answer = Answer::text(StatusCode::OK, "application/json", Bytes::new());
                answer.damage = Damage::Huge(bytes);
                Self::Answer(Box::new(answer))
            }
        }
    }
}

/// The longest that a slow body pauses between two bytes.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How a slow body is cut: how many bytes at a time, and the pause after each.
pub(super) fn pace(per_second: u32) -> (usize, Duration) {
    let Some(pause) = Duration::from_secs(1).checked_div(per_second) else {
        return (1, PAUSE_MAX);
    };
    let at_a_time = (per_second / 20).max(1);
    (at_a_time as usize, pause.saturating_mul(at_a_time))
}

fn status(code: u16, body: BodyKind) -> Answer {
    // A status below 200 is not an answer; hyper would refuse to send it.
    let code = StatusCode::from_u16(code.max(200)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match body {
        BodyKind::Empty => Answer::empty(code),
        BodyKind::Json => Answer::json(code, &json!({"message": "scripted"})),
        BodyKind::Html => Answer::text(code, "text/html; charset=utf-8", WEB_PAGE),
        BodyKind::Text => Answer::text(code, "text/plain; charset=utf-8", "scripted\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_body_keeps_its_pace() {
        for (per_second, expected) in [
            (0, (1, Duration::from_secs(60))),
            (1, (1, Duration::from_secs(1))),
            (10, (1, Duration::from_millis(100))),
            (2000, (100, Duration::from_millis(50))),
        ] {
            assert_eq!(pace(per_second), expected, "{per_second}");
        }
    }
}
