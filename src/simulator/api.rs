//! A call of the Management API: which ones exist, and what runs one of them.

use super::fields::Document;
use super::fields::Fields;
use super::kinds;
use super::kinds::Target;
use super::options::Batch;
use super::options::DeleteAbsent;
use super::options::DeleteUsed;
use super::options::ListOrder;
use super::options::Switches;
use super::refusal::Refusal;
use super::table::Row;
use super::view;
use super::view::Keyed;
use super::view::Look;
use super::view::Shown;
use super::view::View;
use super::world::Shelf;
use super::world::World;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::sync::Arc;

/// One call.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path. A last segment in braces takes any one, percent-decoded: the call reads it as a parameter.
    pub path: &'static str,
    /// How it counts.
    pub sort: Sort,
    run: Run,
}

/// How a call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Exempt from the limit; neither read nor write.
    Exempt,
    Read,
    Write,
    /// A write of the one document that holds the project's own settings: two of them at once may conflict.
    ProjectWrite,
    /// No call of the API.
    Unknown,
}

type Run = fn(&mut Call<'_>) -> Result<Vec<u8>, Refusal>;

/// A call outside the rate limit.
pub const fn exempt(method: &'static str, path: &'static str, run: Run) -> Route {
    Route { method, path, sort: Sort::Exempt, run }
}

/// A call that changes nothing.
pub const fn read(method: &'static str, path: &'static str, run: Run) -> Route {
    Route { method, path, sort: Sort::Read, run }
}

/// A call that changes something.
pub const fn write(method: &'static str, path: &'static str, run: Run) -> Route {
    Route { method, path, sort: Sort::Write, run }
}

/// A call that changes the project's own settings.
pub const fn project_write(method: &'static str, path: &'static str, run: Run) -> Route {
    Route { method, path, sort: Sort::ProjectWrite, run }
}

/// The call with this method and path, and what a segment in braces stands for: its name and value.
pub fn route(method: &str, path: &str) -> Option<(&'static Route, Option<(String, String)>)> {
    let routes = || kinds::ALL.iter().flat_map(|kind| kind.routes()).filter(|route| route.method == method);
    if let Some(route) = routes().find(|route| route.path == path) {
        return Some((route, None));
    }
    let (folder, value) = path.rsplit_once('/')?;
    let value = percent_decode_str(value).decode_utf8().ok().filter(|value| !value.is_empty())?;
    routes().find_map(|route| {
        let name = route.path.strip_prefix(folder)?.strip_prefix("/{")?.strip_suffix('}')?;
        Some((route, Some((name.to_owned(), value.clone().into_owned()))))
    })
}

/// A call that runs.
#[derive(Debug)]
pub struct Call<'a> {
    /// The project.
    pub world: &'a mut World,
    /// The answers to the open questions.
    pub switches: &'a Switches,
    /// Fields of the body.
    pub body: Fields,
    /// The id of the project.
    pub project: &'a str,
    /// Parameters of the query.
    pub query: &'a [(String, String)],
    /// Draws of this request.
    pub rng: fastrand::Rng,
    /// What was applied stays although the call is refused.
    keep: bool,
}

/// Runs a call. A refused one leaves the world as it was, unless batches are switched to partial.
pub fn run(
    route: &Route,
    world: &mut World,
    switches: &Switches,
    project: &str,
    query: &[(String, String)],
    body: &[u8],
    rng: fastrand::Rng,
) -> Result<Vec<u8>, Refusal> {
    let mut body = Value::Object(document(body)?);
    if switches.normalizes && route.sort != Sort::Read {
        normalize(&mut body, false);
    }
    let Value::Object(body) = body else { return Err(Refusal::Malformed("the body is not a JSON object".to_owned())) };
    let body = Fields::new(body);
    let mark = world.mark();
    let mut call = Call { world, switches, body, project, query, rng, keep: false };
    let result = (route.run)(&mut call);
    if result.is_err() && !call.keep {
        call.world.undo(&mark);
    }
    result
}

