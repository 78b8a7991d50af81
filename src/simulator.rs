//! A stand-in for the Descope Management API, for demos, tests and trials without an account.
//!
//! It holds one world per project (the part of the bearer before the colon) in memory and answers the calls of the
//! kinds in `simulator/kinds/` as the official SDKs know them; every other path is 404. It shares no code with the client, so the
//! two check one another. Equal requests and an equal seed give equal answers.
//!
//! A request counts after half of its latency. Then, in this order: the rate limit (the license call is exempt),
//! scripted and drawn faults, the key, the call.
//!
//! # `/_sim`
//!
//! Beside the API it answers, without key, limit or fault, JSON all:
//!
//! | call | does |
//! | --- | --- |
//! | `GET /_sim/log?since=SEQ` | every API request in the order it took effect: `seq`, `time` (Unix ms), `method`, `path`, `query`, `body`, `project`, `status` (null: no answer was sent), `effect` (it changed something), `fault`, `inLockout`. Never the authorization; secret fields read `(secret)`. The last 500,000 are kept, or as many as fit into 256 MiB |
//! | `DELETE /_sim/log` | forgets them; `seq` goes on |
//! | `GET /_sim/stats` | `requests`, `admitted`, `throttled`, `duringLockout`, `reads`, `writes` (admitted calls that would change something, whatever became of them), `applied` (requests that did), `faults`, `operations` (`"POST /v1/mgmt/role/create": { "200": 3 }`; status `none`: no answer; `other`: no call of the API), `background` |
//! | `DELETE /_sim/stats` | counts anew |
//! | `GET /_sim/state` | `{ "projects": { ID: state } }` |
//! | `GET /_sim/state?project=ID` | `{ KIND: [entity] }` of every kind, with what the API never returns, secrets included |
//! | `PUT /_sim/state?project=ID` | replaces that world. A list left out is that of a new project; system permissions are always there; ids and times left out are made. Or `{ "projects": { ID: state } }` without `project` |
//! | `PUT /_sim/state/KIND/KEY` | merges fields into one entity, or adds it; KEY is percent-encoded, a tenant's `id`, otherwise the `name`; `?tenant=ID` for what belongs to a tenant, `?project=ID` unless there is exactly one. Unknown fields are stored: reads carry them, an update that sends them is accepted, one that does not removes them; null removes them. Edits show at once, whatever `readDelay` says |
//! | `DELETE /_sim/state/KIND/KEY` | removes one entity and the references to it |
//! | `GET`, `PUT /_sim/options` | the [`Switches`], which `simulator --help` lists; a PUT changes those it names, as `--set` does at the start |
//! | `GET`, `PUT /_sim/rate-limit` | the [`Limit`]; a PUT changes what it names (`{ "n": 50 }` keeps what was counted), `null` turns it off |
//! | `GET`, `PUT`, `DELETE /_sim/faults` | the list of scripted faults |
//!
//! # Faults
//!
//! A list of [`Rule`]s; the first that fits a request takes it:
//!
//! ```json
//! [{ "match": { "method": "POST", "path": "/v1/mgmt/role/*", "item": "Editor", "nth": 2, "times": 3 },
//!    "fault": "status", "status": 503, "body": {}, "delay": "2s", "effect": true, "rate": 0.5 }]
//! ```
//!
//! `match` may also have `project`, `query` (parameters that it must have) and `body` (fields that the body or one item of
//! its batch must have). `item` is a
//! name or id of the entity, of an item of a batch, or in a batch delete: `{ "match": { "item": "X" }, "fault":
//! "status", "status": 400 }` refuses one resource, `{ "match": { "path": "/v1/mgmt/role/*" }, "fault": "status",
//! "status": 403 }` a whole kind. Faults: `status`, `html200`, `empty200`, `truncated_list` (`keep` items, or half),
//! `empty_list`, `null_list` and `object_list` (what stands where the list should), `twice` (one item comes twice), `wrong_types`
//! (of the `fields`, or of all but `id` and `name`), `html` (a page, by default with 403), `reset_before`, `reset_after`, `hang`,
//! `malformed_json`, `short_body` and `endless_body` (of the answer, or of the refusal that `status` names), `echo_request`,
//! `redirect` (with a `location` in `headers`), `delay`. `effect` says whether the call runs before the fault; by default it does for `reset_after`, `malformed_json`,
//! `delay` and those that alter a list.

mod api;
mod control;
mod entity;
mod exchange;
mod fault;
mod fields;
mod gate;
mod kinds;
mod log;
mod options;
pub mod rate_headers;
pub mod rate_limit;
mod refusal;
mod reply;
mod server;
mod state;
mod table;
mod view;
mod world;

pub use fault::Fault;
pub use fault::Match;
pub use fault::Rule;
pub use gate::Limit;
pub use gate::LimitKind;
pub use gate::Neighbours;
pub use gate::RetryAfterForm;
pub use options::Batch;
pub use options::DeleteAbsent;
pub use options::DeleteParent;
pub use options::DeleteUsed;
pub use options::EmptyDelete;
pub use options::LimitBy;
pub use options::ListOrder;
pub use options::Options;
pub use options::PatchAttributes;
pub use options::PatchEmptyList;
pub use options::RenameCollision;
pub use options::Switches;
pub use options::ThrottleBody;
pub use options::UnknownFields;
pub use options::UnknownPermission;
pub use options::describe;
pub use rate_headers::HeaderForm;
pub use rate_headers::Honesty;

use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The simulator.
#[derive(Debug)]
pub struct Simulator;

/// A simulator that runs; dropped, it stops at once.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Cancelled, it stops accepting and lets requests in flight end.
    pub shutdown: CancellationToken,
    server: JoinSet<()>,
}

impl Simulator {
    /// Listens, and serves from now on. Errs when the address cannot be had, or the projects make no sense.
    pub async fn start(mut options: Options) -> io::Result<Running> {
        let projects = std::mem::take(&mut options.projects);
        let listener = TcpListener::bind(options.listen).await?;
        let (addr, shutdown) = (listener.local_addr()?, CancellationToken::new());
        let mut memory = exchange::Store::new(options);
        control::fill(&mut memory, projects)
            .map_err(|refusal| io::Error::new(io::ErrorKind::InvalidInput, format!("{refusal:?}")))?;
        let shared = server::Shared::new(memory, shutdown.clone());
        let mut server = JoinSet::new();
        server.spawn(server::run(listener, shared));
        Ok(Running { addr, shutdown, server })
    }
}

impl Running {
    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops, and waits until everything has ended.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        self.ended().await;
    }

    /// Waits until it has stopped.
    pub async fn ended(&mut self) {
        while self.server.join_next().await.is_some() {}
    }
}

/// FNV-1a: the same on every machine and in every version, which the standard hasher does not promise.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
