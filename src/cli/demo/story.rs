//! The daemon's log events in the words of a demo: one line each.

use super::seconds;
use crate::telemetry::events::Event;
use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;
use tracing::Level;

/// Fields that say where an event comes from: in a demo there is one place.
const NOT_SHOWN: [&str; 10] =
    ["project", "trigger", "pass", "revision", "times", "host", "action", "resources", "file", "line"];
/// What the loader says last about files that it cannot use.
const BROKEN: &str = "the files cannot be used; the last good desired state stays in force";

/// Remembers what it said.
#[derive(Debug)]
pub struct Story {
    in_colour: bool,
    /// Warnings and errors; a pass at the interval repeats them otherwise.
    said: HashSet<String>,
    /// The files cannot be used, as of this pass, and of the one before.
    broken: (bool, bool),
    /// The first time has a text of its own.
    has_converged: bool,
}

/// What a line is about; its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Change,
    Plain,
    Attention,
    Trouble,
}

impl Story {
    /// `in_colour`: for a terminal.
    pub fn new(in_colour: bool) -> Self {
        Self { in_colour, said: HashSet::new(), broken: (false, false), has_converged: false }
    }

    /// The lines about an event; empty for what is not worth one.
    pub fn tell(&mut self, at: Duration, event: &Event) -> String {
        let mut lines = String::new();
        for (mark, text) in self.lines(event) {
            let colour = match mark {
                _ if !self.in_colour => "",
                Mark::Change => "\u{1b}[32m",
                Mark::Plain => "",
                Mark::Attention => "\u{1b}[33m",
                Mark::Trouble => "\u{1b}[31m",
            };
            let plain = if colour.is_empty() { "" } else { "\u{1b}[0m" };
            // Writing to a string cannot fail.
            writeln!(lines, "{:>9}  {colour}{text}{plain}", seconds(at)).unwrap_or_default();
        }
        lines
    }

    fn lines(&mut self, event: &Event) -> Vec<(Mark, String)> {
        let field = |name| event.field(name);
        let line = |mark, text: String| vec![(mark, text)];
        match event.message.as_str() {
            "starting"
            | "listening"
            | "stopped"
            | "SIGHUP: looking again"
            | "stopping: no new changes; what is under way is finished" => Vec::new(),
            "stopping; a second signal stops at once" => line(Mark::Plain, "stopping".to_owned()),
            "changed" => line(Mark::Change, format!("{:<8} {}/{}", past(field("action")), field("kind"), field("id"))),
            "pass finished" => self.pass(field("trigger"), field("result"), field("changes")),
            "converged: the project equals the config repo" if !std::mem::replace(&mut self.has_converged, true) => {
                Vec::new()
            }
            "converged: the project equals the config repo" => {
                line(Mark::Change, "converged: the project equals the config repo".to_owned())
            }
            "drift: changed in Descope though the YAML did not" => {
                let n = field("resources");
                line(Mark::Attention, format!("drift: {n} changed in Descope though no file did; putting it right"))
            }
            "the rate limit in force changed" => {
                let budget = field("budget").parse().map_or_else(|_| "no limit".to_owned(), |n: f64| format!("{n:.0}"));
                line(Mark::Plain, format!("the limiter now allows itself {budget} requests a window"))
            }
            "Descope answers again after a rate limit: requests go out" => {
                line(Mark::Change, "the gate is open again".to_owned())
            }
            message if message.starts_with("Descope's rate limit was hit") => {
                line(Mark::Attention, format!("429: the gate is closed, nothing is sent for {} s", field("seconds")))
            }
            _ => self.other(event),
        }
    }

    fn pass(&mut self, trigger: &str, result: &str, changes: &str) -> Vec<(Mark, String)> {
        let (is_broken, was_broken) = self.broken;
        self.broken = (false, is_broken);
        let mut lines = Vec::new();
        if was_broken && !is_broken {
            lines.push((Mark::Change, "the files are valid again".to_owned()));
        }
        let why = match trigger {
            "startup" => "the start",
            "watch" => "a file changed",
            "signal" => "SIGHUP",
            "api" => "HTTP",
            _ => "the interval",
        };
        match (result, changes) {
            // Every few seconds, and nothing happened.
            ("noop", _) if trigger == "interval" => {}
            ("noop", _) => lines.push((Mark::Plain, format!("looked at both sides ({why}): nothing to do"))),
            ("applied", "1") => lines.push((Mark::Plain, format!("looked at both sides ({why}): 1 change to make"))),
            ("applied", n) => lines.push((Mark::Plain, format!("looked at both sides ({why}): {n} changes to make"))),
            (result, n) => {
                lines.push((Mark::Attention, format!("looked at both sides ({why}): {result}, {n} changes planned")));
            }
        }
        lines
    }

