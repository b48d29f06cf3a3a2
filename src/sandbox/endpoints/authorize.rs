//! The authorization endpoint (RFC 6749 section 3.1) and the consent form behind it.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY};
use http::{Method, StatusCode};

use crate::sandbox::answer::Answer;
use crate::sandbox::endpoints::pages;
use crate::sandbox::machine::{AuthorizeError, Choice, Machine, Receipt, Redirect, Step};
use crate::sandbox::manner::Scene;
use crate::sandbox::manner::route::Spot;
use crate::sandbox::params::Params;
use crate::sandbox::routes::{Call, refuse};

/// Answers an authorization request. OpenID Connect Core section 3.1.2.1 wants both methods.
pub(in crate::sandbox) fn answer(machine: &Arc<Machine>, scene: &Scene<'_>, params: &Params) -> Answer {
    if scene.call.method != Method::GET && scene.call.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method\n");
    }
    match machine.authorize(params, machine.manner.wishes(scene, params)) {
        Ok(Step::Ask(asked)) => pages::consent(&asked, machine.path_of(Spot::Consent)),
        Ok(Step::Go(redirect)) => go(machine, redirect),
        Err(error) => pages::error(error),
    }
}

/// Answers the form that the person sent.
pub(in crate::sandbox) fn decided(machine: &Arc<Machine>, call: &Call, params: &Params) -> Answer {
    if call.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method\n");
    }
    match decide(machine, params) {
        Ok(redirect) => go(machine, redirect),
        Err(error) => pages::error(error),
    }
}

fn decide(machine: &Machine, params: &Params) -> Result<Redirect, AuthorizeError> {
    let id = params.get("page").ok_or(AuthorizeError::Malformed)?;
    let choice = match params.get("decision") {
        Some("allow") => Choice::Allow {
            sub: params.get("account").unwrap_or_default().to_owned(),
            scopes: params.all("scope").map(str::to_owned).collect(),
        },
        Some("deny") => Choice::Deny,
        _ => return Err(AuthorizeError::Malformed),
    };
    machine.decide(id, &choice)
}

/// 303, so that a form that was posted here is not posted on (RFC 9700 section 4.12).
fn go(machine: &Arc<Machine>, redirect: Redirect) -> Answer {
    let answer = refuse(StatusCode::SEE_OTHER, "back to the client\n")
        .header(LOCATION, &redirect.uri)
        .header(CACHE_CONTROL, "no-store")
        .header(REFERRER_POLICY, "no-referrer");
    match redirect.code {
        Some(code) => answer.carrying(Receipt::for_code(machine, &code)),
        None => answer,
    }
}
