//! One project: its tenants, permissions and roles, and what they look like from outside.

use super::fields::Document;
use super::table::Row;
use super::table::Table;
use std::sync::Arc;
use std::time::Duration;

/// Permissions that every project has and nobody may change.
pub const SYSTEM_PERMISSIONS: [&str; 3] = ["Impersonate", "User Admin", "SSO Admin"];
/// The role that every project starts with.
pub const BUILTIN_ROLE: &str = "Tenant Admin";
/// Creation times count up from here, so that equal requests make equal worlds.
const FIRST_CREATED: i64 = 1_726_067_547;

/// A permission.
#[derive(Debug, Clone, Default)]
pub struct Permission {
    pub id: String,
    pub name: String,
    pub description: String,
    pub system_default: bool,
    pub extra: Document,
}

/// A role of the project (`tenant` empty) or of a tenant.
#[derive(Debug, Clone, Default)]
pub struct Role {
    pub id: String,
    pub name: String,
    pub tenant: String,
    pub description: String,
    /// Numbers of permissions.
    pub permissions: Vec<u64>,
    pub created_time: i64,
    pub default: bool,
    pub private: bool,
    pub extra: Document,
}

/// A tenant. `parent` and `federated_app_ids` are kept and never answered.
#[derive(Debug, Clone, Default)]
pub struct Tenant {
    pub id: String,
    pub name: String,
    pub self_provisioning_domains: Vec<String>,
    pub custom_attributes: Document,
    pub auth_type: String,
    pub domains: Vec<String>,
    pub created_time: i64,
    pub enforce_sso: bool,
    pub enforce_sso_exclusions: Vec<String>,
    pub federated_app_ids: Vec<String>,
    pub disabled: bool,
    pub role_inheritance: String,
    pub parent: String,
    /// Numbers of roles.
    pub default_roles: Vec<u64>,
    /// What the settings call alone writes; empty until it did.
    pub settings: Document,
    pub extra: Document,
}

impl Row for Permission {
    fn id(&self) -> &str {
        &self.id
    }
    fn tenant(&self) -> &'static str {
        ""
    }
    fn name(&self) -> &str {
        &self.name
    }
}

impl Row for Role {
    fn id(&self) -> &str {
        &self.id
    }
    fn tenant(&self) -> &str {
        &self.tenant
    }
    fn name(&self) -> &str {
        &self.name
    }
}

impl Row for Tenant {
    fn id(&self) -> &str {
        &self.id
    }
    fn tenant(&self) -> &'static str {
        ""
    }
    fn name(&self) -> &str {
        &self.name
    }
}

/// The contents of one project.
#[derive(Debug)]
pub struct World {
    pub tenants: Table<Tenant>,
    pub permissions: Table<Permission>,
    pub roles: Table<Role>,
    ids: fastrand::Rng,
    created: i64,
}

/// Where the journals of a world stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(usize, usize, usize);

impl World {
    /// Nothing at all, not even what every project has.
    pub fn empty(seed: u64) -> Self {
        Self {
            tenants: Table::default(),
            permissions: Table::default(),
            roles: Table::default(),
            ids: super::rate_limit::rng(seed),
            created: 0,
        }
    }

    /// A new project.
    pub fn new(seed: u64) -> Self {
        let mut world = Self::empty(seed);
        let start = world.mark();
        world.add_system_permissions();
        world.add_builtin_role();
        world.settle(start);
        world
    }

    /// Adds those that are missing.
    pub fn add_system_permissions(&mut self) {
        for name in SYSTEM_PERMISSIONS {
            if self.permissions.by_name("", name).is_none() {
                let id = self.new_id("PERM");
                let name = name.to_owned();
                self.permissions.insert(Permission { id, name, system_default: true, ..Permission::default() });
            }
        }
    }

    /// Adds the role that every project starts with.
    pub fn add_builtin_role(&mut self) {
        let permissions = SYSTEM_PERMISSIONS[1..].iter().filter_map(|name| self.permissions.by_name("", name));
        let permissions = permissions.collect();
        let (id, created_time) = (self.new_id("ROL"), self.new_time());
        self.roles.insert(Role { id, name: BUILTIN_ROLE.to_owned(), permissions, created_time, ..Role::default() });
    }

    /// An id as the service makes them: the prefix, a 2 and 25 more characters for tenants (`T2...`), 28 for others.
    pub fn new_id(&mut self, prefix: &str) -> String {
        let length = if prefix == "T2" { 26 } else { 28 };
        prefix.chars().chain((0..length).map(|_| self.ids.alphanumeric())).collect()
    }

    /// The creation time of the next entity.
    pub fn new_time(&mut self) -> i64 {
        self.created += 1;
        FIRST_CREATED + self.created
    }

    /// Sets the clock of the journals.
    pub fn advance(&mut self, now: Duration, delay: Duration) {
        self.tenants.advance(now, delay);
        self.permissions.advance(now, delay);
        self.roles.advance(now, delay);
    }

    /// Where the journals stand.
    pub fn mark(&self) -> Mark {
        Mark(self.tenants.mark(), self.permissions.mark(), self.roles.mark())
    }

    /// Takes back everything since the mark.
    pub fn undo(&mut self, mark: Mark) {
        self.tenants.undo(mark.0);
        self.permissions.undo(mark.1);
        self.roles.undo(mark.2);
    }

    /// Even delayed readers see what happened since the mark.
    pub fn settle(&mut self, mark: Mark) {
        self.tenants.settle(mark.0);
        self.permissions.settle(mark.1);
        self.roles.settle(mark.2);
    }

    /// The roles that have this permission.
    pub fn roles_with(&self, permission: u64) -> Vec<u64> {
        let has = |(_, role): &(u64, &Arc<Role>)| role.permissions.contains(&permission);
        self.roles.iter().filter(has).map(|(number, _)| number).collect()
    }

    /// The tenants for which this role is a default.
    pub fn tenants_with(&self, role: u64) -> Vec<u64> {
        let has = |(_, tenant): &(u64, &Arc<Tenant>)| tenant.default_roles.contains(&role);
        self.tenants.iter().filter(has).map(|(number, _)| number).collect()
    }

    /// What is left of these permissions.
    pub fn permission_names(&self, numbers: &[u64]) -> Vec<&str> {
        numbers.iter().filter_map(|&number| self.permissions.get(number)).map(|found| found.name.as_str()).collect()
    }

    /// What is left of these roles.
    pub fn role_names(&self, numbers: &[u64]) -> Vec<&str> {
        numbers.iter().filter_map(|&number| self.roles.get(number)).map(|found| found.name.as_str()).collect()
    }
}

/// `none` until something else is set.
pub fn auth_type(tenant: &Tenant) -> &str {
    if tenant.auth_type.is_empty() { "none" } else { &tenant.auth_type }
}
