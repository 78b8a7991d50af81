//! Who writes a project, where replicas share the state: the one that holds its lease, for as long as that lasts.
//!
//! What is written is written under a term, and by the clock of the database that term is checked in the very transaction.
//! What is sent is sent before a deadline by a clock of this machine that nobody sets, which lies before the end of the term:
//! it counts from before the renewal was asked for.

use super::Error;
use super::Place;
use super::ProjectState;
use super::SharedPlace;
use super::Store;
use super::clock::steady;
use super::project::from_millis;
use super::revision;
use super::revision::Asker;
use super::revision::Checkouts;
use super::revision::Files;
use super::revision::Found;
use super::revision::Newest;
use super::revision::Standing;
use super::server::Server;
use super::server::ServerError;
use super::server::schema::KNOWN;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::values;
use super::volume::sight;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;

/// Of nothing that is sent may the answer be awaited for longer than this before the end of a term; of shorter lives a tenth.
const MARGIN: Duration = Duration::from_secs(2);

/// A call that has less time waits for a renewal; of shorter lives a quarter.
const SHORTEST_CALL: Duration = Duration::from_secs(5);

/// A replica that is unseen for so long is forgotten.
const FORGOTTEN: i64 = 24 * 60 * 60 * 1000;

/// Host, Descope's id, owner.
pub type Claim = (String, String, String);

/// The right to write a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// Each holder's is larger than the one before.
    pub term: i64,
    /// Until then, by [`Tenure::is_over`]'s clock; `None` where nobody else can come.
    deadline: Option<Duration>,
    /// What takes no longer is not begun.
    least: Duration,
    /// When it began. What was begun before is somebody else's.
    pub since: SystemTime,
    /// Until when the holder before may have sent something.
    pub before: SystemTime,
}

impl Tenure {
    /// Of the one writer of a directory.
    const ALWAYS: Self = Self {
        term: 0,
        deadline: None,
        least: Duration::ZERO,
        since: SystemTime::UNIX_EPOCH,
        before: SystemTime::UNIX_EPOCH,
    };

    /// How much of it is left; `None` where it does not end.
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub(steady()))
    }

    /// How long a request may take that is sent now; `None` where it would be cut off too soon.
    pub fn room(&self) -> Option<Duration> {
        let Some(left) = self.left() else { return Some(Duration::MAX) };
        (left >= self.least).then_some(left)
    }

    pub(super) fn is_over(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }
}

/// What this process holds, by claim. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Tenures(Arc<Mutex<HashMap<Claim, watch::Sender<Option<Tenure>>>>>);

impl Tenures {
    pub fn of(&self, claim: &Claim) -> watch::Sender<Option<Tenure>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(claim.clone()).or_default().clone()
    }

    fn set(&self, claim: &Claim, tenure: Option<Tenure>) {
        self.of(claim).send_if_modified(|known| std::mem::replace(known, tenure) != tenure);
    }
}

impl ProjectState {
    /// The right to write it, while this process has it. Always, where the state is a directory.
    pub fn tenure(&self) -> Option<Tenure> {
        match &self.state.shared.store {
            Store::File(_) => Some(Tenure::ALWAYS),
            Store::Server(server) => {
                let tenure = *server.tenures.of(&self.claim()).borrow();
                tenure.filter(|tenure| !tenure.is_over())
            }
        }
    }

    /// Changes when it is given, prolonged or taken; `None` where it is for good.
    pub fn tenures(&self) -> Option<watch::Receiver<Option<Tenure>>> {
        match &self.state.shared.store {
            Store::File(_) => None,
            Store::Server(server) => Some(server.tenures.of(&self.claim()).subscribe()),
        }
    }

    /// Is the state shared by replicas?
    pub fn is_shared(&self) -> bool {
        self.state.is_shared()
    }

    /// Nothing of a project is written but under the term that this process believes in. The row stays as it is until the
    /// transaction is over: whoever takes the lease finds all that was written before.
    pub(super) fn check_tenure(&self, transaction: &Tx<'_>) -> sql::Result<()> {
        let Store::Server(server) = &self.state.shared.store else { return Ok(()) };
        let tenure = self.tenure().ok_or(ServerError::NotHeld)?;
        let sql = format!(
            "SELECT set_config('descope_gitops.term', term::text, true) FROM lease
             WHERE host = ? AND project_id = ? AND owner = ? AND holder = ? AND term = ? AND expires > {NOW} FOR SHARE"
        );
        let row = values![self.host, self.project_id, self.owner, server.holder, tenure.term];
        if transaction.exists(&sql, &row)? { Ok(()) } else { Err(ServerError::NotHeld.into()) }
    }
}

