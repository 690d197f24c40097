//! The actions and condition keys that S3 knows. A name that is misspelt in a deny would deny nothing, so
//! what is not here is refused.

/// Actions without `s3:`, in lower case.
const ACTIONS: &[&str] = &[
    "abortmultipartupload",
    "bypassgovernanceretention",
    "createbucket",
    "deletebucket",
    "deletebucketownershipcontrols",
    "deletebucketpolicy",
    "deletebucketpublicaccessblock",
    "deletebucketwebsite",
    "deleteobject",
    "deleteobjecttagging",
    "deleteobjectversion",
    "deleteobjectversiontagging",
    "deletereplicationconfiguration",
    "getaccelerateconfiguration",
    "getaccountpublicaccessblock",
    "getanalyticsconfiguration",
    "getbucketacl",
    "getbucketcors",
    "getbucketencryption",
    "getbucketlocation",
    "getbucketlogging",
    "getbucketnotification",
    "getbucketobjectlockconfiguration",
    "getbucketownershipcontrols",
    "getbucketpolicy",
    "getbucketpolicystatus",
    "getbucketpublicaccessblock",
    "getbucketrequestpayment",
    "getbuckettagging",
    "getbucketversioning",
    "getbucketwebsite",
    "getencryptionconfiguration",
    "getinventoryconfiguration",
    "getlifecycleconfiguration",
    "getmetricsconfiguration",
    "getobject",
    "getobjectacl",
    "getobjectattributes",
    "getobjectlegalhold",
    "getobjectretention",
    "getobjecttagging",
    "getobjecttorrent",
    "getobjectversion",
    "getobjectversionacl",
    "getobjectversionattributes",
    "getobjectversionforreplication",
    "getobjectversiontagging",
    "getobjectversiontorrent",
    "getpublicaccessblock",
    "getreplicationconfiguration",
    "initiatereplication",
    "listallmybuckets",
    "listbucket",
    "listbucketmultipartuploads",
    "listbucketversions",
    "listmultipartuploadparts",
    "objectowneroverridetobucketowner",
    "putaccelerateconfiguration",
    "putanalyticsconfiguration",
    "putbucketacl",
    "putbucketcors",
    "putbucketencryption",
    "putbucketlogging",
    "putbucketnotification",
    "putbucketobjectlockconfiguration",
    "putbucketownershipcontrols",
    "putbucketpolicy",
    "putbucketpublicaccessblock",
    "putbucketrequestpayment",
    "putbuckettagging",
    "putbucketversioning",
    "putbucketwebsite",
    "putencryptionconfiguration",
    "putinventoryconfiguration",
    "putlifecycleconfiguration",
    "putmetricsconfiguration",
    "putobject",
    "putobjectacl",
    "putobjectlegalhold",
    "putobjectretention",
    "putobjecttagging",
    "putobjectversionacl",
    "putobjectversiontagging",
    "putpublicaccessblock",
    "putreplicationconfiguration",
    "replicatedelete",
    "replicateobject",
    "replicatetags",
    "restoreobject",
];

/// Condition keys without `s3:`, in lower case. Those that end with `/` are followed by the name of a tag.
const KEYS: &[&str] = &[
    "accessgrantsinstancearn",
    "accesspointnetworkorigin",
    "authtype",
    "buckettag/",
    "dataaccesspointaccount",
    "dataaccesspointarn",
    "delimiter",
    "existingobjecttag/",
    "if-match",
    "if-none-match",
    "inventoryaccessibleoptionalfields",
    "locationconstraint",
    "max-keys",
    "object-lock-legal-hold",
    "object-lock-mode",
    "object-lock-remaining-retention-days",
    "object-lock-retain-until-date",
    "objectcreationoperation",
    "prefix",
    "requestobjecttag/",
    "requestobjecttagkeys",
    "resourceaccount",
    "signatureage",
    "signatureversion",
    "tlsversion",
    "versionid",
    "x-amz-acl",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-metadata-directive",
    "x-amz-object-ownership",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
];

