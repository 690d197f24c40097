//! Inline policies of users, groups and roles.

use super::Call;
use super::entities::{Page, encoded, parameter, subject};
use super::error::{IamError, IamResult};
use super::names;
use crate::s3::policy::Policy;
use crate::s3::xml::Xml;
use store_base::identity::{Change, Kind};

/// Checks a document for what it is.
pub(super) fn check_document(document: &str) -> IamResult<()> {
    match Policy::parse_identity(document.as_bytes()).and_then(Policy::check_keys) {
        Ok(_) => Ok(()),
        Err(error) => Err(IamError::malformed_policy(error.0)),
    }
}

async fn put(call: &Call, kind: Kind, action: &str) -> IamResult<()> {
    let policy = call.required("PolicyName")?.to_owned();
    names::check("PolicyName", &policy)?;
    let document = call.required("PolicyDocument")?.to_owned();
    call.required(parameter(kind))?;
    let found = subject(call, kind, action).await?;
    check_document(&document)?;
    let name = found.entity.name;
    call.change(&found.account, Change::PutInline { kind, name, policy, document }).await
}

async fn show(call: &Call, xml: &mut Xml, kind: Kind, action: &str) -> IamResult<()> {
    let policy = call.required("PolicyName")?;
    let name = call.required(parameter(kind))?;
    let found = subject(call, kind, action).await?;
    let document = found.entity.inline.get(policy).ok_or_else(|| {
        let word = names::word(kind);
        IamError::absent(format!("The {word} policy with name {policy} cannot be found."))
    })?;
    xml.text(parameter(kind), if found.is_root() { name } else { &found.entity.name });
    xml.text("PolicyName", policy);
    xml.text("PolicyDocument", &encoded(document));
    Ok(())
}

async fn delete(call: &Call, kind: Kind, action: &str) -> IamResult<()> {
    let policy = call.required("PolicyName")?.to_owned();
    call.required(parameter(kind))?;
    let found = subject(call, kind, action).await?;
    let name = found.entity.name;
    call.change(&found.account, Change::DeleteInline { kind, name, policy }).await
}

async fn list(call: &Call, xml: &mut Xml, kind: Kind, action: &str) -> IamResult<()> {
    call.required(parameter(kind))?;
    let found = subject(call, kind, action).await?;
    let policies = found.entity.inline.into_iter();
    let write = |xml: &mut Xml, name: &str, _| xml.text("member", name);
    Page::parse(call)?.write(xml, "PolicyNames", policies, write);
    Ok(())
}

macro_rules! of_kinds {
    ($($kind:ident: $put:ident $show:ident $delete:ident $list:ident,
        $put_name:literal $show_name:literal $delete_name:literal $list_name:literal;)*) => {$(
        pub(super) async fn $put(call: &Call, _: &mut Xml) -> IamResult<()> {
            put(call, Kind::$kind {}, $put_name).await
        }

        pub(super) async fn $show(call: &Call, xml: &mut Xml) -> IamResult<()> {
            show(call, xml, Kind::$kind {}, $show_name).await
        }

        pub(super) async fn $delete(call: &Call, _: &mut Xml) -> IamResult<()> {
            delete(call, Kind::$kind {}, $delete_name).await
        }

        pub(super) async fn $list(call: &Call, xml: &mut Xml) -> IamResult<()> {
            list(call, xml, Kind::$kind {}, $list_name).await
        }
    )*};
}

of_kinds! {
    User: put_of_user show_of_user delete_of_user list_of_user,
        "PutUserPolicy" "GetUserPolicy" "DeleteUserPolicy" "ListUserPolicies";
    Group: put_of_group show_of_group delete_of_group list_of_group,
        "PutGroupPolicy" "GetGroupPolicy" "DeleteGroupPolicy" "ListGroupPolicies";
    Role: put_of_role show_of_role delete_of_role list_of_role,
        "PutRolePolicy" "GetRolePolicy" "DeleteRolePolicy" "ListRolePolicies";
}
