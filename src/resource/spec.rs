//! The language of the tables: what a kind of resource is, as data.
//!
//! A [`Spec`] is written once for each kind. Everything that can be said of a kind without a call is said here, and read by
//! one walk each: the check of the YAML, the comparison, what is sent, references and renames, canonical digests.

use super::Document;
use super::Fields;
use super::opaque::Opaque;
use super::opaque::Source;
use super::risk::Risk;
use serde_json::Value;

/// The part that creates and deletes a resource. As it stands in the state.
pub const MAIN: &str = "";

/// How a choice says that there is nothing.
pub const NOTHING: &str = "none";

/// A kind of resource.
#[derive(Debug)]
pub struct Spec {
    /// Top-level key in the YAML and `kind` label on metrics, e.g. `permissions`.
    pub name: &'static str,
    /// How one is told from another.
    pub identity: Identity,
    /// In the order in which they are written; the first is [`MAIN`]. Parts have no field in common.
    pub parts: &'static [Part],
    /// What can be done to one.
    pub verbs: Verbs,
    /// What ships with Descope and is never touched.
    pub builtin: Builtin,
    /// What ships with Descope and may be changed, and is never deleted.
    pub stock: &'static [&'static str],
    /// A change can be tried without being made: [`Kind::preview`](super::Kind::preview).
    pub has_preview: bool,
    /// An answer in which this field is set belongs to something else, and is none of this kind.
    pub foreign: Option<&'static str>,
    /// The answer to a create shows a secret, this once: the YAML names the file that it is kept in.
    pub shows_secret: bool,
    /// All of the kind stand in the one document of the project's settings, as what there is one of does: two calls at once
    /// may conflict.
    pub in_settings: bool,
    /// The field that says when one ends, in seconds since 1970; 0 stands for never.
    pub ends: Option<&'static str>,
    /// Of a kind that no call lists: the kind and the field of it whose entries bear its names.
    pub named_in: Option<(&'static str, &'static str)>,
    /// What only several fields together can show to be wrong: field and message. It sees what the YAML writes.
    pub check: fn(&Document) -> Vec<(&'static str, String)>,
    /// Adds what the YAML means without writing it.
    pub complete: fn(&mut Document),
}

impl Spec {
    /// What most kinds have in common. It has no parts: every kind has its own.
    pub const BASE: Self = Self {
        name: "",
        identity: Identity::one(),
        parts: &[],
        verbs: Verbs::ALL,
        builtin: Builtin::None,
        stock: &[],
        has_preview: false,
        foreign: None,
        shows_secret: false,
        in_settings: false,
        ends: None,
        named_in: None,
        check: |_| Vec::new(),
        complete: |_| {},
    };
}

/// How one resource of a kind is told from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The field that holds it; `None` where there is one of this kind in every project.
    pub field: Option<&'static str>,
    /// The field that holds the tenant that it lives in, where it may live in one.
    pub tenant: Option<&'static str>,
    /// The field of the id that Descope gives it, where its calls take no other. Then `field` may not be unique.
    pub server_id: Option<&'static str>,
    /// Of a kind of which there is one: the YAML writes the value of this field in place of the fields.
    pub bare: Option<&'static str>,
}

/// What one call writes of a resource.
#[derive(Debug)]
pub struct Part {
    /// [`MAIN`], or a word that the state keeps.
    pub name: &'static str,
    /// The fields that it writes, as they stand in the YAML. Identity first.
    pub fields: &'static [Field],
    /// How it is observed.
    pub read: Read,
    /// How a change is written.
    pub how: How,
}

/// How a part is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The list of the kind shows it.
    List,
    /// One call for each resource, where it is declared.
    Each,
    /// The resource itself has no list: one call for each that is declared or owned, by its name.
    ByName,
    /// Nothing shows it.
    Never,
}

/// How a change of a part is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// All of it, built on what was observed: what is left out is reset.
    Overwrite,
    /// The changed fields alone.
    Patch,
    /// Like `Overwrite`, and the same call makes one that does not exist.
    Upsert,
    /// Like `Overwrite`, with a call for each item of its list that differs; one that the YAML does not name is left alone.
    Items,
}

/// What can be done to a resource of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs {
    /// The API can delete it.
    pub delete: bool,
    /// The API renames in place, so that ids and assignments stay.
    pub rename: bool,
    /// `cascadeDelete: true` may be declared.
    pub cascade: bool,
    /// How many creates, overwriting calls or deletes fit into one call; 1 where there is no batch.
    pub batch: usize,
}

