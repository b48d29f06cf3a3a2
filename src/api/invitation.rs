//! What a 409 carries so that a person can act: the link, the code, and both as an MCP elicitation.

use crate::api::wire::{ElicitationBody, ProblemBody};
use crate::broker::connect::Prompt;

/// Puts the connect session into a problem. `provider` is what people call it, `warning` what they should know before.
pub(super) fn add(body: &mut ProblemBody, prompt: &Prompt, provider: &str, warning: Option<String>) {
    let Prompt { session, connect_url } = prompt;
    body.elicitation = Some(ElicitationBody {
        mode: "url".into(),
        elicitation_id: session.id.clone(),
        url: connect_url.clone(),
        message: match &warning {
            Some(warning) => format!("{} {warning}", message(prompt, provider)),
            None => message(prompt, provider),
        },
    });
    body.warning = warning;
    body.connect_id = Some(session.id.clone());
    body.connect_url = Some(connect_url.clone());
    body.connect_expires_at = Some(session.expires_at.as_secs());
    body.user_code = Some(session.user_code.clone());
}

/// What a client shows beside the link. The page says the rest.
fn message(prompt: &Prompt, provider: &str) -> String {
    let session = &prompt.session;
    let who = match session.caller.as_str() {
        uid if uid.starts_with("uid:") => "A program that runs as you",
        name => name,
    };
    let scopes = match session.scopes.len() {
        0 => String::new(),
        1..=5 => format!(" ({})", session.scopes),
        more => format!(" ({more} scopes)"),
    };
    let code = &session.user_code;
    format!("{who} wants to use {provider}{scopes}. Check that the page shows {code}.")
}
