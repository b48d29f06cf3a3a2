//! What the providers refuse from a client that is set up wrongly, and that this is told as what it is.

use grantd::sandbox::{DEFAULT_CLIENT, SandboxClient};

use crate::providers::stage::{ADA, Stage};
use crate::providers::{Case, GITHUB, GOOGLE, MICROSOFT, NOTION, PROVIDERS, SLACK, VARIANTS};
use crate::support::Journey;

#[tokio::test]
async fn a_wrong_secret_is_the_operators_matter_at_every_provider() {
    for case in PROVIDERS {
        let world = case.world_with(|options| options.clients = vec![other_secret()], |text| text).await;
        ends(&world, case.name).await;
    }
}

#[tokio::test]
async fn a_client_of_the_wrong_kind_is_the_operators_matter() {
    let public = |case: &&Case| !case.secret;
    // The provider has a secret for it, and grantd sends none.
    for case in VARIANTS.iter().filter(public) {
        let with_secret = case.tweak;
        let world = case.world_with(with_secret, |text| text).await;
        world.sandbox.adjust(|options| options.clients = vec![other_secret()]);
        ends(&world, case.name).await;
    }
    // The other way round.
    for case in [GITHUB, GOOGLE, MICROSOFT, SLACK, NOTION] {
        let world = case.world().await;
        world.sandbox.adjust(|options| {
            options.clients = vec![SandboxClient::public(DEFAULT_CLIENT)];
            options.quirks.public_needs_pkce = false;
        });
        ends(&world, case.name).await;
    }
}

fn other_secret() -> SandboxClient {
    let secret = grantd::model::secret::ClientSecret::new("cs_MARK_another-one").unwrap();
    SandboxClient::confidential(DEFAULT_CLIENT, secret)
}

async fn ends(world: &crate::support::World, name: &str) {
    let journey = Journey::begin(world).await;
    journey.come_back(ADA).await;
    assert_eq!(journey.status(world).await, "misconfigured", "{name}; the log:\n{}", world.daemon.log());
    world.assert_nothing_kept(name).await;
    world.never_twice();
}
