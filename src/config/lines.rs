//! On which line of the config file a key stands. The deserializer knows that only until it is done.

use crate::dialect;
use descope_gitops_reading::events::Event;
use descope_gitops_reading::events::Events;
use std::collections::HashMap;

/// Lines by the path of a key: `projects[0].guards.maxDeletes`.
#[derive(Debug, Clone, Default)]
pub struct Lines(HashMap<String, usize>);

/// Where in the document the parser stands.
enum Level {
    /// In a mapping; the key whose value comes next.
    Map(Option<String>),
    /// In a list; the index of the item that comes next.
    List(usize),
}

impl Lines {
    /// Walks the first document. Text that is no YAML gives what could be read: another parser reports the error.
    /// Also gives the keys that are written twice, with the line of the second.
    pub fn read(text: &str) -> (Self, Vec<(String, usize)>) {
        let mut lines = HashMap::new();
        let mut twice = Vec::new();
        let mut stack: Vec<Level> = Vec::new();
        for next in Events::of(&dialect::with_spaces_after_keys(text)) {
            let Ok((event, span)) = next else { break };
            match event {
                Event::Scalar(ref value, ..) if matches!(stack.last(), Some(Level::Map(None))) => {
                    if let Some(Level::Map(key)) = stack.last_mut() {
                        *key = Some(value.clone().into_owned());
                    }
                    let path = path(&stack);
                    if lines.insert(path.clone(), span.start.line()).is_some() {
                        twice.push((path, span.start.line()));
                    }
                }
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    lines.entry(path(&stack)).or_insert(span.start.line());
                    let is_map = matches!(event, Event::MappingStart(..));
                    stack.push(if is_map { Level::Map(None) } else { Level::List(0) });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    stack.pop();
                    passed(&mut stack);
                }
                Event::Scalar(..) | Event::Alias(_) => {
                    lines.entry(path(&stack)).or_insert(span.start.line());
                    passed(&mut stack);
                }
                Event::DocumentEnd => break,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            }
        }
        (Self(lines), twice)
    }

    /// The line of this key.
    pub fn exactly(&self, path: &str) -> Option<usize> {
        self.0.get(path).copied()
    }

    /// The line of this key, or of the nearest one around it.
    pub fn of(&self, path: &str) -> Option<usize> {
        let mut rest = path;
        loop {
            if let Some(line) = self.0.get(rest) {
                return Some(*line);
            }
            rest = &rest[..rest.rfind(['.', '['])?];
        }
    }
}

/// A value has been read: what comes next is another key, or the next item.
fn passed(stack: &mut [Level]) {
    match stack.last_mut() {
        Some(Level::Map(key)) => *key = None,
        Some(Level::List(index)) => *index += 1,
        None => {}
    }
}

fn path(stack: &[Level]) -> String {
    let mut path = String::new();
    for level in stack {
        match level {
            Level::Map(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key.as_deref().unwrap_or_default());
            }
            Level::List(index) => {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "source:\n  path: /config\nprojects:\n  - name: one\n    guards: { maxDeletes: 1 }\n  - name: two\n";

    #[test]
    fn every_key_has_its_line_and_an_absent_one_that_of_what_is_around_it() {
        let (lines, twice) = Lines::read(TEXT);

        assert!(twice.is_empty());
        for (path, line) in [
            ("source.path", Some(2)),
            ("projects[0].name", Some(4)),
            ("projects[0].guards.maxDeletes", Some(5)),
            ("projects[1].name", Some(6)),
            ("projects[1].policy", Some(6)),
            ("rateLimit.adaptive.maxRate", None),
        ] {
            assert_eq!(lines.of(path), line, "{path}");
        }
    }

    #[test]
    fn a_key_written_twice_is_found() {
        let (_, twice) = Lines::read("a:\n  b: 1\n  c: 2\n  b: 3\n");

        assert_eq!(twice, [("a.b".to_owned(), 4)]);
    }

    #[test]
    fn broken_yaml_gives_what_could_be_read() {
        let (lines, _) = Lines::read("a: 1\nb: [1, 2\n");

        assert_eq!(lines.of("a"), Some(1));
    }
}
