//! Managed policies: those that entities of an account share, each of one version, and those that are there in every
//! account.

use super::Call;
use super::entities::{Page, encoded, end, parameter, refuse, subject};
use super::error::{IamError, IamResult};
use super::names::{self, arn, parse_arn};
use super::{builtin, keys};
use crate::catalogue::{IdentityAnswer, IdentityAsk};
use crate::s3::dates;
use crate::s3::xml::Xml;
use store_base::identity::{AskPolicy, Change, Kind, ListPolicies, ManagedPolicy, shard_of};

/// The only version of a policy.
const VERSION: &str = "v1";

/// Longest document of a managed policy.
const DOCUMENT_BYTES_MAX: usize = 6144;

fn absent(arn: &str) -> IamError {
    IamError::absent(format!("Policy {arn} does not exist or is not attachable."))
}

/// A policy that an ARN names.
enum Named {
    /// One of the caller's account.
    Own(ManagedPolicy),
    /// One that is there in every account: name and document.
    Builtin(&'static str, &'static str),
}

async fn find(call: &Call, arn: &str) -> IamResult<Named> {
    if let Some((name, _, document)) = builtin::all().find(|(_, known, _)| known == arn) {
        return Ok(Named::Builtin(name, document));
    }
    let account = call.account();
    let (of, path, name) = parse_arn(arn, "policy")
        .ok_or_else(|| IamError::validation(format!("ARN {arn} is not valid.")))?;
    if of != account {
        return Err(absent(arn));
    }
    let ask = AskPolicy { account: account.to_owned(), name: name.to_owned() };
    match call.service.catalogue.identities(shard_of(account), IdentityAsk::Policy(ask)).await? {
        Some(IdentityAnswer::Policy(Some(policy))) if policy.path == path => Ok(Named::Own(policy)),
        _ => Err(absent(arn)),
    }
}

/// The policy of a call, once the caller is known to be allowed the action.
async fn asked(call: &Call, action: &str) -> IamResult<(String, Named)> {
    let arn = call.required("PolicyArn")?.to_owned();
    call.check(action, &arn)?;
    let found = find(call, &arn).await?;
    Ok((arn, found))
}

fn write(xml: &mut Xml, account: &str, policy: &ManagedPolicy, element: &str) {
    xml.open(element);
    xml.text("PolicyName", &policy.name);
    xml.text("PolicyId", &policy.id);
    xml.text("Arn", &arn(account, "policy", &policy.path, &policy.name));
    xml.text("Path", &policy.path);
    xml.text("DefaultVersionId", VERSION);
    xml.value("AttachmentCount", policy.attachments);
    xml.value("PermissionsBoundaryUsageCount", 0);
    xml.value("IsAttachable", true);
    if !policy.description.is_empty() {
        xml.text("Description", &policy.description);
    }
    xml.text("CreateDate", &dates::iso(policy.created_ms));
    xml.text("UpdateDate", &dates::iso(policy.created_ms));
    xml.close(element);
}

/// One that is there in every account, told as one of an account's.
fn of_builtin(name: &str) -> ManagedPolicy {
    let path = "/".to_owned();
    ManagedPolicy { name: name.to_owned(), id: name.to_owned(), path, ..ManagedPolicy::default() }
}

pub(super) async fn create(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let name = call.required("PolicyName")?;
    names::check("PolicyName", name)?;
    let path = call.value("Path").unwrap_or("/");
    names::check_path(path)?;
    refuse(call, &["Tags.member.1.Key"])?;
    call.check("CreatePolicy", &arn(call.account(), "policy", path, name))?;
    let document = call.required("PolicyDocument")?;
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(IamError::limit("Cannot exceed quota for PolicySize: 6144"));
    }
    super::policies::check_document(document)?;
    let policy = ManagedPolicy {
        name: name.to_owned(),
        path: path.to_owned(),
        id: keys::id("ANPA"),
        created_ms: call.head.now_ms,
        description: call.value("Description").unwrap_or_default().chars().take(1000).collect(),
        document: document.to_owned(),
        attachments: 0,
    };
    call.change(call.account(), Change::CreatePolicy { policy: policy.clone() }).await?;
    write(xml, call.account(), &policy, "Policy");
    Ok(())
}

pub(super) async fn show(call: &Call, xml: &mut Xml) -> IamResult<()> {
    match asked(call, "GetPolicy").await?.1 {
        Named::Own(policy) => write(xml, call.account(), &policy, "Policy"),
        Named::Builtin(name, _) => write(xml, "aws", &of_builtin(name), "Policy"),
    }
    Ok(())
}

fn write_version(xml: &mut Xml, created_ms: u64, document: Option<&str>, element: &str) {
    xml.open(element);
    xml.optional("Document", document.map(encoded).as_deref());
    xml.text("VersionId", VERSION);
    xml.value("IsDefaultVersion", true);
    xml.text("CreateDate", &dates::iso(created_ms));
    xml.close(element);
}

pub(super) async fn show_version(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let (arn, found) = asked(call, "GetPolicyVersion").await?;
    let version = call.required("VersionId")?;
    if version != VERSION {
        let what = format!("Policy {arn} version {version} does not exist.");
        return Err(IamError::absent(what));
    }
    let (created_ms, document) = match &found {
        Named::Own(policy) => (policy.created_ms, policy.document.as_str()),
        Named::Builtin(_, document) => (0, *document),
    };
    write_version(xml, created_ms, Some(document), "PolicyVersion");
    Ok(())
}

