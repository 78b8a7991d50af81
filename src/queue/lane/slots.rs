//! Where the task of each slot is. The tasks name their slots themselves: a second copy would be as large as many of them.

use crate::plan::Slot;
use crate::queue::entry::Entry;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::hash::RandomState;

/// Places in the list of entries that each question is asked with; each slot has one at most.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: HashTable<usize>,
    state: RandomState,
}

impl Slots {
    pub fn with_capacity(count: usize) -> Self {
        Self { places: HashTable::with_capacity(count), state: RandomState::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn get(&self, entries: &[Entry], slot: &Slot) -> Option<usize> {
        self.places.find(self.state.hash_one(slot), |&place| entries[place].task.slot == *slot).copied()
    }

    /// Of a slot that has none.
    pub fn insert(&mut self, entries: &[Entry], place: usize) {
        let hash = |&place: &usize| self.state.hash_one(&entries[place].task.slot);
        self.places.insert_unique(hash(&place), place, hash);
    }

    pub fn remove(&mut self, entries: &[Entry], slot: &Slot) {
        let is_it = |&place: &usize| entries[place].task.slot == *slot;
        if let Ok(found) = self.places.find_entry(self.state.hash_one(slot), is_it) {
            found.remove();
        }
    }
}
