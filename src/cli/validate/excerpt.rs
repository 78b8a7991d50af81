//! The line that a finding is about, with the place marked. A log may have more readers than the repo, and a secret may stand
//! where none belongs: of a line its keys are shown, and of values only numbers, short words and those of the tables.

#![allow(clippy::wildcard_enum_match_arm, reason = "no other shape has words of its own")]

use crate::desired::Place;
use crate::open;
use crate::resource;
use crate::resource::Field;
use crate::resource::Shape;
use crate::source::loader::LARGEST_FILE;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

// As much of a line as stands beside its number on a narrow screen.
const WIDTH: usize = 100;
// Shorter ones are words and ids.
const LONG_TOKEN: usize = 24;
// Of letters alone: no machine makes such a secret, and hardly a person.
const SHORT_WORD: usize = 12;
// Parts of the names of fields that hold what nobody may see.
const DELICATE: [&str; 6] = ["secret", "passw", "token", "credential", "hmac", "bearer"];

/// Quotes files. Findings come file by file, so one is remembered.
pub struct Excerpts {
    root: PathBuf,
    file: Option<(Arc<str>, Vec<String>)>,
    /// Values that tell nothing.
    words: BTreeSet<&'static str>,
    /// Names of fields that hold secrets, in lower case.
    secrets: BTreeSet<String>,
}

impl Excerpts {
    /// Of files below this directory.
    pub fn of(root: &Path) -> Self {
        let mut words = BTreeSet::from(["true", "false", "null", "~"]);
        let mut secrets = BTreeSet::new();
        for spec in resource::ALL.iter().map(|kind| kind.spec()) {
            for (_, field) in spec.fields() {
                add_words(field, &mut words, &mut secrets);
            }
        }
        Self { root: root.to_owned(), file: None, words, secrets }
    }

    /// Where it is, what stands there, and below it what marks the place. `None` where no line is meant, or it is gone.
    pub fn at(&mut self, place: &Place) -> Option<String> {
        let number = usize::try_from(place.line).ok()?;
        let line = self.lines(&place.file)?.get(number.checked_sub(1)?)?.clone();
        let column = usize::try_from(place.column).ok()?.checked_sub(1);
        let (shown, mark) = self.quoted(&line, column);
        let margin = number.to_string().len().max(4);
        let marked =
            mark.map(|mark| format!("\n{:margin$} | {}{}", "", " ".repeat(mark.start), "^".repeat(mark.len())));
        let file = place.file.replace(char::is_control, "\u{fffd}");
        let column = if place.column > 0 { format!(":{}", place.column) } else { String::new() };
        Some(format!("  --> {file}:{number}{column}\n{number:margin$} | {shown}{}", marked.unwrap_or_default()))
    }

    fn lines(&mut self, file: &Arc<str>) -> Option<&[String]> {
        if self.file.as_ref().is_none_or(|(name, _)| name != file) {
            let (opened, _) = open::regular(&self.root.join(&**file)).ok()?;
            let text = String::from_utf8(open::read(&opened, LARGEST_FILE).ok()?).ok()?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            // As the scanner counts them.
            let text = text.replace("\r\n", "\n").replace('\r', "\n");
            self.file = Some((Arc::clone(file), text.split('\n').map(str::to_owned).collect()));
        }
        self.file.as_ref().map(|(_, lines)| lines.as_slice())
    }

    /// What may be seen of a line, and where the mark goes.
    fn quoted(&self, line: &str, column: Option<usize>) -> (String, Option<Range<usize>>) {
        // A line may be as long as a file.
        let skipped = column.map_or(0, |column| column.saturating_sub(8 * WIDTH));
        let near = line.chars().skip(skipped).take(16 * WIDTH);
        let chars: Vec<char> = near.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let column = column.map(|column| column - skipped);
        let hidden = self.hidden(&chars, skipped == 0);
        let mark = column.filter(|column| *column < chars.len()).map(|column| column..column + token(&chars[column..]));
        let first = mark.as_ref().map_or(0, |mark| mark.start.saturating_sub(WIDTH / 2));
        let first = if chars.len() <= WIDTH { 0 } else { first.min(chars.len() - WIDTH) };
        let last = (first + WIDTH).min(chars.len());
        let mut shown = String::from(if first + skipped > 0 { "…" } else { "" });
        let (mut start, mut end) = (0, 0);
        let mut count = shown.chars().count();
        for (at, c) in chars.iter().enumerate().take(last).skip(first) {
            let range = hidden.iter().find(|range| range.contains(&at));
            let is_shown = range.is_none_or(|range| range.start == at);
            if let Some(mark) = &mark {
                start = if at == mark.start { count } else { start };
                end = if mark.contains(&at) && is_shown { count + 1 } else { end };
            }
            if is_shown {
                shown.push(if range.is_some() { '…' } else { *c });
                count += 1;
            }
        }
        shown.truncate(shown.trim_end().len());
        if last < chars.len() {
            shown.push('…');
        }
        (shown, mark.map(|_| start..end.max(start + 1)))
    }

