//! Users.

use super::Call;
use super::entities::{self, new, page, renamed, subject};
use super::error::{IamError, IamResult};
use super::names::arn;
use crate::s3::dates;
use crate::s3::xml::Xml;
use store_base::identity::{Change, Entity, Kind};

const KIND: Kind = Kind::User {};

pub(super) async fn create(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let entity = new(call, KIND)?;
    let account = call.account();
    call.check("CreateUser", &arn(account, "user", &entity.path, &entity.name))?;
    check_free(call, &entity.name)?;
    call.change(account, Change::Create { kind: KIND, entity: entity.clone() }).await?;
    entities::write(xml, account, KIND, &entity, "User");
    Ok(())
}

/// The name of the account is its root user's.
fn check_free(call: &Call, name: &str) -> IamResult<()> {
    match name.eq_ignore_ascii_case(call.account()) {
        false => Ok(()),
        true => Err(IamError::present(format!("User with name {name} already exists."))),
    }
}

pub(super) async fn show(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "GetUser").await?;
    if !found.is_root() {
        entities::write(xml, &found.account, KIND, &found.entity, "User");
        return Ok(());
    }
    xml.open("User");
    xml.text("Path", "/");
    xml.text("UserName", &found.account);
    xml.text("UserId", &found.account);
    xml.text("Arn", &format!("arn:aws:iam::{}:root", found.account));
    // When the monitor made him is not told to gateways.
    xml.text("CreateDate", &dates::iso(0));
    xml.close("User");
    Ok(())
}

pub(super) async fn update(call: &Call, _: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "UpdateUser").await?;
    check_member(&found)?;
    let (new_name, new_path) = renamed(call, "NewUserName")?;
    let name = new_name.as_deref().unwrap_or(&found.entity.name);
    check_free(call, name)?;
    let path = new_path.as_deref().unwrap_or(&found.entity.path);
    call.check("UpdateUser", &arn(&found.account, "user", path, name))?;
    let Entity { name, .. } = found.entity;
    let change = Change::Update {
        kind: KIND,
        name,
        new_name,
        new_path,
        trust: None,
        description: None,
        session_secs_max: None,
    };
    call.change(&found.account, change).await
}

fn check_member(found: &entities::Subject) -> IamResult<()> {
    match found.is_root() {
        false => Ok(()),
        true => Err(IamError::unmodifiable(
            "The root user of an account is changed by the cluster's administrators.",
        )),
    }
}

pub(super) async fn delete(call: &Call, _: &mut Xml) -> IamResult<()> {
    let name = call.required("UserName")?.to_owned();
    let found = subject(call, KIND, "DeleteUser").await?;
    check_member(&found)?;
    call.change(&found.account, Change::Delete { kind: KIND, name }).await
}

pub(super) async fn list(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let prefix = call.value("PathPrefix").unwrap_or("/");
    call.check("ListUsers", &arn(call.account(), "user", prefix, ""))?;
    let found = page(call, KIND, "").await?;
    entities::write_list(xml, call.account(), KIND, "Users", &found);
    Ok(())
}
