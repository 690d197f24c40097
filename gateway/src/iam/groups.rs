//! Groups, and who is in them.

use super::Call;
use super::entities::{self, Page, find, new, page, renamed, subject};
use super::error::IamResult;
use super::names::{self, arn};
use crate::s3::xml::Xml;
use store_base::identity::{Change, Kind};

const KIND: Kind = Kind::Group {};

pub(super) async fn create(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let entity = new(call, KIND)?;
    let account = call.account();
    call.check("CreateGroup", &arn(account, "group", &entity.path, &entity.name))?;
    call.change(account, Change::Create { kind: KIND, entity: entity.clone() }).await?;
    entities::write(xml, account, KIND, &entity, "Group");
    Ok(())
}

pub(super) async fn show(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "GetGroup").await?;
    let users = page(call, Kind::User {}, &found.entity.name).await?;
    entities::write(xml, &found.account, KIND, &found.entity, "Group");
    entities::write_list(xml, &found.account, Kind::User {}, "Users", &users);
    Ok(())
}

pub(super) async fn update(call: &Call, _: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "UpdateGroup").await?;
    let (new_name, new_path) = renamed(call, "NewGroupName")?;
    let name = new_name.as_deref().unwrap_or(&found.entity.name);
    let path = new_path.as_deref().unwrap_or(&found.entity.path);
    call.check("UpdateGroup", &arn(&found.account, "group", path, name))?;
    let change = Change::Update {
        kind: KIND,
        name: found.entity.name,
        new_name,
        new_path,
        trust: None,
        description: None,
        session_secs_max: None,
    };
    call.change(&found.account, change).await
}

pub(super) async fn delete(call: &Call, _: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "DeleteGroup").await?;
    let name = found.entity.name;
    call.change(&found.account, Change::Delete { kind: KIND, name }).await
}

pub(super) async fn list(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let prefix = call.value("PathPrefix").unwrap_or("/");
    call.check("ListGroups", &arn(call.account(), "group", prefix, ""))?;
    let found = page(call, KIND, "").await?;
    entities::write_list(xml, call.account(), KIND, "Groups", &found);
    Ok(())
}

pub(super) async fn join(call: &Call, _: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "AddUserToGroup").await?;
    let user = user_name(call)?;
    call.change(&found.account, Change::Join { group: found.entity.name, user }).await
}

pub(super) async fn leave(call: &Call, _: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "RemoveUserFromGroup").await?;
    let user = user_name(call)?;
    call.change(&found.account, Change::Leave { group: found.entity.name, user }).await
}

fn user_name(call: &Call) -> IamResult<String> {
    let user = call.required("UserName")?;
    names::check("UserName", user)?;
    Ok(user.to_owned())
}

pub(super) async fn of_user(call: &Call, xml: &mut Xml) -> IamResult<()> {
    call.required("UserName")?;
    let found = subject(call, Kind::User {}, "ListGroupsForUser").await?;
    let mut groups = Vec::new();
    for name in &found.entity.groups {
        // One that was removed or renamed since the user was read is left out.
        let group = find(call, &found.account, KIND, name).await?;
        groups.extend(group.map(|group| (name.clone(), group)));
    }
    let write = |xml: &mut Xml, _: &str, group| {
        entities::write(xml, &found.account, KIND, &group, "member");
    };
    Page::parse(call)?.write(xml, "Groups", groups.into_iter(), write);
    Ok(())
}
