//! Calls that must not be lost or sent twice: noted before they are sent, with everything that their outcome needs. A power
//! cut in between leaves an open call, which a later look settles as if the answer had come.

use super::Attempt;
use super::Digest;
use super::Error;
use super::Owned;
use super::OwnedAs;
use super::applied;
use super::applied::Landed;
use super::effect;
use super::effect::Written;
use super::guard;
use super::history;
use super::history::NOT_SENT;
use super::history::Occasion;
use super::ids;
use super::project;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::number;
use super::project::optional_text;
use super::project::tenant;
use super::project::text;
use super::project::to_millis;
use super::secret_file;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::values;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Touch;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

/// A call that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// What it is about; for a rename, the new name.
    pub key: Key,
    /// Which of its calls.
    pub part: &'static str,
    /// What it does.
    pub action: Action,
    /// For a rename, the old name.
    pub from: Option<Arc<str>>,
    /// The id by which Descope knows it, where it does so and that is known: of a create, once its answer told it.
    pub server_id: Option<Arc<str>>,
    /// Fingerprint of what is sent.
    pub digest: Digest,
    /// Digest of what was there before.
    pub seen: u64,
    /// As declared: once this is done, the resource is never deleted.
    pub protected: bool,
    /// As declared: a delete will take along what hangs on it.
    pub cascade_delete: bool,
    /// What an operator approved, by its digest: used up once this is done, and not counted by the guards.
    pub approval: Option<Arc<str>>,
    /// Why it is sent, for the audit trail.
    pub occasion: Occasion,
}

impl Intent {
    /// What it is about.
    pub fn touches(&self) -> Touch<'_> {
        Touch::new(self.action, &self.key, self.from.as_ref(), self.server_id.as_ref())
    }

    /// Its row of the audit trail.
    fn attempt(&self, ending: &Ending) -> Attempt {
        Attempt {
            at: SystemTime::now(),
            key: self.key.clone(),
            action: self.action.as_str().to_owned(),
            occasion: self.occasion.clone(),
            outcome: ending.settled.outcome().to_owned(),
            message: if ending.settled == Settled::NotSent {
                format!("{NOT_SENT}{}", ending.message)
            } else {
                ending.message.clone()
            },
            is_interim: matches!(ending.settled, Settled::Apart | Settled::NotSent),
            duration: ending.duration,
        }
    }
}

/// Names a noted call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(i64);

/// A call that may have been sent, and of which nobody knows what became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIntent {
    /// To settle it with.
    pub id: IntentId,
    /// The call.
    pub intent: Intent,
    /// When it was noted.
    pub begun_at: SystemTime,
    /// Its row of the audit trail, where its answer was waited for in vain.
    row: Option<i64>,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect. The inventory follows: a created or renamed resource is owned, as it was declared; a deleted one
    /// is not, and the guards count it.
    Done,
    /// It had no effect.
    NotDone,
    /// Nobody can tell: the resource was changed again since, by us or by somebody else.
    Unknown,
    /// It was refused with its batch, and is about to be tried again in a smaller call: the row of that try takes the place
    /// of this one's.
    Apart,
    /// It could not be sent, and is tried again: the row of that try takes the place of this one's, so that an outage leaves
    /// one row for each change.
    NotSent,
}

