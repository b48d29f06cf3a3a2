//! A provider that is down is asked seldom, however many want something, and troubles no other provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use grantd::sandbox::browser::Browser;
use grantd::sandbox::{BodyKind, Fault, Options, Sandbox, What, When, definition};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::guards::{ADA, HOUR, PATIENCE, retry_after};
use crate::support::{World, ask, eventually, eventually_within};

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_asked_seldom_and_everything_recovers() {
    const ALL: usize = 40;
    for what in [What::Status { code: 500, body: BodyKind::Json }, What::DropBeforeProcessing] {
        let mut world = World::new().await;
        world.sandbox.script(Fault::of_refresh(When::Always, what.clone()));
        // They die at once, so that every caller needs a new one.
        world.stock(ALL, Duration::from_secs(1)).await;
        eventually_within(PATIENCE, "it is noticed", async || world.provider_state("sandbox").await == "unreachable")
            .await;
        let asked = Arc::new(AtomicUsize::new(0));
        let until = Instant::now() + Duration::from_secs(8);
        let callers = (0..20).map(|caller| {
            let (socket, asked) = (world.daemon.home.socket(), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut index = caller;
                while Instant::now() < until {
                    let body = json!({"provider": "sandbox", "account": format!("stock-{}", index % ALL)});
                    let answer = ask::ask(&socket, "POST", "/v1/token", Some(body)).await.unwrap();
                    assert!((1..=3600).contains(&retry_after(&answer)), "{answer:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                    index += 7;
                    sleep(Duration::from_millis(10)).await;
                }
            })
        });
        for ended in join_all(callers).await {
            ended.unwrap();
        }
        let (asked, sent) = (asked.load(Ordering::Relaxed), world.refreshes());
        assert!(asked > 200, "{asked} questions were no crowd");
        // Each of them once, before the first failures were known, and a probe now and then.
        assert!(sent <= ALL + 8, "{what:?}: {sent} requests for {asked} questions");
        assert_eq!(world.in_state("needs_reconnect").await, 0);

        world.sandbox.clear_faults();
        eventually_within(PATIENCE, "all recover by themselves", async || world.in_state("active").await == ALL).await;
        assert_eq!((world.refreshed(), world.invalid_grants()), (ALL, 0), "{what:?}");
        assert_eq!(world.provider_state("sandbox").await, "ok");
        world.assert_sound();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_is_no_trouble_for_another() {
    const HUNG: usize = 100;
    let well = Sandbox::start(Options::default()).await.unwrap();
    let mut world = World::arranged(Options::default(), |home, _| {
        let other = definition(well.url()).replacen("id: sandbox", "id: well", 1);
        home.write("config/providers.d/well.yaml", &other);
        home.configure(&format!("{}{}", home.sandbox_line("sandbox"), home.sandbox_line("well")));
    })
    .await;
    world.sandbox.script(Fault::of_refresh(When::Always, What::Delay(Duration::from_secs(600))));
    world.stock(HUNG, HOUR).await;

    let browser = Browser::new();
    let session = world.daemon.post("/v1/connect", json!({"provider": "well"})).await;
    let page = browser.open(&session.url("connect_url")).await.unwrap();
    let consent = browser.press(&page, "/start", &[]).await.unwrap();
    let back = browser.press(&consent, "allow", &[("account", ADA)]).await.unwrap();
    assert_eq!(browser.press(&back, "/confirm", &[]).await.unwrap().status, 200);

    world.make_due_but(ADA);
    eventually("many hang", async || world.refreshes() >= 50).await;
    // From now on its tokens live a few seconds: they are renewed on schedule, and a caller has one renewed now.
    well.adjust(|options| options.access_ttl = Duration::from_secs(6));
    for round in 1..=3 {
        let living = world.daemon.post("/v1/token", json!({"provider": "well"})).await;
        assert_eq!(living.status, 200, "{living:?}");
        let rejected = json!({"provider": "well", "rejected": living.json["token_id"]});
        let asked = Instant::now();
        let renewed = world.daemon.post("/v1/token", rejected).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        assert!(asked.elapsed() < Duration::from_secs(10), "round {round} took {:?}", asked.elapsed());
    }
    let before = well.ledger().refreshed();
    eventually_within(PATIENCE, "what is due is renewed", async || well.ledger().refreshed() >= before + 2).await;
    // All that while the other one was hanging: not one answer has come.
    assert_eq!((world.refreshed(), world.in_state("needs_reconnect").await), (0, 0));
    assert!(well.ledger().double_presentations().is_empty());
}
