//! Whether a request is meant for us: the exact host it names, and that a form comes from a page of ours.
//!
//! The host check is what stops DNS rebinding: a foreign name that suddenly resolves to 127.0.0.1 still stands in `Host`.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use url::{Host, Url};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The addresses under which the pages are reached.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Such as `http://localhost:8717`.
    origin: String,
    /// Such as `localhost:8717`, and how else this machine can be called.
    hosts: Vec<String>,
    secure: bool,
}

/// Under which of our addresses a request arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    /// The configured one.
    Canonical,
    /// Another spelling of this machine. Cookies are kept by host, so a page there would not know its own.
    Alias,
}

/// The request names a host that is not ours, none at all, or two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Misdirected;

impl Site {
    pub(crate) fn of(web_url: &Url) -> Self {
        let own = authority(web_url, web_url.host_str().unwrap_or_default());
        let mut hosts = vec![own];
        if is_loopback(web_url) {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|host| authority(web_url, host)));
        }
        Self { origin: web_url.origin().ascii_serialization(), hosts, secure: web_url.scheme() == "https" }
    }

    /// The scheme, host and port, as a browser writes them in `Origin`.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether cookies can be limited to TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Compares the one `Host` header byte for byte, and the authority of an absolute request target if there is one
    /// (RFC 9112 section 3.2.2). Whatever a proxy says in `Forwarded` is not looked at.
    pub(crate) fn arrival(&self, uri: &Uri, headers: &HeaderMap) -> Result<Arrival, Misdirected> {
        let mut named = headers.get_all(HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else {
            return Err(Misdirected);
        };
        if uri.authority().is_some_and(|authority| authority.as_str().as_bytes() != host.as_bytes()) {
            return Err(Misdirected);
        }
        match self.hosts.iter().position(|ours| ours.as_bytes() == host.as_bytes()) {
            Some(0) => Ok(Arrival::Canonical),
            Some(_) => Ok(Arrival::Alias),
            None => Err(Misdirected),
        }
    }

    /// Whether a form was sent by a page of ours. Every browser in use sends `Sec-Fetch-Site`, `Origin` or both with a
    /// form. `Origin` is `null` for our own forms, because the pages say `Referrer-Policy: no-referrer`; a foreign page can
    /// have that too, so the form's token decides in the end. What sends neither header is no browser, and cannot be tricked
    /// into sending a cookie; the token decides there too.
    pub(crate) fn is_own_form(&self, headers: &HeaderMap) -> bool {
        let (Ok(origin), Ok(site)) = (only(headers, &ORIGIN), only(headers, &SEC_FETCH_SITE)) else {
            return false;
        };
        let origin_fits = origin.map(|origin| origin == "null" || origin == self.origin.as_str());
        match site {
            Some(site) => site == "same-origin" && origin_fits.unwrap_or(true),
            None => origin_fits.unwrap_or(true),
        }
    }
}

/// Whether the pages are on this machine only: `localhost` or a loopback address.
pub(crate) fn is_loopback(web_url: &Url) -> bool {
    match web_url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn authority(web_url: &Url, host: &str) -> String {
    web_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Misdirected> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    values.next().map_or(Ok(first), |_| Err(Misdirected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn site() -> Site {
        Site::of(&"http://localhost:8717".parse().unwrap())
    }

    #[test]
    fn only_the_exact_spellings_of_this_machine_are_answered() {
        let arrival = |host: &str| site().arrival(&Uri::from_static("/"), &headers(&[("host", host)]));
        assert_eq!(arrival("localhost:8717"), Ok(Arrival::Canonical));
        assert_eq!(arrival("127.0.0.1:8717"), Ok(Arrival::Alias));
        assert_eq!(arrival("[::1]:8717"), Ok(Arrival::Alias));
        for foreign in [
            "",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "::1",
            "localhost:80",
            "localhost:08717",
            "localhost:87170",
            "localhost:8717 ",
            "localhost.:8717",
            "LOCALHOST:8717",
            "Localhost:8717",
            "localhost:8717:8717",
            "localhost:8717,evil.example",
            "localhost:8717@evil.example",
            "me@localhost:8717",
            "localhost:8717#",
            "localhost:8717/",
            "evil.localhost:8717",
            "localhost.evil.example:8717",
            "127.0.0.1.evil.example:8717",
            "127.0.0.2:8717",
            "127.1:8717",
            "0.0.0.0:8717",
            "0x7f000001:8717",
            "2130706433:8717",
            "[::]:8717",
            "[::1%25lo]:8717",
            "[0:0:0:0:0:0:0:1]:8717",
            "[::ffff:127.0.0.1]:8717",
            "evil.example",
            "evil.example:8717",
        ] {
            assert_eq!(arrival(foreign), Err(Misdirected), "{foreign:?}");
        }
    }

    #[test]
    fn no_host_two_hosts_and_a_contradiction_are_refused() {
        let ours = ("host", "localhost:8717");
        let relative = Uri::from_static("/");
        assert_eq!(site().arrival(&relative, &headers(&[])), Err(Misdirected));
        assert_eq!(site().arrival(&relative, &headers(&[ours, ours])), Err(Misdirected));
        let absolute = Uri::from_static("http://localhost:8717/");
        assert_eq!(site().arrival(&absolute, &headers(&[ours])), Ok(Arrival::Canonical));
        let foreign = Uri::from_static("http://evil.example/");
        assert_eq!(site().arrival(&foreign, &headers(&[ours])), Err(Misdirected));
    }

    #[test]
    fn forwarded_headers_change_nothing() {
        let spoofed = headers(&[("host", "evil.example"), ("x-forwarded-host", "localhost:8717")]);
        assert_eq!(site().arrival(&Uri::from_static("/"), &spoofed), Err(Misdirected));
    }

    #[test]
    fn a_hosted_name_has_no_aliases() {
        let hosted = Site::of(&"https://grantd.example".parse().unwrap());
        let arrival = |host| hosted.arrival(&Uri::from_static("/"), &headers(&[("host", host)]));
        assert_eq!(arrival("grantd.example"), Ok(Arrival::Canonical));
        assert_eq!(arrival("localhost"), Err(Misdirected));
        assert!(hosted.is_secure());
    }

    #[test]
    fn a_form_is_believed_only_from_our_own_pages() {
        let (ours, foreign) = ("http://localhost:8717", "http://evil.example");
        for (site_header, origin, own) in [
            (Some("same-origin"), Some(ours), true),
            (Some("same-origin"), Some("null"), true),
            (Some("same-origin"), None, true),
            (Some("same-origin"), Some(foreign), false),
            (Some("same-site"), Some(ours), false),
            (Some("cross-site"), Some("null"), false),
            (Some("cross-site"), Some(foreign), false),
            (Some("none"), Some(ours), false),
            (Some("none"), None, false),
            (Some("Same-Origin"), None, false),
            (None, Some(ours), true),
            (None, Some("null"), true),
            (None, Some(foreign), false),
            (None, Some("http://localhost:8718"), false),
            (None, Some("https://localhost:8717"), false),
            (None, Some("http://127.0.0.1:8717"), false),
            (None, None, true),
        ] {
            let pairs: Vec<_> = [("sec-fetch-site", site_header), ("origin", origin)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            assert_eq!(site().is_own_form(&headers(&pairs)), own, "{pairs:?}");
        }
        assert!(!site().is_own_form(&headers(&[("origin", ours), ("origin", ours)])));
    }
}
