//! The classes of providers, by what becomes of a refresh token that is used: how the sandbox behaves, and what the definition
//! says of it.

use std::time::Duration;

use grantd::sandbox::{self, Rotation};
use url::Url;

/// How long a spent refresh token goes on working where there is a grace.
const GRACE: Duration = Duration::from_secs(30);

/// What becomes of a refresh token that is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// It stays the same.
    Static,
    /// There is a new one, and the old one goes on working.
    MultiValid,
    /// There is a new one, and the old one is dead.
    SingleUse,
    /// There is a new one, and the old one is dead a little later.
    Grace,
    /// There is a new one, and using the old one ends the grant.
    KillsFamily,
}

impl Class {
    /// Whether a refresh token works once.
    pub const fn is_single_use(self) -> bool {
        matches!(self, Self::SingleUse | Self::Grace | Self::KillsFamily)
    }

    /// What the sandbox does.
    pub const fn rotation(self) -> Rotation {
        match self {
            Self::Static => Rotation::Static,
            Self::MultiValid => Rotation::MultiValid,
            Self::SingleUse => Rotation::SingleUse { kills_family: false, grace: Duration::ZERO },
            Self::Grace => Rotation::SingleUse { kills_family: false, grace: GRACE },
            Self::KillsFamily => Rotation::SingleUse { kills_family: true, grace: Duration::ZERO },
        }
    }

    /// What the definition of the sandbox says.
    pub fn definition(self, url: &Url) -> String {
        let rules = match self {
            Self::Static => "rotation: static\n  after_ambiguous: safe".to_owned(),
            Self::MultiValid => "rotation: multi_valid\n  after_ambiguous: safe".to_owned(),
            Self::SingleUse | Self::KillsFamily => return sandbox::definition(url),
            Self::Grace => format!("rotation: single_use\n  after_ambiguous: once\n  grace: {}", GRACE.as_secs()),
        };
        let standing = "rotation: single_use\n  after_ambiguous: once";
        let written = sandbox::definition(url);
        assert!(written.contains(standing), "the definition of the sandbox has changed");
        written.replace(standing, &rules)
    }
}
