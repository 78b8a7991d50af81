//! What an approval names: digests of changes, and the fingerprint of all that are held.

use super::Hold;
use crate::plan::Change;
use crate::plan::Former;
use crate::plan::Live;
use crate::resource;
use crate::resource::Action;
use crate::resource::Part;
use crate::resource::Write;
use crate::resource::fold;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeSet;

/// Identifies a change of this project and the observed body of its resource: an approval of it is void as soon as either
/// differs. Of an update it is the body as far as its own calls write it, for a call of another part may be on its way.
pub(super) fn digest(scope: &str, change: &Change, live: &Live<'_>, shrunk: &BTreeSet<&'static str>) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{scope:?}\n"));
    // To accept a loss is another decision than to let a change go.
    if shrunk.contains(change.key.kind) {
        digest.update(Hold::ObservationShrank.as_str());
    }
    // Quoted: a project role `t/own` reads like the role `own` of the tenant `t`.
    digest.update(format!("{:?}\n{}\n", change.key, change.action.as_str()));
    for field in change.fields.list().iter() {
        digest.update(format!("{:?} {} {}\n", field.path, field.from, field.to));
    }
    for loss in &change.would_reset {
        digest.update(format!("resets {:?}\n", loss.field));
    }
    for loss in &change.losses {
        digest.update(format!("loses {loss:?}\n"));
    }
    // What was no danger when it was approved was not approved.
    for (hold, what) in &change.dangers {
        digest.update(format!("{} {what:?}\n", hold.as_str()));
    }
    // From whom it is taken away was approved, and from nobody else.
    for referrer in &change.ties().undeclared {
        digest.update(format!("referrer {referrer:?}\n"));
    }
    for kind in &change.ties().unseen {
        digest.update(format!("unseen {kind:?}\n"));
    }
    for slot in &change.ties().hidden {
        digest.update(format!("hidden {:?} {:?}\n", slot.key, slot.part));
    }
    // What hangs on it goes as well: that was not approved with a plain delete.
    if change.tasks.iter().any(|task| matches!(task.write, Write::Delete { cascade: true })) {
        digest.update("cascade\n");
    }
    let body = live.get(&change.old_key()).zip(resource::kind(change.key.kind));
    let body = body.map(|(document, kind)| {
        // Of what it means: the order in which Descope answers is no other body.
        let mut body = fold::document(kind.spec(), &document);
        if let (Action::Update, Some(fields)) = (change.action, body.as_object_mut()) {
            let parts: BTreeSet<&str> = change.tasks.iter().map(|task| task.slot.part).collect();
            let is_written = |part: &&Part| parts.contains(part.name);
            let own = || kind.spec().parts.iter().filter(is_written).flat_map(|part| part.fields);
            fields.retain(|name, _| own().any(|field| field.name == name));
        }
        body.to_string()
    });
    for task in change.tasks.iter().filter(|_| change.action == Action::Update) {
        digest.update(format!("part {:?} of {}\n", task.slot.part, task.incarnation));
    }
    digest.update(format!("{body:?}\n"));
    shortened(&digest)
}

/// Identifies that the second entry of the config gets the project that the first one had.
pub fn digest_of_former(scope: &str, former: &Former) -> String {
    let Former { before, now, is_same } = former;
    let mut digest = Sha256::new();
    digest.update(format!("{scope:?}\n{before:?} {now:?} {is_same}\n"));
    shortened(&digest)
}

/// Identifies all held changes that can be approved, and that another entry gets the project, where that is held; empty where
/// there is nothing.
pub fn fingerprint(changes: &[Change], takeover: Option<&str>) -> String {
    let mut digest_of_all = Sha256::new();
    let mut is_empty = takeover.is_none();
    digest_of_all.update(takeover.unwrap_or_default());
    for change in changes.iter().filter(|change| change.can_be_approved()) {
        is_empty = false;
        digest_of_all.update(&*change.digest);
    }
    if is_empty { String::new() } else { shortened(&digest_of_all) }
}

/// 64 bits in hex: enough to tell plans apart, short enough to copy.
fn shortened(digest: &Sha256) -> String {
    let digest = digest.clone().finalize();
    let half: [u8; 8] = std::array::from_fn(|n| digest[n]);
    format!("{:016x}", u64::from_be_bytes(half))
}
