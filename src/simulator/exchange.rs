//! One request from the moment it counts: limit, faults, key, call, log.

use super::api;
use super::api::Sort;
use super::fault;
use super::fault::Asked;
use super::fault::Ending;
use super::fault::Rule;
use super::gate::Gate;
use super::kinds::audit;
use super::log;
use super::log::Entry;
use super::log::Log;
use super::options::LimitBy;
use super::options::Options;
use super::options::Switches;
use super::options::ThrottleBody;
use super::refusal::Refusal;
use super::reply::Reply;
use super::world::World;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use std::time::SystemTime;

/// A request as it was read.
#[derive(Debug)]
pub struct Request {
    /// From where.
    pub source: IpAddr,
    /// The method.
    pub method: String,
    /// The path, without query.
    pub path: String,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Everything the simulator remembers.
#[derive(Debug)]
pub struct Store {
    pub seed: u64,
    pub worlds: BTreeMap<String, World>,
    pub switches: Switches,
    pub faults: Vec<Rule>,
    pub gate: Gate,
    pub log: Log,
    arrived: u64,
    /// How often each project's own settings were written.
    versions: BTreeMap<String, u64>,
}

/// A request that has arrived and not taken effect yet.
#[derive(Debug)]
pub struct Arrival {
    /// Its draws. They depend on its number alone, not on how many draws the ones before it made.
    pub rng: fastrand::Rng,
    /// How often the project's own settings had been written.
    version: u64,
}

impl Store {
    /// Nothing has happened yet.
    pub fn new(options: Options) -> Self {
        Self {
            seed: options.seed,
            worlds: BTreeMap::new(),
            switches: options.switches,
            faults: options.faults,
            gate: Gate::new(options.limit, options.seed),
            log: Log::default(),
            arrived: 0,
            versions: BTreeMap::new(),
        }
    }

    /// The next request has come in.
    pub fn arrive(&mut self, request: &Request) -> Arrival {
        self.arrived += 1;
        let rng = super::rate_limit::rng(self.seed ^ super::hash(&self.arrived.to_string()));
        Arrival { rng, version: self.version(bearer(request.authorization.as_deref()).0) }
    }

    fn version(&self, project: &str) -> u64 {
        self.versions.get(project).copied().unwrap_or_default()
    }

    /// The round trip of a request.
    pub fn latency(&self, rng: &mut fastrand::Rng) -> Duration {
        let (median, sigma) = (self.switches.latency, self.switches.latency_sigma);
        if median.is_zero() || sigma <= 0.0 {
            return median;
        }
        // Box and Muller.
        let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
        median.mul_f64((sigma * normal).exp().min(20.0))
    }

    /// The world of a project; a new one where nobody asked for it before.
    pub fn world(&mut self, project: &str) -> &mut World {
        let seed = self.seed ^ super::hash(project);
        self.worlds.entry(project.to_owned()).or_insert_with(|| World::new(seed))
    }