/// No bytes and `{}` are the same.
fn document(body: &[u8]) -> Result<Document, Refusal> {
    if body.is_empty() {
        return Ok(Document::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(_) | Err(_) => Err(Refusal::Malformed("the body is not a JSON object".to_owned())),
    }
}

/// Texts lose their outer blanks, domains their capitals.
fn normalize(value: &mut Value, is_domain: bool) {
    match value {
        Value::String(text) => {
            *text = text.trim().to_owned();
            if is_domain {
                *text = text.to_lowercase();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalize(item, is_domain)),
        Value::Object(fields) => {
            for (name, value) in fields {
                normalize(value, name.to_lowercase().ends_with("domains"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl<'a> Call<'a> {
    /// A parameter of the query that must be there.
    pub fn parameter(&self, name: &str) -> Result<&'a str, Refusal> {
        let found = self.query.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str()).ok_or_else(|| Refusal::required(name))
    }

    /// A parameter of the query that may be empty or missing.
    pub fn optional(&self, name: &str) -> &'a str {
        self.parameter(name).unwrap_or_default()
    }

    /// A look at the world as it is.
    pub fn look(&mut self) -> Look<'_> {
        Look::new(self.world, self.switches, self.rng.fork())
    }

    /// A list answer, as late and in the order that the switches say.
    pub fn listed<T: Row + Shown>(
        &mut self,
        key: &'static str,
        place: Shelf<T>,
        shown: impl Fn(&T) -> bool,
    ) -> Vec<u8> {
        let rows = self.rows(place, shown);
        let look = self.look();
        let views: Vec<_> = rows.iter().map(|row| View { look: &look, row: &**row }).collect();
        view::bytes(&Keyed(key, views))
    }

    /// Rows for a list answer, as late and in the order that the switches say.
    pub fn rows<T: Row + Shown>(&mut self, place: Shelf<T>, shown: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut rows = self.world.table(place).as_of(self.switches.read_delay);
        rows.retain(|row| shown(row));
        if self.switches.list_order == ListOrder::Shuffled {
            self.rng.shuffle(&mut rows);
        }
        rows
    }

    /// A row for the answer of a load, as late as the switches say.
    pub fn loaded<T: Row + Shown>(&self, place: Shelf<T>, number: u64) -> Option<Arc<T>> {
        self.world.table(place).get_as_of(number, self.switches.read_delay)
    }

    /// One row as an answer.
    pub fn shown<T: Shown>(&mut self, row: &T) -> Vec<u8> {
        let look = self.look();
        view::bytes(&View { look: &look, row })
    }

    /// Removes an entity unless something still refers to it and the switches then refuse.
    pub fn remove(&mut self, target: &Target, remove: fn(&mut World, &Target)) -> Result<(), Refusal> {
        if self.switches.delete_used == DeleteUsed::Error && kinds::is_used(self.world, target) {
            return Err(Refusal::Invalid(format!("{} is still in use", target.name)));
        }
        remove(self.world, target);
        Ok(())
    }

    /// What a delete of something absent comes to.
    pub fn absent(&self, refusal: Refusal) -> Result<(), Refusal> {
        match self.switches.delete_absent {
            DeleteAbsent::Error => Err(refusal),
            DeleteAbsent::Success => Ok(()),
        }
    }

    /// Does one thing for every item of a batch: all or nothing, unless the switch says otherwise.
    pub fn each(
        &mut self,
        items: Vec<Fields>,
        one: fn(&mut Self, Fields) -> Result<u64, Refusal>,
    ) -> Result<Vec<u64>, Refusal> {
        let (mut done, mut refused) = (Vec::new(), None);
        for item in items {
            let mark = self.world.mark();
            match one(self, item) {
                Ok(number) => done.push(number),
                Err(refusal) if self.switches.batch == Batch::Atomic => return Err(refusal),
                Err(refusal) => {
                    self.world.undo(&mark);
                    refused.get_or_insert(refusal);
                }
            }
        }
        match refused {
            Some(refusal) => {
                self.keep = true;
                Err(refusal)
            }
            None => Ok(done),
        }
    }

    /// The answer of a call that has nothing to say.
    pub fn nothing() -> Vec<u8> {
        b"{}".to_vec()
    }

    /// Takes the body and lets nothing else be in it.
    pub fn ends(&mut self) -> Result<(), Refusal> {
        std::mem::take(&mut self.body).end(self.switches)
    }
}
