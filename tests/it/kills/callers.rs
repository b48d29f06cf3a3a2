//! Callers who ask all the time, whoever is there to answer, and keep a diary of what they got.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grantd::clock::{Clock as _, SystemClock};
use grantd::sandbox::Fingerprint;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::ask::{Answer, ask};
use crate::support::dice::Dice;

/// One token that somebody got.
pub struct Served {
    pub caller: usize,
    pub account: String,
    pub token: Fingerprint,
}

/// What the callers know of each other.
#[derive(Default)]
pub struct Diary {
    over: AtomicBool,
    /// What they were given, in order for each caller.
    pub served: Mutex<Vec<Served>>,
    /// The accounts that they ask for.
    pub accounts: Mutex<Vec<String>>,
    /// The accounts that a person has to connect again, and why.
    pub refused: Mutex<BTreeMap<String, String>>,
}

pub struct Callers {
    pub diary: Arc<Diary>,
    tasks: JoinSet<()>,
}

impl Callers {
    pub fn start(count: usize, socket: &std::path::Path, dice: &mut Dice) -> Self {
        let diary = Arc::new(Diary::default());
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let caller = Caller { number, socket: socket.to_owned(), diary: Arc::clone(&diary), dice: dice.split() };
            tasks.spawn(caller.keep_asking());
        }
        Self { diary, tasks }
    }

    /// Lets them finish. Fails if one of them was told something that is never said.
    pub async fn stop(&mut self) {
        self.diary.over.store(true, Ordering::Relaxed);
        while let Some(caller) = self.tasks.join_next().await {
            caller.unwrap();
        }
    }

    /// Fails at once if a caller has failed.
    pub fn check(&mut self) {
        while let Some(caller) = self.tasks.try_join_next() {
            caller.unwrap();
        }
    }
}

impl Diary {
    /// The accounts that nobody was refused.
    pub fn living(&self) -> Vec<String> {
        let refused = self.refused.lock().unwrap();
        self.accounts.lock().unwrap().iter().filter(|account| !refused.contains_key(*account)).cloned().collect()
    }
}

struct Caller {
    number: usize,
    socket: PathBuf,
    diary: Arc<Diary>,
    dice: Dice,
}

impl Caller {
    async fn keep_asking(mut self) {
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        while !self.diary.over.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(2 + self.dice.below(8))).await;
            let living = self.diary.living();
            if living.is_empty() {
                continue;
            }
            let index = usize::try_from(self.dice.below(living.len() as u64)).unwrap();
            let account = &living[index];
            // Every third request says that the provider's API refused the token, which makes a refresh due.
            let rejected = last.get(account).filter(|_| self.dice.below(3) == 0);
            let body = json!({"provider": "sandbox", "account": account, "connect": false, "rejected": rejected});
            let asked = SystemClock.now();
            // The daemon may be away.
            let Ok(answer) = ask(&self.socket, "POST", "/v1/token", Some(body)).await else { continue };
            match answer.status {
                200 => {
                    let dies = answer.json["expires_at"].as_i64().unwrap();
                    assert!(dies >= asked.as_secs(), "a dead token was served: {answer:?}");
                    assert_eq!(answer.json["account"]["id"], Value::from(account.as_str()));
                    last.insert(account.clone(), answer.text("token_id").to_owned());
                    self.note(account, &answer);
                }
                409 => {
                    assert_eq!(answer.text("error"), "reconnect_required", "{answer:?}");
                    let reason = answer.text("reason").to_owned();
                    self.diary.refused.lock().unwrap().insert(account.clone(), reason);
                }
                502..=504 => {}
                _ => panic!("{answer:?}"),
            }
        }
    }

    fn note(&self, account: &str, answer: &Answer) {
        let token = Fingerprint::of(answer.text("access_token"));
        self.diary.served.lock().unwrap().push(Served { caller: self.number, account: account.to_owned(), token });
    }
}
