//! The calls of the Management API that exist here, and what runs one of them.

use super::fields::Document;
use super::fields::Fields;
use super::options::Batch;
use super::options::ListOrder;
use super::options::Switches;
use super::permission;
use super::refusal::Refusal;
use super::role;
use super::table::Row;
use super::table::Table;
use super::tenant;
use super::view;
use super::view::Depth;
use super::view::Keyed;
use super::view::Shown;
use super::view::View;
use super::world::World;
use serde_json::Value;

/// One call.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// It changes something.
    pub writes: bool,
    run: Run,
}

type Run = fn(&mut Call<'_>) -> Result<Vec<u8>, Refusal>;

/// Exempt from the rate limit.
pub const LICENSE: &str = "/v1/mgmt/license";

const fn read(method: &'static str, path: &'static str, run: Run) -> Route {
    Route { method, path, writes: false, run }
}

const fn write(method: &'static str, path: &'static str, run: Run) -> Route {
    Route { method, path, writes: true, run }
}

const ROUTES: &[Route] = &[
    read("GET", LICENSE, |call| Ok(view::bytes(&Keyed("rateLimitTier", &call.switches.license_tier)))),
    read("GET", "/v1/mgmt/permission/all", permission::all),
    write("POST", "/v1/mgmt/permission/create", permission::create),
    write("POST", "/v1/mgmt/permission/create/batch", permission::create_batch),
    write("POST", "/v1/mgmt/permission/update", permission::update),
    write("POST", "/v1/mgmt/permission/update/batch", permission::update_batch),
    write("POST", "/v1/mgmt/permission/delete", permission::delete),
    write("POST", "/v1/mgmt/permission/delete/batch", permission::delete_batch),
    read("GET", "/v1/mgmt/role/all", role::all),
    read("POST", "/v1/mgmt/role/search", role::search),
    write("POST", "/v1/mgmt/role/create", role::create),
    write("POST", "/v1/mgmt/role/create/batch", role::create_batch),
    write("POST", "/v1/mgmt/role/update", role::update),
    write("POST", "/v1/mgmt/role/update/batch", role::update_batch),
    write("POST", "/v1/mgmt/role/delete", role::delete),
    write("POST", "/v1/mgmt/role/delete/batch", role::delete_batch),
    read("GET", "/v1/mgmt/tenant", tenant::load),
    read("GET", "/v1/mgmt/tenant/all", tenant::all),
    read("POST", "/v1/mgmt/tenant/search", tenant::search),
    write("POST", "/v1/mgmt/tenant/create", tenant::create),
    write("POST", "/v1/mgmt/tenant/update", tenant::update),
    write("PATCH", "/v1/mgmt/tenant/patch", tenant::patch),
    write("POST", "/v1/mgmt/tenant/delete", tenant::delete),
    read("GET", "/v1/mgmt/tenant/settings", tenant::settings),
    write("POST", "/v1/mgmt/tenant/settings", tenant::set_settings),
    write("POST", "/v1/mgmt/tenant/updateDefaultRoles", tenant::update_default_roles),
    write("POST", "/v2/mgmt/tenant/adminlinks/sso/generate", tenant::generate_link),
    write("POST", "/v1/mgmt/tenant/adminlinks/sso/revoke", tenant::revoke_link),
];

/// The call with this method and path.
pub fn route(method: &str, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path && route.method == method)
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
    query: &[(String, String)],
    body: &[u8],
    rng: fastrand::Rng,
) -> Result<Vec<u8>, Refusal> {
    let body = Fields::new(document(body)?);
    let mark = world.mark();
    let mut call = Call { world, switches, body, query, rng, keep: false };
    let result = (route.run)(&mut call);
    if result.is_err() && !call.keep {
        call.world.undo(mark);
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

impl Call<'_> {
    /// A parameter of the query that must be there.
    pub fn parameter(&self, name: &str) -> Result<&str, Refusal> {
        let found = self.query.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str()).ok_or_else(|| Refusal::required(name))
    }

    /// A list answer, as late and in the order that the switches say.
    pub fn listed<T: Row + Shown>(
        &mut self,
        key: &'static str,
        table: impl Fn(&World) -> &Table<T>,
        shown: impl Fn(&T) -> bool,
    ) -> Vec<u8> {
        let world = &*self.world;
        let mut rows = table(world).as_of(self.switches.read_delay);
        rows.retain(|row| shown(row));
        if self.switches.list_order == ListOrder::Shuffled {
            self.rng.shuffle(&mut rows);
        }
        let views: Vec<_> =
            rows.iter().map(|row| View { world, row: &**row, depth: Depth::of(self.switches) }).collect();
        view::bytes(&Keyed(key, views))
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
                    self.world.undo(mark);
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
