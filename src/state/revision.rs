//! Which files are the newest, where replicas share the state: so that one whose checkout stands still turns nobody's work back,
//! and what another has by now is not missing for ever.
//!
//! The database lists the revisions that were in force, in their order, each with the newest commit that had it. Each replica tells
//! what it has loaded, so that all of them see who stands where. [`super::age`] decides what becomes the newest entry.

use super::Error;
use super::Store;
use super::age;
use super::age::Commit;
use super::age::Known;
use super::age::Origin;
use super::age::Others;
use super::age::Relation;
use super::age::Verdict;
use super::clock::steady;
use super::lease::Claim;
use super::lease::NOW;
use super::lease::Tenure;
use super::project::ProjectState;
use super::project::to_millis;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::Value;
use super::sql::values;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

/// So many are told apart: more commits than a checkout can lag behind unnoticed.
const KEPT: i64 = 1000;

/// How the files of a replica stand to those in force. The better come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// None that can be used were ever loaded.
    Nothing,
    /// They are older, or nobody knows whether they are newer: nothing of them is written.
    Behind,
    /// They are those in force, or were until a moment ago.
    Newest,
}

/// What was found of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// They are this entry, the newest.
    On(Mark),
    /// Nothing was in force yet.
    First,
    /// They are older than this entry, the newest. Were they in force before it, as far as is known?
    Before(Mark, bool),
    /// Nobody can tell yet whether they are newer.
    Unknown,
}

/// An entry, as it was at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub entry: i64,
    /// The newest one with these files.
    commit: Option<Arc<str>>,
}

/// What can be in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// Their digest.
    pub revision: Arc<str>,
    /// Of which they are, where that is known.
    commit: Option<Commit>,
}

impl Files {
    pub fn commit_id(&self) -> Option<&Arc<str>> {
        self.commit.as_ref().map(|commit| &commit.id)
    }
}

/// The newest entry of a project, as a look shows it.
pub(super) struct Newest {
    pub mark: Mark,
    pub revision: String,
}

/// The same with all that is known of it.
struct Entry {
    project: i64,
    id: i64,
    files: Files,
    /// When a replica stopped that had it.
    left_at: Option<i64>,
}

impl Entry {
    fn mark(&self) -> Mark {
        Mark { entry: self.id, commit: self.files.commit_id().cloned() }
    }
}

/// Files of which nothing is written, since they are not the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Their digest.
    pub revision: String,
    /// The hash of their commit, where it is known.
    pub commit: Option<String>,
    /// Which replica has them, by name.
    pub replica: String,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub holder: &'a str,
    /// A replica that was not heard of for so long runs no more.
    pub life: Duration,
    /// Does it wait for whoever writes the list just now?
    pub is_patient: bool,
}

/// What this process has loaded of one project.
#[derive(Debug, Clone, Default)]
pub(super) struct Checkout {
    pub files: Option<Files>,
    loaded_at: Duration,
    /// The newest entry, when it was last seen to have moved there.
    stood: Option<Mark>,
    /// The first entry that these files were seen to be.
    arrived: Option<i64>,
    /// It was seen on files that were in force once.
    is_on_line: bool,
    /// Nobody looked since they were loaded.
    is_new: bool,
    behind_since: Option<Duration>,
    /// The entry that they are older than.
    before: Option<Mark>,
    /// The term under which they were the newest: nobody else has written while it lasts.
    current_under: Option<i64>,
    /// The files that were the newest then.
    current: Option<Arc<str>>,
    /// The first and the last look at the database of those between which was no gap.
    looks: Option<(Duration, Duration)>,
}

/// In a life so many looks are missed before what was seen counts no more: those that run could not tell that they do.
const GAPS: u32 = 2;

impl Checkout {
    /// Is it known that they are older, as long as this is the newest entry?
    pub fn is_before(&self, newest: &Mark) -> bool {
        self.before.as_ref() == Some(newest)
    }

    fn is_current(&self) -> bool {
        self.files.as_ref().is_some_and(|files| Some(&files.revision) == self.current.as_ref())
    }

    fn standing(&self, term: Option<i64>, life: Duration) -> Standing {
        if self.files.is_none() {
            return Standing::Nothing;
        }
        let was_newest = term.is_some() && self.current_under == term;
        let is_newest = match self.behind_since {
            // Of several that get a commit one is the first, and the others follow: no reason to hand anything over.
            Some(since) => was_newest && steady() < since + life,
            None => was_newest || !self.is_new,
        };
        if is_newest { Standing::Newest } else { Standing::Behind }
    }

    fn is_put_aside(&self, term: Option<i64>, life: Duration) -> bool {
        self.behind_since.is_some() && self.standing(term, life) == Standing::Behind
    }

