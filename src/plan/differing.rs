//! What becomes different of a resource, by path.

use super::FieldChange;
use super::Sent;
use super::compare;
use crate::desired::Declared;
use crate::resource;
use std::borrow::Cow;
use std::sync::Arc;

/// What becomes different of a resource, or by one of its calls.
#[derive(Debug, Clone)]
pub enum Differing {
    /// These.
    Listed(Arc<[FieldChange]>),
    /// All that is declared, of what is made. A list of that would be much of a large plan, so it is made for who asks.
    Made(Arc<Declared>),
}

impl Differing {
    /// These fields of what is declared. `is_made`: nothing of it is there, refused or left out.
    pub fn of(declared: &Arc<Declared>, fields: &[FieldChange], is_made: bool) -> Self {
        // What stands for a big document is made once: there are few of those.
        let is_big = || {
            let fields = resource::kind(declared.key.kind).into_iter().flat_map(|kind| kind.spec().fields());
            fields.into_iter().any(|(_, field)| field.opaque().is_some())
        };
        let is_made = is_made && !is_big();
        let this = if is_made { Self::Made(Arc::clone(declared)) } else { Self::Listed(fields.into()) };
        debug_assert_eq!(*this.list(), *fields, "{}", declared.key);
        this
    }

    /// By path, in the order of the table.
    pub fn list(&self) -> Cow<'_, [FieldChange]> {
        match self {
            Self::Listed(fields) => Cow::Borrowed(fields),
            Self::Made(declared) => Cow::Owned(of_new(declared)),
        }
    }
}

/// All that is declared. What nothing is known of differs whatever was sent before.
fn of_new(declared: &Declared) -> Vec<FieldChange> {
    let Some(kind) = resource::kind(declared.key.kind) else { return Vec::new() };
    let reading = compare::Reading { live: None, is_unlisted: false, returned: |_: &str| false };
    let memory = compare::Recall {
        sent: &|_, _, _| Sent::Unknown,
        document: &|_, _, _, _| false,
        secret: &|_, _, _| Ok(Sent::Unknown),
    };
    compare::differences(kind, declared, &reading, &memory).fields
}

impl Default for Differing {
    fn default() -> Self {
        Self::Listed(Arc::default())
    }
}

impl From<Vec<FieldChange>> for Differing {
    fn from(fields: Vec<FieldChange>) -> Self {
        Self::Listed(fields.into())
    }
}

impl FromIterator<FieldChange> for Differing {
    fn from_iter<I: IntoIterator<Item = FieldChange>>(fields: I) -> Self {
        Self::Listed(fields.into_iter().collect())
    }
}

impl PartialEq for Differing {
    fn eq(&self, other: &Self) -> bool {
        self.list() == other.list()
    }
}
