//! Which files are the newest, where replicas share the state: so that one whose checkout stands still turns nobody's work back,
//! and what another has by now is not missing for ever.
//!
//! The database lists the revisions that were in force, in their order. Each replica tells which it has loaded, so that all of them see
//! who stands where. A revision becomes the newest entry where a checkout moved to it from the newest one, whether it
//! was in force before or not: that it stood there was noted before it moved, so no move of before counts. One that was never in
//! force may be newer, or one that others skipped: it has to wait while another replica that runs has the newest, for ever
//! where this process only began with it, and for the life of a lease where it saw its checkout move, which fetches what is newest.

use super::Error;
use super::Store;
use super::clock::steady;
use super::lease::Claim;
use super::lease::NOW;
use super::lease::Tenure;
use super::project::ProjectState;
use super::project::to_millis;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// They are this entry, the newest.
    On(i64),
    /// Nothing was in force yet.
    First,
    /// They were in force before this entry, the newest.
    Before(i64),
    /// They were never in force, which says nothing of their age.
    Unknown,
}

/// The newest entry of a project.
pub(super) struct Entry {
    project: i64,
    pub id: i64,
    pub revision: String,
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
    pub revision: Option<Arc<str>>,
    /// When it was seen to move to them; `None` where this process began with them.
    moved_at: Option<Duration>,
    /// The newest entry, when it was last seen to stand there.
    entry: Option<i64>,
    /// Nobody looked since they were loaded.
    is_new: bool,
    behind_since: Option<Duration>,
    /// The entry that they are older than.
    before: Option<i64>,
    /// The term under which they were the newest: nobody else has written while it lasts.
    current_under: Option<i64>,
    /// The files that were the newest then.
    current: Option<Arc<str>>,
}

impl Checkout {
    /// Is it known that they are older, as long as this is the newest entry?
    pub fn is_before(&self, entry: i64) -> bool {
        self.before == Some(entry)
    }

    fn is_current(&self) -> bool {
        self.revision.is_some() && self.revision == self.current
    }