    fn origin(&self, newest: &Mark) -> Origin {
        match &self.stood {
            Some(stood) if stood == newest => Origin::Newest,
            _ if self.is_on_line => Origin::Line,
            _ => Origin::Nowhere,
        }
    }

    fn has_waited(&self, now: Duration, life: Duration) -> bool {
        let has_watched = self.looks.is_some_and(|(first, last)| first + life <= now && now < last + life / GAPS);
        has_watched && self.loaded_at + life <= now
    }

    fn looked(&mut self, now: Duration, life: Duration) {
        let first = self.looks.filter(|(_, last)| now < *last + life / GAPS).map_or(now, |(first, _)| first);
        self.looks = Some((first, now));
    }

    /// It is on the newest entry. Whoever stood there before that was the newest did not move there.
    fn stands(&mut self, mark: &Mark) {
        self.is_on_line = true;
        let arrived = *self.arrived.get_or_insert(mark.entry);
        let commit = self.files.as_ref().and_then(Files::commit_id);
        let is_same = commit.is_none() || mark.commit.is_none() || commit == mark.commit.as_ref();
        // Of two looks the one of before may come last.
        if is_same && arrived == mark.entry && self.stood.as_ref().is_none_or(|stood| stood.entry <= mark.entry) {
            self.stood = Some(mark.clone());
        }
    }
}

/// What this process has loaded, by claim. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Checkouts(Arc<Mutex<HashMap<Claim, Checkout>>>);

impl Checkouts {
    pub fn of(&self, claim: &Claim) -> Checkout {
        self.with(claim, |checkout| checkout.clone())
    }

    /// As of now; `tenure` is what this process holds of it.
    pub fn standing(&self, claim: &Claim, tenure: Option<Tenure>, life: Duration) -> Standing {
        self.with(claim, |checkout| checkout.standing(tenure.map(|tenure| tenure.term), life))
    }

    /// Are these other files than those that were noted as the newest?
    pub fn is_behind(&self, claim: &Claim) -> bool {
        self.with(claim, |checkout| checkout.behind_since.is_some())
    }

    /// What was found of files as they were `then`, under that tenure. Nothing, where others have been loaded since.
    pub fn found(&self, claim: &Claim, then: &Checkout, found: &Found, tenure: Option<Tenure>, life: Duration) {
        self.with(claim, |checkout| {
            checkout.looked(steady(), life);
            if checkout.files != then.files {
                return;
            }
            checkout.is_new = false;
            checkout.before = None;
            match found {
                Found::Before(mark, was_in_force) => {
                    checkout.before = Some(mark.clone());
                    checkout.is_on_line |= was_in_force;
                }
                Found::Unknown | Found::First => {}
                Found::On(mark) => checkout.stands(mark),
            }
            if matches!(found, Found::Before(..) | Found::Unknown) {
                checkout.behind_since.get_or_insert(steady());
            } else {
                checkout.behind_since = None;
                checkout.current_under = tenure.map(|tenure| tenure.term);
                checkout.current = checkout.files.as_ref().map(|files| Arc::clone(&files.revision));
            }
        });
    }

    fn loaded(&self, claim: &Claim, files: Files) {
        self.with(claim, |checkout| {
            if checkout.files.as_ref() == Some(&files) {
                return;
            }
            // Another commit with the same files is written as before.
            checkout.is_new |= checkout.files.as_ref().is_none_or(|before| before.revision != files.revision);
            checkout.files = Some(files);
            (checkout.loaded_at, checkout.arrived, checkout.before) = (steady(), None, None);
        });
    }

    fn with<T>(&self, claim: &Claim, work: impl FnOnce(&mut Checkout) -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(known.entry(claim.clone()).or_default())
    }
}

impl ProjectState {
    /// These are the files that this process has loaded, and the commit of which they are, where that is known.
    pub fn loaded(&self, revision: &Arc<str>, commit: Option<Commit>) {
        if let Store::Server(server) = &self.state.shared.store {
            server.checkouts.loaded(&self.claim(), Files { revision: Arc::clone(revision), commit });
        }
    }

    /// These are in force, where nobody shares the state: replicas that it is carried to know by that which are the newest.
    pub fn note_in_force(&self, revision: &Arc<str>, commit: Option<Commit>) -> Result<(), Error> {
        let files = Files { revision: Arc::clone(revision), commit };
        self.write_by_clock(|transaction, project, now| {
            let sql = "SELECT * FROM revision WHERE project = ? ORDER BY id DESC LIMIT 1";
            let read = |row: &Row<'_>| Ok((row.integer("id")?, self::files(row)?));
            let newest = transaction.first(sql, &values![project], read)?;
            match newest.filter(|(_, newest)| newest.revision == files.revision) {
                Some((_, newest)) if files.commit.is_none() || newest.commit_id() == files.commit_id() => Ok(()),
                Some((entry, _)) => move_on(transaction, entry, &files).map(drop),
                None => enter(transaction, project, &files, now).map(drop),
            }
        })
    }

