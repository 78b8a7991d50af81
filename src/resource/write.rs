//! What can be done to a resource.

use super::Document;
use super::Key;
use schemars::JsonSchema;
use std::fmt;
use std::sync::Arc;

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Action {
    /// It does not exist yet.
    Create,
    /// It exists and differs.
    Update,
    /// It exists under its old name.
    Rename,
    /// It exists and shall not.
    Delete,
}

impl Action {
    /// The word in plans, status and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Rename => "rename",
            Self::Delete => "delete",
        }
    }
}

/// One call, or one item of a batch call: what [`Kind::send`](super::Kind::send) puts on the wire. Which of the calls of
/// the resource it is, the part beside it says.
#[derive(Clone, PartialEq)]
pub enum Write<Body = Document> {
    /// Body of the create call.
    Create(Body),
    /// Body of the call that overwrites everything, built on the observed document. `from` is the name that the
    /// resource has now; a rename carries another one in the body.
    Overwrite {
        /// The key's present name.
        from: Arc<str>,
        /// The complete new document, without computed fields.
        body: Body,
    },
    /// Only the fields that change.
    Patch(Body),
    /// Removes the resource.
    Delete {
        /// Deletes a tenant's users too. True only where the YAML said so when the tenant was last declared.
        cascade: bool,
    },
}

/// A body may hold secrets, or the whole document of a flow: what it is about is all that is told of it.
impl<Body: Shown> fmt::Debug for Write<Body> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = Body::fields;
        match self {
            Self::Create(body) => f.debug_tuple("Create").field(&fields(body)).finish(),
            Self::Overwrite { from, body } => {
                f.debug_struct("Overwrite").field("from", from).field("body", &fields(body)).finish()
            }
            Self::Patch(body) => f.debug_tuple("Patch").field(&fields(body)).finish(),
            Self::Delete { cascade } => f.debug_struct("Delete").field("cascade", cascade).finish(),
        }
    }
}

/// What of a body may be told.
pub trait Shown {
    /// The names of its fields.
    fn fields(&self) -> Vec<String>;
}

impl Shown for Document {
    fn fields(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

impl<Body> Write<Body> {
    /// The same with another body.
    pub fn with<Other>(&self, body: impl FnOnce(&Body) -> Other) -> Write<Other> {
        match self {
            Self::Create(old) => Write::Create(body(old)),
            Self::Overwrite { from, body: old } => Write::Overwrite { from: Arc::clone(from), body: body(old) },
            Self::Patch(old) => Write::Patch(body(old)),
            Self::Delete { cascade } => Write::Delete { cascade: *cascade },
        }
    }

    /// May the same call be sent again when its answer was lost, without a look in between? A create could double or
    /// collide, a rename or delete would be refused as not found.
    pub fn is_repeatable(&self, key: &Key) -> bool {
        match self {
            Self::Create(_) | Self::Delete { .. } => false,
            Self::Overwrite { from, .. } => *from == key.name,
            Self::Patch(_) => true,
        }
    }

    /// What it carries; `None` for a delete.
    pub fn body(&self) -> Option<&Body> {
        match self {
            Self::Create(body) | Self::Overwrite { body, .. } | Self::Patch(body) => Some(body),
            Self::Delete { .. } => None,
        }
    }

    /// The word in messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Overwrite { .. } => "overwrite",
            Self::Patch(_) => "patch",
            Self::Delete { .. } => "delete",
        }
    }
}

/// One write, and to whom it goes.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// The resource; of a rename, its new name.
    pub key: &'a Key,
    /// The id that Descope gave it, where it is known by that and was seen.
    pub id: Option<&'a str>,
    /// What is sent, secrets resolved.
    pub write: &'a Write,
    /// Of a part that a call of its own reads: what that said right before.
    pub live: Option<&'a Document>,
    /// Where it differs, by path; empty where nobody compared.
    pub changed: &'a [String],
}

impl<'a> Item<'a> {
    /// One that rests on no comparison.
    pub fn new(key: &'a Key, id: Option<&'a str>, write: &'a Write) -> Self {
        Self { key, id, write, live: None, changed: &[] }
    }
}

/// Names the resource, never what is sent: that may hold secrets.
impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({} {})", self.write.as_str(), self.key)
    }
}

/// What the API says to one write.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The id that it gave the resource.
    pub id: Option<Arc<str>>,
    /// A secret that it shows this once.
    pub shown_once: Option<secrecy::SecretString>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_sent_is_never_told() {
        let body = json!({ "id": "portal", "clientSecret": "sentinel" }).as_object().cloned().unwrap();
        let writes = [
            Write::Create(body.clone()),
            Write::Overwrite { from: "portal".into(), body: body.clone() },
            Write::Patch(body.clone()),
        ];
        for write in writes {
            let told = format!("{write:?} {write:#?}");
            assert!(told.contains("clientSecret") && !told.contains("sentinel"), "{told}");
        }
    }
}
