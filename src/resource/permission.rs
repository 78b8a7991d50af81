//! `permissions`: what roles grant, by name.

use super::kind::Kind;
use super::kind::creating;
use super::kind::each;
use super::kind::overwriting;
use super::kind::unsendable;
use super::spec::Builtin;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Spec;
use super::spec::Verbs;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use async_trait::async_trait;
use nonempty::NonEmpty;

static SPEC: Spec = Spec {
    name: "permissions",
    identity: Identity::many("name"),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[
            Field::name("name").at_most(100),
            Field::text("description").at_most(254),
            Field::text("id").computed(),
            Field::flag("systemDefault").computed(),
        ],
    }],
    // No source tells how many the API takes; a batch is one transaction, so it stays small enough to be split.
    verbs: Verbs { rename: true, batch: 100, ..Verbs::ALL },
    builtin: Builtin::Marked("systemDefault"),
    foreign: Some("appId"),
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct Permissions;

#[async_trait]
impl Kind for Permissions {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list_permissions()
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let call = match items.head.write {
            Write::Create(_) => Call::create_permissions(&each(items, creating)?),
            Write::Overwrite { .. } => Call::update_permissions(&each(items, overwriting)?),
            Write::Delete { .. } => Call::delete_permissions(&each(items, |item| match item.write {
                Write::Delete { .. } => Name::new(&item.key.name),
                Write::Create(_) | Write::Overwrite { .. } | Write::Patch(_) => Err(unsendable(item)),
            })?),
            Write::Patch(_) => return Err(unsendable(&items.head)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}
