//! What runs on a schedule, by cron expressions.
//!
//! After a stall the scheduler fires the ticks that it missed in one burst. Every job therefore does the same however often it
//! is called, and a tick that finds the last one still running is skipped.

pub mod settle;
pub mod ticker;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tracing::error;

use crate::broker::Broker;

/// When each job runs: cron expressions that begin with seconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timetable {
    /// Renewing what is due.
    pub renew: String,
    /// Ending sessions, finishing revocations, forgetting what is old.
    pub housekeep: String,
    /// Warning of connections that will need a person.
    pub forecast: String,
    /// Writing when connections were last used.
    pub usage: String,
    /// Dropping what the audit log has kept long enough.
    pub audit: String,
}

impl Default for Timetable {
    fn default() -> Self {
        Self {
            renew: "* * * * * *".to_owned(),
            housekeep: "0 * * * * *".to_owned(),
            forecast: "0 0 * * * *".to_owned(),
            usage: "30 * * * * *".to_owned(),
            audit: "0 15 3 * * *".to_owned(),
        }
    }
}

impl Timetable {
    /// Looks whether every expression is one, before anything depends on it.
    ///
    /// # Errors
    /// If one is not.
    pub fn check(&self) -> Result<(), JobsError> {
        let nothing = || async { Ok::<(), Infallible>(()) };
        job("renew", &self.renew, nothing)?;
        job("housekeep", &self.housekeep, nothing)?;
        job("forecast", &self.forecast, nothing)?;
        job("usage", &self.usage, nothing)?;
        job("audit", &self.audit, nothing)?;
        Ok(())
    }
}

/// A job could not be scheduled.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// Its time is no cron expression.
    #[error("jobs.{job}: `{expression}` is not a cron expression with seconds, such as `0 */5 * * * *`")]
    Expression {
        /// The job.
        job: &'static str,
        /// What the configuration says.
        expression: String,
    },
    /// The scheduler does not work.
    #[error("cannot start the schedule: {0}")]
    Scheduler(#[from] JobSchedulerError),
}

/// The running schedule. It stops when told to.
pub struct Jobs(JobScheduler);

impl Jobs {
    /// Starts the schedule.
    ///
    /// # Errors
    /// If an expression is wrong.
    pub async fn start(timetable: &Timetable, broker: &Arc<Broker>) -> Result<Self, JobsError> {
        let scheduler = JobScheduler::new().await?;
        let renewing = Arc::clone(broker);
        let renew = move || {
            let broker = Arc::clone(&renewing);
            async move { broker.renew_due().await }
        };
        scheduler.add(job("renew", &timetable.renew, renew)?).await?;
        let keeping = Arc::clone(broker);
        let housekeep = move || {
            let broker = Arc::clone(&keeping);
            async move { broker.housekeep().await }
        };
        scheduler.add(job("housekeep", &timetable.housekeep, housekeep)?).await?;
        let warning = Arc::clone(broker);
        let forecast = move || {
            let broker = Arc::clone(&warning);
            async move { broker.warn_of_endings().await }
        };
        scheduler.add(job("forecast", &timetable.forecast, forecast)?).await?;
        let writing = Arc::clone(broker);
        let usage = move || {
            let broker = Arc::clone(&writing);
            async move { broker.write_usage().await }
        };
        scheduler.add(job("usage", &timetable.usage, usage)?).await?;
        let dropping = Arc::clone(broker);
        let audit = move || {
            let broker = Arc::clone(&dropping);
            async move { broker.prune_audit().await }
        };
        scheduler.add(job("audit", &timetable.audit, audit)?).await?;
        scheduler.start().await?;
        Ok(Self(scheduler))
    }

    /// Starts nothing any more.
    pub async fn stop(mut self) {
        if let Err(error) = self.0.shutdown().await {
            error!(%error, "Could not stop the schedule");
        }
    }
}

fn job<F, R, E>(name: &'static str, expression: &str, run: R) -> Result<Job, JobsError>
where
    R: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::fmt::Display,
{
    let running = Arc::new(AtomicBool::new(false));
    let tick = move |_, _| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Some(turn) = Turn::take(&running) else {
            return Box::pin(std::future::ready(()));
        };
        let work = run();
        Box::pin(async move {
            let _turn = turn;
            if let Err(error) = work.await {
                error!(job = name, %error, "A scheduled job failed; it runs again at its next time");
            }
        })
    };
    Job::new_async(expression, tick).map_err(|_| JobsError::Expression { job: name, expression: expression.to_owned() })
}

/// The right to run a job. Given back however the run ends, a panic included.
struct Turn(Arc<AtomicBool>);

impl Turn {
    fn take(running: &Arc<AtomicBool>) -> Option<Self> {
        let free = running.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok();
        free.then(|| Self(Arc::clone(running)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_that_finds_the_last_one_running_is_skipped() {
        let running = Arc::default();
        let first = Turn::take(&running);
        assert!(first.is_some() && Turn::take(&running).is_none());
        drop(first);
        assert!(Turn::take(&running).is_some());
    }

    #[test]
    fn a_wrong_expression_is_named() {
        for wrong in ["", "soon", "* * *", "99 * * * * *"] {
            let timetable = Timetable { renew: wrong.to_owned(), ..Timetable::default() };
            let error = timetable.check().unwrap_err().to_string();
            assert!(error.starts_with("jobs.renew: "), "{error}");
        }
        let right = Timetable { renew: "*/2 * * * * *".to_owned(), ..Timetable::default() };
        assert!(right.check().is_ok() && Timetable::default().check().is_ok());
    }
}
