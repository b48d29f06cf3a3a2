//! The fault script: what goes wrong, where, and how often.
//!
//! Faults are tried in the order in which they were added; the first that is due is played, and only that one.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sandbox::options::millis;

/// Something that goes wrong.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub at: Endpoint,
    /// How often.
    pub when: When,
    /// At the token endpoint: only for requests with this `grant_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_type: Option<String>,
    /// What.
    pub what: What,
}

/// A place where something can go wrong.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// The authorization endpoint and the consent form behind it.
    Authorize,
    /// The token endpoint.
    Token,
    /// The userinfo endpoint and the example API.
    Userinfo,
    /// The key set.
    Jwks,
    /// The revocation endpoint.
    Revoke,
    /// The device authorization endpoint (RFC 8628).
    Device,
}

/// How often something goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// For the next so many requests.
    Next(u32),
    /// For every so many-th request; 1 is always, 0 never.
    Every(u32),
    /// For all requests.
    Always,
}

/// What goes wrong.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Answers with this status. Nothing is processed.
    Status {
        /// The status code.
        code: u16,
        /// What the body is.
        body: BodyKind,
    },
    /// Answers this OAuth error code (RFC 6749 section 5.2) as the provider writes errors down. Nothing is processed.
    #[serde(rename = "oauth_error")]
    OAuthError(String),
    /// The same with a status and further members of the body.
    Error {
        /// The code.
        code: String,
        /// The status; the one that the provider gives to the code if absent.
        #[serde(default)]
        status: Option<u16>,
        /// Further members.
        #[serde(default)]
        members: Map<String, Value>,
    },
    /// Waits, then goes on as if nothing had been. The request is processed even if the client has hung up.
    #[serde(rename = "delay_ms", with = "millis")]
    Delay(Duration),
    /// Answers 200 and `application/json` with bytes that are no JSON. Nothing is processed.
    Garbage,
    /// Answers 200 with a web page. Nothing is processed.
    Html,
    /// Processes the request, announces the whole answer, sends so many bytes of it and breaks the connection.
    Truncate(usize),
    /// Breaks the connection. Nothing is processed.
    DropBeforeProcessing,
    /// Processes the request, then breaks the connection without a byte of an answer: a rotated token is lost.
    DropAfterProcessing,
    /// Answers 200 with a body of so many bytes and no length. Nothing is processed.
    Huge(u64),
    /// Processes the request and sends so many bytes of the answer per second.
    Slow(u32),
    /// Answers with this status and `Retry-After`. Nothing is processed.
    RetryAfter {
        /// The status code.
        code: u16,
        /// The value of the header as it stands, sense or nonsense.
        value: String,
    },
}

/// What the body of a scripted answer is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyKind {
    /// Nothing.
    Empty,
    /// A JSON object that is no OAuth error.
    Json,
    /// A web page.
    Html,
    /// A line of text.
    Text,
}

impl Fault {
    /// A fault for every request to an endpoint.
    #[must_use]
    pub const fn new(at: Endpoint, when: When, what: What) -> Self {
        Self { at, when, grant_type: None, what }
    }

    /// A fault of the token endpoint that strikes refreshes only.
    #[must_use]
    pub fn of_refresh(when: When, what: What) -> Self {
        Self { grant_type: Some("refresh_token".to_owned()), ..Self::new(Endpoint::Token, when, what) }
    }
}

/// The faults that are still to be played.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<Line>);

#[derive(Debug)]
struct Line {
    fault: Fault,
    seen: u32,
}

impl Script {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(Line { fault, seen: 0 });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What goes wrong for this request, if anything does.
    pub(super) fn take(&mut self, at: Endpoint, grant_type: Option<&str>) -> Option<What> {
        let due = self.0.iter_mut().find_map(|line| line.play(at, grant_type));
        self.0.retain(|line| !line.is_spent());
        due
    }
}

impl Line {
    fn play(&mut self, at: Endpoint, grant_type: Option<&str>) -> Option<What> {
        let other_type = self.fault.grant_type.is_some() && self.fault.grant_type.as_deref() != grant_type;
        if self.fault.at != at || other_type {
            return None;
        }
        self.seen = self.seen.saturating_add(1);
        let due = match self.fault.when {
            When::Always => true,
            When::Next(count) => self.seen <= count,
            When::Every(count) => count > 0 && self.seen.is_multiple_of(count),
        };
        due.then(|| self.fault.what.clone())
    }

    const fn is_spent(&self) -> bool {
        matches!(self.fault.when, When::Next(count) if self.seen >= count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(script: &mut Script, times: usize) -> String {
        (0..times)
            .map(|_| match script.take(Endpoint::Token, Some("refresh_token")) {
                None => '.',
                Some(What::Garbage) => 'g',
                Some(What::Html) => 'h',
                Some(_) => '?',
            })
            .collect()
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_says() {
        for (when, expected) in [
            (When::Next(0), "....."),
            (When::Next(2), "gg..."),
            (When::Every(0), "....."),
            (When::Every(2), ".g.g."),
            (When::Always, "ggggg"),
        ] {
            let mut script = Script::default();
            script.add(Fault::new(Endpoint::Token, when, What::Garbage));
            assert_eq!(played(&mut script, 5), expected, "{when:?}");
        }
    }

    #[test]
    fn faults_are_played_in_order_and_one_at_a_time() {
        let mut script = Script::default();
        script.add(Fault::of_refresh(When::Next(1), What::Html));
        script.add(Fault::new(Endpoint::Token, When::Next(2), What::Garbage));
        assert_eq!(played(&mut script, 4), "hgg.");
    }

    #[test]
    fn a_fault_strikes_nothing_else() {
        let mut script = Script::default();
        script.add(Fault::of_refresh(When::Always, What::Html));
        assert_eq!(script.take(Endpoint::Token, Some("authorization_code")), None);
        assert_eq!(script.take(Endpoint::Userinfo, None), None);
    }

    #[test]
    fn a_fault_reads_as_json() {
        for (json, what) in [
            (r#"{"status":{"code":503,"body":"html"}}"#, What::Status { code: 503, body: BodyKind::Html }),
            (r#"{"oauth_error":"invalid_grant"}"#, What::OAuthError("invalid_grant".to_owned())),
            (r#"{"delay_ms":250}"#, What::Delay(Duration::from_millis(250))),
            (r#""drop_after_processing""#, What::DropAfterProcessing),
            (r#"{"truncate":7}"#, What::Truncate(7)),
        ] {
            let text = format!(r#"{{"at":"token","when":{{"next":1}},"what":{json}}}"#);
            let fault: Fault = serde_json::from_str(&text).unwrap();
            assert_eq!(fault, Fault::new(Endpoint::Token, When::Next(1), what), "{json}");
        }
    }
}
