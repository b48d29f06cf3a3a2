//! Every recorded exchange through the compiled-in definition of its provider, and every error code of a definition in a
//! recorded exchange.

#[path = "../../fuzz/entries.rs"]
mod entries;
mod identity;
mod mutation;
mod record;
mod replay;
mod requests;

use std::collections::BTreeSet;

use grantd::catalog::{Catalog, Settings};
use grantd::model::provider::Provider;
use serde_json::Value;

use crate::record::{Record, records};

/// Whatever a record expects, it is what comes out. All that do not are told at once.
#[test]
fn every_recorded_exchange_is_understood_as_it_was_meant() {
    let catalog = Catalog::built_in();
    let mut wrong = Vec::new();
    for record in records() {
        let found = replay::replay(&record, &record.provider(&catalog));
        if found != record.expected() {
            wrong.push(format!("{record}\n   found    {found}\n   expected {}", record.expected()));
        }
    }
    assert!(wrong.is_empty(), "{} of the recorded exchanges:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_error_of_a_definition_is_recorded() {
    let (catalog, records) = (Catalog::built_in(), records());
    let mut missing = Vec::new();
    for entry in catalog.entries() {
        let id = entry.definition().id.clone();
        let of_provider: Vec<&Record> = records.iter().filter(|record| record.folder == id.as_str()).collect();
        let variants = entry.definition().variants.keys().map(|name| Some(name.as_str()));
        for provider in variants.chain([None]).map(|variant| in_variant(&catalog, &id.clone(), variant)) {
            let codes = said(&of_provider, |body| words(&provider.response.error, body));
            let subs = said(&of_provider, |body| words(&provider.response.error_sub, body));
            let statuses: BTreeSet<u16> = of_provider.iter().map(|record| record.status).collect();
            for rule in &provider.errors {
                missing
                    .extend(rule.code.iter().filter(|code| !codes.contains(*code)).map(|code| format!("{id}: {code}")));
                missing.extend(rule.sub.iter().filter(|sub| !subs.contains(*sub)).map(|sub| format!("{id}: {sub}")));
                missing.extend(
                    rule.http.iter().filter(|http| !statuses.contains(http)).map(|http| format!("{id}: {http}")),
                );
            }
        }
    }
    missing.sort();
    missing.dedup();
    assert!(missing.is_empty(), "in no recorded exchange:\n{}", missing.join("\n"));
}

#[test]
fn every_provider_has_a_success_a_refresh_and_a_refusal_and_no_real_secret() {
    let (catalog, records) = (Catalog::built_in(), records());
    for entry in catalog.entries() {
        let folder = entry.definition().id.as_str();
        let of_provider = || records.iter().filter(|record| record.folder == folder);
        assert!(of_provider().any(|record| record.asked == "code" && record.expect.grants.is_some()), "{folder}");
        assert!(of_provider().any(|record| record.asked == "refresh" && record.expect.grants.is_some()), "{folder}");
        assert!(of_provider().any(|record| record.expect.class.as_deref() == Some("reauth")), "{folder}");
    }
    for record in &records {
        secrets(&record.body, &mut |secret| assert!(secret.contains("MARK"), "{record}: {secret}"));
    }
}

fn in_variant(catalog: &Catalog, id: &grantd::model::id::ProviderId, variant: Option<&str>) -> Provider {
    let mut settings = Settings { variant: variant.map(str::to_owned), ..Settings::plain(id.clone(), "client") };
    let definition = catalog.get(id).unwrap().variant(variant).unwrap();
    for (name, _) in definition.vars.iter().filter(|(_, var)| var.default.is_none()) {
        settings.vars.insert(name.clone(), "host.example".to_owned());
    }
    catalog.resolve(&settings).unwrap()
}

fn said(records: &[&Record], words: impl Fn(&Value) -> Vec<String>) -> BTreeSet<String> {
    records.iter().flat_map(|record| words(&record.body)).collect()
}

fn words(pointers: &[grantd::model::provider::pointer::Pointer], body: &Value) -> Vec<String> {
    pointers.iter().filter_map(|pointer| Some(pointer.find(body)?.as_str()?.to_owned())).collect()
}

/// Every token in a body, wherever it stands.
fn secrets(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let (true, Some(secret)) =
                    (name.ends_with("_token"), member.as_str().filter(|text| !text.is_empty()))
                {
                    each(secret);
                }
                secrets(member, each);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| secrets(item, each)),
        _ => {}
    }
}
