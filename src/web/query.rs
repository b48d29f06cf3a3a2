//! Reads the two queries that mean something: a provider's answer and a ticket.

use crate::oauth::callback::{self, Callback, NotACallback, QUERY_MAX};
use crate::web::pages::Problem;

/// A provider's answer.
///
/// # Errors
/// [`Problem::LongAddress`] or [`Problem::BadAnswer`].
pub(crate) fn callback(query: &str) -> Result<Callback, Problem> {
    callback::read(query).map_err(|error| match error {
        NotACallback::Malformed => Problem::BadAnswer,
        NotACallback::TooLong => Problem::LongAddress,
    })
}

/// The ticket in the query of a connect link, if there is one.
pub(crate) fn ticket(query: &str) -> Option<String> {
    if query.len() > QUERY_MAX {
        return None;
    }
    let [ticket] = callback::values(query, ["ticket"])?;
    ticket
}

#[cfg(test)]
mod tests {
    use super::*;

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
