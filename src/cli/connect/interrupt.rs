//! Ctrl-C and SIGTERM while a connect session is under way: the session is cancelled, and what had come is given back.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::api::wire::SessionBody;
use crate::cli::client::Client;
use crate::cli::connect::outcome;
use crate::cli::exit::{CliError, ExitCode};

/// How long the daemon is waited for: whoever interrupts wants an end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What says that this is to end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Cancels the session at `path`.
///
/// # Errors
/// What became of it, unless the person's yes had been there before.
pub(super) async fn cancelled(client: &Client, path: &str) -> Result<SessionBody, CliError> {
    let asked = async {
        client.delete::<serde_json::Value>(path).await.ok()?;
        client.get::<SessionBody>(path, Duration::ZERO).await.ok()
    };
    let message = match timeout(PATIENCE, asked).await {
        Ok(Some(session)) if session.status == "completed" => return Ok(session),
        Ok(Some(_)) => "cancelled: nothing was connected",
        Ok(None) | Err(_) => "interrupted; what was begun ends by itself, and nothing serves before you confirm it",
    };
    Err(CliError::new(ExitCode::Denied, message))
}

/// From now on a signal cancels the session at `path` and ends the process: for while a line is read, which a signal does not
/// interrupt.
pub(super) fn end_when_interrupted(client: &Client, path: &str) {
    let (client, path) = (client.clone(), path.to_owned());
    let (listening, listens) = mpsc::channel();
    thread::spawn(move || {
        if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
            let _ = runtime.block_on(end(&client, &path, listening));
        }
    });
    // Nobody has seen the question yet. A thread that could not begin has dropped its end.
    let _ = listens.recv();
}

async fn end(client: &Client, path: &str, listening: Sender<()>) -> io::Result<Infallible> {
    let mut signals = Signals::listen()?;
    drop(listening);
    signals.any().await;
    let mut err = io::stderr();
    // The question stands there without the end of its line.
    drop(writeln!(err));
    let code = match cancelled(client, path).await.and_then(|session| outcome::words(&session)) {
        Ok(text) => {
            drop(writeln!(io::stdout(), "{text}"));
            ExitCode::Ok
        }
        Err(error) => {
            drop(error.write(&mut err));
            error.code
        }
    };
    std::process::exit(code as i32)
}