    /// How they stand to those in force. Puts them in force where that is somebody's intent. Always the newest, where
    /// nobody shares the state.
    pub fn stand(&self) -> Result<Standing, Error> {
        let Store::Server(server) = &self.state.shared.store else { return Ok(Standing::Newest) };
        let claim = self.claim();
        let checkout = server.checkouts.of(&claim);
        let Some(files) = &checkout.files else { return Ok(Standing::Nothing) };
        let tenure = self.tenure();
        let asker = Asker { holder: &server.holder, life: server.life, is_patient: true };
        let found = self.state.noted(self.state.transact(|transaction, now| {
            let found = place(transaction, asker, &claim, &checkout, now)?;
            if found == Found::First && tenure.is_some() {
                let project = self.id_to_write(transaction)?;
                return Ok(Found::On(enter(transaction, project, files, now)?));
            }
            Ok(found)
        }))?;
        server.checkouts.found(&claim, &checkout, &found, tenure, server.life);
        let standing = server.checkouts.standing(&claim, tenure, server.life);
        // Who just follows keeps the lease for a while, but what it loads on its way is not in force.
        let is_in_force = matches!(found, Found::On(_) | Found::First) || server.checkouts.of(&claim).is_current();
        Ok(if is_in_force { standing } else { standing.min(Standing::Behind) })
    }

    /// Are these the files that are loaded here, of which nothing is written because they are not the newest?
    pub fn is_put_aside(&self, revision: &str) -> bool {
        self.of_put_aside(|checkout| checkout.files.as_ref().is_some_and(|files| *files.revision == *revision))
    }

    /// Were other files noted as the newest? Whoever has them may be gone by now.
    pub fn is_overtaken(&self) -> bool {
        let Store::Server(server) = &self.state.shared.store else { return false };
        server.checkouts.is_behind(&self.claim())
    }

    /// Are the files that are loaded here put aside, whichever they are?
    pub fn has_put_aside(&self) -> bool {
        self.of_put_aside(|_| true)
    }

    /// Are they put aside because they are older, as far as anybody can tell, and not because nobody can?
    pub fn is_older(&self) -> bool {
        self.of_put_aside(|checkout| checkout.before.is_some())
    }

    fn of_put_aside(&self, is_so: impl FnOnce(&Checkout) -> bool) -> bool {
        let Store::Server(server) = &self.state.shared.store else { return false };
        let (checkout, term) = (server.checkouts.of(&self.claim()), self.tenure().map(|tenure| tenure.term));
        checkout.is_put_aside(term, server.life) && is_so(&checkout)
    }

    /// What the replicas that run have loaded and is not the newest.
    pub fn put_aside(&self) -> Result<Vec<Aside>, Error> {
        let Store::Server(server) = &self.state.shared.store else { return Ok(Vec::new()) };
        let claim = self.claim();
        self.state.transact(|transaction, _| {
            let newest = newest_of(transaction, &claim)?;
            let sql = format!("SELECT replica.name, checkout.* {} ORDER BY replica.name", told());
            let aside = |row: &Row<'_>| {
                let (revision, commit) = (row.text("revision")?, row.text("source_commit")?);
                Ok(Aside {
                    revision: revision.unwrap_or_default(),
                    commit,
                    replica: row.text("name")?.unwrap_or_default(),
                })
            };
            let mut aside: Vec<Aside> = transaction.rows(&sql, &told_by(&claim, server.life), aside)?;
            aside.retain(|one| newest.as_ref().is_some_and(|newest| *newest.files.revision != *one.revision));
            Ok(aside)
        })
    }

    /// Makes files the newest that are put aside at some replica that runs, as somebody has said. False where they are at none.
    pub fn put_in_force(&self, revision: &str) -> Result<bool, Error> {
        let Store::Server(server) = &self.state.shared.store else { return Ok(false) };
        let claim = self.claim();
        let (checkout, tenure) = (server.checkouts.of(&claim), self.tenure());
        let entered = self.write_by_clock(|transaction, project, now| {
            transaction.exists(LOCK, &values![project])?;
            let newest = newest_of(transaction, &claim)?;
            if newest.is_none_or(|newest| *newest.files.revision == *revision) {
                return Ok(None);
            }
            // Of several commits with these files the newest.
            let newest_first = "ORDER BY committed_at DESC NULLS LAST LIMIT 1";
            let sql = format!("SELECT checkout.* {} AND revision = ? {newest_first}", told());
            let mut row = told_by(&claim, server.life).to_vec();
            row.extend(values![revision]);
            let Some(files) = transaction.first(&sql, &row, files)? else { return Ok(None) };
            Ok(Some(enter(transaction, project, &files, now)?))
        })?;
        let Some(mark) = entered else { return Ok(false) };
        if checkout.files.as_ref().is_some_and(|files| *files.revision == *revision) {
            server.checkouts.found(&claim, &checkout, &Found::On(mark), tenure, server.life);
        }
        Ok(true)
    }
}

