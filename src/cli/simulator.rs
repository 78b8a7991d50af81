//! `descope-gitops simulator`: serves the built-in stand-in for Descope.

use crate::cli::UsageError;
use crate::cli::output;
use crate::config;
use crate::simulator;
use crate::simulator::HeaderForm;
use crate::simulator::Honesty;
use crate::simulator::Limit;
use crate::simulator::LimitKind;
use crate::simulator::Neighbours;
use crate::simulator::Options;
use crate::simulator::RetryAfterForm;
use crate::simulator::Simulator;
use crate::simulator::Switches;
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

mod seed;

/// Flags of `descope-gitops simulator`.
#[derive(Debug, Args)]
#[command(after_long_help = switches_help())]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct SimulatorArgs {
    /// Address to listen on; port 0 takes a free one
    // Text, as in the flags of every command: clap reads both as one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8090")]
    pub listen: String,
    /// Requests per window, or `none`
    #[arg(long, default_value = "100/60s", value_parser = parse_rate_limit, value_name = "N/WINDOW")]
    pub rate_limit: RateLimit,
    /// How long everything is refused after a request over the limit; 0s: only what is over
    #[arg(long, default_value = "60s", value_parser = config::span, value_name = "DURATION")]
    pub lockout: Duration,
    /// Median round trip, 50ms; after a colon the spread (sigma) of a log-normal one, 50ms:0.4
    #[arg(long, default_value = "0ms", value_parser = parse_latency, value_name = "MEDIAN[:SIGMA]")]
    pub latency: Latency,
    /// Share of requests that meet a transient fault, 0.01
    #[arg(long, default_value = "0", value_parser = parse_share, value_name = "SHARE")]
    pub fault_rate: f64,
    /// Every draw follows from it
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub seed: u64,
    /// How requests are counted
    #[arg(long, value_enum, default_value = "fixed-window", value_name = "KIND")]
    pub limit_kind: LimitKind,
    /// Tokens that a bucket stores; as many as the rate limit unless given
    #[arg(long, value_name = "NUMBER")]
    pub burst: Option<f64>,
    /// What Retry-After says
    #[arg(long, value_enum, default_value = "seconds", value_name = "FORM")]
    pub retry_after: RetryAfterForm,
    /// A request refused during the lockout starts it anew
    #[arg(long)]
    pub extending_lockout: bool,
    /// The server's clock minus ours in seconds, seen with `--retry-after date`
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_name = "SECONDS")]
    pub clock_skew: i64,
    /// Requests per second of other callers behind the same limit; 0.5:20s/40s sends in the first 20 s of every minute
    #[arg(long, value_parser = parse_background, value_name = "RATE[:ON/OFF]")]
    pub background: Option<Neighbours>,
    /// How every answer says what is left of the limit; without it, none does
    #[arg(long, value_enum, value_name = "FORM")]
    pub rate_headers: Option<HeaderForm>,
    /// Whether what `--rate-headers` says is true
    #[arg(long, value_enum, default_value = "true", value_name = "WHAT", requires = "rate_headers")]
    pub rate_headers_say: Honesty,
    /// The only management key that is let in; any one unless given
    #[arg(long, value_name = "KEY")]
    pub management_key: Option<String>,
    /// Begin with what the files below this directory declare, such as an export of a real project; secrets are made up
    #[arg(long, value_name = "DIR")]
    pub seed_from: Option<PathBuf>,
    /// The project id that it lives in
    #[arg(long, value_name = "ID", env = "DESCOPE_PROJECT_ID", default_value = "P2seeded")]
    pub seed_project: String,
    /// Answers an open question of the API in another way; may be given more than once, see below
    #[arg(long = "set", value_name = "SWITCH=VALUE")]
    pub set: Vec<String>,
}

fn switches_help() -> String {
    let switches = simulator::describe();
    format!(
        "Switches, with their defaults. Set them with --set SWITCH=VALUE, or while it runs with\n\
         curl -X PUT http://ADDRESS:PORT/_sim/options -d '{{\"SWITCH\": VALUE}}':\n\n{switches}"
    )
}

/// `--rate-limit`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit(pub Option<(f64, Duration)>);

/// `--latency`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// The median.
    pub median: Duration,
    /// The spread; 0: none.
    pub sigma: f64,
}

/// Serves until `shutdown`. Errs when the address cannot be had.
pub async fn run(args: SimulatorArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listen = args.listen.clone();
    let seed = args.seed_from.clone().map(|dir| (dir, args.seed_project.clone()));
    let mut options = args.options()?;
    if let Some((dir, project)) = &seed {
        let state = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            state = seed::state(dir, project) => state?,
        };
        options.projects.insert(project.clone(), state);
    }
    let mut running = Simulator::start(options).await.with_context(|| format!("cannot listen on {listen}"))?;
    // Whoever started us with port 0 waits for this line.
    let mut out = output::stdout();
    writeln!(out, "simulator listening on {}", running.url())?;
    if let Some((dir, project)) = seed {
        writeln!(out, "project {project} begins with what {} declares; each other begins empty", dir.display())?;
    }
    out.flush()?;
    drop(out);
    tokio::select! {
        () = shutdown.cancelled() => {
            running.stop().await;
            Ok(())
        }
        () = running.ended() => anyhow::bail!("the simulator ended by itself"),
    }
}

