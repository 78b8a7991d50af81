//! Every metric the daemon exports, in one struct on a registry of its own.
//!
//! Base units, prefix `descope_gitops_`, labels only from closed sets: never an id, never a message.

use crate::telemetry::logs;
use crate::telemetry::unanswered::Unanswered;
use prometheus::Encoder;
use prometheus::GaugeVec;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::TextEncoder;
use prometheus::core::Collector;

/// Seconds; from one fast answer to a pass that waits out a long lockout.
const SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

/// The metrics. Cheap to use from anywhere; handed down as `Arc<Metrics>`.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field is the metric of that name, described where it is built")]
pub struct Metrics {
    registry: Registry,
    pub source_events_total: IntCounterVec,
    pub source_loads_total: IntCounterVec,
    pub source_load_duration_seconds: Histogram,
    pub desired_resources: IntGaugeVec,
    pub desired_valid: IntGaugeVec,
    pub passes_total: IntCounterVec,
    pub pass_duration_seconds: HistogramVec,
    pub last_attempt_timestamp_seconds: GaugeVec,
    pub last_whole_pass_timestamp_seconds: GaugeVec,
    pub last_success_timestamp_seconds: GaugeVec,
    pub converged: IntGaugeVec,
    pub not_converged: IntGaugeVec,
    pub suspended: IntGaugeVec,
    pub suspended_parts: IntGaugeVec,
    pub suspended_until_timestamp_seconds: IntGaugeVec,
    pub convergence_duration_seconds: HistogramVec,
    pub plan_changes: IntGaugeVec,
    pub observation_age_seconds: GaugeVec,
    pub observation_interval_seconds: GaugeVec,
    pub drifted_resources: IntGaugeVec,
    pub undeclared_resources: IntGaugeVec,
    pub contested_resources: IntGaugeVec,
    pub credential_expiry_timestamp_seconds: IntGaugeVec,
    pub held_changes: IntGaugeVec,
    pub guard_trips_total: IntCounterVec,
    pub changes_total: IntCounterVec,
    pub change_duration_seconds: HistogramVec,
    pub queue_depth: IntGaugeVec,
    pub queue_adds_total: IntCounterVec,
    pub queue_wait_seconds: Histogram,
    pub limiter_rate_requests_per_second: GaugeVec,
    pub limiter_budget_requests: GaugeVec,
    pub limiter_budget_used_requests: GaugeVec,
    pub limiter_paused_until_timestamp_seconds: GaugeVec,
    pub limiter_throttled_total: IntCounterVec,
    pub limiter_wait_seconds: Histogram,
    pub api_requests_total: IntCounterVec,
    pub api_request_duration_seconds: HistogramVec,
    pub api_requests_in_flight: IntGauge,
    /// No series: what the status says of workers that wait.
    pub unanswered: Unanswered,
    pub api_retries_total: IntCounterVec,
    pub http_requests_total: IntCounterVec,
    pub notifications_total: IntCounterVec,
    pub state_writable: IntGauge,
    pub lease_held: IntGaugeVec,
    pub checkout_behind: IntGaugeVec,
    pub replica_refused: IntGaugeVec,
    pub lease_expires_timestamp_seconds: GaugeVec,
}