/// Those of them that nothing here gives a value: access points, grants and replication are not there, and the
/// documents of a new bucket and of an inventory are read after the decision.
const UNFILLED: &[&str] = &[
    "accessgrantsinstancearn",
    "accesspointnetworkorigin",
    "dataaccesspointaccount",
    "dataaccesspointarn",
    "inventoryaccessibleoptionalfields",
    "locationconstraint",
    "objectcreationoperation",
];

/// Condition keys of all services of AWS, without `aws:`, in lower case. Many have no value here, as they have none
/// at AWS for who comes without what they are about: a network, an organisation, tags of his own.
const GLOBAL_KEYS: &[&str] = &[
    "assumedroot",
    "calledvia",
    "calledviafirst",
    "calledvialast",
    "chatbotsourcearn",
    "currenttime",
    "ec2instancesourceprivateipv4",
    "ec2instancesourcevpc",
    "epochtime",
    "federatedprovider",
    "multifactorauthage",
    "multifactorauthpresent",
    "principalaccount",
    "principalarn",
    "principalisawsservice",
    "principalorgid",
    "principalorgpaths",
    "principalservicename",
    "principalservicenameslist",
    "principaltag/",
    "principaltype",
    "referer",
    "requestedregion",
    "requesttag/",
    "resourceaccount",
    "resourceorgid",
    "resourceorgpaths",
    "resourcetag/",
    "securetransport",
    "signinsessionarn",
    "sourceaccount",
    "sourcearn",
    "sourceidentity",
    "sourceip",
    "sourceorgid",
    "sourceorgpaths",
    "sourcevpc",
    "sourcevpcarn",
    "sourcevpce",
    "tagkeys",
    "tokenissuetime",
    "useragent",
    "userid",
    "username",
    "viaawsservice",
    "vpceaccount",
    "vpceorgid",
    "vpceorgpaths",
    "vpcsourceip",
];

/// Whether a condition key (lower case) of S3 or of all services can ever have a value. What other services have
/// is their business.
pub(super) fn is_filled(key: &str) -> bool {
    match key.split_once(':') {
        Some(("aws", name)) => is_listed(GLOBAL_KEYS, name),
        Some(("s3", name)) => !UNFILLED.contains(&name),
        _ => true,
    }
}

fn is_listed(keys: &[&str], name: &str) -> bool {
    keys.iter().any(|known| match known.ends_with('/') {
        true => name.len() > known.len() && name.starts_with(known),
        false => *known == name,
    })
}

/// Whether an action or a pattern of actions (lower case) can mean something.
pub(super) fn is_action(pattern: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.strip_prefix("s3:") {
        Some("") | None => false,
        Some(name) if name.contains(['*', '?']) => true,
        Some(name) => ACTIONS.contains(&name),
    }
}

/// Whether a condition key exists: all of `aws:`, and those of S3.
pub(super) fn is_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    match key.split_once(':') {
        Some(("aws", name)) => !name.is_empty(),
        Some(("s3", name)) => is_listed(KEYS, name),
        _ => false,
    }
}

/// As [`is_action`], for policies that may speak of other services too. Of those only the form is checked:
/// what is not here cannot be done anyway.
pub(super) fn is_action_of_any(pattern: &str) -> bool {
    let is_word = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*' | b'?'))
    };
    match pattern.split_once(':') {
        None => pattern == "*",
        Some(("s3", _)) => is_action(pattern),
        Some((service, name)) => is_word(service) && !service.contains('?') && is_word(name),
    }
}

/// As [`is_key`], for policies that may speak of other services too.
pub(super) fn is_key_of_any(key: &str) -> bool {
    match key.split_once(':') {
        Some((service, name)) if !matches!(service.to_ascii_lowercase().as_str(), "aws" | "s3") => {
            !service.is_empty() && !name.is_empty()
        }
        _ => is_key(key),
    }
}