impl SimulatorArgs {
    fn options(self) -> anyhow::Result<Options> {
        let limit = self.rate_limit.0.map(|(n, window)| Limit {
            kind: self.limit_kind,
            n,
            window,
            lockout: self.lockout,
            burst: self.burst,
            extending: self.extending_lockout,
            retry_after: self.retry_after,
            clock_skew: self.clock_skew,
            background: self.background,
            rate_headers: self.rate_headers,
            rate_headers_say: self.rate_headers_say,
        });
        if let Some(limit) = &limit {
            limit.check().map_err(UsageError)?;
        }
        let mut switches = Switches {
            latency: self.latency.median,
            latency_sigma: self.latency.sigma,
            fault_rate: self.fault_rate,
            management_key: self.management_key,
            ..Switches::default()
        };
        for set in &self.set {
            let (name, value) =
                set.split_once('=').ok_or_else(|| UsageError(format!("--set {set}: write SWITCH=VALUE")))?;
            switches = switches.with_one(name, value).map_err(|error| UsageError(format!("--set {set}: {error}")))?;
        }
        let listen: SocketAddr = self.listen.parse().map_err(|_| {
            UsageError(format!("--listen: {} is no address with a port; write 127.0.0.1:8090", self.listen))
        })?;
        Ok(Options { listen, seed: self.seed, limit, switches, ..Options::default() })
    }
}

fn parse_rate_limit(text: &str) -> Result<RateLimit, String> {
    Ok(RateLimit(parse_limit(text)?.map(|(n, window)| (f64::from(n), window))))
}

/// `N/WINDOW`, or nothing for `none`.
pub fn parse_limit(text: &str) -> Result<Option<(u32, Duration)>, String> {
    if text == "none" {
        return Ok(None);
    }
    let (n, window) = text.split_once('/').ok_or("write N/WINDOW, for example 100/60s, or none")?;
    let n = n.parse::<u32>().map_err(|_| format!("{n} is not a number of requests"))?;
    let window = config::span(window)?;
    if n == 0 || window.is_zero() {
        return Err("both numbers must be more than 0".to_owned());
    }
    Ok(Some((n, window)))
}

fn parse_latency(text: &str) -> Result<Latency, String> {
    let (median, sigma) = text.split_once(':').unwrap_or((text, "0"));
    let median = config::span(median)?;
    let sigma = sigma.parse().ok().filter(|sigma: &f64| (0.0..=5.0).contains(sigma));
    Ok(Latency { median, sigma: sigma.ok_or("the spread is a number from 0 to 5")? })
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1".to_owned())
}

fn parse_background(text: &str) -> Result<Neighbours, String> {
    let (rate, pause) = text.split_once(':').map_or((text, None), |(rate, pause)| (rate, Some(pause)));
    let rate = rate.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
    let rate = rate.ok_or("the rate is a number of requests per second")?;
    let (on, off) = match pause {
        Some(pause) => pause.split_once('/').ok_or("write RATE:ON/OFF, for example 0.5:20s/40s")?,
        None => ("0s", "0s"),
    };
    Ok(Neighbours { rate, on: config::span(on)?, off: config::span(off)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::UnknownFields;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulatorArgs,
    }

    fn options(flags: &[&str]) -> Result<Options, String> {
        let line = Line::try_parse_from(std::iter::once("simulator").chain(flags.iter().copied()));
        line.map_err(|error| error.to_string())?.args.options().map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_it_is_as_descope_documents_itself() {
        let options = options(&[]).unwrap();

        assert_eq!(options.limit, Some(Limit::default()));
        assert_eq!(options.listen.to_string(), "127.0.0.1:8090");
        assert_eq!(options.switches, Switches::default());
    }

    #[test]
    fn every_flag_arrives() {
        let options = options(&[
            "--rate-limit=50/10s",
            "--lockout=5s",
            "--limit-kind=token-bucket",
            "--burst=20",
            "--retry-after=date",
            "--extending-lockout",
            "--clock-skew=-90",
            "--background=0.5:20s/40s",
            "--rate-headers=x-epoch",
            "--rate-headers-say=stale",
            "--latency=20ms:0.3",
            "--seed=7",
            "--set=unknownFields=ignore",
            "--set=readDelay=2s",
        ])
        .unwrap();

        let background = Neighbours { rate: 0.5, on: Duration::from_secs(20), off: Duration::from_secs(40) };
        let limit = Limit {
            kind: LimitKind::TokenBucket,
            n: 50.0,
            window: Duration::from_secs(10),
            lockout: Duration::from_secs(5),
            burst: Some(20.0),
            extending: true,
            retry_after: RetryAfterForm::Date,
            clock_skew: -90,
            background: Some(background),
            rate_headers: Some(HeaderForm::XEpoch),
            rate_headers_say: Honesty::Stale,
        };
        assert_eq!(options.limit, Some(limit));
        assert!((options.switches.latency_sigma - 0.3).abs() < f64::EPSILON);
        assert_eq!(options.seed, 7);
        assert_eq!(options.switches.unknown_fields, UnknownFields::Ignore);
        assert_eq!(options.switches.read_delay, Duration::from_secs(2));
    }

    #[test]
    fn none_is_no_limit_and_nonsense_is_refused() {
        assert_eq!(options(&["--rate-limit", "none"]).unwrap().limit, None);
        let bad = [
            "--rate-limit=100",
            "--rate-limit=0/60s",
            "--fault-rate=2",
            "--background=1:20s",
            "--burst=0",
            "--set=no=1",
        ];
        for flag in bad {
            assert!(options(&[flag]).is_err(), "{flag}");
        }
    }
}
