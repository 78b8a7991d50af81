//! What the holder of a project shows of it, for replicas that do not know themselves.

use super::Claim;
use super::Error;
use super::Relay;
use super::lease::NOW;
use super::project::from_millis;
use super::sql;
use super::sql::Row;
use super::sql::values;
use std::time::Duration;

/// When something was left, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Of which project.
    pub claim: Claim,
    /// The replica, by name.
    pub name: String,
    /// Is it this process?
    pub is_mine: bool,
    /// How long ago it was true, by the clock of the database.
    pub age: Duration,
    /// Another with each change of what was left, and with each time that it was said to be true.
    pub mark: (i64, i64),
}

impl Relay {
    /// The term under which this process holds it.
    pub fn term(&self, claim: &Claim) -> Option<i64> {
        self.tenure(claim).map(|tenure| tenure.term)
    }

    /// Leaves what this process shows of a project; nothing happens where it does not hold it.
    pub fn show(&self, claim: &Claim, said: &str) -> Result<(), Error> {
        let (host, project_id, owner) = claim;
        let Some(term) = self.term(claim) else { return Ok(()) };
        let sql = format!(
            "INSERT INTO shown (host, project_id, owner, holder, name, term, at, version, said)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, {NOW}, 1, ?7 FROM lease
             WHERE lease.host = ?1 AND lease.project_id = ?2 AND lease.owner = ?3 AND lease.holder = ?4 AND lease.term = ?6
                 AND lease.expires > {NOW}
             ON CONFLICT (host, project_id, owner) DO UPDATE SET holder = excluded.holder, name = excluded.name,
                 term = excluded.term, at = excluded.at, version = shown.version + 1, said = excluded.said"
        );
        let row = values![host, project_id, owner, self.holder, self.name, term, said];
        self.transact(|transaction, _| transaction.execute(&sql, &row).map(drop))
    }

    /// What this process left is still true.
    pub fn still_true(&self, claim: &Claim) -> Result<(), Error> {
        let (host, project_id, owner) = claim;
        let Some(term) = self.term(claim) else { return Ok(()) };
        let sql = format!(
            "UPDATE shown SET at = {NOW} WHERE host = ? AND project_id = ? AND owner = ? AND holder = ? AND term = ?"
        );
        let row = values![host, project_id, owner, self.holder, term];
        self.transact(|transaction, _| transaction.execute(&sql, &row).map(drop))
    }

    /// Of what there is something.
    pub fn shown(&self) -> Result<Vec<Shown>, Error> {
        let sql = format!(
            "SELECT host, project_id, owner, holder, name, version, at, greatest({NOW} - at, 0) AS age FROM shown"
        );
        let read = |row: &Row<'_>| {
            let text = |column| Ok::<_, sql::SqlError>(row.text(column)?.unwrap_or_default());
            let age = from_millis(row.integer("age")?).duration_since(from_millis(0)).unwrap_or_default();
            Ok(Shown {
                claim: (text("host")?, text("project_id")?, text("owner")?),
                name: text("name")?,
                is_mine: text("holder")? == *self.holder,
                age,
                mark: (row.integer("version")?, row.integer("at")?),
            })
        };
        self.read(|session| session.rows(&sql, &[], read))
    }

    /// All that was left of a project.
    pub fn said(&self, claim: &Claim) -> Result<Option<String>, Error> {
        let (host, project_id, owner) = claim;
        let sql = "SELECT said FROM shown WHERE host = ? AND project_id = ? AND owner = ?";
        let row = values![host, project_id, owner];
        Ok(self.read(|session| session.first(sql, &row, |row| row.text("said")))?.flatten())
    }
}
