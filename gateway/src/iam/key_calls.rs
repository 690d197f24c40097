//! Access keys of users. The secret is told when the key is made, and never again.

use super::entities::{Page, Subject, subject};
use super::error::{IamError, IamResult};
use super::{Call, keys};
use crate::s3::dates;
use crate::s3::xml::Xml;
use store_base::identity::{Change, Key, Kind, shard_of};

const KIND: Kind = Kind::User {};

/// How often another access key is made when one is taken, which is all but impossible.
const TRIES: usize = 3;

/// What users are called in answers about keys.
fn shown_name(found: &Subject) -> &str {
    if found.is_root() { &found.account } else { &found.entity.name }
}

pub(super) async fn create(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "CreateAccessKey").await?;
    let secret = keys::secret();
    let mut tried = Err(IamError::internal());
    for _ in 0..TRIES {
        let access_key = keys::lasting(shard_of(&found.account));
        if call.service.keys.user(&access_key).is_some() {
            continue;
        }
        let Some(sealed_secret) = call.service.keys.seal(&access_key, &secret) else {
            tracing::error!("the monitor gave no key to seal secrets with");
            return Err(IamError::internal());
        };
        let key = Key { sealed_secret, created_ms: call.head.now_ms, active: true };
        let user = found.entity.name.clone();
        let change = Change::AddKey { user, access_key: access_key.clone(), key };
        tried = call.change(&found.account, change).await.map(|()| access_key);
        // One that is taken is the only reason to try again.
        if !tried.as_ref().is_err_and(IamError::is_present) {
            break;
        }
    }
    let access_key = tried?;
    xml.open("AccessKey");
    xml.text("UserName", shown_name(&found));
    xml.text("AccessKeyId", &access_key);
    xml.text("Status", "Active");
    xml.text("SecretAccessKey", &secret);
    xml.text("CreateDate", &dates::iso(call.head.now_ms));
    xml.close("AccessKey");
    Ok(())
}

/// Keys that the command line made are the monitor's.
fn check_ours(call: &Call, access_key: &str) -> IamResult<()> {
    match call.service.keys.user(access_key).is_some_and(|user| user.id == call.account()) {
        false => Ok(()),
        true => Err(IamError::unmodifiable(
            "This key of the root user was made by `store user`, and is changed and removed so.",
        )),
    }
}

pub(super) async fn update(call: &Call, _: &mut Xml) -> IamResult<()> {
    let access_key = call.required("AccessKeyId")?.to_owned();
    let active = match call.required("Status")? {
        "Active" => true,
        "Inactive" => false,
        _ => return Err(IamError::validation("Status is Active or Inactive.")),
    };
    let found = subject(call, KIND, "UpdateAccessKey").await?;
    check_ours(call, &access_key)?;
    let user = found.entity.name;
    call.change(&found.account, Change::SwitchKey { user, access_key, active }).await
}

pub(super) async fn delete(call: &Call, _: &mut Xml) -> IamResult<()> {
    let access_key = call.required("AccessKeyId")?.to_owned();
    let found = subject(call, KIND, "DeleteAccessKey").await?;
    check_ours(call, &access_key)?;
    let user = found.entity.name;
    call.change(&found.account, Change::DeleteKey { user, access_key }).await
}

pub(super) async fn list(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let found = subject(call, KIND, "ListAccessKeys").await?;
    let name = shown_name(&found).to_owned();
    let keys = found.entity.keys.into_iter();
    Page::parse(call)?.write(xml, "AccessKeyMetadata", keys, |xml, access_key, key| {
        xml.open("member");
        xml.text("UserName", &name);
        xml.text("AccessKeyId", access_key);
        xml.text("Status", if key.active { "Active" } else { "Inactive" });
        xml.text("CreateDate", &dates::iso(key.created_ms));
        xml.close("member");
    });
    xml.text("UserName", &name);
    Ok(())
}
