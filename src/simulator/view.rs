//! How entities look from outside. Written straight to bytes, for a list may have 100,000 of them.

use super::fields::Document;
use super::options::Switches;
use super::world::Permission;
use super::world::Role;
use super::world::Tenant;
use super::world::World;
use super::world::auth_type;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;

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

/// How much of a row is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What every SDK type has.
    Answered,
    /// `federatedAppIds` too, which the API may or may not return.
    WithApps,
    /// Also what it never returns.
    All,
}

impl Depth {
    /// Of an API answer.
    pub fn of(switches: &Switches) -> Self {
        if switches.return_federated_app_ids { Self::WithApps } else { Self::Answered }
    }
}

/// A row that has a form outside.
pub trait Shown {
    /// As the whole-list call answers it; unset fields are there with their zero value.
    fn write<M: SerializeMap>(&self, world: &World, depth: Depth, map: &mut M) -> Result<(), M::Error>;
    /// Fields that the contract does not know.
    fn extra(&self) -> &Document;
}

/// One row, to be written.
#[derive(Debug)]
pub struct View<'a, T> {
    pub world: &'a World,
    pub row: &'a T,
    pub depth: Depth,
}

impl<T: Shown> Serialize for View<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.row.write(self.world, self.depth, &mut map)?;
        for (name, value) in self.row.extra() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Shown for Permission {
    fn write<M: SerializeMap>(&self, _: &World, _: Depth, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("description", &self.description)?;
        map.serialize_entry("systemDefault", &self.system_default)
    }
    fn extra(&self) -> &Document {
        &self.extra
    }
}

impl Shown for Role {
    fn write<M: SerializeMap>(&self, world: &World, _: Depth, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("description", &self.description)?;
        map.serialize_entry("permissionNames", &world.permission_names(&self.permissions))?;
        map.serialize_entry("createdTime", &self.created_time)?;
        map.serialize_entry("tenantId", &self.tenant)?;
        map.serialize_entry("default", &self.default)?;
        map.serialize_entry("private", &self.private)
    }
    fn extra(&self) -> &Document {
        &self.extra
    }
}

impl Shown for Tenant {
    fn write<M: SerializeMap>(&self, world: &World, depth: Depth, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("selfProvisioningDomains", &self.self_provisioning_domains)?;
        map.serialize_entry("customAttributes", &self.custom_attributes)?;
        map.serialize_entry("authType", auth_type(self))?;
        map.serialize_entry("domains", &self.domains)?;
        map.serialize_entry("createdTime", &self.created_time)?;
        map.serialize_entry("enforceSSO", &self.enforce_sso)?;
        map.serialize_entry("enforceSSOExclusions", &self.enforce_sso_exclusions)?;
        map.serialize_entry("disabled", &self.disabled)?;
        map.serialize_entry("roleInheritance", &self.role_inheritance)?;
        map.serialize_entry("defaultRoles", &world.role_names(&self.default_roles))?;
        if depth != Depth::Answered {
            map.serialize_entry("federatedAppIds", &self.federated_app_ids)?;
        }
        if depth == Depth::All {
            map.serialize_entry("parent", &self.parent)?;
            map.serialize_entry("settings", &self.settings)?;
        }
        Ok(())
    }
    fn extra(&self) -> &Document {
        &self.extra
    }
}