/// Milliseconds since 1970, as the database has them at this moment.
pub(super) const NOW: &str = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// How a project is held, as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which.
    pub claim: Claim,
    /// Who holds it, by name; `None` while nobody does.
    pub holder: Option<String>,
    /// Is it this process?
    pub is_mine: bool,
    /// The newest.
    pub term: i64,
    /// Since when.
    pub since: SystemTime,
    /// Until when, unless it is renewed.
    pub expires: SystemTime,
}

/// Takes, renews and gives back what this process is to write.
#[derive(Debug)]
pub struct Leases {
    server: Server,
    tenures: Tenures,
    checkouts: Checkouts,
    pub(super) holder: Arc<str>,
    name: String,
    pub(super) life: Duration,
    renew: Duration,
    /// Nothing more of it is sent, and it is given back once nothing is under way.
    leaving: BTreeSet<Claim>,
    newer: Option<i64>,
    volumes: BTreeSet<String>,
    /// Others took them before they were given back.
    lost: BTreeSet<Claim>,
    /// What keeps this replica alone from writing a project, in words.
    pub(super) refusals: HashMap<Claim, &'static str>,
}

/// What a look shows.
struct Look {
    now: i64,
    leases: Vec<Lease>,
    /// What the other replicas that run have loaded.
    others: Vec<Other>,
    newest: HashMap<Claim, Newest>,
}

/// What another replica that runs has told of a project.
struct Other {
    replica: String,
    claim: Claim,
    revision: Option<String>,
    is_refused: bool,
}

/// Who comes first.
struct Rank {
    /// Another replica has better files.
    is_beaten: bool,
    /// Who, but for this process, has files as good as any.
    peers: Vec<String>,
    /// So many do with it.
    sharers: usize,
}

/// How many projects the other replicas have, and how many of them they hold.
struct Loads(HashMap<String, (usize, usize)>);

impl Loads {
    fn of(others: &[Other], leases: &[Lease], now: i64) -> Self {
        let mut loads: HashMap<String, (usize, usize)> = HashMap::new();
        for told in others {
            loads.entry(told.replica.clone()).or_default().0 += 1;
        }
        for lease in leases.iter().filter(|lease| lease.expires > now) {
            if let Some((_, held)) = loads.get_mut(&lease.holder) {
                *held += 1;
            }
        }
        Self(loads)
    }

    /// The one that may hold one more, of those who share a project.
    fn with_room<'r>(&self, rank: &'r Rank) -> Option<&'r String> {
        let has_room = |(has, held): &(usize, usize)| *held < share(*has, rank.sharers);
        rank.peers.iter().find(|peer| self.0.get(*peer).is_some_and(has_room))
    }

    /// It takes one more, once that is free.
    fn takes(&mut self, replica: &str) {
        if let Some((_, held)) = self.0.get_mut(replica) {
            *held += 1;
        }
    }
}

/// So many of its projects a replica holds at the most, by one that so many share. Of the same projects they cannot all hold
/// so many; of different ones they can.
fn share(has: usize, sharers: usize) -> usize {
    has.div_ceil(sharers.max(1)) + 1
}

struct Lease {
    claim: Claim,
    holder: String,
    name: Option<String>,
    term: i64,
    since: i64,
    expires: i64,
}

impl Leases {
    /// Of a state that was opened at `place`; `None` for a directory. Replicas go by `name`.
    pub fn of(state: &super::State, place: &Place, name: &str) -> Option<Self> {
        let (Store::Server(server), Place::Database(shared)) = (&state.shared.store, place) else { return None };
        Some(Self {
            server: SharedPlace::connect(shared),
            tenures: server.tenures.clone(),
            checkouts: server.checkouts.clone(),
            holder: server.holder.clone(),
            name: name.to_owned(),
            life: shared.life,
            renew: shared.renew,
            leaving: BTreeSet::new(),
            newer: None,
            volumes: BTreeSet::new(),
            lost: BTreeSet::new(),
            refusals: HashMap::new(),
        })
    }

    /// The version of the tables, where a newer release has migrated them: this one holds nothing and takes nothing.
    pub fn newer(&self) -> Option<i64> {
        self.newer
    }

    /// Tells the other replicas, from the next turn on, that the volumes with these marks are mounted here, each for this project.
    pub fn sees(&mut self, marks: impl IntoIterator<Item = (Claim, String)>) {
        self.volumes = marks.into_iter().map(|(claim, mark)| sight(&claim, &mark)).collect();
    }

