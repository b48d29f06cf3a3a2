//! What a person is asked before something is disconnected, and what they are told afterwards.

use std::fmt::Write as _;

use crate::api::wire::{ConnectionBody, DisconnectBody, PartedBody, ProviderBody};
use crate::cli::pick::called;
use crate::cli::screen::plain;

/// What happens, as far as it is more or less than one would think, and the question.
pub(super) fn question(connection: &ConnectionBody, provider: Option<&ProviderBody>, wider: bool) -> String {
    let ConnectionBody { provider: id, .. } = connection;
    let mut text = String::new();
    if let Some(about) = provider.and_then(|provider| about(provider, wider)) {
        let _ = writeln!(text, "{about}");
    }
    let more = if wider { ", and everything that goes with it" } else { "" };
    let _ = write!(text, "Disconnect {id} {}{more}?", called(connection));
    text
}

/// What disconnecting does at a provider, where that is more or less than one would think.
pub(super) fn about(provider: &ProviderBody, wider: bool) -> Option<String> {
    let name = plain(&provider.name);
    match (&provider.revoke_wider, &provider.revoke) {
        (Some(more), _) if wider => Some(format!("At {name} more than this connection goes. {}", plain(&more.takes))),
        (Some(more), None) => Some(format!(
            "{name} cannot take back this connection alone: grantd forgets it, and you take it back there by hand. \
             With --wider {name} is asked to, and then more goes. {}",
            plain(&more.takes)
        )),
        (None, None) => Some(format!(
            "{name} has no way for grantd to take a connection back: grantd forgets it, and you take it back there by hand."
        )),
        _ => None,
    }
}

/// What came of it, and what is left for the person to do.
pub(super) fn outcome(connection: &ConnectionBody, done: &DisconnectBody) -> String {
    let mut text = format!("Disconnected {} {} here.", connection.provider, called(connection));
    match done.slots.as_slice() {
        [] => {}
        [first, rest @ ..] if rest.iter().all(|slot| slot.because == first.because) => {
            let _ = write!(text, " {}.", sentence(first, done));
        }
        slots => {
            for slot in slots {
                let _ = write!(text, "\n  {}: {}.", slot.slot, sentence(slot, done));
            }
        }
    }
    match done.wider.as_deref() {
        None | Some("revoked") => {}
        Some("pending") => text.push_str("\nWhat goes with it is not confirmed yet either; grantd keeps trying."),
        Some(_) => text.push_str("\nWhat was to go with it was not taken back."),
    }
    if let Some(url) = &done.manual_url {
        let what = match (&*done.upstream, done.wider.as_deref()) {
            ("revoked", None | Some("revoked")) => "The app may stay in your list there until you remove it",
            ("pending", _) => "You need not wait for that, and can take it back there yourself",
            _ => "You can take it back there yourself",
        };
        let _ = write!(text, "\n{what}:\n  {url}");
    } else if done.upstream == "by_hand" {
        text.push_str("\nYou can take it back yourself in the settings of your account there.");
    }
    text
}

/// What became of one grant, without the full stop.
pub(super) fn sentence(slot: &PartedBody, done: &DisconnectBody) -> &'static str {
    match (&*slot.because, done.wider.as_deref(), done.reach.as_deref()) {
        ("confirmed", Some("revoked"), _) => "The provider has confirmed that all of it is gone",
        ("confirmed", _, Some("token")) => "The provider has confirmed that its token is gone",
        ("confirmed", ..) => "The provider has confirmed that the access is gone",
        ("gone", ..) => "The provider did not know the access any more",
        ("unreachable", ..) => "The provider has not confirmed it yet; grantd keeps trying",
        ("no_way", ..) => "The provider still lists the access, because it has no way for grantd to end just this one",
        ("refused", ..) => "The provider refused to take the access back and may still list it",
        ("expired", ..) => "The access has expired, and the provider takes no expired one back; it may still list it",
        ("lost_response", ..) => {
            "An answer of the provider was lost, and what it gave in it may still be alive; grantd does not have it"
        }
        ("unanswered", ..) => {
            "The provider did not answer, and grantd has nothing left to ask again with; it may still list the access"
        }
        ("damaged", ..) => "What is stored of it cannot be read, so grantd could not take it back",
        ("unconfigured", ..) => "The provider is no longer in the configuration, so grantd could not take it back",
        _ => match &*slot.upstream {
            "revoked" => "The access is gone at the provider",
            "pending" => "The provider has not confirmed it yet; grantd keeps trying",
            _ => "The provider may still list the access",
        },
    }
}
