//! YAML text to nodes that know their line; strict where YAML is lenient.
//!
//! YAML 1.2 core schema: `no` is a text. Faults never quote a value, since a value may be a secret.

use crate::dialect;
use crate::events::Event;
use crate::events::Events;
use crate::events::Marker;
use crate::events::ScalarStyle;
use crate::events::Tag;
use crate::events::line_ends;
use serde_json::Number;
use std::collections::HashMap;

/// So many faults are kept, the first of the text.
pub const MOST: usize = 300;
// Nothing in a config repo nests deeper than a custom attribute's list; the rest is an attack or an accident.
const MAX_DEPTH: usize = 32;
// What all aliases of one file may expand to. A node counts one, and 16 bytes of text count one more.
const MAX_EXPANSION: usize = 1_000_000;
// Half a million tenants; each takes some seventy bytes, and the shortest of them two in the file.
const MAX_NODES: usize = 4_000_000;

/// A place in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// From 1; 0 for the whole.
    pub line: u32,
    /// In characters, from 1; 0 where it is not known.
    pub column: u32,
}

impl At {
    fn start(line: usize) -> Self {
        Self { line: number_of(line), column: 1 }
    }
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where.
    pub at: At,
    /// What it is.
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// An integer or a finite float.
    Number(Number),
    /// Anything else that is plain, and everything in quotes.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping; keys are texts and occur once.
    Map(Vec<Entry>),
    /// A value that a fault already names.
    Faulty,
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub at: At,
    /// What it maps to.
    pub node: Node,
}

/// Something that YAML, or this reading of it, does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub at: At,
    /// What is wrong and what to do.
    pub message: String,
}

impl Value {
    /// The sort of value, with its article, for messages.
    pub fn sort(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Faulty => "not readable",
        }
    }
}

/// The first faults, and how many there are beside them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// In the order of the text.
    pub kept: Vec<Fault>,
    /// Those that are not kept.
    pub more: usize,
}

/// Every document of the text, and what is wrong with it. Documents after a syntax error are missing, with the fault saying so.
pub fn parse(text: &str) -> (Vec<Node>, Faults) {
    parse_within(text, MAX_NODES)
}

fn parse_within(text: &str, room: usize) -> (Vec<Node>, Faults) {
    let mut builder = Builder { room, ..Builder::default() };
    // The scanner takes a NUL for the end of its input and would drop the rest without a word.
    if let Some(at) = text.find('\0') {
        let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        builder.fault(At::start(line), "holds a NUL byte: the file is damaged or not text");
        return (Vec::new(), builder.faults);
    }
    if let Some((line, message)) = dialect::obstacle(text) {
        builder.fault(At::start(line), message);
        return (Vec::new(), builder.faults);
    }
    let text = dialect::with_spaces_after_keys(text);
    // What ends too early is reported behind the last line, where no editor can go. A carriage return alone ends one, too.
    let is_open = !text.ends_with(['\n', '\r']);
    let ends = line_ends(&text);
    let last = (ends + usize::from(is_open)).max(1);
    let at = |mark: &Marker| {
        if mark.line() > last {
            return At { line: number_of(last), column: 0 };
        }
        At { line: number_of(mark.line()), column: number_of(mark.col() + 1) }
    };
    for event in Events::of(&text) {
        let done = match event {
            Ok((event, span)) => builder.take(event, at(&span.start)),
            Err(error) => {
                builder.fault(at(error.marker()), format!("is not YAML: {}", error.info()));
                Err(Stop)
            }
        };
        if done.is_err() {
            break;
        }
    }
    (builder.documents, builder.faults)
}

/// Reading on makes no sense.
struct Stop;

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    faults: Faults,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Measured>,
    expanded: usize,
    /// How many values there may still be.
    room: usize,
}

struct Frame {
    at: At,
    anchor: usize,
    weight: usize,
    height: usize,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map(Vec<Entry>, Key),
}

/// Where a mapping stands between its keys.
enum Key {
    Expected,
    Read(String, At),
    /// The key was faulty: its value is read and dropped.
    Dropped,
}

#[derive(Clone)]
struct Measured {
    node: Node,
    weight: usize,
    height: usize,
}

