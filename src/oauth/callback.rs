//! An authorization response (RFC 6749 sections 4.1.2 and 4.1.2.1, RFC 9207), read from the query of a callback.

use crate::model::secret::AuthorizationCode;

/// The longest query that is read, in bytes. No provider comes near it.
pub const QUERY_MAX: usize = 16 * 1024;
const STATE_MAX: usize = 512;
const ISSUER_MAX: usize = 2048;
const ERROR_MAX: usize = 128;

/// The query of a callback, nothing of it trusted yet. It is not printed: the `state` is worth as much as the code.
pub struct Callback {
    /// What should be the `state` that was sent.
    pub state: String,
    /// What the provider says.
    pub answer: CallbackAnswer,
    /// Who says so (RFC 9207).
    pub iss: Option<String>,
}

/// What a provider says in a callback.
#[derive(Debug)]
pub enum CallbackAnswer {
    /// A code to redeem.
    Code(AuthorizationCode),
    /// An error code, to be matched and never to be shown.
    Error(String),
}

/// Why a query is no authorization response.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotACallback {
    /// It is incomplete, or says two things at once.
    #[error("it is incomplete, or says two things at once")]
    Malformed,
    /// It is longer than [`QUERY_MAX`].
    #[error("it is too long")]
    TooLong,
}

/// Reads a provider's answer. Unknown parameters are ignored; one of ours that comes twice is an error, because two readers
/// could each believe another one. A parameter without a value counts as absent (RFC 6749 section 3.1).
///
/// # Errors
/// See [`NotACallback`].
pub fn read(query: &str) -> Result<Callback, NotACallback> {
    if query.len() > QUERY_MAX {
        return Err(NotACallback::TooLong);
    }
    let malformed = NotACallback::Malformed;
    let [state, code, error, iss] = values(query, ["state", "code", "error", "iss"]).ok_or(malformed)?;
    let state = state.filter(|state| state.len() <= STATE_MAX && is_visible(state)).ok_or(malformed)?;
    if iss.as_ref().is_some_and(|iss| iss.len() > ISSUER_MAX || !is_visible(iss)) {
        return Err(malformed);
    }
    let answer = match (code, error) {
        (Some(code), None) => CallbackAnswer::Code(AuthorizationCode::new(code).map_err(|_| malformed)?),
        (None, Some(error)) => CallbackAnswer::Error(known_form(error)),
        (Some(_), Some(_)) | (None, None) => return Err(malformed),
    };
    Ok(Callback { state, answer, iss })
}

/// The values of these parameters; `None` if one of them comes twice.
#[must_use]
pub fn values<const N: usize>(query: &str, names: [&str; N]) -> Option<[Option<String>; N]> {
    let mut found = [const { None }; N];
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let Some(index) = names.iter().position(|known| *known == name) else {
            continue;
        };
        if found[index].replace(value.into_owned()).is_some() {
            return None;
        }
    }
    Some(found.map(|value| value.filter(|value| !value.is_empty())))
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

    fn shown(query: &str) -> Result<String, NotACallback> {
        read(query).map(|callback| {
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
            assert_eq!(shown(query).as_deref(), Ok(expected), "{query}");
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
            assert_eq!(shown(query), Err(NotACallback::Malformed), "{query}");
        }
        let long_state = format!("code=c&state={}", "s".repeat(STATE_MAX + 1));
        assert_eq!(shown(&long_state), Err(NotACallback::Malformed));
    }

    #[test]
    fn a_query_is_read_up_to_its_limit_and_no_further() {
        let prefix = "state=s&code=";
        let fits = format!("{prefix}{}", "c".repeat(QUERY_MAX - prefix.len()));
        assert!(read(&fits).is_ok());
        assert_eq!(read(&format!("{fits}c")).err(), Some(NotACallback::TooLong));
    }
}