pub(super) async fn list_versions(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let created_ms = match asked(call, "ListPolicyVersions").await?.1 {
        Named::Own(policy) => policy.created_ms,
        Named::Builtin(..) => 0,
    };
    xml.open("Versions");
    write_version(xml, created_ms, None, "member");
    xml.close("Versions");
    end(xml, None);
    Ok(())
}

pub(super) async fn delete(call: &Call, _: &mut Xml) -> IamResult<()> {
    match asked(call, "DeletePolicy").await? {
        (_, Named::Own(policy)) => {
            call.change(call.account(), Change::DeletePolicy { name: policy.name }).await
        }
        (arn, Named::Builtin(..)) => Err(call.denied("iam:DeletePolicy", &arn)),
    }
}

/// Those that are there in every account come first.
pub(super) async fn list(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let account = call.account();
    let path_prefix = call.value("PathPrefix").unwrap_or("/").to_owned();
    names::check_path_prefix(&path_prefix)?;
    call.check("ListPolicies", &arn(account, "policy", &path_prefix, ""))?;
    let (own, builtins) = match call.value("Scope").unwrap_or("All") {
        "All" => (true, true),
        "Local" => (true, false),
        "AWS" => (false, true),
        _ => return Err(IamError::validation("Scope is All, AWS or Local.")),
    };
    let attached = call.value("OnlyAttached") == Some("true");
    let page = Page::parse(call)?;
    xml.open("Policies");
    let mut left = page.max;
    let fresh = page.after.is_empty();
    if builtins && fresh && !attached && path_prefix == "/" {
        for (name, ..) in builtin::all() {
            write(xml, "aws", &of_builtin(name), "member");
            left = left.saturating_sub(1);
        }
    }
    // Those that are there anyway are not cut where fewer were asked for. A space is before every name.
    let mut next = own.then(|| if fresh { " ".to_owned() } else { page.after });
    while left > 0 {
        let Some(after) = next.take() else { break };
        let list = ListPolicies {
            account: account.to_owned(),
            path_prefix: path_prefix.clone(),
            attached,
            after,
            max: left,
        };
        let ask = IdentityAsk::Policies(list);
        let answer = call.service.catalogue.identities(shard_of(account), ask).await?;
        let Some(IdentityAnswer::Policies(found)) = answer else { break };
        found.policies.iter().for_each(|policy| write(xml, account, policy, "member"));
        left = left.saturating_sub(found.policies.len() as u32);
        next = found.next;
    }
    xml.close("Policies");
    end(xml, next);
    Ok(())
}

/// Attaches a policy to somebody, or detaches it.
async fn change(
    call: &Call,
    kind: Kind,
    action: &str,
    change: impl FnOnce(Kind, String, String, Option<String>) -> Change,
) -> IamResult<()> {
    call.required(parameter(kind))?;
    let found = subject(call, kind, action).await?;
    check_member(&found)?;
    let arn = call.required("PolicyArn")?.to_owned();
    let policy = match find(call, &arn).await? {
        Named::Own(policy) => Some(policy.name),
        Named::Builtin(..) => None,
    };
    call.change(&found.account, change(kind, found.entity.name, arn, policy)).await
}

async fn attach(call: &Call, kind: Kind, action: &str) -> IamResult<()> {
    let attach = |kind, name, arn, policy| Change::Attach { kind, name, arn, policy };
    change(call, kind, action, attach).await
}

async fn detach(call: &Call, kind: Kind, action: &str) -> IamResult<()> {
    let detach = |kind, name, arn, policy| Change::Detach { kind, name, arn, policy };
    change(call, kind, action, detach).await
}

fn check_member(found: &super::entities::Subject) -> IamResult<()> {
    match found.is_root() {
        false => Ok(()),
        true => {
            Err(IamError::unmodifiable("The root user of an account has inline policies only."))
        }
    }
}

async fn list_attached(call: &Call, xml: &mut Xml, kind: Kind, action: &str) -> IamResult<()> {
    call.required(parameter(kind))?;
    let found = subject(call, kind, action).await?;
    let policies = found.entity.attached.into_iter().map(|arn| (arn, ()));
    Page::parse(call)?.write(xml, "AttachedPolicies", policies, |xml, arn, ()| {
        xml.open("member");
        xml.text("PolicyName", arn.rsplit('/').next().unwrap_or_default());
        xml.text("PolicyArn", arn);
        xml.close("member");
    });
    Ok(())
}

macro_rules! of_kinds {
    ($($kind:ident: $attach:ident $detach:ident $list:ident,
        $attach_name:literal $detach_name:literal $list_name:literal;)*) => {$(
        pub(super) async fn $attach(call: &Call, _: &mut Xml) -> IamResult<()> {
            attach(call, Kind::$kind {}, $attach_name).await
        }

        pub(super) async fn $detach(call: &Call, _: &mut Xml) -> IamResult<()> {
            detach(call, Kind::$kind {}, $detach_name).await
        }

        pub(super) async fn $list(call: &Call, xml: &mut Xml) -> IamResult<()> {
            list_attached(call, xml, Kind::$kind {}, $list_name).await
        }
    )*};
}

of_kinds! {
    User: attach_to_user detach_from_user list_of_user,
        "AttachUserPolicy" "DetachUserPolicy" "ListAttachedUserPolicies";
    Group: attach_to_group detach_from_group list_of_group,
        "AttachGroupPolicy" "DetachGroupPolicy" "ListAttachedGroupPolicies";
    Role: attach_to_role detach_from_role list_of_role,
        "AttachRolePolicy" "DetachRolePolicy" "ListAttachedRolePolicies";
}
