//! The kinds of entities that a project has. Each is one file that brings its calls, its table and how it looks from
//! outside; everything else in the simulator walks [`ALL`] and knows none of them.

mod access_keys;
mod attributes;
pub mod audit;
mod fga_schema;
mod flows;
mod inbound_apps;
mod jwt_templates;
mod license;
mod lists;
mod outbound_apps;
mod passwords;
mod permissions;
mod project;
mod roles;
mod scope_claims;
mod secrets;
mod sso;
mod sso_applications;
mod stored;
mod tenant_settings;
mod tenants;
mod theme;

use super::api::Route;
use super::fields::Fields;
use super::refusal::Refusal;
use super::world::AnyTable;
use super::world::World;
use std::fmt::Debug;

/// Every kind. What refers to others stands behind them, so that a state can be read from front to back.
pub const ALL: &[&dyn Kind] = &[
    &project::KIND,
    &permissions::Permissions,
    &roles::Roles,
    &attributes::OF_USERS,
    &attributes::OF_TENANTS,
    &attributes::OF_ACCESS_KEYS,
    &attributes::OF_APPLICATIONS,
    &lists::KIND,
    &jwt_templates::KIND,
    &tenants::Tenants,
    &tenant_settings::KIND,
    &passwords::KIND,
    &sso_applications::KIND,
    &sso::KIND,
    &inbound_apps::KIND,
    &outbound_apps::KIND,
    &access_keys::KIND,
    &scope_claims::KIND,
    &flows::KIND,
    &theme::KIND,
    &fga_schema::KIND,
    &audit::KIND,
    &license::License,
];

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_calls_are_there_once() {
        let names: BTreeSet<_> = ALL.iter().map(|kind| kind.name()).collect();
        let routes: Vec<_> =
            ALL.iter().flat_map(|kind| kind.routes()).map(|route| (route.method, route.path)).collect();

        assert_eq!(names.len(), ALL.len());
        assert_eq!(routes.iter().collect::<BTreeSet<_>>().len(), routes.len());
    }

    /// What is not in a kind's file serves all of them: it names neither the kind nor one of its calls.
    #[test]
    fn the_shared_code_knows_no_kind() {
        let shared = [
            "api", "control", "entity", "exchange", "fields", "log", "refusal", "reply", "state", "table", "view",
            "world",
        ];
        for file in shared {
            let text =
                std::fs::read_to_string(format!("{}/src/simulator/{file}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            // Every world is that of a project.
            for kind in ALL.iter().filter(|kind| kind.name() != "project") {
                assert!(!code.contains(&format!("\"{}\"", kind.name())), "{file}.rs names {}", kind.name());
            }
            assert!(!code.contains("/mgmt/"), "{file}.rs names a call");
        }
    }
}
