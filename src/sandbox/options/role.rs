//! How the sandbox behaves in each role when nobody says otherwise: what the provider documents.

use std::time::Duration;

use crate::sandbox::manner::Role;
use crate::sandbox::options::{DeviceSecret, IssueRefresh, Options, Quirks, Rotation};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The directory that accounts belong to unless another one is set.
const TENANT: &str = "5a4d0b0e-0000-4000-8000-5a4d0b0e0001";

impl Options {
    /// The defaults of a role.
    #[must_use]
    pub fn of(role: Role) -> Self {
        let plain = Self { pkce_required: false, iss_on_callback: false, ..Self::default() };
        let dies = Rotation::SingleUse { kills_family: false, grace: Duration::ZERO };
        let quirks = quirks(&role);
        match role {
            Role::Plain => Self::default(),
            Role::Mirror(mirror) => mirror.options(),
            Role::Github => Self {
                role,
                quirks,
                access_ttl: HOUR * 8,
                refresh_ttl: Some(Duration::from_secs(15_897_600)),
                rotation: dies,
                kills_access_on_refresh: true,
                iss_on_callback: true,
                device_secret: DeviceSecret::Never,
                ..plain
            },
            Role::Google => Self {
                role,
                quirks,
                rotation: Rotation::Static,
                issue_refresh: IssueRefresh::FirstOfflineConsent,
                device_secret: DeviceSecret::WhenPolling,
                ..plain
            },
            Role::Microsoft => Self {
                role,
                quirks,
                refresh_ttl: Some(DAY * 90),
                rotation: Rotation::MultiValid,
                issue_refresh: IssueRefresh::OfflineAccessOnly,
                ..plain
            },
            Role::Slack => Self {
                role,
                quirks,
                access_ttl: HOUR * 12,
                rotation: Rotation::SingleUse { kills_family: false, grace: Duration::from_secs(30) },
                ..plain
            },
            Role::Notion => Self { role, quirks, rotation: dies, ..plain },
        }
    }
}

fn quirks(role: &Role) -> Quirks {
    let list = |scopes: &[&str]| scopes.iter().map(|&scope| scope.to_owned()).collect();
    match role {
        Role::Plain | Role::Mirror(_) => Quirks::default(),
        Role::Github => Quirks {
            endless_without_refresh: true,
            errors_in_200: true,
            form_unless_json_accepted: true,
            user_agent_required: true,
            normalises_scopes: true,
            not_echoed: list(&["offline_access"]),
            ..Quirks::default()
        },
        Role::Google => Quirks { full_scope_names: true, ..Quirks::default() },
        Role::Microsoft => Quirks {
            public_needs_pkce: true,
            not_echoed: list(&["openid", "profile", "email", "offline_access"]),
            tenant: TENANT.to_owned(),
            one_resource: Some("https://graph.microsoft.com/".to_owned()),
            ..Quirks::default()
        },
        Role::Slack => Quirks {
            ignores_pkce: true,
            public_needs_pkce: true,
            endless_without_refresh: true,
            access_tokens_max: Some(2),
            user_token_on_top: true,
            ..Quirks::default()
        },
        Role::Notion => Quirks { ignores_pkce: true, one_grant_per_account: true, ..Quirks::default() },
    }
}
