//! `descope-gitops notify-test`: one message to each receiver, so that nobody finds out in an emergency that none arrives.

use crate::cli::Exit;
use crate::cli::UsageError;
use crate::cli::output;
use crate::config::Config;
use crate::config::process_env;
use crate::notifications::delivery;
use crate::notifications::message;
use crate::telemetry::redact::Redactor;
use crate::telemetry::status::rfc3339;
use anyhow::bail;
use std::io::Write;
use std::time::SystemTime;

/// None of its own.
#[derive(Debug, Clone, clap::Args)]
pub struct NotifyTestArgs {}

/// Sends the messages; fails where one does not arrive. Needs no daemon, and tells nothing that one does.
pub async fn run(config: &Config, _args: &NotifyTestArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let receivers = config.receivers(&process_env)?;
    if receivers.is_empty() {
        bail!(UsageError("the settings have no `notifications`: nobody would be told anything".to_owned()));
    }
    let mut failed = 0;
    for receiver in &receivers {
        let now = SystemTime::now();
        let body = message::test(receiver.form, &rfc3339(now));
        match delivery::deliver(receiver, body, now, redactor).await {
            Ok(()) => writeln!(output::stdout(), "{}: the message arrived", receiver.name)?,
            Err(failure) => {
                failed += 1;
                writeln!(output::stdout(), "{}: {}", receiver.name, failure.reason)?;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} receivers did not get the message", receivers.len());
    }
    Ok(Exit::Done)
}
