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
use crate::descope::call::deletion;
use crate::descope::call::route;
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
        Call::list(route!(GET "/v1/mgmt/permission/all"), "permissions", "name")
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let call = match items.head.write {
            Write::Create(_) => {
                let (one, many) =
                    (route!(POST "/v1/mgmt/permission/create"), route!(POST "/v1/mgmt/permission/create/batch"));
                Call::create_all(one, many, "permissions", &each(items, creating)?)
            }
            Write::Overwrite { .. } => {
                let (one, many) =
                    (route!(POST "/v1/mgmt/permission/update"), route!(POST "/v1/mgmt/permission/update/batch"));
                Call::update_all(one, many, "permissions", &each(items, overwriting)?)
            }
            Write::Delete { .. } => {
                let names = each(items, |item| match item.write {
                    Write::Delete { .. } => Name::new(&item.key.name),
                    Write::Create(_) | Write::Overwrite { .. } | Write::Patch(_) => Err(unsendable(item)),
                })?;
                let (one, many) =
                    (deletion!(POST "/v1/mgmt/permission/delete"), deletion!(POST "/v1/mgmt/permission/delete/batch"));
                Call::delete_all(one, many, "names", &names)
            }
            Write::Patch(_) => return Err(unsendable(&items.head)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}
