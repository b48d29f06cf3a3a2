//! ID tokens (OpenID Connect Core sections 2 and 12.2), and what can be wrong with them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::model::secret::ClientSecret;
use crate::sandbox::machine::{IdTokenFacts, Issued, Machine};
use crate::sandbox::manner::Scene;
use crate::sandbox::options::IdTokenFlaw;
use crate::sandbox::signer::{Signature, at_hash};

/// How long an ID token may be accepted. It is read once, right after the exchange.
const ID_TOKEN_TTL: Duration = Duration::from_secs(600);

/// The ID token of an answer. After a refresh there is no nonce, and `auth_time` stays.
pub(super) async fn of(machine: &Machine, scene: &Scene<'_>, issued: &Issued, facts: &IdTokenFacts) -> Option<String> {
    let flaw = scene.quirks.id_token;
    if flaw == IdTokenFlaw::Missing {
        return None;
    }
    let mut claims = machine.manner.id_claims(scene, &issued.user);
    let times = json!({
        "aud": &*issued.client,
        "iat": facts.issued_at.as_secs(),
        "exp": facts.issued_at.after(ID_TOKEN_TTL).as_secs(),
        "auth_time": facts.auth_time.as_secs(),
        "at_hash": at_hash(issued.access.expose()),
    });
    claims.extend(times.as_object().cloned().unwrap_or_default());
    if let Some(nonce) = &facts.nonce {
        claims.insert("nonce".to_owned(), nonce.as_str().into());
    }
    let mut claims = Value::Object(claims);
    spoil(&mut claims, flaw, facts);
    let secret = machine.secret_of(&issued.client);
    Some(machine.signer.sign(&claims, signature(flaw, secret.as_ref())).await)
}

fn spoil(claims: &mut Value, flaw: IdTokenFlaw, facts: &IdTokenFacts) {
    match flaw {
        IdTokenFlaw::Issuer => claims["iss"] = "https://issuer.example".into(),
        IdTokenFlaw::Audience => claims["aud"] = "somebody-else".into(),
        IdTokenFlaw::Nonce => claims["nonce"] = "of-another-request".into(),
        IdTokenFlaw::NoNonce => {
            claims.as_object_mut().and_then(|members| members.remove("nonce"));
        }
        IdTokenFlaw::Expired => {
            let long_ago = facts.issued_at.before(Duration::from_secs(24 * 3600));
            claims["iat"] = long_ago.as_secs().into();
            claims["exp"] = long_ago.after(ID_TOKEN_TTL).as_secs().into();
        }
        // These are no claims, or the manner's own.
        IdTokenFlaw::None
        | IdTokenFlaw::Missing
        | IdTokenFlaw::Key
        | IdTokenFlaw::AlgNone
        | IdTokenFlaw::Hs256
        | IdTokenFlaw::Tenant => {}
    }
}

fn signature(flaw: IdTokenFlaw, secret: Option<&ClientSecret>) -> Signature<'_> {
    match flaw {
        IdTokenFlaw::Key => Signature::Forged,
        IdTokenFlaw::AlgNone => Signature::None,
        IdTokenFlaw::Hs256 => Signature::Shared(secret.map_or(b"", |secret| secret.expose().as_bytes())),
        _ => Signature::Rs256,
    }
}
