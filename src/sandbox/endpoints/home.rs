//! The page at `/`: what this is, where the endpoints are, who may ask, and what happened last.

use crate::sandbox::answer::Answer;
use crate::sandbox::endpoints::pages::{self, Home, HomeLine};
use crate::sandbox::machine::Machine;

/// How many lines of the ledger are shown.
const LINES: usize = 25;

/// Shows the page.
pub(in crate::sandbox) fn answer(machine: &Machine) -> Answer {
    let paths = machine.manner.paths();
    let mut endpoints = vec![
        ("authorize", paths.authorize),
        ("token", paths.token),
        ("revoke", paths.revoke),
        ("userinfo", paths.userinfo),
        ("example API", paths.api),
        ("keys", paths.jwks),
    ];
    endpoints.extend(paths.metadata.iter().map(|&path| ("metadata", path)));
    let now = machine.now();
    let state = machine.state();
    let clients = state.options.clients.iter();
    let clients =
        clients.map(|client| (client.id.to_string(), if client.secret.is_some() { "confidential" } else { "public" }));
    let lines = state.ledger.entries().iter().rev().take(LINES).map(|entry| HomeLine {
        ago: (now.as_millis() - entry.at_ms).max(0) / 1000,
        event: format!("{:?} {:?}", entry.what, entry.kind).to_lowercase(),
        outcome: entry.outcome,
        fingerprint: entry.fingerprint.to_string()[..8].to_owned(),
        client: entry.client.as_deref().unwrap_or_default().to_owned(),
    });
    let home = Home {
        css: pages::CSS,
        issuer: &machine.issuer,
        endpoints,
        clients: clients.collect(),
        lines: lines.collect(),
    };
    drop(state);
    pages::home(&home)
}