    /// Everything else is worded to be read alone.
    fn other(&mut self, event: &Event) -> Vec<(Mark, String)> {
        self.broken.0 |= event.message == BROKEN;
        let shown = event.fields.iter().filter(|(name, _)| !NOT_SHOWN.contains(name));
        let fields: Vec<String> = shown.map(|(name, value)| format!("{name}: {value}")).collect();
        let mut text = event.message.clone();
        if !fields.is_empty() {
            text = format!("{text} ({})", fields.join(", "));
        }
        let mark = match event.level {
            Level::ERROR => Mark::Trouble,
            Level::WARN => Mark::Attention,
            _ => Mark::Plain,
        };
        let is_repeated =
            mark != Mark::Plain && !self.said.insert(text.clone()) && event.field("trigger") == "interval";
        if is_repeated { Vec::new() } else { vec![(mark, text)] }
    }
}

fn past(action: &str) -> &str {
    match action {
        "create" => "created",
        "update" => "updated",
        "rename" => "renamed",
        "delete" => "deleted",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(level: Level, message: &str, fields: &[(&'static str, &str)]) -> Event {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Event { level, message: message.to_owned(), fields }
    }

    fn pass(trigger: &str, result: &str, changes: &str) -> Event {
        event(Level::INFO, "pass finished", &[("trigger", trigger), ("result", result), ("changes", changes)])
    }

    fn told(story: &mut Story, event: &Event) -> Vec<String> {
        let text = story.tell(Duration::from_millis(1234), event);
        text.lines().map(|line| line.strip_prefix("    1.2 s  ").unwrap().to_owned()).collect()
    }

    #[test]
    fn what_happens_is_one_line_in_plain_words() {
        let changed = event(Level::INFO, "changed", &[("action", "rename"), ("kind", "roles"), ("id", "Author")]);
        let table = [
            (changed, "renamed  roles/Author"),
            (pass("watch", "applied", "1"), "looked at both sides (a file changed): 1 change to make"),
            (pass("signal", "noop", "0"), "looked at both sides (SIGHUP): nothing to do"),
            (pass("api", "partial", "2"), "looked at both sides (HTTP): partial, 2 changes planned"),
            (event(Level::INFO, "something new", &[("kind", "roles")]), "something new (kind: roles)"),
        ];

        for (event, expected) in table {
            assert_eq!(told(&mut Story::new(false), &event), [expected]);
        }
    }

    #[test]
    fn a_pass_at_the_interval_that_finds_nothing_is_not_told() {
        assert!(told(&mut Story::new(false), &pass("interval", "noop", "0")).is_empty());
    }

    #[test]
    fn trouble_is_told_once_until_somebody_acts_and_so_is_its_end() {
        let mut story = Story::new(false);
        let broken = |trigger| event(Level::ERROR, BROKEN, &[("trigger", trigger)]);

        assert_eq!(told(&mut story, &broken("watch")), [BROKEN]);
        assert_eq!(told(&mut story, &pass("watch", "noop", "0")).len(), 1);
        assert!(told(&mut story, &broken("interval")).is_empty());
        assert!(told(&mut story, &pass("interval", "noop", "0")).is_empty());
        assert_eq!(told(&mut story, &broken("signal")), [BROKEN]);
        assert_eq!(told(&mut story, &pass("signal", "noop", "0")).len(), 1);

        let mended = told(&mut story, &pass("watch", "noop", "0"));

        assert_eq!(mended[0], "the files are valid again");
    }

    #[test]
    fn colours_are_for_terminals() {
        let text = Story::new(true).tell(Duration::ZERO, &event(Level::ERROR, "no", &[]));

        assert_eq!(text, "    0.0 s  \u{1b}[31mno\u{1b}[0m\n");
    }
}
