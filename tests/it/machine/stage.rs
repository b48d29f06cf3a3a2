//! Where a script is played: a provider, two clocks, a home, and one life of the daemon after the other.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use grantd::broker::error::BrokerError;
use grantd::broker::token::Handout;
use grantd::clock::{Clock as _, ManualClock};
use grantd::model::connection::State;
use grantd::model::id::TokenId;
use grantd::model::time::Timestamp;
use grantd::sandbox::{BodyKind, Fault, Fingerprint, GrantId, Kind, Ledger, Options, Sandbox, Secret, What, When};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::class::Class;
use super::event::{ACCOUNTS, Answer, Ask, Event};
use super::life::{Keys, Life, ask};
use super::model::{Account, unanswered};
use super::promises::had_it_coming;
use super::promises::{self, Row};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// How long an access token lives.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// How long anything may take that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(4);
/// How many looks in a row must show the same for it to be quiet.
const QUIET: usize = 4;

/// What is known of the whole.
#[derive(Debug, Default)]
pub struct Known {
    /// Refresh tokens that must not be sent while the store is held.
    pub forbidden: HashSet<Fingerprint>,
    /// Grants of which a token was destroyed, or an old copy was put back.
    pub excused: HashSet<GrantId>,
    /// Grants of which an old copy was put back.
    pub put_back: HashSet<GrantId>,
    /// What the provider was told to do.
    pub scripted: Vec<Answer>,
    /// How often the daemon was gone.
    pub crashes: usize,
}

/// Where a script is played.
pub struct Stage {
    pub(super) class: Class,
    pub(super) truth: Arc<ManualClock>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) sandbox: Sandbox,
    /// What the sandbox runs on.
    pub(super) _provider: Runtime,
    pub(super) home: TempDir,
    pub(super) keys: Keys,
    pub(super) life: Option<Life>,
    pub(super) lock: Option<JoinHandle<()>>,
    pub(super) accounts: Vec<Account>,
    pub(super) copy: Option<Vec<Account>>,
    pub(super) known: Known,
    /// Grants that a person has replaced in this life, and where the ledger stood.
    pub(super) replaced: Vec<(GrantId, usize)>,
    /// Up to where everything that the provider sent is known to be ours.
    pub(super) looked: usize,
    /// Up to where what it was sent is known to be right.
    pub(super) read: usize,
    pub(super) handouts: usize,
    pub(super) unavailable: usize,
}

impl Stage {
    /// With all accounts connected.
    pub fn new(class: Class) -> Self {
        let provider = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (truth, clock) = (Arc::new(ManualClock::at(NOW)), Arc::new(ManualClock::at(NOW)));
        let options = Options {
            clock: Arc::clone(&truth) as _,
            access_ttl: TOKEN_LIFE,
            rotation: class.rotation(),
            ..Options::default()
        };
        let sandbox = provider.block_on(Sandbox::start(options)).unwrap();
        let (home, keys) = (tempfile::tempdir().unwrap(), Keys::make());
        fs::create_dir(home.path().join("providers.d")).unwrap();
        fs::write(home.path().join("providers.d/sandbox.yaml"), class.definition(sandbox.url())).unwrap();
        let life = Some(Life::start(home.path(), &keys, &clock));
        let mut stage = Self {
            class,
            truth,
            clock,
            sandbox,
            _provider: provider,
            home,
            keys,
            life,
            lock: None,
            accounts: Vec::new(),
            copy: None,
            known: Known::default(),
            replaced: Vec::new(),
            looked: 0,
            read: 0,
            handouts: 0,
            unavailable: 0,
        };
        for account in 0..ACCOUNTS {
            let connected = stage.consent(&account.to_string());
            stage.accounts.push(connected);
        }
        stage
    }

    /// What the script has stirred.
    pub fn summary(&self) -> String {
        let ledger = self.sandbox.ledger();
        let destroyed: usize = self.accounts.iter().map(|account| account.destroyed.len()).sum();
        format!(
            "{:?}: {} handed out, {} unavailable, {} sent, {} refreshed, {destroyed} destroyed, {} crashes, {:?}",
            self.class,
            self.handouts,
            self.unavailable,
            ledger.refreshes().count(),
            ledger.refreshed(),
            self.known.crashes,
            ledger.refusals()
        )
    }

