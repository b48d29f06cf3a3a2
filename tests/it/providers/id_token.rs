//! ID tokens that are not to be believed: nothing is stored, and what came is given back where the provider can take it.

use grantd::sandbox::{IdTokenFlaw, Kind, Secret};
use serde_json::json;

use crate::providers::stage::{ADA, Stage};
use crate::providers::{GOOGLE, MICROSOFT};
use crate::support::Journey;

const FLAWS: [IdTokenFlaw; 9] = [
    IdTokenFlaw::Missing,
    IdTokenFlaw::Issuer,
    IdTokenFlaw::Audience,
    IdTokenFlaw::Nonce,
    IdTokenFlaw::NoNonce,
    IdTokenFlaw::Key,
    IdTokenFlaw::AlgNone,
    IdTokenFlaw::Hs256,
    IdTokenFlaw::Expired,
];

#[tokio::test]
async fn one_flaw_is_enough_and_nothing_is_stored() {
    for case in [GOOGLE, MICROSOFT] {
        let world = case.world().await;
        let only_here = (case.role == MICROSOFT.role).then_some(IdTokenFlaw::Tenant);
        for flaw in FLAWS.into_iter().chain(only_here) {
            let name = format!("{} {flaw:?}", case.name);
            world.sandbox.adjust(|options| options.quirks.id_token = flaw);
            let journey = Journey::begin(&world).await;
            journey.come_back(ADA).await;
            assert_eq!(journey.status(&world).await, "identity_failed", "{name}");
            let listed = world.daemon.get("/v1/connections").await;
            assert_eq!(listed.json["connections"], json!([]), "{name}");
            let store = rusqlite::Connection::open(world.daemon.home.store()).unwrap();
            for table in ["openings", "pending_grants", "connections", "grants"] {
                let count = format!("SELECT count(*) FROM {table}");
                let rows: i64 = store.query_row(&count, [], |row| row.get(0)).unwrap();
                assert_eq!(rows, 0, "{table}: {name}");
            }
        }
        world.sandbox.adjust(|options| options.quirks.id_token = IdTokenFlaw::None);
        world.connects(ADA).await;
        world.living(json!({})).await;
    }
}

/// Neither of those two can: Google would end the person's other grants with it, and Microsoft has no way. Their neighbour can.
#[tokio::test]
async fn what_came_is_given_back_where_that_ends_nothing_else() {
    let reach = |text: String| text.replace("revoke_wider:", "revoke:").replace("reach: project", "reach: grant");
    let world = GOOGLE.world_with(|options| options.quirks.id_token = IdTokenFlaw::Key, reach).await;
    let journey = Journey::begin(&world).await;
    journey.come_back(ADA).await;
    assert_eq!(journey.status(&world).await, "identity_failed");
    world.assert_nothing_kept("a forged ID token").await;
    assert_eq!(world.sandbox.ledger().count(Kind::Revoked, Secret::Refresh, "revoked_by_client"), 1);
}

#[tokio::test]
async fn google_may_leave_the_scheme_out_of_its_issuer() {
    let world = GOOGLE.world_with(|options| options.quirks.bare_issuer = true, |text| text).await;
    world.connects(ADA).await;
    assert_eq!(world.living(json!({})).await.json["account"]["id"], GOOGLE.account);
}
