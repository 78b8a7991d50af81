//! How entities look from outside. Written straight to bytes, for a list may have 100,000 of them.

use super::fields::Document;
use super::options::Switches;
use super::world::World;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;
use std::cell::RefCell;

/// The bytes of a document.
pub fn bytes(document: &impl Serialize) -> Vec<u8> {
    // Everything written here has string keys and serializers that do not fail.
    serde_json::to_vec(document).unwrap_or_default()
}

/// A document of one field, as list answers are.
#[derive(Debug)]
pub struct Keyed<T>(pub &'static str, pub T);

impl<T: Serialize> Serialize for Keyed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

/// One look at a world.
#[derive(Debug)]
pub struct Look<'a> {
    pub world: &'a World,
    pub switches: &'a Switches,
    /// Also what the API never returns, in the words of `/_sim/state`.
    pub all: bool,
    rng: RefCell<fastrand::Rng>,
}

impl<'a> Look<'a> {
    /// For an answer of the API.
    pub fn new(world: &'a World, switches: &'a Switches, rng: fastrand::Rng) -> Self {
        Self { world, switches, all: false, rng: RefCell::new(rng) }
    }

    /// For `/_sim/state`.
    pub fn all(world: &'a World, switches: &'a Switches) -> Self {
        Self { world, switches, all: true, rng: RefCell::new(super::rate_limit::rng(0)) }
    }

    /// A list whose order means nothing, in the order that the switches say.
    pub fn mixed<T>(&self, mut items: Vec<T>) -> Vec<T> {
        if self.switches.shuffled_elements && !self.all {
            self.rng.borrow_mut().shuffle(&mut items);
        }
        items
    }
}

/// A row that has a form outside.
pub trait Shown: std::fmt::Debug + Send + Sync + 'static {
    /// As the whole-list call answers it; unset fields are there with their zero value.
    fn write<M: SerializeMap>(&self, look: &Look<'_>, map: &mut M) -> Result<(), M::Error>;
    /// Fields that the contract does not know.
    fn extra(&self) -> &Document;
}

/// One row, to be written.
#[derive(Debug)]
pub struct View<'a, T> {
    pub look: &'a Look<'a>,
    pub row: &'a T,
}

impl<T: Shown> Serialize for View<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.row.write(self.look, &mut map)?;
        for (name, value) in self.row.extra() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
