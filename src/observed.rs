//! The observed state: what the API answers, each kind by itself.

use crate::descope;
use crate::descope::Client;
use crate::desired::Desired;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::form;
use crate::resource::spec::Read;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub mod deep;
pub mod everything;

pub use deep::Deep;
pub use everything::everything;

/// What the API answered in one pass.
#[derive(Debug)]
pub struct Observed {
    /// When the first question was asked; what was written after that is not covered.
    pub began: Instant,
    /// The documents of each kind that was asked for, or why they could not be had.
    pub kinds: BTreeMap<&'static str, Result<Vec<Document>, descope::Error>>,
}

/// Asks for every given kind at once; each succeeds or fails by itself. Of kinds without a list, those of `known` are asked
/// for one by one.
pub async fn fetch(
    client: &Client,
    kinds: impl IntoIterator<Item = &'static dyn Kind>,
    known: &BTreeSet<Key>,
) -> Observed {
    let began = Instant::now();
    let mut asked = JoinSet::new();
    for kind in kinds {
        let client = client.clone();
        let names: Vec<Key> = known.iter().filter(|key| key.kind == kind.name()).cloned().collect();
        asked.spawn(async move { (kind.name(), all(&client, kind, &names).await) });
    }
    Observed { began, kinds: asked.join_all().await.into_iter().collect() }
}

/// Every live resource of a kind, as far as it can be seen.
pub async fn all(client: &Client, kind: &'static dyn Kind, names: &[Key]) -> Result<Vec<Document>, descope::Error> {
    let main = kind.spec().main();
    if main.read != Read::ByName {
        return kind.list(client).await;
    }
    let mut found = Vec::new();
    for key in names {
        found.extend(kind.read(client, main, key, None).await?);
    }
    let undocumented = |what| descope::Error::Undocumented { operation: kind.name(), what };
    form::sift(kind.spec(), found).map_err(undocumented)
}

/// Puts the parts that take a call for each resource beside what the lists showed, where a file declares them: those that
/// were never read first, then what was read longest ago. What `deep` has no room for stays as it was read before, or
/// unknown.
pub async fn add_parts(client: &Client, desired: &Desired, observed: &mut Observed, deep: &Deep) {
    for (name, documents) in &mut observed.kinds {
        let (Some(kind), Ok(documents)) = (crate::resource::kind(name), documents) else { continue };
        let parts: Vec<&'static Part> = kind.spec().parts.iter().filter(|part| part.read == Read::Each).collect();
        if parts.is_empty() {
            continue;
        }
        let is_wanted = |key: &Key, part: &Part| {
            let declared = desired.resources.get(key);
            declared.is_some_and(|one| part.fields.iter().any(|field| one.fields.contains_key(field.name)))
        };
        let mut wanted: Vec<(usize, Key, &'static Part)> = Vec::new();
        for (at, document) in documents.iter().enumerate() {
            let Some(key) = kind.key(document) else { continue };
            wanted.extend(parts.iter().filter(|part| is_wanted(&key, part)).map(|part| (at, key.clone(), *part)));
        }
        for (at, key, part) in deep.in_turn(wanted) {
            let read = kind.read(client, part, &key, kind.server_id(&documents[at])).await;
            let checked = read.map_err(|error| error.to_string()).and_then(|fields| {
                let fields = fields.unwrap_or_default();
                form::check_part(part.fields, &fields).map(|()| fields)
            });
            match checked {
                Ok(fields) => deep.keep(&key, part.name, fields),
                Err(reason) => {
                    tracing::warn!(kind = name, part = part.name, reason, "a part of a resource could not be read");
                    deep.forget(&key, part.name);
                }
            }
        }
        for document in documents {
            let Some(key) = kind.key(document) else { continue };
            for part in parts.iter().filter(|part| is_wanted(&key, part)) {
                document.extend(deep.kept(&key, part.name).unwrap_or_default());
            }
        }
    }
}