/// One writes the list at a time: the next one sees what this one did.
const LOCK: &str = "SELECT 1 FROM project WHERE id = ? FOR NO KEY UPDATE";

/// Where these files stand, after they were made the newest where they are to be.
pub(super) fn place(
    transaction: &Tx<'_>,
    asker: Asker<'_>,
    claim: &Claim,
    checkout: &Checkout,
    now: SystemTime,
) -> sql::Result<Found> {
    let Some(files) = &checkout.files else { return Ok(Found::Unknown) };
    tell(transaction, asker.holder, claim, Some(files))?;
    let Some(newest) = newest_of(transaction, claim)? else { return Ok(Found::First) };
    if let Some(found) = weigh(transaction, asker, claim, checkout, &newest, now)? {
        return Ok(found);
    }
    let patience = if asker.is_patient { "" } else { " SKIP LOCKED" };
    if !transaction.exists(&format!("{LOCK}{patience}"), &values![newest.project])? {
        let is_on = newest.files.revision == files.revision;
        return Ok(if is_on { Found::On(newest.mark()) } else { Found::Unknown });
    }
    let Some(newest) = newest_of(transaction, claim)? else { return Ok(Found::First) };
    if let Some(found) = weigh(transaction, asker, claim, checkout, &newest, now)? {
        return Ok(found);
    }
    let mark = if newest.files.revision == files.revision {
        move_on(transaction, newest.id, files)?
    } else {
        enter(transaction, newest.project, files, now)?
    };
    Ok(Found::On(mark))
}

/// How the files of a checkout stand to the newest entry. `None` where they, or their commit, are to be the newest instead.
fn weigh(
    transaction: &Tx<'_>,
    asker: Asker<'_>,
    claim: &Claim,
    checkout: &Checkout,
    newest: &Entry,
    now: SystemTime,
) -> sql::Result<Option<Found>> {
    let Some(files) = &checkout.files else { return Ok(Some(Found::Unknown)) };
    let (mark, commit) = (newest.mark(), files.commit_id());
    let is_on = newest.files.revision == files.revision;
    if is_on && (commit.is_none() || commit == mark.commit.as_ref()) {
        return Ok(Some(Found::On(mark)));
    }
    if is_on && mark.commit.is_none() {
        return Ok(None);
    }
    let relation = Relation::of(files.commit.as_ref(), newest.files.commit.as_ref());
    let known = Known {
        origin: checkout.origin(&mark),
        was_in_force: was_in_force(transaction, files, newest, relation)?,
        relation,
        others: others(transaction, asker, claim, newest, now)?,
        has_waited: checkout.has_waited(steady(), asker.life),
    };
    Ok(match age::judge(known) {
        Verdict::InForce => None,
        Verdict::Older | Verdict::Wait if is_on => Some(Found::On(mark)),
        Verdict::Older => Some(Found::Before(mark, known.was_in_force || relation == Relation::Older)),
        Verdict::Wait => Some(Found::Unknown),
    })
}

/// Are they an entry before the newest? The same files again, of a commit after that entry's, are not: so does a revert look.
fn was_in_force(transaction: &Tx<'_>, files: &Files, newest: &Entry, to_newest: Relation) -> sql::Result<bool> {
    let commit = files.commit_id();
    let sql = "SELECT * FROM revision WHERE project = ? AND id < ? AND (revision = ? OR source_commit = ?)";
    let row = values![newest.project, newest.id, files.revision, commit];
    let earlier: Vec<Files> = transaction.rows(sql, &row, self::files)?;
    Ok(earlier.iter().any(|earlier| match Relation::of(files.commit.as_ref(), earlier.commit.as_ref()) {
        // The settings say which of its files count, and may have changed.
        Relation::Same => to_newest != Relation::Same || earlier.revision == files.revision,
        Relation::Newer | Relation::Later => false,
        Relation::Older | Relation::Earlier => true,
        Relation::Unknown => to_newest != Relation::Newer,
    }))
}

