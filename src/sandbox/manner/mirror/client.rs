//! Who asks the mirror: the client proves itself as the definition says for this request, and in no other way.

use http::header::AUTHORIZATION;

use crate::model::client::ClientAuth;
use crate::model::provider::assertion::Audience;
use crate::sandbox::machine::{Credentials, DEVICE_GRANT_TYPE, Refusal};
use crate::sandbox::manner::Scene;
use crate::sandbox::manner::mirror::{Mirror, moved};
use crate::sandbox::manner::route::Spot;
use crate::sandbox::params::Params;

/// Which client asks for a code or for tokens.
pub(super) fn read(mirror: &Mirror, scene: &Scene<'_>, params: &Params) -> Result<Credentials, Refusal> {
    let sent = Credentials::read(&scene.call.headers, params)?;
    let in_header = scene.call.headers.contains_key(AUTHORIZATION);
    match expected(mirror, scene.spot, params) {
        ClientAuth::Basic if !in_header => Err(Refusal::NoSecret),
        ClientAuth::Post if in_header || !sent.has_secret() => Err(Refusal::NoSecret),
        ClientAuth::None | ClientAuth::PrivateKeyJwt if in_header || sent.has_secret() => Err(Refusal::PublicSecret),
        ClientAuth::PrivateKeyJwt => signed(mirror, scene, params).map(|()| sent),
        ClientAuth::Basic | ClientAuth::Post | ClientAuth::None => Ok(sent),
    }
}

/// Whether the assertion is good, where the client signs for itself.
pub(super) fn signed(mirror: &Mirror, scene: &Scene<'_>, params: &Params) -> Result<(), Refusal> {
    if mirror.provider.client_auth != ClientAuth::PrivateKeyJwt {
        return Ok(());
    }
    let assertions = mirror.assertions.as_ref().ok_or(Refusal::Client)?;
    assertions.check(params, &audience(mirror, scene.origin), scene.now).map_err(|_| Refusal::Assertion)
}

fn expected(mirror: &Mirror, spot: Spot, params: &Params) -> ClientAuth {
    let provider = &mirror.provider;
    let own = match spot {
        Spot::Device => provider.device.request_auth,
        Spot::Token if params.get("grant_type") == Some(DEVICE_GRANT_TYPE) => provider.device.poll_auth,
        _ => None,
    };
    own.unwrap_or(provider.client_auth)
}

/// Whom an assertion has to be for. An issuer is an https address (RFC 8414 section 2); what is none names no server.
fn audience(mirror: &Mirror, origin: &str) -> String {
    let provider = &mirror.provider;
    match provider.assertion.audience {
        Audience::Issuer => {
            let named = provider.issuer.accept.first().filter(|issuer| issuer.starts_with("https://"));
            named.cloned().unwrap_or_default()
        }
        Audience::TokenEndpoint => moved(origin, &provider.endpoints.token).to_string(),
    }
}
