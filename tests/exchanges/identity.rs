//! ID tokens of Google and Microsoft, signed by a key of our own: whose are believed, and whose are not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use grantd::catalog::{Catalog, Settings};
use grantd::model::provider::Provider;
use grantd::model::time::Timestamp;
use grantd::oauth::answer;
use grantd::oauth::id_token::IdTokenError;
use grantd::oauth::identity::{self, Asked, IdentityError};
use grantd::oauth::transport::Answer;
use oauth2::HttpRequest;
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
const WORK: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn keys(&self) -> Vec<u8> {
        let public = self.0.public_key();
        let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        let key = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k", "n": n, "e": e});
        json!({"keys": [key]}).to_string().into()
    }

    fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({"alg": "RS256", "kid": "k"})), part(claims));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Whose account an answer with an ID token of these claims belongs to.
fn account(provider: &Provider, signer: &Signer, claims: &Value) -> Result<String, IdentityError> {
    let body = json!({"access_token": "_MARK_a", "token_type": "Bearer", "id_token": signer.sign(claims)});
    let answer = answer::read(provider, body).unwrap();
    let keys = signer.keys();
    let jwks = provider.endpoints.jwks.clone().unwrap();
    let http = move |request: HttpRequest| -> Answer<'static> {
        assert_eq!(request.uri().to_string(), jwks.as_str(), "nothing but the keys is asked for");
        Box::pin(std::future::ready(Ok(http::Response::new(keys.clone()))))
    };
    let asked = Asked { provider, client_id: "client", nonce: Some("n"), now: Timestamp::from_secs(NOW) };
    identity::of(asked, &answer, &http).now_or_never().unwrap().map(|account| account.id)
}

fn claims(issuer: &str, more: &Value) -> Value {
    let mut claims = json!({"iss": issuer, "aud": "client", "sub": "7", "nonce": "n", "iat": NOW, "exp": NOW + 3600});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

#[test]
fn google_spells_its_name_in_two_ways_and_in_no_third() {
    let (provider, signer) = (resolved("google", &[]), Signer::new());
    for issuer in ["https://accounts.google.com", "accounts.google.com"] {
        assert_eq!(account(&provider, &signer, &claims(issuer, &json!({}))).as_deref(), Ok("7"), "{issuer}");
    }
    for issuer in ["http://accounts.google.com", "https://accounts.google.com/", "accounts.google.com.evil.example", ""]
    {
        let refused = account(&provider, &signer, &claims(issuer, &json!({})));
        assert!(matches!(refused, Err(IdentityError::IdToken(_))), "{issuer}: {refused:?}");
    }
}

#[test]
fn microsoft_is_believed_for_the_directories_that_the_operator_means() {
    let signer = Signer::new();
    for (tenant, consumers, work) in [
        ("common", true, true),
        ("organizations", false, true),
        ("consumers", true, false),
        (WORK, false, true),
        (CONSUMERS, true, false),
    ] {
        let provider = resolved("microsoft", &[("tenant", tenant)]);
        for (tid, believed) in [(CONSUMERS, consumers), (WORK, work)] {
            let issuer = format!("https://login.microsoftonline.com/{tid}/v2.0");
            let found = account(&provider, &signer, &claims(&issuer, &json!({"tid": tid, "oid": "o"})));
            let expected =
                if believed { Ok(format!("{tid}:o")) } else { Err(IdentityError::IdToken(IdTokenError::Claim)) };
            assert_eq!(found, expected, "{tenant} {tid}");
        }
    }
}

#[test]
fn an_issuer_of_another_directory_or_another_cloud_is_refused() {
    let (signer, other) = (Signer::new(), IdentityError::IdToken(IdTokenError::Issuer));
    let world = resolved("microsoft", &[]);
    let china = resolved("microsoft", &[("login_host", "login.partner.microsoftonline.cn")]);
    let issuer = |host: &str| format!("https://{host}/{WORK}/v2.0");
    let of = |provider: &Provider, issuer: &str, tid: &str| {
        account(provider, &signer, &claims(issuer, &json!({"tid": tid, "oid": "o"}))).err()
    };
    assert_eq!(of(&world, &issuer("login.microsoftonline.com"), WORK), None);
    assert_eq!(of(&china, &issuer("login.partner.microsoftonline.cn"), WORK), None);
    assert_eq!(of(&world, &issuer("login.microsoftonline.com"), CONSUMERS), Some(other.clone()));
    assert_eq!(of(&world, &issuer("login.partner.microsoftonline.cn"), WORK), Some(other.clone()));
    assert_eq!(of(&china, &issuer("login.microsoftonline.com"), WORK), Some(other.clone()));
    assert_eq!(of(&world, "https://login.microsoftonline.com/{tenantid}/v2.0", WORK), Some(other));
}

#[test]
fn a_token_for_somebody_else_or_another_time_is_refused() {
    let (provider, signer) = (resolved("google", &[]), Signer::new());
    for more in [
        json!({"aud": "other"}),
        json!({"aud": ["client", "other"]}),
        json!({"nonce": "m"}),
        json!({"nonce": null}),
        json!({"exp": NOW - 1}),
        json!({"sub": null}),
    ] {
        let refused = account(&provider, &signer, &claims("https://accounts.google.com", &more));
        assert!(refused.is_err(), "{more}: {refused:?}");
    }
}

fn resolved(id: &str, vars: &[(&str, &str)]) -> Provider {
    let mut settings = Settings::plain(id.parse().unwrap(), "client");
    settings.vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Catalog::built_in().resolve(&settings).unwrap()
}
