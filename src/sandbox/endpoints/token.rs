//! The token endpoint (RFC 6749 section 3.2) and the revocation endpoint (RFC 7009 section 2).

use std::sync::Arc;

use http::{Method, StatusCode};

use crate::sandbox::answer::Answer;
use crate::sandbox::id_token;
use crate::sandbox::ledger::Kind;
use crate::sandbox::machine::{DEVICE_GRANT_TYPE, Issued, Machine, Presentation, Receipt, Redemption, Refusal};
use crate::sandbox::manner::Scene;
use crate::sandbox::manner::route::Spot;
use crate::sandbox::params::Params;
use crate::sandbox::routes::refuse;

/// Answers a token request. A refusal is written down for what was presented.
pub(in crate::sandbox) async fn answer(
    machine: &Arc<Machine>,
    scene: &Scene<'_>,
    params: &Params,
    presentation: Option<&Presentation>,
) -> Answer {
    if scene.call.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
    }
    let issued = match exchange(machine, scene, params) {
        Ok(issued) => issued,
        Err(refusal) => {
            presentation.into_iter().for_each(|presentation| presentation.failed(Kind::Refused, refusal.error()));
            return machine.manner.refused(scene, refusal);
        }
    };
    // From here on the tokens exist; whatever happens to the answer, the receipt says so.
    let receipt = Receipt::for_tokens(machine, &issued);
    let told = issued.iter().find_map(|issued| Some((issued, issued.id_token.as_ref()?)));
    let id_token = match told {
        Some((issued, facts)) => id_token::of(machine, scene, issued, facts).await,
        None => None,
    };
    machine.manner.issued(scene, &issued, id_token.as_deref()).carrying(receipt)
}

/// Answers a revocation request.
pub(in crate::sandbox) fn revoke(machine: &Machine, scene: &Scene<'_>, params: &Params) -> Answer {
    if scene.call.method == Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method\n");
    }
    let revoked = well_formed(machine, scene, Spot::Revoke, params)
        .and_then(|()| machine.manner.revocation(scene, params))
        .and_then(|wanted| machine.revoke(&wanted));
    match revoked {
        Ok(()) => machine.manner.revoked(scene),
        Err(refusal) => machine.manner.refused(scene, refusal),
    }
}

fn exchange(machine: &Machine, scene: &Scene<'_>, params: &Params) -> Result<Vec<Issued>, Refusal> {
    well_formed(machine, scene, Spot::Token, params)?;
    let client = machine.manner.credentials(scene, params)?;
    match required(params, "grant_type", "grant_type is missing")? {
        "authorization_code" => machine.redeem(
            &client,
            &Redemption {
                code: required(params, "code", "code is missing")?,
                redirect_uri: params.get("redirect_uri"),
                verifier: params.get("code_verifier"),
                scope: params.get("scope"),
            },
        ),
        "refresh_token" => {
            let token = required(params, "refresh_token", "refresh_token is missing")?;
            machine.refresh(&client, token, params.get("scope")).map(|issued| vec![issued])
        }
        DEVICE_GRANT_TYPE => machine.redeem_device(&client, required(params, "device_code", "device_code is missing")?),
        _ => Err(Refusal::GrantType),
    }
}

pub(super) fn well_formed(machine: &Machine, scene: &Scene<'_>, at: Spot, params: &Params) -> Result<(), Refusal> {
    if !scene.call.is(machine.manner.encoding(at)) {
        return Err(Refusal::Request("the body is written in another way than it has to be"));
    }
    if params.has_duplicates() {
        return Err(Refusal::Request("a parameter stands twice"));
    }
    Ok(())
}

fn required<'a>(params: &'a Params, name: &str, missing: &'static str) -> Result<&'a str, Refusal> {
    params.get(name).ok_or(Refusal::Request(missing))
}
