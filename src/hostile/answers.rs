//! What the API answers to whatever is asked: pieces between NULs, in turn. One that begins with a number has that status.

use crate::backoff::Backoff;
use crate::descope::Client;
use crate::descope::Settings;
use crate::descope::transport::Request;
use crate::descope::transport::Response;
use crate::descope::transport::Transport;
use crate::descope::transport::TransportError;
use crate::desired::Desired;
use crate::desired::check::Checker;
use crate::desired::export;
use crate::desired::merge;
use crate::desired::secrets::Fence;
use crate::hostile::wait_for;
use crate::limiter;
use crate::limiter::Limiter;
use crate::observed;
use crate::observed::Observed;
use crate::plan;
use crate::plan::DriftRules;
use crate::plan::Guards;
use crate::plan::Inputs;
use crate::plan::Policy;
use crate::plan::Sent;
use crate::plan::Watch;
use crate::plan::guards::Most;
use crate::plan::render;
use crate::resource;
use crate::resource::Document;
use crate::resource::Documents;
use crate::resource::Key;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use async_trait::async_trait;
use reqwest::header::HeaderMap;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

pub fn attempt(bytes: &[u8]) {
    wait_for(async {
        let client = client(bytes);
        let named = resource::ALL.iter().map(|kind| Key::new(kind.name(), "a")).collect();
        let seen = observed::fetch(&client, resource::ALL.iter().copied(), &named).await;
        told(&Desired::default(), &seen);
        drop(client.events(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH).await);

        let seen = observed::everything(&client, resource::ALL, &|_| true, &|_, _| {}).await;
        let live: BTreeMap<&'static str, Vec<Document>> =
            seen.kinds.into_iter().filter_map(|(name, documents)| Some((name, documents.ok()?))).collect();
        let export = export::export(&live, &[], &|_| true, &[]);
        let desired = read(&export.files);
        told(&desired, &observed(live));
    });
}

/// What was exported is a desired state.
fn read(files: &BTreeMap<String, String>) -> Desired {
    let mut env = globset::GlobSetBuilder::new();
    env.add(globset::Glob::new("*").unwrap());
    let fence = Fence { env: env.build().unwrap(), ..Fence::default() };
    let checker = Checker { kinds: resource::ALL, fence: &fence };
    let yaml = files.iter().filter(|(path, _)| Path::new(path).extension().is_some_and(|end| end == "yaml"));
    let reports: Vec<_> = yaml
        .map(|(path, text)| {
            let path = Arc::from(&**path);
            let mut report = checker.check(&path, text);
            for named in std::mem::take(&mut report.named) {
                let content = files.get(&*named.path).cloned().ok_or_else(|| "is not there".to_owned());
                report.fill(&path, &named, content);
            }
            Arc::new(report)
        })
        .collect();
    merge::merge(resource::ALL, &reports).desired
}

fn observed(live: BTreeMap<&'static str, Vec<Document>>) -> Observed {
    let packed = |(name, documents)| Some((name, Ok(Documents::of_kind(resource::kind(name)?, documents))));
    Observed { began: Instant::now(), kinds: live.into_iter().filter_map(packed).collect(), unread: BTreeMap::new() }
}

/// The plan of everything, as text and as JSON.
fn told(desired: &Desired, observed: &Observed) {
    let most = || Most { default: 10, by_kind: BTreeMap::new(), percent: 20.0 };
    let plan = plan::diff(&Inputs {
        scope: "a",
        desired,
        observed,
        owned: &BTreeMap::new(),
        ids: &HashMap::new(),
        sent: &|_, _, _| Sent::Unknown,
        secret: &|_, _, _| Ok(Sent::Different),
        document: &|_, _, _, _| false,
        previews: &BTreeMap::new(),
        renamed: &|_, _| false,
        policy: Policy::Sync,
        builtin_roles: &[],
        guards: &Guards {
            deletes: most(),
            missing: most(),
            max_change_percent: Some(50.0),
            weakening: Watch::Hold,
            lockout: Watch::Hold,
        },
        first_contact: true,
        former: None,
        holds_contact: true,
        is_contacted: &|_, _| false,
        windows: &BTreeMap::new(),
        drift: &DriftRules::HEAL,
        applied: &|_| None,
        drifted_since: &|_, _| None,
        now: SystemTime::UNIX_EPOCH,
        lost: &BTreeMap::new(),
        volume: &|| None,
        place: &|_| 0,
        may_delete: &|_| true,
        contested: &|_| None,
        is_approved: &|_| true,
    });
    let report = render::Report::new(vec![render::ProjectReport::told("a", &plan, render::Pace::Free)]);
    serde_json::to_string(&report).unwrap();
    render::text(&report, render::Style::default());
}

/// Never throttled: that would be waited out.
struct Answers {
    pieces: Vec<(u16, Vec<u8>)>,
    next: AtomicUsize,
}

impl Answers {
    fn of(bytes: &[u8]) -> Self {
        let piece = |piece: &[u8]| {
            let status = piece.get(..3).and_then(|start| std::str::from_utf8(start).ok()?.parse::<u16>().ok());
            match status {
                Some(status) if status != 429 => (status, piece[3..].to_vec()),
                Some(_) | None => (200, piece.to_vec()),
            }
        };
        Self { pieces: bytes.split(|byte| *byte == 0).map(piece).collect(), next: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl Transport for Answers {
    async fn send(&self, _: Request, _: Instant) -> Result<Response, TransportError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let (status, body) = self.pieces[turn % self.pieces.len()].clone();
        Ok(Response { status, headers: HeaderMap::new(), body })
    }
}

pub fn client(bytes: &[u8]) -> Client {
    let settings = Settings {
        project_id: "P2abc".to_owned(),
        base_url: Url::parse("https://api.example.com/").unwrap(),
        request_timeout: Duration::from_secs(30),
        retry: Backoff { max_attempts: 1, initial: Duration::from_millis(1), max: Duration::from_millis(1) },
        redactor: Redactor::new(),
    };
    let metrics = Arc::new(Metrics::new());
    let free = limiter::Settings { limit: None, ..limiter::Settings::default() };
    let limiter = Limiter::new("api.example.com", free, None, Arc::clone(&metrics));
    let answers = Arc::new(Answers::of(bytes));
    Client::new(settings, Arc::new(|| Ok("K2secret".into())), answers, limiter, metrics, CancellationToken::new())
}
