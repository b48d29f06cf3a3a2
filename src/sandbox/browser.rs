//! A browser without a screen: follows redirects, keeps cookies, reads forms and presses their buttons.
//!
//! The demo clicks through by itself with it, and the tests are the person in front of the page. It knows as much HTML as the
//! pages of grantd, of the sandbox and of other test servers are made of.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, Method};
use url::Url;

/// More redirects than any honest flow has.
const REDIRECTS_MAX: usize = 20;

/// A browser with its own cookies.
#[derive(Debug)]
pub struct Browser {
    client: reqwest::Client,
    /// By host, as browsers keep them: ports share.
    cookies: Mutex<HashMap<String, BTreeMap<String, String>>>,
}

/// What a browser shows.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it ended up.
    pub url: Url,
    /// The status of the last answer.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its text.
    pub body: String,
}

/// A form on a page.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Form {
    /// Where it goes, as it stands in the page.
    pub action: String,
    /// `get` or `post`.
    pub method: String,
    /// What is sent unless something else is filled in: hidden fields, texts, ticked boxes.
    pub fields: Vec<(String, String)>,
    /// Its buttons that send a value of their own.
    pub buttons: Vec<(String, String)>,
}

/// Why a page could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// The page has no such form or button.
    #[error("{url} has no form or button `{wanted}` (status {status})")]
    NoForm {
        /// The page.
        url: Url,
        /// Its status.
        status: u16,
        /// What was looked for.
        wanted: String,
    },
    /// It is sent around in circles, or to something that is no address.
    #[error("redirected badly")]
    Redirect,
    /// No answer.
    #[error(transparent)]
    Transport(#[from] reqwest::Error),
}

impl Browser {
    /// A browser without cookies.
    ///
    /// # Panics
    /// If TLS cannot be set up.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "it plays a person's browser, which is not the daemon's way out")]
    pub fn new() -> Self {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Self { client: builder.build().expect("TLS can be set up"), cookies: Mutex::default() }
    }

    /// A browser without cookies that trusts this certificate, in PEM form, and no other.
    ///
    /// # Errors
    /// If it is no certificate.
    #[expect(clippy::disallowed_methods, reason = "it plays a person's browser, which is not the daemon's way out")]
    pub fn trusting(certificate: &[u8]) -> Result<Self, BrowserError> {
        let certificate = reqwest::Certificate::from_pem(certificate)?;
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Ok(Self { client: builder.tls_certs_only([certificate]).build()?, cookies: Mutex::default() })
    }

    /// Opens an address and follows where it leads.
    ///
    /// # Errors
    /// If there is no answer, or it leads in circles.
    pub async fn open(&self, url: &Url) -> Result<Page, BrowserError> {
        self.follow(Method::GET, url.clone(), None).await
    }

