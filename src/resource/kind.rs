//! What a kind does beside its table: which calls observe it, and which call writes what.

use super::Document;
use super::Documents;
use super::Fields;
use super::Key;
use super::Packed;
use super::fold;
use super::form;
use super::refer;
use super::spec::Builtin;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Spec;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::aside::aside;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use async_trait::async_trait;
use nonempty::NonEmpty;
use secrecy::SecretString;
use serde_json::Value;

/// What would become of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// What would go with it, each in words: they count as deletes.
    pub losses: Vec<String>,
    /// Why it would be refused.
    pub refusal: Option<String>,
}

/// One kind of Descope resource.
#[async_trait]
pub trait Kind: Send + Sync {
    /// Its table.
    fn spec(&self) -> &'static Spec;

    /// The call that shows all of this kind.
    fn listing(&self) -> Call;

    /// What it shows, in the form of requests. An answer that is not of the documented form is an error, never an empty
    /// list.
    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        client.list(&self.listing()).await
    }

    /// Sends the items in one call of this part. All are of one variant, not more than [`Kind::batch_size`], and where the
    /// kind has tenants and the writes are deletes, of one tenant. The answers are in the order of the items; none where
    /// the API says nothing.
    async fn send(
        &self,
        client: &Client,
        part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error>;

    /// Every live resource of this kind that is not built of something else, each as its table says; else it counts as
    /// not observed.
    async fn list(&self, client: &Client) -> Result<Documents, Error> {
        let items = self.observe(client).await?;
        let undocumented = |what| Error::Undocumented { operation: self.listing().operation(), what };
        aside(|| form::sift(self.spec(), items, |live| self.key(live))).map_err(undocumented)
    }

    /// Top-level key in the YAML and `kind` label on metrics.
    fn name(&self) -> &'static str {
        self.spec().name
    }

    /// Does the API rename in place, so that ids and assignments stay?
    fn has_rename(&self) -> bool {
        self.spec().verbs.rename
    }

    /// Built into Descope: never touched, never listed as undeclared. `builtin_names` are configured ones.
    fn is_builtin(&self, live: &Document, builtin_names: &[String]) -> bool {
        match self.spec().builtin {
            Builtin::None => false,
            Builtin::Marked(flag) => live.get(flag) == Some(&Value::Bool(true)),
            Builtin::Named => self
                .key(live)
                .is_some_and(|key| key.tenant.is_none() && builtin_names.iter().any(|name| **name == *key.name)),
            Builtin::Prefix(prefix) => self.key(live).is_some_and(|key| key.name.starts_with(prefix)),
        }
    }

    /// Is it the only one of its kind, and does it hold nothing yet?
    fn is_unset(&self, live: &Document) -> bool {
        self.spec().is_only() && fold::is_zero(&fold::document(self.spec(), live))
    }

    /// The id that Descope gave it, where it is known by that.
    fn server_id<'a>(&self, live: &'a Document) -> Option<&'a str> {
        live.get(self.spec().identity.server_id?)?.as_str().filter(|id| !id.is_empty())
    }

    /// What a call of its own says of a part of one resource: the part's fields, in the form of requests, each of them
    /// there. Only for parts that are read so; of one that has no list, all of it, and nothing where there is none.
    async fn read(
        &self,
        _client: &Client,
        part: &'static Part,
        key: &Key,
        _id: Option<&str>,
    ) -> Result<Option<Document>, Error> {
        let what = format!("no call reads {} of {key}", part.name);
        Err(Error::Unsendable { operation: self.name(), what })
    }

    /// How many requests a write of one resource takes.
    fn calls(&self, _part: &Part, _write: &Write, _live: Option<&Document>, _changed: &[String]) -> usize {
        1
    }

    /// What would become of a change that no comparison shows, where the API can tell without making it. Asked before it is
    /// planned, with what is live and what the files write.
    async fn preview(&self, _client: &Client, _live: &Document, _declared: &dyn Fields) -> Result<Preview, Error> {
        Ok(Preview::default())
    }

    /// Identity of a live document; `None` where the answer lacks it, which makes the whole answer unusable.
    fn key(&self, live: &Document) -> Option<Key> {
        let spec = self.spec();
        let Some(field) = spec.identity.field else { return Some(Key::only(spec.name)) };
        let name = live.get(field)?.as_str().filter(|name| !name.is_empty())?;
        match spec.identity.tenant.and_then(|field| live.get(field)) {
            None | Some(Value::Null) => Some(Key::new(spec.name, name)),
            Some(Value::String(tenant)) if tenant.is_empty() => Some(Key::new(spec.name, name)),
            Some(Value::String(tenant)) => Some(Key::in_tenant(spec.name, tenant, name)),
            // Taken for one of the project, the wrong one would be changed.
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => None,
        }
    }

    /// What Descope gave it when it was made: tells it from one that bears its name later. Only what is in both of two
    /// documents can be compared.
    fn incarnation(&self, live: &Document) -> Document {
        let given = BIRTH.iter().filter_map(|field| Some(((*field).to_owned(), live.get(*field)?.clone())));
        given.filter(|(_, value)| !value.is_null()).collect()
    }

    /// What a declared or live document refers to with the calls of a part, or with all: those are created before it and
    /// deleted after it.
    fn references(&self, key: &Key, document: &dyn Fields, part: Option<&str>) -> Vec<Key> {
        refer::references(self.spec(), key, document, part)
    }

    /// How many writes of one sort fit into one call; 1 where the API has no batch.
    fn batch_size(&self, part: &str, write: &Write<()>) -> usize {
        match write {
            Write::Create(()) | Write::Overwrite { .. } | Write::Delete { .. } if part == MAIN => {
                self.spec().verbs.batch
            }
            Write::Create(()) | Write::Overwrite { .. } | Write::Delete { .. } | Write::Patch(()) => 1,
        }
    }
}

