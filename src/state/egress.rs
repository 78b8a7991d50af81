//! The row of the rate limit that replicas behind one address share.

use super::Error;
use super::Place;
use super::SharedPlace;
use super::server::Server;
use super::sql;
use super::sql::Tx;
use super::sql::values;
use crate::limiter::shared::store::Read;
use crate::limiter::shared::store::Store;
use crate::limiter::shared::store::Unreachable;
use crate::limiter::shared::store::Written;
use std::time::Duration;

/// Every call that is made today counts for one limit.
pub(super) const CLASS: &str = "management";

/// The row of one host and address, over a connection of its own.
#[derive(Debug)]
pub struct Egress {
    server: Server,
    host: String,
    name: String,
}

impl Egress {
    /// `None` for a directory, which one process has to itself.
    pub fn at(place: &Place, host: &str, egress: &str) -> Option<Self> {
        let Place::Database(shared) = place else { return None };
        Some(Self { server: SharedPlace::connect(shared), host: host.to_owned(), name: egress.to_owned() })
    }

    fn ask<T>(&self, question: impl FnOnce(&Tx<'_>) -> sql::Result<T>) -> Result<T, Unreachable> {
        let asked = sql::once(|session, _| question(session), |work| self.server.read(work));
        asked.map_err(|error: Error| Unreachable(error.to_string()))
    }
}

#[async_trait::async_trait]
impl Store for Egress {
    async fn read(&self) -> Result<Read, Unreachable> {
        let sql = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now, version, row
                   FROM (SELECT 1) AS one LEFT JOIN egress ON host = ? AND egress = ? AND class = ?";
        let found = self.ask(|session| {
            session.first(sql, &values![self.host, self.name, CLASS], |row| {
                Ok((row.integer("now")?, row.optional("version")?, row.text("row")?))
            })
        })?;
        let (now, version, text) = found.ok_or_else(|| Unreachable("it has no time".to_owned()))?;
        Ok(Read {
            now: Duration::from_micros(now.unsigned_abs()),
            version: version.unwrap_or_default().unsigned_abs(),
            text,
        })
    }

    async fn glance(&self) -> Result<Option<Duration>, Unreachable> {
        let sql = "SELECT closed_at FROM egress WHERE host = ? AND egress = ? AND class = ?";
        let row = values![self.host, self.name, CLASS];
        let found = self.ask(|session| session.first(sql, &row, |row| row.optional("closed_at")))?;
        Ok(found.flatten().map(|nanos| Duration::from_nanos(nanos.unsigned_abs())))
    }

    async fn write(&self, row: Written) -> Result<bool, Unreachable> {
        let closed_at = row.closed_at.map(|at| i64::try_from(at.as_nanos()).unwrap_or(i64::MAX));
        let rows = self.ask(|session| {
            if row.version == 0 {
                let sql = "INSERT INTO egress (host, egress, class, version, closed_at, row) VALUES (?, ?, ?, 1, ?, ?)
                           ON CONFLICT (host, egress, class) DO NOTHING";
                return session.execute(sql, &values![self.host, self.name, CLASS, closed_at, row.text]);
            }
            let sql = "UPDATE egress SET version = version + 1, closed_at = ?, row = ?
                       WHERE host = ? AND egress = ? AND class = ? AND version = ?";
            let version = i64::try_from(row.version).unwrap_or(i64::MAX);
            session.execute(sql, &values![closed_at, row.text, self.host, self.name, CLASS, version])
        })?;
        Ok(rows == 1)
    }
}
