//! A client that signs for itself (RFC 7523): its assertions are taken, and a wrong one is refused and speaks against us only.

use std::time::Duration;

use oauth2::HttpRequest;

use crate::cli::exit::{CliError, ExitCode};
use crate::cli::provider::test::play::{class, made_up, name};
use crate::cli::provider::test::report::Step;
use crate::cli::provider::test::stage::{Stage, signing};
use crate::clock::Clock as _;
use crate::egress::Egress;
use crate::model::client::Client;
use crate::model::grant_type::GrantType;
use crate::model::id::SlotName;
use crate::model::provider::Provider;
use crate::model::provider::assertion::Audience;
use crate::model::provider::rules::ErrorClass;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::oauth::exchange::{self, As, Spend};
use crate::oauth::transport::{Answer, Transport};
use crate::sandbox::{AssertionFault, DEFAULT_CLIENT, MadeKey};

/// How old an assertion is that nobody takes any more.
const LONG: Duration = Duration::from_secs(3600);

/// Which member to look at when an assertion that should be good is not.
pub(super) const fn look_at(fault: AssertionFault) -> &'static str {
    match fault {
        AssertionFault::Audience => "client.assertion.audience",
        AssertionFault::Algorithm | AssertionFault::Certificate | AssertionFault::Signature => {
            "client.assertion.algorithms"
        }
        AssertionFault::Form
        | AssertionFault::Issuer
        | AssertionFault::Lifetime
        | AssertionFault::Replayed
        | AssertionFault::Subject => "client.assertion",
    }
}

/// Tries what the client signs, if it does.
///
/// # Errors
/// If something cannot be started that has nothing to do with the definition.
pub(super) async fn client(stage: &Stage, steps: &mut Vec<Step>) -> Result<(), CliError> {
    let Some(key) = &stage.key else { return Ok(()) };
    let asked = format!("client_assertion, signed with {}", key.algorithm().as_str());
    steps.push(match (stage.mirror.assertions_good(), stage.mirror.assertion_fault()) {
        (1.., None) => Step::ok("client", asked, "alg, signature, x5t#S256, iss, sub, aud, exp and jti are right"),
        (_, Some(fault)) => Step::failed("client", asked, format!("refused ({fault})"), look_at(fault)),
        (0, None) => Step::failed("client", asked, "none came", "client.auth"),
    });
    let egress = Egress::open().map_err(|error| CliError::new(ExitCode::Failure, error.to_string()))?;
    let sent = egress.to(&stage.provider);
    let (way, provider) = (&egress, &stage.provider);
    let twice = move |request: HttpRequest| -> Answer<'_> {
        Box::pin(async move {
            way.send(provider, request.clone()).await?;
            way.send(provider, request).await
        })
    };
    let (now, own) = (stage.clock.now(), &stage.provider);
    let other_key = signing(&MadeKey::make(key.algorithm()), DEFAULT_CLIENT)?;
    let other_name = signing(key, "another-client")?;
    let client = stage.registration()?;
    let elsewhere = elsewhere(own);
    let cases: [(&str, AssertionFault, As<'_>, &Transport<'_>); 5] = [
        ("by another key", AssertionFault::Signature, whom(own, &other_key, now), &sent),
        ("by another client", AssertionFault::Issuer, whom(own, &other_name, now), &sent),
        ("for another server", AssertionFault::Audience, whom(&elsewhere, &client, now), &sent),
        ("an hour ago", AssertionFault::Lifetime, whom(own, &client, now.before(LONG)), &sent),
        ("and sent twice", AssertionFault::Replayed, whom(own, &client, now), &twice),
    ];
    for (what, fault, whom, http) in cases {
        steps.push(refused(stage, what, fault, whom, http).await?);
    }
    Ok(())
}

/// A wrong assertion says that our registration is wrong, and nothing about anybody's grant.
async fn refused(
    stage: &Stage,
    what: &str,
    fault: AssertionFault,
    whom: As<'_>,
    http: &Transport<'_>,
) -> Result<Step, CliError> {
    let token = made_up()?;
    let (slot, granted, grant_type) = (SlotName::main(), ScopeSet::default(), GrantType::AuthorizationCode);
    let spend = Spend { token: &token, slot: &slot, granted: &granted, grant_type, resource: None };
    let refused = exchange::refresh(whom, spend, http).await.err();
    let found = refused.and_then(|refused| class(&refused.rejection));
    let asked = format!("client_assertion, signed {what}");
    let expected = name(ErrorClass::Misconfigured);
    Ok(match (stage.mirror.assertion_fault(), found) {
        (Some(seen), Some(ErrorClass::Misconfigured)) if seen == fault => {
            Step::ok("client", asked, format!("refused ({fault}): {expected}"))
        }
        (Some(seen), found) if seen == fault => {
            let found = found.map_or("no error that is understood", name);
            Step::failed("client", asked, format!("not {expected}: invalid_client is {found}"), "errors")
        }
        (Some(other), _) => Step::failed("client", asked, format!("refused ({other})"), look_at(other)),
        (None, _) => Step::failed("client", asked, "taken", "client.auth"),
    })
}

const fn whom<'a>(provider: &'a Provider, client: &'a Client, now: Timestamp) -> As<'a> {
    As { provider, client, now }
}

/// The same provider, as one who lets an assertion be made for somebody else would have it.
fn elsewhere(provider: &Provider) -> Provider {
    let mut other = provider.clone();
    other.assertion.audience = Audience::Issuer;
    other.issuer.accept = vec!["https://elsewhere.example".to_owned()];
    other
}
