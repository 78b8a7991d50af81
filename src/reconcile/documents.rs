//! Big documents: what was sent, what Descope made of it, and what it shows now.
//!
//! What is known of one stands in the state as two fingerprints side by side. The second is the look right after the write, so
//! what Descope rewrites is no difference, and what somebody else writes later is one. Where nothing is known, what is declared
//! is compared.

use super::assess::Assessor;
use crate::descope;
use crate::descope::Client;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::observed::Observed;
use crate::resource;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::fold::is_zero;
use crate::resource::kind::Preview;
use crate::resource::opaque;
use crate::state::Digest;
use crate::state::Fingerprints;
use crate::state::ProjectState;
use crate::state::ReadBack;
use crate::worker::recent::Unconfirmed;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// What the state knows of all of them.
pub(super) struct Documents<'a> {
    assessor: &'a Assessor,
    state: Option<&'a ProjectState>,
    sent: &'a Fingerprints,
    seen: Fingerprints,
    asked_at: Instant,
}

/// What one is.
enum Word {
    /// As it was declared or made of that; with what is to be noted.
    Same(Option<(Digest, Digest)>),
    /// As before our last write, which proves nothing until then.
    Late(Instant),
    Different,
}

impl<'a> Documents<'a> {
    pub fn of(assessor: &'a Assessor, sent: &'a Fingerprints, asked_at: Instant) -> Self {
        let seen = assessor.known(ProjectState::seen_digests);
        Self { assessor, state: assessor.state.as_ref(), sent, seen, asked_at }
    }

    /// Is `shown` what Descope made of `declared`?
    pub fn is_same(&self, key: &Key, field: &str, declared: &Value, shown: &Value) -> bool {
        !matches!(self.word(key, field, declared, shown), Word::Different)
    }

    /// The same of all that is declared of a resource.
    fn are_all_same(&self, kind: &dyn Kind, declared: &Declared, live: &Document) -> bool {
        let opaque = kind.spec().fields().filter_map(|(_, field)| Some((field.name, field.opaque()?)));
        let mut declared_ones = opaque.filter_map(|(name, opaque)| Some((name, opaque, declared.fields.get(name)?)));
        declared_ones.all(|(name, opaque, document)| {
            let shown = live.get(name).map_or(Value::Null, |shown| opaque.against(document, shown));
            let document = opaque.against(document, document);
            is_zero(&document) && is_zero(&shown) || self.is_same(&declared.key, name, &document, &shown)
        })
    }

    fn word(&self, key: &Key, field: &str, declared: &Value, shown: &Value) -> Word {
        let brief = (opaque::in_short(declared), opaque::in_short(shown));
        // What is read in rotation may be older than this look.
        let part = resource::kind(key.kind).and_then(|kind| kind.spec().field(field)).map(|(part, _)| part.name);
        let read_at = part.and_then(|part| self.assessor.deep.read_at(key, part)).unwrap_or(self.asked_at);
        if let Some(until) = self.assessor.recent.proves_from(key, field, &brief.1, read_at)
            && declared != shown
        {
            return Word::Late(until);
        }
        let Some(state) = self.state else {
            return if declared == shown { Word::Same(None) } else { Word::Different };
        };
        let now = (state.fingerprint(&brief.0), state.fingerprint(&brief.1));
        let sent = self.sent.get(key).and_then(|fields| fields.get(field)).filter(|sent| **sent == now.0);
        let seen = self.seen.get(key).and_then(|fields| fields.get(field));
        match (sent, seen) {
            (Some(_), Some(seen)) if *seen == now.1 || declared == shown => Word::Same(None),
            (Some(_), None) if is_without_effect(state, key, field, now.1) && !opaque::holds(shown, declared) => {
                Word::Different
            }
            (Some(_), None) => Word::Same(Some(now)),
            (None, _) if declared == shown => Word::Same(Some(now)),
            (None, _) | (Some(_), Some(_)) => Word::Different,
        }
    }

    /// What this look shows of them for the first time. What it contradicts and cannot disprove is added to `unconfirmed`; of that,
    /// what was read in rotation and is to be read again now to `late`.
    pub fn read_back(
        &self,
        desired: &Desired,
        observed: &Observed,
        unconfirmed: &mut Unconfirmed,
        late: &mut Vec<(Key, &'static str)>,
    ) -> Vec<ReadBack> {
        let mut found = Vec::new();
        for (name, documents) in &observed.kinds {
            let (Some(kind), Ok(documents)) = (resource::kind(name), documents) else { continue };
            let fields: Vec<_> =
                kind.spec().fields().filter_map(|(part, field)| Some((part, field, field.opaque()?))).collect();
            if fields.is_empty() {
                continue;
            }
            let is_declared = |key: &Key| {
                let declared = desired.resources.get(key);
                declared.is_some_and(|one| fields.iter().any(|(_, field, _)| one.fields.contains_key(field.name)))
            };
            for (key, document) in documents.of(is_declared) {
                let Some(declared) = desired.resources.get(key) else { continue };
                // What stands there is what we wrote, and no look has shown what became of it.
                if self.assessor.deep.is_unseen(key) {
                    continue;
                }
                for (part, field, opaque) in &fields {
                    let pair = declared.fields.get(field.name).zip(document.get(field.name));
                    let Some((declared, shown)) = pair else { continue };
                    let (declared, shown) = (opaque.against(declared, declared), opaque.against(declared, shown));
                    match self.word(key, field.name, &declared, &shown) {
                        Word::Same(Some((sent, seen))) => {
                            found.push(ReadBack { key: key.clone(), field: field.name, sent, seen });
                        }
                        Word::Late(until) => {
                            // By now a read would prove something.
                            if until <= Instant::now() {
                                late.push((key.clone(), part.name));
                            }
                            // No look shows this digest, so that the next one is a whole pass.
                            unconfirmed.keys.insert(key.clone(), Some(0));
                            unconfirmed.until = unconfirmed.until.max(Some(until));
                        }
                        Word::Same(None) | Word::Different => {}
                    }
                }
            }
        }
        found
    }
}

/// Is it still what it was before it was written?
fn is_without_effect(state: &ProjectState, key: &Key, field: &str, shown: Digest) -> bool {
    state.effect(key, field).ok().flatten().is_some_and(|effect| effect.before == shown)
}

impl Assessor {
    /// Tries what the files declare and Descope does not hold, of kinds where that can be done without making it.
    pub(super) async fn previews(
        &self,
        client: &Client,
        desired: &Desired,
        observed: &Observed,
    ) -> BTreeMap<Key, Result<Preview, descope::Error>> {
        let mut previews = BTreeMap::new();
        for (name, documents) in &observed.kinds {
            let Some(kind) = resource::kind(name).filter(|kind| kind.spec().has_preview) else { continue };
            let Ok(documents) = documents else { continue };
            let live: BTreeMap<&Key, Document> = documents.iter().collect();
            let sent = self.known(ProjectState::sent_digests);
            let known = Documents::of(self, &sent, observed.began);
            for declared in desired.resources.values().filter(|declared| declared.key.kind == *name) {
                let live = live.get(&declared.key);
                if live.is_some_and(|live| known.are_all_same(kind, declared, live)) {
                    continue;
                }
                let none = Document::new();
                let preview = kind.preview(client, live.unwrap_or(&none), &declared.fields).await;
                previews.insert(declared.key.clone(), preview);
            }
        }
        previews
    }
}
