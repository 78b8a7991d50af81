//! What the YAML declares against what is live: creates, updates and renames, and what they wait for.

use crate::desired::Declared;
use crate::plan::Change;
use crate::plan::Differing;
use crate::plan::FieldChange;
use crate::plan::Inputs;
use crate::plan::Live;
use crate::plan::Plan;
use crate::plan::Refusal;
use crate::plan::Sent;
use crate::plan::Task;
use crate::plan::compare;
use crate::plan::drift;
use crate::plan::guards;
use crate::plan::missing;
use crate::plan::order;
use crate::plan::order::Presence;
use crate::plan::reliance;
use crate::plan::write;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Part;
use crate::resource::Write;
use crate::resource::kind::Preview;
use crate::resource::secret;
use crate::telemetry::status::Why;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use thin_vec::ThinVec;

const BUILT_IN: &str = "is built into Descope and never changed; remove it from the YAML";

const NO_SECRET_FILE: &str = "secretFile: is missing, and Descope shows the secret of a new one once, so that it is not \
                              created; name a file below the project's `secrets.dir`";

/// Beyond so many resources with unread parts, a warning for each tells no more.
const UNREAD_NAMED: usize = 5;

/// Is what it renames ours, and the list that lacks it no proof that it is gone? Created now, there would be two.
fn waits_for_old_name(inputs: &Inputs<'_>, declared: &Declared, live: &Live<'_>, plan: &mut Plan) -> bool {
    let key = &declared.key;
    let Some(name) = declared.renamed_from.clone() else { return false };
    let old = Key { name, ..key.clone() };
    let is_there = live.has(&old) || live.has(key) || inputs.owned.contains_key(key);
    let Some(ownership) = inputs.owned.get(&old).filter(|_| !is_there) else { return false };
    if !ownership.fresh && !missing::is_doubtful(*ownership) {
        return false;
    }
    let why = if ownership.fresh {
        "was created within the last two minutes, and the list does not show it yet"
    } else {
        "is ours and not in the list, which has to be so for two minutes before it counts as gone"
    };
    plan.warnings.push(format!("{}: {key} waits for {old}, which it renames: that {why}", declared.place));
    plan.unlisted.insert(old);
    plan.waiting_creates.insert(key.kind);
    true
}

