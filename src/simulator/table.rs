//! Rows in the order of their creation, found by id and by name, with a journal that can undo.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What a table finds a row by.
pub trait Row {
    /// Server-side or chosen id.
    fn id(&self) -> &str;
    /// The tenant within which the name is unique; empty: the project.
    fn tenant(&self) -> &str;
    /// The name.
    fn name(&self) -> &str;
    /// The row above it, of which it is one of the members.
    fn group(&self) -> Option<&str> {
        None
    }
    /// What it holds that others cannot hold too.
    fn claims(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Rows under numbers that grow in the order of creation. References between tables are these numbers, so a new name
/// or id leaves them alone.
#[derive(Debug)]
pub struct Table<T> {
    rows: BTreeMap<u64, Arc<T>>,
    by_id: HashMap<String, u64>,
    by_name: BTreeMap<(String, String), u64>,
    by_group: BTreeSet<(String, u64)>,
    by_claim: BTreeSet<(String, u64)>,
    next: u64,
    journal: Vec<Step<T>>,
    now: Duration,
}

#[derive(Debug)]
struct Step<T> {
    at: Duration,
    number: u64,
    before: Option<Arc<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            by_id: HashMap::new(),
            by_name: BTreeMap::new(),
            by_group: BTreeSet::new(),
            by_claim: BTreeSet::new(),
            next: 0,
            journal: Vec::new(),
            now: Duration::ZERO,
        }
    }
}

impl<T: Row> Table<T> {
    /// The row with this number.
    pub fn get(&self, number: u64) -> Option<&Arc<T>> {
        self.rows.get(&number)
    }

    /// A copy of a row, to be changed and put back.
    pub fn copy(&self, number: u64) -> Option<T>
    where
        T: Clone,
    {
        self.rows.get(&number).map(|row| T::clone(row))
    }

    /// All rows in the order of their creation.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Arc<T>)> {
        self.rows.iter().map(|(&number, row)| (number, row))
    }

    /// The number of the row with this id.
    pub fn by_id(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    /// The number of the row with this name.
    pub fn by_name(&self, tenant: &str, name: &str) -> Option<u64> {
        self.by_name.get(&(tenant.to_owned(), name.to_owned())).copied()
    }

    /// The numbers of a tenant's rows.
    pub fn of_tenant(&self, tenant: &str) -> Vec<u64> {
        let start = (tenant.to_owned(), String::new());
        self.by_name.range(start..).take_while(|((of, _), _)| of == tenant).map(|(_, &number)| number).collect()
    }

    /// The members of a group, in the order of their creation.
    pub fn members(&self, group: &str) -> Vec<u64> {
        under(&self.by_group, group)
    }

    /// Who holds a claim.
    pub fn holders(&self, claim: &str) -> Vec<u64> {
        under(&self.by_claim, claim)
    }

    /// Adds a row at the end.
    pub fn insert(&mut self, row: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.write(number, Some(&Arc::new(row)));
        number
    }

    /// Replaces the row with this number, or adds one.
    pub fn put_row(&mut self, number: Option<u64>, row: T) {
        match number {
            Some(number) => self.replace(number, row),
            None => drop(self.insert(row)),
        }
    }

    /// Replaces a row.
    pub fn replace(&mut self, number: u64, row: T) {
        self.write(number, Some(&Arc::new(row)));
    }

    /// Removes a row.
    pub fn remove(&mut self, number: u64) {
        self.write(number, None);
    }

    fn write(&mut self, number: u64, row: Option<&Arc<T>>) {
        let before = self.put(number, row);
        self.journal.push(Step { at: self.now, number, before });
    }

    fn put(&mut self, number: u64, row: Option<&Arc<T>>) -> Option<Arc<T>> {
        let before = match row {
            Some(row) => self.rows.insert(number, Arc::clone(row)),
            None => self.rows.remove(&number),
        };
        if let Some(before) = &before {
            if self.by_id.get(before.id()) == Some(&number) {
                self.by_id.remove(before.id());
            }
            if let Some(group) = before.group() {
                self.by_group.remove(&(group.to_owned(), number));
            }
            for claim in before.claims() {
                self.by_claim.remove(&(claim, number));
            }
            let name = (before.tenant().to_owned(), before.name().to_owned());
            if self.by_name.get(&name) == Some(&number) {
                self.by_name.remove(&name);
            }
        }
        if let Some(row) = row {
            if let Some(group) = row.group() {
                self.by_group.insert((group.to_owned(), number));
            }
            self.by_claim.extend(row.claims().into_iter().map(|claim| (claim, number)));
            self.by_id.insert(row.id().to_owned(), number);
            self.by_name.insert((row.tenant().to_owned(), row.name().to_owned()), number);
        }
        before
    }

    /// Where the journal stands, for [`Table::undo`].
    pub fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Takes back everything since the mark.
    pub fn undo(&mut self, mark: usize) {
        while self.journal.len() > mark {
            if let Some(step) = self.journal.pop() {
                self.put(step.number, step.before.as_ref());
            }
        }
    }

    /// Forgets how to undo everything since the mark: even a delayed reader sees it.
    pub fn settle(&mut self, mark: usize) {
        self.journal.truncate(mark);
    }

    /// Sets the clock, and forgets what no reader with this delay can ask for any more.
    pub fn advance(&mut self, now: Duration, delay: Duration) {
        self.now = now;
        let old = self.journal.partition_point(|step| step.at + delay <= now);
        self.journal.drain(..old);
    }

    /// One row as it was `delay` ago.
    pub fn get_as_of(&self, number: u64, delay: Duration) -> Option<Arc<T>> {
        let fresh = self.journal.partition_point(|step| step.at + delay <= self.now);
        match self.journal.iter().skip(fresh).find(|step| step.number == number) {
            Some(step) if !delay.is_zero() => step.before.clone(),
            Some(_) | None => self.rows.get(&number).cloned(),
        }
    }

    /// All rows as they were `delay` ago.
    pub fn as_of(&self, delay: Duration) -> Vec<Arc<T>> {
        if delay.is_zero() {
            return self.rows.values().cloned().collect();
        }
        let mut rows = self.rows.clone();
        for step in self.journal.iter().rev().take_while(|step| step.at + delay > self.now) {
            match &step.before {
                Some(before) => rows.insert(step.number, Arc::clone(before)),
                None => rows.remove(&step.number),
            };
        }
        rows.into_values().collect()
    }
}

