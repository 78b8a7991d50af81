//! The calls that the daemon makes, and no other.
//!
//! A [`Call`] is built by these functions alone, so what must never be sent cannot be written down: above all
//! `role/delete/batch` without a filter, which deletes every role of the project.

use super::Error;
use nonempty::NonEmpty;
use reqwest::Method;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::borrow::Cow;
use std::fmt;

/// What may not stand in a segment of a path as it is: all but the unreserved characters.
const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A JSON object, as the API sends and takes it.
pub type Document = Map<String, Value>;

/// A name or id that is not empty: the API might read an empty one as no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(&'a str);

impl<'a> Name<'a> {
    /// Errs on an empty one.
    pub fn new(name: &'a str) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::Unsendable { operation: "a call", what: "an empty name or id".to_owned() });
        }
        Ok(Self(name))
    }

    /// The text.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// What a good answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Empty, or an object that nobody reads.
    Anything,
    /// An object.
    Object,
    /// An object with a list of objects under `key`.
    List {
        key: &'static str,
        /// Every item has this, a string that is not empty.
        identity: &'static str,
        /// Where it is there, it is a string.
        tenant: Option<&'static str>,
    },
}

/// Where a call goes, as a template: `GET /v1/mgmt/list/{id}`. Made by `route!`.
#[derive(Debug, Clone)]
pub struct Route {
    /// Of the request.
    pub method: Method,
    /// With placeholders in braces.
    pub path: &'static str,
    /// Both in one.
    pub operation: &'static str,
}

/// Where a call goes that removes something. Made by `deletion!`: only constructors that name what is removed take it.
#[derive(Debug, Clone)]
pub struct Deletion(pub Route);

/// A route of calls that remove nothing.
macro_rules! route {
    ($method:ident $path:literal) => {{
        const { assert!(!$crate::descope::call::holds($path, "delete"), "a delete is a `deletion!`") };
        $crate::descope::call::Route {
            method: ::reqwest::Method::$method,
            path: $path,
            operation: concat!(stringify!($method), " ", $path),
        }
    }};
}

/// A route of calls that remove what they name.
macro_rules! deletion {
    ($method:ident $path:literal) => {
        $crate::descope::call::Deletion($crate::descope::call::Route {
            method: ::reqwest::Method::$method,
            path: $path,
            operation: concat!(stringify!($method), " ", $path),
        })
    };
}

pub(crate) use deletion;
pub(crate) use route;

/// Is `part` somewhere in `text`? Asked by the compiler.
pub const fn holds(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    let mut at = 0;
    while at + part.len() <= text.len() {
        let mut same = 0;
        while same < part.len() && text[at + same] == part[same] {
            same += 1;
        }
        if same == part.len() {
            return true;
        }
        at += 1;
    }
    false
}

/// One call, ready to be sent.
#[derive(Clone, PartialEq)]
pub struct Call {
    method: Method,
    path: Cow<'static, str>,
    query: Vec<(&'static str, String)>,
    operation: &'static str,
    body: Option<Value>,
    form: Form,
    is_repeatable: bool,
}

impl Call {
    /// The tier that chooses our rate limit.
    pub fn license() -> Self {
        Self::read(route!(GET "/v1/mgmt/license"), Form::Object)
    }

