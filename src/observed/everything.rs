//! All there is to see of some kinds, for a command that writes it down.

use crate::descope;
use crate::descope::Client;
use crate::observed;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::form;
use crate::resource::spec::Read;
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

/// Reads the kinds, and of what is wanted every part that takes a call of its own. Of kinds without a list nothing.
/// `progress` hears how many calls are done and how many there will be.
pub async fn everything(
    client: &Client,
    kinds: &[&'static dyn Kind],
    is_wanted: &dyn Fn(&Key) -> bool,
    progress: &dyn Fn(usize, usize),
) -> Everything {
    progress(0, kinds.len());
    let lists = observed::fetch(client, kinds.iter().copied(), &BTreeSet::new()).await;
    let mut seen = Everything { kinds: lists.kinds, refused: BTreeMap::new() };
    let mut calls = Vec::new();
    for kind in kinds {
        let Some(Ok(documents)) = seen.kinds.get(kind.name()) else { continue };
        let parts: Vec<&'static Part> = kind.spec().parts.iter().filter(|part| part.read == Read::Each).collect();
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
            Ok(fields) => {
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
    seen
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
    async fn read(self, client: Client) -> (Self, Result<Document, descope::Error>) {
        let read = self.kind.read(&client, self.part, &self.key, self.id.as_deref()).await;
        let answer = read.and_then(|fields| {
            let fields = fields.unwrap_or_default();
            let undocumented = |what| descope::Error::Undocumented { operation: self.kind.name(), what };
            form::check_part(self.part.fields, &fields).map(|()| fields).map_err(undocumented)
        });
        (self, answer)
    }
}
