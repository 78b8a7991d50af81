//! SIGHUP says "look again, and give everything that waits a fresh try".

use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::telemetry::metrics::Metrics;
use std::io;
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;

/// Takes the signal over; before that it would end the process. Call it early, within the runtime.
pub fn listen() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Fires once per SIGHUP until `shutdown`.
pub async fn run(mut hangup: Signal, targets: Vec<TriggerSender>, metrics: Arc<Metrics>, shutdown: CancellationToken) {
    loop {
        let heard = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            heard = hangup.recv() => heard,
        };
        if heard.is_none() {
            // The runtime is going down.
            return;
        }
        tracing::info!("SIGHUP: looking again");
        metrics.source_events_total.with_label_values(&[Trigger::Signal.as_str()]).inc();
        for target in &targets {
            target.fire(Trigger::Signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::channel;

    #[tokio::test]
    async fn a_hangup_fires_to_every_project() {
        let (first, mut one) = channel();
        let (second, mut two) = channel();
        let metrics = Arc::new(Metrics::new());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let hangup = listen().unwrap();
        let rounds = async {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
            assert_eq!((one.recv().await, two.recv().await), (Trigger::Signal, Trigger::Signal));
            stop.cancel();
        };

        tokio::join!(run(hangup, vec![first, second], Arc::clone(&metrics), shutdown), rounds);

        assert_eq!(metrics.source_events_total.with_label_values(&["signal"]).get(), 1);
    }
}