impl Verbs {
    /// Create, update and delete, one by one.
    pub const ALL: Self = Self { delete: true, rename: false, cascade: false, batch: 1 };
}

/// How what ships with Descope is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// There is none.
    None,
    /// This flag is set.
    Marked(&'static str),
    /// By its name, which the config lists. One that lives in a tenant never is.
    Named,
    /// Its identity begins with this.
    Prefix(&'static str),
}

/// One field, as the YAML and the API name it.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Field {
    /// The API's own name.
    pub name: &'static str,
    /// What a value looks like.
    pub shape: Shape,
    /// Must, may or must not the YAML write it?
    pub need: Need,
    /// No call creates one without it, whether or not other calls take it.
    pub is_needed: bool,
    /// What an answer says of it.
    pub back: Back,
    /// What an overwriting call does that leaves it out.
    pub omit: Omit,
    /// One resource of the kind alone can have each of its values: a call is refused while another one has it. Fields of
    /// one name that are so are one field, wherever in the table they stand; the list shows who has what.
    pub exclusive: bool,
    /// What it holds where nobody ever wrote it, as JSON; `None`: nothing.
    pub start: Option<&'static str>,
    /// A set of domains: each belongs to one resource of the kind, and letter case means nothing in it.
    pub is_domains: bool,
    /// Where else in the document of the resource the same value is written, by another call: `domains`, `sso[].domains`.
    /// A call that carries it without a declaration of its own carries what is declared there.
    pub twins: &'static [&'static str],
    /// A call of its own writes it and nothing else, so that nothing is lost where it alone differs.
    pub apart: bool,
    /// Which changes of it lower protection or lock people out.
    pub risks: &'static [Risk],
    /// What other calls of the resource write, and it relies on.
    pub relies: Option<Relies>,
    /// Left empty, an answer has a default of the server in its place, which nobody knows.
    pub is_defaulted: bool,
    /// Where nobody wrote it, it answers what this kind, of which there is one in every project, holds.
    pub inherits: Option<&'static str>,
    /// No call takes away what it holds, such as the items of a list that the YAML does not name: why, and what to write
    /// instead.
    pub stays: Option<&'static str>,
    /// The kind of which the names of its entries name resources.
    pub entries_of: Option<&'static str>,
    /// A part that is read by itself, and that holds nothing where this field of the list is empty or `none`.
    pub tells_of: Option<&'static str>,
    /// What other clients of the API take; whether the API takes more is not known.
    pub usual: Option<Usual>,
}

/// What a switch relies on while it is in one position. That is written before it goes there, and after it left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relies {
    /// The position.
    pub while_on: bool,
    /// Paths in the resource, `sso[].authType`, each of which may bring it.
    pub on: &'static [&'static str],
}

/// What a text usually is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usual {
    /// Characters.
    pub longest: usize,
    /// Letters, digits, `_` and `-` alone.
    pub is_plain: bool,
}

/// Must the YAML write a field?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The API refuses a create without it.
    Required,
    /// It may.
    Optional,
    /// It may, and only a create takes it: a later difference is an error that says what to do instead.
    AtCreation,
}

/// What an answer says of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// The value; absent is empty.
    AsWritten,
    /// The value, or nothing, which says nothing: then the state's fingerprint decides.
    Maybe,
    /// Nothing.
    Never,
    /// A value of the server's own. The YAML cannot write it, no difference is made of it, and no call carries it.
    Computed,
}

/// What an overwriting call does that leaves a field out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omit {
    /// It becomes empty.
    Resets,
    /// It stays.
    Keeps,
}

