//! What a fuzz target calls with any bytes, and the mutation test with bytes that nearly make sense.

use std::sync::LazyLock;

use grantd::catalog::{Catalog, Entry, Settings};
use grantd::model::provider::rules::{IdTokenRules, IssuerRules};
use grantd::model::provider::{IdentitySource, Provider};
use grantd::model::time::Timestamp;
use grantd::oauth::answer::{self, SlotAnswer};
use grantd::oauth::id_token::{self, Expected};
use grantd::oauth::{identity, quirk};

/// Every compiled-in definition in every variant.
static PROVIDERS: LazyLock<Vec<Provider>> =
    LazyLock::new(|| Catalog::built_in().entries().flat_map(in_every_variant).collect());

/// No lifetime is believed to be longer than ten years.
const LONGEST: u64 = 10 * 365 * 24 * 3600;
/// The longest line that a refusal makes of an answer, whatever stands in it.
const LONGEST_LINE: usize = 512;

/// One byte for the status and the content type, and a body: read as the answer to a code, to a refresh of each slot, as an
/// error, as what tells the account, as an ID token and as the keys of one.
#[allow(dead_code, reason = "each fuzz target calls one of them")]
pub(crate) fn provider_answer(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let status = [200, 200, 200, 400, 401, 403, 429, 503][usize::from(kind & 7)];
    let content_type = if kind & 8 == 0 { "application/json" } else { "application/x-www-form-urlencoded" };
    let response = http::Response::builder().status(status).header("content-type", content_type).body(body.to_vec());
    let response = response.expect("status and header are good");
    for provider in PROVIDERS.iter() {
        match quirk::incoming(provider, &response) {
            Err(refused) => assert!(refused.to_string().len() < LONGEST_LINE, "a refusal repeats no answer"),
            Ok(body) => {
                let _ = identity::account(provider, &body);
                for rule in &provider.slots {
                    let found = answer::read_slot(provider, &rule.name, &body);
                    assert!(found.is_none_or(|slot| slot.slot == rule.name && is_bounded(&slot)));
                }
                if let Some(answer) = answer::read(provider, body) {
                    assert!(!answer.slots.is_empty() && answer.slots.iter().all(is_bounded));
                }
            }
        }
    }
    let (issuer, rules) = (IssuerRules::default(), IdTokenRules::default());
    let expected =
        Expected { issuer: &issuer, rules: &rules, client_id: "me", nonce: None, now: Timestamp::from_secs(0) };
    if let Ok(token) = std::str::from_utf8(body) {
        assert!(id_token::verify(token, b"{\"keys\":[]}", &expected).is_err(), "nobody has signed it");
    }
    assert!(id_token::verify("e30.e30.", body, &expected).is_err(), "it is not signed");
}

fn is_bounded(slot: &SlotAnswer) -> bool {
    [slot.expires_in, slot.refresh_expires_in].into_iter().flatten().all(|span| span.as_secs() <= LONGEST)
}

/// A definition as text: read, and resolved in every variant.
#[allow(dead_code, reason = "each fuzz target calls one of them")]
pub(crate) fn definition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(entry) = Catalog::read("fuzz.yaml", text) else { return };
    for provider in in_every_variant(&entry) {
        assert!(!provider.slots.is_empty());
        if let IdentitySource::IdToken(rules) = &provider.identity.source {
            assert!(rules.issuer_template.is_some() || !provider.issuer.accept.is_empty(), "some issuer is believed");
        }
    }
}

/// With a value for each variable that has no default, as far as these are good.
fn in_every_variant(entry: &Entry) -> Vec<Provider> {
    let names = entry.definition().variants.keys().map(|name| Some(name.clone())).chain([None]);
    let settings = names.map(|variant| {
        let definition = entry.variant(variant.as_deref()).expect("it has been tried when it was read");
        let mut settings = Settings { variant, ..Settings::plain(definition.id.clone(), "client") };
        let without = definition.vars.iter().filter(|(_, var)| var.default.is_none());
        settings.vars = without.map(|(name, _)| (name.clone(), "host.example".to_owned())).collect();
        settings
    });
    settings.filter_map(|settings| entry.resolve(&settings).ok()).collect()
}
