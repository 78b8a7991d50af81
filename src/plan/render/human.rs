//! A plan as it is read on a terminal: by kind, deletes last and loud, lists and texts as what comes and goes in them.

use super::ChangeReport;
use super::FieldReport;
use super::Hold;
use super::Listed;
use super::ProjectReport;
use super::Report;
use super::document;
use super::drift_text;
use super::hold_text;
use super::how_to_release;
use super::summary;
use super::wait_text;
use crate::resource::Action;
use crate::resource::legible::legible;
use crate::telemetry::line::one_line;
use crate::telemetry::status::HoldStatus;
use crate::telemetry::status::Wait;
use crate::telemetry::status::Why;
use serde_json::Value;
use similar::ChangeTag;
use similar::TextDiff;
use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::io::Write;

/// With or without colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Escape sequences of terminals.
    pub color: bool,
}

// Fits beside a path on a terminal.
const WIDE: usize = 100;
/// Of many that wait for the same, so many are named.
const NAMED: usize = 3;
/// Lines of a text around what differs.
const CONTEXT: usize = 2;
/// More of one field is not read.
const LONGEST_DIFF: usize = 60;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";
const LOUD: &str = "1;31";
const HELD: &str = "1;35";

/// Every project.
pub fn write_text(report: &Report<'_>, style: Style, to: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { to, written: Ok(()), style };
    for (n, project) in report.projects.iter().enumerate() {
        if n > 0 {
            page.put("\n");
        }
        page.project(project);
    }
    page.written
}

/// The same, at once.
pub fn text(report: &Report<'_>, style: Style) -> String {
    let mut text = Vec::new();
    // Writing to a vector cannot fail.
    write_text(report, style, &mut text).unwrap_or_default();
    String::from_utf8(text).unwrap_or_default()
}

/// What is told of changes elsewhere in the report.
struct Told<'a> {
    holds: &'a [HoldStatus],
    waits: HashMap<(&'a str, &'a str), &'a Wait>,
}

impl Told<'_> {
    /// What ends the hold of this change: of several of one word what it says itself, or the usual.
    fn ends<'c>(&'c self, reason: &str, change: &'c ChangeReport) -> Option<&'c str> {
        let usual = Hold::usual(reason).map(Hold::ends_with);
        let of_word = || self.holds.iter().filter(|hold| hold.reason == reason).map(|hold| &*hold.ends_with);
        let said = change.ends_with.as_deref();
        said.or_else(|| of_word().find(|end| usual == Some(*end))).or_else(|| of_word().next())
    }
}

struct Page<'w> {
    to: &'w mut dyn Write,
    /// Once something could not be written, nothing more is.
    written: io::Result<()>,
    style: Style,
}