/// What a field's value looks like. `null` is allowed wherever clearing makes sense.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    Text,
    /// A string that may not be empty.
    Name,
    /// `true` or `false`.
    Flag,
    /// A whole number, with its bounds.
    Integer(i64, i64),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A list of strings whose order means nothing; duplicates fold.
    Set,
    /// A list whose order means something, compared and written as a whole.
    List(&'static Shape),
    /// A map from caller-chosen names to a string, number, boolean or list of strings. Managed key by key: a name that
    /// the YAML leaves out is never changed, `null` clears one name, and `null` for the whole field clears all.
    Attributes,
    /// A map from caller-chosen names to values of one shape. Managed key by key, like `Attributes`.
    Map(&'static Shape),
    /// Fields of its own, each managed by itself.
    Object(&'static [Field]),
    /// A list of objects without order, told apart by the values of `key`. What the list does not name is removed, unless
    /// `keeps`; inside of one each field is managed by itself.
    Items {
        /// Together they tell one from another. An absent one is empty.
        key: &'static [&'static str],
        /// Of each.
        fields: &'static [Field],
        /// Items that the YAML does not name stay as they are.
        keeps: bool,
    },
    /// Any JSON, compared and written as a whole.
    Json,
    /// The name of another resource.
    Reference(To),
    /// Names of other resources, without order.
    References(To),
    /// A document that Descope may rewrite: what it made of it is remembered beside what was sent.
    Opaque(&'static Opaque),
    /// A reference to a secret. It is resolved right before it is sent, and nothing keeps it.
    Secret,
}

/// What a reference may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct To {
    /// The kind.
    pub kind: &'static str,
    /// May it be one of a tenant?
    pub tenant: InTenant,
}

/// Of which tenant a reference may name a resource, beside those of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InTenant {
    /// Of none.
    No,
    /// Of the tenant that refers, or that the resource which refers lives in.
    Own,
    /// Of the tenant that this field beside it names.
    Beside(&'static str),
}

impl Spec {
    /// The part of this name.
    pub fn part(&self, name: &str) -> Option<&'static Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The part that creates and deletes it.
    pub fn main(&self) -> &'static Part {
        // A test walks all tables: the first part is there, and is this one.
        &self.parts[0]
    }

    /// Every field, with the part that writes it.
    pub fn fields(&self) -> impl Iterator<Item = (&'static Part, &'static Field)> + use<> {
        let parts: &'static [Part] = self.parts;
        parts.iter().flat_map(|part| part.fields.iter().map(move |field| (part, field)))
    }

    /// The field of this name, with the part that writes it.
    pub fn field(&self, name: &str) -> Option<(&'static Part, &'static Field)> {
        self.parts.iter().find_map(|part| Some((part, part.fields.iter().find(|field| field.name == name)?)))
    }

    /// The part that writes what is at this path.
    pub fn part_at(&self, path: &str) -> &'static Part {
        self.field_at(path).map_or_else(|| self.main(), |(part, _)| part)
    }

    /// The field, and the part that writes it, that holds what is at this path.
    pub fn field_at(&self, path: &str) -> Option<(&'static Part, &'static Field)> {
        let is_at = |field: &Field| {
            let rest = path.strip_prefix(field.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.fields().find(|(_, field)| is_at(field))
    }

    /// Does the create write this part, too? It does where that is one more call of what the main part writes, and none of its
    /// switches relies on what another call brings by these files.
    pub fn comes_with_create(&self, part: &Part, declared: &dyn Fields) -> bool {
        let mut relied = part.fields.iter().filter_map(|field| field.relies).flat_map(|relies| relies.on);
        part.name == MAIN || part.is_more_of_main() && !relied.any(|path| says(declared, path))
    }

    /// Has a project one writer of it at a time?
    pub fn has_one_writer(&self) -> bool {
        self.in_settings || self.is_only()
    }

    /// Is it the id that Descope gives? It is sent by whoever addresses the resource.
    pub fn is_server_id(&self, field: &str) -> bool {
        self.identity.server_id == Some(field)
    }

    /// Is there one in every project, neither made nor deleted?
    pub fn is_only(&self) -> bool {
        self.identity.field.is_none()
    }

    /// Is it a part of the identity, and so of the key?
    pub fn is_identity(&self, field: &str) -> bool {
        self.identity.field == Some(field) || self.identity.tenant == Some(field)
    }
}

/// Is something written at this path, in a mapping or in some item of a list?
fn says(declared: &dyn Fields, path: &str) -> bool {
    let (field, inside) = path.split_once(['.', '[']).unwrap_or((path, ""));
    match declared.get(field) {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(entries)) => entries.contains_key(inside),
        _ => false,
    }
}

impl Part {
    /// Is it one more call of what the main part writes: shown with it, and overwriting nothing?
    pub fn is_more_of_main(&self) -> bool {
        self.name == MAIN || self.read == Read::List && self.how == How::Patch
    }

    /// Is a write of it built on a look of its own? A document is sent as it is, and carries nothing along.
    pub fn carries_unlisted(&self) -> bool {
        let is_nested = |field: &Field| matches!(field.shape, Shape::Object(_) | Shape::Items { .. });
        self.read == Read::Each && self.fields.iter().any(is_nested)
    }
}