    /// Lets it happen.
    pub fn play(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Pass { seconds } => self.pass(seconds),
            Event::Set { seconds } => self.clock.jump(seconds * 1000),
            Event::Tick => return self.tick(),
            Event::Ask { account, how, callers } => return self.ask(account, how, callers),
            Event::Next { answer } => self.script(answer),
            Event::Crash { asked, after_ms } => return self.crash(asked, after_ms),
            Event::Stop => return self.restart(),
            Event::Lock { for_ms, mid_flight } => {
                if mid_flight {
                    self.launch(0);
                }
                self.lock(for_ms);
            }
            Event::Connect { account, mid_flight } => self.connect(account, mid_flight),
            Event::Disconnect { account, mid_flight } => return self.disconnect(account, mid_flight),
            Event::Copy => return self.copy(),
            Event::PutBack { crash } => return self.put_back(crash),
            Event::Accept => self.accept(),
        }
        Ok(())
    }

    /// Looks whether every promise is kept. While the store is locked, only at what the provider has seen.
    pub fn look(&mut self) -> Result<(), String> {
        self.look_at_ledger()?;
        if self.lock.as_ref().is_some_and(|lock| !lock.is_finished()) {
            return Ok(());
        }
        self.unlock();
        self.quiet()?;
        let started = Instant::now();
        let rows = loop {
            let ledger = self.sandbox.ledger();
            let rows = self.rows()?;
            let broken = rows.iter().zip(&self.accounts).try_for_each(|(row, account)| {
                row.as_ref().map_or(Ok(()), |row| promises::of_row(self.class, row, account, &ledger, &self.known))
            });
            match broken.and_then(|()| self.given_back(&ledger)) {
                Ok(()) => {
                    self.looked = ledger.entries().len();
                    break rows;
                }
                Err(broken) if started.elapsed() > Duration::from_secs(4) => return Err(broken),
                Err(_) => sleep(LOOK),
            }
        };
        for (row, account) in rows.into_iter().zip(&mut self.accounts) {
            if let Some(row) = row {
                account.stored = row.version;
            }
        }
        Ok(())
    }

    pub(super) fn look_at_ledger(&mut self) -> Result<(), String> {
        let ledger = self.sandbox.ledger();
        promises::of_ledger(&ledger, self.read, &self.known)?;
        self.read = ledger.entries().len();
        Ok(())
    }

    /// The provider is well, the clocks go on, the store is free, and an administrator says that all is good. Then every account
    /// that is connected is renewed, or has been condemned by the provider itself.
    pub fn calm_down(&mut self) -> Result<(), String> {
        self.unlock();
        self.sandbox.clear_faults();
        self.accept();
        let calm = self.truth.now().as_millis();
        let started = Instant::now();
        let mut waiting: Vec<usize> = (0..ACCOUNTS).collect();
        while !waiting.is_empty() {
            let mut why = Vec::new();
            self.pass(900);
            self.tick()?;
            self.look()?;
            for account in std::mem::take(&mut waiting) {
                let state = self.is_well(account, calm)?;
                if let Some(state) = state {
                    why.push(format!("account {account}: {state}"));
                    waiting.push(account);
                }
            }
            if started.elapsed() > PATIENCE + PATIENCE {
                return Err(format!("not all is well: {why:?}"));
            }
            if !waiting.is_empty() {
                sleep(Duration::from_millis(20));
            }
        }
        self.look()
    }

    /// What an account still waits for.
    pub(super) fn is_well(&mut self, account: usize, calm: i64) -> Result<Option<String>, String> {
        if !self.accounts[account].connected {
            return Ok(None);
        }
        let answers = self.asked(account, Duration::ZERO, None, 1)?;
        match &answers[0] {
            Ok(handout) => {
                let known = Fingerprint::of(handout.granted.token.access_token.expose());
                let ledger = self.sandbox.ledger();
                let issued = ledger.of(Kind::Issued, Secret::Access).find(|entry| entry.fingerprint == known);
                let fresh = issued.is_some_and(|entry| entry.at_ms >= calm);
                Ok((!fresh).then(|| "has an old token".to_owned()))
            }
            Err(BrokerError::ReconnectRequired { reason, .. }) => {
                if had_it_coming(self.class, &self.accounts[account], &self.known) {
                    return Ok(None);
                }
                Err(format!("account {account} needs a person ({reason:?}), and nothing was done to it"))
            }
            Err(other) => Ok(Some(format!("{other}"))),
        }
    }

    /// The daemon looks at its clocks every second, so that it has done so before much time passes.
    pub(super) fn pass(&self, seconds: u64) {
        let advance = |seconds| {
            self.truth.advance(Duration::from_secs(seconds));
            self.clock.advance(Duration::from_secs(seconds));
        };
        advance(1);
        let life = self.life();
        // A store that is locked makes it fail, after it has noted what the clocks say.
        let _ = life.run(life.broker.keep_time());
        advance(seconds - 1);
    }

    pub(super) fn tick(&mut self) -> Result<(), String> {
        let life = self.life();
        // A store that is locked makes it fail; the next tick comes.
        let _ = life.run(async { (life.broker.keep_time().await, life.broker.renew_due().await) });
        self.unlock();
        self.quiet()
    }

    pub(super) fn ask(&mut self, account: usize, how: Ask, callers: usize) -> Result<(), String> {
        let ids = &self.accounts[account].token_ids;
        let (min_ttl, rejected) = match how {
            Ask::Plain => (Duration::from_secs(60), None),
            Ask::MinTtl { seconds } => (Duration::from_secs(seconds), None),
            Ask::RejectedLatest => (Duration::ZERO, ids.last().cloned()),
            Ask::RejectedOld => (Duration::ZERO, ids.first().cloned()),
        };
        self.asked(account, min_ttl, rejected, callers).map(drop)
    }

    /// Asks, and looks at every answer.
    pub(super) fn asked(
        &mut self,
        account: usize,
        min_ttl: Duration,
        rejected: Option<TokenId>,
        callers: usize,
    ) -> Result<Vec<Result<Handout, BrokerError>>, String> {
        let (life, name) = (self.life(), self.accounts[account].name.clone());
        let asking = (0..callers).map(|_| ask(&life.broker, name.clone(), min_ttl, rejected.clone()));
        let answers: Option<Vec<_>> = life.run(join_all(asking)).into_iter().collect();
        let answers = answers.ok_or("a caller waits for ever")?;
        let (ledger, truth) = (self.sandbox.ledger(), self.truth.now().as_millis());
        for handout in answers.iter().flatten() {
            promises::of_handout(handout, &self.accounts[account], rejected.as_ref(), &ledger, truth)?;
            self.is_durable(&self.accounts[account], handout)?;
        }
        for answer in &answers {
            let Ok(handout) = answer else {
                self.unavailable += 1;
                continue;
            };
            self.handouts += 1;
            let (token, known) = (&handout.granted.token, &mut self.accounts[account]);
            known.handed = known.handed.max((known.stored.0, token.generation.0));
            if known.token_ids.last() != Some(&token.token_id) {
                known.token_ids.push(token.token_id.clone());
            }
        }
        Ok(answers)
    }

    /// Whatever is handed out is in the store by then, or in the spool; or the store has gone on.
    pub(super) fn is_durable(&self, account: &Account, handout: &Handout) -> Result<(), String> {
        let token = &handout.granted.token;
        let is_stored = || {
            let found = self.life().run(self.life().store.connection(&account.id)).ok().flatten();
            let grant = found.and_then(|stored| stored.grants.into_iter().next());
            grant.is_some_and(|grant| {
                grant.content.token_id == token.token_id || grant.version.generation > token.generation
            })
        };
        // It may move from the spool to the store while we look.
        if is_stored() || self.is_spooled(account) || is_stored() {
            return Ok(());
        }
        Err(format!("generation {} was handed out and is neither stored nor spooled", token.generation.0))
    }

    pub(super) fn is_spooled(&self, account: &Account) -> bool {
        let mut names = fs::read_dir(self.home.path().join("spool")).unwrap().map(|file| file.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with(account.id.as_str()))
    }

    /// What came for an account while the store was locked is in the spool, though the store may take it later.
    pub(super) fn is_safe_by_now(&self, account: usize, from: usize) -> Result<(), String> {
        let (ledger, account) = (self.sandbox.ledger(), &self.accounts[account]);
        let came = ledger.entries()[from..].iter().any(|entry| {
            (entry.kind, entry.what, entry.grant) == (Kind::Delivered, Secret::Access, Some(account.grant))
        });
        let rows = self.rows()?;
        let unmoved = rows.iter().flatten().any(|row| row.connection.id == account.id && row.version == account.stored);
        if account.connected && came && unmoved && !self.is_spooled(account) {
            return Err("what came while the store was locked is neither stored nor spooled".to_owned());
        }
        Ok(())
    }

    pub(super) fn script(&mut self, answer: Answer) {
        let what = match answer {
            Answer::Lost => What::DropAfterProcessing,
            Answer::Broken => What::Status { code: 500, body: BodyKind::Empty },
            Answer::TooMany => What::RetryAfter { code: 429, value: "1".to_owned() },
            Answer::Refused => What::OAuthError("invalid_grant".to_owned()),
            Answer::Truncated => What::Truncate(20),
            Answer::Slow { ms } => What::Delay(Duration::from_millis(ms)),
        };
        self.known.scripted.push(answer);
        self.sandbox.script(Fault::of_refresh(When::Next(1), what));
    }

    /// What came for a grant after a person had replaced or ended it was given back.
    pub(super) fn given_back(&self, ledger: &Ledger) -> Result<(), String> {
        let ended = |id: GrantId| self.sandbox.grants().iter().any(|grant| grant.id == id && grant.ended.is_some());
        let kept = self.replaced.iter().find(|(grant, from)| {
            let came = ledger.entries()[*from..]
                .iter()
                .any(|entry| (entry.kind, entry.what, entry.grant) == (Kind::Delivered, Secret::Access, Some(*grant)));
            came && !ended(*grant)
        });
        match kept {
            Some((grant, _)) => Err(format!("what came for {grant:?} after it had been replaced was not given back")),
            None => Ok(()),
        }
    }

    /// The accounts as the store has them; `None` where all of it is wiped.
    pub(super) fn rows(&self) -> Result<Vec<Option<Row>>, String> {
        let life = self.life();
        let row = |account: &Account| {
            let found = life.run(life.store.connection(&account.id)).map_err(|error| error.to_string())?;
            let stored = found.ok_or_else(|| format!("account {} is gone from the store", account.name))?;
            if !account.connected && stored.connection.state == State::Revoked {
                return Ok(None);
            }
            let grant = stored.grants.first().ok_or_else(|| format!("account {} has lost its grant", account.name))?;
            Row::of(&self.keys, stored.connection, grant).map(Some)
        };
        self.accounts.iter().map(row).collect()
    }

    /// Waits until nothing is under way.
    pub(super) fn quiet(&self) -> Result<(), String> {
        let (mut still, mut seen) = (0, usize::MAX);
        self.eventually("nothing is under way", |stage| {
            let (ledger, life) = (stage.sandbox.ledger(), stage.life());
            let metrics = life.run(life.broker.metrics()).unwrap_or_default();
            let none = metrics.lines().any(|line| line == "grantd_flights 0") && unanswered(&ledger) == 0;
            still = if none && ledger.entries().len() == seen { still + 1 } else { 0 };
            seen = ledger.entries().len();
            still >= QUIET
        })
    }

    pub(super) fn eventually(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) -> Result<(), String> {
        let started = Instant::now();
        while !is_so(self) {
            if started.elapsed() > PATIENCE {
                return Err(format!("it never came that {what}"));
            }
            sleep(LOOK);
        }
        Ok(())
    }

    pub(super) fn life(&self) -> &Life {
        self.life.as_ref().expect("there is always a life")
    }
}
