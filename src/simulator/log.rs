//! What was received, in order and in numbers. Never the authorization header, nor the value of a secret field.

use super::api::Sort;
use super::kinds;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// The oldest requests are forgotten beyond this, so that a simulator may run for weeks.
const MOST: usize = 500_000;
/// So are the oldest when their bodies take more than this.
const MOST_BYTES: usize = 256 << 20;
/// Fields of no kind in particular that carry secrets.
const SECRETS: [&str; 5] = ["clientSecret", "secret", "hmacSecret", "authentication", "cleartext"];

/// One request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts from 1, in the order in which requests took effect.
    pub seq: u64,
    /// Unix time in milliseconds.
    pub time: u64,
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// The body as compact JSON, so that a long log stays small.
    #[serde(skip)]
    pub body: String,
    pub project: String,
    /// `null` where no answer was sent.
    pub status: Option<u16>,
    /// It changed something.
    pub effect: bool,
    /// The fault it met.
    pub fault: Option<&'static str>,
    /// It came during a lockout.
    pub in_lockout: bool,
}

/// Everything received since the start.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    /// Bytes of their bodies.
    bytes: usize,
    seq: u64,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    /// All, the license call included.
    requests: u64,
    admitted: u64,
    throttled: u64,
    during_lockout: u64,
    /// Admitted ones that read.
    reads: u64,
    /// Admitted ones that would write, whatever became of them.
    writes: u64,
    /// Requests that changed something.
    applied: u64,
    faults: u64,
    /// By call, then by status; `none` where no answer was sent.
    operations: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Log {
    /// Adds a request; its number is set here. The operation is the path of the call, `None` for no call of the API.
    pub fn add(&mut self, mut entry: Entry, sort: Sort, operation: Option<&str>) {
        self.seq += 1;
        entry.seq = self.seq;
        let counts = &mut self.counts;
        // 429 is the limit's alone, unless a rule answers it.
        let throttled = entry.status == Some(429) && entry.fault.is_none();
        counts.requests += 1;
        counts.throttled += u64::from(throttled);
        counts.admitted += u64::from(!throttled && sort != Sort::Exempt);
        counts.during_lockout += u64::from(entry.in_lockout);
        counts.reads += u64::from(!throttled && sort == Sort::Read);
        counts.writes += u64::from(!throttled && matches!(sort, Sort::Write | Sort::ProjectWrite));
        counts.applied += u64::from(entry.effect);
        counts.faults += u64::from(entry.fault.is_some());
        let operation = operation.map_or_else(|| "other".to_owned(), |path| format!("{} {path}", entry.method));
        let status = entry.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        *counts.operations.entry(operation).or_default().entry(status).or_default() += 1;
        self.bytes += entry.body.len();
        self.entries.push_back(entry);
        while self.entries.len() > MOST || (self.bytes > MOST_BYTES && self.entries.len() > 1) {
            let oldest = self.entries.pop_front();
            self.bytes -= oldest.map_or(0, |entry| entry.body.len());
        }
    }

    /// Those after `since`, as JSON. The bodies are JSON already and go out as they are.
    pub fn entries(&self, since: u64) -> Vec<u8> {
        let start = self.entries.partition_point(|entry| entry.seq <= since);
        let mut all = vec![b'['];
        for entry in self.entries.range(start..) {
            if all.len() > 1 {
                all.push(b',');
            }
            all.extend(super::view::bytes(entry));
            all.pop();
            all.extend(b",\"body\":");
            all.extend(entry.body.as_bytes());
            all.push(b'}');
        }
        all.push(b']');
        all
    }

    /// Forgets the requests; the numbers go on.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Starts counting anew.
    pub fn reset_counts(&mut self) {
        self.counts = Counts::default();
    }

    /// The numbers, with those of the other callers.
    pub fn stats(&self, (arrived, served): (u64, u64)) -> Value {
        let mut stats = json!(self.counts);
        if let Value::Object(stats) = &mut stats {
            stats.insert("background".to_owned(), json!({ "arrived": arrived, "served": served }));
        }
        stats
    }
}

/// The body as it may be shown. What is not JSON is shown as text.
pub fn shown(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    match serde_json::from_slice(body) {
        Ok(mut value) => {
            redact(&mut value);
            value
        }
        Err(_) => Value::String(String::from_utf8_lossy(body).into_owned()),
    }
}

fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name) || kinds::ALL.iter().any(|kind| kind.secrets().contains(&name))
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_secret(name) && !value.is_null() {
                    *value = json!("(secret)");
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_fields_are_hidden_at_any_depth() {
        let body = br#"{"name":"app","settings":{"clientSecret":"s3"},"list":[{"secret":"s4"}]}"#;

        let shown = shown(body).to_string();

        assert!(!shown.contains("s3") && !shown.contains("s4"), "{shown}");
        assert!(shown.contains("app"));
    }
}
