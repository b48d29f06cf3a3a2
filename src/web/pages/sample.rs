//! A visit for the tests, with the same text wherever somebody else chooses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::connect::Visit;
use crate::broker::registry::Configured;
use crate::model::client::{Client, ClientAuth};
use crate::model::connection::Account;
use crate::model::grant_type::GrantType;
use crate::model::id::{ConnectionId, SlotName};
use crate::model::provider::rules::{
    Api, AuthorizeRules, DeviceRules, IdTokenRules, IssuerRules, Presets, RedirectRules, RefreshRules, ResponseRules,
    ScopeRules, SlotPlace, SlotRule, TokenRules,
};
use crate::model::provider::{ClientKind, ConsentRules, Endpoints, Identity, IdentitySource, Provider};
use crate::model::scope::ScopeSet;
use crate::model::session::{CONNECT_TTL, ConnectSession, Progress};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;

/// A visit in which purpose, account, provider name and scope sentences all say `text`.
pub(super) fn visit(progress: Progress, text: &str) -> Visit {
    let created_at = Timestamp::from_secs(1_700_000_000);
    Visit {
        session: ConnectSession {
            id: "cn_AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap(),
            subject: Subject::from_uid(1000),
            caller: "issue-reader".parse().unwrap(),
            purpose: Some(text.to_owned()),
            provider: "example".parse().unwrap(),
            scopes: scopes(),
            reconnect: None,
            grant_type: GrantType::AuthorizationCode,
            user_code: "WDJB-MJHT".to_owned(),
            progress,
            created_at,
            expires_at: created_at.after(CONNECT_TTL),
        },
        configured: Some(Arc::new(configured(text))),
        redirect_uri: "http://localhost:8717/callback/example".parse().unwrap(),
        same_browser: true,
        by_device: false,
        previous_account: None,
        replaces: Vec::new(),
    }
}

pub(super) fn account(id: &str, name: &str) -> Account {
    Account { id: id.to_owned(), name: name.to_owned() }
}

/// What the sample asks for.
pub(super) fn scopes() -> ScopeSet {
    ScopeSet::read("mail <b>files</b>", ' ')
}

/// Every way a session can stand, with `text` for the account.
pub(super) fn standings(text: &str) -> Vec<Progress> {
    let mut standings = vec![
        Progress::Pending,
        Progress::Opened,
        Progress::AwaitingConfirmation { account: account(text, text), granted: ScopeSet::read("mail", ' ') },
        Progress::Completed { connection: ConnectionId::random(), account: account(text, text) },
    ];
    standings.extend(crate::model::session::ConnectFailure::ALL.map(Progress::Failed));
    standings
}

fn configured(text: &str) -> Configured {
    Configured {
        provider: provider(text),
        client: Client { id: "client".to_owned(), secret: None, key: None },
        scopes: BTreeMap::new(),
    }
}

fn provider(text: &str) -> Provider {
    Provider {
        id: "example".parse().unwrap(),
        definition: "example".parse().unwrap(),
        name: text.to_owned(),
        docs_url: Some("https://p.example/settings".parse().unwrap()),
        setup_notes: Vec::new(),
        endpoints: Endpoints {
            authorize: "https://login.p.example/authorize".parse().unwrap(),
            token: "https://p.example/token".parse().unwrap(),
            device: None,
            jwks: None,
        },
        issuer: IssuerRules::default(),
        client_auth: ClientAuth::None,
        client_kind: ClientKind::Public,
        assertion: crate::model::provider::assertion::AssertionRules::default(),
        pkce: true,
        authorize: AuthorizeRules::default(),
        redirect: RedirectRules::default(),
        device: DeviceRules::default(),
        token: TokenRules::default(),
        response: ResponseRules::default(),
        slots: vec![SlotRule { name: SlotName::main(), places: vec![SlotPlace::default()] }],
        refresh: RefreshRules::default(),
        errors: Vec::new(),
        identity: Identity {
            source: IdentitySource::IdToken(IdTokenRules::default()),
            account_id: "{/sub}".parse().unwrap(),
            display: "{/name}".parse().unwrap(),
        },
        consent: ConsentRules::default(),
        revoke: None,
        revoke_wider: None,
        revoke_manual_url: None,
        scopes: ScopeRules { sentences: [("mail".parse().unwrap(), text.to_owned())].into(), ..ScopeRules::default() },
        presets: Presets::default(),
        api: Api::default(),
    }
}
