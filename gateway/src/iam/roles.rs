//! Roles: what can be assumed, and by whom.

use super::Call;
use super::entities::{self, new, page, subject};
use super::error::{IamError, IamResult};
use super::names::arn;
use crate::s3::policy::Policy;
use crate::s3::xml::Xml;
use store_base::identity::{Change, Entity, Kind};

const KIND: Kind = Kind::Role {};

/// How long a role may be assumed where nothing else is said, in seconds.
const SESSION_SECS_DEFAULT: u32 = 3600;

/// The longest that can be said, in seconds.
pub(super) const SESSION_SECS_MAX: u32 = 12 * 3600;

/// Longest description.
const DESCRIPTION_BYTES_MAX: usize = 1000;

fn trust(document: &str) -> IamResult<String> {
    match Policy::parse_trust(document.as_bytes()).and_then(Policy::check_keys) {
        Ok(_) => Ok(document.to_owned()),
        Err(error) => Err(IamError::malformed_policy(error.0)),
    }
}

fn description(call: &Call) -> IamResult<Option<String>> {
    match call.value("Description") {
        Some(text) if text.len() > DESCRIPTION_BYTES_MAX => {
            Err(IamError::validation("The description is too long."))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

fn session_secs_max(call: &Call) -> IamResult<Option<u32>> {
    let Some(text) = call.value("MaxSessionDuration") else { return Ok(None) };
    let secs = text.parse().ok();
    secs.filter(|secs| (SESSION_SECS_DEFAULT..=SESSION_SECS_MAX).contains(secs))
        .map(Some)
        .ok_or_else(|| IamError::validation("MaxSessionDuration is a number of 3600 to 43200."))
}

pub(super) async fn create(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let entity = Entity {
        trust: trust(call.required("AssumeRolePolicyDocument")?)?,
        description: description(call)?.unwrap_or_default(),
        session_secs_max: session_secs_max(call)?.unwrap_or(SESSION_SECS_DEFAULT),
        ..new(call, KIND)?
    };
    let account = call.account();
    call.check("CreateRole", &arn(account, "role", &entity.path, &entity.name))?;
    call.change(account, Change::Create { kind: KIND, entity: entity.clone() }).await?;
    entities::write(xml, account, KIND, &entity, "Role");
    Ok(())
}

pub(super) async fn show(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "GetRole").await?;
    entities::write(xml, &found.account, KIND, &found.entity, "Role");
    Ok(())
}

fn changed(
    name: String,
    trust: Option<String>,
    description: Option<String>,
    session_secs_max: Option<u32>,
) -> Change {
    let (new_name, new_path) = (None, None);
    Change::Update { kind: KIND, name, new_name, new_path, trust, description, session_secs_max }
}

pub(super) async fn update(call: &Call, _: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "UpdateRole").await?;
    let change = changed(found.entity.name, None, description(call)?, session_secs_max(call)?);
    call.change(&found.account, change).await
}

pub(super) async fn update_trust(call: &Call, _: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "UpdateAssumeRolePolicy").await?;
    let trust = trust(call.required("PolicyDocument")?)?;
    call.change(&found.account, changed(found.entity.name, Some(trust), None, None)).await
}

pub(super) async fn delete(call: &Call, _: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "DeleteRole").await?;
    let name = found.entity.name;
    call.change(&found.account, Change::Delete { kind: KIND, name }).await
}

pub(super) async fn list(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let prefix = call.value("PathPrefix").unwrap_or("/");
    call.check("ListRoles", &arn(call.account(), "role", prefix, ""))?;
    let found = page(call, KIND, "").await?;
    entities::write_list(xml, call.account(), KIND, "Roles", &found);
    Ok(())
}
