//! The pages people see: plain HTML that works without scripts, in light and dark.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use sha2::{Digest, Sha256};
use url::Url;

use crate::sandbox::answer::Answer;
use crate::sandbox::machine::{Asked, AuthorizeError};
use crate::sandbox::options::SandboxUser;

/// The one style sheet; the content security policy names it by its hash.
pub(super) const CSS: &str = "
:root{color-scheme:light dark;--ink:#1c1f23;--soft:#5b6470;--page:#f4f5f7;--card:#fff;--line:#d9dde3;--go:#1f6f43;--warn:#fff3d6;--warn-ink:#6b4a00}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a0a8b3;--page:#15181c;--card:#1e2227;--line:#353b43;--go:#2f9461;--warn:#3a2f12;--warn-ink:#f3d99b}}
*{box-sizing:border-box}body{margin:0;padding:2rem 1rem;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:30rem;margin:auto;background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.5rem}
main.wide{max-width:60rem}h1{font-size:1.3rem;margin:.5rem 0 1rem}h2{font-size:1rem;margin:1.5rem 0 .5rem}
.note{background:var(--warn);color:var(--warn-ink);border-radius:8px;padding:.5rem .75rem;font-size:.9rem;margin:0}
fieldset{border:1px solid var(--line);border-radius:8px;margin:0 0 1rem;padding:.5rem .75rem}legend{color:var(--soft);font-size:.9rem;padding:0 .25rem}
label{display:flex;gap:.6rem;padding:.35rem 0;align-items:baseline;overflow-wrap:anywhere}small{color:var(--soft);display:block}
.buttons{display:flex;gap:.75rem}button{flex:1;padding:.7rem;border-radius:8px;border:1px solid var(--line);background:transparent;color:inherit;font:inherit;cursor:pointer}
button.go{background:var(--go);border-color:var(--go);color:#fff;font-weight:600}button:focus-visible,input:focus-visible{outline:3px solid var(--go);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.9rem}td,th{text-align:left;padding:.3rem .5rem .3rem 0;border-bottom:1px solid var(--line)}code{font-size:.9em;overflow-wrap:anywhere}
.scroll{overflow-x:auto}";

static CSS_HASH: LazyLock<String> = LazyLock::new(|| STANDARD.encode(Sha256::digest(CSS)));

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Allow {{ client }}? (sandbox)</title><style>{{ css|safe }}</style></head>
<body><main>
<p class="note">This is a sandbox. The accounts are made up and nothing here is real.</p>
<h1>Allow <strong>{{ client }}</strong> to use an account?</h1>
<form method="post" action="{{ action }}">
<input type="hidden" name="page" value="{{ page }}">
<fieldset><legend>Account</legend>
{% for user in users %}<label><input type="radio" name="account" value="{{ user.sub }}"{% if user.sub.as_ref() == chosen %} checked{% endif %}><span>{{ user.name }}<small>{{ user.email }}</small></span></label>
{% endfor %}</fieldset>
{% if !scopes.is_empty() %}<fieldset><legend>It may</legend>
{% for scope in scopes %}<label><input type="checkbox" name="scope" value="{{ scope }}" checked><code>{{ scope }}</code></label>
{% endfor %}</fieldset>
{% endif %}<div class="buttons"><button name="decision" value="deny">Deny</button><button class="go" name="decision" value="allow">Allow</button></div>
<p><small>You go back to {{ redirect_uri }}</small></p>
</form></main></body></html>
"#
)]
struct ConsentPage<'a> {
    css: &'static str,
    action: &'a str,
    page: &'a str,
    client: &'a str,
    redirect_uri: &'a str,
    scopes: &'a [String],
    users: &'a [SandboxUser],
    chosen: &'a str,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Cannot go on (sandbox)</title><style>{{ css|safe }}</style></head>
<body><main><p class="note">This is a sandbox. The accounts are made up and nothing here is real.</p>
<h1>This request cannot go on</h1><p>{{ why }}.</p><p><small>Start again from the application that sent you.</small></p></main></body></html>
"#
)]
struct ErrorPage {
    css: &'static str,
    why: AuthorizeError,
}

