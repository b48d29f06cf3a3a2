//! Rotation in its classes.

use std::time::Duration;

use crate::sandbox::tests::{Setup, consenting, rotating};
use crate::sandbox::{Fingerprint, IssueRefresh, Kind, Options, Rotation, Secret};

const ZERO_GRACE: Rotation = Rotation::SingleUse { kills_family: false, grace: Duration::ZERO };

#[tokio::test]
async fn a_static_token_stays() {
    let setup = Setup::new(rotating(Rotation::Static)).await;
    let token = setup.tokens().await.text("refresh_token");
    for _ in 0..3 {
        let reply = setup.refresh(&token).await;
        assert_eq!(reply.status, 200);
        assert!(reply.json().get("refresh_token").is_none(), "it is not repeated");
        assert_eq!(setup.opens(&reply.text("access_token")).await, 200);
    }
    assert!(setup.sandbox.ledger().double_presentations().is_empty());
}

#[tokio::test]
async fn many_valid_tokens_work_side_by_side() {
    let setup = Setup::new(rotating(Rotation::MultiValid)).await;
    let first = setup.tokens().await.text("refresh_token");
    let second = setup.refresh(&first).await.text("refresh_token");
    assert_ne!(first, second);
    for token in [&first, &second, &first] {
        assert_eq!(setup.refresh(token).await.status, 200);
    }
}

#[tokio::test]
async fn a_single_use_token_works_once_and_its_successor_lives_on() {
    let setup = Setup::new(rotating(ZERO_GRACE)).await;
    let first = setup.tokens().await.text("refresh_token");
    let second = setup.refresh(&first).await.text("refresh_token");
    assert_eq!(setup.refresh(&first).await.error(), "invalid_grant");
    assert_eq!(setup.refresh(&second).await.status, 200);
}

#[tokio::test]
async fn with_family_kill_a_reused_token_ends_everything() {
    let rotation = Rotation::SingleUse { kills_family: true, grace: Duration::ZERO };
    let setup = Setup::new(rotating(rotation)).await;
    let first = setup.tokens().await.text("refresh_token");
    let reply = setup.refresh(&first).await;
    assert_eq!(setup.refresh(&first).await.error(), "invalid_grant");
    assert_eq!(setup.refresh(&reply.text("refresh_token")).await.error(), "invalid_grant");
    assert_eq!(setup.opens(&reply.text("access_token")).await, 401);
    let grant = setup.sandbox.grants().remove(0);
    assert_eq!(grant.ended, Some("reuse"));
    assert!(!setup.sandbox.newest_refresh_usable(grant.id));
}

#[tokio::test]
async fn within_grace_a_used_token_works_again() {
    let rotation = Rotation::SingleUse { kills_family: true, grace: Duration::from_secs(30) };
    let setup = Setup::new(rotating(rotation)).await;
    let first = setup.tokens().await.text("refresh_token");
    let second = setup.refresh(&first).await.text("refresh_token");
    setup.clock.advance(Duration::from_secs(29));
    let third = setup.refresh(&first).await.text("refresh_token");
    assert_ne!(second, third);
    assert_eq!(setup.refresh(&second).await.status, 200, "the first answer stays good");
    setup.clock.advance(Duration::from_secs(1));
    assert_eq!(setup.refresh(&first).await.error(), "invalid_grant", "grace counts from the first use");
    assert_eq!(setup.refresh(&third).await.error(), "invalid_grant", "and then the family is gone");
}

#[tokio::test]
async fn tokens_die_on_time() {
    let options =
        Options { access_ttl: Duration::from_secs(10), refresh_ttl: Some(Duration::from_secs(20)), ..consenting() };
    let setup = Setup::new(options).await;
    let tokens = setup.tokens().await;
    assert_eq!(tokens.json()["refresh_token_expires_in"], 20);
    let access = tokens.text("access_token");
    setup.clock.advance(Duration::from_secs(9));
    assert_eq!(setup.opens(&access).await, 200);
    setup.clock.advance(Duration::from_secs(1));
    assert_eq!(setup.opens(&access).await, 401);
    setup.clock.advance(Duration::from_secs(10));
    assert!(!setup.sandbox.grants()[0].newest_refresh_usable);
    assert_eq!(setup.refresh(&tokens.text("refresh_token")).await.error(), "invalid_grant");
}

