//! What users, groups and roles have in common: finding, listing, telling.

use super::error::{IamError, IamResult};
use super::{Call, names};
use crate::catalogue::{IdentityAnswer, IdentityAsk};
use crate::s3::dates;
use crate::s3::xml::Xml;
use store_base::identity::{Entity, Kind, ListEntities, Named, shard_of};

/// Most items of one answer.
const ITEMS_MAX: u32 = 1000;

/// Items of an answer that asks for no number.
const ITEMS_DEFAULT: u32 = 100;

/// Whom a call is about.
pub(super) struct Subject {
    /// His account.
    pub account: String,
    pub kind: Kind,
    /// What is kept of him; the name is empty for the root user.
    pub entity: Entity,
}

impl Subject {
    pub(super) fn is_root(&self) -> bool {
        self.entity.name.is_empty()
    }

    /// As policies of callers name him.
    pub(super) fn arn(&self) -> String {
        match self.is_root() {
            true => format!("arn:aws:iam:::user/{}", self.account),
            false => {
                let Entity { path, name, .. } = &self.entity;
                names::arn(&self.account, names::word(self.kind), path, name)
            }
        }
    }
}

/// The parameter that names one of a kind.
pub(super) fn parameter(kind: Kind) -> &'static str {
    match kind {
        Kind::User {} => "UserName",
        Kind::Group {} => "GroupName",
        Kind::Role {} => "RoleName",
    }
}

/// What the ids of a kind begin with.
fn id_head(kind: Kind) -> &'static str {
    match kind {
        Kind::User {} => "AIDA",
        Kind::Group {} => "AGPA",
        Kind::Role {} => "AROA",
    }
}

/// An entity of an account.
pub(super) async fn find(
    call: &Call,
    account: &str,
    kind: Kind,
    name: &str,
) -> IamResult<Option<Entity>> {
    let named = Named { account: account.to_owned(), kind, name: name.to_owned() };
    let ask = IdentityAsk::Entity(named);
    match call.service.catalogue.identities(shard_of(account), ask).await? {
        Some(IdentityAnswer::Entity(entity)) => Ok(entity),
        _ => Ok(None),
    }
}

/// The user, group or role that a call names, once the caller is known to be allowed the action. A user who is
/// not named is the caller.
pub(super) async fn subject(call: &Call, kind: Kind, action: &str) -> IamResult<Subject> {
    let parameter = parameter(kind);
    let given = call.value(parameter).filter(|name| !name.is_empty());
    let name = match (given, kind) {
        (Some(name), _) => name,
        (None, Kind::User {}) => own_name(call)?,
        (None, _) => call.required(parameter)?,
    };
    let account = call.account();
    if kind == (Kind::User {}) && (name.is_empty() || name == account) {
        return root(call, account, action, given.is_some()).await;
    }
    names::check(parameter, name)?;
    if let Some(entity) = find(call, account, kind, name).await? {
        let subject = Subject { account: account.to_owned(), kind, entity };
        call.check(action, &subject.arn())?;
        return Ok(subject);
    }
    // Administrators keep policies on root users.
    let other_root = kind == (Kind::User {}) && call.user.admin && call.is_root();
    if other_root && call.service.keys.account(name).is_some() {
        return root(call, name, action, true).await;
    }
    let word = names::word(kind);
    call.check(action, &names::arn(account, word, "/", name))?;
    Err(IamError::absent(format!("The {word} with name {name} cannot be found.")))
}

/// The caller's own name; empty for the root user.
fn own_name(call: &Call) -> IamResult<&str> {
    match call.identity() {
        Some(identity) if identity.role_session().is_some() => Err(IamError::validation(
            "Must specify userName when calling with non-User credentials",
        )),
        Some(identity) => Ok(&identity.name),
        None => Ok(""),
    }
}

/// Actions on policies of a root user.
const POLICY_ACTIONS: [&str; 4] =
    ["PutUserPolicy", "GetUserPolicy", "DeleteUserPolicy", "ListUserPolicies"];

/// A root user. He may see himself and have his keys; his policies are administrators', and his where one of
/// them allows it. To the members of his account he is nobody.
async fn root(call: &Call, account: &str, action: &str, named: bool) -> IamResult<Subject> {
    let entity = find(call, account, Kind::User {}, "").await?.unwrap_or_default();
    let subject = Subject { account: account.to_owned(), kind: Kind::User {}, entity };
    // A key of the root user would outlive the place of a Swift member, and be more than hers where he is an
    // administrator.
    let own = call.is_root()
        && account == call.account()
        && (call.user.member.is_none() || action == "GetUser");
    let administers = call.user.admin && call.is_root();
    let of_policies = POLICY_ACTIONS.contains(&action);
    if !own && !(administers && (of_policies || action == "GetUser")) {
        let name = if named { account } else { "" };
        return Err(IamError::absent(format!("The user with name {name} cannot be found.")));
    }
    if of_policies && !administers && !call.is_allowed_by_policy(action, &subject.arn()) {
        return Err(call.denied(&format!("iam:{action}"), &subject.arn()));
    }
    call.check(action, &subject.arn())?;
    Ok(subject)
}

