//! The kinds of entities that a project has. Each is one file that brings its calls, its table and how it looks from
//! outside; everything else in the simulator walks [`ALL`] and knows none of them.

mod license;
mod permissions;
mod roles;
mod tenants;

use super::api::Route;
use super::fields::Fields;
use super::refusal::Refusal;
use super::world::AnyTable;
use super::world::World;
use std::fmt::Debug;

/// Every kind. What refers to others stands behind them, so that a state can be read from front to back.
pub const ALL: &[&dyn Kind] = &[&permissions::Permissions, &roles::Roles, &tenants::Tenants, &license::License];

/// What the shared code asks of a kind.
pub trait Kind: Sync + Debug {
    /// Its name under `/_sim/state`.
    fn name(&self) -> &'static str;

    /// Its calls.
    fn routes(&self) -> &'static [Route];

    /// An empty table; `None`: it stores nothing.
    fn table(&self) -> Option<Box<dyn AnyTable>>;

    /// The field that `/_sim/state/KIND/KEY` names.
    fn key(&self) -> &'static str {
        "name"
    }

    /// Adds what a new project has.
    fn start(&self, _world: &mut World) {}

    /// Adds what every project has, whatever a state says.
    fn complete(&self, _world: &mut World) {}

    /// Merges fields into the entity that they identify, or adds it. Errs without having changed anything.
    fn put(&self, _world: &mut World, _fields: Fields) -> Result<(), Refusal> {
        Err(Refusal::NoSuchCall)
    }

    /// Removes an entity and whatever refers to it.
    fn remove(&self, _world: &mut World, _tenant: &str, _key: &str) -> Result<(), Refusal> {
        Err(Refusal::NoSuchCall)
    }

    /// Does an entity of this kind refer to the target?
    fn refers(&self, _world: &World, _target: &Target) -> bool {
        false
    }

    /// The target goes, or has a new name: references by name follow.
    fn follow(&self, _world: &mut World, _target: &Target, _new_name: Option<&str>) {}

    /// Fields of its requests that carry secrets; the log hides them.
    fn secrets(&self) -> &'static [&'static str] {
        &[]
    }
}

/// An entity that others may refer to.
#[derive(Debug, Clone)]
pub struct Target {
    pub kind: &'static str,
    pub number: u64,
    pub id: String,
    pub tenant: String,
    pub name: String,
}

/// Does anything refer to the target?
pub fn is_used(world: &World, target: &Target) -> bool {
    ALL.iter().any(|kind| kind.refers(world, target))
}

/// The target is about to go: every reference to it goes first.
pub fn let_go(world: &mut World, target: &Target) {
    for kind in ALL {
        kind.follow(world, target, None);
    }
}

/// The target has a new name.
pub fn renamed(world: &mut World, target: &Target, new_name: &str) {
    if target.name != new_name {
        for kind in ALL {
            kind.follow(world, target, Some(new_name));
        }
    }
}
