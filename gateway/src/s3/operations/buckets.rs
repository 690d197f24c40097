//! Buckets: list, create, head, delete, location.

use super::super::access::rules::{Ownership, document};
use super::super::access::{Permit, UserPermit};
use super::super::acl::{self, Parties};
use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::logging::flush::{Flush, flush_after};
use super::super::names;
use super::super::response;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use crate::catalogue::Creation;
use bytes::Bytes;
use http::StatusCode;
use std::collections::BTreeMap;
use store_base::bucket::placement::Placement;
use store_base::bucket::{
    BucketId, BucketRecord, ListBuckets, ObjectSettings, SettingsChange, Versioning,
};
use store_base::codec::Encode;
use store_shell::clock;

/// Most buckets of one answer.
const BUCKETS_MAX: u32 = 10_000;

/// What clients expect of this region is different from all others.
const FIRST_REGION: &str = "us-east-1";

/// `ListBuckets`
struct List {
    prefix: String,
    after: String,
    max: u32,
}

impl List {
    fn parse(call: &Call) -> S3Result<List> {
        let query = &call.head.query;
        let max = match query.value("max-buckets") {
            None => BUCKETS_MAX,
            Some(text) => {
                text.parse().ok().filter(|max| (1..=BUCKETS_MAX).contains(max)).ok_or_else(
                    || {
                        call.bad_argument(
                            "max-buckets",
                            "Argument max-buckets must be an integer between 1 and 10000",
                        )
                    },
                )?
            }
        };
        Ok(List {
            prefix: query.value("prefix").unwrap_or_default().to_owned(),
            after: query.value("continuation-token").unwrap_or_default().to_owned(),
            max,
        })
    }
}

pub(super) async fn list(permit: UserPermit, call: &mut Call) -> S3Result<Answer> {
    let list = List::parse(call)?;
    let query = ListBuckets {
        owner: Some(permit.user().id.clone()),
        prefix: list.prefix.clone(),
        after: list.after,
        max: list.max,
    };
    let page = call.service.catalogue.buckets(query).await?;
    let mut xml = Xml::root("ListAllMyBucketsResult");
    xml.open("Owner");
    xml.text("ID", &permit.user().id);
    xml.text("DisplayName", &permit.user().display_name);
    xml.close("Owner");
    xml.open("Buckets");
    for bucket in page.buckets.iter().filter(|bucket| bucket.ready) {
        xml.open("Bucket");
        xml.text("Name", &bucket.name);
        xml.text("CreationDate", &dates::iso(bucket.created_ms));
        xml.text("BucketRegion", &call.service.settings.region);
        xml.close("Bucket");
    }
    xml.close("Buckets");
    if !list.prefix.is_empty() {
        xml.text("Prefix", &list.prefix);
    }
    if let (true, Some(last)) = (page.more, page.buckets.last()) {
        xml.text("ContinuationToken", &last.name);
    }
    xml.close("ListAllMyBucketsResult");
    Ok(response::xml(xml))
}

/// What a request without a signature gets at the root: an empty list in the name of nobody, which load
/// balancers ask for to see that the gateway lives.
pub(super) fn of_nobody() -> Answer {
    let mut xml = Xml::root("ListAllMyBucketsResult");
    xml.open("Owner");
    xml.text("ID", "anonymous");
    xml.text("DisplayName", "");
    xml.close("Owner");
    xml.open("Buckets");
    xml.close("Buckets");
    xml.close("ListAllMyBucketsResult");
    response::xml(xml)
}

/// The documents that a new bucket begins with: what the headers ask for of its ACL and ownership.
fn first_documents(call: &Call, owner: &str) -> S3Result<BTreeMap<String, Bytes>> {
    let mut documents = BTreeMap::new();
    let asked = call.head.header("x-amz-object-ownership")?;
    let ownership = match asked {
        None => Ownership::default(),
        Some(name) => Ownership::from_name(name).ok_or_else(|| {
            S3Error::argument(
                "x-amz-object-ownership",
                name,
                "Invalid x-amz-object-ownership header",
            )
        })?,
    };
    if asked.is_some() {
        documents.insert(document::OWNERSHIP.to_owned(), ownership.to_xml().into_bytes().into());
    }
    let parties = Parties { owner, bucket_owner: None };
    let acl = acl::from_headers(&call.head, parties, &*call.service.keys)?;
    if let Some(acl) = acl.filter(|acl| *acl != acl::private(owner)) {
        if ownership == Ownership::BucketOwnerEnforced {
            return Err(Code::InvalidBucketAclWithObjectOwnership.into());
        }
        documents.insert(document::ACL.to_owned(), acl.to_bytes());
    }
    Ok(documents)
}

/// `CreateBucket`
struct Create {
    name: String,
    location: String,
    placement: Placement,
    settings: ObjectSettings,
}

