//! The changes of a report: rendered, as a daemon sends them, or those of a plan, each rendered when somebody looks at it. A
//! plan may have a hundred thousand, which nobody reads at once.

use super::ChangeReport;
use crate::plan::Change;
use crate::plan::Hold;
use crate::resource::legible::legible;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use std::borrow::Cow;

/// In the order in which they are sent.
#[derive(Debug, Clone)]
pub enum Changes<'p> {
    /// As they came over the wire, or were picked.
    Rendered(Vec<ChangeReport>),
    /// A plan's own.
    Planned(&'p [Change]),
}

impl Changes<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Rendered(changes) => changes.len(),
            Self::Planned(changes) => changes.len(),
        }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = Listed<'_>> {
        let (rendered, planned) = match self {
            Self::Rendered(changes) => (&**changes, &[][..]),
            Self::Planned(changes) => (&[][..], *changes),
        };
        rendered.iter().map(Listed::Rendered).chain(planned.iter().map(Listed::Planned))
    }

    /// All rendered.
    pub fn into_rendered(self) -> Vec<ChangeReport> {
        match self {
            Self::Rendered(changes) => changes,
            Self::Planned(changes) => changes.iter().map(ChangeReport::new).collect(),
        }
    }
}

/// None.
impl Default for Changes<'_> {
    fn default() -> Self {
        Self::Rendered(Vec::new())
    }
}

impl FromIterator<ChangeReport> for Changes<'_> {
    fn from_iter<T: IntoIterator<Item = ChangeReport>>(changes: T) -> Self {
        Self::Rendered(changes.into_iter().collect())
    }
}

impl Serialize for Changes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Listed::report))
    }
}

impl<'de> Deserialize<'de> for Changes<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::Rendered)
    }
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub enum Listed<'a> {
    /// Rendered before.
    Rendered(&'a ChangeReport),
    /// To be rendered if need be.
    Planned(&'a Change),
}

impl<'a> Listed<'a> {
    /// The YAML key.
    pub fn kind(self) -> &'a str {
        match self {
            Self::Rendered(change) => &change.kind,
            Self::Planned(change) => change.key.kind,
        }
    }

    /// The identity.
    pub fn id(self) -> Cow<'a, str> {
        match self {
            Self::Rendered(change) => Cow::Borrowed(&*change.id),
            Self::Planned(change) => Cow::Owned(change.key.id()),
        }
    }

    /// The word for what is done.
    pub fn action(self) -> &'a str {
        match self {
            Self::Rendered(change) => &change.action,
            Self::Planned(change) => change.action.as_str(),
        }
    }

    /// The word of what holds it.
    pub fn held(self) -> Option<&'a str> {
        match self {
            Self::Rendered(change) => change.held.as_deref(),
            Self::Planned(change) => change.held.map(Hold::as_str),
        }
    }

    /// What or who holds it, as a warning says it.
    pub fn sentence(self) -> Option<String> {
        let (why, place) = match self {
            Self::Rendered(change) => (change.why.as_ref()?, change.file.clone().zip(change.line)),
            Self::Planned(change) => {
                let place = change.place.as_ref().map(|place| (place.file.to_string(), place.line));
                (change.why.as_ref()?, place)
            }
        };
        let place = place.map_or_else(String::new, |(file, line)| format!("{file}:{line}: "));
        let (kind, id) = (self.kind(), self.id());
        let name = if id == kind { kind.to_owned() } else { format!("{kind}/{}", legible(&id)) };
        Some(format!("{place}{name} {why}"))
    }

    /// All of it.
    pub fn report(self) -> Cow<'a, ChangeReport> {
        match self {
            Self::Rendered(change) => Cow::Borrowed(change),
            Self::Planned(change) => Cow::Owned(ChangeReport::new(change)),
        }
    }
}
