//! SIGINT and SIGTERM: the first one asks the command to stop, the second one does not ask.

use crate::telemetry::logs;
use std::io;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Listens while it lives.
#[derive(Debug)]
pub struct Signals {
    token: CancellationToken,
    _listener: JoinSet<()>,
}

impl Signals {
    /// Cancelled by the first signal.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

/// Starts to listen.
pub fn shutdown_on_signal() -> io::Result<Signals> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let mut listener = JoinSet::new();
    let first = token.clone();
    listener.spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        tracing::info!("stopping; a second signal stops at once");
        first.cancel();
        either(&mut interrupt, &mut terminate).await;
        tracing::warn!("stopped at once by a second signal");
        logs::flush();
        // Whatever is still under way does not listen, so nothing short of this is at once.
        std::process::exit(1);
    });
    Ok(Signals { token, _listener: listener })
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
