//! Reads the body of a form within a limit and a time, and compares its token.

use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use subtle::ConstantTimeEq;

use crate::web::pages::Problem;

/// The longest form that is read, in bytes. Ours have one field.
pub(crate) const FORM_MAX: usize = 16 * 1024;
/// How long a browser has to send it.
pub(crate) const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// The `csrf` field of a form, which has to arrive `within` this time.
///
/// # Errors
/// [`Problem::LongForm`] if it is too long, [`Problem::Forged`] if it is no form, comes too slowly or breaks off.
pub(crate) async fn token<S, B, E>(headers: &HeaderMap, body: S, within: Duration) -> Result<String, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    if !is_form(headers) {
        return Err(Problem::Forged);
    }
    let body = tokio::time::timeout(within, collect(body)).await.map_err(|_| Problem::Forged)??;
    field(&body).ok_or(Problem::Forged)
}

/// Whether the two tokens are the same, in a time that does not depend on where they differ.
pub(crate) fn matches(expected: &str, given: &str) -> bool {
    expected.as_bytes().ct_eq(given.as_bytes()).into()
}

async fn collect<S, B, E>(body: S) -> Result<Vec<u8>, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut body = std::pin::pin!(body);
    let mut collected = Vec::new();
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| Problem::Forged)?;
        if collected.len() + chunk.remaining() > FORM_MAX {
            return Err(Problem::LongForm);
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            collected.extend_from_slice(part);
            let taken = part.len();
            chunk.advance(taken);
        }
    }
    Ok(collected)
}

fn is_form(headers: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn field(body: &[u8]) -> Option<String> {
    let mut tokens = url::form_urlencoded::parse(body).filter(|(name, _)| name == "csrf");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Some(token.into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    fn headers(content_type: &'static str) -> HeaderMap {
        [(CONTENT_TYPE, content_type.parse().unwrap())].into_iter().collect()
    }

    async fn sent(content_type: &'static str, chunks: &[&str]) -> Result<String, Problem> {
        let chunks: Vec<Result<Bytes, ()>> = chunks.iter().map(|c| Ok(Bytes::copy_from_slice(c.as_bytes()))).collect();
        token(&headers(content_type), stream::iter(chunks), FORM_TIMEOUT).await
    }

    #[tokio::test]
    async fn the_token_is_read_from_a_form_and_from_nothing_else() {
        let form = "application/x-www-form-urlencoded";
        assert_eq!(sent(form, &["cs", "rf=a", "-b"]).await, Ok("a-b".to_owned()));
        assert_eq!(sent("Application/X-WWW-Form-urlencoded; charset=utf-8", &["csrf=a&x=y"]).await, Ok("a".to_owned()));
        for (content_type, body) in [
            (form, ""),
            (form, "x=y"),
            (form, "csrf=a&csrf=b"),
            ("text/plain", "csrf=a"),
            ("application/json", "{\"csrf\":\"a\"}"),
            ("application/x-www-form-urlencodedx", "csrf=a"),
        ] {
            assert_eq!(sent(content_type, &[body]).await, Err(Problem::Forged), "{content_type} {body}");
        }
    }

    #[tokio::test]
    async fn a_form_is_read_up_to_its_limit_and_no_further() {
        let form = "application/x-www-form-urlencoded";
        let fits = format!("csrf={}", "a".repeat(FORM_MAX - 5));
        assert!(sent(form, &[&fits]).await.is_ok());
        assert_eq!(sent(form, &[&fits, "a"]).await, Err(Problem::LongForm));
    }

    #[tokio::test]
    async fn a_form_that_never_ends_is_not_waited_for() {
        let never = stream::pending::<Result<Bytes, ()>>();
        let form = headers("application/x-www-form-urlencoded");
        assert_eq!(token(&form, never, Duration::from_millis(5)).await, Err(Problem::Forged));
    }

    #[test]
    fn tokens_match_only_when_equal() {
        assert!(matches("abc", "abc"));
        assert!(!matches("abc", "abd"));
        assert!(!matches("abc", "ab"));
        assert!(!matches("abc", ""));
    }
}
