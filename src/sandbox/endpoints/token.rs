//! The token endpoint (RFC 6749 section 3.2) and the revocation endpoint (RFC 7009 section 2).

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use crate::sandbox::answer::Answer;
use crate::sandbox::ledger::Kind;
use crate::sandbox::machine::{Credentials, IdTokenFacts, Issued, Machine, Presentation, Receipt, Redemption, Refusal};
use crate::sandbox::params::Params;
use crate::sandbox::routes::{Call, refuse};
use crate::sandbox::signer::at_hash;

/// How long an ID token may be accepted. It is read once, right after the exchange.
const ID_TOKEN_TTL: Duration = Duration::from_secs(600);

/// Answers a token request. A refusal is written down for what was presented.
pub(in crate::sandbox) async fn answer(
    machine: &Arc<Machine>,
    call: &Call,
    params: &Params,
    presentation: Option<&Presentation>,
) -> Answer {
    if call.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
    }
    let issued = match exchange(machine, call, params) {
        Ok(issued) => issued,
        Err(refusal) => {
            presentation.into_iter().for_each(|presentation| presentation.failed(Kind::Refused, refusal.error()));
            return machine.manner.refused(refusal);
        }
    };
    // From here on the tokens exist; whatever happens to the answer, the receipt says so.
    let receipt = Receipt::for_tokens(machine, &issued);
    let id_token = match &issued.id_token {
        Some(facts) => Some(id_token(machine, &issued, facts).await),
        None => None,
    };
    machine.manner.issued(&issued, id_token.as_deref()).carrying(receipt)
}

/// Answers a revocation request.
pub(in crate::sandbox) fn revoke(machine: &Machine, call: &Call, params: &Params) -> Answer {
    if call.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
    }
    let revoked = well_formed(call, params)
        .and_then(|()| Credentials::read(&call.headers, params))
        .and_then(|client| machine.revoke(&client, required(params, "token", "token is missing")?));
    match revoked {
        Ok(()) => machine.manner.revoked(),
        Err(refusal) => machine.manner.refused(refusal),
    }
}

fn exchange(machine: &Machine, call: &Call, params: &Params) -> Result<Issued, Refusal> {
    well_formed(call, params)?;
    let client = Credentials::read(&call.headers, params)?;
    match required(params, "grant_type", "grant_type is missing")? {
        "authorization_code" => machine.redeem(
            &client,
            &Redemption {
                code: required(params, "code", "code is missing")?,
                redirect_uri: params.get("redirect_uri"),
                verifier: params.get("code_verifier"),
            },
        ),
        "refresh_token" => {
            let token = required(params, "refresh_token", "refresh_token is missing")?;
            machine.refresh(&client, token, params.get("scope"))
        }
        _ => Err(Refusal::GrantType),
    }
}

fn well_formed(call: &Call, params: &Params) -> Result<(), Refusal> {
    if !call.is_form() {
        return Err(Refusal::Request("the body must be application/x-www-form-urlencoded"));
    }
    if params.has_duplicates() {
        return Err(Refusal::Request("a parameter stands twice"));
    }
    Ok(())
}

fn required<'a>(params: &'a Params, name: &str, missing: &'static str) -> Result<&'a str, Refusal> {
    params.get(name).ok_or(Refusal::Request(missing))
}

/// OpenID Connect Core sections 2 and 12.2: after a refresh there is no nonce, and `auth_time` stays.
async fn id_token(machine: &Machine, issued: &Issued, facts: &IdTokenFacts) -> String {
    let mut claims = json!({
        "iss": machine.issuer,
        "sub": &*issued.user.sub,
        "aud": &*issued.client,
        "iat": facts.issued_at.as_secs(),
        "exp": facts.issued_at.after(ID_TOKEN_TTL).as_secs(),
        "auth_time": facts.auth_time.as_secs(),
        "at_hash": at_hash(issued.access.expose()),
        "name": issued.user.name,
        "email": issued.user.email,
    });
    if let Some(nonce) = &facts.nonce {
        claims["nonce"] = nonce.as_str().into();
    }
    machine.signer.sign(&claims).await
}
