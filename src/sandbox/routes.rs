//! One request: which endpoint it is for, what the script does to it, and who answers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use crate::sandbox::answer::{After, Answer, Broken, Plan};
use crate::sandbox::endpoints::{authorize, control, home, token, userinfo};
use crate::sandbox::fault::Endpoint;
use crate::sandbox::ledger::{Kind, Secret};
use crate::sandbox::machine::{Machine, Presentation};
use crate::sandbox::params::Params;

/// The longest request body that is read. The longest honest one is a thousandth of it.
const BODY_MAX: usize = 256 * 1024;

/// A request, read whole.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// The parameters of the query, or of the form if this is a POST.
    pub(super) fn params(&self) -> Params {
        if self.method == Method::POST {
            return Params::parse(if self.is_form() { &self.body } else { b"" });
        }
        Params::parse(self.query.as_bytes())
    }

    pub(super) fn is_form(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    }
}

/// Answers a request.
pub(super) async fn answer(machine: Arc<Machine>, request: Request<Incoming>) -> Result<Answer, Broken> {
    let (head, body) = request.into_parts();
    // A page elsewhere can point a name of its own at loopback and then read what it finds (DNS rebinding).
    if !names_loopback(&head.headers) {
        return Ok(refuse(StatusCode::MISDIRECTED_REQUEST, "this server answers on loopback names only\n"));
    }
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or broken\n"));
    };
    let call = Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
    };
    let paths = machine.manner.paths();
    if let Some(endpoint) = paths.endpoint(&call.path) {
        return play(&machine, endpoint, &call).await;
    }
    if let Some(path) = call.path.strip_prefix("/_sandbox/") {
        if !call.headers.contains_key("x-sandbox") || call.headers.contains_key(ORIGIN) {
            return Ok(refuse(StatusCode::FORBIDDEN, "send `X-Sandbox: 1`, and not from a browser\n"));
        }
        return Ok(control::answer(&machine, path, &call));
    }
    if call.method != Method::GET {
        return Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"));
    }
    if paths.metadata.contains(&call.path.as_str()) {
        return Ok(userinfo::metadata(&machine));
    }
    match call.path.as_str() {
        "/" => Ok(home::answer(&machine)),
        _ => Ok(refuse(StatusCode::NOT_FOUND, "nothing here\n")),
    }
}

/// Lets the script have its way with a request to an endpoint.
async fn play(machine: &Arc<Machine>, endpoint: Endpoint, call: &Call) -> Result<Answer, Broken> {
    let params = call.params();
    let presentation = (endpoint == Endpoint::Token).then(|| present(machine, &params)).flatten();
    let fault = machine.fault(endpoint, params.get("grant_type"));
    let after = match Plan::of(fault).await {
        Plan::Process(after) => after,
        Plan::Answer(mut answer) => {
            presentation.iter().for_each(|presentation| presentation.failed(Kind::Refused, "scripted"));
            answer.parcel.presentation = presentation;
            return Ok(*answer);
        }
        Plan::Break => {
            presentation.iter().for_each(|presentation| presentation.failed(Kind::Dropped, "scripted"));
            return Err(Broken);
        }
    };
    let mut answer = match endpoint {
        Endpoint::Authorize => authorize::answer(machine, call, &params),
        Endpoint::Token => token::answer(machine, call, &params, presentation.as_ref()).await,
        Endpoint::Revoke => token::revoke(machine, call, &params),
        Endpoint::Userinfo => userinfo::account(machine, call),
        Endpoint::Jwks => userinfo::jwks(machine).await,
    };
    answer.parcel.presentation = presentation;
    match after {
        After::Send(damage) => {
            answer.damage = damage;
            Ok(answer)
        }
        // Dropping the answer drops its receipt, which writes down that its tokens are lost.
        After::Break => Err(Broken),
    }
}

fn present(machine: &Arc<Machine>, params: &Params) -> Option<Presentation> {
    let (what, name, grant_type) = match params.get("grant_type")? {
        "authorization_code" => (Secret::Code, "code", "authorization_code"),
        "refresh_token" => (Secret::Refresh, "refresh_token", "refresh_token"),
        _ => return None,
    };
    params.get(name).map(|text| Presentation::new(machine, what, text, grant_type))
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn refuse(status: StatusCode, why: &'static str) -> Answer {
    Answer::text(status, "text/plain; charset=utf-8", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_answered() {
        for (host, expected) in [
            ("localhost:9417", true),
            ("LOCALHOST", true),
            ("127.0.0.1:1", true),
            ("[::1]:9417", true),
            ("rebound.example:9417", false),
            ("localhost.evil.example", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
            assert_eq!(names_loopback(&headers), expected, "{host}");
        }
        assert!(!names_loopback(&HeaderMap::new()));
    }
}
