//! Durable refreshes per second: callers who report every token as rejected, and wait for the next one.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grantd::broker::Broker;
use grantd::model::caller::Caller;

use crate::engine::{Engine, ask};
use crate::home::Home;
use crate::{Result, share_of};

const HOUR: Duration = Duration::from_secs(3600);

/// What one row measured; times in milliseconds, the processor time of a refresh in microseconds.
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) cpu: f64,
}

pub(crate) async fn measure(in_flight: usize, span: Duration) -> Result<Rate> {
    let home = Home::make()?;
    let engine = Engine::open(&home.store(), &home.root).await?;
    let callers = engine.connect(u32::try_from(in_flight)?, HOUR, HOUR / 2).await?;
    let broker = engine.broker().await?;
    let (cpu, started) = (cpu()?, Instant::now());
    let end = started + span;
    let tasks: Vec<_> =
        callers.into_iter().map(|caller| tokio::spawn(refresh_until(Arc::clone(&broker), caller, end))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = crate::rate::cpu()?.saturating_sub(cpu);
    if engine.sandbox.ledger().refreshed() != times.len() {
        return Err("a caller was handed something that the provider had not just made".into());
    }
    broker.drain(Duration::from_secs(10)).await;
    let count = times.len() as f64;
    let mut millis = |share| share_of(&mut times, share).as_secs_f64() * 1e3;
    Ok(Rate { per_second: count / elapsed, p50: millis(0.5), p99: millis(0.99), cpu: cpu.as_secs_f64() * 1e6 / count })
}

/// How long each refresh took.
async fn refresh_until(broker: Arc<Broker>, caller: Caller, end: Instant) -> Result<Vec<Duration>> {
    let (mut times, mut held) = (Vec::new(), ask(&broker, &caller, None).await?);
    while Instant::now() < end {
        let asked = Instant::now();
        let fresh = ask(&broker, &caller, Some(&held)).await?;
        times.push(asked.elapsed());
        if fresh.granted.token.token_id == held.granted.token.token_id {
            return Err("the rejected token came back".into());
        }
        held = fresh;
    }
    Ok(times)
}

/// The processor time that this process has used so far, that of the kernel for it included, in steps of ten milliseconds.
fn cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("an unknown format of /proc/self/stat")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
