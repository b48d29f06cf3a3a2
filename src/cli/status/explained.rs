//! What `grantd status` says of connections whose last renewal was refused with a number that the provider's definition explains.

use std::fmt::Write as _;

use crate::api::wire::{ConnectionBody, ProviderBody};
use crate::cli::screen::plain;

/// The line for a number.
pub(super) fn line(number: u32, explanation: &str) -> String {
    format!("  {number}: {}", plain(explanation))
}

/// A line for each thing that was explained about a connection, each once.
pub(super) fn of(connection: &ConnectionBody) -> Vec<String> {
    let mut lines = Vec::new();
    for failure in connection.slots.iter().filter_map(|slot| slot.last_failure.as_ref()) {
        let (Some(number), Some(explanation)) = (failure.number, &failure.explanation) else { continue };
        let line = line(number, explanation);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Those of connections that do not wait for a person, who are told with what to do. What is said of a whole provider is not
/// said of each of its connections again.
pub(super) fn retried(connections: &[ConnectionBody], providers: &[ProviderBody]) -> String {
    let mut text = String::new();
    for connection in connections.iter().filter(|connection| connection.state != "needs_reconnect") {
        let provider = providers.iter().find(|provider| provider.id == connection.provider);
        let refusal = provider.and_then(|provider| provider.last_refusal.as_ref());
        let said = refusal.map(|refusal| line(refusal.number, &refusal.explanation));
        let lines: Vec<String> = of(connection).into_iter().filter(|line| Some(line) != said.as_ref()).collect();
        if lines.is_empty() {
            continue;
        }
        let name = plain(&connection.account.name);
        let _ = writeln!(text, "\n{} {name}: the last renewal was refused.\n{}", connection.provider, lines.join("\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn connection(state: &str, failures: &[Value]) -> ConnectionBody {
        let slots: Vec<Value> =
            failures.iter().map(|failure| json!({"slot": "main", "scope": "", "last_failure": failure})).collect();
        let body = json!({
            "id": "cx_1", "provider": "microsoft", "account": {"id": "1", "name": "ada"}, "state": state, "scopes": [],
            "created_at": 1, "confirmed_at": 1, "slots": slots,
        });
        serde_json::from_value(body).unwrap()
    }

    fn expired(number: u32) -> Value {
        json!({"class": "registration", "number": number, "explanation": "It has \u{1b}[2J expired."})
    }

    fn provider(refusal: &Value) -> ProviderBody {
        let body =
            json!({"id": "microsoft", "name": "Microsoft", "scopes": {}, "state": "ok", "last_refusal": refusal});
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_number_is_told_once_in_our_words_and_without_control_characters() {
        let twice = [expired(7_000_222), expired(7_000_222), json!({"class": "throttled"})];
        let told = "  7000222: It has \u{fffd}[2J expired.";
        assert_eq!(of(&connection("refresh_failed", &twice)), [told]);
        let text = retried(&[connection("refresh_failed", &twice)], &[provider(&Value::Null)]);
        assert_eq!(text, format!("\nmicrosoft ada: the last renewal was refused.\n{told}\n"));
        for quiet in [connection("needs_reconnect", &twice), connection("active", &[json!({"class": "unsent"})])] {
            assert_eq!(retried(&[quiet], &[]), "");
        }
    }

    #[test]
    fn what_is_said_of_the_provider_is_not_said_of_each_connection() {
        let refusal = json!({"number": 7_000_222, "explanation": "It has \u{1b}[2J expired.", "at": 1});
        let list = [connection("refresh_failed", &[expired(7_000_222)]), connection("refresh_failed", &[expired(5)])];
        let text = retried(&list, &[provider(&refusal)]);
        assert!(text.contains("  5: ") && !text.contains("7000222"), "{text}");
    }
}