/// Who else has the newest files?
fn others(
    transaction: &Tx<'_>,
    asker: Asker<'_>,
    claim: &Claim,
    newest: &Entry,
    now: SystemTime,
) -> sql::Result<Others> {
    let sql = format!("SELECT 1 {} AND revision = ? AND replica <> ?", told());
    let mut row = told_by(claim, asker.life).to_vec();
    row.extend(values![newest.files.revision, asker.holder]);
    if transaction.exists(&sql, &row)? {
        return Ok(Others::Have);
    }
    let has_just_left = newest.left_at.is_some_and(|at| at > to_millis(now) - millis(asker.life));
    Ok(if has_just_left { Others::Had } else { Others::Lack })
}

fn millis(life: Duration) -> i64 {
    i64::try_from(life.as_millis()).unwrap_or(i64::MAX)
}

fn enter(transaction: &Tx<'_>, project: i64, files: &Files, now: SystemTime) -> sql::Result<Mark> {
    let sql = "INSERT INTO revision (project, revision, at) VALUES (?, ?, ?) RETURNING id";
    let row = values![project, files.revision, to_millis(now)];
    let id = transaction.first(sql, &row, |row| row.integer("id"))?.unwrap_or_default();
    let sql = format!(
        "DELETE FROM revision WHERE project = ? AND id <= (
             SELECT id FROM revision WHERE project = ? ORDER BY id DESC LIMIT 1 OFFSET {KEPT})"
    );
    transaction.execute(&sql, &values![project, project])?;
    move_on(transaction, id, files)
}

/// The same files are there in another commit.
fn move_on(transaction: &Tx<'_>, entry: i64, files: &Files) -> sql::Result<Mark> {
    let (commit, at, ancestors) = columns(Some(files));
    let sql = "UPDATE revision SET source_commit = ?, committed_at = ?, ancestors = ? WHERE id = ?";
    transaction.execute(sql, &values![commit, at, ancestors, entry])?;
    Ok(Mark { entry, commit: files.commit_id().cloned() })
}

/// Of what a commit builds on, so many are written down, the nearest first: a checkout that comes late finds itself there.
const WRITTEN_DOWN: usize = 16;

fn columns(files: Option<&Files>) -> (Option<&Arc<str>>, Option<i64>, Option<String>) {
    let commit = files.and_then(|files| files.commit.as_ref());
    let ancestors = |commit: &Commit| {
        let nearest = commit.ancestors.iter().take(WRITTEN_DOWN);
        nearest.map(|ancestor| &**ancestor).collect::<Vec<_>>().join(" ")
    };
    (commit.map(|commit| &commit.id), commit.map(|commit| commit.at), commit.map(ancestors))
}

fn files(row: &Row<'_>) -> sql::Result<Files> {
    let revision = row.text("revision")?.unwrap_or_default().into();
    let (id, at, ancestors) = (row.text("source_commit")?, row.optional("committed_at")?, row.text("ancestors")?);
    let ancestors = ancestors.unwrap_or_default().split_whitespace().map(Into::into).collect();
    let commit = id.zip(at).map(|(id, at)| Commit { id: id.into(), at, ancestors });
    Ok(Files { revision, commit })
}

/// Of one project, by the replicas that run; see [`told_by`].
fn told() -> String {
    format!(
        "FROM checkout JOIN replica ON replica.id = checkout.replica
         WHERE host = ? AND project_id = ? AND owner = ? AND revision IS NOT NULL AND seen > {NOW} - ?"
    )
}

fn told_by(claim: &Claim, life: Duration) -> [Value<'_>; 4] {
    let (host, project_id, owner) = claim;
    let life = Value::from(millis(life));
    values![host, project_id, owner, life]
}

/// Tells the others. Nothing, where this process is no replica among them yet, or any more.
pub(super) fn tell(transaction: &Tx<'_>, holder: &str, claim: &Claim, files: Option<&Files>) -> sql::Result<()> {
    let (host, project_id, owner) = claim;
    let revision = files.map(|files| &files.revision);
    let (commit, at, ancestors) = columns(files);
    let sql = "INSERT INTO checkout (replica, host, project_id, owner, revision, source_commit, committed_at, ancestors)
               SELECT id, ?, ?, ?, ?, ?, ?, ? FROM replica WHERE id = ?
               ON CONFLICT (replica, host, project_id, owner) DO UPDATE SET revision = excluded.revision,
                   source_commit = excluded.source_commit, committed_at = excluded.committed_at, ancestors = excluded.ancestors
               WHERE (checkout.revision, checkout.source_commit) IS DISTINCT FROM (excluded.revision, excluded.source_commit)";
    let row = values![host, project_id, owner, revision, commit, at, ancestors, holder];
    transaction.execute(sql, &row).map(drop)
}