pub fn compare_one(
    inputs: &Inputs<'_>,
    declared: &Arc<Declared>,
    live: &Live<'_>,
    renames: &BTreeMap<Key, Key>,
    refused: &BTreeSet<Key>,
    absent: &mut BTreeSet<Key>,
    plan: &mut Plan,
) {
    let key = &declared.key;
    let Some(kind) = resource::kind(key.kind) else { return };
    if !live.is_observed(key.kind) || refused.contains(key) {
        return;
    }
    let old = renames.get(key);
    let document = live.get(old.unwrap_or(key));
    let document = document.as_deref();
    if let Some(document) = document {
        if kind.is_builtin(document, inputs.builtin_roles) {
            return refuse(declared, BUILT_IN.to_owned(), plan);
        }
        // A rename that is still to come owns nothing: what it renames is owned already.
        if old.is_none() {
            note_present(inputs, kind, key, document, plan);
        }
    }
    if waits_for_old_name(inputs, declared, live, plan) {
        absent.insert(key.clone());
        return;
    }
    let ownership = inputs.owned.get(key).copied().unwrap_or_default();
    let is_unlisted = document.is_none() && ownership.fresh;
    if let Some(message) = no_place_for_secret(inputs, kind, declared, document.is_none() && !is_unlisted, plan) {
        return refuse(declared, message, plan);
    }
    if is_unlisted {
        note_unlisted(declared, plan);
    }
    let reading = compare::Reading { live: document, is_unlisted, returned: live.returned(key.kind) };
    let memory = compare::Recall { sent: inputs.sent, document: inputs.document, secret: inputs.secret };
    let mut differences = compare::differences(kind, declared, &reading, &memory);
    let differing = differences.fields.len() + differences.refusals.len();
    let lacks_something = tell(inputs, declared, &mut differences, plan);
    let action = match (document, old) {
        (None, _) if is_unlisted && differences.fields.is_empty() => return,
        (None, _) if is_unlisted => Action::Update,
        (None, _) => Action::Create,
        (Some(_), Some(_)) => Action::Rename,
        (Some(_), None) if differences.fields.is_empty() => return,
        (Some(_), None) => Action::Update,
    };
    let (meant, mut fields, drift) = if let Some(document) = document {
        let now = (old.unwrap_or(key), document);
        leave_drift(inputs, kind, declared, now, differences, plan)
    } else {
        let missing = if is_unlisted { None } else { drift::of_missing(inputs, key) };
        (Arc::clone(declared), differences.fields, missing)
    };
    if document.is_some() && fields.is_empty() && old.is_none() {
        return;
    }
    let declared = &meant;
    let losses =
        wait_for_references(inputs, kind, declared, live, plan).and_then(|()| previewed(inputs, declared, plan));
    let Ok(losses) = losses else {
        if document.is_none() {
            plan.waiting_creates.insert(key.kind);
        }
        if matches!(action, Action::Create | Action::Rename) {
            absent.insert(key.clone());
        }
        return;
    };
    let came_along = |part: &Part| {
        let is_ours = document.is_some() && old.is_none() && ownership.created;
        if is_ours { write::came_along(part, declared, inputs.sent) } else { Sent::Unknown }
    };
    if let Some(old) = old {
        fields.insert(0, renamed(kind, old, key));
    }
    let mut writes = write::writes(kind, declared, document, old, &fields, is_unlisted);
    // On its way: the order of the plan sees to it.
    let will_be_there = |key: &Key| match (live.is_observed(key.kind), live.has(key)) {
        (false, _) => Presence::Unseen,
        (true, is_live) if is_live || inputs.desired.resources.contains_key(key) => Presence::There,
        (true, _) => Presence::Missing,
    };
    let mut would_reset = write::unreadable_losses(declared, document, live.returned(key.kind), &writes, &fields);
    // A part of our create, though it comes late: nobody else's.
    let is_of_create = |part: &str| kind.spec().part(part).is_some_and(|part| came_along(part) == Sent::Same);
    would_reset.retain(|loss| loss.is_secret || !is_of_create(loss.part));
    refuse_blind(kind, declared, &mut would_reset, (&mut writes, &mut fields), plan);
    if lacks_something && !leave_out_unset(inputs, kind, declared, (&mut writes, &mut fields), action, plan) {
        absent.insert(key.clone());
        return;
    }
    refuse_unsendable(kind, declared, document, (&mut writes, &mut fields), plan);
    if document.is_some() && writes.is_empty() {
        return;
    }
    let differing = Differing::of(declared, &fields, action == Action::Create && fields.len() == differing);
    let tasks = order::tasks(kind, declared, document, action, writes, (&fields, &differing), &will_be_there);
    let change = Change {
        would_reset: would_reset.into(),
        losses: losses.into(),
        drift: drift.map(Box::new),
        tasks: with_place(inputs, kind, declared, tasks),
        fields: differing,
        place: Some(declared.place.clone()),
        ..Change::new(key.clone(), action)
    };
    plan.changes.push(change);
}

fn renamed(kind: &dyn Kind, old: &Key, new: &Key) -> FieldChange {
    let path = kind.spec().identity.field.unwrap_or_default().into();
    FieldChange { path, from: Value::from(&*old.name), to: Value::from(&*new.name) }
}

/// It is there, though nobody can see it.
fn note_unlisted(declared: &Declared, plan: &mut Plan) {
    let Declared { key, place, .. } = declared;
    plan.present.insert(key.clone());
    plan.unlisted.insert(key.clone());
    let warning = format!("{place}: {key} was created within the last two minutes, and the list does not show it yet");
    plan.warnings.push(warning);
}

