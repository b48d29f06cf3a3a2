//! The three cookies of the pages (RFC 6265): who the browser belongs to, which flow it began, and what its forms are checked against.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::model::id::{ConnectId, random_text};
use crate::model::session::CONNECT_TTL;

/// Says whose browser it is: a redeemed ticket.
pub(crate) const PERSON: &str = "grantd_person";
/// Before the name of a cookie that came over TLS: a browser takes it from no other host, and from no http.
const HOST_ONLY: &str = "__Host-";
/// What the token of every form is derived from.
pub(crate) const CSRF: &str = "grantd_csrf";

/// Says that this browser pressed the button of this session. One for each session, so that two tabs do not undo each other.
pub(crate) fn flow(id: &ConnectId) -> String {
    format!("grantd_flow_{id}")
}

/// A cookie to be set.
#[derive(Debug)]
pub(crate) struct Cookie {
    name: String,
    value: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Ten minutes, and sent when another site leads back here: the provider does.
    Flow,
    /// Until the browser closes, and never sent when another site leads here.
    Form,
}

impl Cookie {
    pub(crate) fn person(secret: String) -> Self {
        Self::lax(PERSON.to_owned(), secret)
    }

    pub(crate) fn flow(id: &ConnectId, secret: String) -> Self {
        Self::lax(flow(id), secret)
    }

    pub(crate) fn csrf(value: String) -> Self {
        Self { name: CSRF.to_owned(), value, kind: Kind::Form }
    }

    fn lax(name: String, value: String) -> Self {
        Self { name, value, kind: Kind::Flow }
    }

    /// The `Set-Cookie` header; `None` if the value could break out of it. `secure` limits it to TLS and to exactly this host,
    /// which browsers do not accept from plain http.
    pub(crate) fn header(&self, secure: bool) -> Option<HeaderValue> {
        if !is_value(&self.value) {
            return None;
        }
        let rest = match self.kind {
            Kind::Flow => format!("SameSite=Lax; Max-Age={}", CONNECT_TTL.as_secs()),
            Kind::Form => "SameSite=Strict".to_owned(),
        };
        let (prefix, secure) = if secure { (HOST_ONLY, "; Secure") } else { ("", "") };
        HeaderValue::try_from(format!("{prefix}{}={}; Path=/; HttpOnly; {rest}{secure}", self.name, self.value)).ok()
    }
}

/// The value of the cookie of this name. Cookies on loopback are shared by every port, so a value says nothing until it
/// has been compared; the first of several is taken. Where the pages are `secure`, only what was set over TLS counts.
pub(crate) fn read(headers: &HeaderMap, name: &str, secure: bool) -> Option<String> {
    let prefix = if secure { HOST_ONLY } else { "" };
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, value)| found.strip_prefix(prefix) == Some(name) && is_value(value))
        .map(|(_, value)| value.to_owned())
}

/// The value the forms of this browser are checked against: the one it has if it is one of ours, else a new one to set.
pub(crate) fn csrf_value(headers: &HeaderMap, secure: bool) -> (String, Option<Cookie>) {
    match read(headers, CSRF, secure).filter(|value| value.len() == 43) {
        Some(value) => (value, None),
        None => {
            let value = random_text::<32>();
            (value.clone(), Some(Cookie::csrf(value)))
        }
    }
}

/// Ours are base64url. Nothing else needs to be read, and nothing else can break out of a header.
fn is_value(value: &str) -> bool {
    (1..=512).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        headers
    }

    #[test]
    fn cookies_are_kept_from_scripts_and_from_other_sites() {
        let id: ConnectId = "cn_x".parse().unwrap();
        for (cookie, expected) in [
            (Cookie::flow(&id, "s3".to_owned()), "grantd_flow_cn_x=s3; Path=/; HttpOnly; SameSite=Lax; Max-Age=600"),
            (Cookie::person("p".to_owned()), "grantd_person=p; Path=/; HttpOnly; SameSite=Lax; Max-Age=600"),
            (Cookie::csrf("c".to_owned()), "grantd_csrf=c; Path=/; HttpOnly; SameSite=Strict"),
        ] {
            assert_eq!(cookie.header(false).unwrap(), expected);
            assert_eq!(cookie.header(true).unwrap(), format!("__Host-{expected}; Secure"));
        }
        assert!(Cookie::person("a; Domain=evil.example".to_owned()).header(false).is_none());
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let sent = headers(&["a=1; grantd_personx=no; xgrantd_person=no", "grantd_person=yes; b=2"]);
        assert_eq!(read(&sent, PERSON, false).as_deref(), Some("yes"));
        assert_eq!(read(&sent, "grantd_flow_cn_x", false), None);
        assert_eq!(read(&headers(&["grantd_person=\"q\"; grantd_person="]), PERSON, false), None);
    }

    #[test]
    fn over_tls_only_a_cookie_that_was_set_over_tls_counts() {
        let sent = headers(&["grantd_person=planted; __Host-grantd_person=ours; __Host-grantd_csrfx=no"]);
        assert_eq!(read(&sent, PERSON, true).as_deref(), Some("ours"));
        assert_eq!(read(&sent, PERSON, false).as_deref(), Some("planted"));
        assert_eq!(read(&headers(&["grantd_person=planted"]), PERSON, true), None);
        assert_eq!(read(&sent, CSRF, true), None);
    }

    #[test]
    fn a_form_cookie_that_is_not_ours_is_replaced() {
        let ours = random_text::<32>();
        let (kept, set) = csrf_value(&headers(&[&format!("grantd_csrf={ours}")]), false);
        assert_eq!((kept, set.is_none()), (ours, true));
        let (fresh, set) = csrf_value(&headers(&["grantd_csrf=fixed"]), false);
        assert_ne!(fresh, "fixed");
        assert!(set.is_some());
    }
}