impl Page<'_> {
    /// Text from outside: no part of it can begin another line or move the cursor.
    fn paint(&self, code: &str, text: impl Display) -> String {
        self.style.painted(code, &one_line(&text.to_string()))
    }

    /// `text` is of [`Page::paint`].
    fn line(&mut self, indent: usize, text: &str) {
        for part in [&*" ".repeat(indent), text, "\n"] {
            self.put(part);
        }
    }

    fn put(&mut self, text: &str) {
        if self.written.is_ok() {
            self.written = self.to.write_all(text.as_bytes());
        }
    }

    fn project(&mut self, project: &ProjectReport<'_>) {
        let title = self.paint(BOLD, format!("project {}", project.name));
        self.line(0, &title);
        for warning in project.notes() {
            let warning = format!("{} {}", self.paint(YELLOW, "!"), plain(warning));
            self.line(2, &warning);
        }
        for refused in &project.refused {
            let text = self.paint(LOUD, refused);
            self.line(2, &text);
        }
        let told = Told { holds: &project.holds, waits: project.wait_of() };
        let (deletes, others) = deletes_apart(project);
        for (kind, changes) in by_kind(others) {
            let title = self.paint(BOLD, format!("{kind}: {}", counts(&changes)));
            self.line(2, &title);
            for (_, change) in changes {
                self.change(&change.report(), &told);
            }
        }
        if !deletes.is_empty() {
            let title = self.paint(LOUD, format!("DELETES: {}, each with whatever hangs on it", deletes.len()));
            self.line(2, &title);
            for (_, change) in deletes {
                self.change(&change.report(), &told);
            }
        }
        self.rest(project);
    }

    fn rest(&mut self, project: &ProjectReport<'_>) {
        let undeclared = project.undeclared.len();
        if undeclared > 0 {
            let names: Vec<String> =
                project.undeclared.iter().take(10).map(|one| format!("{}/{}", one.kind, legible(&one.id))).collect();
            let more = if undeclared > names.len() { ", ..." } else { "" };
            let text = format!("{undeclared} live and declared nowhere, left alone: {}{more}", names.join(", "));
            let text = self.paint(DIM, text);
            self.line(2, &text);
        }
        let text = self.paint(BOLD, summary(project));
        self.line(2, &text);
        let others: Vec<&Wait> = project.other_waits().collect();
        for group in others.chunk_by(|a, b| (&a.why, &a.until) == (&b.why, &b.until)) {
            let Some(first) = group.first() else { continue };
            let names: Vec<String> = group.iter().take(NAMED).map(|wait| name(wait)).collect();
            let more = group.len() - names.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            // Why a list cannot be read is a warning.
            let brief = Wait { why: first.word().to_owned(), ..(*first).clone() };
            let told = if first.id.is_empty() && first.word() == Why::Unobserved.as_str() { &brief } else { *first };
            let text = self.paint(HELD, format!("waits: {}{more}: {}", names.join(", "), wait_text(told)));
            self.line(2, &text);
        }
        for hold in &project.holds {
            let text = self.paint(HELD, hold_text(hold));
            self.line(2, &text);
        }
        if let Some(held) = &project.held {
            let text = plain(how_to_release(&held.as_read(&project.holds)));
            self.line(2, &text);
        }
    }

    fn change(&mut self, change: &ChangeReport, told: &Told<'_>) {
        let color = match &*change.action {
            "create" => GREEN,
            "delete" => LOUD,
            "rename" => CYAN,
            _ => YELLOW,
        };
        let mut text = self.paint(color, format!("{} {}/{}", change.sign(), change.kind, legible(&change.id)));
        if let Some(reason) = &change.held {
            let why = change.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            let remedy = told.ends(reason, change).map_or_else(String::new, |ends| format!("; ends with {ends}"));
            let until = change.until.as_ref().map_or_else(String::new, |until| format!(", at {until}"));
            text.push_str("   ");
            text.push_str(&self.paint(HELD, format!("held: {reason}{why}{remedy}{until}")));
        } else if let Some(wait) = told.waits.get(&(&*change.kind, &*change.id)) {
            text.push_str("   ");
            text.push_str(&self.paint(HELD, format!("waits: {}", wait_text(wait))));
        }
        if let Some(drift) = drift_text(change) {
            text.push_str("   ");
            text.push_str(&self.paint(CYAN, drift));
        }
        if let (Some(file), Some(line)) = (&change.file, change.line) {
            text.push_str(&self.paint(DIM, format!("   {file}:{line}")));
        }
        self.line(4, &text);
        for field in &change.fields {
            self.field(field, change.action == Action::Create.as_str());
        }
    }

    fn field(&mut self, field: &FieldReport, is_new: bool) {
        let FieldReport { path, from, to, .. } = field;
        if let Some((gone, come)) = elements(from, to).filter(|_| !is_new) {
            let title = plain(format!("{path}:"));
            self.line(8, &title);
            for (code, sign, items) in [(RED, '-', gone), (GREEN, '+', come)] {
                for item in items {
                    let item = self.paint(code, format!("{sign} {item}"));
                    self.line(10, &item);
                }
            }
            return;
        }
        let (old, new) = (lines(from), lines(to));
        if old.len().max(new.len()) > 1 {
            let title = plain(format!("{path}:"));
            self.line(8, &title);
            return self.diff(&old, &new);
        }
        let text = |value: &Value| document(value).unwrap_or_else(|| value.to_string());
        let (from, to) = (self.paint(RED, text(from)), self.paint(GREEN, text(to)));
        let path = plain(path);
        let text = if is_new { format!("{path}: {to}") } else { format!("{path}: {from} -> {to}") };
        self.line(8, &text);
    }

    fn diff(&mut self, old: &[String], new: &[String]) {
        let old: Vec<&str> = old.iter().map(String::as_str).collect();
        let new: Vec<&str> = new.iter().map(String::as_str).collect();
        let diff = TextDiff::from_slices(&old, &new);
        let mut left = LONGEST_DIFF;
        let mut more = 0;
        for (n, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
            if n > 0 && left > 0 {
                self.line(10, "...");
            }
            for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
                if left == 0 {
                    more += 1;
                    continue;
                }
                left -= 1;
                let (code, sign) = match change.tag() {
                    ChangeTag::Delete => (RED, '-'),
                    ChangeTag::Insert => (GREEN, '+'),
                    ChangeTag::Equal => (DIM, ' '),
                };
                let text = self.paint(code, format!("{sign} {}", change.value()));
                self.line(10, text.trim_end());
            }
        }
        if more > 0 {
            let text = self.paint(DIM, format!("... {more} more lines"));
            self.line(10, &text);
        }
    }
}