/// What the page at `/` shows.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>grantd sandbox</title><style>{{ css|safe }}</style></head>
<body><main class="wide"><p class="note">This is a sandbox: an authorization server with made-up accounts, for trying and testing.</p>
<h1>grantd sandbox at {{ issuer }}</h1>
<h2>Endpoints</h2><div class="scroll"><table>{% for (name, path) in endpoints %}<tr><th>{{ name }}</th><td><code>{{ issuer }}{{ path }}</code></td></tr>{% endfor %}</table></div>
<h2>Clients</h2><div class="scroll"><table>{% for (id, kind) in clients %}<tr><td><code>{{ id }}</code></td><td>{{ kind }}</td></tr>{% endfor %}</table></div>
<h2>What happened last</h2><div class="scroll"><table><tr><th>seconds ago</th><th>event</th><th>outcome</th><th>which</th><th>client</th></tr>
{% for line in lines %}<tr><td>{{ line.ago }}</td><td>{{ line.event }}</td><td>{{ line.outcome }}</td><td><code>{{ line.fingerprint }}</code></td><td>{{ line.client }}</td></tr>
{% endfor %}</table></div></main></body></html>
"#
)]
pub(super) struct Home<'a> {
    pub(super) css: &'static str,
    pub(super) issuer: &'a str,
    pub(super) endpoints: Vec<(&'static str, &'a str)>,
    pub(super) clients: Vec<(String, &'static str)>,
    pub(super) lines: Vec<HomeLine>,
}

/// One line of the ledger as the page shows it.
pub(super) struct HomeLine {
    pub(super) ago: i64,
    pub(super) event: String,
    pub(super) outcome: &'static str,
    pub(super) fingerprint: String,
    pub(super) client: String,
}

/// Asks the person.
pub(super) fn consent(asked: &Asked, action: &str) -> Answer {
    let page = ConsentPage {
        css: CSS,
        action,
        page: &asked.id,
        client: &asked.client,
        redirect_uri: &asked.redirect_uri,
        scopes: &asked.scopes,
        users: &asked.users,
        chosen: &asked.chosen,
    };
    html(StatusCode::OK, &page, &form_action(&asked.redirect_uri))
}

/// Tells the person why the browser stays here.
pub(super) fn error(why: AuthorizeError) -> Answer {
    html(StatusCode::BAD_REQUEST, &ErrorPage { css: CSS, why }, "'none'")
}

/// Shows what this is.
pub(super) fn home(home: &Home<'_>) -> Answer {
    html(StatusCode::OK, home, "'none'")
}

pub(super) fn html(status: StatusCode, page: &impl Template, form_action: &str) -> Answer {
    let body = page.render().expect("writing to a string does not fail");
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action {form_action}; frame-ancestors 'none'; base-uri 'none'",
        *CSS_HASH
    );
    Answer::text(status, "text/html; charset=utf-8", body)
        .header(CONTENT_SECURITY_POLICY, &policy)
        .header(CACHE_CONTROL, "no-store")
        .header(REFERRER_POLICY, "no-referrer")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
}

/// Browsers hold the redirect after a form against `form-action` too, so the way back has to stand in it, and the
/// loopback names that the client may send the browser on to. A policy cannot name an IPv6 address, only the scheme.
fn form_action(redirect_uri: &str) -> String {
    let back = Url::parse(redirect_uri).ok().map(|uri| {
        let origin = uri.origin().ascii_serialization();
        let nameable = uri.origin().is_tuple() && !origin.contains('[');
        if nameable { origin } else { format!("{}:", uri.scheme()) }
    });
    format!("'self' http://localhost:* http://127.0.0.1:* {}", back.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_escaped() {
        let evil = "<script>alert('x')</script>\"";
        let asked = Asked {
            id: "page_1".to_owned(),
            client: evil.into(),
            redirect_uri: format!("http://localhost/{evil}"),
            scopes: vec![evil.to_owned()],
            users: vec![SandboxUser::new(evil, evil, evil)],
            chosen: evil.into(),
        };
        let answer = consent(&asked, "/consent");
        let page = std::str::from_utf8(&answer.body).unwrap();
        assert!(!page.contains("<script>"), "{page}");
        assert!(!page.contains("alert('x')"), "{page}");
        assert!(page.contains(" checked"), "the chosen account is ticked");
    }

    #[test]
    fn the_policy_names_the_style_sheet_that_is_sent() {
        let answer = error(AuthorizeError::Client);
        let page = std::str::from_utf8(&answer.body).unwrap();
        let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        let policy = answer.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains(&format!("'sha256-{}'", STANDARD.encode(Sha256::digest(style)))), "{policy}");
    }

    #[test]
    fn the_form_may_lead_back_to_the_client() {
        for (uri, expected) in [
            ("http://localhost:8717/cb", "http://localhost:8717"),
            ("http://[::1]:8717/cb", "http:"),
            ("com.example.app:/cb", "com.example.app:"),
        ] {
            assert!(form_action(uri).ends_with(&format!(" {expected}")), "{uri}");
        }
    }
}
