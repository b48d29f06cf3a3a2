//! What upsets a daemon: it is gone, it stops, its store is locked or an older one, and people connect and disconnect.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use grantd::clock::Clock as _;
use grantd::sandbox::{Fault, Kind, Secret, What, When};
use grantd::store::records::Extent;

use super::consent;
use super::event::SPOOLED_MS;
use super::life::{Life, ask, caller};
use super::model::{Account, unanswered};
use super::stage::{Stage, TOKEN_LIFE};

/// How long a refresh takes that something is to happen to.
const UNDER_WAY: Duration = Duration::from_millis(40);

impl Stage {
    /// Has a refresh of an account under way, if that can be had.
    pub(super) fn launch(&self, account: usize) {
        // Whatever was scripted before gives way: it has to last until something happens to it.
        self.sandbox.clear_faults();
        self.sandbox.script(Fault::of_refresh(When::Next(1), What::Delay(UNDER_WAY)));
        let sent = self.sandbox.ledger().refreshes().count();
        let (life, known) = (self.life(), &self.accounts[account]);
        let (broker, name, rejected) = (Arc::clone(&life.broker), known.name.clone(), known.token_ids.last().cloned());
        life.start_behind(async move {
            let _ = ask(&broker, name, TOKEN_LIFE, rejected).await;
        });
        for _ in 0..40 {
            if self.sandbox.ledger().refreshes().count() > sent {
                return;
            }
            sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn crash(&mut self, asked: Option<usize>, after_ms: u64) -> Result<(), String> {
        let before = self.sandbox.ledger().entries().len();
        if let Some(account) = asked {
            let (life, known) = (self.life(), &self.accounts[account]);
            let (broker, name, rejected) =
                (Arc::clone(&life.broker), known.name.clone(), known.token_ids.last().cloned());
            life.start_behind(async move {
                let _ = ask(&broker, name, Duration::ZERO, rejected).await;
            });
        } else {
            let broker = Arc::clone(&self.life().broker);
            self.life().start_behind(async move {
                let _ = (broker.keep_time().await, broker.renew_due().await);
            });
        }
        sleep(Duration::from_millis(after_ms));
        self.vanish()?;
        self.unlock();
        self.start();
        // What had come long enough ago is in the spool at least.
        self.write_off(if after_ms >= SPOOLED_MS { before } else { self.looked })
    }

    /// The daemon is gone, and the provider has done with what it had sent.
    pub(super) fn vanish(&mut self) -> Result<(), String> {
        self.life.take().expect("there is always a life").vanish();
        self.known.crashes += 1;
        self.replaced.clear();
        self.eventually("the provider has answered", |stage| unanswered(&stage.sandbox.ledger()) == 0)
    }

    /// What was on its way to the daemon when it was gone is lost, unless it is in the store or the spool.
    pub(super) fn write_off(&mut self, from: usize) -> Result<(), String> {
        self.unlock();
        self.quiet()?;
        let (ledger, rows) = (self.sandbox.ledger(), self.rows()?);
        for (account, row) in self.accounts.iter_mut().zip(rows) {
            let Some(row) = row else { continue };
            let before = account.destroyed.len();
            if account.owed(&ledger) != row.refresh {
                account.lose(&ledger, from, row.refresh);
            }
            let dropped = ledger.entries()[from..].iter().any(|entry| {
                (entry.kind, entry.what, entry.grant) == (Kind::Dropped, Secret::Refresh, Some(account.grant))
            });
            if dropped || account.destroyed.len() > before {
                self.known.excused.insert(account.grant);
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self) {
        self.life = Some(Life::start(self.home.path(), &self.keys, &self.clock));
    }

    pub(super) fn stop(&mut self) {
        self.life.take().expect("there is always a life").stop();
        self.replaced.clear();
    }

    pub(super) fn restart(&mut self) -> Result<(), String> {
        self.stop();
        self.unlock();
        self.start();
        Ok(())
    }

    pub(super) fn lock(&mut self, for_ms: u64) {
        self.unlock();
        let path = self.home.path().join("grantd.db");
        let (tell, locked) = std::sync::mpsc::channel();
        self.lock = Some(std::thread::spawn(move || {
            let database = rusqlite::Connection::open(path).unwrap();
            database.busy_timeout(Duration::from_secs(5)).unwrap();
            let done = database.execute_batch("BEGIN EXCLUSIVE");
            let _ = tell.send(());
            if done.is_ok() {
                sleep(Duration::from_millis(for_ms));
                let _ = database.execute_batch("ROLLBACK");
            }
        }));
        let _ = locked.recv();
    }

    pub(super) fn unlock(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.join().unwrap();
        }
    }

    pub(super) fn connect(&mut self, account: usize, mid_flight: bool) {
        self.unlock();
        if mid_flight {
            self.launch(account);
        }
        let again = self.consent(&account.to_string());
        let known = &mut self.accounts[account];
        self.replaced.push((known.grant, self.sandbox.ledger().entries().len()));
        *known = Account { token_ids: std::mem::take(&mut known.token_ids), ..again };
    }

    /// A person connects the account, in a browser.
    pub(super) fn consent(&self, name: &str) -> Account {
        let life = self.life();
        let issued = self.sandbox.give(grantd::sandbox::DEFAULT_CLIENT, "u-1001", &["read"]).unwrap();
        let grant = issued.grant;
        let now = self.clock.now();
        let id = life.run(consent::given(&life.broker, &*life.store, &self.keys.ring(), name, issued, now));
        let row = life.run(life.store.connection(&id)).unwrap().unwrap();
        let version = row.grants[0].version;
        Account {
            name: name.to_owned(),
            id,
            connected: true,
            grant,
            stored: (version.epoch.0, version.generation.0),
            handed: (version.epoch.0, 0),
            token_ids: Vec::new(),
            destroyed: HashSet::new(),
        }
    }

    pub(super) fn disconnect(&mut self, account: usize, mid_flight: bool) -> Result<(), String> {
        if !self.accounts[account].connected {
            return Ok(());
        }
        self.unlock();
        if mid_flight {
            self.launch(account);
        }
        let (life, id) = (self.life(), self.accounts[account].id.clone());
        let done = life.run(life.broker.disconnect(&caller(), &id, Extent::Alone));
        done.map_err(|error| format!("a disconnect failed: {error}"))?;
        self.accounts[account].connected = false;
        self.replaced.push((self.accounts[account].grant, self.sandbox.ledger().entries().len()));
        // Nobody may be served from now on, whatever is still under way.
        self.asked(account, Duration::ZERO, None, 1).map(drop)
    }

    pub(super) fn copy(&mut self) -> Result<(), String> {
        self.unlock();
        self.quiet()?;
        self.stop();
        fs::copy(self.home.path().join("grantd.db"), self.home.path().join("copy")).unwrap();
        self.copy = Some(self.accounts.clone());
        self.start();
        Ok(())
    }

    pub(super) fn put_back(&mut self, crash: bool) -> Result<(), String> {
        let Some(copied) = self.copy.clone() else { return Ok(()) };
        if crash {
            let before = self.sandbox.ledger().entries().len();
            self.launch(0);
            self.lock(SPOOLED_MS + 150);
            sleep(Duration::from_millis(SPOOLED_MS));
            self.is_safe_by_now(0, before)?;
            self.vanish()?;
        } else {
            self.stop();
        }
        self.unlock();
        self.look_at_ledger()?;
        for rest in ["grantd.db-wal", "grantd.db-shm"] {
            let _ = fs::remove_file(self.home.path().join(rest));
        }
        fs::copy(self.home.path().join("copy"), self.home.path().join("grantd.db")).unwrap();
        self.start();
        self.quiet()?;
        let ledger = self.sandbox.ledger();
        let now = std::mem::replace(&mut self.accounts, copied);
        let rows = self.rows()?;
        let mut is_older = false;
        for ((account, row), before) in self.accounts.iter_mut().zip(rows).zip(now) {
            is_older |= (before.id == account.id) && before.stored > account.stored;
            account.token_ids = before.token_ids;
            let Some(row) = row else { continue };
            account.lose(&ledger, 0, row.refresh);
            self.known.excused.insert(account.grant);
            self.known.put_back.insert(account.grant);
            (account.stored, account.handed) = (row.version, (row.version.0, 0));
        }
        let held = self.life().run(self.life().store.hold()).map_err(|error| error.to_string())?;
        if held.is_none() && is_older {
            return Err("an old copy was put back, and nothing is held".to_owned());
        }
        if held.is_some() && self.class.is_single_use() {
            self.known.forbidden.extend(ledger.of(Kind::Issued, Secret::Refresh).map(|entry| entry.fingerprint));
        }
        Ok(())
    }

    pub(super) fn accept(&mut self) {
        self.unlock();
        let life = self.life();
        life.run(life.broker.accept_restore(&caller())).unwrap();
        self.known.forbidden.clear();
    }
}
