//! The page at `/`: what this is, where the endpoints are, who may ask, and what happened last.

use crate::sandbox::answer::Answer;
use crate::sandbox::endpoints::pages::{self, Home, HomeLine};
use crate::sandbox::machine::Machine;
use crate::sandbox::manner::route::Spot;

/// How many lines of the ledger are shown.
const LINES: usize = 25;

/// Shows the page.
pub(in crate::sandbox) fn answer(machine: &Machine) -> Answer {
    let routes = machine.routes.iter().filter(|route| route.spot != Spot::Consent);
    let endpoints = routes.map(|route| (route.name, &*route.path)).collect();
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
        issuer: &machine.origin,
        endpoints,
        clients: clients.collect(),
        lines: lines.collect(),
    };
    drop(state);
    pages::home(&home)
}
