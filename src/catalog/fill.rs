//! Fills variables into the templates of a definition so that no value can leave the place that was meant for it.

use std::collections::BTreeMap;

use url::{Host, Url};

use crate::catalog::error::{Setting, SettingsError, unknown};
use crate::catalog::schema::{Var, VarKind};
use crate::model::provider::redirect::is_loopback;

/// The values of the variables.
pub(super) struct Filler {
    values: BTreeMap<String, (VarKind, String)>,
}

impl Filler {
    /// Takes an operator's values, and the defaults for what is not said. `client_id` is a variable of every definition.
    pub(super) fn new(
        declared: &BTreeMap<String, Var>,
        said: &BTreeMap<String, String>,
        client_id: &str,
    ) -> Result<Self, SettingsError> {
        let names: Vec<_> = declared.keys().map(String::as_str).collect();
        if let Some(name) = said.keys().find(|name| !declared.contains_key(*name)) {
            return Err(SettingsError::new(Setting::Var(name.clone()), unknown("variable", name, &names)));
        }
        let mut values = BTreeMap::new();
        for (name, var) in declared {
            let Some(value) = said.get(name).or(var.default.as_ref()) else {
                return Err(SettingsError::new(
                    Setting::Vars,
                    format!("expected the variable `{name}`: {}", var.about),
                ));
            };
            check_value(var, value).map_err(|message| SettingsError::new(Setting::Var(name.clone()), message))?;
            values.insert(name.clone(), (var.kind, value.clone()));
        }
        let client_id = (VarKind::Segment, percent_encoded(client_id));
        values.insert("client_id".to_owned(), client_id);
        Ok(Self { values })
    }

    /// Fills in text. A variable of the name `except` is left as it stands.
    pub(super) fn text(&self, template: &str, except: Option<&str>) -> Result<String, String> {
        let mut filled = String::new();
        self.walk(template, except, |part| {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Var(_, value) => filled.push_str(value),
            }
            Ok(())
        })?;
        Ok(filled)
    }

    /// Fills in a URL of an endpoint.
    pub(super) fn url(&self, template: &str) -> Result<Url, String> {
        let mut filled = String::new();
        self.walk(template, None, |part| {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Var(name, value) => {
                    if in_authority(&filled) && self.values[name].0 != VarKind::Host {
                        return Err(format!("`{{{name}}}` stands in the host; expected a variable of the kind `host`"));
                    }
                    filled.push_str(value);
                }
            }
            Ok(())
        })?;
        endpoint(&filled)
    }

    fn walk<'t>(
        &'t self,
        template: &'t str,
        except: Option<&str>,
        mut each: impl FnMut(Part<'t>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(at);
            each(Part::Text(before))?;
            let (name, after) = from_brace
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'))
                .ok_or_else(|| "has an unmatched brace".to_owned())?;
            match self.values.get_key_value(name) {
                Some((name, (_, value))) => each(Part::Var(name, value))?,
                None if Some(name) == except => each(Part::Text(&from_brace[..name.len() + 2]))?,
                None => {
                    let names: Vec<_> = self.values.keys().map(String::as_str).collect();
                    return Err(unknown("variable", name, &names));
                }
            }
            rest = after;
        }
        each(Part::Text(rest))
    }
}

enum Part<'t> {
    Text(&'t str),
    Var(&'t str, &'t str),
}

/// Whether what comes next still belongs to the scheme or to the host.
fn in_authority(so_far: &str) -> bool {
    match so_far.split_once("://") {
        Some((_, rest)) => !rest.contains(['/', '?', '#', '\\']),
        None => true,
    }
}

/// Reads the URL of an endpoint.
///
/// # Errors
/// If it is not https (or http on loopback), or holds user info, a fragment, or a character that URL readers disagree about.
pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('\\') {
        return Err("expected a URL of visible ASCII characters".to_owned());
    }
    let Ok(url) = Url::parse(text) else {
        return Err("expected a URL such as `https://example.com/token`".to_owned());
    };
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        _ => return Err("expected https; http is for this machine only".to_owned()),
    }
    if authority.contains('@') {
        return Err("expected no user name in the URL".to_owned());
    }
    if url.fragment().is_some() {
        return Err("expected no `#` in the URL".to_owned());
    }
    // `https://0x7f.1/` and the like are not what they look like.
    let host = url.host_str().unwrap_or_default();
    let written = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    if written.map_or(authority, |(host, _)| host).to_ascii_lowercase() != host {
        return Err("expected a plain host name".to_owned());
    }
    if path.split(['/', '?']).any(|segment| matches!(segment, "." | "..")) {
        return Err("expected no `..` in the URL".to_owned());
    }
    Ok(url)
}