impl Identity {
    /// There may be many, told apart by this field, which the caller chooses.
    pub const fn many(field: &'static str) -> Self {
        Self { field: Some(field), tenant: None, server_id: None, bare: None }
    }

    /// There is one in every project.
    pub const fn one() -> Self {
        Self { field: None, tenant: None, server_id: None, bare: None }
    }

    /// The same, where the YAML writes the value of one field in place of the fields.
    pub const fn bare(field: &'static str) -> Self {
        Self { bare: Some(field), ..Self::one() }
    }

    /// Those of a tenant have it in this field.
    #[must_use]
    pub const fn in_tenant(self, field: &'static str) -> Self {
        Self { tenant: Some(field), ..self }
    }

    /// Descope gives each an id, in this field, and knows them by that.
    #[must_use]
    pub const fn server_id(self, field: &'static str) -> Self {
        Self { server_id: Some(field), ..self }
    }
}

impl Field {
    /// A field that may be written and is read back.
    pub const fn of(name: &'static str, shape: Shape) -> Self {
        let (need, back, omit) = (Need::Optional, Back::AsWritten, Omit::Resets);
        let (exclusive, is_domains, start, apart, is_defaulted) = (false, false, None, false, false);
        Self {
            name,
            shape,
            need,
            is_needed: false,
            back,
            omit,
            exclusive,
            start,
            is_domains,
            twins: &[],
            apart,
            risks: &[],
            relies: None,
            is_defaulted,
            inherits: None,
            stays: None,
            entries_of: None,
            tells_of: None,
            usual: None,
        }
    }

    /// A string.
    pub const fn text(name: &'static str) -> Self {
        Self::of(name, Shape::Text)
    }

    /// A string that may not be empty.
    pub const fn name(name: &'static str) -> Self {
        Self::of(name, Shape::Name)
    }

    /// `true` or `false`.
    pub const fn flag(name: &'static str) -> Self {
        Self::of(name, Shape::Flag)
    }

    /// A whole number, with its bounds.
    pub const fn integer(name: &'static str, least: i64, most: i64) -> Self {
        Self::of(name, Shape::Integer(least, most))
    }

    /// One of these strings.
    pub const fn one_of(name: &'static str, allowed: &'static [&'static str]) -> Self {
        Self::of(name, Shape::OneOf(allowed))
    }

    /// A list of strings without order.
    pub const fn set(name: &'static str) -> Self {
        Self::of(name, Shape::Set)
    }

    /// A list of domains without order, each of which belongs to one resource of the kind.
    pub const fn domains(name: &'static str) -> Self {
        Self { is_domains: true, ..Self::set(name) }
    }

    /// Fields of its own.
    pub const fn object(name: &'static str, fields: &'static [Self]) -> Self {
        Self::of(name, Shape::Object(fields))
    }

    /// A list of objects without order.
    pub const fn items(name: &'static str, key: &'static [&'static str], fields: &'static [Self]) -> Self {
        Self::of(name, Shape::Items { key, fields, keeps: false })
    }

    /// Values by name, where each name is that of a resource of this kind.
    pub const fn attributes(name: &'static str, kind: &'static str) -> Self {
        Self { entries_of: Some(kind), ..Self::of(name, Shape::Attributes) }
    }

    /// The names of its entries are those of resources of this kind.
    #[must_use]
    pub const fn entries_of(self, kind: &'static str) -> Self {
        Self { entries_of: Some(kind), ..self }
    }

    /// The name of a resource of this kind.
    pub const fn reference(name: &'static str, kind: &'static str) -> Self {
        Self::of(name, Shape::Reference(To { kind, tenant: InTenant::No }))
    }

    /// Names of resources of this kind.
    pub const fn references(name: &'static str, kind: &'static str, tenant: InTenant) -> Self {
        Self::of(name, Shape::References(To { kind, tenant }))
    }

    /// A document that Descope may rewrite.
    pub const fn opaque_of(name: &'static str, opaque: &'static Opaque) -> Self {
        Self::of(name, Shape::Opaque(opaque))
    }

    /// A reference to a secret, which no answer returns.
    pub const fn secret(name: &'static str) -> Self {
        Self::of(name, Shape::Secret).never_returned()
    }

    /// The API refuses a create without it.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { need: Need::Required, is_needed: true, ..self }
    }

    /// Only a create takes it.
    #[must_use]
    pub const fn at_creation(self) -> Self {
        Self { need: Need::AtCreation, ..self }
    }

    /// An answer that lacks it says nothing.
    #[must_use]
    pub const fn maybe_returned(self) -> Self {
        Self { back: Back::Maybe, ..self }
    }

    /// No answer has it.
    #[must_use]
    pub const fn never_returned(self) -> Self {
        Self { back: Back::Never, ..self }
    }

    /// The server's own.
    #[must_use]
    pub const fn computed(self) -> Self {
        Self { back: Back::Computed, ..self }
    }

    /// An overwriting call that leaves it out does not touch it.
    #[must_use]
    pub const fn omit_keeps(self) -> Self {
        Self { omit: Omit::Keeps, ..self }
    }

    /// A resource that is made without it has this, as JSON.
    #[must_use]
    pub const fn starts_as(self, json: &'static str) -> Self {
        Self { start: Some(json), ..self }
    }

    /// One resource of the kind alone can have each of its values.
    #[must_use]
    pub const fn exclusive(self) -> Self {
        Self { exclusive: true, ..self }
    }

    /// What a resource that is made without it has.
    pub fn start(&self) -> Value {
        self.start.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    }

    /// The same value is written from these places of the document too.
    #[must_use]
    pub const fn same_as(self, twins: &'static [&'static str]) -> Self {
        Self { twins, ..self }
    }

