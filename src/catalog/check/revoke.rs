//! What a definition must hold about taking grants back: what happens by itself takes nothing else with it.

use crate::catalog::check::{Check, fail, member, status};
use crate::catalog::schema::{Definition, RevokeRules};
use crate::model::provider::{ClientKind, RevokeAuth};

pub(super) fn check(definition: &Definition) -> Check {
    if let Some(rules) = &definition.revoke {
        request(definition, "revoke", rules)?;
        if rules.reach.is_wide() {
            return fail(
                member!["revoke", "reach"],
                "expected `token` or `grant`: disconnecting takes nothing else with it; what takes more belongs in `revoke_wider`",
            );
        }
    }
    if let Some(rules) = &definition.revoke_wider {
        request(definition, "revoke_wider", rules)?;
        if !rules.reach.is_wide() {
            return fail(
                member!["revoke_wider", "reach"],
                "expected `client` or `project`; what takes this connection alone belongs in `revoke`",
            );
        }
        if rules.takes.as_ref().is_none_or(|takes| !takes.ends_with('.')) {
            return fail(
                member!["revoke_wider"],
                "expected `takes`, a sentence that tells the person who is asked what else goes",
            );
        }
    }
    Ok(())
}

fn request(definition: &Definition, at: &str, rules: &RevokeRules) -> Check {
    if rules.ok_http.is_empty() {
        return fail(member![at, "ok_http"], "expected at least one status code");
    }
    status(&rules.ok_http, |index| member![at, "ok_http", index])?;
    status(&rules.gone_http, |index| member![at, "gone_http", index])?;
    if let Some(index) = rules.gone_http.iter().position(|code| rules.ok_http.contains(code)) {
        return fail(member![at, "gone_http", index], "expected a status code that is not in `ok_http`");
    }
    if definition.client.kind == ClientKind::Public && matches!(rules.auth, RevokeAuth::Basic) {
        return fail(member![at, "auth"], "expected another way, because a public client has no secret");
    }
    let told = rules.auth == RevokeAuth::Bearer || rules.body.values().any(|value| value.contains("{token}"));
    if !told {
        return fail(member![at, "body"], "expected `{token}` in a value: nothing says which token it is about");
    }
    Ok(())
}
