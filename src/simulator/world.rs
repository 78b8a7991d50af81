//! One project: a table for each kind, and what all of them share.

use super::fields::Document;
use super::kinds;
use super::table::Row;
use super::table::Table;
use super::view::Look;
use super::view::Shown;
use super::view::View;
use super::view::bytes;
use std::any::Any;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

/// Creation times count up from here, so that equal requests make equal worlds.
const FIRST_CREATED: i64 = 1_726_067_547;

/// The place of a kind's table in a world.
#[derive(Debug)]
pub struct Shelf<T>(&'static str, PhantomData<fn() -> T>);

impl<T> Clone for Shelf<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shelf<T> {}

impl<T> Shelf<T> {
    /// The table of the kind with this name.
    pub const fn new(kind: &'static str) -> Self {
        Self(kind, PhantomData)
    }

    /// The name of the kind.
    pub fn kind(self) -> &'static str {
        self.0
    }
}

/// What a world does with every table, whatever its rows are.
pub trait AnyTable: Any + Debug + Send {
    fn mark(&self) -> usize;
    fn undo(&mut self, mark: usize);
    fn settle(&mut self, mark: usize);
    fn advance(&mut self, now: Duration, delay: Duration);
    /// The JSON of every row, for `/_sim/state`.
    fn contents(&self, look: &Look<'_>) -> Vec<Vec<u8>>;
}

impl<T: Row + Shown> AnyTable for Table<T> {
    fn mark(&self) -> usize {
        Self::mark(self)
    }
    fn undo(&mut self, mark: usize) {
        Self::undo(self, mark);
    }
    fn settle(&mut self, mark: usize) {
        Self::settle(self, mark);
    }
    fn advance(&mut self, now: Duration, delay: Duration) {
        Self::advance(self, now, delay);
    }
    fn contents(&self, look: &Look<'_>) -> Vec<Vec<u8>> {
        self.iter().map(|(_, row)| bytes(&View { look, row: &**row })).collect()
    }
}

/// The contents of one project.
#[derive(Debug)]
pub struct World {
    tables: BTreeMap<&'static str, Box<dyn AnyTable>>,
    ids: fastrand::Rng,
    created: i64,
    /// When the project was first heard of.
    pub since: Option<Duration>,
    /// What was done to it and by whom, the newest last.
    pub trail: VecDeque<Document>,
}

/// Where the journals of a world stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(Vec<usize>);

impl World {
    /// Nothing at all, not even what every project has.
    pub fn empty(seed: u64) -> Self {
        let tables = kinds::ALL.iter().filter_map(|kind| Some((kind.name(), kind.table()?))).collect();
        Self { tables, ids: super::rate_limit::rng(seed), created: 0, since: None, trail: VecDeque::new() }
    }

    /// A new project.
    pub fn new(seed: u64) -> Self {
        let mut world = Self::empty(seed);
        let start = world.mark();
        for kind in kinds::ALL {
            kind.start(&mut world);
            kind.complete(&mut world);
        }
        world.settle(&start);
        world
    }

    /// The table on a shelf.
    #[allow(clippy::expect_used, reason = "a world is made with the table of every kind")]
    pub fn table<T: Row + Shown>(&self, place: Shelf<T>) -> &Table<T> {
        let table = self.tables.get(place.0).expect("every kind has its table");
        let table: &dyn Any = &**table;
        table.downcast_ref().expect("a shelf says what is on it")
    }

    /// The table on a shelf, to be changed.
    #[allow(clippy::expect_used, reason = "a world is made with the table of every kind")]
    pub fn table_mut<T: Row + Shown>(&mut self, place: Shelf<T>) -> &mut Table<T> {
        let table = self.tables.get_mut(place.0).expect("every kind has its table");
        let table: &mut dyn Any = &mut **table;
        table.downcast_mut().expect("a shelf says what is on it")
    }

    /// The JSON of every entity of a kind.
    pub fn contents(&self, kind: &str, look: &Look<'_>) -> Vec<Vec<u8>> {
        self.tables.get(kind).map(|table| table.contents(look)).unwrap_or_default()
    }

    /// An id as the service makes them: the prefix and 28 more characters; tenants, applications and keys (`T2`, `K2`)
    /// have 26.
    pub fn new_id(&mut self, prefix: &str) -> String {
        let length = if prefix.len() == 2 { 26 } else { 28 };
        prefix.chars().chain((0..length).map(|_| self.ids.alphanumeric())).collect()
    }

    /// A random UUID.
    pub fn new_uuid(&mut self) -> String {
        let digits = format!("{:032x}", self.ids.u128(..));
        [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
    }

    /// The creation time of the next entity.
    pub fn new_time(&mut self) -> i64 {
        self.created += 1;
        FIRST_CREATED + self.created
    }

    /// Sets the clock of the journals.
    pub fn advance(&mut self, now: Duration, delay: Duration) {
        self.since.get_or_insert(now);
        for table in self.tables.values_mut() {
            table.advance(now, delay);
        }
    }

    /// Where the journals stand.
    pub fn mark(&self) -> Mark {
        Mark(self.tables.values().map(|table| table.mark()).collect())
    }

    /// Takes back everything since the mark.
    pub fn undo(&mut self, mark: &Mark) {
        for (table, &mark) in self.tables.values_mut().zip(&mark.0) {
            table.undo(mark);
        }
    }

    /// Even delayed readers see what happened since the mark.
    pub fn settle(&mut self, mark: &Mark) {
        for (table, &mark) in self.tables.values_mut().zip(&mark.0) {
            table.settle(mark);
        }
    }
}
