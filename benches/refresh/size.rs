//! What stored connections cost while nothing is due: a tick of the schedule, the start, and memory.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use grantd::clock::Clock as _;
use grantd::model::caller::Caller;
use grantd::model::subject::Subject;
use grantd::sandbox::{Options, Sandbox};
use grantd::store::Store as _;
use rusqlite::Connection;
use rustix::fs::{Advice, fadvise};
use tokio::task::block_in_place;

use crate::engine::Engine;
use crate::home::Home;
use crate::{Result, share_of};

const HOUR: Duration = Duration::from_secs(3600);
/// How many ticks are measured.
const TICKS: usize = 300;
/// How many tokens the daemon serves before its memory is looked at again, and for how long it runs at least.
const SERVED: usize = 2_000;
const SERVING: Duration = Duration::from_millis(2_500);

/// A store that grows.
pub(crate) struct Stock {
    home: Home,
    /// Nobody asks it for anything.
    sandbox: Sandbox,
    stored: usize,
}

/// The times of a tick that finds nothing to do.
pub(crate) struct Ticks {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) housekeep: Duration,
}

/// What starting cost; sizes in units of 2^20 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Started {
    pub(crate) ready: Duration,
    pub(crate) rss_ready: f64,
    pub(crate) rss_served: f64,
    pub(crate) file: f64,
}

impl Stock {
    /// A store with one connection, of whoever runs this.
    pub(crate) async fn make() -> Result<Self> {
        let home = Home::make()?;
        let engine = Engine::open(&home.store(), &home.root).await?;
        let subject = Subject::from_uid(rustix::process::geteuid().as_raw());
        let caller = Caller { name: "bench".parse()?, subject, admin: false, peer: None, rules: None };
        engine.connect_one(&caller, 0, engine.clock.now(), 24 * HOUR, 12 * HOUR).await?;
        engine.store.close().await?;
        Ok(Self { home, sandbox: Sandbox::start(Options::default()).await?, stored: 1 })
    }

    /// Copies the first connection until there are so many, each of another subject, due at another time within the next
    /// thirty days, and with other sealed bytes.
    pub(crate) fn grow(&mut self, stored: usize) -> Result<()> {
        let db = Connection::open(self.home.store())?;
        db.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA cache_size = -500000; BEGIN")?;
        db.execute(
            "CREATE TEMP TABLE many AS
             WITH RECURSIVE numbers (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2)
             SELECT n, 'cx_' || lower(hex(randomblob(11))) AS id, abs(random() % 2592000000) AS later FROM numbers",
            [i64::try_from(self.stored + 1)?, i64::try_from(stored)?],
        )?;
        copy(&db, "connections", |column| match column {
            "id" => "many.id",
            "user" | "account_id" => "many.n",
            _ => "",
        })?;
        copy(&db, "grants", |column| match column {
            "connection" => "many.id",
            "access" | "refresh" => "randomblob(600)",
            "expires_at" | "renew_at" | "due_at" => "first.{} + many.later",
            _ => "",
        })?;
        db.execute_batch("COMMIT; PRAGMA journal_mode = WAL")?;
        db.close().map_err(|(_, error)| error)?;
        self.stored = stored;
        Ok(())
    }

    /// Ticks of a broker in this process.
    pub(crate) async fn ticks(&self) -> Result<Ticks> {
        let engine = Engine::open(&self.home.store(), &self.home.root).await?;
        let broker = engine.broker().await?;
        let mut times = Vec::new();
        for _ in 0..TICKS {
            let started = Instant::now();
            broker.renew_due().await?;
            times.push(started.elapsed());
        }
        if engine.sandbox.ledger().refreshed() > 0 {
            return Err("something was due".into());
        }
        let started = Instant::now();
        broker.housekeep().await?;
        let housekeep = started.elapsed();
        broker.drain(Duration::from_secs(10)).await;
        Ok(Ticks { p50: share_of(&mut times, 0.5), p99: share_of(&mut times, 0.99), housekeep })
    }

    /// Starts the daemon as after a reboot, with nothing of the store in the page cache, and lets it serve for a while.
    pub(crate) async fn start(&self) -> Result<Started> {
        let file = File::open(self.home.store())?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        let (daemon, ready) = block_in_place(|| self.home.serve(self.sandbox.url()))?;
        let (rss_ready, served) = (daemon.rss()?, Instant::now());
        block_in_place(|| (0..SERVED).try_for_each(|_| self.ask()))?;
        tokio::time::sleep(SERVING.saturating_sub(served.elapsed())).await;
        let file = fs::metadata(self.home.store())?.len() as f64 / f64::from(1 << 20);
        Ok(Started { ready, rss_ready, rss_served: daemon.rss()?, file })
    }

    fn ask(&self) -> Result<()> {
        let mut stream = UnixStream::connect(self.home.socket())?;
        stream.write_all(
            b"POST /v1/token HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
              content-length: 22\r\n\r\n{\"provider\":\"sandbox\"}",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let is_token = answer.starts_with("HTTP/1.1 200");
        if is_token { Ok(()) } else { Err(format!("no token: {}", answer.lines().next().unwrap_or_default()).into()) }
    }
}

/// Copies the first row of a table for each row of `many`. `instead` names what stands in a column of the copy.
fn copy(db: &Connection, table: &str, instead: impl Fn(&str) -> &str) -> Result<()> {
    let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let columns: Vec<String> = statement.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let values: Vec<String> = columns
        .iter()
        .map(|column| match instead(column) {
            "" => format!("first.{column}"),
            value => value.replace("{}", column),
        })
        .collect();
    db.execute(
        &format!(
            "INSERT INTO {table} ({}) SELECT {} FROM (SELECT * FROM {table} ORDER BY rowid LIMIT 1) AS first, many ORDER BY many.id",
            columns.join(", "),
            values.join(", ")
        ),
        [],
    )?;
    Ok(())
}
