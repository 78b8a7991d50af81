//! All there is to see of some kinds, for a command that writes it down.

use crate::descope;
use crate::descope::Client;
use crate::observed;
use crate::resource;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::form;
use crate::resource::spec::Read;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use tracing::Instrument;

/// As many as a daemon sends; the limiter paces them anyway.
const AT_ONCE: usize = 8;

/// What was seen.
#[derive(Debug, Default)]
pub struct Everything {
    /// The documents of each kind, with all their parts, or why they could not be had.
    pub kinds: BTreeMap<&'static str, Result<Vec<Document>, descope::Error>>,
    /// Parts, by kind and name, that Descope refuses to this project, whoever asks.
    pub refused: BTreeMap<(&'static str, &'static str), descope::Error>,
}

/// Reads the kinds, and of what is wanted every part that takes a call of its own. Of kinds without a list what others name.
/// `progress` hears how many calls are done and how many there will be.
pub async fn everything(
    client: &Client,
    kinds: &[&'static dyn Kind],
    is_wanted: &dyn Fn(&Key) -> bool,
    progress: &dyn Fn(usize, usize),
) -> Everything {
    progress(0, kinds.len());
    let has_name = |name: &str| kinds.iter().any(|kind| kind.name() == name);
    let elsewhere = kinds.iter().filter_map(|kind| resource::kind(kind.spec().named_in?.0));
    let elsewhere = elsewhere.filter(|kind| !has_name(kind.name()));
    let lists = observed::fetch(client, kinds.iter().copied().chain(elsewhere), &BTreeSet::new()).await;
    let kinds_seen = lists.kinds.into_iter().map(|(name, answer)| (name, answer.map(|documents| documents.all())));
    let mut seen = Everything { kinds: kinds_seen.collect(), refused: BTreeMap::new() };
    for kind in kinds {
        let names =
            names_elsewhere(*kind, &seen).map(|names| names.iter().filter_map(|name| named(*kind, name)).collect());
        seen.kinds.extend(names.map(|documents| (kind.name(), Ok(documents))));
    }
    seen.kinds.retain(|name, _| has_name(name));
    let mut calls = Vec::new();
    for kind in kinds {
        let Some(Ok(documents)) = seen.kinds.get(kind.name()) else { continue };
        let is_apart = |part: &&Part| matches!(part.read, Read::Each | Read::ByName);
        let parts: Vec<&'static Part> = kind.spec().parts.iter().filter(is_apart).collect();
        for (at, document) in documents.iter().enumerate() {
            let Some(key) = kind.key(document).filter(is_wanted) else { continue };
            let id = kind.server_id(document).map(str::to_owned);
            calls.extend(parts.iter().map(|part| Look { kind: *kind, part, key: key.clone(), id: id.clone(), at }));
        }
    }
    let (mut done, total) = (kinds.len(), kinds.len() + calls.len());
    progress(done, total);
    let mut calls = calls.into_iter();
    let mut running = JoinSet::new();
    let mut absent = Vec::new();
    loop {
        while running.len() < AT_ONCE {
            let is_refused = |call: &Look| seen.refused.contains_key(&(call.kind.name(), call.part.name));
            let Some(call) = calls.by_ref().find(|call| !is_refused(call)) else { break };
            running.spawn(call.read(client.clone()).in_current_span());
        }
        let Some(Ok((call, answer))) = running.join_next().await else { break };
        done += 1;
        progress(done, total);
        let name = call.kind.name();
        match answer {
            Ok(None) if call.part.read == Read::ByName => absent.push((name, call.at)),
            Ok(fields) => {
                let fields = fields.unwrap_or_default();
                if let Some(Ok(documents)) = seen.kinds.get_mut(name)
                    && let Some(document) = documents.get_mut(call.at)
                {
                    document.extend(fields);
                }
            }
            Err(error) if error.is_forbidden() => drop(seen.refused.insert((name, call.part.name), error)),
            Err(error) => drop(seen.kinds.insert(name, Err(error))),
        }
    }
    absent.sort_unstable();
    for (name, at) in absent.into_iter().rev() {
        if let Some(Ok(documents)) = seen.kinds.get_mut(name) {
            documents.remove(at);
        }
    }
    seen
}

/// What other resources have entries of, where no call lists the kind.
fn names_elsewhere(kind: &dyn Kind, seen: &Everything) -> Option<BTreeSet<String>> {
    let (other, field) = kind.spec().named_in?;
    let documents = seen.kinds.get(other)?.as_ref().ok()?;
    let entries = documents.iter().filter_map(|document| document.get(field)?.as_object());
    Some(entries.flat_map(|entries| entries.keys().cloned()).collect())
}

/// Nothing is known of it yet but its name.
fn named(kind: &dyn Kind, name: &str) -> Option<Document> {
    let field = kind.spec().identity.field?;
    Some(Document::from_iter([(field.to_owned(), Value::from(name))]))
}

/// One call for one part of one resource.
struct Look {
    kind: &'static dyn Kind,
    part: &'static Part,
    key: Key,
    id: Option<String>,
    /// Which of the documents of its kind.
    at: usize,
}

impl Look {
    async fn read(self, client: Client) -> (Self, Result<Option<Document>, descope::Error>) {
        let read = self.kind.read(&client, self.part, &self.key, self.id.as_deref()).await;
        let answer = read.and_then(|fields| {
            let undocumented = |what| descope::Error::Undocumented { operation: self.kind.name(), what };
            fields.as_ref().map_or(Ok(()), |it| form::check_part(self.part.fields, it)).map_err(undocumented)?;
            Ok(fields)
        });
        (self, answer)
    }
}
