//! No call that was begun under an older term arrives once those of a newer one have begun with the same resource.

use crate::postgres::Postgres;
use std::collections::BTreeMap;

/// A call that was noted before it was sent.
struct Begun {
    id: String,
    term: u64,
    at: f64,
}

impl Begun {
    fn read(row: &str) -> Self {
        let columns: Vec<&str> = row.split('|').collect();
        Self { id: columns[0].to_owned(), term: columns[1].parse().unwrap(), at: columns[2].parse().unwrap() }
    }
}

/// The table of a test beside those of the state: every call that was noted, also once it is settled.
const NOTES: &str = "
    CREATE TABLE begun (name text, term bigint, at double precision);
    CREATE FUNCTION note_begun() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO begun VALUES (NEW.name, NEW.term, extract(epoch FROM clock_timestamp()) * 1000);
        RETURN NEW;
    END $$;
    CREATE TRIGGER note_begun AFTER INSERT ON intent FOR EACH ROW EXECUTE FUNCTION note_begun()";

/// From now on what is begun is noted, in a database that has its tables.
pub fn note(server: &Postgres, database: &str) {
    server.sql(database, NOTES);
}

/// `arrived`: of every request that writes, whose it is and when it came to the simulator. A resource has few calls, so that one
/// of an older term would be one too many.
pub fn check(server: &Postgres, database: &str, arrived: &[(&str, f64)]) {
    let begun = server.sql(database, "SELECT name, term, at FROM begun ORDER BY at");
    let begun: Vec<Begun> = begun.lines().map(Begun::read).collect();
    let mut of_terms = BTreeMap::<(&str, u64), f64>::new();
    for one in &begun {
        of_terms.entry((&one.id, one.term)).or_insert(one.at);
    }
    for (id, _) in arrived {
        assert!(begun.iter().any(|one| one.id == *id), "{id} was sent without a note");
    }
    for ((id, term), since) in of_terms {
        let came = arrived.iter().filter(|(of, at)| *of == id && *at >= since.floor()).count();
        let sent = begun.iter().filter(|one| one.id == id && one.term >= term).count();
        assert!(came <= sent, "{id}: {came} calls arrived since term {term} began with it, {sent} were its own");
    }
}
