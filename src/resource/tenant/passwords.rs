//! `passwordSettings` of a tenant. One without settings of its own answers with those of the project.

use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use crate::descope::call::route;
use crate::resource::Document;
use crate::resource::kind::with;
use crate::resource::password_settings;
use crate::resource::spec::Field;
use crate::resource::spec::How;
use crate::resource::spec::Part;
use crate::resource::spec::Read;
use serde_json::Value;

/// As it stands in the state, and in the YAML.
pub const NAME: &str = "passwordSettings";

/// The part.
pub const PART: Part = Part {
    name: NAME,
    read: Read::Each,
    how: How::Overwrite,
    fields: &[Field::object(NAME, password_settings::RULES).inherits("passwordSettings")],
};

/// The newer call is for the project alone, so three rules may not be answered.
pub async fn read(client: &Client, tenant: Name<'_>) -> Result<Document, Error> {
    let call = Call::object(route!(GET "/v1/mgmt/password/settings")).query_with("tenantId", tenant.as_str());
    let answer = client.read(&call).await?;
    Ok(Document::from_iter([(NAME.to_owned(), Value::Object(answer))]))
}

/// Overwrites everything, so the body is the whole of it.
pub fn write(tenant: Name<'_>, body: &Document) -> Call {
    let rules = body.get(NAME).and_then(Value::as_object).cloned().unwrap_or_default();
    Call::update(route!(POST "/v1/mgmt/password/settings"), with(&rules, "tenantId", tenant.as_str()))
}