impl Metrics {
    #[allow(clippy::too_many_lines, reason = "one line a metric, in one place")]
    /// Builds and registers everything. Series that depend on a project, a host or a kind start when those are known.
    #[allow(clippy::too_many_lines, reason = "one statement for each series")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build_info = gauge(r, "build_info", "Version and source revision of this binary", &["version", "revision"]);
        build_info
            .with_label_values(&[
                env!("CARGO_PKG_VERSION"),
                env!("DESCOPE_GITOPS_BUILD_COMMIT"), // of `DESCOPE_GITOPS_REVISION`, or of git
            ])
            .set(1.0);
        #[cfg(target_os = "linux")]
        register(r, prometheus::process_collector::ProcessCollector::for_self());
        let metrics = Self {
            source_events_total: counter(r, "source_events_total", "Reasons to look again", &["trigger"]),
            source_loads_total: counter(r, "source_loads_total", "Loads of the config repo", &["result"]),
            source_load_duration_seconds: one_histogram(r, "source_load_duration_seconds", "Time of one load"),
            desired_resources: int_gauge(r, "desired_resources", "Declared resources", &["project", "kind"]),
            desired_valid: int_gauge(r, "desired_valid", "1 while the newest revision is in force", &["project"]),
            passes_total: counter(r, "passes_total", "Finished passes", &["project", "trigger", "result"]),
            pass_duration_seconds: histogram(r, "pass_duration_seconds", "Time of a pass", &["project", "phase"]),
            last_attempt_timestamp_seconds: gauge(r, "last_attempt_timestamp_seconds", "Last pass", &["project"]),
            last_whole_pass_timestamp_seconds: gauge(
                r,
                "last_whole_pass_timestamp_seconds",
                "Last pass that loaded and observed everything, whatever is left to do",
                &["project"],
            ),
            last_success_timestamp_seconds: gauge(
                r,
                "last_success_timestamp_seconds",
                "When the project was last found, or made, equal to its files",
                &["project"],
            ),
            converged: int_gauge(r, "converged", "1 while nothing that the policy permits is left to do", &["project"]),
            not_converged: int_gauge(
                r,
                "not_converged",
                "1 for the first reason why a project is not converged",
                &["project", "reason"],
            ),
            suspended: int_gauge(r, "suspended", "1 while the project only observes", &["project"]),
            suspended_parts: int_gauge(
                r,
                "suspended_parts",
                "Kinds and single resources that are only observed",
                &["project", "kind"],
            ),
            suspended_until_timestamp_seconds: int_gauge(
                r,
                "suspended_until_timestamp_seconds",
                "When a suspension ends by itself, of a kind the last one; the kind is empty for the project as a whole",
                &["project", "kind"],
            ),
            convergence_duration_seconds: histogram(
                r,
                "convergence_duration_seconds",
                "From seeing a revision to being converged",
                &["project"],
            ),
            plan_changes: int_gauge(r, "plan_changes", "Changes in the last plan", &["project", "kind", "action"]),
            observation_age_seconds: gauge(
                r,
                "observation_age_seconds",
                "Age of the oldest observation of what is looked at in rotation",
                &["project", "kind"],
            ),
            observation_interval_seconds: gauge(
                r,
                "observation_interval_seconds",
                "How often that is to be looked at",
                &["project"],
            ),
            drifted_resources: int_gauge(
                r,
                "drifted_resources",
                "Resources that differ though the YAML did not change",
                &["project", "kind"],
            ),
            undeclared_resources: int_gauge(
                r,
                "undeclared_resources",
                "Live resources of declared kinds that no file declares",
                &["project", "kind"],
            ),
            contested_resources: int_gauge(
                r,
                "contested_resources",
                "Resources that somebody else turns back again and again",
                &["project", "kind"],
            ),
            credential_expiry_timestamp_seconds: int_gauge(
                r,
                "credential_expiry_timestamp_seconds",
                "The earliest known end of a declared credential",
                &["project", "kind"],
            ),
            held_changes: int_gauge(r, "held_changes", "Changes held by a guard", &["project", "reason"]),
            guard_trips_total: counter(r, "guard_trips_total", "Times a guard began to hold", &["project", "reason"]),
            changes_total: counter(r, "changes_total", "Changes attempted", &["project", "kind", "action", "result"]),
            change_duration_seconds: histogram(r, "change_duration_seconds", "Time of one change", &["kind", "action"]),
            queue_depth: int_gauge(
                r,
                "queue_depth",
                "Tasks on the queue of projects that this replica writes",
                &["state"],
            ),
            queue_adds_total: counter(r, "queue_adds_total", "Tasks put on the queue", &["reason"]),
            queue_wait_seconds: one_histogram(r, "queue_wait_seconds", "From ready to taken"),
            limiter_rate_requests_per_second: gauge(
                r,
                "limiter_rate_requests_per_second",
                "Current rate, or budget over window; +Inf while no limit is known",
                &["host"],
            ),
            limiter_budget_requests: gauge(r, "limiter_budget_requests", "Requests a window may hold", &["host"]),
            limiter_budget_used_requests: gauge(r, "limiter_budget_used_requests", "Of those, in use", &["host"]),
            limiter_paused_until_timestamp_seconds: gauge(
                r,
                "limiter_paused_until_timestamp_seconds",
                "When the gate opens; 0 while it is open",
                &["host"],
            ),
            limiter_throttled_total: counter(r, "limiter_throttled_total", "429 answers", &["host"]),
            limiter_wait_seconds: one_histogram(r, "limiter_wait_seconds", "Wait for a permit"),
            api_requests_total: counter(
                r,
                "api_requests_total",
                "HTTP attempts; code is the status, or what happened instead",
                &["operation", "code"],
            ),
            api_request_duration_seconds: histogram(
                r,
                "api_request_duration_seconds",
                "Time of one HTTP attempt",
                &["operation"],
            ),
            unanswered: Unanswered::default(),
            api_requests_in_flight: IntGauge::new(PREFIX.to_owned() + "api_requests_in_flight", "Attempts under way")
                .unwrap_or_else(|error| unreachable!("{error}")),
            api_retries_total: counter(r, "api_retries_total", "Attempts repeated", &["operation", "reason"]),
            http_requests_total: counter(r, "http_requests_total", "Requests served", &["route", "method", "code"]),
            notifications_total: counter(r, "notifications_total", "Messages to receivers", &["type", "result"]),
            state_writable: IntGauge::new(PREFIX.to_owned() + "state_writable", "1 while the state can be written")
                .unwrap_or_else(|error| unreachable!("{error}")),
            lease_held: int_gauge(r, "lease_held", "1 while this replica writes the project", &["project"]),
            checkout_behind: int_gauge(
                r,
                "checkout_behind",
                "1 while the files of this replica are put aside for longer than a lease lasts",
                &["project"],
            ),
            replica_refused: int_gauge(
                r,
                "replica_refused",
                "1 while Descope refuses this replica, by its management key or on the way",
                &["project"],
            ),
            lease_expires_timestamp_seconds: gauge(
                r,
                "lease_expires_timestamp_seconds",
                "When the lease ends unless it is renewed; 0 where another replica has it",
                &["project"],
            ),
            registry: registry.clone(),
        };
        register(r, metrics.api_requests_in_flight.clone());
        register(r, metrics.state_writable.clone());
        register(r, logs::dropped());
        metrics.start_series();
        metrics
    }

    /// A counter that appears with its first increase hides that increase: what needs no project or host starts here.
    fn start_series(&self) {
        for trigger in ["startup", "watch", "interval", "signal", "api"] {
            self.source_events_total.with_label_values(&[trigger]);
        }
        for result in ["changed", "unchanged", "invalid", "io_error"] {
            self.source_loads_total.with_label_values(&[result]);
        }
        for state in ["ready", "delayed", "in_flight", "blocked", "parked"] {
            self.queue_depth.with_label_values(&[state]);
        }
        for reason in ["plan", "retry", "release", "split"] {
            self.queue_adds_total.with_label_values(&[reason]);
        }
    }

    /// HTTP attempts so far, of all operations.
    pub fn requests(&self) -> f64 {
        let families = self.api_requests_total.collect();
        families
            .iter()
            .flat_map(prometheus::proto::MetricFamily::get_metric)
            .map(|series| series.get_counter().get_value())
            .sum()
    }

    /// The text exposition that Prometheus scrapes.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot render the metrics");
        }
        // The encoder writes infinity as Rust does, the text format spells it otherwise.
        String::from_utf8(text).unwrap_or_default().replace(" inf\n", " +Inf\n")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const PREFIX: &str = "descope_gitops_";

