//! The command: its definition is the one that these tests use, and what it starts is that provider.

use std::process::Stdio;

use grantd::sandbox::adapted;
use grantd::sandbox::browser::Browser;

use crate::providers::PROVIDERS;
use crate::support::daemon::Output;
use crate::support::launch::Kept;
use crate::support::{Daemon, Home, eventually};

#[tokio::test]
async fn the_command_prints_the_definition_and_plays_the_provider() {
    let home = Home::new();
    let port = home.port.to_string();
    let url: url::Url = format!("http://127.0.0.1:{port}").parse().unwrap();
    for case in PROVIDERS {
        let id = case.role.built_in().unwrap();
        let line = ["sandbox", "--as", id, "--port", &port];
        let printed = Output::of(Daemon::command(&home).args(line).arg("--definition"));
        assert_eq!((printed.code, printed.out), (0, adapted(&case.role, &url)), "{}", printed.err);
        let child = Daemon::command(&home).args(line).stdout(Stdio::null()).spawn().unwrap();
        let kept = Kept(child);
        let browser = Browser::new();
        let there = async || browser.peek(&url).await.is_ok_and(|page| page.body.contains("grantd sandbox at"));
        eventually("the sandbox answers", there).await;
        let page = browser.peek(&url).await.unwrap();
        let token = match id {
            "github" => "/login/oauth/access_token",
            "google" => "/token",
            "microsoft" => "/{tenant}/oauth2/v2.0/token",
            "slack" => "/api/oauth.v2.user.access",
            _ => "/v1/oauth/token",
        };
        assert!(page.body.contains(token), "{id}: {}", page.body);
        drop(kept);
    }
}
