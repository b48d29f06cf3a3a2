//! ID tokens and metadata, judged by the library that grantd uses.

use openidconnect::core::{CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreProviderMetadata};
use openidconnect::{AccessToken, AccessTokenHash, ClientId, ClientSecret, IssuerUrl, Nonce};

use crate::clock::{Clock, SystemClock};
use crate::sandbox::tests::{Reply, Setup, consenting};
use crate::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET};

async fn verifier(setup: &Setup) -> CoreIdTokenVerifier<'static> {
    let keys: CoreJsonWebKeySet = serde_json::from_str(&setup.get("/jwks.json").await.body).unwrap();
    CoreIdTokenVerifier::new_confidential_client(
        ClientId::new(DEFAULT_CLIENT.to_owned()),
        ClientSecret::new(DEFAULT_SECRET.to_owned()),
        IssuerUrl::new(setup.sandbox.issuer().to_owned()).unwrap(),
        keys,
    )
}

/// The library compares with the system's clock.
async fn in_real_time() -> Setup {
    let setup = Setup::new(consenting()).await;
    setup.clock.advance(SystemClock.now().since(setup.clock.now()));
    setup
}

fn id_token(reply: &Reply) -> CoreIdToken {
    reply.text("id_token").parse().unwrap()
}

#[tokio::test]
async fn an_id_token_verifies_against_the_key_set() {
    let setup = in_real_time().await;
    let reply = setup.tokens().await;
    let (token, verifier) = (id_token(&reply), verifier(&setup).await);
    let claims = token.claims(&verifier, &Nonce::new("n-1".to_owned())).unwrap();
    assert_eq!(claims.subject().as_str(), "u-1001");
    assert_eq!(claims.email().unwrap().as_str(), "ada@sandbox.example");
    let access = AccessToken::new(reply.text("access_token"));
    let (algorithm, key) = (token.signing_alg().unwrap(), token.signing_key(&verifier).unwrap());
    let expected = AccessTokenHash::from_token(&access, algorithm, key).unwrap();
    assert_eq!(claims.access_token_hash(), Some(&expected));
    assert!(token.claims(&verifier, &Nonce::new("n-2".to_owned())).is_err(), "the nonce counts");
}

#[tokio::test]
async fn a_key_of_another_sandbox_does_not_verify() {
    let (setup, other) = (in_real_time().await, in_real_time().await);
    let token = id_token(&setup.tokens().await);
    let keys: CoreJsonWebKeySet = serde_json::from_str(&other.get("/jwks.json").await.body).unwrap();
    let issuer = IssuerUrl::new(setup.sandbox.issuer().to_owned()).unwrap();
    let verifier = CoreIdTokenVerifier::new_public_client(ClientId::new(DEFAULT_CLIENT.to_owned()), issuer, keys);
    assert!(token.claims(&verifier, &Nonce::new("n-1".to_owned())).is_err());
}

#[tokio::test]
async fn a_refresh_brings_an_id_token_without_a_nonce() {
    let setup = in_real_time().await;
    let reply = setup.refresh(&setup.tokens().await.text("refresh_token")).await;
    let (token, verifier) = (id_token(&reply), verifier(&setup).await);
    let claims = token.claims(&verifier, |nonce: Option<&Nonce>| match nonce {
        None => Ok(()),
        Some(_) => Err("a nonce".to_owned()),
    });
    assert_eq!(claims.unwrap().subject().as_str(), "u-1001");
}

#[tokio::test]
async fn without_openid_there_is_no_id_token() {
    let setup = Setup::new(consenting()).await;
    let code = setup.callback(&[("scope", "read")]).await.remove("code").unwrap();
    assert!(setup.redeem(&code).await.json().get("id_token").is_none());
}

#[tokio::test]
async fn the_metadata_is_what_the_library_expects() {
    let setup = Setup::new(consenting()).await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let metadata: CoreProviderMetadata = serde_json::from_str(&setup.get(path).await.body).unwrap();
        assert_eq!(metadata.issuer().as_str(), setup.sandbox.issuer());
        for endpoint in [metadata.token_endpoint().unwrap().as_str(), metadata.jwks_uri().as_str()] {
            assert!(endpoint.starts_with(setup.sandbox.issuer()), "{endpoint}");
        }
    }
}

#[tokio::test]
async fn userinfo_tells_who_and_challenges_a_dead_token() {
    let setup = Setup::new(consenting()).await;
    let access = setup.tokens().await.text("access_token");
    for path in ["/userinfo", "/api/me"] {
        let reply = setup.send(setup.http.get(setup.at(path)).bearer_auth(&access)).await.unwrap();
        let body = reply.json();
        assert_eq!((&body["sub"], &body["name"]), (&"u-1001".into(), &"Ada Lovelace".into()));
        let dead = setup.send(setup.http.get(setup.at(path)).bearer_auth("x")).await.unwrap();
        assert_eq!(dead.status, 401);
        assert!(dead.headers["www-authenticate"].to_str().unwrap().contains("error=\"invalid_token\""));
        let none = setup.get(path).await;
        assert_eq!(
            (none.status, none.headers["www-authenticate"].to_str().unwrap()),
            (401, "Bearer realm=\"sandbox\"")
        );
    }
}