// Names and labels are constants above: a failure here is a typo that every test would meet.
fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).unwrap_or_else(|error| unreachable!("{error}"));
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(PREFIX.to_owned() + name, help), labels)
        .unwrap_or_else(|error| unreachable!("{error}"));
    register(registry, metric.clone());
    metric
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    let metric = GaugeVec::new(Opts::new(PREFIX.to_owned() + name, help), labels)
        .unwrap_or_else(|error| unreachable!("{error}"));
    register(registry, metric.clone());
    metric
}

fn int_gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(PREFIX.to_owned() + name, help), labels)
        .unwrap_or_else(|error| unreachable!("{error}"));
    register(registry, metric.clone());
    metric
}

fn histogram(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(PREFIX.to_owned() + name, help).buckets(SECONDS.to_vec());
    let metric = HistogramVec::new(options, labels).unwrap_or_else(|error| unreachable!("{error}"));
    register(registry, metric.clone());
    metric
}

fn one_histogram(registry: &Registry, name: &str, help: &str) -> Histogram {
    let options = HistogramOpts::new(PREFIX.to_owned() + name, help).buckets(SECONDS.to_vec());
    let metric = Histogram::with_opts(options).unwrap_or_else(|error| unreachable!("{error}"));
    register(registry, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinity_is_spelled_as_the_text_format_has_it() {
        let metrics = Metrics::new();
        metrics.limiter_rate_requests_per_second.with_label_values(&["api"]).set(f64::INFINITY);

        let text = metrics.render();

        assert!(text.contains("limiter_rate_requests_per_second{host=\"api\"} +Inf\n"), "{text}");
    }

    #[test]
    fn every_name_has_the_prefix_and_process_metrics_are_there() {
        let text = Metrics::new().render();

        assert!(text.contains("descope_gitops_build_info{"));
        assert!(text.contains("descope_gitops_source_events_total{trigger=\"signal\"} 0"));
        assert!(text.contains("process_resident_memory_bytes"));
        assert!(
            text.lines()
                .filter(|l| !l.starts_with('#'))
                .all(|l| l.starts_with("descope_gitops_") || l.starts_with("process_"))
        );
    }
}