    /// What is neither a key nor a value that may be seen. In the middle of a line nobody knows what is a key.
    fn hidden(&self, chars: &[char], is_from_start: bool) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut open = Vec::new();
        let (mut at, mut takes_key, mut is_delicate) = (0, is_from_start, false);
        while at < chars.len() {
            let c = chars[at];
            match c {
                '{' | '[' => {
                    open.push(c);
                    takes_key = c == '{';
                }
                '}' | ']' => drop(open.pop()),
                ',' => {
                    takes_key = open.last() == Some(&'{');
                    is_delicate &= !takes_key;
                }
                // A comment may say anything.
                '#' => {
                    let text: String = chars[at + 1..].iter().collect();
                    if !is_short_word(text.trim()) {
                        found.push(at + 1..chars.len());
                    }
                    return found;
                }
                c if c.is_whitespace() || c == ':' => {}
                '-' if chars.get(at + 1).is_none_or(|next| next.is_whitespace()) => {}
                _ => {
                    let end = (at + token(&chars[at..])).min(chars.len());
                    let blanks = chars[at..end].iter().rev().take_while(|c| c.is_whitespace()).count();
                    let end = end - blanks;
                    let text: String = chars[at..end].iter().collect();
                    let text = text.trim_matches(['"', '\'']);
                    let is_key = takes_key && chars[end..].iter().find(|c| !c.is_whitespace()) == Some(&':');
                    let may_be_seen = if is_key {
                        is_delicate = self.is_delicate(text);
                        !is_by_chance(text)
                    } else {
                        let is_number = text.len() < 10 && text.chars().all(|c| c.is_ascii_digit());
                        !is_delicate && (is_number || is_short_word(text) || self.words.contains(text))
                    };
                    if !may_be_seen {
                        found.push(at..end);
                    }
                    takes_key = false;
                    at = end;
                    continue;
                }
            }
            at += 1;
        }
        found
    }

    fn is_delicate(&self, key: &str) -> bool {
        let key = key.to_lowercase();
        // Where a secret goes is none.
        if key == "secretfile" {
            return false;
        }
        let is_near = |word: &str| strsim::osa_distance(&key, word) <= 2;
        DELICATE.iter().any(|word| key.contains(word))
            || key.ends_with("key")
            || ["password", "secret", "token"].into_iter().any(is_near)
            || self.secrets.iter().any(|word| is_near(word))
    }
}

fn add_words(field: &Field, words: &mut BTreeSet<&'static str>, secrets: &mut BTreeSet<String>) {
    match field.shape {
        Shape::Secret => drop(secrets.insert(field.name.to_lowercase())),
        Shape::OneOf(known) => words.extend(known),
        Shape::Object(fields) | Shape::Items { fields, .. } => {
            for field in fields {
                add_words(field, words, secrets);
            }
        }
        _ => {}
    }
}

fn is_short_word(text: &str) -> bool {
    text.chars().count() <= SHORT_WORD && text.chars().all(|c| c.is_alphabetic() || c == ' ')
}

/// Long, and made of everything at once: names and words are not.
fn is_by_chance(text: &str) -> bool {
    text.len() >= LONG_TOKEN && text.chars().all(is_of_token) && is_mixed(text)
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-')
}

/// Names and words are not made of everything at once.
fn is_mixed(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
        && text.contains(|c: char| c.is_ascii_lowercase())
        && text.contains(|c: char| c.is_ascii_uppercase())
        || text.len() >= 2 * LONG_TOKEN
}

