//! Changes files of YAML to what lives, value by value: comments, order, quoting and anchors stay.
//!
//! Made of the places that the parser marks: an editor with a parser of its own could take a text for something else than the
//! loader does, and would change it in the wrong place.

#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else there is, is written as a whole")]

use crate::desired::check;
use crate::desired::export::nothing;
use crate::desired::export::text;
use crate::desired::export::text::Yaml;
use crate::desired::yaml;
use crate::desired::yaml::Node;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Shape;
use crate::resource::fold::canonical;
use crate::resource::fold::is_zero;
use crate::resource::fold::same;
use crate::resource::fold::same_entry;
use crate::resource::secret::item_id;
use crate::resource::spec::Back;
use crate::resource::spec::Need;
use descope_gitops_reading::events::ScalarStyle;
use serde_json::Value;
use std::ops::Range;

#[cfg(test)]
mod tests;
mod tree;

use tree::Form;
use tree::Tree;

/// What becomes of one file.
#[derive(Debug, Default)]
pub struct Edited {
    /// The new text; the old one where nothing differs.
    pub text: String,
    /// What cannot be changed there: line, resource and field, and why.
    pub obstacles: Vec<Obstacle>,
}

/// A place that has to be changed by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// From 1.
    pub line: usize,
    /// Whose value it is.
    pub key: Key,
    /// Which.
    pub path: String,
    /// Why, and what to do.
    pub why: &'static str,
}

/// What lives, as far as it was looked at.
pub enum Lives<'a> {
    /// This.
    As(&'a Document),
    /// Nobody has it any more.
    No,
    /// Nothing is known of it.
    Unseen,
}

/// Is asked for each resource, with its id where the file says one.
pub type Look<'l, 'a> = &'l dyn Fn(&'static dyn Kind, &Key, Option<&str>) -> Lives<'a>;

/// Makes the text of one file say what lives.
pub fn edit(text: &str, kinds: &[&'static dyn Kind], lives: Look<'_, '_>) -> Edited {
    let (documents, faults) = yaml::parse(text);
    let trees = tree::read(text).filter(|trees| trees.len() == documents.len() && faults.kept.is_empty());
    let Some(trees) = trees else { return Edited { text: text.to_owned(), obstacles: Vec::new() } };
    let mut pencil = Pencil { text, key: Key::new("", ""), changes: Vec::new(), obstacles: Vec::new() };
    for (node, tree) in documents.iter().zip(&trees) {
        let (yaml::Value::Map(entries), Form::Map(trees)) = (&node.value, &tree.form) else { continue };
        for (entry, (key, tree)) in entries.iter().zip(trees) {
            let Some(kind) = kinds.iter().find(|kind| kind.name() == entry.key) else { continue };
            pencil.kind(*kind, &entry.node, key, tree, lives);
        }
    }
    pencil.done()
}

/// Notes what to write over which bytes.
struct Pencil<'t> {
    text: &'t str,
    key: Key,
    changes: Vec<(Range<usize>, String)>,
    obstacles: Vec<Obstacle>,
}

const SHARED: &str = "the value comes from an anchor that other places share; change it by hand, there or here";