/// A replica that stops takes its files along. That somebody had the newest a moment ago is still to be known.
pub(super) fn leave(transaction: &Tx<'_>, holder: &str) -> sql::Result<()> {
    let sql = format!(
        "UPDATE revision SET left_at = {NOW} FROM checkout, ({ALL_NEWEST}) newest
         WHERE replica = ? AND checkout.host = newest.host AND checkout.project_id = newest.project_id
         AND checkout.owner = newest.owner AND checkout.revision = newest.revision AND revision.id = newest.id"
    );
    transaction.execute(&sql, &values![holder])?;
    transaction.execute("DELETE FROM replica WHERE id = ?", &values![holder]).map(drop)
}

/// Everybody's, by claim.
const ALL_NEWEST: &str = "SELECT p.host, p.project_id, p.owner, r.id, r.revision, r.source_commit FROM project p
    CROSS JOIN LATERAL (SELECT * FROM revision WHERE project = p.id ORDER BY id DESC LIMIT 1) r";

pub(super) fn all_newest(transaction: &Tx<'_>) -> sql::Result<HashMap<Claim, Newest>> {
    let newest = |row: &Row<'_>| {
        let mark = Mark { entry: row.integer("id")?, commit: row.text("source_commit")?.map(Into::into) };
        Ok((claim(row)?, Newest { mark, revision: row.text("revision")?.unwrap_or_default() }))
    };
    transaction.rows(ALL_NEWEST, &[], newest)
}

fn newest_of(transaction: &Tx<'_>, claim: &Claim) -> sql::Result<Option<Entry>> {
    let (host, project_id, owner) = claim;
    let sql = "SELECT r.* FROM revision r JOIN project p ON p.id = r.project
               WHERE p.host = ? AND p.project_id = ? AND p.owner = ? ORDER BY r.id DESC LIMIT 1";
    let entry = |row: &Row<'_>| {
        let (project, id, left_at) = (row.integer("project")?, row.integer("id")?, row.optional("left_at")?);
        Ok(Entry { project, id, files: files(row)?, left_at })
    };
    transaction.first(sql, &values![host, project_id, owner], entry)
}

/// Whose a row is.
pub(super) fn claim(row: &Row<'_>) -> sql::Result<Claim> {
    let text = |column| Ok::<_, sql::SqlError>(row.text(column)?.unwrap_or_default());
    Ok((text("host")?, text("project_id")?, text("owner")?))
}

#[cfg(test)]
mod tests {
    use super::super::Leases;
    use super::super::Place;
    use super::super::SharedPlace;
    use super::super::State;
    use super::super::testing;
    use super::Standing::Behind;
    use super::Standing::Newest;
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    struct Replica {
        state: State,
        leases: Leases,
    }

    impl Replica {
        fn new(place: &Place, name: &str) -> Self {
            let state = State::open_at(place).unwrap();
            let leases = Leases::of(&state, place, name).unwrap();
            Self { state, leases }
        }

        fn loads(&self, claims: &[Claim], revision: &str) -> Vec<Standing> {
            claims.iter().map(|claim| self.checks_out(claim, revision, None)).collect()
        }

        fn checks_out(&self, claim: &Claim, revision: &str, commit: Option<&Commit>) -> Standing {
            let project = self.of(claim);
            project.loaded(&revision.into(), commit.cloned());
            project.stand().unwrap()
        }

        fn of(&self, (host, project_id, owner): &Claim) -> ProjectState {
            self.state.project(host, project_id, owner)
        }

        /// How many it holds after a turn.
        fn turn(&mut self, claims: &[Claim]) -> usize {
            let held = self.leases.turn(claims, &|_| false).unwrap();
            held.iter().filter(|holding| holding.is_mine).count()
        }
    }

    fn place() -> Option<Place> {
        let url = testing::database()?;
        let shared = SharedPlace::new(&url, &"07".repeat(32).into(), LIFE, LIFE / 4).unwrap();
        Some(Place::Database(Box::new(shared)))
    }

    fn claims(count: usize) -> Vec<Claim> {
        (0..count).map(|n| ("api.example.com".to_owned(), format!("P{n}"), "default".to_owned())).collect()
    }

    /// One whose checkout stood still took its share from the others, and gave it back each turn.
    #[test]
    fn one_that_is_behind_takes_no_share() {
        let Some(place) = place() else { return };
        let claims = claims(8);
        let (mut one, mut other) = (Replica::new(&place, "one"), Replica::new(&place, "other"));
        assert_eq!(one.turn(&claims), 8);
        assert_eq!(one.loads(&claims, "old"), vec![Newest; 8]);
        assert_eq!(one.loads(&claims, "new"), vec![Newest; 8]);

        let stale = other.loads(&claims, "old");
        let while_behind = (other.turn(&claims), one.turn(&claims), other.turn(&claims), one.turn(&claims));
        // Of one project the files are the same.
        let of_one = other.loads(&claims[..1], "new");
        let with_one = (other.turn(&claims), one.turn(&claims), other.turn(&claims));
        other.loads(&claims, "new");
        let shared = (other.turn(&claims), one.turn(&claims), other.turn(&claims));

        assert_eq!(stale, vec![Behind; 8]);
        assert_eq!(while_behind, (0, 8, 0, 8));
        assert_eq!((of_one, with_one), (vec![Newest], (0, 7, 1)));
        assert_eq!(shared, (1, 5, 3));
    }

