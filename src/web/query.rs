//! Reads the two queries that mean something: a provider's answer and a ticket.

use crate::broker::callback::{Callback, CallbackAnswer};
use crate::model::secret::AuthorizationCode;
use crate::web::pages::Problem;

/// The longest query that is read, in bytes. No provider comes near it.
pub(crate) const QUERY_MAX: usize = 16 * 1024;
const STATE_MAX: usize = 512;
const ISSUER_MAX: usize = 2048;
const ERROR_MAX: usize = 128;

/// A provider's answer (RFC 6749 sections 4.1.2 and 4.1.2.1, RFC 9207). Unknown parameters are ignored; one of ours that
/// comes twice is an error, because two readers could each believe another one. A parameter without a value counts as
/// absent (RFC 6749 section 3.1).
///
/// # Errors
/// [`Problem::LongAddress`] or [`Problem::BadAnswer`].
pub(crate) fn callback(query: &str) -> Result<Callback, Problem> {
    if query.len() > QUERY_MAX {
        return Err(Problem::LongAddress);
    }
    let [state, code, error, iss] = values(query, ["state", "code", "error", "iss"])?;
    let state = state.filter(|state| state.len() <= STATE_MAX && is_visible(state)).ok_or(Problem::BadAnswer)?;
    if iss.as_ref().is_some_and(|iss| iss.len() > ISSUER_MAX || !is_visible(iss)) {
        return Err(Problem::BadAnswer);
    }
    let answer = match (code, error) {
        (Some(code), None) => CallbackAnswer::Code(AuthorizationCode::new(code).map_err(|_| Problem::BadAnswer)?),
        (None, Some(error)) => CallbackAnswer::Error(known_form(error)),
        (Some(_), Some(_)) | (None, None) => return Err(Problem::BadAnswer),
    };
    Ok(Callback { state, answer, iss })
}

/// The ticket in the query of a connect link, if there is one.
pub(crate) fn ticket(query: &str) -> Option<String> {
    if query.len() > QUERY_MAX {
        return None;
    }
    let [ticket] = values(query, ["ticket"]).ok()?;
    ticket
}

fn values<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let mut found = [const { None }; N];
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let Some(index) = names.iter().position(|known| *known == name) else {
            continue;
        };
        if found[index].replace(value.into_owned()).is_some() {
            return Err(Problem::BadAnswer);
        }
    }
    Ok(found.map(|value| value.filter(|value| !value.is_empty())))
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, 0x20..=0x7e))
}

/// An error code as the RFC writes them. Any other text becomes a code that nobody knows: it still ends the session.
fn known_form(error: String) -> String {
    if error.len() <= ERROR_MAX && is_visible(&error) { error } else { "unreadable".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<String, Problem> {
        callback(query).map(|callback| {
            let answer = match callback.answer {
                CallbackAnswer::Code(code) => format!("code {}", code.expose()),
                CallbackAnswer::Error(error) => format!("error {error}"),
            };
            format!("{}: {answer}, {:?}", callback.state, callback.iss)
        })
    }

    #[test]
    fn an_answer_is_read_as_the_rfc_writes_it() {
        for (query, expected) in [
            ("code=a%2Fb&state=s", "s: code a/b, None"),
            ("state=s&code=a+b", "s: code a b, None"),
            ("code=c&state=s&iss=https%3A%2F%2Fp.example", "s: code c, Some(\"https://p.example\")"),
            ("error=access_denied&state=s&error_description=%3Cscript%3E", "s: error access_denied, None"),
            ("code=c&state=s&hd=x&hd=y&scope=z", "s: code c, None"),
            ("code=c&state=s&error=", "s: code c, None"),
            ("error=%00%0d%0a&state=s", "s: error unreadable, None"),
            ("error=%E2%80%AE&state=s", "s: error unreadable, None"),
        ] {
            assert_eq!(read(query).as_deref(), Ok(expected), "{query}");
        }
    }

    #[test]
    fn an_answer_that_says_two_things_or_nothing_is_refused() {
        for query in [
            "",
            "code=c",
            "state=s",
            "code=&state=s",
            "code=c&state=",
            "code=a&code=b&state=s",
            "code=a&code=a&state=s",
            "code=a&code=&state=s",
            "c%6fde=a&code=b&state=s",
            "code=c&state=x&state=y",
            "code=c&state=s&iss=a&iss=b",
            "error=a&error=b&state=s",
            "code=c&error=e&state=s",
            "code=%00&state=s",
            "code=%ff&state=s",
            "code=c&state=%0a",
            "code=c&state=s&iss=%0a",
            "code=c;state=s",
        ] {
            assert_eq!(read(query), Err(Problem::BadAnswer), "{query}");
        }
        let long_state = format!("code=c&state={}", "s".repeat(STATE_MAX + 1));
        assert_eq!(read(&long_state), Err(Problem::BadAnswer));
    }

    #[test]
    fn a_query_is_read_up_to_its_limit_and_no_further() {
        let prefix = "state=s&code=";
        let fits = format!("{prefix}{}", "c".repeat(QUERY_MAX - prefix.len()));
        assert!(callback(&fits).is_ok());
        assert_eq!(callback(&format!("{fits}c")).err(), Some(Problem::LongAddress));
    }

    #[test]
    fn a_ticket_is_taken_only_if_there_is_exactly_one() {
        for (query, found) in [
            ("ticket=t", Some("t")),
            ("a=b&ticket=t", Some("t")),
            ("", None),
            ("ticket=", None),
            ("ticket=a&ticket=b", None),
        ] {
            assert_eq!(ticket(query).as_deref(), found, "{query}");
        }
    }
}
