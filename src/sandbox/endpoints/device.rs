//! The device authorization endpoint (RFC 8628 section 3.1) and the page on which a person enters the code (section 3.3).

use askama::Template;
use http::{Method, StatusCode};

use crate::sandbox::answer::Answer;
use crate::sandbox::endpoints::pages::{CSS, html};
use crate::sandbox::endpoints::token::well_formed;
use crate::sandbox::machine::{Choice, DeviceAsked, Machine};
use crate::sandbox::manner::Scene;
use crate::sandbox::manner::route::Spot;
use crate::sandbox::params::Params;
use crate::sandbox::routes::{Call, refuse};

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Enter a code (sandbox)</title><style>{{ css|safe }}</style></head>
<body><main>
<p class="note">This is a sandbox. The accounts are made up and nothing here is real.</p>
<h1>{{ title }}</h1>
{% match asked %}{% when Some with (asked) %}<form method="post" action="{{ action }}">
<input type="hidden" name="user_code" value="{{ asked.user_code }}">
<p><strong>{{ asked.client }}</strong> shows the code <code>{{ asked.user_code }}</code>. Go on only if you see it there.</p>
<fieldset><legend>Account</legend>
{% for user in asked.users %}<label><input type="radio" name="account" value="{{ user.sub }}"{% if loop.first %} checked{% endif %}><span>{{ user.name }}<small>{{ user.email }}</small></span></label>
{% endfor %}</fieldset>
{% if !asked.scopes.is_empty() %}<fieldset><legend>It may</legend>
{% for scope in asked.scopes %}<label><input type="checkbox" name="scope" value="{{ scope }}" checked><code>{{ scope }}</code></label>
{% endfor %}</fieldset>
{% endif %}<div class="buttons"><button name="decision" value="deny">Deny</button><button class="go" name="decision" value="allow">Allow</button></div>
</form>{% when None %}{% if enter %}<form method="get" action="{{ action }}">
<label>The code that your device shows <input name="user_code" autocomplete="off" autofocus></label>
<div class="buttons"><button class="go">Go on</button></div>
</form>{% endif %}{% endmatch %}
</main></body></html>
"#
)]
struct DevicePage<'a> {
    css: &'static str,
    title: &'a str,
    action: &'a str,
    asked: Option<DeviceAsked>,
    enter: bool,
}

/// Answers a client that asks for a device code.
pub(in crate::sandbox) fn authorize(machine: &Machine, scene: &Scene<'_>, params: &Params) -> Answer {
    if scene.call.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
    }
    let given = well_formed(machine, scene, Spot::Device, params)
        .and_then(|()| machine.manner.credentials(scene, params))
        .and_then(|client| machine.authorize_device(&client, machine.manner.wishes(scene, params)));
    match given {
        Ok(given) => {
            let page = format!("{}{}", machine.origin, machine.path_of(Spot::DevicePage));
            machine.manner.device_given(scene, &given, &page)
        }
        Err(refusal) => machine.manner.refused(scene, refusal),
    }
}

/// Shows the page, or takes the person's answer.
pub(in crate::sandbox) fn page(machine: &Machine, call: &Call, params: &Params) -> Answer {
    let code = params.get("user_code").unwrap_or_default();
    match call.method {
        Method::GET if code.is_empty() => shown(machine, StatusCode::OK, "Enter the code", None, true),
        Method::GET => match machine.device_asked(code) {
            Some(asked) => shown(machine, StatusCode::OK, "Allow this device to use an account?", Some(asked), false),
            None => shown(machine, StatusCode::BAD_REQUEST, "No device shows this code, or no longer", None, true),
        },
        Method::POST => decided(machine, code, params),
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method\n"),
    }
}

fn decided(machine: &Machine, code: &str, params: &Params) -> Answer {
    let (choice, title) = match params.get("decision") {
        Some("allow") => {
            let sub = params.get("account").unwrap_or_default().to_owned();
            let scopes = params.all("scope").map(str::to_owned).collect();
            (Choice::Allow { sub, scopes }, "You can go back to your device")
        }
        Some("deny") => (Choice::Deny, "Denied: nothing was given"),
        _ => return refuse(StatusCode::BAD_REQUEST, "a decision is missing\n"),
    };
    if machine.decide_device(code, &choice) {
        return shown(machine, StatusCode::OK, title, None, false);
    }
    shown(machine, StatusCode::BAD_REQUEST, "This code has been answered already, or is too old", None, true)
}

fn shown(machine: &Machine, status: StatusCode, title: &str, asked: Option<DeviceAsked>, enter: bool) -> Answer {
    let action = machine.path_of(Spot::DevicePage);
    html(status, &DevicePage { css: CSS, title, action, asked, enter }, "'self'")
}
