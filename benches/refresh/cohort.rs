//! Many tokens that expire in the same second, all due two seconds before, and callers who ask for them all the while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grantd::broker::Broker;
use grantd::clock::Clock as _;
use grantd::model::caller::Caller;
use grantd::model::id::random_bytes;
use grantd::model::time::Timestamp;
use tokio::time::{sleep, timeout};

use crate::engine::{Ahead, Engine, ask};
use crate::home::Home;
use crate::{Result, share_of};

const HOUR: Duration = Duration::from_secs(3600);
/// How long before their end all of them fall due.
const LEAD: Duration = Duration::from_secs(2);
/// How many callers ask at once, each for one token after the other.
const CALLERS: usize = 16;
const LONGEST: Duration = Duration::from_secs(120);

/// What the callers were given.
#[derive(Default)]
struct Given {
    live: usize,
    dead: usize,
    refused: BTreeMap<String, usize>,
    waited: Vec<Duration>,
}

pub(crate) async fn renew(count: usize) -> Result<()> {
    let home = Home::make()?;
    let engine = Engine::open(&home.store(), &home.root).await?;
    let began = engine.clock.now();
    let callers: Arc<[Caller]> = engine.connect(u32::try_from(count)?, HOUR, HOUR - LEAD).await?.into();
    // As if the daemon had been started in the moment in which all of them fall due.
    engine.clock.put(HOUR - LEAD - engine.clock.now().since(began));
    let broker = engine.broker().await?;

    let (started, done) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let asking: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (broker, callers) = (Arc::clone(&broker), Arc::clone(&callers));
            tokio::spawn(ask_until(broker, callers, Arc::clone(&engine.clock), Arc::clone(&done)))
        })
        .collect();
    let renewing = async {
        while engine.sandbox.ledger().refreshed() < count {
            broker.renew_due().await?;
            sleep(Duration::from_millis(100)).await;
        }
        Result::Ok(())
    };
    if let Ok(failed) = timeout(LONGEST, renewing).await {
        failed?;
    } else {
        let renewed = engine.sandbox.ledger().refreshed();
        return Err(format!("after {} s {renewed} of {count} are renewed", LONGEST.as_secs()).into());
    }
    let elapsed = started.elapsed();
    done.store(true, Ordering::SeqCst);

    let mut given = Given::default();
    for task in asking {
        let one = task.await?;
        given.live += one.live;
        given.dead += one.dead;
        given.waited.extend(one.waited);
        for (why, times) in one.refused {
            *given.refused.entry(why).or_default() += times;
        }
    }
    let (ledger, asked) = (engine.sandbox.ledger(), given.waited.len());
    let mut millis = |share| share_of(&mut given.waited, share).as_secs_f64() * 1e3;
    println!(
        "{count:>9} expire in the same second, due {} s before: renewed in {:.1} s, {:.0}/s, {} requests, {} sent twice; \
         meanwhile {asked} asked: {} live, {} dead, refused {:?}, p50 {:.1} ms, p99 {:.1} ms",
        LEAD.as_secs(),
        elapsed.as_secs_f64(),
        count as f64 / elapsed.as_secs_f64(),
        ledger.refreshes().count(),
        ledger.double_presentations().len(),
        given.live,
        given.dead,
        given.refused,
        millis(0.5),
        millis(0.99),
    );
    broker.drain(Duration::from_secs(10)).await;
    if given.dead > 0 {
        return Err("a dead token was served".into());
    }
    Ok(())
}

/// Asks for anybody's token. Dead is a token whose life was over before it was asked for, by our own books.
async fn ask_until(broker: Arc<Broker>, callers: Arc<[Caller]>, clock: Arc<Ahead>, done: Arc<AtomicBool>) -> Given {
    let mut given = Given::default();
    while !done.load(Ordering::SeqCst) {
        let caller = &callers[u32::from_be_bytes(random_bytes()) as usize % callers.len()];
        let (asked, asked_at): (Instant, Timestamp) = (Instant::now(), clock.now());
        let answer = ask(&broker, caller, None).await;
        given.waited.push(asked.elapsed());
        match answer {
            Ok(handout) if handout.granted.token.expires_at.is_some_and(|end| end <= asked_at) => given.dead += 1,
            Ok(_) => given.live += 1,
            Err(error) => *given.refused.entry(error.to_string()).or_default() += 1,
        }
        // Callers do other things as well, and those of one machine do not ask ten thousand times a second.
        sleep(Duration::from_millis(1)).await;
    }
    given
}
