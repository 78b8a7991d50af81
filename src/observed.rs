//! The observed state: what the API answers, each kind by itself.

use crate::descope;
use crate::descope::Client;
use crate::resource::Document;
use crate::resource::Kind;
use std::collections::BTreeMap;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the API answered in one pass.
#[derive(Debug)]
pub struct Observed {
    /// When the first question was asked; what was written after that is not covered.
    pub began: Instant,
    /// The documents of each kind that was asked for, or why they could not be had.
    pub kinds: BTreeMap<&'static str, Result<Vec<Document>, descope::Error>>,
}

/// Asks for every given kind at once; each succeeds or fails by itself.
pub async fn fetch(client: &Client, kinds: impl IntoIterator<Item = &'static dyn Kind>) -> Observed {
    let began = Instant::now();
    let mut asked = JoinSet::new();
    for kind in kinds {
        let client = client.clone();
        asked.spawn(async move { (kind.name(), kind.list(&client).await) });
    }
    Observed { began, kinds: asked.join_all().await.into_iter().collect() }
}