    fn standing(&self, term: Option<i64>, life: Duration) -> Standing {
        if self.revision.is_none() {
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
    pub fn found(&self, claim: &Claim, then: &Checkout, found: Found, tenure: Option<Tenure>) {
        self.with(claim, |checkout| {
            if checkout.revision != then.revision {
                return;
            }
            checkout.is_new = false;
            checkout.before = None;
            match found {
                Found::Before(entry) => checkout.before = Some(entry),
                Found::Unknown | Found::First => {}
                // Of two looks the one of before may come last.
                Found::On(entry) => checkout.entry = checkout.entry.max(Some(entry)),
            }
            if matches!(found, Found::Before(_) | Found::Unknown) {
                checkout.behind_since.get_or_insert(steady());
            } else {
                checkout.behind_since = None;
                checkout.current_under = tenure.map(|tenure| tenure.term);
                checkout.current.clone_from(&checkout.revision);
            }
        });
    }

    fn loaded(&self, claim: &Claim, revision: &Arc<str>) {
        self.with(claim, |checkout| {
            if checkout.revision.as_ref() != Some(revision) {
                checkout.moved_at = checkout.revision.is_some().then(steady);
                checkout.revision = Some(Arc::clone(revision));
                (checkout.is_new, checkout.before) = (true, None);
            }
        });
    }

    fn with<T>(&self, claim: &Claim, work: impl FnOnce(&mut Checkout) -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(known.entry(claim.clone()).or_default())
    }
}

impl ProjectState {
    /// These are the files that this process has loaded.
    pub fn loaded(&self, revision: &Arc<str>) {
        if let Store::Server(server) = &self.state.shared.store {
            server.checkouts.loaded(&self.claim(), revision);
        }
    }

    /// How they stand to those in force. Puts them in force where that is somebody's intent. Always the newest, where
    /// nobody shares the state.
    pub fn stand(&self) -> Result<Standing, Error> {
        let Store::Server(server) = &self.state.shared.store else { return Ok(Standing::Newest) };
        let claim = self.claim();
        let checkout = server.checkouts.of(&claim);
        let Some(revision) = &checkout.revision else { return Ok(Standing::Nothing) };
        let tenure = self.tenure();
        let asker = Asker { holder: &server.holder, life: server.life, is_patient: true };
        let found = self.state.noted(self.state.transact(|transaction, now| {
            let found = place(transaction, asker, &claim, &checkout, now)?;
            if found == Found::First && tenure.is_some() {
                let project = self.id_to_write(transaction)?;
                return Ok(Found::On(enter(transaction, project, revision, now)?));
            }
            Ok(found)
        }))?;
        server.checkouts.found(&claim, &checkout, found, tenure);
        let standing = server.checkouts.standing(&claim, tenure, server.life);
        // Who just follows keeps the lease for a while, but what it loads on its way is not in force.
        let is_in_force = matches!(found, Found::On(_) | Found::First) || server.checkouts.of(&claim).is_current();
        Ok(if is_in_force { standing } else { standing.min(Standing::Behind) })
    }

    /// Are these the files that are loaded here, of which nothing is written because they are not the newest?
    pub fn is_put_aside(&self, revision: &str) -> bool {
        let Store::Server(server) = &self.state.shared.store else { return false };
        let claim = self.claim();
        server.checkouts.of(&claim).revision.as_deref() == Some(revision)
            && server.checkouts.standing(&claim, self.tenure(), server.life) == Standing::Behind
    }

    /// Were other files noted as the newest? Whoever has them may be gone by now.
    pub fn is_overtaken(&self) -> bool {
        let Store::Server(server) = &self.state.shared.store else { return false };
        server.checkouts.is_behind(&self.claim())
    }

    /// Makes files that are put aside the newest, as somebody has said. False where they are not.
    pub fn put_in_force(&self, revision: &str) -> Result<bool, Error> {
        let Store::Server(server) = &self.state.shared.store else { return Ok(false) };
        if !self.is_put_aside(revision) {
            return Ok(false);
        }
        let claim = self.claim();
        let (checkout, tenure) = (server.checkouts.of(&claim), self.tenure());
        let entry = self.write_by_clock(|transaction, project, now| enter(transaction, project, revision, now))?;
        server.checkouts.found(&claim, &checkout, Found::On(entry), tenure);
        Ok(true)
    }
}

/// Where these files stand, after they were made the newest where they moved on from there.
pub(super) fn place(
    transaction: &Tx<'_>,
    asker: Asker<'_>,
    claim: &Claim,
    checkout: &Checkout,
    now: SystemTime,
) -> sql::Result<Found> {
    let Some(revision) = checkout.revision.as_deref() else { return Ok(Found::Unknown) };
    tell(transaction, asker.holder, claim, Some(revision))?;
    let Some(newest) = newest_of(transaction, claim)? else { return Ok(Found::First) };
    if newest.revision == revision {
        return Ok(Found::On(newest.id));
    }
    // One at a time: the next one sees what this one did.
    let patience = if asker.is_patient { "" } else { "SKIP LOCKED" };
    let sql = format!("SELECT 1 FROM project WHERE id = ? FOR NO KEY UPDATE {patience}");
    if !transaction.exists(&sql, &values![newest.project])? {
        return Ok(Found::Unknown);
    }
    let Some(newest) = newest_of(transaction, claim)? else { return Ok(Found::First) };
    if newest.revision == revision {
        return Ok(Found::On(newest.id));
    }
    let moved_from_newest = checkout.entry == Some(newest.id);
    if !moved_from_newest {
        let sql = "SELECT 1 FROM revision WHERE project = ? AND revision = ?";
        if transaction.exists(sql, &values![newest.project, revision])? {
            return Ok(Found::Before(newest.id));
        }
        let has_settled = checkout.moved_at.is_some_and(|at| steady() >= at + asker.life);
        if !has_settled && is_elsewhere(transaction, asker, claim, &newest.revision)? {
            return Ok(Found::Unknown);
        }
    }
    Ok(Found::On(enter(transaction, newest.project, revision, now)?))
}

/// Does another replica that runs have these files?
fn is_elsewhere(transaction: &Tx<'_>, asker: Asker<'_>, claim: &Claim, revision: &str) -> sql::Result<bool> {
    let (host, project_id, owner) = claim;
    let life = i64::try_from(asker.life.as_millis()).unwrap_or(i64::MAX);
    let sql = format!(
        "SELECT 1 FROM checkout JOIN replica ON replica.id = checkout.replica
         WHERE host = ? AND project_id = ? AND owner = ? AND revision = ? AND replica <> ? AND seen > {NOW} - ?"
    );
    transaction.exists(&sql, &values![host, project_id, owner, revision, asker.holder, life])
}

fn enter(transaction: &Tx<'_>, project: i64, revision: &str, now: SystemTime) -> sql::Result<i64> {
    let sql = "INSERT INTO revision (project, revision, at) VALUES (?, ?, ?) RETURNING id";
    let row = values![project, revision, to_millis(now)];
    let id = transaction.first(sql, &row, |row| row.integer("id"))?.unwrap_or_default();
    let sql = format!(
        "DELETE FROM revision WHERE project = ? AND id <= (
             SELECT id FROM revision WHERE project = ? ORDER BY id DESC LIMIT 1 OFFSET {KEPT})"
    );
    transaction.execute(&sql, &values![project, project])?;
    Ok(id)
}

/// Tells the others. Nothing, where this process is no replica among them yet, or any more.
pub(super) fn tell(transaction: &Tx<'_>, holder: &str, claim: &Claim, revision: Option<&str>) -> sql::Result<()> {
    let (host, project_id, owner) = claim;
    let sql = "INSERT INTO checkout (replica, host, project_id, owner, revision)
               SELECT id, ?, ?, ?, ? FROM replica WHERE id = ?
               ON CONFLICT (replica, host, project_id, owner) DO UPDATE SET revision = excluded.revision
               WHERE checkout.revision IS DISTINCT FROM excluded.revision";
    transaction.execute(sql, &values![host, project_id, owner, revision, holder]).map(drop)
}

/// Everybody's, by claim.
const ALL_NEWEST: &str = "SELECT p.host, p.project_id, p.owner, p.id AS project, r.id, r.revision FROM project p
    CROSS JOIN LATERAL (SELECT id, revision FROM revision WHERE project = p.id ORDER BY id DESC LIMIT 1) r";

pub(super) fn all_newest(transaction: &Tx<'_>) -> sql::Result<HashMap<Claim, Entry>> {
    transaction.rows(ALL_NEWEST, &[], |row| Ok((claim(row)?, newest(row)?)))
}

fn newest_of(transaction: &Tx<'_>, claim: &Claim) -> sql::Result<Option<Entry>> {
    let (host, project_id, owner) = claim;
    let sql = format!("{ALL_NEWEST} WHERE p.host = ? AND p.project_id = ? AND p.owner = ?");
    transaction.first(&sql, &values![host, project_id, owner], newest)
}

fn newest(row: &Row<'_>) -> sql::Result<Entry> {
    let revision = row.text("revision")?.unwrap_or_default();
    Ok(Entry { project: row.integer("project")?, id: row.integer("id")?, revision })
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
            let stand = |claim: &Claim| {
                let project = self.of(claim);
                project.loaded(&revision.into());
                project.stand().unwrap()
            };
            claims.iter().map(stand).collect()
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

        assert_eq!(moved, [Newest, Newest, Newest, Newest, Newest, Behind, Newest]);
        assert_eq!((moves_on, follows, unknown), (vec![Newest], vec![Newest], vec![Behind]));
        assert_eq!((skipped, aside), (vec![Behind], (false, false)), "it keeps the lease, and writes nothing");
        assert!(!one.of(&claims[0]).put_in_force("4").unwrap());
    }
}
