//! SIGINT and SIGTERM: the first one asks the command to stop, the second one does not ask. SIGHUP is as good as they are
//! where it does not mean anything else, so that a closed terminal cuts nothing off half-way.

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

/// Starts to listen, in a command whose SIGHUP the daemon takes.
pub fn shutdown_on_signal() -> io::Result<Signals> {
    listen(None)
}

/// Starts to listen, SIGHUP included unless whoever started the command had it ignored, as `nohup` does.
pub fn shutdown_on_hangup_too() -> io::Result<Signals> {
    let hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    listen(hangup)
}

fn listen(mut hangup: Option<Signal>) -> io::Result<Signals> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let mut listener = JoinSet::new();
    let first = token.clone();
    listener.spawn(async move {
        any(&mut interrupt, &mut terminate, &mut hangup).await;
        tracing::info!("stopping; a second signal stops at once");
        first.cancel();
        any(&mut interrupt, &mut terminate, &mut hangup).await;
        tracing::warn!("stopped at once by a second signal");
        logs::flush();
        // Whatever is still under way does not listen, so nothing short of this is at once.
        std::process::exit(1);
    });
    Ok(Signals { token, _listener: listener })
}

async fn any(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Option<Signal>) {
    let hung_up = async {
        match hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hung_up => {}
    }
}

/// Linux says it; elsewhere nothing is known, and SIGHUP asks to stop.
fn is_hangup_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// `SigIgn` is a mask in hexadecimal, and SIGHUP its first bit.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_sighup_is_ignored_is_read_from_the_mask() {
        assert!(ignores_hangup("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
