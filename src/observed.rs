//! The observed state: what the API answers, each kind by itself.

use crate::aside::aside;
use crate::descope;
use crate::descope::Client;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::resource::Document;
use crate::resource::Documents;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Packed;
use crate::resource::Part;
use crate::resource::fold;
use crate::resource::form;
use crate::resource::spec::Read;
use crate::telemetry::repeats::is_worth_a_line;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

pub mod deep;
pub mod everything;

pub use deep::Deep;
pub use deep::News;
pub use deep::Share;
pub use deep::Wanted;
pub use everything::everything;

/// What the API answered in one pass.
#[derive(Debug)]
pub struct Observed {
    /// When the first question was asked; what was written after that is not covered.
    pub began: Instant,
    /// The documents of each kind that was asked for, or why they could not be had.
    pub kinds: BTreeMap<&'static str, Result<Documents, descope::Error>>,
    /// Parts that were not read yet, and why they could not be, where that was tried.
    pub unread: BTreeMap<(Key, &'static str), Option<String>>,
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
        asked.spawn(async move { (kind.name(), all(&client, kind, &names).await) }.in_current_span());
    }
    Observed { began, kinds: asked.join_all().await.into_iter().collect(), unread: BTreeMap::new() }
}

/// Every live resource of a kind, as far as it can be seen.
pub async fn all(client: &Client, kind: &'static dyn Kind, names: &[Key]) -> Result<Documents, descope::Error> {
    let main = kind.spec().main();
    if main.read != Read::ByName {
        return kind.list(client).await;
    }
    let mut found = Vec::new();
    for key in names {
        found.extend(kind.read(client, main, key, None).await?.map(|document| Packed::of(&document)));
    }
    let undocumented = |what| descope::Error::Undocumented { operation: kind.name(), what };
    form::sift(kind.spec(), found, |live| kind.key(live)).map_err(undocumented)
}

/// Reads of parts that are under way at a time.
const READS: usize = 8;

/// Puts the parts that take a call for each resource beside what the lists showed, where a file declares them. What is not
/// read now stays as it was read before, or unknown.
pub async fn add_parts(client: &Client, desired: &Desired, observed: &mut Observed, deep: &Deep) {
    aside(|| {
        let unseen = observed.kinds.iter().filter(|(_, answer)| answer.is_err()).map(|(name, _)| *name).collect();
        deep.want(wanted(desired, observed), &unseen);
    });
    let mut turn = deep.at_once().into_iter();
    let mut reads = JoinSet::new();
    loop {
        while reads.len() < READS {
            let Some(one) = turn.next() else { break };
            let client = client.clone();
            reads.spawn(async move { (read(&client, &one).await, one) }.in_current_span());
        }
        match reads.join_next().await {
            Some(Ok((read, one))) => drop(take_in(deep, &one, read)),
            Some(Err(error)) => tracing::error!(%error, "reading a part of a resource failed inside the daemon"),
            None => break,
        }
    }
    aside(|| put_beside(desired, observed, deep));
}

fn put_beside(desired: &Desired, observed: &mut Observed, deep: &Deep) {
    for (name, documents) in &mut observed.kinds {
        let (Some(kind), Ok(documents)) = (crate::resource::kind(name), documents) else { continue };
        let parts: Vec<&'static Part> = parts_read_apart(kind).collect();
        let declared_parts = |key: &Key| {
            let declared = desired.resources.get(key);
            parts.iter().filter(move |part| declared.is_some_and(|declared| is_declared(declared, part)))
        };
        documents.change(
            kind,
            |key| declared_parts(key).next().is_some(),
            |key, document| {
                let mut is_changed = false;
                for part in declared_parts(key) {
                    match deep.kept(key, part.name) {
                        Some(fields) => {
                            document.extend(fields);
                            is_changed = true;
                        }
                        None => drop(observed.unread.insert((key.clone(), part.name), deep.reason(key, part.name))),
                    }
                }
                is_changed
            },
        );
    }
}

/// Asks for what [`Deep`] says is next.
pub async fn read(client: &Client, one: &Wanted) -> Result<Document, descope::Error> {
    let Some(kind) = crate::resource::kind(one.key.kind) else { return Ok(Document::new()) };
    let fields = kind.read(client, one.part, &one.key, one.id.as_deref()).await?.unwrap_or_default();
    let undocumented = |what| descope::Error::Undocumented { operation: kind.name(), what };
    form::check_part(one.part.fields, &fields).map_err(undocumented)?;
    Ok(fields)
}

/// Keeps what a read showed, or why it failed.
pub fn take_in(deep: &Deep, one: &Wanted, read: Result<Document, descope::Error>) -> News {
    match read {
        Ok(fields) => deep.read(one, fields),
        // The daemon stops, and nobody knows more than before.
        Err(descope::Error::Stopping) => News::None,
        Err(error) => {
            let times = deep.failed(one, error.to_string(), error.is_transient());
            if is_worth_a_line(times, false) {
                let (kind, id, part) = (one.key.kind, one.key.id(), one.part.name);
                tracing::warn!(kind, id, part, times, reason = %error, "a part of a resource could not be read");
            }
            News::None
        }
    }
}

/// Tells declarations of a part apart.
pub fn declared(declared: &Declared, part: &'static Part) -> u64 {
    fold::digest_of_declared(&declared.fields.of_part(part))
}

fn parts_read_apart(kind: &dyn Kind) -> impl Iterator<Item = &'static Part> + use<> {
    kind.spec().parts.iter().filter(|part| part.read == Read::Each)
}

fn is_declared(declared: &Declared, part: &Part) -> bool {
    part.fields.iter().any(|field| declared.fields.contains_key(field.name))
}

/// Every part that a file declares of what is live.
fn wanted(desired: &Desired, observed: &Observed) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (name, documents) in &observed.kinds {
        let (Some(kind), Ok(documents)) = (crate::resource::kind(name), documents) else { continue };
        let parts: Vec<&'static Part> = parts_read_apart(kind).collect();
        let is_apart = |key: &Key| {
            let declared = desired.resources.get(key);
            declared.is_some_and(|declared| parts.iter().any(|part| is_declared(declared, part)))
        };
        for (key, document) in documents.of(is_apart) {
            let Some(declared) = desired.resources.get(key) else { continue };
            for part in parts.iter().filter(|part| is_declared(declared, part)) {
                wanted.push(Wanted {
                    key: key.clone(),
                    part,
                    id: kind.server_id(&document).map(Arc::from),
                    declared: self::declared(declared, part),
                });
            }
        }
    }
    wanted
}