    /// What it holds stays where the YAML does not name it, for this reason.
    #[must_use]
    pub const fn stays(self, why: &'static str) -> Self {
        Self { stays: Some(why), ..self }
    }

    /// A call of its own writes it and nothing else.
    #[must_use]
    pub const fn apart(self) -> Self {
        Self { apart: true, ..self }
    }

    /// These changes of it lower protection or lock people out.
    #[must_use]
    pub const fn risks(self, risks: &'static [Risk]) -> Self {
        Self { risks, ..self }
    }

    /// In this position it relies on what is written at these paths.
    #[must_use]
    pub const fn relies(self, while_on: bool, on: &'static [&'static str]) -> Self {
        Self { relies: Some(Relies { while_on, on }), ..self }
    }

    /// Other clients of the API take no more characters than that.
    #[must_use]
    pub const fn at_most(self, longest: usize) -> Self {
        Self { usual: Some(Usual { longest, is_plain: false }), ..self }
    }

    /// Other clients of the API take no more than so many letters, digits, `_` and `-`.
    #[must_use]
    pub const fn plain(self, longest: usize) -> Self {
        Self { usual: Some(Usual { longest, is_plain: true }), ..self }
    }

    /// Left empty, it is answered with a default of the server.
    #[must_use]
    pub const fn server_default(self) -> Self {
        Self { is_defaulted: true, ..self }
    }

    /// Where nobody wrote it, it answers what the one resource of this kind holds.
    #[must_use]
    pub const fn inherits(self, kind: &'static str) -> Self {
        Self { inherits: Some(kind), ..self }
    }

    /// Empty or `none`, it says that this part, which is read by itself, holds nothing.
    #[must_use]
    pub const fn tells_of(self, part: &'static str) -> Self {
        Self { tells_of: Some(part), ..self }
    }

    /// May the YAML write `null`, which clears it? A choice with a word for nothing is cleared by that word.
    pub fn is_clearable(&self) -> bool {
        let has_word = |words: &[&str]| words.contains(&NOTHING) && !words.contains(&"");
        let is_chosen = matches!(self.shape, Shape::OneOf(words) if has_word(words));
        !(self.is_needed || self.stays.is_some() || is_chosen || matches!(self.shape, Shape::Name | Shape::Secret))
    }

    /// May the YAML write it?
    pub fn is_declarable(&self) -> bool {
        self.back != Back::Computed
    }

    /// Is it known by its fingerprint alone, wherever an answer lacks it?
    pub fn is_remembered(&self) -> bool {
        let is_unseen = matches!(self.back, Back::Maybe | Back::Never) || self.is_defaulted;
        self.need == Need::AtCreation || is_unseen
    }

    /// What is said of the document that it holds; `None` where it holds none.
    pub fn opaque(&self) -> Option<&'static Opaque> {
        if let Shape::Opaque(opaque) = self.shape { Some(opaque) } else { None }
    }

    /// Does the YAML name a file in its place?
    pub fn is_in_a_file(&self) -> bool {
        self.opaque().is_some_and(|opaque| opaque.source != Source::Inline)
    }
}