    /// These projects cannot be written here, as far as is known, and why: another replica comes first that is not known to be
    /// refused, and tries. Where all are, whoever holds a project keeps it.
    pub fn refused(&mut self, refusals: HashMap<Claim, &'static str>) {
        self.refusals = refusals;
    }

    /// Are the files here other than those in force, as far as was noted?
    pub fn is_behind(&self, claim: &Claim) -> bool {
        self.checkouts.is_behind(claim)
    }

    /// What others took, since this was asked last, before this process had given it back.
    pub fn lost(&mut self) -> BTreeSet<Claim> {
        std::mem::take(&mut self.lost)
    }

    /// How often a sign of life is given.
    pub fn renews_every(&self) -> Duration {
        self.renew
    }

    /// Does this process hold it, as far as it knows? Whatever the clock of this machine says.
    pub fn holds(&self, claim: &Claim) -> bool {
        self.tenure(claim).is_some()
    }

    /// One round for these projects: says that this process is there and which files it has, renews what it holds, takes what
    /// is free, as much as is its share, and gives back what is more, and what another replica has better files of.
    /// `is_busy` says of which something is under way. How all that the database knows are held then.
    pub fn turn(&mut self, claims: &[Claim], is_busy: &dyn Fn(&Claim) -> bool) -> Result<Vec<Holding>, Error> {
        let Look { now, leases, others, newest } = self.look(claims)?;
        let mut loads = Loads::of(&others, &leases, now);
        let known: BTreeMap<Claim, Lease> = leases.into_iter().map(|lease| (lease.claim.clone(), lease)).collect();
        let is_free = |claim: &Claim| known.get(claim).is_none_or(|lease| lease.expires <= now);
        let is_mine = |claim: &Claim| known.get(claim).is_some_and(|lease| lease.holder == *self.holder);
        let is_held_here = |claim: &Claim| is_mine(claim) && !is_free(claim);
        // What has ended is nobody's, whoever had it.
        self.leaving.retain(is_held_here);
        let mut mine = claims.iter().filter(|claim| is_held_here(claim) && !self.leaving.contains(*claim)).count();
        let mut leaving = self.leaving.clone();
        let mut is_news = false;
        for claim in claims {
            if !is_mine(claim) && self.tenures.of(claim).borrow().is_some() {
                self.lost.insert(claim.clone());
            }
            let rank = self.rank(claim, &others, newest.get(claim))?;
            let most = if self.newer.is_some() { 0 } else { share(claims.len(), rank.sharers) };
            // What nobody else may take either is not left to nobody.
            let heir = loads.with_room(&rank).cloned();
            let may_have = |count: usize| !rank.is_beaten && (count <= most || self.newer.is_none() && heir.is_none());
            if is_held_here(claim) {
                if !may_have(mine) && leaving.insert(claim.clone()) {
                    let reason = match (rank.is_beaten, self.refusals.contains_key(claim)) {
                        (true, true) => "Descope refuses this one",
                        (true, false) => "its files are newer",
                        (false, _) => "each has its share",
                    };
                    tracing::info!(
                        project_id = claim.1,
                        reason,
                        "giving a lease back: another replica takes the project over"
                    );
                    mine -= 1;
                    if let Some(heir) = heir {
                        loads.takes(&heir);
                    }
                }
                if leaving.contains(claim) {
                    self.tenures.set(claim, None);
                    if !is_busy(claim) {
                        is_news = true;
                        self.give_back(claim)?;
                        leaving.remove(claim);
                    }
                    continue;
                }
                if self.is_due(claim) {
                    is_news = true;
                    self.take(claim)?;
                }
            } else if is_free(claim) && may_have(mine + 1) {
                is_news = true;
                if self.take(claim)? {
                    mine += 1;
                }
            } else {
                self.tenures.set(claim, None);
            }
        }
        self.leaving = leaving;
        let (now, leases) = if is_news {
            let look = self.look(claims)?;
            (look.now, look.leases)
        } else {
            (now, known.into_values().collect())
        };
        let holding = |lease: Lease| Holding {
            is_mine: lease.holder == *self.holder && lease.expires > now,
            holder: (lease.expires > now).then(|| lease.name.unwrap_or(lease.holder)),
            claim: lease.claim,
            term: lease.term,
            since: from_millis(lease.since),
            expires: from_millis(lease.expires),
        };
        Ok(leases.into_iter().map(holding).collect())
    }