fn number_of(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

impl Builder {
    fn fault(&mut self, at: At, message: impl Into<String>) {
        if self.faults.kept.len() < MOST {
            self.faults.kept.push(Fault { at, message: message.into() });
        } else {
            self.faults.more += 1;
        }
    }

    fn take(&mut self, event: Event<'_>, at: At) -> Result<(), Stop> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), at),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::SequenceStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", at);
                self.open(Open::List(Vec::new()), anchor, at)
            }
            Event::MappingStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", at);
                self.open(Open::Map(Vec::new(), Key::Expected), anchor, at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, tag: Option<&Tag>, at: At) -> Result<(), Stop> {
        let is_plain = style == ScalarStyle::Plain;
        if is_plain && text == "<<" && tag.is_none() && self.expects_key() {
            self.fault(at, "merge keys (`<<`) are not supported; write the fields out, or use an alias as a value");
            self.set_key(Key::Dropped);
            return Ok(());
        }
        let weight = 1 + text.len() / 16;
        // Texts are copied: the scanner's buffers are roomy, and a hundred thousand resources keep theirs.
        let value = match tag_of(tag) {
            Tagged::No if is_plain => plain(text),
            Tagged::No | Tagged::Text => Ok(Value::Text(text.to_owned())),
            Tagged::Core => plain(text),
            Tagged::Foreign => Err("tags (`!name`) are not supported; take the tag out"),
        };
        let value = value.unwrap_or_else(|message| {
            self.fault(at, message);
            Value::Faulty
        });
        self.put(Measured { node: Node { at, value }, weight, height: 0 }, anchor)
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, core: &str, at: At) {
        if tag.is_some_and(|tag| !(tag.is_yaml_core_schema() && tag.suffix == core)) {
            self.fault(at, "tags (`!name`) are not supported; take the tag out");
        }
    }

    fn alias(&mut self, anchor: usize, at: At) -> Result<(), Stop> {
        let Some(copy) = self.anchors.get(&anchor) else {
            self.fault(at, "the alias stands inside its own anchor, so it would never end");
            return self.put(Measured { node: faulty(at), weight: 1, height: 0 }, 0);
        };
        self.expanded = self.expanded.saturating_add(copy.weight);
        if self.expanded > MAX_EXPANSION || self.stack.len() + copy.height > MAX_DEPTH {
            self.fault(at, "the aliases of this file expand to far more than they should; write the values out");
            return Err(Stop);
        }
        let mut copy = copy.clone();
        copy.node.at = at;
        self.put(copy, 0)
    }

    fn open(&mut self, open: Open, anchor: usize, at: At) -> Result<(), Stop> {
        if self.stack.len() >= MAX_DEPTH {
            self.fault(at, format!("nests deeper than {MAX_DEPTH} levels"));
            return Err(Stop);
        }
        self.stack.push(Frame { at, anchor, weight: 1, height: 0, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else { return Err(Stop) };
        let value = match frame.open {
            Open::List(nodes) => Value::List(nodes),
            Open::Map(entries, _) => Value::Map(self.without_doubles(entries)),
        };
        let node = Node { at: frame.at, value };
        self.put(Measured { node, weight: frame.weight, height: frame.height + 1 }, frame.anchor)
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, done: Measured, anchor: usize) -> Result<(), Stop> {
        let Some(room) = self.room.checked_sub(1) else {
            self.fault(done.node.at, "the file holds far too many values for one; split it");
            return Err(Stop);
        };
        self.room = room;
        if anchor != 0 {
            self.expanded = self.expanded.saturating_add(done.weight);
            if self.expanded > MAX_EXPANSION {
                self.fault(done.node.at, "the anchors of this file hold far more than they should");
                return Err(Stop);
            }
            self.anchors.insert(anchor, done.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.documents.push(done.node);
            return Ok(());
        };
        frame.weight = frame.weight.saturating_add(done.weight);
        frame.height = frame.height.max(done.height);
        match &mut frame.open {
            Open::List(nodes) => nodes.push(done.node),
            Open::Map(entries, key) => match std::mem::replace(key, Key::Expected) {
                Key::Read(name, at) => entries.push(Entry { key: name, at, node: done.node }),
                Key::Dropped => {}
                Key::Expected => {
                    let at = done.node.at;
                    if let Value::Text(name) = done.node.value {
                        *key = Key::Read(name, at);
                        return Ok(());
                    }
                    *key = Key::Dropped;
                    let message = match done.node.value {
                        Value::Faulty => return Ok(()),
                        Value::Flag(_) | Value::Number(_) | Value::Null => {
                            format!("a key must be a text but is {}; put it in quotes", done.node.value.sort())
                        }
                        Value::Text(_) | Value::List(_) | Value::Map(_) => {
                            format!("a key must be a text but is {}", done.node.value.sort())
                        }
                    };
                    self.fault(at, message);
                }
            },
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { open: Open::Map(_, Key::Expected), .. }))
    }

    fn set_key(&mut self, next: Key) {
        if let Some(Frame { open: Open::Map(_, key), .. }) = self.stack.last_mut() {
            *key = next;
        }
    }

    fn without_doubles(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        // Nearly every mapping is a handful of fields; building a map for each would cost more than it finds.
        if entries.len() <= 12 {
            let has_double = (1..entries.len()).any(|n| entries[..n].iter().any(|e| e.key == entries[n].key));
            if !has_double {
                return entries;
            }
        }
        let mut first: HashMap<String, u32> = HashMap::with_capacity(entries.len());
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(line) = first.get(&entry.key) {
                let key = shown(&entry.key);
                self.fault(entry.at, format!("the key {key} stands here twice, first on line {line}; keep one"));
            } else {
                first.insert(entry.key.clone(), entry.at.line);
                kept.push(entry);
            }
        }
        kept
    }
}

fn faulty(at: At) -> Node {
    Node { at, value: Value::Faulty }
}

/// A key or an identity as messages quote it: on one line and of bounded length.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut quoted: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

enum Tagged {
    No,
    Text,
    Core,
    Foreign,
}

fn tag_of(tag: Option<&Tag>) -> Tagged {
    let Some(tag) = tag else { return Tagged::No };
    if !tag.is_yaml_core_schema() {
        return if tag.handle.is_empty() && tag.suffix == "!" { Tagged::Text } else { Tagged::Foreign };
    }
    match tag.suffix.as_str() {
        "str" => Tagged::Text,
        "int" | "float" | "bool" | "null" => Tagged::Core,
        _ => Tagged::Foreign,
    }
}

const TOO_BIG: &str = "the number is too big to be kept exactly; put it in quotes";

/// A plain scalar by the core schema of YAML 1.2.2, section 10.3.
fn plain(text: &str) -> Result<Value, &'static str> {
    // Nearly every one is told to be a text by its first letter.
    let may_be_other =
        |first| matches!(first, b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'.' | b'-' | b'+' | b'0'..=b'9');
    if text.bytes().next().is_none_or(may_be_other) { special(text) } else { Ok(Value::Text(text.to_owned())) }
}

/// The same, by all of the text.
fn special(text: &str) -> Result<Value, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Flag(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Flag(false)),
        ".nan" | ".NaN" | ".NAN" => return Err("`.nan` is not a value that Descope can hold; put it in quotes"),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Err("`.inf` is not a value that Descope can hold; put it in quotes"),
        _ if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            return Ok(Value::Text(text.to_owned()));
        }
        _ => {}
    }
    let radix = match text.as_bytes() {
        [b'0', b'x', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit) => 16,
        [b'0', b'o', digits @ ..] if !digits.is_empty() && digits.iter().all(|d| (b'0'..=b'7').contains(d)) => 8,
        _ => 10,
    };
    if radix != 10 {
        return u64::from_str_radix(&text[2..], radix).map(|n| Value::Number(n.into())).map_err(|_| TOO_BIG);
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let number = unsigned.parse::<u64>().map_err(|_| TOO_BIG)?;
        if !text.starts_with('-') {
            return Ok(Value::Number(number.into()));
        }
        return text.parse::<i64>().map(|n| Value::Number(n.into())).map_err(|_| TOO_BIG);
    }
    if !is_float(unsigned) {
        return Ok(Value::Text(text.to_owned()));
    }
    let float: f64 = text.parse().map_err(|_| TOO_BIG)?;
    Number::from_f64(float).map(Value::Number).ok_or(TOO_BIG)
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    is_digits(whole)
        && is_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|e| !e.is_empty() && is_digits(e))
}

#[cfg(test)]
mod tests;
