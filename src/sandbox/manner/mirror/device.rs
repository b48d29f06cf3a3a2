//! The device flow of the mirror: answers as RFC 8628 has them, with the page under each name that a definition knows it by.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use crate::model::provider::pointer::Pointer;
use crate::sandbox::machine::DeviceGiven;
use crate::sandbox::manner::mirror::Mirror;

/// The names that the page has: that of section 3.2, and that of the drafts before it.
const PAGE_NAMES: [&str; 2] = ["verification_uri", "verification_url"];

/// The names of the page that the definition reads; that of the RFC if it reads none, because a provider has one.
pub(super) fn page_names(mirror: &Mirror) -> Vec<Pointer> {
    let read = &mirror.provider.device.verification_uri;
    let names = PAGE_NAMES.map(Pointer::to_member);
    let known: Vec<Pointer> = read.iter().filter(|pointer| names.contains(pointer)).cloned().collect();
    if known.is_empty() { vec![Pointer::to_member(PAGE_NAMES[0])] } else { known }
}

/// The answer to a good device authorization request (section 3.2). Each one takes the next name, so that every one is tried.
pub(super) fn given(mirror: &Mirror, given: &DeviceGiven, page: &str) -> Value {
    let mut body = Value::Object(Map::new());
    mirror.fine(&mut body);
    let names = page_names(mirror);
    let count = mirror.codes_given.fetch_add(1, Ordering::Relaxed);
    names[count % names.len()].put(&mut body, json!(page));
    for (name, value) in [
        ("device_code", json!(given.device_code)),
        ("user_code", json!(given.user_code)),
        ("verification_uri_complete", json!(format!("{page}?user_code={}", given.user_code))),
        ("expires_in", json!(given.expires_in.as_secs())),
        ("interval", json!(given.interval.as_secs())),
    ] {
        body[name] = value;
    }
    body
}
