//! What a limiter tells its operator: status, metrics and log lines.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use prometheus::Gauge;
use prometheus::IntCounter;

use crate::limiter::machine::Machine;
use crate::limiter::machine::count;
use crate::limiter::minutes::Minutes;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::LimiterStatus;
use crate::telemetry::status::WayBackStatus;
use crate::telemetry::status::rfc3339;

/// A pause that becomes longer by less is told with what it was.
const LATER: Duration = Duration::from_secs(5);

/// Follows one machine and says what changed.
#[derive(Debug)]
pub(crate) struct Report {
    host: String,
    metrics: Arc<Metrics>,
    rate: Gauge,
    budget: Gauge,
    used: Gauge,
    paused_until: Gauge,
    throttled: IntCounter,
    throttled_by_minute: Minutes,
    requests_by_minute: Minutes,
    closed: bool,
    /// Until when, as it was said.
    said_until: Option<Duration>,
    /// Something was reported before: what is seen now happened in this run.
    began: bool,
    said_rate: Option<f64>,
}

impl Report {
    pub fn new(host: &str, metrics: Arc<Metrics>, machine: &Machine) -> Self {
        Self {
            host: host.to_owned(),
            rate: metrics.limiter_rate_requests_per_second.with_label_values(&[host]),
            budget: metrics.limiter_budget_requests.with_label_values(&[host]),
            used: metrics.limiter_budget_used_requests.with_label_values(&[host]),
            paused_until: metrics.limiter_paused_until_timestamp_seconds.with_label_values(&[host]),
            throttled: metrics.limiter_throttled_total.with_label_values(&[host]),
            throttled_by_minute: Minutes::default(),
            requests_by_minute: Minutes::default(),
            closed: false,
            said_until: None,
            began: false,
            said_rate: machine.rate(),
            metrics,
        }
    }

    pub fn answered(&mut self, now: Duration) {
        self.requests_by_minute.count(now);
    }

    pub fn throttled(&mut self, now: Duration) {
        self.throttled.inc();
        self.throttled_by_minute.count(now);
    }

    pub fn waited(&self, wait: Duration) {
        self.metrics.limiter_wait_seconds.observe(wait.as_secs_f64());
    }

    /// Brings the gauges up to date and logs what an operator wants to know.
    pub fn update(&mut self, machine: &mut Machine, now: Duration, clock: SystemTime) {
        let used = machine.used(now);
        self.rate.set(machine.rate().unwrap_or(f64::INFINITY));
        self.used.set(count(used));
        if let Machine::Budget(_) = machine {
            self.budget.set(machine.budget().unwrap_or(f64::INFINITY));
        }
        let opens = paused_until(machine, now, clock);
        self.paused_until.set(opens.map_or(0.0, unix));
        self.say_gate(machine, opens, now);
        self.say_limit(machine);
        self.began = true;
    }

    /// Says when the gate closes, how much longer it stays closed, and when it opens.
    fn say_gate(&mut self, machine: &Machine, opens: Option<SystemTime>, now: Duration) {
        let closed = machine.gate().is_closed();
        if closed && !self.closed {
            let rest = machine.gate().paused_until().unwrap_or(now).saturating_sub(now);
            let seconds = (rest.as_secs_f64() * 10.0).round() / 10.0;
            let before = if self.began { "" } else { " before the restart" };
            let until = opens.map(|at| humantime::format_rfc3339_seconds(at).to_string());
            tracing::warn!(
                host = self.host,
                seconds,
                until,
                "Descope's rate limit was hit{before}: no request is sent until the pause is over, then one as a trial"
            );
        } else if self.closed && !closed {
            tracing::info!(host = self.host, "Descope answers again after a rate limit: requests go out");
        }
        let until = machine.gate().paused_until().filter(|_| closed);
        if let (Some(until), Some(said)) = (until, self.said_until)
            && self.closed
            && until > said + LATER
        {
            let until = opens.map(|at| humantime::format_rfc3339_seconds(at).to_string());
            tracing::warn!(
                host = self.host,
                until,
                "Descope's rate limit still holds: no request is sent until that time"
            );
        }
        // What moves it a little is told with the rest.
        if !closed || self.said_until.is_none_or(|said| until.is_some_and(|until| until > said + LATER)) {
            self.said_until = until;
        }
        self.closed = closed;
    }

    /// Small steps add up before they are worth a line.
    fn say_limit(&mut self, machine: &Machine) {
        let rate = machine.rate();
        let (before, after) = (self.said_rate.unwrap_or(f64::INFINITY), rate.unwrap_or(f64::INFINITY));
        if after.total_cmp(&before).is_eq() || (after - before).abs() < 0.05 * before.min(after) {
            return;
        }
        self.said_rate = rate;
        tracing::info!(
            host = self.host,
            requests_per_second = after,
            requests_per_second_before = before,
            budget = machine.budget(),
            reason = machine.why(),
            "the limit that we keep to was adapted to Descope's answers"
        );
    }

    pub fn status(&self, machine: &mut Machine, now: Duration, clock: SystemTime) -> LimiterStatus {
        let (algorithm, adaptive) = match machine {
            Machine::Budget(_) => ("budget", None),
            Machine::Adaptive(adaptive) => ("adaptive", Some(adaptive.status())),
        };
        LimiterStatus {
            host: self.host.clone(),
            algorithm,
            requests_per_second: machine.rate(),
            budget: machine.budget(),
            used: machine.used(now),
            paused_until: paused_until(machine, now, clock).map(rfc3339),
            free_at: None,
            way_back: way_back(machine, now, clock),
            throttled_total: self.throttled.get(),
            throttled_by_minute: self.throttled_by_minute.last_hour(now),
            requests_by_minute: self.requests_by_minute.last_hour(now),
            adaptive,
        }
    }
}

fn way_back(machine: &Machine, now: Duration, clock: SystemTime) -> Option<WayBackStatus> {
    let (over, budget) = machine.way_back()?;
    // One of the two is zero.
    let at = (clock + over.saturating_sub(now)).checked_sub(now.saturating_sub(over)).unwrap_or(clock);
    let requests_per_second = machine.rate()? * budget / machine.budget()?;
    Some(WayBackStatus { at: rfc3339(at), budget, requests_per_second })
}

fn paused_until(machine: &Machine, now: Duration, clock: SystemTime) -> Option<SystemTime> {
    machine.gate().paused_until().filter(|&until| until > now).map(|until| clock + until.saturating_sub(now))
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