    /// Numbers are given out to all projects together.
    #[test]
    fn what_other_projects_put_in_force_makes_nothing_forgotten() {
        let Some(place) = place() else { return };
        let claims = claims(2);
        let mut one = Replica::new(&place, "one");
        assert_eq!(one.turn(&claims), 2);
        one.loads(&claims, "first");
        one.loads(&claims, "second");
        one.state
            .write(|transaction| {
                let sql = "SELECT setval(pg_get_serial_sequence('revision', 'id'), 100000)";
                transaction.exists(sql, &[]).map(drop)
            })
            .unwrap();
        one.loads(&claims[..1], "third");

        one.leases.give_all_back(&claims).unwrap();
        let again = Replica::new(&place, "again").loads(&claims[..1], "first");

        assert_eq!(again, [Behind], "it was in force before");
    }

    #[test]
    fn only_a_move_from_the_newest_makes_older_files_the_newest() {
        let Some(place) = place() else { return };
        let claims = claims(1);
        let (mut one, mut other) = (Replica::new(&place, "one"), Replica::new(&place, "other"));
        assert_eq!((one.turn(&claims), other.turn(&claims)), (1, 0));
        let mut said = Vec::new();
        for (replica, revision) in
            [(&one, "1"), (&other, "1"), (&one, "2"), (&other, "2"), (&one, "1"), (&other, "2"), (&other, "1")]
        {
            said.extend(replica.loads(&claims, revision));
        }
        let moved = said;

        // It stood on 1 and moves on, while the holder, who was there in this term, just follows.
        let moves_on = other.loads(&claims, "3");
        let follows = one.loads(&claims, "1");
        let unknown = Replica::new(&place, "third").loads(&claims, "9");
        let skipped = one.loads(&claims, "4");
        let aside = (one.of(&claims[0]).is_put_aside("4"), other.of(&claims[0]).is_put_aside("3"));
        let approved: Vec<bool> =
            ["3", "8", "4", "4"].iter().map(|revision| one.of(&claims[0]).put_in_force(revision).unwrap()).collect();

        assert_eq!(moved, [Newest, Newest, Newest, Newest, Newest, Behind, Newest]);
        assert_eq!((moves_on, follows, unknown), (vec![Newest], vec![Newest], vec![Behind]));
        assert_eq!((skipped, aside), (vec![Behind], (false, false)), "it keeps the lease, and writes nothing");
        assert_eq!(
            approved,
            [false, false, true, false],
            "what is in force, what nobody has, and what somebody has, once"
        );
    }

    /// Of one that a fetch of `depth` commits brings.
    fn commit(number: i64, depth: i64) -> Commit {
        let ancestors = (1..=depth).map(|back| (number - back).to_string().into()).collect();
        Commit { id: number.to_string().into(), at: number * 100, ancestors }
    }

    /// It went d1, d2 by a fetch that took long, while the others went d1, d3: one life later d2 was in force.
    #[test]
    fn a_commit_that_others_skipped_is_older_however_late_it_comes() {
        let Some(place) = place() else { return };
        let claims = claims(1);
        let (mut one, mut other) = (Replica::new(&place, "one"), Replica::new(&place, "other"));
        assert_eq!((one.turn(&claims), other.turn(&claims)), (1, 0));
        let at = |replica: &Replica, number: i64| {
            replica.checks_out(&claims[0], &format!("r{number}"), Some(&commit(number, 1)))
        };
        let before = (at(&one, 1), at(&other, 1), at(&one, 5));

        // Its parent is not the one that is in force, and it was made earlier.
        let late = (at(&other, 3), other.of(&claims[0]).is_older());
        // It is the parent of the one in force.
        let nearly = (at(&other, 4), other.of(&claims[0]).is_older());
        let back = (at(&other, 5), at(&other, 6), at(&one, 9));

        assert_eq!(before, (Newest, Newest, Newest));
        assert_eq!((late, nearly), ((Behind, true), (Behind, true)));
        assert_eq!(back, (Newest, Newest, Behind), "6 is in force, and 9 may be newer");
        assert!(!one.of(&claims[0]).is_older());
    }