/// A new user, group or role, as the call asks for it.
pub(super) fn new(call: &Call, kind: Kind) -> IamResult<Entity> {
    let name = call.required(parameter(kind))?;
    names::check(parameter(kind), name)?;
    let path = call.value("Path").unwrap_or("/");
    names::check_path(path)?;
    refuse(call, &["Tags.member.1.Key", "PermissionsBoundary"])?;
    Ok(Entity {
        name: name.to_owned(),
        path: path.to_owned(),
        id: super::keys::id(id_head(kind)),
        created_ms: call.head.now_ms,
        ..Entity::default()
    })
}

/// Refuses what would have no effect.
pub(super) fn refuse(call: &Call, parameters: &[&str]) -> IamResult<()> {
    match parameters.iter().find(|name| call.value(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(IamError::not_there(name)),
    }
}

/// The new name and path that a call asks for.
pub(super) fn renamed(call: &Call, parameter: &str) -> IamResult<(Option<String>, Option<String>)> {
    let (name, path) = (call.value(parameter), call.value("NewPath"));
    name.map(|name| names::check(parameter, name)).transpose()?;
    path.map(names::check_path).transpose()?;
    Ok((name.map(str::to_owned), path.map(str::to_owned)))
}

/// Which part of a listing a call asks for.
pub(super) struct Page {
    pub after: String,
    pub max: u32,
}

impl Page {
    pub(super) fn parse(call: &Call) -> IamResult<Page> {
        let max = match call.value("MaxItems") {
            None => ITEMS_DEFAULT,
            Some(text) => {
                let number = text.parse().ok().filter(|max| (1..=ITEMS_MAX).contains(max));
                number.ok_or_else(|| IamError::validation("MaxItems is a number of 1 to 1000."))?
            }
        };
        Ok(Page { after: call.value("Marker").unwrap_or_default().to_owned(), max })
    }

    /// Writes some of these, which are in order of their first part.
    pub(super) fn write<T>(
        &self,
        xml: &mut Xml,
        list: &str,
        items: impl Iterator<Item = (String, T)>,
        mut write: impl FnMut(&mut Xml, &str, T),
    ) {
        let mut last = None;
        let mut more = false;
        let mut left = self.max;
        xml.open(list);
        for (name, item) in items.filter(|(name, _)| *name > self.after) {
            if left == 0 {
                more = true;
                break;
            }
            left -= 1;
            write(xml, &name, item);
            last = Some(name);
        }
        xml.close(list);
        end(xml, last.filter(|_| more));
    }
}

/// The end of a listing.
pub(super) fn end(xml: &mut Xml, next: Option<String>) {
    xml.value("IsTruncated", next.is_some());
    xml.optional("Marker", next.as_deref());
}

/// Entities of the caller's account, from where the call goes on.
pub(super) async fn page(
    call: &Call,
    kind: Kind,
    group: &str,
) -> IamResult<(Vec<Entity>, Option<String>)> {
    let page = Page::parse(call)?;
    let path_prefix = match call.value("PathPrefix") {
        Some(prefix) => {
            names::check_path_prefix(prefix)?;
            prefix.to_owned()
        }
        None => String::new(),
    };
    let account = call.account().to_owned();
    let shard = shard_of(&account);
    let (mut entities, mut next) = (Vec::new(), Some(page.after));
    while (entities.len() as u32) < page.max {
        let Some(after) = next.take() else { break };
        let list = ListEntities {
            account: account.clone(),
            kind,
            path_prefix: path_prefix.clone(),
            group: group.to_owned(),
            after,
            max: page.max - entities.len() as u32,
        };
        let answer = call.service.catalogue.identities(shard, IdentityAsk::List(list)).await?;
        let Some(IdentityAnswer::List(found)) = answer else { break };
        entities.extend(found.entities);
        next = found.next;
    }
    Ok((entities, next))
}

/// The elements of an entity; `element` is opened around them.
pub(super) fn write(xml: &mut Xml, account: &str, kind: Kind, entity: &Entity, element: &str) {
    let word = names::word(kind);
    let label = match kind {
        Kind::User {} => "User",
        Kind::Group {} => "Group",
        Kind::Role {} => "Role",
    };
    xml.open(element);
    xml.text("Path", &entity.path);
    xml.text(&format!("{label}Name"), &entity.name);
    xml.text(&format!("{label}Id"), &entity.id);
    xml.text("Arn", &names::arn(account, word, &entity.path, &entity.name));
    xml.text("CreateDate", &dates::iso(entity.created_ms));
    if kind == (Kind::Role {}) {
        xml.text("AssumeRolePolicyDocument", &encoded(&entity.trust));
        if !entity.description.is_empty() {
            xml.text("Description", &entity.description);
        }
        xml.value("MaxSessionDuration", entity.session_secs_max);
    }
    xml.close(element);
}

/// Documents are told as in a query.
pub(super) fn encoded(document: &str) -> String {
    crate::s3::uri::encoded(document.as_bytes(), false)
}

/// Several of these in a list.
pub(super) fn write_list(
    xml: &mut Xml,
    account: &str,
    kind: Kind,
    list: &str,
    found: &(Vec<Entity>, Option<String>),
) {
    xml.open(list);
    found.0.iter().for_each(|entity| write(xml, account, kind, entity, "member"));
    xml.close(list);
    end(xml, found.1.clone());
}
