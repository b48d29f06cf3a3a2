//! A daemon that knows the sandbox as one of the providers, under the name `sandbox`.

use grantd::sandbox::browser::Page;
use grantd::sandbox::{DEFAULT_CLIENT, Options, SandboxClient, adapted};
use serde_json::{Value, json};

use crate::providers::Case;
use crate::support::journey::assert_says;
use crate::support::{Answer, Home, Journey, World};

pub const ADA: &str = "u-1001";
pub const GRACE: &str = "u-1002";

impl Case {
    /// A world in which this provider can be connected.
    pub async fn world(&self) -> World {
        self.world_with(|_| {}, |text| text).await
    }

    /// As [`world`](Self::world), with other switches and another definition.
    pub async fn world_with(&self, adjust: impl FnOnce(&mut Options), define: impl FnOnce(String) -> String) -> World {
        let mut options = Options::of(self.role.clone());
        (self.tweak)(&mut options);
        adjust(&mut options);
        if !self.secret {
            options.clients = vec![SandboxClient::public(DEFAULT_CLIENT)];
        }
        World::arranged(options, |home, sandbox| {
            let id = self.role.built_in().unwrap();
            home.write(&format!("config/providers.d/{id}.yaml"), &define(adapted(&self.role, sandbox.url())));
            home.configure(&format!("  sandbox: {{definition: {id}, {}{}}}\n", self.client(home), self.settings));
        })
        .await
    }

    fn client(&self, home: &Home) -> String {
        if self.secret { home.client() } else { format!("client_id: {DEFAULT_CLIENT}") }
    }
}

/// What the tests do with a connected account.
pub trait Stage {
    async fn connects(&self, account: &str) -> Page;
    async fn living(&self, more: Value) -> Answer;
    async fn rejects(&self, token: &Answer) -> Answer;
    fn never_twice(&self);
}

impl Stage for World {
    /// Connects an account through all its pages.
    async fn connects(&self, account: &str) -> Page {
        let done = Journey::begin(self).await.finish(account).await;
        assert_says(&done, &["Connected"]);
        done
    }

    /// A token that the provider itself takes.
    async fn living(&self, more: Value) -> Answer {
        let token = self.daemon.token(more).await;
        assert_eq!(token.status, 200, "{token:?}; the log:\n{}", self.daemon.log());
        assert!(self.sandbox.opens(token.text("access_token")), "{token:?}");
        token
    }

    /// Says that the provider's API did not take the token, and asks for another one.
    async fn rejects(&self, token: &Answer) -> Answer {
        self.daemon.token(json!({"rejected": token.json["token_id"], "account": token.json["account"]["id"]})).await
    }

    /// No refresh token was sent twice although its answer had come, or twice at once.
    fn never_twice(&self) {
        let ledger = self.sandbox.ledger();
        assert!(ledger.double_presentations().is_empty(), "{:?}", ledger.double_presentations());
        assert!(!self.daemon.log().contains("panicked"), "the daemon panicked:\n{}", self.daemon.log());
    }
}
