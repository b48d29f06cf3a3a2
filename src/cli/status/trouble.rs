//! What `grantd status` says of providers that are not well: what is wrong, since when, and the one thing to do.

use std::fmt::Write as _;

use crate::api::wire::ProviderBody;
use crate::broker::health::ProviderState;
use crate::cli::duration;
use crate::cli::screen::plain;
use crate::cli::status::explained;
use crate::model::time::Timestamp;

/// A line for each provider that is not well or has refused something that is explained, and one that says what to do.
pub(super) fn of(providers: &[ProviderBody], now: Timestamp) -> String {
    let mut text = String::new();
    for provider in providers {
        let explained = provider
            .last_refusal
            .as_ref()
            .map_or_else(String::new, |refusal| format!("{}\n", explained::line(refusal.number, &refusal.explanation)));
        if provider.state == ProviderState::Ok.as_str() {
            let Some(refusal) = &provider.last_refusal else { continue };
            let ago = duration::words(now.since(Timestamp::from_secs(refusal.at)));
            let _ = write!(text, "\n{}: its last refusal, {ago} ago.\n{explained}", provider.id);
            continue;
        }
        let since = provider
            .since
            .map(Timestamp::from_secs)
            .map_or_else(String::new, |since| format!(", for {}", duration::words(now.since(since))));
        let (what, remedy) = told(provider, now);
        let _ = writeln!(text, "\n{}: {what}{since}.\n{explained}  {remedy}", provider.id);
    }
    text
}

fn told(provider: &ProviderBody, now: Timestamp) -> (String, String) {
    let again = provider.until.map(Timestamp::from_secs).filter(|until| *until > now).map_or_else(
        || "It is tried again by itself.".to_owned(),
        |until| format!("It is tried again by itself, in {}.", duration::words(until.until(now))),
    );
    let state = ProviderState::ALL.into_iter().find(|state| provider.state == state.as_str());
    let (what, remedy) = match state {
        Some(ProviderState::RegistrationRefused) => (
            "refuses our client id or secret, so nothing is renewed there",
            "Correct them in grantd.yaml or in the secret's file, and reload the daemon (SIGHUP).".to_owned(),
        ),
        Some(ProviderState::Frozen) => (
            "rejects so many accounts at once that nobody is sent to connect again for now",
            format!("See whether our registration there is as it was, then: grantd provider release {}", provider.id),
        ),
        Some(ProviderState::Unreachable) => ("cannot be reached, or answers nothing that makes sense", again),
        Some(ProviderState::Throttled) => ("asked for a pause", again),
        Some(ProviderState::Ok) | None => return (plain(&provider.state), again),
    };
    (what.to_owned(), remedy)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_trouble_says_since_when_and_what_to_do() {
        for (state, since, until, expected) in [
            ("ok", None, None, ""),
            (
                "registration_refused",
                Some(400),
                Some(1060),
                "\ngithub: refuses our client id or secret, so nothing is renewed there, for 10 min.\n  \
                 Correct them in grantd.yaml or in the secret's file, and reload the daemon (SIGHUP).\n",
            ),
            (
                "frozen",
                Some(400),
                Some(4000),
                "\ngithub: rejects so many accounts at once that nobody is sent to connect again for now, for 10 min.\n  \
                 See whether our registration there is as it was, then: grantd provider release github\n",
            ),
            (
                "unreachable",
                Some(400),
                Some(1020),
                "\ngithub: cannot be reached, or answers nothing that makes sense, for 10 min.\n  \
                 It is tried again by itself, in 20 s.\n",
            ),
            ("throttled", None, None, "\ngithub: asked for a pause.\n  It is tried again by itself.\n"),
            ("another\u{1b}", None, None, "\ngithub: another\u{fffd}.\n  It is tried again by itself.\n"),
        ] {
            let provider = json!({
                "id": "github", "name": "GitHub", "scopes": {}, "state": state, "since": since, "until": until
            });
            let provider: ProviderBody = serde_json::from_value(provider).unwrap();
            assert_eq!(of(&[provider], Timestamp::from_secs(1000)), expected, "{state}");
        }
    }
    #[test]
    fn a_refusal_that_is_explained_is_told_also_of_a_provider_that_is_well() {
        let refusal = json!({"number": 7_000_215, "explanation": "The client secret is wrong.", "at": 700});
        for (state, expected) in [
            ("ok", "\nmicrosoft: its last refusal, 5 min ago.\n  7000215: The client secret is wrong.\n"),
            (
                "throttled",
                "\nmicrosoft: asked for a pause.\n  7000215: The client secret is wrong.\n  It is tried again by itself.\n",
            ),
        ] {
            let body = json!({"id": "microsoft", "name": "M", "scopes": {}, "state": state, "last_refusal": refusal});
            let provider: ProviderBody = serde_json::from_value(body).unwrap();
            assert_eq!(of(&[provider], Timestamp::from_secs(1000)), expected);
        }
    }
}