    /// The files of d3 are those of d1 again: whoever came from d1 to d2 seemed to come from the newest.
    #[test]
    fn a_commit_that_was_reverted_is_older() {
        let Some(place) = place() else { return };
        let claims = claims(1);
        let (mut one, other) = (Replica::new(&place, "one"), Replica::new(&place, "other"));
        assert_eq!(one.turn(&claims), 1);
        let at = |replica: &Replica, revision: &str, number: i64| {
            replica.checks_out(&claims[0], revision, Some(&commit(number, 1)))
        };
        let before = [at(&one, "x", 1), at(&other, "x", 1), at(&one, "x", 3)];

        let reverted = (at(&other, "y", 2), other.of(&claims[0]).is_older());
        let follows = [at(&other, "x", 3), at(&other, "z", 4)];
        // And where the one that was reverted was in force, a revert is no old revision.
        let skips = at(&one, "x", 5);

        assert_eq!((before, reverted), ([Newest; 3], (Behind, true)));
        assert_eq!((follows, skips), ([Newest; 2], Newest));
    }

    /// One that begins beside one whose checkout stands still, and one whose commits are of a branch that was left.
    #[test]
    fn a_checkout_with_the_whole_history_goes_ahead_at_once() {
        let Some(place) = place() else { return };
        let claims = claims(1);
        let (mut one, other) = (Replica::new(&place, "one"), Replica::new(&place, "other"));
        assert_eq!(one.turn(&claims), 1);
        let at = |replica: &Replica, number: i64, depth: i64| {
            replica.checks_out(&claims[0], &format!("r{number}"), Some(&commit(number, depth)))
        };
        let before = at(&one, 5, 4);

        let shallow = at(&other, 8, 1);
        let whole = at(&other, 9, 8);

        assert_eq!((before, shallow, whole), (Newest, Behind, Newest));
    }

    /// What is held of each counts against the share of all: those that nobody else could take were nobody's.
    #[test]
    fn replicas_with_different_projects_leave_none_to_nobody() {
        let Some(place) = place() else { return };
        let claims = claims(10);
        let (mut one, mut other) = (Replica::new(&place, "one"), Replica::new(&place, "other"));
        let (left, right) = (&claims[..6], &claims[4..]);
        // Both are known before either takes anything.
        for (replica, claims) in [(&mut one, left), (&mut other, right)] {
            assert!(replica.turn(claims) > 0);
            replica.leases.give_all_back(claims).unwrap();
        }
        let mut holds = (0, 0);
        for _ in 0..3 {
            holds = (one.turn(left), other.turn(right));
        }

        assert_eq!(holds.0 + holds.1, 10, "{holds:?}");
    }

    /// Whoever stopped had the newest, and is back in a moment; after a gap nobody knows who is there.
    #[test]
    fn whoever_knows_nothing_waits_for_a_life_of_looks_without_a_gap() {
        let life = Duration::from_secs(20);
        let at = |tenths: u64| Duration::from_millis(1_000_000 + tenths * 100);
        let mut checkout = Checkout { loaded_at: at(0), ..Checkout::default() };
        for tenths in 0..=199 {
            checkout.looked(at(tenths), life);
            assert!(!checkout.has_waited(at(tenths), life), "{tenths}");
        }
        checkout.looked(at(200), life);
        assert!(checkout.has_waited(at(200), life));

        // The database was away for half a life.
        assert!(!checkout.has_waited(at(300), life));
        for tenths in 300..500 {
            checkout.looked(at(tenths), life);
            assert!(!checkout.has_waited(at(tenths), life), "{tenths}");
        }
        checkout.looked(at(500), life);
        assert!(checkout.has_waited(at(500), life));
    }

    #[test]
    fn a_replica_that_stops_is_missed_by_whoever_knows_nothing_and_not_by_whoever_has_a_later_commit() {
        let Some(place) = place() else { return };
        let claims = claims(1);
        let claim = &claims[0];
        let mut one = Replica::new(&place, "one");
        let (mut unknown, mut later) = (Replica::new(&place, "unknown"), Replica::new(&place, "later"));
        assert_eq!((one.turn(&claims), unknown.turn(&claims), later.turn(&claims)), (1, 0, 0));
        let before = one.checks_out(claim, "r1", Some(&commit(1, 1)));
        let beside = (unknown.checks_out(claim, "u", None), later.checks_out(claim, "r9", Some(&commit(9, 1))));

        one.leases.give_all_back(&claims).unwrap();
        let after = (unknown.of(claim).stand().unwrap(), later.of(claim).stand().unwrap());

        assert_eq!((before, beside, after), (Newest, (Behind, Behind), (Behind, Newest)));
    }
}
