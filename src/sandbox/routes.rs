//! One request: which endpoint it is for, what the script does to it, and who answers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use crate::model::provider::rules::Encoding;
use crate::sandbox::answer::{After, Answer, Broken, Plan};
use crate::sandbox::endpoints::{authorize, control, device, home, token, userinfo};
use crate::sandbox::ledger::{Kind, Secret};
use crate::sandbox::machine::{DEVICE_GRANT_TYPE, Machine, Presentation};
use crate::sandbox::manner::Scene;
use crate::sandbox::manner::route::{self, Captured, Spot};
use crate::sandbox::params::Params;

/// The longest request body that is read. The longest honest one is a thousandth of it.
const BODY_MAX: usize = 256 * 1024;

/// A request, read whole.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    /// The values of the variable parts of the path.
    pub(super) captured: Captured,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// The parameters of the query, or those of the body if this is no GET.
    pub(super) fn params(&self, encoding: Encoding) -> Params {
        if self.method == Method::GET {
            return Params::parse(self.query.as_bytes());
        }
        match encoding {
            _ if !self.is(encoding) => Params::parse(b""),
            Encoding::Form => Params::parse(&self.body),
            Encoding::Json => Params::of_json(&self.body),
        }
    }

    /// Whether the body is said to be written like this.
    pub(super) fn is(&self, encoding: Encoding) -> bool {
        let kind = self.header(CONTENT_TYPE).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(match encoding {
            Encoding::Form => "application/x-www-form-urlencoded",
            Encoding::Json => "application/json",
        })
    }

    /// The value of a variable part of the path.
    pub(super) fn captured(&self, name: &str) -> Option<&str> {
        self.captured.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header as text.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
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
    let found = route::find(&machine.routes, &head.method, head.uri.path());
    let (spot, captured) = found.map_or((None, Captured::new()), |(spot, captured)| (Some(spot), captured));
    let call = Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        captured,
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
    };
    match spot {
        Some(Spot::Metadata) if call.method == Method::GET => return Ok(userinfo::metadata(&machine)),
        Some(Spot::Metadata) | None => {}
        Some(spot) => return play(&machine, spot, &call).await,
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
    match call.path.as_str() {
        "/" => Ok(home::answer(&machine)),
        _ => Ok(refuse(StatusCode::NOT_FOUND, "nothing here\n")),
    }
}

/// Lets the script have its way with a request to an endpoint.
async fn play(machine: &Arc<Machine>, spot: Spot, call: &Call) -> Result<Answer, Broken> {
    let params = call.params(machine.manner.encoding(spot));
    let scene = Scene { call, spot, origin: &machine.origin, quirks: machine.quirks(), now: machine.now() };
    let presentation = (spot == Spot::Token).then(|| present(machine, &params)).flatten();
    let fault = spot.endpoint().and_then(|endpoint| machine.fault(endpoint, params.get("grant_type")));
    let after = match Plan::of(fault, &|said| machine.manner.error(&scene, said)).await {
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
    let mut answer = match spot {
        Spot::Authorize => authorize::answer(machine, &scene, &params),
        Spot::Consent => authorize::decided(machine, call, &params),
        Spot::Token => token::answer(machine, &scene, &params, presentation.as_ref()).await,
        Spot::Revoke => token::revoke(machine, &scene, &params),
        Spot::Account => userinfo::account(machine, &scene),
        Spot::Jwks => userinfo::jwks(machine).await,
        Spot::Metadata => userinfo::metadata(machine),
        Spot::Device => device::authorize(machine, &scene, &params),
        Spot::DevicePage => device::page(machine, call, &params),
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
        DEVICE_GRANT_TYPE => (Secret::Device, "device_code", DEVICE_GRANT_TYPE),
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