impl Settled {
    /// The word in the audit trail.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::NotDone | Self::Apart | Self::NotSent => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What became of it.
    pub settled: Settled,
    /// Why, for the audit trail.
    pub message: String,
    /// How long it took.
    pub duration: Duration,
    /// What it wrote, where it was answered.
    pub written: Vec<Written>,
    /// Fingerprints of fields that cannot be read back, as it sent them.
    pub sent: Vec<Remembered>,
    /// Fields that cannot be read back and that it reset.
    pub reset: Vec<(Key, Cow<'static, str>)>,
    /// The ids that Descope gave to what it made.
    pub ids: Vec<(Key, Arc<str>)>,
    /// What it put in force.
    pub landed: Vec<Landed>,
    /// Fingerprints of secrets that were shown once, by the file that they are in.
    pub kept: Vec<(String, Digest)>,
}

impl Ending {
    /// One that wrote nothing that has to be remembered.
    pub fn of(settled: Settled, message: impl Into<String>, duration: Duration) -> Self {
        let message = message.into();
        Self {
            settled,
            message,
            duration,
            written: Vec::new(),
            sent: Vec::new(),
            reset: Vec::new(),
            ids: Vec::new(),
            landed: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// What has to be remembered; whether something of it was sent before, and no look has shown it since.
    fn remember(&self, transaction: &Tx<'_>, project: i64) -> sql::Result<bool> {
        project::set_sent(transaction, project, &self.sent)?;
        project::reset_sent(transaction, project, &self.reset)?;
        ids::note_new(transaction, project, &self.ids)?;
        secret_file::note(transaction, project, &self.kept)?;
        applied::note(transaction, project, &self.landed)?;
        effect::note(transaction, project, &self.written)
    }
}

/// Fingerprint of what was sent for a field that cannot be read back, by path.
pub type Remembered = (Key, Cow<'static, str>, Digest);

/// What is declared of each of these that a create does not bring: it is a part of the create, whatever comes in between.
pub type Along = Arc<[(Key, Vec<Remembered>)]>;

impl ProjectState {
    /// Notes calls before they are sent, all or nothing. The ids are in the order of `intents`.
    #[cfg(test)]
    pub async fn begin(&self, intents: impl Into<Arc<[Intent]>>) -> Result<Vec<IntentId>, Error> {
        self.begin_with(intents, Along::default()).await
    }

    /// The same, with what other calls have to write of what they create.
    pub async fn begin_with(&self, intents: impl Into<Arc<[Intent]>>, along: Along) -> Result<Vec<IntentId>, Error> {
        let sql = "INSERT INTO intent (project, kind, tenant, name, part, action, from_name, server_id, digest, seen,
                   protected, cascade_delete, approval, trigger, revision, source_commit, file, line, fields, attempt, begun_at)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id";
        let intents = intents.into();
        self.write_together(move |transaction, id, now| {
            let now = to_millis(now);
            let insert = |intent: &Intent| {
                let Intent { key, part, action, from, server_id, digest, seen, .. } = intent;
                let Intent { protected, cascade_delete, approval, occasion, .. } = intent;
                let Occasion { trigger, revision, commit, place, fields, attempt } = occasion;
                let (file, line) = place.clone().unzip();
                let row = values![
                    id,
                    key.kind,
                    tenant(key),
                    key.name,
                    part,
                    action.as_str(),
                    from,
                    server_id,
                    digest,
                    seen.cast_signed(),
                    protected,
                    cascade_delete,
                    approval,
                    trigger,
                    revision,
                    commit,
                    file,
                    line,
                    fields,
                    attempt,
                    now
                ];
                Ok(IntentId(transaction.first(sql, &row, |row| row.integer("id"))?.unwrap_or_default()))
            };
            if !along.is_empty() {
                project::set_along(transaction, id, &along)?;
            }
            intents.iter().map(insert).collect()
        })
        .await
    }

    /// Notes what became of calls and all that follows, all or nothing: a kill leaves either open calls or their outcome.
    /// True where what they wrote was written before, and no look has shown it since.
    pub async fn settle(&self, ids: impl Into<Arc<[IntentId]>>, ending: Ending) -> Result<bool, Error> {
        let ids = ids.into();
        self.write_together(move |transaction, project, now| {
            for id in &*ids {
                if let Some(open) = take(transaction, project, *id)? {
                    settle(transaction, project, &open, &ending, now)?;
                }
            }
            ending.remember(transaction, project)
        })
        .await
    }

    /// The same for one open call, unless somebody else did so before; then false.
    pub fn settle_open(&self, open: &OpenIntent, ending: &Ending) -> Result<bool, Error> {
        self.write_by_clock(|transaction, project, now| {
            let Some(open) = take(transaction, project, open.id)? else { return Ok(false) };
            settle(transaction, project, &open, ending, now)?;
            secret_file::note(transaction, project, &ending.kept)?;
            Ok(true)
        })
    }

    /// The same for calls that could not be noted before they were sent.
    pub async fn note_calls(&self, intents: impl Into<Arc<[Intent]>>, ending: Ending) -> Result<bool, Error> {
        let intents = intents.into();
        self.write_together(move |transaction, project, now| {
            for intent in &*intents {
                history::add(transaction, project, &intent.attempt(&ending))?;
                if ending.settled == Settled::Done {
                    follow(transaction, project, intent, now)?;
                }
            }
            ending.remember(transaction, project)
        })
        .await
    }

    /// Notes that calls were sent and their answers lost, or refused where a part may have taken effect. They stay open,
    /// until a look or a later call settles them.
    pub async fn note_unclear(&self, ids: impl Into<Arc<[IntentId]>>, ending: Ending) -> Result<(), Error> {
        let ids = ids.into();
        self.write_together(move |transaction, project, _| {
            for id in &*ids {
                let sql = "SELECT * FROM intent WHERE id = ? AND project = ? AND audit IS NULL";
                let open = transaction.first(sql, &values![id.0, project], open_intent)?.flatten();
                let Some(open) = open else { continue };
                let row = history::add(transaction, project, &open.intent.attempt(&ending))?;
                let given = ending.ids.iter().find(|(key, _)| *key == open.intent.key).map(|(_, given)| given);
                let sql = "UPDATE intent SET audit = ?, server_id = coalesce(?, server_id) WHERE id = ?";
                transaction.execute(sql, &values![row, given, id.0])?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets calls that were not sent after all, and are no longer to be.
    pub async fn drop_calls(&self, ids: impl Into<Arc<[IntentId]>>) -> Result<(), Error> {
        let ids = ids.into();
        self.write_together(move |transaction, project, _| {
            ids.iter().try_for_each(|id| take(transaction, project, *id).map(drop))
        })
        .await
    }

    /// Settles the newest open call of each of these as done: what it was to do is there.
    pub fn landed(&self, calls: &[(&Key, &str, Action)], message: &str) -> Result<(), Error> {
        self.write_by_clock(|transaction, project, now| {
            for (key, part, action) in calls {
                let sql = "SELECT * FROM intent WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND part = ?
                           AND action = ? ORDER BY id DESC LIMIT 1";
                let row = values![project, key.kind, tenant(key), key.name, part, action.as_str()];
                let open = transaction.first(sql, &row, open_intent)?.flatten();
                let Some(open) = open else { continue };
                let duration = now.duration_since(open.begun_at).unwrap_or_default();
                take(transaction, project, open.id)?;
                let ending = Ending::of(Settled::Done, message, duration);
                settle(transaction, project, &open, &ending, now)?;
            }
            Ok(())
        })
    }

    /// Each of these was refused by itself: the same try, refused with its batch before, had no effect.
    pub fn close_apart(&self, intents: &[Intent]) -> Result<(), Error> {
        let sql = "DELETE FROM intent WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND part = ?
                   AND action = ? AND revision = ? AND attempt = ? AND audit IS NOT NULL";
        self.write(|transaction, project| {
            transaction.each(
                sql,
                intents.iter().map(|intent| {
                    let Intent { key, part, action, occasion: Occasion { revision, attempt, .. }, .. } = intent;
                    values![project, key.kind, tenant(key), key.name, *part, action.as_str(), revision, attempt]
                }),
            )
        })
    }

    /// What is declared of a resource by now counts for its calls under way as well.
    pub fn redeclare_calls(&self, declared: &[(Key, OwnedAs)]) -> Result<(), Error> {
        let sql = "UPDATE intent SET protected = ?, cascade_delete = ?
                   WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
        self.write(|transaction, id| {
            transaction.each(
                sql,
                declared.iter().map(|(key, owned)| {
                    values![owned.protected, owned.cascade_delete, id, key.kind, tenant(key), key.name]
                }),
            )
        })
    }

    /// Calls that were noted and not settled, oldest first: after a start, those that a kill cut off.
    pub fn open_intents(&self) -> Result<Vec<OpenIntent>, Error> {
        self.read(open_intents)
    }

    /// The same, with the time that they count by.
    pub fn open_intents_by_clock(&self) -> Result<(Vec<OpenIntent>, SystemTime), Error> {
        self.read_by_clock(|connection, id, now| Ok((open_intents(connection, id)?, now)))
    }

    /// A create of this that was noted and not settled: it may have been made.
    pub fn open_create(&self, key: &Key) -> Result<Option<OpenIntent>, Error> {
        let is_it = |open: &OpenIntent| open.intent.action == Action::Create && open.intent.key == *key;
        Ok(self.open_intents()?.into_iter().find(is_it))
    }
}

pub(super) fn open_intents(connection: &Tx<'_>, id: i64) -> sql::Result<Vec<OpenIntent>> {
    let sql = "SELECT * FROM intent WHERE project = ? ORDER BY id";
    let rows: Vec<_> = connection.rows(sql, &values![id], open_intent)?;
    Ok(rows.into_iter().flatten().collect())
}

/// Takes an open call off the list; `None` where it was settled before.
fn take(transaction: &Tx<'_>, project: i64, id: IntentId) -> sql::Result<Option<OpenIntent>> {
    let sql = "DELETE FROM intent WHERE id = ? AND project = ? RETURNING *";
    Ok(transaction.first(sql, &values![id.0, project], open_intent)?.flatten())
}

fn settle(transaction: &Tx<'_>, project: i64, open: &OpenIntent, ending: &Ending, now: SystemTime) -> sql::Result<()> {
    if ending.settled == Settled::Done {
        close_earlier(transaction, project, open, now)?;
        close_left(transaction, project, &open.intent, open.id, now)?;
        follow(transaction, project, &open.intent, now)?;
    }
    match (open.row, ending.settled) {
        (None, _) => history::add(transaction, project, &open.intent.attempt(ending)).map(drop),
        // One row for one call: now its outcome is known.
        (Some(row), Settled::Done | Settled::Unknown) => {
            let is_there = history::amend(transaction, row, ending.settled.outcome(), &ending.message)?;
            if !is_there {
                history::add(transaction, project, &open.intent.attempt(ending))?;
            }
            history::forget_unsent(transaction, project, &open.intent.key, open.intent.action)
        }
        // It says so already.
        (Some(_), Settled::NotDone | Settled::Apart | Settled::NotSent) => Ok(()),
    }
}

/// Earlier tries of the same are history once a later one took effect.
fn close_earlier(transaction: &Tx<'_>, project: i64, open: &OpenIntent, now: SystemTime) -> sql::Result<()> {
    let key = &open.intent.key;
    let sql =
        "DELETE FROM intent WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND part = ? AND action = ?
               AND id < ? RETURNING *";
    let Intent { part, action, .. } = &open.intent;
    let row = values![project, key.kind, tenant(key), key.name, part, action.as_str(), open.id.0];
    let earlier: Vec<_> = transaction.rows(sql, &row, open_intent)?;
    for earlier in earlier.into_iter().flatten().filter(|earlier| earlier.row.is_none()) {
        let duration = now.duration_since(earlier.begun_at).unwrap_or_default();
        // An update works twice as well, anything else only once.
        let settled = if *action == Action::Update { Settled::Unknown } else { Settled::NotDone };
        let ending = Ending::of(settled, OVERTAKEN, duration);
        history::add(transaction, project, &earlier.intent.attempt(&ending))?;
    }
    Ok(())
}

/// After a rename or a delete nothing is left under a key of which a look could tell what became of earlier calls: what took
/// effect tells it.
fn close_left(
    transaction: &Tx<'_>,
    project: i64,
    intent: &Intent,
    before: IntentId,
    now: SystemTime,
) -> sql::Result<()> {
    let Intent { key, action, from, .. } = intent;
    let (name, emptied) = match (action, from) {
        (Action::Rename, Some(from)) => (from, None),
        (Action::Delete, _) => (&key.name, key.as_tenant()),
        (Action::Rename, None) | (Action::Create | Action::Update, _) => return Ok(()),
    };
    let left = Key { name: Arc::clone(name), ..key.clone() };
    let sql = "SELECT * FROM intent WHERE project = ? AND id < ?
               AND (kind = ? AND tenant = ? AND (name = ? OR from_name = ?) OR tenant = ?) ORDER BY id";
    // No tenant has no name.
    let emptied = emptied.map_or("\u{1}", |tenant| &**tenant);
    let row = values![project, before.0, key.kind, tenant(&left), name, name, emptied];
    let earlier: Vec<_> = transaction.rows(sql, &row, open_intent)?;
    for earlier in earlier.into_iter().flatten().filter(|earlier| earlier.intent.touches().meets(intent.touches())) {
        let of_it = earlier.intent.key == left;
        let (settled, message) = match earlier.intent.action {
            Action::Create | Action::Rename if of_it => (Settled::Done, WAS_THERE),
            Action::Delete if of_it && *action == Action::Rename => (Settled::NotDone, WAS_THERE),
            // It is gone, as a look will show.
            Action::Delete => continue,
            Action::Rename if *action == Action::Rename => (Settled::NotDone, WAS_THERE),
            Action::Create | Action::Rename | Action::Update => (Settled::Unknown, IS_NOT_THERE),
        };
        // What it led to may have closed it.
        let Some(earlier) = take(transaction, project, earlier.id)? else { continue };
        let duration = now.duration_since(earlier.begun_at).unwrap_or_default();
        settle(transaction, project, &earlier, &Ending::of(settled, message, duration), now)?;
    }
    Ok(())
}

/// The message of a row for a call of which a later one tells what became.
const WAS_THERE: &str = "its answer was lost; a later call found it so";

/// The same where a later call leaves nothing to look at.
const IS_NOT_THERE: &str = "its answer was lost, and the resource was renamed or deleted since: nobody can tell";

/// The message of a row for a call that was cut off, and then sent again.
const OVERTAKEN: &str = "its answer was lost; it was sent again";

/// What a call that took effect means for the inventory and the guards.
fn follow(transaction: &Tx<'_>, id: i64, intent: &Intent, now: SystemTime) -> sql::Result<()> {
    let Intent { key, protected, cascade_delete, approval, .. } = intent;
    if let Some(approval) = approval {
        guard::use_approval(transaction, id, approval, now)?;
    }
    let declared = |created_at| Owned { created_at, protected: *protected, cascade_delete: *cascade_delete };
    match (intent.action, &intent.from) {
        (Action::Create, _) => {
            project::forget_sent_before(transaction, id, key)?;
            project::own_created(transaction, id, key, &declared(Some(now)))
        }
        (Action::Delete, _) => {
            if approval.is_none() {
                guard::count_deletion(transaction, id, key, now)?;
            }
            project::disown(transaction, id, key)
        }
        (Action::Rename, Some(from)) => {
            project::rename(transaction, id, from, key)?;
            project::own(transaction, id, key, &declared(None))
        }
        (Action::Rename, None) | (Action::Update, _) => Ok(()),
    }
}

/// `None` for a row that this release does not understand.
fn open_intent(row: &Row<'_>) -> sql::Result<Option<OpenIntent>> {
    let word = text(row, "action")?;
    let actions = [Action::Create, Action::Update, Action::Rename, Action::Delete];
    let Some(action) = actions.into_iter().find(|action| action.as_str() == word) else { return Ok(None) };
    let Some(key) = project::key(row)? else { return Ok(None) };
    let word = text(row, "part")?;
    let part = resource::kind(key.kind).and_then(|kind| kind.spec().part(&word));
    let Some(part) = part.map(|part| part.name) else { return Ok(None) };
    let line = row.optional("line")?.and_then(|line| u32::try_from(line).ok());
    Ok(Some(OpenIntent {
        id: IntentId(row.integer("id")?),
        intent: Intent {
            key,
            part,
            action,
            from: optional_text(row, "from_name")?.map(Into::into),
            server_id: optional_text(row, "server_id")?.map(Into::into),
            // One that is no digest is none of anything that could be sent.
            digest: row.digest("digest")?.unwrap_or_default(),
            seen: row.integer("seen")?.cast_unsigned(),
            protected: row.is("protected")?,
            cascade_delete: row.is("cascade_delete")?,
            approval: optional_text(row, "approval")?.map(Into::into),
            occasion: Occasion {
                trigger: text(row, "trigger")?,
                revision: text(row, "revision")?,
                commit: optional_text(row, "source_commit")?,
                place: optional_text(row, "file")?.zip(line),
                fields: text(row, "fields")?,
                attempt: number(row, "attempt")?,
            },
        },
        begun_at: from_millis(row.integer("begun_at")?),
        row: row.optional("audit")?,
    }))
}