/// How many characters the word that begins here has: a key, a value, or what opens a list or mapping.
fn token(chars: &[char]) -> usize {
    let quote = chars.first().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        return chars.iter().skip(1).position(|c| c == quote).map_or(chars.len(), |at| at + 2);
    }
    let ends = |at: usize, c: char| {
        let next = chars.get(at + 1);
        matches!(c, ',' | '[' | ']' | '{' | '}')
            || c == ':' && next.is_none_or(|next| next.is_whitespace())
            || c == ' ' && next.is_none_or(|next| matches!(next, '#' | ' '))
    };
    chars.iter().enumerate().position(|(at, c)| ends(at, *c)).unwrap_or(chars.len()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, column: u32) -> String {
        let mut excerpts = Excerpts::of(Path::new("."));
        let file: Arc<str> = "a.yaml".into();
        excerpts.file = Some((Arc::clone(&file), vec![line.to_owned()]));
        let text = excerpts.at(&Place { file, line: 1, column }).unwrap();
        let (place, text) = text.split_once('\n').unwrap();
        assert!(place.starts_with("  --> a.yaml:1"), "{place}");
        text.to_owned()
    }

    #[test]
    fn the_word_is_marked() {
        for (line, column, expected) in [
            (
                "  - { name: r, descriptoin: x }",
                16,
                "   1 |   - { name: r, descriptoin: x }\n     |                ^^^^^^^^^^^",
            ),
            ("a: 'x y' # c", 4, "   1 | a: 'x y' # c\n     |    ^^^^^"),
            ("a: x y # c", 4, "   1 | a: x y # c\n     |    ^^^"),
            ("a: x-y # c", 4, "   1 | a: … # c\n     |    ^"),
            ("\ta: [x]", 5, "   1 |  a: [x]\n     |     ^"),
            ("a: é", 0, "   1 | a: é"),
            ("a", 9, "   1 | a"),
        ] {
            assert_eq!(shown(line, column), expected, "{line}");
        }
        let long = format!("x: [{}] # end", "true, ".repeat(60));
        let found = shown(&long, 201);
        assert!(found.contains("| …") && found.lines().next().unwrap().ends_with('…'), "{found}");
        assert!(found.lines().all(|line| line.chars().count() < 120), "{found}");
    }

    #[test]
    fn in_the_middle_of_a_long_line_nothing_is_taken_for_a_key() {
        let line = format!("x: {{ a: {}hunter-two: b, c: d }}", "word ".repeat(300));
        let found = shown(&line, 1512);
        assert!(!found.contains("hunter-two") && found.contains('…'), "{found}");
    }

    #[test]
    fn of_values_only_what_tells_nothing_is_shown() {
        for line in [
            "clientSecret: hunter2",
            "- { id: a, clientSecret: hunter2, nam: b }",
            "- { id: a, 'clientSecrte': 'hunter2', nam: b }",
            "    PASSWORD:   \"hunter2\"",
            "    PASSWORD:   \"hunter2",
            "x: &a {api-token: hunter2}",
            "- Xhunter2AbCdEfGhIjKlMnOpQr==",
            "Xhunter2AbCdEfGhIjKlMnOpQr: x",
            "description: [hunter2]",
            "description: hunter2: hunter2",
            "description: { hunter2 }",
            "description: *hunter2",
            "hunter2",
            "- hunter2",
            "a: b # hunter2",
            "clientSecret: hunter",
            "managementKey: hunter",
            "clientSecret: [hunter]",
            "a: { b: [c, d: hunter2], e: hunter2 }",
        ] {
            let found = shown(line, 3);
            assert!(!found.contains("hunter") && found.contains('…'), "{line}: {found}");
        }
        for line in
            ["- { id: portal, type: oidc, enabled: true, minLength: 12 }", "  - name: Reader", "roles:", "  - {"]
        {
            assert!(shown(line, 0).ends_with(line.trim_end()), "{line}: {}", shown(line, 0));
        }
        let found = shown("- { clientSecret: hunter2, nam: b }", 28);
        assert_eq!(found, "   1 | - { clientSecret: …, nam: b }\n     |                      ^^^");
    }
}