#[tokio::test]
async fn a_refresh_ends_earlier_access_tokens_only_if_told_to() {
    for (kills, status) in [(false, 200), (true, 401)] {
        let options = Options { kills_access_on_refresh: kills, ..consenting() };
        let setup = Setup::new(options).await;
        let tokens = setup.tokens().await;
        let reply = setup.refresh(&tokens.text("refresh_token")).await;
        assert_eq!(setup.opens(&tokens.text("access_token")).await, status, "kills: {kills}");
        assert_eq!(setup.opens(&reply.text("access_token")).await, 200);
    }
}

#[tokio::test]
async fn a_refresh_may_ask_for_less_but_not_for_more() {
    let setup = Setup::new(rotating(Rotation::Static)).await;
    let token = setup.tokens().await.text("refresh_token");
    let with = async |scope| {
        let form = [("grant_type", "refresh_token"), ("refresh_token", &token), ("scope", scope)];
        setup.post("/token", &form).await
    };
    assert_eq!(with("read").await.text("scope"), "read");
    assert_eq!(with("read admin").await.error(), "invalid_scope");
    assert_eq!(setup.refresh(&token).await.text("scope"), "openid read write", "the grant itself is not narrowed");
}

#[tokio::test]
async fn offline_access_can_be_made_a_condition() {
    let options = Options { issue_refresh: IssueRefresh::OfflineAccessOnly, ..consenting() };
    let setup = Setup::new(options).await;
    for (scope, expected) in [("read", false), ("read offline_access", true)] {
        let code = setup.callback(&[("scope", scope)]).await.remove("code").unwrap();
        let found = setup.redeem(&code).await.json().get("refresh_token").is_some();
        assert_eq!(found, expected, "{scope}");
    }
}

#[tokio::test]
async fn the_ledger_tells_a_double_presentation_from_honest_refreshes() {
    let setup = Setup::new(rotating(ZERO_GRACE)).await;
    let first = setup.tokens().await.text("refresh_token");
    let second = setup.refresh(&first).await.text("refresh_token");
    let delivered = || setup.sandbox.ledger().of(Kind::Delivered, Secret::Refresh).count() == 2;
    assert!(setup.settled(delivered).await);
    setup.refresh(&second).await;
    assert!(setup.sandbox.ledger().double_presentations().is_empty());
    setup.refresh(&first).await;
    let ledger = setup.sandbox.ledger();
    let doubles = ledger.double_presentations();
    assert_eq!(doubles.len(), 1);
    assert_eq!(doubles[0].fingerprint, Fingerprint::of(&first));
    assert!(doubles[0].after_delivery && !doubles[0].concurrent);
    assert_eq!(ledger.presentations_of(Fingerprint::of(&first)), 2);
    assert_eq!((ledger.refreshes().count(), ledger.refreshed()), (3, 2));
    assert_eq!(ledger.refusals()["invalid_grant"], 1);
}

#[tokio::test]
async fn a_revoked_person_takes_all_grants_along() {
    let setup = Setup::new(consenting()).await;
    let tokens = setup.tokens().await;
    let given = setup.sandbox.give(crate::sandbox::DEFAULT_CLIENT, "u-1001", &["read"]).unwrap();
    assert_eq!(setup.opens(given.access.expose()).await, 200);
    assert_eq!(setup.sandbox.revoke_user("u-1001"), 2);
    assert_eq!(setup.sandbox.revoke_user("u-1001"), 0);
    for access in [given.access.expose(), &tokens.text("access_token")] {
        assert_eq!(setup.opens(access).await, 401);
    }
}
