//! The compiled-in definitions are right: each is tried in every variant that has a code flow of its own, against the sandbox
//! in the manner of that provider.

mod answers;
mod callback;
mod callers;
mod command;
mod consent;
mod device;
mod errors;
mod explained;
mod id_token;
mod life;
mod refused;
mod resources;
mod slots;
mod stage;

use grantd::sandbox::{IssueRefresh, Options, Role};

/// A provider as an app there can be set up, and how grantd is told about it.
#[derive(Clone)]
pub struct Case {
    /// For messages.
    pub name: &'static str,
    pub role: Role,
    /// Further members of the provider in the configuration, each behind a comma.
    pub settings: &'static str,
    /// Whether the client has a secret.
    pub secret: bool,
    /// What this app does otherwise than the role by default.
    pub tweak: fn(&mut Options),
    /// The account's id for `u-1001`.
    pub account: &'static str,
    /// Whether there is a refresh token.
    pub renews: bool,
    /// Whether an answer tells when its access token ends.
    pub tells_end: bool,
    /// Whether access tokens from before live on after a refresh.
    pub old_lives: bool,
    /// What `disconnect` says of the provider.
    pub upstream: &'static str,
}

const GITHUB: Case = Case {
    name: "GitHub OAuth App",
    role: Role::Github,
    settings: "",
    secret: true,
    tweak: |_| {},
    account: "1001",
    renews: true,
    tells_end: true,
    old_lives: false,
    upstream: "revoked",
};

const GOOGLE: Case = Case { name: "Google web", role: Role::Google, old_lives: true, upstream: "by_hand", ..GITHUB };

const MICROSOFT: Case = Case {
    name: "Microsoft web",
    role: Role::Microsoft,
    account: "5a4d0b0e-0000-4000-8000-5a4d0b0e0001:00000000-0000-4000-9000-000000001001",
    ..GOOGLE
};

const SLACK: Case =
    Case { name: "Slack v2", role: Role::Slack, account: ":T0SANDBOX:U1001", upstream: "revoked", ..GOOGLE };

const NOTION: Case = Case {
    name: "Notion",
    role: Role::Notion,
    account: "00000000-0000-4000-a000-000000000001:00000000-0000-4000-b001-000000001001",
    tells_end: false,
    ..SLACK
};

/// One of each provider.
const PROVIDERS: [Case; 5] = [GITHUB, GOOGLE, MICROSOFT, SLACK, NOTION];

/// The others, by provider.
const VARIANTS: [Case; 14] = [
    Case {
        name: "GitHub OAuth App whose tokens do not expire",
        tweak: |options| options.issue_refresh = IssueRefresh::Never,
        renews: false,
        tells_end: false,
        ..GITHUB
    },
    Case {
        name: "GitHub App",
        settings: ", variant: app",
        tweak: |options| options.quirks.scopes_fixed_by_app = true,
        ..GITHUB
    },
    Case {
        name: "GitHub Enterprise Server",
        settings: ", variant: ghes, vars: {host: ghes.example}",
        tweak: |options| {
            options.quirks.ignores_pkce = true;
            options.iss_on_callback = false;
        },
        ..GITHUB
    },
    Case {
        name: "GitHub App on Enterprise Server",
        settings: ", variant: ghes-app, vars: {host: ghes.example}",
        tweak: |options| options.quirks.scopes_fixed_by_app = true,
        ..GITHUB
    },
    Case { name: "Google desktop", settings: ", variant: desktop", ..GOOGLE },
    Case { name: "Microsoft public client", settings: ", variant: public", secret: false, ..MICROSOFT },
    Case {
        name: "Microsoft personal accounts",
        settings: ", vars: {tenant: consumers}",
        account: "9188040d-6c67-4c5b-b112-36a304b66dad:00000000-0000-4000-9000-000000001001",
        ..MICROSOFT
    },
    Case {
        name: "Microsoft with full scope names",
        tweak: |options| options.quirks.full_scope_names = true,
        ..MICROSOFT
    },
    Case {
        name: "Slack v2 without rotation",
        tweak: |options| options.issue_refresh = IssueRefresh::Never,
        renews: false,
        tells_end: false,
        ..SLACK
    },
    Case { name: "Slack v2_user, token on top", settings: ", variant: v2_user", ..SLACK },
    Case {
        name: "Slack v2_user, token inside",
        settings: ", variant: v2_user",
        tweak: |options| options.quirks.user_token_on_top = false,
        ..SLACK
    },
    Case { name: "Slack with PKCE", settings: ", variant: pkce", secret: false, ..SLACK },
    Case {
        name: "Slack for a whole organization",
        tweak: |options| options.quirks.enterprise_install = true,
        account: "E0SANDBOX::U1001",
        ..SLACK
    },
    Case {
        name: "Notion, owned by a workspace",
        tweak: |options| options.quirks.workspace_owner = true,
        account: "00000000-0000-4000-a000-000000000001:00000000-0000-4000-b002-000000001001",
        ..NOTION
    },
];

/// All cases of a provider.
pub fn cases(role: &Role) -> Vec<Case> {
    let all = PROVIDERS.iter().chain(&VARIANTS);
    all.filter(|case| case.role == *role).cloned().collect()
}