/// Fields that no later call changes.
const BIRTH: [&str; 2] = ["createdTime", "id"];

/// What was put into the form of requests.
pub(super) fn packed(documents: impl IntoIterator<Item = Document>) -> Vec<Packed> {
    documents.into_iter().map(|document| Packed::of(&document)).collect()
}

/// What each item puts into a batch.
pub(super) fn each<'a, T>(
    items: &NonEmpty<Item<'a>>,
    item: impl Fn(&Item<'a>) -> Result<T, Error>,
) -> Result<NonEmpty<T>, Error> {
    let mut each = items.iter().map(item);
    let head = each.next().unwrap_or_else(|| Err(unsendable(&items.head)))?;
    Ok(NonEmpty::from((head, each.collect::<Result<Vec<T>, Error>>()?)))
}

/// The id that Descope knows it by.
pub(super) fn id_of<'a>(item: &Item<'a>) -> Result<Name<'a>, Error> {
    let missing = || Error::Unsendable {
        operation: item.key.kind,
        what: format!("the id that Descope gave {} is not known", item.key),
    };
    Name::new(item.id.ok_or_else(missing)?)
}

/// A text of an answer; `None` where it is empty or none.
pub(super) fn text<'a>(answer: &'a Document, field: &str) -> Option<&'a str> {
    answer.get(field)?.as_str().filter(|text| !text.is_empty())
}

/// The secret that the answer to a create shows.
pub(super) fn shown_once(answer: &Document) -> Option<SecretString> {
    text(answer, "cleartext").map(SecretString::from)
}

/// The only one of a kind or part that has no batch.
pub(super) fn single<'a, 'i>(items: &'i NonEmpty<Item<'a>>) -> Result<&'i Item<'a>, Error> {
    items.tail().first().map_or(Ok(&items.head), |item| Err(unsendable(item)))
}

/// The body of a create of a kind that is addressed by name.
pub(super) fn creating(item: &Item<'_>) -> Result<Document, Error> {
    let Write::Create(body) = item.write else { return Err(unsendable(item)) };
    Ok(with(body, "name", &item.key.name))
}

/// The body of an overwriting call of a kind that is addressed by name: its present name, and the one it gets.
pub(super) fn overwriting(item: &Item<'_>) -> Result<Document, Error> {
    let Write::Overwrite { from, body } = item.write else { return Err(unsendable(item)) };
    Ok(with(&with(body, "name", from), "newName", &item.key.name))
}

/// The body with one text more.
pub fn with(body: &Document, field: &str, text: &str) -> Document {
    let mut body = body.clone();
    body.insert(field.to_owned(), text.into());
    body
}

/// A write that its kind has no call for, or not together with the others.
pub(super) fn unsendable(item: &Item<'_>) -> Error {
    let what = format!("no call takes this {} of {}", item.write.as_str(), item.key);
    Error::Unsendable { operation: item.key.kind, what }
}