impl Pencil<'_> {
    fn done(mut self) -> Edited {
        self.changes.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
        let mut text = self.text.to_owned();
        for (bytes, new) in self.changes.into_iter().rev() {
            text.replace_range(bytes, &new);
        }
        Edited { text, obstacles: self.obstacles }
    }

    fn cannot(&mut self, tree: &Tree, path: &str, why: &'static str) {
        let line = self.text[..tree.bytes.start].matches('\n').count() + 1;
        self.obstacles.push(Obstacle { line, key: self.key.clone(), path: path.to_owned(), why });
    }

    fn kind(&mut self, kind: &'static dyn Kind, node: &Node, name: &Tree, tree: &Tree, lives: Look<'_, '_>) {
        let spec = kind.spec();
        if spec.is_only() {
            self.key = Key::only(spec.name);
            let Lives::As(live) = lives(kind, &self.key, None) else { return };
            match spec.identity.bare.and_then(|bare| spec.field(bare)) {
                Some((_, field)) => self.field(field.name, field, node, name, tree, live),
                None => self.fields(&mut spec.fields().map(|(_, field)| field), "", node, tree, live, &[]),
            }
            return;
        }
        let yaml::Value::List(items) = &node.value else { return };
        let mut gone = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let yaml::Value::Map(entries) = &item.value else { continue };
            let Ok(key) = check::identity(spec, entries) else { continue };
            let id = spec.identity.server_id.and_then(|id| entries.iter().find(|entry| entry.key == id));
            let id = id
                .and_then(|entry| if let yaml::Value::Text(id) = &entry.node.value { Some(id.as_str()) } else { None });
            self.key = key;
            match lives(kind, &self.key, id) {
                Lives::Unseen => {}
                Lives::No => gone.push(at),
                Lives::As(live) => match &tree.form {
                    Form::List(trees) => {
                        let names: Vec<&str> = spec.identity.field.into_iter().chain(spec.identity.tenant).collect();
                        self.fields(&mut spec.fields().map(|(_, field)| field), "", item, &trees[at], live, &names);
                    }
                    // All of it stands elsewhere.
                    _ => self.cannot(tree, "", SHARED),
                },
            }
        }
        self.remove(name, tree, &gone, "");
    }

    /// The fields that a mapping writes. `names` are the identity, which is as it is.
    fn fields(
        &mut self,
        fields: &mut dyn Iterator<Item = &'static Field>,
        path: &str,
        node: &Node,
        tree: &Tree,
        live: &Document,
        names: &[&str],
    ) {
        let yaml::Value::Map(entries) = &node.value else { return };
        for field in fields.filter(|field| field.is_declarable() && !names.contains(&field.name)) {
            let Some(at) = entries.iter().position(|entry| entry.key == field.name) else { continue };
            let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
            let is_told = match field.back {
                Back::AsWritten => true,
                Back::Maybe => live.contains_key(field.name),
                Back::Never | Back::Computed => false,
            };
            if !is_told || matches!(field.shape, Shape::Secret) || field.is_in_a_file() {
                continue;
            }
            match &tree.form {
                Form::Map(trees) if !tree.is_shared => {
                    let (name, tree) = &trees[at];
                    self.field(&path, field, &entries[at].node, name, tree, live);
                }
                _ => {
                    let value = live.get(field.name).unwrap_or(&Value::Null);
                    if !same(field.shape, Some(value), &json(&entries[at].node)) {
                        self.cannot(tree, &path, SHARED);
                    }
                }
            }
        }
    }

    fn field(&mut self, path: &str, field: &Field, node: &Node, name: &Tree, tree: &Tree, live: &Document) {
        let value = live.get(field.name).unwrap_or(&Value::Null);
        if field.need == Need::AtCreation && !same(field.shape, Some(value), &json(node)) {
            return self.cannot(tree, path, "it can be set only when the resource is created; change it by hand");
        }
        self.value(path, field.shape, node, name, tree, value);
    }

    fn value(&mut self, path: &str, shape: Shape, node: &Node, name: &Tree, tree: &Tree, live: &Value) {
        let is_open = !tree.is_shared && !matches!(tree.form, Form::Alias);
        match (shape, &node.value, &tree.form, live) {
            (Shape::Object(fields), yaml::Value::Map(_), _, Value::Object(live)) => {
                return self.fields(&mut fields.iter(), path, node, tree, live, &[]);
            }
            (Shape::Attributes | Shape::Map(_), yaml::Value::Map(entries), Form::Map(trees), live) if is_open => {
                for (entry, (name, tree)) in entries.iter().zip(trees) {
                    let live = live.get(&entry.key).unwrap_or(&Value::Null);
                    let path = format!("{path}.{}", entry.key);
                    match shape {
                        Shape::Map(shape) if !live.is_null() => {
                            self.value(&path, *shape, &entry.node, name, tree, live);
                        }
                        _ if same_entry(live, &json(&entry.node)) => {}
                        _ => self.replace(&path, Shape::Json, &entry.node, name, tree, live),
                    }
                }
                return;
            }
            (Shape::Items { key, fields, keeps }, yaml::Value::List(items), Form::List(trees), Value::Array(live))
                if is_open =>
            {
                let mut gone = Vec::new();
                let mut known = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    let item_json = json(item);
                    let id: Vec<String> = item_id(key, &item_json).into_iter().map(str::to_owned).collect();
                    let path = format!("{path}[{}]", id.join(","));
                    match live.iter().find(|live| item_id(key, live) == id).and_then(Value::as_object) {
                        Some(live) => self.fields(&mut fields.iter(), &path, item, &trees[at], live, key),
                        None => gone.push(at),
                    }
                    known.push(id);
                }
                let new: Vec<&Value> =
                    live.iter().filter(|live| !keeps && !known.iter().any(|id| item_id(key, live) == *id)).collect();
                if !new.is_empty() {
                    self.cannot(tree, path, "an item came to it in Descope; add it by hand");
                }
                return self.remove(name, tree, &gone, path);
            }
            _ => {}
        }
        if same(shape, Some(live), &json(node)) {
            return;
        }
        if let (Shape::Set | Shape::References(_), Form::List(trees), Value::Array(live)) = (shape, &tree.form, live)
            && is_open
        {
            return self.set(path, node, name, tree, trees, live);
        }
        self.replace(path, shape, node, name, tree, live);
    }

    /// A list without order: what stays, stays where it is.
    fn set(&mut self, path: &str, node: &Node, name: &Tree, tree: &Tree, trees: &[Tree], live: &[Value]) {
        let yaml::Value::List(items) = &node.value else { return };
        let written: Vec<Value> = items.iter().map(json).collect();
        let mut new: Vec<&str> = live.iter().filter(|item| !written.contains(item)).filter_map(Value::as_str).collect();
        new.sort_unstable();
        new.dedup();
        let gone: Vec<usize> = (0..written.len()).filter(|at| !live.contains(&written[*at])).collect();
        let is_simple = trees.iter().all(|item| matches!(item.form, Form::Scalar(_) | Form::Alias) && !item.is_shared);
        if tree.is_flow(self.text) || !is_simple || gone.len() == written.len() {
            if trees.iter().any(|item| item.is_shared) {
                return self.cannot(tree, path, SHARED);
            }
            let stays = trees.iter().enumerate().filter(|(at, _)| !gone.contains(at));
            let mut texts: Vec<String> = stays.map(|(_, item)| self.text[item.bytes.clone()].to_owned()).collect();
            texts.extend(new.iter().map(|item| text::scalar(item)));
            if tree.is_flow(self.text) && texts.iter().all(|text| !text.contains('\n')) {
                return self.changes.push((tree.bytes.clone(), format!("[{}]", texts.join(", "))));
            }
            let live = Value::Array(live.to_vec());
            return self.replace(path, Shape::Set, node, name, tree, &live);
        }
        let Some(last) = trees.last() else { return };
        let start = self.line_start(last.bytes.start);
        let Some(dash) = self.text[start..last.bytes.start].find('-') else { return };
        let indent = self.text[start..start + dash].to_owned();
        self.remove(name, tree, &gone, path);
        let end = self.line_end(last.bytes.end);
        let lines: Vec<String> = new.iter().map(|item| format!("{indent}- {}\n", text::scalar(item))).collect();
        if !lines.is_empty() {
            let lines = lines.concat();
            // The last line may have no end.
            let lines = if self.text[..end].ends_with('\n') { lines } else { format!("\n{}", lines.trim_end()) };
            self.changes.push((end..end, lines));
        }
    }

    /// Takes items out of a list, with their lines.
    fn remove(&mut self, name: &Tree, tree: &Tree, gone: &[usize], path: &str) {
        if gone.is_empty() {
            return;
        }
        let Form::List(items) = &tree.form else { return };
        if tree.is_flow(self.text) || tree.is_shared {
            return self.cannot(tree, path, "what is in this list is gone in Descope; take it out by hand");
        }
        for at in gone {
            let item = &items[*at];
            let line = self.line_start(item.bytes.start);
            // An alias refers to what would go.
            let is_alone = self.text[line..item.bytes.start].trim_start().starts_with('-')
                && self.text[line..item.bytes.start].matches('-').count() == 1;
            if has_shared(item) || !is_alone {
                self.cannot(
                    item,
                    path,
                    "it is gone in Descope, but other places share what it holds; take it out by hand",
                );
                continue;
            }
            self.changes.push((line..self.line_end(item.bytes.end), String::new()));
        }
        if gone.len() == items.len() {
            let colon = self.text[name.bytes.end..].find(':').map_or(name.bytes.end, |at| name.bytes.end + at + 1);
            self.changes.push((colon..colon, " []".to_owned()));
        }
    }

    /// Writes a value anew, as the old one was written where that can be.
    fn replace(&mut self, path: &str, shape: Shape, node: &Node, name: &Tree, tree: &Tree, live: &Value) {
        let has_shared_inside = has_shared(tree);
        if matches!(tree.form, Form::Alias) || has_shared_inside {
            return self.cannot(tree, path, SHARED);
        }
        let live = canonical(shape, live);
        let yaml = match (shape, &live) {
            (Shape::Attributes | Shape::Map(_) | Shape::Json, live) => Yaml::from_json(live),
            (shape, live) if is_zero(live) => nothing(shape).unwrap_or(Yaml::Null),
            (_, live) => Yaml::from_json(live),
        };
        let bytes = tree.bytes.clone();
        if node.value == yaml::Value::Null && bytes.is_empty() {
            let colon = self.text[name.bytes.end..].find(':').map_or(name.bytes.end, |at| name.bytes.end + at + 1);
            return self.changes.push((colon..colon, format!(" {}", text::inline(&yaml))));
        }
        let new = match (&tree.form, &yaml) {
            (Form::Scalar(style), Yaml::Text(new)) => self.scalar(*style, new, &bytes),
            (Form::List(_) | Form::Map(_), _) if !tree.is_flow(self.text) => self.block(tree, &yaml),
            _ => text::inline(&yaml),
        };
        // A block in lines begins with the dash of its first item.
        let start = if matches!(tree.form, Form::List(_)) && !tree.is_flow(self.text) {
            self.dash(&bytes)
        } else {
            bytes.start
        };
        self.changes.push((start..bytes.end, new));
    }

    fn dash(&self, bytes: &Range<usize>) -> usize {
        self.text[self.line_start(bytes.start)..bytes.start]
            .find('-')
            .map_or(bytes.start, |at| self.line_start(bytes.start) + at)
    }

    /// In the quotes that are there, where they can hold it.
    fn scalar(&self, style: ScalarStyle, new: &str, bytes: &Range<usize>) -> String {
        let is_one_line = !new.contains(|c: char| c.is_control() || crate::telemetry::line::is_unsafe(c));
        match style {
            ScalarStyle::SingleQuoted if is_one_line => format!("'{}'", new.replace('\'', "''")),
            ScalarStyle::DoubleQuoted => text::quoted(new),
            ScalarStyle::Literal => {
                let line = self.line_start(bytes.start);
                let indent = self.text[line..].len() - self.text[line..].trim_start_matches([' ', '-']).len();
                text::block_at(new, indent + 2).unwrap_or_else(|| text::quoted(new))
            }
            _ => text::scalar(new),
        }
    }

    /// In lines, from the column where the old one begins.
    fn block(&self, tree: &Tree, yaml: &Yaml) -> String {
        let start = if matches!(tree.form, Form::List(_)) { self.dash(&tree.bytes) } else { tree.bytes.start };
        let column = self.text[self.line_start(start)..start].chars().count();
        let text = text::document(yaml);
        let mut lines = text.trim_end().lines();
        let first = lines.next().unwrap_or_default().to_owned();
        lines.fold(first, |text, line| {
            let indent = if line.is_empty() { 0 } else { column };
            format!("{text}\n{}{line}", " ".repeat(indent))
        })
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |end| at + end + 1)
    }
}

/// Does an alias refer to something in it?
fn has_shared(tree: &Tree) -> bool {
    tree.is_shared
        || match &tree.form {
            Form::List(items) => items.iter().any(has_shared),
            Form::Map(entries) => entries.iter().any(|(key, value)| has_shared(key) || has_shared(value)),
            Form::Scalar(_) | Form::Alias => false,
        }
}

fn json(node: &Node) -> Value {
    match &node.value {
        yaml::Value::Null | yaml::Value::Faulty => Value::Null,
        yaml::Value::Flag(flag) => Value::Bool(*flag),
        yaml::Value::Number(number) => Value::Number(number.clone()),
        yaml::Value::Text(text) => Value::String(text.clone()),
        yaml::Value::List(items) => items.iter().map(json).collect(),
        yaml::Value::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect())
        }
    }
}
