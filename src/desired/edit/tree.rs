//! A text of YAML as a tree that knows which bytes each value has, for changes that leave the rest alone.

use crate::dialect;
use descope_gitops_reading::events::Event;
use descope_gitops_reading::events::Events;
use descope_gitops_reading::events::ScalarStyle;
use std::collections::BTreeSet;
use std::ops::Range;

/// A value and its bytes, without what stands around it.
#[derive(Debug)]
pub struct Tree {
    /// Of a list or mapping in brackets with them; of one in lines from its first entry to the last. Without the anchor.
    pub bytes: Range<usize>,
    /// What it is.
    pub form: Form,
    /// It has an anchor that an alias of the same document refers to.
    pub is_shared: bool,
    anchor: usize,
}

/// How a value is written.
#[derive(Debug)]
pub enum Form {
    /// A text, a number, a word.
    Scalar(ScalarStyle),
    /// What stands elsewhere.
    Alias,
    /// Items.
    List(Vec<Tree>),
    /// Keys and values.
    Map(Vec<(Tree, Tree)>),
}

impl Tree {
    /// Is it in brackets?
    pub fn is_flow(&self, text: &str) -> bool {
        matches!(self.form, Form::List(_) | Form::Map(_)) && text[self.bytes.clone()].starts_with(['[', '{'])
    }
}

/// Every document of the text; `None` where it is no YAML.
pub fn read(text: &str) -> Option<Vec<Tree>> {
    let spaced = dialect::with_spaces_after_keys(text);
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let byte = |char: usize| bytes.get(char).copied().unwrap_or(text.len());
    let mut reader = Reader { text, documents: Vec::new(), open: Vec::new(), aliased: BTreeSet::new() };
    for event in Events::of(&spaced) {
        let (event, span) = event.ok()?;
        reader.take(&event, byte(span.start.index())..byte(span.end.index()))?;
    }
    Some(reader.documents)
}

struct Reader<'t> {
    text: &'t str,
    documents: Vec<Tree>,
    open: Vec<Open>,
    aliased: BTreeSet<usize>,
}

/// A list or mapping that has not ended.
struct Open {
    start: usize,
    anchor: usize,
    is_map: bool,
    values: Vec<Tree>,
}

impl Reader<'_> {
    fn take(&mut self, event: &Event<'_>, bytes: Range<usize>) -> Option<()> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            Event::DocumentStart(_) => self.aliased.clear(),
            Event::DocumentEnd => {
                let aliased = std::mem::take(&mut self.aliased);
                self.documents.last_mut().into_iter().for_each(|document| share(document, &aliased));
            }
            Event::Scalar(_, style, anchor, _) => {
                let start = self.behind_properties(bytes.clone());
                let end = match style {
                    ScalarStyle::SingleQuoted => self.behind_quote(start, '\''),
                    ScalarStyle::DoubleQuoted => self.behind_quote(start, '"'),
                    ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => {
                        self.without_blanks(start..bytes.end)
                    }
                };
                // A block text begins with its header.
                let start = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => self.text[..start].rfind(['|', '>'])?,
                    ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => start,
                };
                self.put(Tree { bytes: start..end, form: Form::Scalar(*style), is_shared: false, anchor: *anchor });
            }
            Event::Alias(anchor) => {
                self.aliased.insert(*anchor);
                let end = self.without_blanks(bytes.clone());
                self.put(Tree { bytes: bytes.start..end, form: Form::Alias, is_shared: false, anchor: 0 });
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                let start = self.behind_properties(bytes);
                let is_map = matches!(event, Event::MappingStart(..));
                self.open.push(Open { start, anchor: *anchor, is_map, values: Vec::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { start, anchor, is_map, values } = self.open.pop()?;
                let is_flow = self.text[start..].starts_with(['[', '{']);
                let last = values.last().map_or(start, |last| last.bytes.end);
                let first = values.first().map_or(start, |first| first.bytes.start);
                // What ends it is marked where it stands, and so is what follows.
                let range = if is_flow { start..bytes.start + 1 } else { first..last };
                let form = if is_map { Form::Map(pairs(values)) } else { Form::List(values) };
                self.put(Tree { bytes: range, form, is_shared: false, anchor });
            }
        }
        Some(())
    }

    fn put(&mut self, tree: Tree) {
        match self.open.last_mut() {
            Some(open) => open.values.push(tree),
            None => self.documents.push(tree),
        }
    }

    /// Where the value begins behind its anchor and tag.
    fn behind_properties(&self, bytes: Range<usize>) -> usize {
        let mut start = bytes.start;
        while self.text[start..bytes.end].starts_with(['&', '!']) {
            let word = self.text[start..bytes.end].find(char::is_whitespace).unwrap_or(bytes.end - start);
            start += word;
            start += self.text[start..].len() - self.text[start..].trim_start().len();
        }
        start.min(self.text.len())
    }

    /// Where a text in quotes ends.
    fn behind_quote(&self, start: usize, quote: char) -> usize {
        let mut chars = self.text[start..].char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            let is_doubled = quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == quote);
            if c == '\\' && quote == '"' || c == quote && is_doubled {
                chars.next();
            } else if c == quote {
                return start + at + 1;
            }
        }
        self.text.len()
    }

    fn without_blanks(&self, bytes: Range<usize>) -> usize {
        let end = bytes.end.max(bytes.start);
        bytes.start + self.text[bytes.start..end].trim_end().len()
    }
}