fn under(index: &BTreeSet<(String, u64)>, key: &str) -> Vec<u64> {
    index.range((key.to_owned(), 0)..).take_while(|(of, _)| of == key).map(|&(_, number)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Item(&'static str, &'static str);

    impl Row for Item {
        fn id(&self) -> &'static str {
            self.0
        }
        fn tenant(&self) -> &'static str {
            ""
        }
        fn name(&self) -> &'static str {
            self.1
        }
    }

    fn names(table: &Table<Item>) -> Vec<&'static str> {
        table.iter().map(|(_, row)| row.1).collect()
    }

    #[test]
    fn undo_restores_rows_order_and_both_indexes() {
        let mut table = Table::default();
        let first = table.insert(Item("1", "a"));
        table.insert(Item("2", "b"));
        let mark = table.mark();

        table.replace(first, Item("1", "c"));
        table.remove(first);
        table.insert(Item("3", "a"));
        table.undo(mark);

        assert_eq!(names(&table), ["a", "b"]);
        assert_eq!(table.by_name("", "a"), Some(first));
        assert_eq!((table.by_name("", "c"), table.by_id("3")), (None, None));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Insert(Item),
        Replace(u64, Item),
        Remove(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let item =
            (0..4_usize, 0..3_usize).prop_map(|(id, name)| Item(["1", "2", "3", "4"][id], ["a", "b", "c"][name]));
        let act = prop_oneof![
            item.clone().prop_map(Act::Insert),
            (0..6_u64, item).prop_map(|(number, item)| Act::Replace(number, item)),
            (0..6_u64).prop_map(Act::Remove),
        ];
        proptest::collection::vec(act, 0..20)
    }

    /// As calls do it: one row per id and name, and only what exists is replaced.
    fn act(table: &mut Table<Item>, acts: &[Act]) {
        for act in acts {
            let taken = |item: &Item, number| {
                let others = [table.by_id(item.0), table.by_name("", item.1)];
                others.into_iter().flatten().any(|other| Some(other) != number)
            };
            match *act {
                Act::Insert(item) if !taken(&item, None) => drop(table.insert(item)),
                Act::Replace(number, item) if table.get(number).is_some() && !taken(&item, Some(number)) => {
                    table.replace(number, item);
                }
                Act::Remove(number) => table.remove(number),
                Act::Insert(_) | Act::Replace(..) => {}
            }
        }
    }

    proptest! {
        #[test]
        fn undo_leaves_no_trace_whatever_was_done(before in acts(), after in acts()) {
            let mut table = Table::default();
            act(&mut table, &before);
            let seen = (table.rows.clone(), table.by_id.clone(), table.by_name.clone());
            let mark = table.mark();

            act(&mut table, &after);
            table.undo(mark);

            prop_assert_eq!((table.rows, table.by_id, table.by_name), seen);
        }
    }

    #[test]
    fn a_delayed_reader_sees_what_was() {
        let delay = Duration::from_secs(10);
        let mut table = Table::default();
        let first = table.insert(Item("1", "a"));
        table.advance(Duration::from_secs(20), delay);
        table.replace(first, Item("1", "b"));
        table.insert(Item("2", "c"));

        table.advance(Duration::from_secs(29), delay);
        assert_eq!(table.as_of(delay), [Arc::new(Item("1", "a"))]);
        assert_eq!(table.get_as_of(first, delay), Some(Arc::new(Item("1", "a"))));
        assert_eq!(table.get_as_of(first + 1, delay), None);
        table.advance(Duration::from_secs(30), delay);
        assert_eq!(table.as_of(delay).len(), 2);
        assert_eq!(table.get_as_of(first, delay), Some(Arc::new(Item("1", "b"))));
    }
}