    /// How this process stands beside the others, after its files were made the newest where they moved on.
    fn rank(&self, claim: &Claim, others: &[Other], newest: Option<&Newest>) -> Result<Rank, Error> {
        let checkout = self.checkouts.of(claim);
        if let Some(files) = checkout.files.as_ref().filter(|_| self.newer.is_none()) {
            let found = match newest {
                None => Found::First,
                Some(newest) if *newest.revision == *files.revision => Found::On(newest.mark.clone()),
                Some(newest) if checkout.is_before(&newest.mark) => Found::Before(newest.mark.clone(), false),
                Some(_) => {
                    let asker = Asker { holder: &self.holder, life: self.life, is_patient: false };
                    self.transact(|transaction, now| revision::place(transaction, asker, claim, &checkout, now))?
                }
            };
            self.checkouts.found(claim, &checkout, &found, self.tenure(claim), self.life);
        }
        // Of those with equal files the ones that Descope is not known to refuse.
        let mine = (self.checkouts.standing(claim, self.tenure(claim), self.life), !self.refusals.contains_key(claim));
        let standing = |other: &Other| match &other.revision {
            None => Standing::Nothing,
            Some(revision) if newest.is_none_or(|newest| newest.revision == *revision) => Standing::Newest,
            Some(_) => Standing::Behind,
        };
        let others = others.iter().filter(|other| other.claim == *claim);
        let others: Vec<(&Other, (Standing, bool))> =
            others.map(|other| (other, (standing(other), !other.is_refused))).collect();
        let best = others.iter().map(|(_, standing)| *standing).fold(mine, Ord::max);
        let peers = others.into_iter().filter(|(_, standing)| *standing == best);
        let peers: Vec<String> = peers.map(|(other, _)| other.replica.clone()).collect();
        Ok(Rank { is_beaten: mine < best, sharers: peers.len() + usize::from(mine == best), peers })
    }

    fn tenure(&self, claim: &Claim) -> Option<Tenure> {
        self.tenures.of(claim).borrow().filter(|tenure| !tenure.is_over())
    }

    #[cfg(test)]
    pub(super) fn seize(&mut self, claim: &Claim) {
        let (host, project_id, owner) = claim;
        // As after a kill, and the time that follows it.
        let sql = "UPDATE lease SET expires = 0 WHERE host = ? AND project_id = ? AND owner = ?";
        let row = values![host, project_id, owner];
        self.transact(|transaction, _| transaction.execute(sql, &row)).unwrap();
        assert!(self.take(claim).unwrap());
    }

    /// Gives everything back, when nothing of it is under way any more.
    pub fn give_all_back(&mut self, claims: &[Claim]) -> Result<(), Error> {
        for claim in claims {
            self.tenures.set(claim, None);
        }
        self.transact(|transaction, _| {
            let sql = format!("UPDATE lease SET expires = {NOW} WHERE holder = ? AND expires > {NOW}");
            transaction.execute(&sql, &values![self.holder])?;
            revision::leave(transaction, &self.holder)
        })
    }

    fn give_back(&self, claim: &Claim) -> Result<(), Error> {
        let (host, project_id, owner) = claim;
        let sql =
            format!("UPDATE lease SET expires = {NOW} WHERE host = ? AND project_id = ? AND owner = ? AND holder = ?");
        let row = values![host, project_id, owner, self.holder];
        self.transact(|transaction, _| transaction.execute(&sql, &row).map(drop))
    }