    /// Takes a request at `now` (since the start), and says how it ends and how long it is held up besides latency.
    pub fn take(&mut self, now: Duration, request: &Request, mut arrival: Arrival) -> (Ending, Duration) {
        let (project, key) = bearer(request.authorization.as_deref());
        let shown = log::shown(&request.body);
        let route = api::route(&request.method, &request.path);
        let sort = route.as_ref().map_or(Sort::Unknown, |(route, _)| route.sort);
        let operation = route.as_ref().map(|(route, _)| route.path);
        let mut rate_headers = Vec::new();
        let mut entry = Entry {
            seq: 0,
            time: unix_millis(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.iter().cloned().collect(),
            body: shown.to_string(),
            project: project.to_owned(),
            status: None,
            effect: false,
            fault: None,
            in_lockout: false,
        };

        if sort != Sort::Exempt {
            let source = match self.switches.limit_by {
                LimitBy::Source => request.source.to_string(),
                LimitBy::Project => project.to_owned(),
            };
            let pass = self.gate.request(now, &source);
            entry.in_lockout = pass.in_lockout;
            rate_headers = pass.headers;
            if let Some(mut headers) = pass.refused {
                headers.append(&mut rate_headers);
                entry.status = Some(429);
                self.log.add(entry, sort, operation);
                return (Ending::Answer(throttled(self.switches.throttle_body, headers)), Duration::ZERO);
            }
        }

        let asked =
            Asked { method: &request.method, path: &request.path, project, query: &request.query, body: &shown };
        let rule = fault::pick(&mut self.faults, self.switches.fault_rate, asked, &mut arrival.rng);
        let mut reply = Reply::text(200, "");
        if rule.as_ref().is_none_or(Rule::has_effect) {
            (reply, entry.effect) = self.answer(now, request, project, key, arrival);
        }
        entry.fault = rule.as_ref().map(|rule| rule.fault.name());
        let delay = rule.as_ref().map_or(Duration::ZERO, |rule| rule.delay);
        let ending = match rule {
            Some(rule) => rule.end(asked, reply),
            None => Ending::Answer(reply),
        };
        let ending = match ending {
            Ending::Answer(reply) => {
                Ending::Answer(rate_headers.into_iter().fold(reply, |it, (name, text)| it.with(name, text)))
            }
            Ending::Drop | Ending::Hang => ending,
        };
        entry.status = match &ending {
            Ending::Answer(reply) => Some(reply.status),
            Ending::Drop | Ending::Hang => None,
        };
        self.log.add(entry, sort, operation);
        (ending, delay)
    }

    /// Runs the call. Also answers whether it changed anything.
    fn answer(
        &mut self,
        now: Duration,
        request: &Request,
        project: &str,
        key: &str,
        arrival: Arrival,
    ) -> (Reply, bool) {
        let right = self.switches.management_key.as_deref().is_none_or(|right| right == key);
        if project.is_empty() || key.is_empty() || !right {
            return (Refusal::BadKey.reply(&self.switches), false);
        }
        let Some((route, segment)) = api::route(&request.method, &request.path) else {
            return (Refusal::NoSuchCall.reply(&self.switches), false);
        };
        let switches = self.switches.clone();
        let version = self.version(project);
        let world = self.world(project);
        world.advance(now, switches.read_delay);
        if world.since.is_some_and(|since| now < since + switches.new_project_refuses) {
            let refusal = Refusal::forbidden("E111009", "the management key cannot be used with this project yet");
            return (refusal.reply(&switches), false);
        }
        if switches.version_conflicts && route.sort == Sort::ProjectWrite && version != arrival.version {
            let message = "version conflict: the project was changed meanwhile".to_owned();
            return (Refusal::Coded { status: 400, code: "E111604", message }.reply(&switches), false);
        }
        let mark = world.mark();
        let query: Vec<_> = segment.into_iter().chain(request.query.iter().cloned()).collect();
        let result = api::run(route, world, &switches, project, &query, &request.body, arrival.rng);
        let effect = world.mark() != mark;
        if effect && !route.path.contains("/audit/") {
            audit::note_call(world, route.path, &request.body, &format!("K2{:016x}", super::hash(key)));
        }
        if effect && route.sort == Sort::ProjectWrite {
            *self.versions.entry(project.to_owned()).or_default() += 1;
        }
        match result {
            Ok(body) => (Reply::of_json(200, body), effect),
            Err(refusal) => (refusal.reply(&switches), effect),
        }
    }
}

/// `Bearer PROJECT:KEY`.
fn bearer(authorization: Option<&str>) -> (&str, &str) {
    authorization.and_then(|value| value.strip_prefix("Bearer ")?.split_once(':')).unwrap_or_default()
}

fn throttled(body: ThrottleBody, headers: Vec<(&'static str, String)>) -> Reply {
    let reply = match body {
        ThrottleBody::Json => Reply::json(
            429,
            &json!({
                "errorCode": "E130429", "errorDescription": "https://docs.descope.com/rate-limit",
                "errorMessage": "API rate limit exceeded.",
            }),
        ),
        ThrottleBody::Code => Reply::json(429, &json!({ "errorCode": "E130429" })),
        ThrottleBody::Text => Reply::json(429, &Value::String("aaa".to_owned())),
        ThrottleBody::Empty => Reply::text(429, ""),
    };
    headers.into_iter().fold(reply, |reply, (name, value)| reply.with(name, value))
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn memory(seed: u64) -> Store {
        let switches = Switches { latency: Duration::from_millis(50), latency_sigma: 0.4, ..Switches::default() };
        Store::new(Options { seed, switches, ..Options::default() })
    }

    fn request(body: &str) -> Request {
        Request {
            source: Ipv4Addr::LOCALHOST.into(),
            method: "POST".into(),
            path: "/v1/mgmt/tenant/create".into(),
            query: Vec::new(),
            authorization: Some("Bearer P2:K2".into()),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_same_requests_and_seed_give_the_same_answers() {
        let play = |seed| {
            let mut memory = memory(seed);
            memory.switches.fault_rate = 0.3;
            let ask = |memory: &mut Store, body: &str| {
                let request = request(body);
                let arrival = memory.arrive(&request);
                format!("{:?}", memory.take(Duration::ZERO, &request, arrival))
            };
            (0..50).map(|i| ask(&mut memory, &format!(r#"{{"name":"tenant {i}"}}"#))).collect::<Vec<_>>()
        };

        assert_eq!(play(7), play(7));
        assert_ne!(play(7), play(8));
    }

    #[test]
    fn round_trips_spread_around_the_median() {
        let mut memory = memory(1);
        let mut draws: Vec<Duration> = (0..1001)
            .map(|_| {
                let mut arrival = memory.arrive(&request(""));
                memory.latency(&mut arrival.rng)
            })
            .collect();
        draws.sort();

        let median = draws[500].as_secs_f64();
        assert!((0.046..0.054).contains(&median), "{median}");
        assert!(draws[1000] > Duration::from_millis(100) && draws[0] < Duration::from_millis(25));
    }

    #[test]
    fn a_bearer_without_project_or_key_is_none() {
        assert_eq!(bearer(Some("Bearer P2:K2:x")), ("P2", "K2:x"));
        assert_eq!(bearer(Some("Bearer K2")), ("", ""));
        assert_eq!(bearer(Some("Basic P2:K2")), ("", ""));
        assert_eq!(bearer(None), ("", ""));
    }
}
