//! `grantd explain`: what the policy would say to a caller, rule by rule, without giving anything.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use url::form_urlencoded::Serializer;

use crate::api::wire::{ExplainBody, SaidBody};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::cli::table::{align, cell, titles};
use crate::model::id::{CallerName, ProviderId, SlotName};
use crate::model::scope::Scope;

/// Show what a caller may have, rule by rule, without giving anything
///
/// Nothing is handed out, renewed or noted. The exit code is 4 where the policy refuses. For administrators.
#[derive(clap::Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The caller, by its name in grantd.yaml; uid:1000 for a user who acts for themself
    #[arg(long, value_name = "NAME")]
    pub caller: CallerName,
    /// The provider, by its name in grantd.yaml
    #[arg(long, value_name = "NAME")]
    pub provider: ProviderId,
    /// The account, by the provider's id, its name or its label
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// The slot, where the provider has several
    #[arg(long, value_name = "NAME")]
    pub slot: Option<SlotName>,
    /// A scope that the token must be good for; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<Scope>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Asks the daemon at `socket`.
///
/// # Errors
/// If an administrator has to ask, or there is no such caller or provider.
pub async fn run(args: ExplainArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let path = format!("/v1/explain?{}", query(&args));
    let explained: ExplainBody = Client::new(socket).get(&path, Duration::ZERO).await?;
    if args.json {
        let text = serde_json::to_string_pretty(&explained).map_err(std::io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    } else {
        write!(screen.out, "{}", told(&explained))?;
    }
    Ok(if explained.allowed { ExitCode::Ok } else { ExitCode::Denied })
}

fn query(args: &ExplainArgs) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("caller", args.caller.as_str()).append_pair("provider", args.provider.as_str());
    if let Some(account) = &args.account {
        query.append_pair("account", account);
    }
    if let Some(slot) = &args.slot {
        query.append_pair("slot", slot.as_str());
    }
    query.extend_pairs(args.scopes.iter().map(|scope| ("scope", scope.as_str())));
    query.finish()
}

fn told(explained: &ExplainBody) -> String {
    let ExplainBody { caller, subject, provider, account, slot, granted, rules, allowed, rule, error, .. } = explained;
    let subject = subject.as_ref().map_or_else(|| "the user that it runs as".to_owned(), ToString::to_string);
    let mut text = format!("{caller} acts for {subject}.\n");
    let _ = match account {
        Some(account) => writeln!(text, "Account: {} ({}) at {provider}", plain(&account.name), plain(&account.id)),
        None => writeln!(text, "Account: none is meant that is connected at {provider}; any account is assumed"),
    };
    if let (Some(slot), Some(granted)) = (slot, granted) {
        let _ = writeln!(text, "Its token in the slot {slot} is good for: {granted}");
    }
    if !rules.is_empty() {
        let mut rows = vec![titles(["RULE", "SAYS"])];
        rows.extend(rules.iter().map(|said| vec![cell(said.rule.as_str()), cell(sentence(said))]));
        let _ = write!(text, "\n{}\n", align(&rows));
    }
    let _ = match error {
        _ if *allowed => writeln!(text, "Allowed by {rule}."),
        Some(error) => writeln!(text, "Refused by {rule}: {error}."),
        None => writeln!(text, "Refused by {rule}."),
    };
    text
}

fn sentence(said: &SaidBody) -> String {
    let scopes = said.scopes.as_ref().map(ToString::to_string).unwrap_or_default();
    match &*said.says {
        "allows" => "allows it".to_owned(),
        "other_provider" => "is about another provider".to_owned(),
        "other_account" => "is about other accounts".to_owned(),
        "other_slot" => "is about other slots".to_owned(),
        "above_ceiling" => format!("does not go up to: {scopes}"),
        "grant_broader" => format!("does not go up to what the token would be good for as well: {scopes}"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::screen::fake::Recorder;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ExplainArgs,
    }

    fn args(line: &[&str]) -> Option<ExplainArgs> {
        Line::try_parse_from(["explain"].iter().chain(line)).ok().map(|line| line.args)
    }

    #[tokio::test]
    async fn the_decision_is_told_rule_by_rule() {
        let daemon = Daemon::start(|asked, _| match asked {
            "GET /v1/explain?caller=issues&provider=github&account=a+b&slot=main&scope=repo&scope=gist" => (
                200,
                json!({
                    "caller": "issues", "subject": {"tenant": "local", "user": "uid:1000"}, "provider": "github",
                    "connection": "cx_1", "account": {"id": "1", "name": "octocat"}, "slot": "main",
                    "granted": ["gist", "repo"], "allowed": false, "rule": "callers.issues.allow[1]",
                    "error": "scope_denied",
                    "rules": [
                        {"rule": "callers.issues.allow[0]", "says": "other_provider"},
                        {"rule": "callers.issues.allow[1]", "says": "above_ceiling", "scopes": ["gist"]},
                    ],
                }),
            ),
            _ => (404, json!({"error": "unknown_caller", "error_description": "No such caller is configured."})),
        });
        let line = "--caller issues --provider github --slot main --scope repo --scope gist --account";
        let mut words: Vec<&str> = line.split(' ').collect();
        words.push("a b");
        let mut recorder = Recorder::default();
        let result = run(args(&words).unwrap(), &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await;
        assert_eq!(result, Ok(ExitCode::Denied));
        let plain = anstream::adapter::strip_str(recorder.out()).to_string();
        assert_eq!(
            plain,
            "issues acts for local/uid:1000.\n\
             Account: octocat (1) at github\n\
             Its token in the slot main is good for: gist repo\n\n\
             RULE                     SAYS\n\
             callers.issues.allow[0]  is about another provider\n\
             callers.issues.allow[1]  does not go up to: gist\n\n\
             Refused by callers.issues.allow[1]: scope_denied.\n"
        );
        let mut recorder = Recorder::default();
        let unknown = args(&["--caller", "x", "--provider", "github"]).unwrap();
        let refused = run(unknown, &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await.unwrap_err();
        assert!(refused.message.contains("No such caller"), "{refused:?}");
    }

    #[test]
    fn a_question_without_a_caller_or_a_provider_is_none() {
        for line in [&["--caller", "a"][..], &["--provider", "github"], &["--caller", "a b", "--provider", "github"]] {
            assert!(args(line).is_none(), "{line:?}");
        }
    }
}