impl Create {
    async fn parse(call: &mut Call) -> S3Result<Create> {
        let name = call.head.bucket()?.to_owned();
        names::check_bucket(&name)?;
        let settings = settings(call)?;
        let document = call.document(super::DOCUMENT_BYTES_MAX).await?;
        let mut location = String::new();
        if !document.is_empty() {
            let root = Element::parse(&document, "CreateBucketConfiguration")?;
            location = root.child_text("LocationConstraint")?.unwrap_or_default().trim().to_owned();
        }
        // As with Ceph's gateway: REGION, :PLACEMENT or REGION:PLACEMENT.
        let (location, placement) = match location.split_once(':') {
            Some((region, placement)) => (region.to_owned(), placement.to_owned()),
            None => (location, String::new()),
        };
        let region = &call.service.settings.region;
        if !location.is_empty()
            && location != *region
            && !(location == "EU" && region == "eu-west-1")
        {
            return Err(Code::IllegalLocationConstraintException
                .with(format!("The {location} location constraint is incompatible for the region specific endpoint this request was sent to.")));
        }
        let placement = call.service.catalogue.placement(&placement).ok_or_else(|| {
            Code::InvalidLocationConstraint
                .with(format!("There is no placement {placement}."))
                .detail("LocationConstraint", format!(":{placement}"))
        })?;
        Ok(Create { name, location, placement, settings })
    }
}

/// The settings that a bucket begins with: object lock brings versioning along.
fn settings(call: &Call) -> S3Result<ObjectSettings> {
    const HEADER: &str = "x-amz-bucket-object-lock-enabled";
    let lock = match call.head.header(HEADER)? {
        None => false,
        Some(on) if on.eq_ignore_ascii_case("true") => true,
        Some(off) if off.eq_ignore_ascii_case("false") => false,
        Some(other) => return Err(S3Error::argument(HEADER, other, "Must be true or false.")),
    };
    Ok(match lock {
        true => ObjectSettings {
            revision: 1,
            versioning: Versioning::Enabled,
            lock: true,
            ..ObjectSettings::default()
        },
        false => ObjectSettings::default(),
    })
}

pub(super) async fn create(permit: UserPermit, call: &mut Call) -> S3Result<Answer> {
    let create = Create::parse(call).await?;
    let documents = first_documents(call, &permit.user().id)?;
    let asked = documents.clone();
    let placement = create.placement.name.clone();
    let wanted = BucketRecord {
        id: BucketId(clock::random()),
        name: create.name.clone(),
        owner: permit.user().id.clone(),
        created_ms: call.now_ms(),
        location: create.location,
        shards: call.service.settings.index_shards,
        placement: create.placement.name,
        data_pool: create.placement.pool.unwrap_or_default(),
        settings: create.settings.clone(),
        documents,
        ..BucketRecord::default()
    };
    match call.service.catalogue.create_bucket(wanted).await? {
        // What an earlier try left half made may be without the lock.
        Creation::Made(made) if create.settings.lock && !made.settings.lock => {
            let versioning = Versioning::Enabled;
            let catalogue = &call.service.catalogue;
            catalogue.configure(&made, SettingsChange::Versioning { versioning }).await?;
            catalogue.configure(&made, SettingsChange::Lock { retention: None }).await?;
        }
        Creation::Made(_) => {}
        Creation::Taken(by) => {
            // As with Ceph's gateway: his own bucket with another ACL is not the one he asked for.
            let of = |name| by.documents.get(name) == asked.get(name);
            let owned = by.owner == permit.user().id && of(document::ACL);
            let same = by.placement == placement
                && by.settings.lock == create.settings.lock
                && (of(document::OWNERSHIP) || !asked.contains_key(document::OWNERSHIP));
            let code = match owned {
                // In its first region S3 lets a bucket be made again that is there already.
                true if same && call.service.settings.region == FIRST_REGION => None,
                true => Some(Code::BucketAlreadyOwnedByYou),
                false => Some(Code::BucketAlreadyExists),
            };
            if let Some(code) = code {
                return Err(code.with(code.message()).detail("BucketName", create.name));
            }
        }
    }
    let mut answer = response::empty(StatusCode::OK);
    response::set(answer.headers_mut(), "location", &format!("/{}", create.name));
    Ok(answer)
}

pub(super) async fn head(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let mut answer = response::empty(StatusCode::OK);
    let headers = answer.headers_mut();
    response::set(headers, "x-amz-bucket-region", &call.service.settings.region);
    if call.head.query.value("read-stats") == Some("true") {
        let usage = call.service.catalogue.usage(permit.bucket()).await?;
        response::set(headers, "x-rgw-object-count", &(usage.objects + usage.versions).to_string());
        response::set(
            headers,
            "x-rgw-bytes-used",
            &(usage.bytes + usage.version_bytes).to_string(),
        );
    }
    Ok(answer)
}

pub(super) async fn delete(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = permit.bucket();
    call.service.catalogue.remove_bucket(bucket).await?;
    if let Some(logging) = &permit.rules().logging {
        // What its log still had to tell.
        flush_after(&call.service, bucket, logging, Flush::default()).await;
    }
    Ok(response::empty(StatusCode::NO_CONTENT))
}

pub(super) fn location(permit: Permit, call: &Call) -> S3Result<Answer> {
    let region = &call.service.settings.region;
    let mut xml = Xml::root("LocationConstraint");
    // The first region has no name here, for historic reasons that clients know, unless the bucket was made
    // by its name.
    if region != FIRST_REGION || permit.bucket().location == *region {
        xml.raw_text(region);
    }
    xml.close("LocationConstraint");
    Ok(response::xml(xml))
}