    pub(super) fn transact<T>(&self, work: impl FnOnce(&Tx<'_>, SystemTime) -> sql::Result<T>) -> Result<T, Error> {
        sql::once(work, |work| self.server.transact(work))
    }

    /// Is it time to renew?
    fn is_due(&self, claim: &Claim) -> bool {
        let tenure = *self.tenures.of(claim).borrow();
        let left = tenure.and_then(|tenure| tenure.left());
        left.is_none_or(|left| left + self.renew <= self.longest())
    }

    /// How long a tenure lasts that was renewed just now.
    fn longest(&self) -> Duration {
        self.life.saturating_sub(MARGIN.min(self.life / 5))
    }

    /// Says that this process is there and what it has loaded, and sees who else is, what time it is, who holds what, and whether a
    /// newer release has migrated the tables: then this one is no replica among others any more.
    fn look(&mut self, claims: &[Claim]) -> Result<Look, Error> {
        let life = self.life_in_millis();
        let version = "SELECT max(version) AS version FROM schema_version";
        let seen = format!(
            "INSERT INTO replica (id, name, volumes, seen) VALUES (?, ?, ?, {NOW})
             ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, volumes = excluded.volumes"
        );
        let volumes = self.volumes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let forget = format!("DELETE FROM replica WHERE seen < {NOW} - ?");
        let time = format!("SELECT {NOW} AS now");
        let loaded = format!(
            "SELECT replica, host, project_id, owner, revision, source_commit, refused
             FROM checkout JOIN replica ON replica.id = checkout.replica
             WHERE replica.id = ? OR seen > {NOW} - ?"
        );
        let leases = "SELECT lease.*, replica.name FROM lease LEFT JOIN replica ON replica.id = lease.holder";
        let here = claims.iter().map(|claim| (claim, self.checkouts.of(claim).files));
        let here: Vec<(&Claim, Option<Files>)> = here.collect();
        let (version, look) = self.transact(|transaction, _| {
            let version = transaction.first(version, &[], |row| row.optional("version"))?.flatten();
            if version > Some(KNOWN) {
                revision::leave(transaction, &self.holder)?;
            } else {
                transaction.execute(&seen, &values![self.holder, self.name, volumes])?;
            }
            transaction.execute(&forget, &values![FORGOTTEN])?;
            let now = transaction.first(&time, &[], |row| row.integer("now"))?.unwrap_or_default();
            let told = |row: &Row<'_>| {
                let (replica, revision) = (row.text("replica")?.unwrap_or_default(), row.text("revision")?);
                let is_refused = row.text("refused")?.is_some();
                Ok((Other { replica, claim: revision::claim(row)?, revision, is_refused }, row.text("source_commit")?))
            };
            let told: Vec<(Other, Option<String>)> = transaction.rows(&loaded, &values![self.holder, life], told)?;
            for (claim, files) in &here {
                let files = files.as_ref();
                let is_told = |(told, commit): &(Other, Option<String>)| {
                    told.replica == *self.holder
                        && told.claim == **claim
                        && told.revision.as_deref() == files.map(|files| &*files.revision)
                        && commit.as_deref() == files.and_then(Files::commit_id).map(|id| &**id)
                };
                if !told.iter().any(is_told) {
                    revision::tell(transaction, &self.holder, claim, files)?;
                }
            }
            let others = told.into_iter().map(|(told, _)| told).filter(|told| told.replica != *self.holder).collect();
            let newest = revision::all_newest(transaction)?;
            let leases = transaction.rows(leases, &[], lease)?;
            Ok((version, Look { now, leases, others, newest }))
        })?;
        self.newer = version.filter(|version| *version > KNOWN);
        Ok(look)
    }

    /// Takes a lease that is free, or renews one. True where it is ours then.
    fn take(&self, claim: &Claim) -> Result<bool, Error> {
        let (host, project_id, owner) = claim;
        let life = self.life_in_millis();
        let sql = format!(
            "INSERT INTO lease (host, project_id, owner, holder, term, since, expires, before)
             VALUES (?1, ?2, ?3, ?4, 1, {NOW}, {NOW} + ?5, 0)
             ON CONFLICT (host, project_id, owner) DO UPDATE SET
                 term = CASE WHEN lease.holder = ?4 AND lease.expires > {NOW} THEN lease.term ELSE lease.term + 1 END,
                 since = CASE WHEN lease.holder = ?4 AND lease.expires > {NOW} THEN lease.since ELSE {NOW} END,
                 before = CASE WHEN lease.holder = ?4 AND lease.expires > {NOW} THEN lease.before ELSE lease.expires END,
                 holder = ?4, expires = {NOW} + ?5
             WHERE lease.holder = ?4 OR lease.expires <= {NOW}
             RETURNING term, since, before"
        );
        // Before it is asked for: the life that the database gives begins later.
        let asked = steady();
        let row = values![host, project_id, owner, self.holder, life];
        let read = |row: &Row<'_>| Ok((row.integer("term")?, row.integer("since")?, row.integer("before")?));
        let taken = self.transact(|transaction, _| transaction.first(&sql, &row, read))?;
        let tenure = taken.map(|(term, since, before)| Tenure {
            term,
            deadline: Some(asked + self.longest()),
            least: SHORTEST_CALL.min(self.life / 4),
            since: from_millis(since),
            before: from_millis(before),
        });
        self.tenures.set(claim, tenure);
        Ok(tenure.is_some())
    }

    fn life_in_millis(&self) -> i64 {
        i64::try_from(self.life.as_millis()).unwrap_or(i64::MAX)
    }
}

fn lease(row: &Row<'_>) -> sql::Result<Lease> {
    Ok(Lease {
        claim: revision::claim(row)?,
        holder: row.text("holder")?.unwrap_or_default(),
        name: row.text("name")?,
        term: row.integer("term")?,
        since: row.integer("since")?,
        expires: row.integer("expires")?,
    })
}
