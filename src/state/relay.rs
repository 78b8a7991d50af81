//! What replicas hand to one another: orders for whoever holds the project.
//!
//! An order is a row until it is answered. Whoever holds the lease takes it up, once and under its term; what nobody took up in
//! time is void.

use super::Claim;
use super::Error;
use super::Place;
use super::SharedPlace;
use super::State;
use super::Store;
use super::Tenure;
use super::lease::NOW;
use super::lease::Tenures;
use super::server::Server;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::values;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

/// An order that waits while so many do is refused: nobody takes them up.
const MOST_OPEN: i64 = 100;

/// What is over is kept for so long, in milliseconds: an answer may be asked for twice.
const KEPT: i64 = 10 * 60 * 1000;

/// Over a connection of its own. Clones are one.
#[derive(Debug, Clone)]
pub struct Relay {
    server: Arc<Server>,
    tenures: Tenures,
    pub(super) holder: Arc<str>,
    pub(super) name: Arc<str>,
}

/// An order that is this process's to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub id: i64,
    /// Of which project.
    pub claim: Claim,
    /// The replica that was asked, by name.
    pub replica: String,
    /// As it was written.
    pub said: String,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nobody has taken it up yet.
    Open,
    /// Somebody has, and says nothing yet.
    TakenUp,
    /// The answer, as it was written.
    Answered(String),
    /// It is no more, and was not carried out.
    Void,
}

impl Relay {
    /// Of a state that was opened at `place`; `None` for a directory, where there is nobody else. Replicas go by `name`.
    pub fn of(state: &State, place: &Place, name: &str) -> Option<Self> {
        let (Store::Server(server), Place::Database(shared)) = (&state.shared.store, place) else { return None };
        Some(Self {
            server: Arc::new(SharedPlace::connect_patiently(shared)),
            tenures: server.tenures.clone(),
            holder: server.holder.clone(),
            name: name.into(),
        })
    }

    pub(super) fn transact<T>(&self, work: impl FnOnce(&Tx<'_>, SystemTime) -> sql::Result<T>) -> Result<T, Error> {
        sql::once(work, |work| self.server.transact(work))
    }

    pub(super) fn read<T>(&self, work: impl FnOnce(&Tx<'_>) -> sql::Result<T>) -> Result<T, Error> {
        sql::once(|session, _| work(session), |work| self.server.read(work))
    }

    /// The name of this process.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn tenure(&self, claim: &Claim) -> Option<Tenure> {
        self.tenures.of(claim).borrow().filter(|tenure| !tenure.is_over())
    }

    /// Leaves an order that is void after so long. `None` where too many wait already.
    pub fn order(&self, claim: &Claim, said: &str, patience: Duration) -> Result<Option<i64>, Error> {
        let (host, project_id, owner) = claim;
        let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let forget = format!("DELETE FROM ordered WHERE expires < {NOW} - ?");
        let count = format!(
            "SELECT count(*) AS n FROM ordered
             WHERE host = ? AND project_id = ? AND owner = ? AND term IS NULL AND expires > {NOW}"
        );
        let sql = format!(
            "INSERT INTO ordered (host, project_id, owner, replica, said, expires)
             VALUES (?, ?, ?, ?, ?, {NOW} + ?) RETURNING id"
        );
        self.transact(|transaction, _| {
            transaction.execute(&forget, &values![KEPT])?;
            let open = transaction.first(&count, &values![host, project_id, owner], |row| row.integer("n"))?;
            if open.unwrap_or_default() >= MOST_OPEN {
                return Ok(None);
            }
            let row = values![host, project_id, owner, self.name, said, patience];
            transaction.first(&sql, &row, |row| row.integer("id"))
        })
    }

    /// What became of it so far.
    pub fn fate(&self, id: i64) -> Result<Fate, Error> {
        let sql = format!(
            "SELECT term, answer, CASE WHEN expires > {NOW} THEN 1::bigint ELSE 0 END AS fresh FROM ordered WHERE id = ?"
        );
        let read = |row: &Row<'_>| {
            Ok(match (row.text("answer")?, row.optional("term")?, row.is("fresh")?) {
                (Some(answer), ..) => Fate::Answered(answer),
                (None, Some(_), _) => Fate::TakenUp,
                (None, None, true) => Fate::Open,
                (None, None, false) => Fate::Void,
            })
        };
        Ok(self.read(|session| session.first(&sql, &values![id], read))?.unwrap_or(Fate::Void))
    }

    /// Takes an order back unless somebody has taken it up.
    pub fn withdraw(&self, id: i64) -> Result<Fate, Error> {
        let sql = "DELETE FROM ordered WHERE id = ? AND term IS NULL";
        self.transact(|transaction, _| transaction.execute(sql, &values![id]))?;
        self.fate(id)
    }

    /// Takes up the orders for what this process holds that `is_ready` says it can carry out now, in the order in which they were
    /// given.
    pub fn take_up(&self, is_ready: &dyn Fn(&Claim, &str) -> bool) -> Result<Vec<Taken>, Error> {
        let sql = format!(
            "SELECT id, host, project_id, owner, replica, said FROM ordered
             WHERE term IS NULL AND expires > {NOW} ORDER BY id LIMIT {MOST_OPEN}"
        );
        let open: Vec<Taken> = self.read(|session| session.rows(&sql, &[], taken))?;
        let take = format!(
            "UPDATE ordered SET term = ? WHERE id = ? AND term IS NULL AND expires > {NOW} AND EXISTS (
                 SELECT 1 FROM lease WHERE lease.host = ordered.host AND lease.project_id = ordered.project_id
                 AND lease.owner = ordered.owner AND lease.holder = ? AND lease.term = ? AND lease.expires > {NOW})"
        );
        let mut ours = Vec::new();
        for order in open {
            let Some(tenure) = self.tenure(&order.claim).filter(|_| is_ready(&order.claim, &order.said)) else {
                continue;
            };
            let row = values![tenure.term, order.id, self.holder, tenure.term];
            if self.transact(|transaction, _| transaction.execute(&take, &row))? == 1 {
                ours.push(order);
            }
        }
        Ok(ours)
    }

    /// Says what came of an order that was taken up.
    pub fn answer(&self, id: i64, answer: &str) -> Result<(), Error> {
        let sql = "UPDATE ordered SET answer = ? WHERE id = ?";
        self.transact(|transaction, _| transaction.execute(sql, &values![answer, id]).map(drop))
    }

    /// Leaves an order that was taken up to whoever holds the project now: nothing of it was done.
    pub fn put_back(&self, id: i64) -> Result<(), Error> {
        let sql = "UPDATE ordered SET term = NULL WHERE id = ? AND answer IS NULL";
        self.transact(|transaction, _| transaction.execute(sql, &values![id]).map(drop))
    }
}

fn taken(row: &Row<'_>) -> sql::Result<Taken> {
    let text = |column| Ok::<_, sql::SqlError>(row.text(column)?.unwrap_or_default());
    Ok(Taken {
        id: row.integer("id")?,
        claim: (text("host")?, text("project_id")?, text("owner")?),
        replica: text("replica")?,
        said: text("said")?,
    })
}
