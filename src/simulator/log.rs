//! What was received, in order and in numbers. Never the authorization header, nor the value of a secret field.

use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// The oldest requests are forgotten beyond this, so that a simulator may run for weeks.
const MOST: usize = 500_000;
/// Fields of the contract that carry secrets.
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
    #[serde(serialize_with = "parsed")]
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

fn parsed<S: serde::Serializer>(body: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<Value>(body).unwrap_or(Value::Null).serialize(serializer)
}

/// How a request counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Exempt from the limit; neither read nor write.
    License,
    Read,
    Write,
    /// No call of the API.
    Unknown,
}

/// Everything received since the start.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
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
    /// Adds a request; its number is set here.
    pub fn add(&mut self, mut entry: Entry, sort: Sort) {
        self.seq += 1;
        entry.seq = self.seq;
        let counts = &mut self.counts;
        // 429 is the limit's alone, unless a rule answers it.
        let throttled = entry.status == Some(429) && entry.fault.is_none();
        counts.requests += 1;
        counts.throttled += u64::from(throttled);
        counts.admitted += u64::from(!throttled && sort != Sort::License);
        counts.during_lockout += u64::from(entry.in_lockout);
        counts.reads += u64::from(!throttled && sort == Sort::Read);
        counts.writes += u64::from(!throttled && sort == Sort::Write);
        counts.applied += u64::from(entry.effect);
        counts.faults += u64::from(entry.fault.is_some());
        let operation = match sort {
            Sort::Unknown => "other".to_owned(),
            Sort::License | Sort::Read | Sort::Write => format!("{} {}", entry.method, entry.path),
        };
        let status = entry.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        *counts.operations.entry(operation).or_default().entry(status).or_default() += 1;
        if self.entries.len() == MOST {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// Those after `since`.
    pub fn entries(&self, since: u64) -> Vec<&Entry> {
        let start = self.entries.partition_point(|entry| entry.seq <= since);
        self.entries.range(start..).collect()
    }

    /// Forgets the requests; the numbers go on.
    pub fn clear(&mut self) {
        self.entries.clear();
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

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if SECRETS.contains(&name.as_str()) && !value.is_null() {
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
