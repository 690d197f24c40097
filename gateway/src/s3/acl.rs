//! Access control lists as S3 speaks of them: canned ones, grants in headers, documents, and what a list
//! lets a caller do. The lists themselves are records (`store_base::bucket::Acl`).

use super::error::{Code, S3Error, S3Result};
use super::policy::Principal;
use super::request::Head;
use super::xml::{Element, Xml};
use crate::keyring::KeyRing;
use store_base::bucket::{Acl, AclGroup, Grant, Grantee, Permission};

/// Most grants of a list.
pub const GRANTS_MAX: usize = 100;

const GROUPS: [(AclGroup, &str); 3] = [
    (AclGroup::AllUsers {}, "http://acs.amazonaws.com/groups/global/AllUsers"),
    (AclGroup::AuthenticatedUsers {}, "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"),
    (AclGroup::LogDelivery {}, "http://acs.amazonaws.com/groups/s3/LogDelivery"),
];

const PERMISSIONS: [(Permission, &str, &str); 5] = [
    (Permission::Read {}, "READ", "x-amz-grant-read"),
    (Permission::Write {}, "WRITE", "x-amz-grant-write"),
    (Permission::ReadAcp {}, "READ_ACP", "x-amz-grant-read-acp"),
    (Permission::WriteAcp {}, "WRITE_ACP", "x-amz-grant-write-acp"),
    (Permission::FullControl {}, "FULL_CONTROL", "x-amz-grant-full-control"),
];

/// Whose a new list is.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// The owner of the bucket or object: a user id.
    pub owner: &'a str,
    /// For an object, the owner of its bucket.
    pub bucket_owner: Option<&'a str>,
}

fn to_user(id: &str, permission: Permission) -> Grant {
    Grant { grantee: Grantee::User { id: id.to_owned() }, permission }
}

fn to_group(group: AclGroup, permission: Permission) -> Grant {
    Grant { grantee: Grantee::Group { group }, permission }
}

/// The list of who did not ask for another: the owner may do everything.
pub fn private(owner: &str) -> Acl {
    Acl { grants: vec![to_user(owner, Permission::FullControl {})] }
}

fn canned(name: &str, parties: Parties<'_>) -> S3Result<Acl> {
    let (read, write) = (Permission::Read {}, Permission::Write {});
    let mut acl = private(parties.owner);
    let bucket_owner = parties.bucket_owner.filter(|id| *id != parties.owner);
    let of_bucket = parties.bucket_owner.is_none();
    match name {
        "private" => {}
        "public-read" => acl.grants.push(to_group(AclGroup::AllUsers {}, read)),
        "public-read-write" => {
            acl.grants.push(to_group(AclGroup::AllUsers {}, read));
            acl.grants.push(to_group(AclGroup::AllUsers {}, write));
        }
        "authenticated-read" => acl.grants.push(to_group(AclGroup::AuthenticatedUsers {}, read)),
        // Of a bucket they say nothing, as in S3.
        "bucket-owner-read" => acl.grants.extend(bucket_owner.map(|id| to_user(id, read))),
        "bucket-owner-full-control" => {
            acl.grants.extend(bucket_owner.map(|id| to_user(id, Permission::FullControl {})))
        }
        "log-delivery-write" if of_bucket => {
            acl.grants.push(to_group(AclGroup::LogDelivery {}, write));
            acl.grants.push(to_group(AclGroup::LogDelivery {}, Permission::ReadAcp {}));
        }
        _ => return Err(S3Error::argument("x-amz-acl", name, "Unknown canned ACL.")),
    }
    Ok(acl)
}

/// The list that the headers ask for; `None` if they ask for none. Errors: `InvalidRequest` for a canned
/// list beside grants, `InvalidArgument` for one that cannot be understood or names nobody.
pub fn from_headers(
    head: &Head,
    parties: Parties<'_>,
    keys: &dyn KeyRing,
) -> S3Result<Option<Acl>> {
    let mut grants = Vec::new();
    for (permission, _, header) in PERMISSIONS {
        let Some(value) = head.header(header)? else { continue };
        for grantee in value.split(',') {
            grants.push(Grant { grantee: header_grantee(header, grantee, keys)?, permission });
        }
    }
    match (head.header("x-amz-acl")?, grants.is_empty()) {
        (Some(_), false) => Err(Code::InvalidRequest
            .with("Specifying both Canned ACLs and Header Grants is not allowed")),
        (Some(name), true) => canned(name, parties).map(Some),
        (None, false) => bounded(Acl { grants }).map(Some),
        (None, true) => Ok(None),
    }
}

