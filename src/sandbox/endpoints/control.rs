//! The control API: the ledger, the script, the switches and mass revocation, over HTTP.
//!
//! ```text
//! GET    /_sandbox/ledger?after=N
//! POST   /_sandbox/faults    {"at":"token","when":{"next":1},"grant_type":"refresh_token","what":"drop_after_processing"}
//! DELETE /_sandbox/faults
//! POST   /_sandbox/options   {"access_ttl_seconds":30,"rotation":{"single_use":{"kills_family":true,"grace_ms":0}}}
//! POST   /_sandbox/options   {"quirks":{"numbers_as_text":true,"id_token":"alg_none"}}
//! POST   /_sandbox/revoke    {"sub":"u-1001"}
//! ```
//!
//! Each wants the header `X-Sandbox: 1`, which a page elsewhere cannot send without asking, and no `Origin`.

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::sandbox::answer::Answer;
use crate::sandbox::fault::Fault;
use crate::sandbox::ledger::{Kind, Secret};
use crate::sandbox::machine::Machine;
use crate::sandbox::options::OptionsPatch;
use crate::sandbox::params::Params;
use crate::sandbox::routes::{Call, refuse};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeUser {
    sub: String,
}

/// Answers `/_sandbox/{path}`.
pub(in crate::sandbox) fn answer(machine: &Machine, path: &str, call: &Call) -> Answer {
    let done = match (path, call.method.as_str()) {
        ("ledger", "GET") => return ledger(machine, &Params::parse(call.query.as_bytes())),
        ("faults", "POST") => read(call).map(|fault: Fault| {
            machine.state().script.add(fault);
            json!({"ok": true})
        }),
        ("faults", "DELETE") => {
            machine.state().script.clear();
            Ok(json!({"ok": true}))
        }
        ("options", "POST") => read(call).and_then(|patch: OptionsPatch| {
            let applied = patch.apply(&mut machine.state().options);
            applied.map(|()| json!({"ok": true})).map_err(|error| error.to_string())
        }),
        ("revoke", "POST") => {
            read(call).map(|who: RevokeUser| json!({"ok": true, "grants_ended": machine.revoke_user(&who.sub)}))
        }
        ("ledger" | "faults" | "options" | "revoke", _) => {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method\n");
        }
        _ => return refuse(StatusCode::NOT_FOUND, "nothing here\n"),
    };
    match done {
        Ok(body) => Answer::json(StatusCode::OK, &body),
        Err(why) => Answer::json(StatusCode::BAD_REQUEST, &json!({"error": why})),
    }
}

/// `?after=N` leaves out the first N lines, so that a poller reads each line once.
fn ledger(machine: &Machine, params: &Params) -> Answer {
    let after = params.get("after").and_then(|text| text.parse().ok()).unwrap_or(0);
    let grants = machine.grants();
    let state = machine.state();
    let ledger = &state.ledger;
    let body = json!({
        "length": ledger.entries().len(),
        "refreshes": ledger.refreshes().count(),
        "refreshed": ledger.refreshed(),
        "refusals": ledger.refusals(),
        "dropped_refresh_tokens": ledger.of(Kind::Dropped, Secret::Refresh).count(),
        "double_presentations": ledger.double_presentations(),
        "grants": grants,
        "entries": ledger.entries().get(after..).unwrap_or_default(),
    });
    drop(state);
    Answer::json(StatusCode::OK, &body)
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, String> {
    serde_json::from_slice(&call.body).map_err(|error| error.to_string())
}