    /// Method and route template: the `operation` label on metrics, and how errors name the call.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// May it be sent again when its answer was lost, without a look in between?
    pub fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// Of the route, placeholders filled in.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Name and value of what stands behind the path.
    pub(super) fn query(&self) -> &[(&'static str, String)] {
        &self.query
    }

    pub(super) fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Asks for all of a kind: an object with a list under `key`, each item of which has `identity`, a text that is not
    /// empty.
    pub fn list(route: Route, key: &'static str, identity: &'static str) -> Self {
        Self::read(route, Form::List { key, identity, tenant: None })
    }

    /// The same of a kind whose items may be a tenant's: that is a text where it is there, in this field.
    pub fn list_in_tenants(route: Route, key: &'static str, identity: &'static str, tenant: &'static str) -> Self {
        Self::read(route, Form::List { key, identity, tenant: Some(tenant) })
    }

    /// Asks for one object.
    pub fn object(route: Route) -> Self {
        Self::read(route, Form::Object)
    }

    /// Makes something: not to be repeated blindly.
    pub fn create(route: Route, body: Document) -> Self {
        Self::write(route, Value::Object(body), false)
    }

    /// Changes something to what the body says, and changes nothing when it is repeated.
    pub fn update(route: Route, body: Document) -> Self {
        Self::write(route, Value::Object(body), true)
    }

    /// Makes all of them or none: one by the call for one, more by the call for many, which takes them under `key`.
    pub fn create_all(one: Route, many: Route, key: &'static str, bodies: &NonEmpty<Document>) -> Self {
        Self::write_all(one, many, key, bodies, false)
    }

    /// Changes all of them or none, in the same way. Each body has `name`, the present one, and `newName`; a rename is not
    /// repeated blindly.
    pub fn update_all(one: Route, many: Route, key: &'static str, bodies: &NonEmpty<Document>) -> Self {
        Self::write_all(one, many, key, bodies, !bodies.iter().any(is_rename))
    }

    /// Removes all that have these names or none: one by the call for one, more by the call for many, which takes them
    /// under `key`.
    pub fn delete_all(one: Deletion, many: Deletion, key: &'static str, names: &NonEmpty<Name<'_>>) -> Self {
        match names.tail() {
            [] => Self::delete(one, "name", names.head),
            [..] => Self::delete_all_of(many, key, names),
        }
    }

    /// Removes what has this name or id, in this field of the body.
    pub fn delete(route: Deletion, field: &'static str, name: Name<'_>) -> Self {
        Self::write(route.0, json!({ field: name.0 }), false)
    }

    /// Removes all that have these.
    pub fn delete_all_of(route: Deletion, field: &'static str, names: &NonEmpty<Name<'_>>) -> Self {
        Self::write(route.0, json!({ field: texts(names) }), false)
    }

    /// Removes what the path or the query names.
    pub fn delete_at(route: Deletion, query: &'static str, name: Name<'_>) -> Self {
        let mut call = Self::write(route.0, Value::Null, false).query_with(query, name.0);
        call.body = None;
        call
    }

    /// Removes the only one of its kind. Errs for a route of many, where naming nothing may mean everything.
    pub fn clear(route: Deletion) -> Result<Self, Error> {
        if route.0.path.contains("batch") {
            return Err(Error::Unsendable { operation: route.0.operation, what: "it names nothing".to_owned() });
        }
        Ok(Self::write(route.0, json!({}), false))
    }

    /// With a value in place of `{placeholder}`.
    #[must_use]
    pub fn at(mut self, placeholder: &str, value: Name<'_>) -> Self {
        let encoded = percent_encoding::utf8_percent_encode(value.0, SEGMENT).to_string();
        self.path = self.path.replace(&format!("{{{placeholder}}}"), &encoded).into();
        self
    }

    /// With `name=value` behind the path.
    #[must_use]
    pub fn query_with(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }

    /// With one field more in its body.
    #[must_use]
    pub fn with(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        if let Some(Value::Object(body)) = &mut self.body {
            body.insert(field.to_owned(), value.into());
        }
        self
    }

    /// A question that takes a body.
    #[must_use]
    pub fn asking(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Not to be repeated blindly: a rename.
    #[must_use]
    pub fn once_only(mut self) -> Self {
        self.is_repeatable = false;
        self
    }

    fn read(route: Route, form: Form) -> Self {
        let Route { method, path, operation } = route;
        Self { method, path: path.into(), query: Vec::new(), operation, body: None, form, is_repeatable: true }
    }

    fn write(route: Route, body: Value, is_repeatable: bool) -> Self {
        let Route { method, path, operation } = route;
        let (path, query, form) = (path.into(), Vec::new(), Form::Anything);
        Self { method, path, query, operation, body: Some(body), form, is_repeatable }
    }

    fn write_all(one: Route, many: Route, key: &'static str, bodies: &NonEmpty<Document>, is_repeatable: bool) -> Self {
        if bodies.tail().is_empty() {
            return Self::write(one, Value::Object(bodies.head.clone()), is_repeatable);
        }
        let items = bodies.iter().cloned().map(Value::Object).collect();
        let body = Document::from_iter([(key.to_owned(), Value::Array(items))]);
        Self::write(many, Value::Object(body), is_repeatable)
    }
}

/// Names the call, never what is sent: that may hold secrets.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.operation).finish()
    }
}

fn is_rename(body: &Document) -> bool {
    body.get("name") != body.get("newName")
}

fn texts<'a>(names: &NonEmpty<Name<'a>>) -> Vec<&'a str> {
    names.iter().map(|name| name.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonempty::nonempty;

    fn document(value: Value) -> Document {
        let Value::Object(document) = value else { panic!("not an object: {value}") };
        document
    }

    fn names<'a>(names: &[&'a str]) -> NonEmpty<Name<'a>> {
        NonEmpty::from_vec(names.iter().map(|n| Name::new(n).unwrap()).collect()).unwrap()
    }

    fn create(bodies: &NonEmpty<Document>) -> Call {
        Call::create_all(
            route!(POST "/v1/mgmt/role/create"),
            route!(POST "/v1/mgmt/role/create/batch"),
            "roles",
            bodies,
        )
    }

    fn update(bodies: &NonEmpty<Document>) -> Call {
        Call::update_all(
            route!(POST "/v1/mgmt/role/update"),
            route!(POST "/v1/mgmt/role/update/batch"),
            "roles",
            bodies,
        )
    }

    fn delete(names: &NonEmpty<Name<'_>>) -> Call {
        let many = deletion!(POST "/v1/mgmt/role/delete/batch");
        Call::delete_all(deletion!(POST "/v1/mgmt/role/delete"), many, "roleNames", names)
    }

    #[test]
    fn one_item_takes_the_single_endpoint_and_more_the_batch() {
        let a = document(json!({ "name": "a" }));
        let b = document(json!({ "name": "b" }));

        let one = create(&nonempty![a.clone()]);
        let two = create(&nonempty![a, b]);

        assert_eq!((one.path(), one.body()), ("/v1/mgmt/role/create", Some(&json!({ "name": "a" }))));
        assert_eq!(two.operation(), "POST /v1/mgmt/role/create/batch");
        assert_eq!(two.body(), Some(&json!({ "roles": [{ "name": "a" }, { "name": "b" }] })));
    }

    #[test]
    fn a_batch_delete_always_names_what_goes() {
        let two = delete(&names(&["a", "b"])).with("tenantId", "acme");
        let one = delete(&names(&["a"]));

        assert_eq!(two.body(), Some(&json!({ "roleNames": ["a", "b"], "tenantId": "acme" })));
        assert_eq!((one.path(), one.body()), ("/v1/mgmt/role/delete", Some(&json!({ "name": "a" }))));
        assert!(Name::new("").is_err(), "an empty name might be read as no filter");
    }

    #[test]
    fn reads_overwrites_and_patches_may_be_repeated_and_nothing_else() {
        let keep = document(json!({ "name": "a", "newName": "a" }));
        let rename = document(json!({ "name": "a", "newName": "b" }));
        let body = document(json!({ "name": "Acme" }));

        for call in [
            Call::list(route!(GET "/v1/mgmt/role/all"), "roles", "name"),
            Call::license(),
            update(&nonempty![keep.clone(), keep.clone()]),
            update(&nonempty![keep.clone()]),
            Call::update(route!(PATCH "/v1/mgmt/tenant/patch"), body.clone()),
        ] {
            assert!(call.is_repeatable(), "{}", call.operation());
        }
        for call in [
            create(&nonempty![body.clone()]),
            update(&nonempty![keep, rename.clone()]),
            update(&nonempty![rename]),
            delete(&names(&["a"])),
            delete(&names(&["a", "b"])),
            Call::create(route!(POST "/v1/mgmt/tenant/create"), body),
        ] {
            assert!(!call.is_repeatable(), "{}", call.operation());
        }
    }
}