/// Whether the headers ask for a list.
pub fn asked_for(head: &Head) -> bool {
    head.headers.contains_key("x-amz-acl")
        || PERMISSIONS.iter().any(|(_, _, header)| head.headers.contains_key(*header))
}

fn bounded(acl: Acl) -> S3Result<Acl> {
    match acl.grants.len() > GRANTS_MAX {
        false => Ok(acl),
        true => {
            Err(Code::MalformedACLError.with(format!("An ACL has at most {GRANTS_MAX} grants.")))
        }
    }
}

/// `id="…"`, `uri="…"` or `emailAddress="…"`.
fn header_grantee(header: &str, text: &str, keys: &dyn KeyRing) -> S3Result<Grantee> {
    let invalid = || S3Error::argument(header, text, "Argument format not recognized");
    let (kind, value) = text.trim().split_once('=').ok_or_else(invalid)?;
    let value = value.trim();
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .or_else(|| value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')))
        .unwrap_or(value);
    match kind.trim().to_ascii_lowercase().as_str() {
        "id" => user(value, &|id| keys.display_name(id).is_some()),
        "uri" => group(value),
        "emailaddress" => Err(by_email(value)),
        _ => Err(invalid()),
    }
}

fn user(id: &str, known: &dyn Fn(&str) -> bool) -> S3Result<Grantee> {
    match known(id) {
        true => Ok(Grantee::User { id: id.to_owned() }),
        false => Err(S3Error::argument("CanonicalUser/ID", id, "Invalid id")),
    }
}

fn group(uri: &str) -> S3Result<Grantee> {
    let known = GROUPS.iter().find(|(_, known)| *known == uri);
    known
        .map(|(group, _)| Grantee::Group { group: *group })
        .ok_or_else(|| S3Error::argument("Group/URI", uri, "Invalid group uri"))
}

/// Users have no addresses here.
fn by_email(address: &str) -> S3Error {
    Code::UnresolvableGrantByEmailAddress
        .with(Code::UnresolvableGrantByEmailAddress.message())
        .detail("EmailAddress", address)
}

/// Reads an `AccessControlPolicy`. `owner` must be the owner it names: an ACL gives nothing away.
pub fn from_document(document: &[u8], owner: &str, keys: &dyn KeyRing) -> S3Result<Acl> {
    let malformed = || S3Error::from(Code::MalformedACLError);
    let root = Element::parse(document, "AccessControlPolicy").map_err(|_| malformed())?;
    let named = root.all("Owner").next().ok_or_else(malformed)?;
    if named.required_text("ID").map_err(|_| malformed())?.trim() != owner {
        return Err(Code::AccessDenied.into());
    }
    let list = root.all("AccessControlList").next().ok_or_else(malformed)?;
    grants(list, &|id| keys.display_name(id).is_some())
}

/// Reads the grants in an element; `known` says which users there are.
pub fn grants(list: &Element, known: &dyn Fn(&str) -> bool) -> S3Result<Acl> {
    let malformed = || S3Error::from(Code::MalformedACLError);
    let mut acl = Acl::default();
    for grant in list.all("Grant") {
        let grantee = grant.all("Grantee").next().ok_or_else(malformed)?;
        let text = |name: &str| grantee.child_text(name).map_err(|_| malformed());
        let grantee = match (text("ID")?, text("URI")?, text("EmailAddress")?) {
            (Some(id), None, None) => user(id.trim(), known)?,
            (None, Some(uri), None) => group(uri.trim())?,
            (None, None, Some(address)) => return Err(by_email(address)),
            _ => return Err(malformed()),
        };
        let name = grant.required_text("Permission").map_err(|_| malformed())?.trim();
        let permission = PERMISSIONS.iter().find(|(_, known, _)| *known == name);
        let (permission, _, _) = permission.ok_or_else(malformed)?;
        acl.grants.push(Grant { grantee, permission: *permission });
    }
    bounded(acl)
}

/// An `Owner` or the like.
pub fn user_elements(xml: &mut Xml, id: &str, keys: &dyn KeyRing) {
    xml.text("ID", id);
    xml.text("DisplayName", &keys.display_name(id).unwrap_or_else(|| id.to_owned()));
}

/// The list as an answer shows it: groups first, as with Ceph's gateway.
pub fn to_xml(acl: &Acl, owner: &str, keys: &dyn KeyRing) -> Xml {
    let mut xml = Xml::root("AccessControlPolicy");
    xml.open("Owner");
    user_elements(&mut xml, owner, keys);
    xml.close("Owner");
    xml.open("AccessControlList");
    grant_elements(&mut xml, acl, keys);
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    xml
}

/// The grants of a list.
pub fn grant_elements(xml: &mut Xml, acl: &Acl, keys: &dyn KeyRing) {
    const SCHEMA: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";
    let of_group = |grant: &&Grant| matches!(grant.grantee, Grantee::Group { .. });
    let groups = acl.grants.iter().filter(of_group);
    for grant in groups.chain(acl.grants.iter().filter(|grant| !of_group(grant))) {
        xml.open("Grant");
        match &grant.grantee {
            Grantee::User { id } => {
                xml.open_with("Grantee", &format!("{SCHEMA} xsi:type=\"CanonicalUser\""));
                user_elements(xml, id, keys);
            }
            Grantee::Group { group } => {
                xml.open_with("Grantee", &format!("{SCHEMA} xsi:type=\"Group\""));
                let uri = GROUPS.iter().find(|(known, _)| known == group);
                xml.text("URI", uri.map_or("", |(_, uri)| uri));
            }
        }
        xml.close("Grantee");
        let name = PERMISSIONS.iter().find(|(known, _, _)| *known == grant.permission);
        xml.text("Permission", name.map_or("", |(_, name, _)| name));
        xml.close("Grant");
    }
}

fn is_public_grant(grant: &Grant) -> bool {
    matches!(
        grant.grantee,
        Grantee::Group { group: AclGroup::AllUsers {} | AclGroup::AuthenticatedUsers {} }
    )
}

/// Whether it grants something to everybody, or to everybody with a key.
pub fn is_public(acl: &Acl) -> bool {
    acl.grants.iter().any(is_public_grant)
}

/// Whether it grants a permission to a caller; `ignore_public` leaves grants to groups out.
pub fn allows(
    acl: &Acl,
    caller: Principal<'_>,
    permission: Permission,
    ignore_public: bool,
) -> bool {
    acl.grants.iter().any(|grant| {
        let to_caller = match (&grant.grantee, caller) {
            (Grantee::User { id }, Principal::User(caller)) => id == caller,
            (Grantee::Group { group: AclGroup::AllUsers {} }, _) => true,
            (Grantee::Group { group: AclGroup::AuthenticatedUsers {} }, Principal::User(_)) => true,
            _ => false,
        };
        let enough = matches!(grant.permission, Permission::FullControl {})
            || grant.permission == permission;
        to_caller && enough && !(ignore_public && is_public_grant(grant))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::{FixedKeys, User};
    use crate::s3::auth::tests::head;

    fn keys() -> FixedKeys {
        let user =
            |id: &str| User { id: id.into(), display_name: format!("U {id}"), ..User::default() };
        FixedKeys::default().with("ku", user("u")).with("kv", user("v"))
    }

    const OBJECT: Parties<'static> = Parties { owner: "u", bucket_owner: Some("b") };

    fn asked(headers: &[(&'static str, &str)]) -> Result<Option<Acl>, Code> {
        from_headers(&head("PUT", "/b/k", headers), OBJECT, &keys()).map_err(|error| error.code)
    }

    fn lets(acl: &Acl, caller: Principal<'_>) -> String {
        PERMISSIONS[..4]
            .iter()
            .filter(|(permission, ..)| allows(acl, caller, *permission, false))
            .map(|(_, name, _)| format!("{name} "))
            .collect()
    }

    #[test]
    fn canned_lists_grant_what_their_names_say() {
        let all = "READ WRITE READ_ACP WRITE_ACP ";
        for (name, bucket_owner, other, anonymous) in [
            ("private", "", "", ""),
            ("public-read", "READ ", "READ ", "READ "),
            ("public-read-write", "READ WRITE ", "READ WRITE ", "READ WRITE "),
            ("authenticated-read", "READ ", "READ ", ""),
            ("bucket-owner-read", "READ ", "", ""),
            ("bucket-owner-full-control", all, "", ""),
        ] {
            let acl = canned(name, OBJECT).unwrap();
            assert_eq!(lets(&acl, Principal::User("u")), all, "{name}");
            assert_eq!(lets(&acl, Principal::User("b")), bucket_owner, "{name}");
            assert_eq!(lets(&acl, Principal::User("v")), other, "{name}");
            assert_eq!(lets(&acl, Principal::Anonymous), anonymous, "{name}");
            let public = !other.is_empty();
            assert_eq!(is_public(&acl), public, "{name}");
            assert!(!allows(&acl, Principal::User("v"), Permission::Read {}, true), "{name}");
        }
        assert!(canned("log-delivery-write", OBJECT).is_err());
        assert!(canned("log-delivery-write", Parties { bucket_owner: None, ..OBJECT }).is_ok());
        assert!(canned("public", OBJECT).is_err());
    }

    #[test]
    fn headers_name_grantees() {
        assert_eq!(asked(&[]), Ok(None));
        let acl = asked(&[
            ("x-amz-grant-read", "id=v, uri=\"http://acs.amazonaws.com/groups/global/AllUsers\""),
            ("x-amz-grant-full-control", "id=\"u\""),
        ]);
        let acl = acl.unwrap().unwrap();
        assert_eq!(acl.grants.len(), 3);
        assert_eq!(lets(&acl, Principal::Anonymous), "READ ");
        for (header, value, code) in [
            ("x-amz-grant-read", "id=nobody", Code::InvalidArgument),
            ("x-amz-grant-read", "v", Code::InvalidArgument),
            ("x-amz-grant-read", "name=v", Code::InvalidArgument),
            ("x-amz-grant-read", "uri=http://example.com/", Code::InvalidArgument),
            ("x-amz-grant-read", "emailAddress=a@b", Code::UnresolvableGrantByEmailAddress),
            ("x-amz-acl", "open", Code::InvalidArgument),
        ] {
            assert_eq!(asked(&[(header, value)]), Err(code), "{header}: {value}");
        }
        let both = [("x-amz-acl", "private"), ("x-amz-grant-read", "id=v")];
        assert_eq!(asked(&both), Err(Code::InvalidRequest));
        let many = vec!["id=v"; GRANTS_MAX + 1].join(",");
        assert_eq!(asked(&[("x-amz-grant-read", &many)]), Err(Code::MalformedACLError));
    }

    #[test]
    fn documents_come_back_as_they_are_written() {
        let acl = Acl {
            grants: vec![
                to_group(AclGroup::AuthenticatedUsers {}, Permission::Read {}),
                to_user("v", Permission::WriteAcp {}),
            ],
        };
        let written = to_xml(&acl, "u", &keys()).into_bytes();
        assert!(String::from_utf8_lossy(&written).contains("<DisplayName>U v</DisplayName>"));
        assert_eq!(from_document(&written, "u", &keys()).unwrap(), acl);
        let denied = from_document(&written, "v", &keys()).unwrap_err();
        assert_eq!(denied.code, Code::AccessDenied, "ownership cannot be given away");
        let text = String::from_utf8(written).unwrap();
        for (from, to, code) in [
            ("<ID>v</ID>", "<ID>nobody</ID>", Code::InvalidArgument),
            ("<ID>v</ID>", "", Code::MalformedACLError),
            ("<ID>v</ID>", "<EmailAddress>x</EmailAddress>", Code::UnresolvableGrantByEmailAddress),
            ("WRITE_ACP", "EVERYTHING", Code::MalformedACLError),
            ("<Permission>READ</Permission>", "", Code::MalformedACLError),
            ("AuthenticatedUsers", "Nobody", Code::InvalidArgument),
            ("<Owner>", "<Other>", Code::MalformedACLError),
        ] {
            let bad = text.replacen(from, to, 1);
            let error = from_document(bad.as_bytes(), "u", &keys()).unwrap_err();
            assert_eq!(error.code, code, "{from} → {to}");
        }
        assert_eq!(from_document(b"x", "u", &keys()).unwrap_err().code, Code::MalformedACLError);
    }
}
