//! How the files of each replica stand to those in force, and which of them something keeps from writing: what all replicas show.

use super::Claim;
use super::Error;
use super::Leases;
use super::lease::NOW;
use super::project::from_millis;
use super::revision;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::values;
use std::collections::HashMap;
use std::time::Duration;
use std::time::SystemTime;

/// How the replicas stand of one project. Times are the database's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standings {
    /// The files in force, and since when.
    pub in_force: Option<(String, SystemTime)>,
    /// Those that run, by name.
    pub replicas: Vec<ReplicaStanding>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStanding {
    /// By name.
    pub name: String,
    /// Is it this process?
    pub is_mine: bool,
    /// The files that are loaded there; `None` where none can be used.
    pub revision: Option<String>,
    /// Since when they are not those in force.
    pub aside: Option<SystemTime>,
    /// Longer than for the life of a lease? Whoever just follows a commit is behind for a moment.
    pub lags: bool,
    /// What keeps that replica from writing, and since when.
    pub refused: Option<(String, SystemTime)>,
}

struct Told {
    claim: Claim,
    standing: ReplicaStanding,
}

impl Leases {
    /// Tells the others how the files here stand, and what keeps this replica from writing a project, and sees how all of them do.
    /// With the time there.
    pub fn standings(&self) -> Result<(SystemTime, HashMap<Claim, Standings>), Error> {
        self.transact(|transaction, now| {
            let newest = newest(transaction)?;
            let mut told = self.told(transaction)?;
            let is_news = told.iter().filter(|told| told.standing.is_mine).try_fold(false, |is_news, told| {
                Ok::<_, sql::SqlError>(self.tell(transaction, told, &newest)? || is_news)
            })?;
            if is_news {
                told = self.told(transaction)?;
            }
            let mut standings: HashMap<Claim, Standings> = HashMap::new();
            for Told { claim, standing } in told {
                standings.entry(claim).or_default().replicas.push(standing);
            }
            for (claim, standings) in &mut standings {
                standings.in_force = newest.get(claim).cloned();
            }
            Ok((now, standings))
        })
    }

    /// How long a lease lasts.
    pub fn life(&self) -> Duration {
        self.life
    }

    fn told(&self, transaction: &Tx<'_>) -> sql::Result<Vec<Told>> {
        let life = i64::try_from(self.life.as_millis()).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT host, project_id, owner, id, name, revision, aside_since, refused, refused_since, {NOW} AS now
             FROM checkout JOIN replica ON replica.id = checkout.replica
             WHERE id = ? OR seen > {NOW} - ? ORDER BY name, id"
        );
        let read = |row: &Row<'_>| {
            let aside: Option<i64> = row.optional("aside_since")?;
            let since = row.optional("refused_since")?.map(from_millis);
            let standing = ReplicaStanding {
                name: row.text("name")?.unwrap_or_default(),
                is_mine: row.text("id")?.as_deref() == Some(&*self.holder),
                revision: row.text("revision")?,
                aside: aside.map(from_millis),
                lags: aside.is_some_and(|since| since.saturating_add(life) <= row.integer("now").unwrap_or_default()),
                refused: row.text("refused")?.zip(since),
            };
            Ok(Told { claim: revision::claim(row)?, standing })
        };
        transaction.rows(&sql, &values![self.holder, life], read)
    }

    /// Brings the row of this replica up to date. True where it was not.
    fn tell(
        &self,
        transaction: &Tx<'_>,
        told: &Told,
        newest: &HashMap<Claim, (String, SystemTime)>,
    ) -> sql::Result<bool> {
        let Told { claim, standing } = told;
        let is_aside = newest.get(claim).zip(standing.revision.as_ref()).is_some_and(|(new, own)| new.0 != *own);
        let refused = self.refusals.get(claim).copied();
        let is_known =
            standing.aside.is_some() == is_aside && standing.refused.as_ref().map(|(what, _)| what.as_str()) == refused;
        if is_known {
            return Ok(false);
        }
        let (host, project_id, owner) = claim;
        let aside = if is_aside { format!("coalesce(aside_since, {NOW})") } else { "NULL".to_owned() };
        let since = if refused.is_some() { format!("coalesce(refused_since, {NOW})") } else { "NULL".to_owned() };
        let sql = format!(
            "UPDATE checkout SET aside_since = {aside}, refused = ?, refused_since = {since}
             WHERE replica = ? AND host = ? AND project_id = ? AND owner = ?"
        );
        transaction.execute(&sql, &values![refused, self.holder, host, project_id, owner])?;
        Ok(true)
    }
}

fn newest(transaction: &Tx<'_>) -> sql::Result<HashMap<Claim, (String, SystemTime)>> {
    let sql = "SELECT p.host, p.project_id, p.owner, r.revision, r.at FROM project p
        CROSS JOIN LATERAL (SELECT revision, at FROM revision WHERE project = p.id ORDER BY id DESC LIMIT 1) r";
    transaction.rows(sql, &[], |row| {
        let revision = row.text("revision")?.unwrap_or_default();
        Ok((revision::claim(row)?, (revision, from_millis(row.integer("at")?))))
    })
}