/// Says what is wrong with a value of a variable, without repeating it.
pub(super) fn check_value(var: &Var, value: &str) -> Result<(), String> {
    if !var.one_of.is_empty() {
        return if var.one_of.iter().any(|allowed| allowed == value) {
            Ok(())
        } else {
            let list: Vec<_> = var.one_of.iter().map(|allowed| format!("`{allowed}`")).collect();
            Err(format!("expected one of {}", list.join(", ")))
        };
    }
    let fits = match var.kind {
        VarKind::Host => is_host(value),
        VarKind::Segment => {
            (1..=128).contains(&value.len()) && value.bytes().all(is_unreserved) && !value.bytes().all(|b| b == b'.')
        }
    };
    match (fits, var.kind) {
        (true, _) => Ok(()),
        (false, VarKind::Host) => {
            Err("expected a host name such as `github.example.com`, and nothing around it".to_owned())
        }
        (false, VarKind::Segment) => Err("expected letters, digits and `._~-`".to_owned()),
    }
}

fn is_host(value: &str) -> bool {
    let host = match value.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => host,
        Some(_) => return false,
        None => value,
    };
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    let labels = host.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    let same = Host::parse(host).is_ok_and(|read| read.to_string() == host.to_ascii_lowercase());
    plain && labels && same && host.len() <= 253
}

/// RFC 3986 section 2.3.
const fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-')
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|b| if is_unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn var(kind: VarKind) -> Var {
        Var { about: "A test".to_owned(), kind, default: None, one_of: Vec::new() }
    }

    #[test]
    fn no_value_leaves_its_place() {
        for value in
            ["", "a/b", "a@b", "a?b", "a#b", "a\\b", "a b", "a%2fb", "a\r\nb", "..", ".", "é", "{host}", "[::1]"]
        {
            assert!(check_value(&var(VarKind::Segment), value).is_err(), "{value:?}");
            assert!(check_value(&var(VarKind::Host), value).is_err(), "{value:?}");
        }
        for host in ["a..b", "-a", "a-", "0x7f.1", "1", "127.1", "a:0", "a:99999", "a:b", ":80", "a.b.", "a_b"] {
            assert!(check_value(&var(VarKind::Host), host).is_err(), "{host:?}");
        }
        for host in ["github.com", "a-b.example:8443", "localhost", "10.0.0.1", "GitHub.Example"] {
            assert_eq!(check_value(&var(VarKind::Host), host), Ok(()), "{host:?}");
        }
        assert_eq!(check_value(&var(VarKind::Segment), "8f2a-contoso.onmicrosoft.com"), Ok(()));
    }

    #[test]
    fn an_endpoint_is_https_and_nothing_else_is_hidden_in_it() {
        for bad in [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "data:text/plain,x",
            "-oProxyCommand=x",
            "http://example.com/",
            "http://localhost.example.com/",
            "https://a@b/",
            "https://a:b@c/",
            "https://@c/",
            "https://example.com/#x",
            "https://example.com/\u{202e}",
            "https://exa\nmple.com/",
            "https://example.com\\@evil.example/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https:example.com",
            "https:///example.com",
            "https://example.com/a/../b",
            "https://%65xample.com/",
            "https://",
            "example.com",
        ] {
            assert!(endpoint(bad).is_err(), "{bad:?}");
        }
        for good in [
            "https://example.com/token",
            "https://example.com:8443/token?x=y",
            "http://127.0.0.1:1234/token",
            "http://[::1]:1234/",
            "http://localhost:1234/a",
            "https://Example.com/",
        ] {
            assert!(endpoint(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn only_a_host_may_stand_where_the_host_stands() {
        let declared = [("host", VarKind::Host), ("tenant", VarKind::Segment)];
        let declared = declared.map(|(name, kind)| (name.to_owned(), var(kind))).into();
        let said = [("host", "login.example"), ("tenant", "common")];
        let said = said.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let filler = Filler::new(&declared, &said, "id/../x").unwrap();
        for (template, expected) in [
            ("https://{host}/{tenant}/token", Ok("https://login.example/common/token")),
            ("https://api.{host}/", Ok("https://api.login.example/")),
            ("https://a/{client_id}/t", Ok("https://a/id%2F..%2Fx/t")),
            ("https://{tenant}/x", Err("expected a variable of the kind `host`")),
            ("https://{client_id}.example/x", Err("expected a variable of the kind `host`")),
            ("{host}://x", Err("expected https")),
            ("https://{hots}/", Err("did you mean `host`?")),
            ("https://{host/", Err("unmatched brace")),
            ("https://host}/", Err("unmatched brace")),
        ] {
            match (filler.url(template), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
                (Err(message), Err(expected)) => assert!(message.contains(expected), "{template}: {message}"),
                (found, _) => panic!("{template}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_must_be_said_is_asked_for_with_its_meaning() {
        let declared = BTreeMap::from([("host".to_owned(), var(VarKind::Host))]);
        let error = Filler::new(&declared, &BTreeMap::new(), "x").err().unwrap();
        assert_eq!(error.message, "expected the variable `host`: A test");
        let said = BTreeMap::from([("hots".to_owned(), "a".to_owned())]);
        let error = Filler::new(&declared, &said, "x").err().unwrap();
        assert_eq!(error.setting, Setting::Var("hots".to_owned()));
        assert!(error.message.ends_with("did you mean `host`?"), "{}", error.message);
    }
}