/// A resource, or a kind as a whole.
fn name(wait: &Wait) -> String {
    if wait.id.is_empty() { wait.kind.clone() } else { format!("{}/{}", wait.kind, legible(&wait.id)) }
}

/// The same without a colour.
fn plain(text: impl Display) -> String {
    one_line(&text.to_string())
}

/// A change, and its place among those of its project.
pub type Placed<'a> = (usize, Listed<'a>);

/// Is it the one sort of change that nothing brings back?
pub fn is_delete(change: Listed<'_>) -> bool {
    change.action() == Action::Delete.as_str()
}

/// What deletes, and all else.
pub fn deletes_apart<'a>(project: &'a ProjectReport<'_>) -> (Vec<Placed<'a>>, Vec<Placed<'a>>) {
    project.changes.iter().enumerate().partition(|(_, change)| is_delete(*change))
}

/// In the order in which the kinds are first sent.
pub fn by_kind(changes: Vec<Placed<'_>>) -> Vec<(&str, Vec<Placed<'_>>)> {
    let mut groups: Vec<(&str, Vec<Placed<'_>>)> = Vec::new();
    for (at, change) in changes {
        match groups.iter_mut().find(|(kind, _)| *kind == change.kind()) {
            Some((_, group)) => group.push((at, change)),
            None => groups.push((change.kind(), vec![(at, change)])),
        }
    }
    groups
}

/// `1 to create, 2 to update`.
pub fn counts(changes: &[Placed<'_>]) -> String {
    let actions = [Action::Create, Action::Update, Action::Rename, Action::Delete];
    let count = |action: &Action| changes.iter().filter(|(_, change)| change.action() == action.as_str()).count();
    let counts = actions.iter().map(|action| (count(action), action.as_str())).filter(|(count, _)| *count > 0);
    counts.map(|(count, action)| format!("{count} to {action}")).collect::<Vec<_>>().join(", ")
}

/// What leaves a list of texts, and what comes into it; `None` where that is not the difference.
pub fn elements(from: &Value, to: &Value) -> Option<(Vec<Value>, Vec<Value>)> {
    let items = |value: &Value| match value {
        Value::Null => Some(Vec::new()),
        Value::Array(items) if items.iter().all(Value::is_string) => Some(items.clone()),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
    };
    if from.is_null() && to.is_null() {
        return None;
    }
    let (old, new) = (items(from)?, items(to)?);
    let gone: Vec<Value> = old.iter().filter(|item| !new.contains(item)).cloned().collect();
    let come: Vec<Value> = new.iter().filter(|item| !old.contains(item)).cloned().collect();
    (!gone.is_empty() || !come.is_empty()).then_some((gone, come))
}

/// A text of several lines, or what does not fit into one; else one or none.
fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => text.lines().map(str::to_owned).collect(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            let short = value.to_string();
            if short.chars().count() <= WIDE {
                return vec![short];
            }
            let long = serde_json::to_string_pretty(value).unwrap_or(short);
            long.lines().map(str::to_owned).collect()
        }
    }
}

impl Style {
    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.painted(BOLD, text)
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.painted(GREEN, text)
    }

    /// Somebody should look.
    pub fn bad(self, text: &str) -> String {
        self.painted(LOUD, text)
    }

    fn painted(self, code: &str, text: &str) -> String {
        if self.color && !text.trim().is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
