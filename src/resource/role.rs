//! `roles` (to be written).

use super::Document;
use super::Field;
use super::Key;
use super::Kind;
use super::Part;
use super::Write;
use crate::descope::Client;
use crate::descope::Error;
use async_trait::async_trait;
use nonempty::NonEmpty;

/// The kind.
#[derive(Debug)]
pub struct Roles;

#[async_trait]
impl Kind for Roles {
    fn name(&self) -> &'static str {
        "roles"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn computed(&self) -> &'static [&'static str] {
        &[]
    }
    fn key(&self, _live: &Document) -> Option<Key> {
        None
    }
    fn references(&self, _document: &Document, _part: Part) -> Vec<Key> {
        Vec::new()
    }
    fn batch_size(&self, _write: &Write) -> usize {
        1
    }
    async fn list(&self, _client: &Client) -> Result<Vec<Document>, Error> {
        Ok(Vec::new())
    }
    async fn send(&self, _client: &Client, _writes: &NonEmpty<(&Key, &Write)>) -> Result<(), Error> {
        Ok(())
    }
}