fn pairs(values: Vec<Tree>) -> Vec<(Tree, Tree)> {
    let mut values = values.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn share(tree: &mut Tree, aliased: &BTreeSet<usize>) {
    tree.is_shared = tree.anchor != 0 && aliased.contains(&tree.anchor);
    match &mut tree.form {
        Form::List(items) => items.iter_mut().for_each(|item| share(item, aliased)),
        Form::Map(entries) => {
            for (key, value) in entries {
                share(key, aliased);
                share(value, aliased);
            }
        }
        Form::Scalar(_) | Form::Alias => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(text: &str, tree: &Tree, found: &mut Vec<String>) {
        match &tree.form {
            Form::List(items) => items.iter().for_each(|item| leaves(text, item, found)),
            Form::Map(entries) => entries.iter().for_each(|(key, value)| {
                leaves(text, key, found);
                leaves(text, value, found);
            }),
            Form::Scalar(_) | Form::Alias => found.push(text[tree.bytes.clone()].to_owned()),
        }
    }

    #[test]
    fn each_value_knows_its_bytes_and_nothing_around_them() {
        let text = "# é\nroles: # x\n  - name: &n  Editor   # n\n    text: |\n      one\n\n      two\n\n    list: &p\n      - a # one\n      \
                    - 'b'\n    x: &d \"x\"\n    none:\n    tilde: ~\n  - { name: *n , list: [a, \"b\" ], m: &mm {a: b} }\n\
                    y: >-\n  fold\n  more\nz: plain\n  more\nlast: *p\nquotes: ['it''s', \"a\\\"b\\\\\", '\\']\n";

        let tree = read(text).unwrap().remove(0);

        let mut found = Vec::new();
        leaves(text, &tree, &mut found);
        let expected = [
            "roles",
            "name",
            "Editor",
            "text",
            "|\n      one\n\n      two",
            "list",
            "a",
            "'b'",
            "x",
            "\"x\"",
            "none",
            "",
            "tilde",
            "~",
            "name",
            "*n",
            "list",
            "a",
            "\"b\"",
            "m",
            "a",
            "b",
            "y",
            ">-\n  fold\n  more",
            "z",
            "plain\n  more",
            "last",
            "*p",
            "quotes",
            "'it''s'",
            r#""a\"b\\""#,
            r"'\'",
        ];
        assert_eq!(found, expected);
        let Form::Map(top) = &tree.form else { panic!() };
        let Form::List(roles) = &top[0].1.form else { panic!() };
        assert_eq!(&text[roles[1].bytes.clone()], "{ name: *n , list: [a, \"b\" ], m: &mm {a: b} }");
        assert!(roles[1].is_flow(text) && !roles[0].is_flow(text));
        let Form::Map(fields) = &roles[0].form else { panic!() };
        assert!(fields[0].1.is_shared && fields[2].1.is_shared && !fields[3].1.is_shared);
        assert_eq!(&text[fields[2].1.bytes.clone()], "a # one\n      - 'b'");
    }
}