/// A call that might clear a secret which nobody could put back is not sent; the other calls go ahead.
fn refuse_blind(
    kind: &dyn Kind,
    declared: &Declared,
    would_reset: &mut Vec<write::Loss>,
    (writes, fields): (&mut Vec<(&'static Part, Write)>, &mut Vec<FieldChange>),
    plan: &mut Plan,
) {
    for loss in would_reset.extract_if(.., |loss| loss.is_secret) {
        writes.retain(|(part, _)| part.name != loss.part);
        fields.retain(|field| kind.spec().part_at(&field.path).name != loss.part);
        let message = format!(
            "{}: the call that writes it might clear the stored {1}, which nobody can read back; declare {1} with it, as \
             {{ env: NAME }} or {{ file: PATH }}",
            loss.part, loss.field
        );
        refuse(declared, message, plan);
    }
}

/// A call that carries a secret which is not there is left out until it is: the comparison refused that field, and said why.
/// False where nothing is made without it.
fn leave_out_unset(
    inputs: &Inputs<'_>,
    kind: &dyn Kind,
    declared: &Declared,
    (writes, fields): (&mut Vec<(&'static Part, Write)>, &mut Vec<FieldChange>),
    action: Action,
    plan: &mut Plan,
) -> bool {
    let is_there = |part: &Part, write: &Write| {
        let places = write.body().map_or_else(Vec::new, |body| secret::places(part.fields.iter(), body));
        places.iter().all(|place| (inputs.secret)(&declared.key, &place.path, &place.reference).is_ok())
    };
    let mut left_out: Vec<&str> =
        writes.extract_if(.., |(part, write)| !is_there(part, write)).map(|(part, _)| part.name).collect();
    if action == Action::Create {
        let relying = reliance::relying(kind.spec(), fields, &left_out);
        for (part, _) in writes.extract_if(.., |(part, _)| part.name != MAIN && relying.contains(part.name)) {
            let Declared { key, place, .. } = declared;
            plan.warnings.push(format!("{place}: {key}: {} waits for {}", part.name, left_out.join(", ")));
            left_out.push(part.name);
        }
    }
    fields.retain(|field| !left_out.contains(&kind.spec().part_at(&field.path).name));
    let is_made = action != Action::Create || !left_out.contains(&MAIN);
    if !is_made {
        plan.waiting_creates.insert(declared.key.kind);
    }
    is_made
}

/// A create that was refused because there was no place for the secret is worth another try once that looks otherwise.
fn with_place(inputs: &Inputs<'_>, kind: &dyn Kind, declared: &Declared, mut tasks: ThinVec<Task>) -> ThinVec<Task> {
    let Some(name) = declared.secret_file.as_deref().filter(|_| kind.spec().shows_secret) else { return tasks };
    for task in tasks.iter_mut().filter(|task| task.action == Action::Create) {
        task.cause = order::mixed(task.cause, &(inputs.place)(name));
    }
    tasks
}

/// What no call brings about would be sent by none, and then taken for done; the other parts go ahead.
fn refuse_unsendable(
    kind: &dyn Kind,
    declared: &Declared,
    live: Option<&Document>,
    (writes, fields): (&mut Vec<(&'static Part, Write)>, &mut Vec<FieldChange>),
    plan: &mut Plan,
) {
    for (part, write) in std::mem::take(writes) {
        let is_of_part = |field: &FieldChange| kind.spec().part_at(&field.path).name == part.name;
        let paths: Vec<String> =
            fields.iter().filter(|field| is_of_part(field)).map(|field| field.path.to_string()).collect();
        if kind.calls(part, &write, live, &paths) > 0 {
            writes.push((part, write));
            continue;
        }
        fields.retain(|field| !is_of_part(field));
        refuse(declared, format!("{}: Descope has no call that brings this about", paths.join(", ")), plan);
    }
}

fn refuse(declared: &Declared, message: String, plan: &mut Plan) {
    let (key, place) = (declared.key.clone(), Some(declared.place.clone()));
    plan.refused.push(Refusal { key, message, place });
}

/// What is to be written of one that is there, of which fields, and what of them is drift. Drift that is left as it is becomes
/// a change of its own.
fn leave_drift(
    inputs: &Inputs<'_>,
    kind: &dyn Kind,
    declared: &Arc<Declared>,
    (key, document): (&Key, &Document),
    differences: compare::Differences,
    plan: &mut Plan,
) -> (Arc<Declared>, Vec<FieldChange>, Option<drift::Drift>) {
    let parts = kind.spec().parts;
    let split = drift::split(inputs, declared, (key, parts, document), differences.fields, &differences.unseen);
    let Some(left) = split.left else { return (Arc::clone(declared), split.sent, split.healed) };
    let meant = drift::without(parts, declared, document, &left);
    plan.kept.insert(declared.key.clone(), Arc::clone(&meant));
    plan.changes.push(Change {
        drift: Some(Box::new(left)),
        fields: split.kept.into(),
        place: Some(declared.place.clone()),
        ..Change::new(declared.key.clone(), Action::Update)
    });
    (meant, split.sent, split.healed)
}

/// What the comparison found beside differences: remarks, what no call can do, what is not read yet. Was something refused?
fn tell(inputs: &Inputs<'_>, declared: &Declared, differences: &mut compare::Differences, plan: &mut Plan) -> bool {
    let key = &declared.key;
    let is_refused = !differences.refusals.is_empty();
    plan.warnings.extend(differences.warnings.iter().map(|warning| format!("{}: {key}: {warning}", declared.place)));
    plan.refused.extend(std::mem::take(&mut differences.refusals).into_iter().map(|message| Refusal {
        key: key.clone(),
        message,
        place: Some(declared.place.clone()),
    }));
    for (field, message) in std::mem::take(&mut differences.unsent) {
        guards::look_at_once(inputs, declared, field, message, plan);
    }
    wait_for_parts(inputs, declared, &differences.unread, plan);
    is_refused
}

/// Declared and live.
fn note_present(inputs: &Inputs<'_>, kind: &dyn Kind, key: &Key, document: &Document, plan: &mut Plan) {
    plan.present.insert(key.clone());
    let news = kind.server_id(document).filter(|id| inputs.ids.get(key).is_none_or(|known| **known != **id));
    plan.ids.extend(news.map(|id| (key.clone(), id.into())));
    let end = kind.spec().ends.and_then(|field| document.get(field)).and_then(Value::as_u64);
    plan.ends.extend(end.filter(|end| *end > 0).map(|end| (key.clone(), end)));
}

/// Why it may not be touched: the secret that Descope shows once is lost, or would be.
fn no_place_for_secret(
    inputs: &Inputs<'_>,
    kind: &dyn Kind,
    declared: &Declared,
    is_missing: bool,
    plan: &mut Plan,
) -> Option<String> {
    if let Some(message) = inputs.lost.get(&declared.key) {
        if is_missing {
            plan.in_doubt.insert(declared.key.clone());
        }
        return Some(message.clone());
    }
    if !is_missing || !kind.spec().shows_secret {
        return None;
    }
    if declared.secret_file.is_none() {
        return Some(NO_SECRET_FILE.to_owned());
    }
    (inputs.volume)().map(|why| format!("secretFile: {why}"))
}

/// A kind that failed for now and holds something that this resource refers to: sent without it, the change might be
/// refused and parked for nothing.
fn wait_for_references(
    inputs: &Inputs<'_>,
    kind: &dyn Kind,
    declared: &Declared,
    live: &Live<'_>,
    plan: &mut Plan,
) -> Result<(), ()> {
    let is_transient = |kind: &str| plan.unobserved.get(kind).is_some_and(|unobserved| unobserved.is_transient);
    let references = write::references_of(kind, declared);
    let waits_for = references.iter().find(|reference| {
        is_transient(reference.kind)
            && !live.is_observed(reference.kind)
            && inputs.desired.resources.contains_key(reference)
    });
    let Some(unobserved) = waits_for.map(|reference| reference.kind) else { return Ok(()) };
    let Declared { key, place, .. } = declared;
    let why = format!("{unobserved} could not be observed this time");
    plan.warnings.push(format!("{place}: {key} waits: {why}"));
    plan.waits.push((key.clone(), Why::Unobserved, why));
    plan.waiting.insert(key.kind);
    Err(())
}

/// What goes with the change of what is declared. Err where it would be refused, or nobody could tell; that is in the plan then.
fn previewed(inputs: &Inputs<'_>, declared: &Declared, plan: &mut Plan) -> Result<Vec<String>, ()> {
    let Declared { key, place, .. } = declared;
    let refusal = match inputs.previews.get(key) {
        None => return Ok(Vec::new()),
        Some(Ok(Preview { losses, refusal: None })) => return Ok(losses.clone()),
        Some(Ok(Preview { refusal: Some(message), .. })) => message.clone(),
        Some(Err(error)) if error.is_transient() => {
            let why = format!("a dry run of it failed: {error}");
            plan.warnings.push(format!("{place}: {key} waits: {why}"));
            plan.waits.push((key.clone(), Why::Unobserved, why));
            plan.waiting.insert(key.kind);
            return Err(());
        }
        Some(Err(error)) => error.to_string(),
    };
    let message = format!("a dry run says that it would be refused: {refusal}");
    plan.refused.push(Refusal { key: key.clone(), message, place: Some(place.clone()) });
    Err(())
}

/// What no list shows is compared once its own call has answered.
fn wait_for_parts(inputs: &Inputs<'_>, declared: &Declared, unread: &[&'static str], plan: &mut Plan) {
    for part in unread {
        let Declared { key, place, .. } = declared;
        let reason = inputs.observed.unread.get(&(key.clone(), part)).and_then(Option::as_ref);
        let what = if part.is_empty() { "it".to_owned() } else { format!("its {part}") };
        let (word, why) = match reason {
            Some(reason) => (Why::Unobserved, format!("{what} could not be read: {reason}")),
            None => (Why::Rotation, format!("nobody looked at {what} yet")),
        };
        if plan.unread.len() < UNREAD_NAMED || reason.is_some() {
            plan.warnings.push(format!("{place}: {key} waits: {why}"));
        }
        plan.waits.push((key.clone(), word, why));
        plan.unread.entry(key.clone()).or_default().insert(part);
    }
}

/// What refers to something that waits to be created or renamed, `absent` for now, waits as well.
pub fn wait_along(mut absent: BTreeSet<Key>, plan: &mut Plan) {
    loop {
        let missing = |change: &Change| {
            let after = change.tasks.iter().flat_map(|task| &task.after);
            after.map(|slot| &slot.key).find(|key| **key != change.key && absent.contains(*key)).cloned()
        };
        let waiting: Vec<Change> = plan.changes.extract_if(.., |change| missing(change).is_some()).collect();
        if waiting.is_empty() {
            return;
        }
        for change in &waiting {
            plan.waiting.insert(change.key.kind);
            if let (Some(place), Some(missing)) = (&change.place, missing(change)) {
                plan.warnings.push(format!("{place}: {} waits for {missing}", change.key));
                let why = format!("{missing} is not there yet");
                plan.waits.push((change.key.clone(), Why::Dependency, why));
            }
        }
        let made = waiting.into_iter().filter(|change| matches!(change.action, Action::Create | Action::Rename));
        for change in made {
            if change.action == Action::Create {
                plan.waiting_creates.insert(change.key.kind);
            }
            absent.insert(change.key);
        }
    }
}
