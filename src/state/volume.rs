//! The volume that replicas keep secrets on: the mark that it has to bear, and which of them see that.

use super::Claim;
use super::Error;
use super::Store;
use super::lease::NOW;
use super::project::ProjectState;
use super::sql::values;
use sha2::Digest as _;
use sha2::Sha256;

/// How a replica says that it sees this mark where the secrets of this project go: of another project that may be another volume.
pub(super) fn sight((host, project, owner): &Claim, mark: &str) -> String {
    let mut whose = Sha256::new();
    for part in [host, project, owner] {
        whose.update((part.len() as u64).to_be_bytes());
        whose.update(part);
    }
    let whose = whose.finalize().iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{mark}:{whose:016x}")
}

impl ProjectState {
    /// The mark of the volume of this project. `None` while none was settled, and where nobody shares the state.
    pub fn volume(&self) -> Result<Option<String>, Error> {
        if !self.is_shared() {
            return Ok(None);
        }
        let sql = "SELECT mark FROM volume WHERE project = ?";
        self.read(|connection, id| Ok(connection.first(sql, &values![id], |row| row.text("mark"))?.flatten()))
    }

    /// From now on it is this one, for all replicas. One that was settled before stays, and is the answer.
    pub fn settle_volume(&self, mark: &str) -> Result<String, Error> {
        self.write(|transaction, id| {
            let sql = "INSERT INTO volume (project, mark) VALUES (?, ?) ON CONFLICT (project) DO NOTHING";
            transaction.execute(sql, &values![id, mark])?;
            let sql = "SELECT mark FROM volume WHERE project = ?";
            let settled = transaction.first(sql, &values![id], |row| row.text("mark"))?.flatten();
            Ok(settled.unwrap_or_else(|| mark.to_owned()))
        })
    }

    /// From now on it is this one instead of that one, for all replicas. Nothing changes where that one is not the settled one.
    pub fn replace_volume(&self, gone: &str, mark: &str) -> Result<(), Error> {
        self.write(|transaction, id| {
            let sql = "UPDATE volume SET mark = ? WHERE project = ? AND mark = ?";
            transaction.execute(sql, &values![mark, id, gone])?;
            Ok(())
        })
    }

    /// The other replicas that run and do not see this mark where the secrets of this project go, by name. None, where nobody shares the state.
    pub fn blind_to(&self, mark: &str) -> Result<Vec<String>, Error> {
        self.others(mark, "NOT")
    }

    /// The other replicas that run and see this mark there, by name. None, where nobody shares the state.
    pub fn others_that_see(&self, mark: &str) -> Result<Vec<String>, Error> {
        self.others(mark, "")
    }

    fn others(&self, mark: &str, not: &str) -> Result<Vec<String>, Error> {
        let Store::Server(server) = &self.state.shared.store else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT name FROM replica
             WHERE id <> ? AND seen > {NOW} - ? AND {not} (? = ANY (string_to_array(coalesce(volumes, ''), ' ')))
             ORDER BY name"
        );
        let life = i64::try_from(server.life.as_millis()).unwrap_or(i64::MAX);
        let sight = sight(&self.claim(), mark);
        self.read(|connection, _| {
            connection.rows(&sql, &values![server.holder, life, sight], |row| Ok(row.text("name")?.unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Leases;
    use super::super::Place;
    use super::super::SharedPlace;
    use super::super::State;
    use super::super::testing;
    use std::time::Duration;

    #[test]
    fn nobody_shares_a_directory_and_its_volume_needs_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        if project.is_shared() {
            return;
        }

        assert_eq!((project.volume().unwrap(), project.blind_to("a").unwrap()), (None, Vec::new()));
    }

    #[test]
    fn the_first_mark_stays_and_whoever_runs_and_does_not_see_it_is_named() {
        let Some(url) = testing::database() else { return };
        let life = Duration::from_secs(60);
        let shared = SharedPlace::new(&url, &"07".repeat(32).into(), life, life / 4).unwrap();
        let place = Place::Database(Box::new(shared));
        let replica = |name: &str| {
            let state = State::open_at(&place).unwrap();
            let leases = Leases::of(&state, &place, name).unwrap();
            (state.project("api.example.com", "P1", "default"), leases)
        };
        let ((one, mut of_one), (other, mut of_other)) = (replica("one"), replica("other"));
        let claims = [one.claim()];
        let turn = |leases: &mut Leases, sees: &[&str]| {
            leases.sees(sees.iter().map(|mark| (claims[0].clone(), (*mark).to_owned())));
            leases.turn(&claims, &|_| false).unwrap();
        };
        turn(&mut of_one, &["a"]);
        assert!(other.settle_volume("b").is_err(), "it does not hold the project");

        let none = one.volume().unwrap();
        let settled = (one.settle_volume("a").unwrap(), one.settle_volume("b").unwrap());
        let alone = one.blind_to("a").unwrap();
        turn(&mut of_other, &["b", "ab"]);
        let beside_one_that_sees_another = one.blind_to("a").unwrap();
        let sees_another = (one.others_that_see("a").unwrap(), one.others_that_see("ab").unwrap());
        turn(&mut of_other, &["b", "a"]);

        assert_eq!((none, settled), (None, ("a".to_owned(), "a".to_owned())));
        assert_eq!(other.volume().unwrap().as_deref(), Some("a"));
        assert_eq!((alone, beside_one_that_sees_another), (Vec::new(), vec!["other".to_owned()]));
        assert_eq!(sees_another, (Vec::new(), vec!["other".to_owned()]));
        assert_eq!(one.blind_to("a").unwrap(), Vec::<String>::new());
        let second = one.state.project("api.example.com", "P2", "default");
        assert_eq!(second.blind_to("a").unwrap(), ["other"], "it was seen where those of P1 go");
        one.replace_volume("b", "c").unwrap();
        assert_eq!(one.volume().unwrap().as_deref(), Some("a"), "b is not the settled one");
        one.replace_volume("a", "c").unwrap();
        assert_eq!(other.volume().unwrap().as_deref(), Some("c"));
    }
}
