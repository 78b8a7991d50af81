//! Who a resource is within its project.

use super::legible::legible;
use std::fmt;
use std::sync::Arc;

/// The kind of what other resources live in, and are deleted with.
const HOME: &str = "tenants";

/// Identity of one resource within a project. Compares byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The top-level key of the YAML, `roles`.
    pub kind: &'static str,
    /// The tenant that it lives in; `None` where it belongs to the project, and always so for kinds without tenants.
    pub tenant: Option<Arc<str>>,
    /// What identifies it: its name, or its id. Of a kind of which there is one, the name of the kind.
    pub name: Arc<str>,
}

impl Key {
    /// A key without a tenant.
    pub fn new(kind: &'static str, name: &str) -> Self {
        Self { kind, tenant: None, name: name.into() }
    }

    /// A key of a resource that belongs to a tenant.
    pub fn in_tenant(kind: &'static str, tenant: &str, name: &str) -> Self {
        Self { kind, tenant: Some(tenant.into()), name: name.into() }
    }

    /// The only one of its kind.
    pub fn only(kind: &'static str) -> Self {
        Self::new(kind, kind)
    }

    /// The tenant that it lives in, and is deleted with.
    pub fn home(&self) -> Option<Self> {
        Some(Self::new(HOME, self.tenant.as_ref()?))
    }

    /// The tenant that it is; `None` of any other kind.
    pub fn as_tenant(&self) -> Option<&Arc<str>> {
        (self.kind == HOME).then_some(&self.name)
    }

    /// The identity as operators see it: `NAME`, or `TENANT/NAME`.
    pub fn id(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("{tenant}/{}", self.name),
            None => self.name.to_string(),
        }
    }

    /// As orders and the audit trail name it: `KIND/ID`.
    pub fn named(&self) -> String {
        format!("{}/{}", self.kind, self.id())
    }
}

/// For people: `roles/TENANT/NAME`, a [`legible`] one; of a kind of which there is one, the kind.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tenant.is_none() && *self.name == *self.kind {
            return f.write_str(self.kind);
        }
        write!(f, "{}/{}", self.kind, legible(&self.id()))
    }
}
