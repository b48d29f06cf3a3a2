//! What a token opens, the key set and the metadata (OpenID Connect Core section 5.3, RFC 7517, RFC 8414).

use http::header::AUTHORIZATION;
use http::{Method, StatusCode};

use crate::sandbox::answer::Answer;
use crate::sandbox::machine::Machine;
use crate::sandbox::manner::{MetadataFacts, Scene};
use crate::sandbox::routes::{Call, refuse};

/// Whose account the token opens. The proof that a token is alive.
pub(in crate::sandbox) fn account(machine: &Machine, scene: &Scene<'_>) -> Answer {
    let call = scene.call;
    if call.method != Method::GET && call.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "GET or POST only\n");
    }
    let Some(token) = bearer(call) else {
        return machine.manner.dead_token(scene, false);
    };
    match machine.whose(token) {
        Some(user) => machine.manner.account(scene, &user),
        None => machine.manner.dead_token(scene, true),
    }
}

/// The key set.
pub(in crate::sandbox) async fn jwks(machine: &Machine) -> Answer {
    Answer::json(StatusCode::OK, &machine.signer.key_set().await)
}

/// The metadata.
pub(in crate::sandbox) fn metadata(machine: &Machine) -> Answer {
    let facts = {
        let state = machine.state();
        MetadataFacts { scopes: state.options.scopes_supported.clone(), iss_on_callback: state.options.iss_on_callback }
    };
    match machine.manner.metadata(&machine.origin, &facts) {
        Some(document) => Answer::json(StatusCode::OK, &document),
        None => refuse(StatusCode::NOT_FOUND, "nothing here\n"),
    }
}

fn bearer(call: &Call) -> Option<&str> {
    let (scheme, token) = call.header(AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
