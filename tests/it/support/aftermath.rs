//! What has to be true when a test is over, whatever it did: nobody panicked, and no refresh token was misused or lost.

use std::time::Duration;

use grantd::clock::{Clock as _, SystemClock};
use grantd::model::time::Timestamp;
use grantd::sandbox::Kind;
use serde_json::{Value, json};

use crate::support::{Answer, World};

impl World {
    /// Fails if the daemon panicked, a refresh token was sent twice, or a grant that lives has lost its newest one.
    pub fn assert_sound(&self) {
        let log = self.daemon.log();
        assert!(!log.contains("panicked"), "the daemon panicked:\n{log}");
        let ledger = self.sandbox.ledger();
        assert!(ledger.double_presentations().is_empty(), "{:?}", ledger.double_presentations());
        for grant in self.sandbox.grants().iter().filter(|grant| grant.ended.is_none()) {
            assert!(grant.newest_refresh_usable, "the newest refresh token of {grant:?} is dead");
        }
    }

    /// Proof that the newest refresh tokens are ours and not only alive: each connection is made to spend its own.
    pub async fn assert_renewable(&self) {
        for connection in self.connections().await {
            let account = connection["account"]["id"].clone();
            let before = self.live_token(json!({"account": account})).await;
            let after = self.live_token(json!({"account": account, "rejected": before.text("token_id")})).await;
            assert_ne!(before.json["token_id"], after.json["token_id"]);
        }
    }

    /// A token that the daemon hands out and the provider accepts.
    pub async fn live_token(&self, more: Value) -> Answer {
        let asked = SystemClock.now();
        let answer = self.daemon.token(more).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.assert_lived(asked, &answer).await;
        answer
    }

    /// Fails if what was handed out was dead when it was `asked` for. It may have died since, on a busy machine.
    pub async fn assert_lived(&self, asked: Timestamp, answer: &Answer) {
        let is_live = self.is_live(&answer.json["access_token"]).await;
        let Some(expires_at) = answer.json["expires_at"].as_i64() else {
            assert!(is_live, "{answer:?}");
            return;
        };
        assert!(asked.as_secs() <= expires_at, "an expired token was handed out: {answer:?}");
        assert!(is_live || SystemClock.now().as_secs() >= expires_at, "a dead token was handed out: {answer:?}");
    }

    /// From now on tokens live so long, beginning with a new one: a person cannot connect within seconds on a busy machine.
    pub async fn live_only(&self, lifetime: Duration) -> Answer {
        let first = self.live_token(json!({})).await;
        self.sandbox.adjust(|options| options.access_ttl = lifetime);
        self.live_token(json!({"rejected": first.json["token_id"]})).await
    }

    /// The caller's connections.
    pub async fn connections(&self) -> Vec<Value> {
        self.daemon.get("/v1/connections").await.json["connections"].as_array().unwrap().clone()
    }

    /// The state of the only connection.
    pub async fn state(&self) -> String {
        let connections = self.connections().await;
        assert_eq!(connections.len(), 1, "{connections:?}");
        connections[0]["state"].as_str().unwrap().to_owned()
    }

    /// How often a refresh token was sent.
    pub fn refreshes(&self) -> usize {
        self.sandbox.ledger().refreshes().count()
    }

    /// How many refreshes brought a token.
    pub fn refreshed(&self) -> usize {
        self.sandbox.ledger().refreshed()
    }

    /// How often anything was refused because the grant was not good.
    pub fn invalid_grants(&self) -> usize {
        let ledger = self.sandbox.ledger();
        ledger.entries().iter().filter(|entry| entry.kind == Kind::Refused && entry.outcome == "invalid_grant").count()
    }
}