    /// Asks once, and does not follow.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn peek(&self, url: &Url) -> Result<Page, BrowserError> {
        self.ask(Method::GET, url, None).await
    }

    /// Presses the button of the form whose action or one of whose buttons holds `wanted`, with some fields filled in.
    ///
    /// # Errors
    /// If there is no such form, no answer, or it leads in circles.
    pub async fn press(&self, page: &Page, wanted: &str, filled: &[(&str, &str)]) -> Result<Page, BrowserError> {
        let (url, method, body) = page.submission(wanted, filled)?;
        self.follow(method, url, body).await
    }

    /// As [`press`](Self::press), and does not follow where it leads.
    ///
    /// # Errors
    /// If there is no such form, or no answer.
    pub async fn press_once(&self, page: &Page, wanted: &str, filled: &[(&str, &str)]) -> Result<Page, BrowserError> {
        let (url, method, body) = page.submission(wanted, filled)?;
        self.ask(method, &url, body).await
    }

    /// Sends a form to an address that need not stand on any page.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn post(&self, url: &Url, fields: &[(&str, &str)]) -> Result<Page, BrowserError> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.ask(Method::POST, url, Some(body)).await
    }

    /// The status that a resource answers to a bearer of this token; `None` if it does not answer.
    pub async fn with_bearer(&self, token: &str, url: &Url) -> Option<u16> {
        let answer = self.client.get(url.clone()).bearer_auth(token).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    async fn follow(&self, method: Method, url: Url, body: Option<String>) -> Result<Page, BrowserError> {
        let mut page = self.ask(method, &url, body).await?;
        for _ in 0..REDIRECTS_MAX {
            let Some(next) = page.location() else { return Ok(page) };
            page = self.ask(Method::GET, &next?, None).await?;
        }
        Err(BrowserError::Redirect)
    }

    async fn ask(&self, method: Method, url: &Url, body: Option<String>) -> Result<Page, BrowserError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut request = self.client.request(method, url.clone());
        if let Some(cookies) = self.cookie_header(&host) {
            request = request.header(COOKIE, cookies);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        let answer = request.send().await?;
        self.keep_cookies(&host, answer.headers());
        Ok(Page {
            url: url.clone(),
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.text().await?,
        })
    }

    fn cookie_header(&self, host: &str) -> Option<String> {
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<String> = cookies.get(host)?.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    fn keep_cookies(&self, host: &str, headers: &HeaderMap) {
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let jar = cookies.entry(host.to_owned()).or_default();
        for header in headers.get_all(SET_COOKIE).iter().filter_map(|header| header.to_str().ok()) {
            let (pair, attributes) = header.split_once(';').unwrap_or((header, ""));
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            if attributes.to_ascii_lowercase().contains("max-age=0") || value.is_empty() {
                jar.remove(name.trim());
            } else {
                jar.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl Page {
    /// Where the answer leads; `None` if it is no redirect.
    pub fn location(&self) -> Option<Result<Url, BrowserError>> {
        if !(300..400).contains(&self.status) {
            return None;
        }
        let location = self.headers.get(LOCATION)?.to_str().ok()?;
        Some(self.url.join(location).map_err(|_| BrowserError::Redirect))
    }

    /// The forms on the page, in order.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        let mut forms = Vec::new();
        let mut rest = self.body.as_str();
        while let Some(start) = find_tag(rest, "form") {
            let opened = &rest[start..];
            let Some(head_end) = opened.find('>') else { break };
            let end = opened.find("</form").unwrap_or(opened.len());
            forms.push(form(&opened[..head_end], &opened[head_end..end]));
            rest = &opened[end..];
        }
        forms
    }

    fn submission(&self, wanted: &str, filled: &[(&str, &str)]) -> Result<(Url, Method, Option<String>), BrowserError> {
        let missing = || BrowserError::NoForm { url: self.url.clone(), status: self.status, wanted: wanted.to_owned() };
        let holds = |form: &Form| {
            form.action.contains(wanted) || form.buttons.iter().any(|(name, value)| name == wanted || value == wanted)
        };
        let form = self.forms().into_iter().find(holds).ok_or_else(missing)?;
        let pressed = form.buttons.iter().find(|(name, value)| name == wanted || value == wanted).cloned();
        let mut fields: Vec<(String, String)> =
            form.fields.into_iter().filter(|(name, _)| filled.iter().all(|(other, _)| other != name)).collect();
        fields.extend(filled.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fields.extend(pressed);
        let mut url = self.url.join(&form.action).map_err(|_| BrowserError::Redirect)?;
        if form.method == "get" {
            url.query_pairs_mut().clear().extend_pairs(&fields);
            return Ok((url, Method::GET, None));
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        Ok((url, Method::POST, Some(body)))
    }
}

fn form(head: &str, content: &str) -> Form {
    let mut read = Form {
        action: attribute(head, "action").unwrap_or_default(),
        method: attribute(head, "method").unwrap_or_else(|| "get".to_owned()).to_ascii_lowercase(),
        ..Form::default()
    };
    let mut rest = content;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start..];
        let Some(end) = tag.find('>') else { break };
        let (head, lower) = (&tag[..end], tag[..end].to_ascii_lowercase());
        let pair = || Some((attribute(head, "name")?, attribute(head, "value").unwrap_or_default()));
        let kind = attribute(head, "type").unwrap_or_default().to_ascii_lowercase();
        if lower.starts_with("<input") && kind == "submit" || lower.starts_with("<button") {
            read.buttons.extend(pair());
        } else if lower.starts_with("<input") {
            let choice = matches!(&*kind, "checkbox" | "radio");
            if !choice || has_flag(head, "checked") {
                let on = |(name, value): (String, String)| {
                    let value = if choice && value.is_empty() { "on".to_owned() } else { value };
                    (name, value)
                };
                read.fields.extend(pair().map(on));
            }
        }
        rest = &tag[end..];
    }
    read
}

fn find_tag(text: &str, name: &str) -> Option<usize> {
    text.match_indices('<').map(|(at, _)| at).find(|at| {
        let after = &text[at + 1..];
        after.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name))
            && after[name.len()..].starts_with(|c: char| c.is_whitespace() || c == '>')
    })
}

/// The value of `name="value"` in the head of a tag, in any of the three ways HTML quotes it.
fn attribute(head: &str, name: &str) -> Option<String> {
    for (at, _) in head.match_indices(name) {
        let starts = head[..at].ends_with(char::is_whitespace);
        let Some(value) = head[at + name.len()..].trim_start().strip_prefix('=').filter(|_| starts) else {
            continue;
        };
        let value = value.trim_start();
        let raw = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split(quote).next()?,
            _ => value.split(char::is_whitespace).next()?,
        };
        return Some(unescape(raw));
    }
    None
}

fn has_flag(head: &str, name: &str) -> bool {
    head.split(|c: char| c.is_whitespace() || c == '/')
        .any(|word| word == name || word.starts_with(&format!("{name}=")))
}

fn unescape(text: &str) -> String {
    [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#x22;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&#x2F;", "/"),
        ("&#47;", "/"),
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&gt;", ">"),
        ("&#62;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(body: &str) -> Page {
        let url = Url::parse("http://localhost:1/here/page").unwrap();
        Page { url, status: 200, headers: HeaderMap::new(), body: body.to_owned() }
    }

    #[test]
    fn a_form_is_read_as_a_browser_would_send_it() {
        let page = page(
            r#"<FORM action="/go?a=1&amp;b=2" method=POST>
               <input type="hidden" name="csrf" value="x&quot;y"> <input name='q' value='1'>
               <input type=checkbox name=s value=a checked><input type=checkbox name=s value=b>
               <input type="radio" name="who" value="1" checked/><input type="radio" name="who" value="2">
               <button name="do" value="allow">Allow</button><button name="do" value="deny">Deny</button></form>"#,
        );
        let form = &page.forms()[0];
        assert_eq!((form.action.as_str(), form.method.as_str()), ("/go?a=1&b=2", "post"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(form.fields, [pair("csrf", "x\"y"), pair("q", "1"), pair("s", "a"), pair("who", "1")]);
        let (url, method, body) = page.submission("deny", &[("q", "2")]).unwrap();
        assert_eq!((url.as_str(), method), ("http://localhost:1/go?a=1&b=2", Method::POST));
        assert_eq!(body.unwrap(), "csrf=x%22y&s=a&who=1&q=2&do=deny");
    }

    #[test]
    fn a_missing_form_is_named() {
        let error = page("<formula>").submission("start", &[]).unwrap_err().to_string();
        assert!(error.contains("`start`"), "{error}");
    }
}
