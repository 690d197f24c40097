//! Buckets: list, create, head, delete, location.

use super::super::access;
use super::super::dates;
use super::super::error::{Code, S3Result};
use super::super::names;
use super::super::response;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use crate::catalogue::Creation;
use http::StatusCode;
use store_base::bucket::placement::Placement;
use store_base::bucket::{BucketId, BucketRecord, ListBuckets};
use store_shell::clock;

/// Most buckets of one answer.
const BUCKETS_MAX: u32 = 10_000;

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

pub(super) async fn list(call: &mut Call) -> S3Result<Answer> {
    let list = List::parse(call)?;
    let query = ListBuckets {
        owner: Some(call.user.id.clone()),
        prefix: list.prefix.clone(),
        after: list.after,
        max: list.max,
    };
    let page = call.service.catalogue.buckets(query).await?;
    let mut xml = Xml::root("ListAllMyBucketsResult");
    xml.open("Owner");
    xml.text("ID", &call.user.id);
    xml.text("DisplayName", &call.user.display_name);
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

/// `CreateBucket`
struct Create {
    name: String,
    location: String,
    placement: Placement,
}

impl Create {
    async fn parse(call: &mut Call) -> S3Result<Create> {
        let name = call.head.bucket()?.to_owned();
        names::check_bucket(&name)?;
        access::check_acl_headers(call)?;
        if call.head.header("x-amz-bucket-object-lock-enabled")?.is_some_and(|on| on != "false") {
            return Err(Code::NotImplemented
                .with("Object lock is not implemented.")
                .detail("Header", "x-amz-bucket-object-lock-enabled"));
        }
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
        Ok(Create { name, location, placement })
    }
}

pub(super) async fn create(call: &mut Call) -> S3Result<Answer> {
    let create = Create::parse(call).await?;
    let wanted = BucketRecord {
        id: BucketId(clock::random()),
        name: create.name.clone(),
        owner: call.user.id.clone(),
        created_ms: call.now_ms(),
        location: create.location,
        shards: call.service.settings.index_shards,
        placement: create.placement.name,
        data_pool: create.placement.pool.unwrap_or_default(),
        ..BucketRecord::default()
    };
    match call.service.catalogue.create_bucket(wanted).await? {
        Creation::Made(_) => {}
        Creation::Taken(by) => {
            let code = match by.owner == call.user.id {
                true => Code::BucketAlreadyOwnedByYou,
                false => Code::BucketAlreadyExists,
            };
            return Err(code.with(code.message()).detail("BucketName", create.name));
        }
    }
    let mut answer = response::empty(StatusCode::OK);
    response::set(answer.headers_mut(), "location", &format!("/{}", create.name));
    Ok(answer)
}

pub(super) async fn head(call: &mut Call) -> S3Result<Answer> {
    let bucket = access::bucket(call).await?;
    let mut answer = response::empty(StatusCode::OK);
    let headers = answer.headers_mut();
    response::set(headers, "x-amz-bucket-region", &call.service.settings.region);
    if call.head.query.value("read-stats") == Some("true") {
        let usage = call.service.catalogue.usage(&bucket).await?;
        response::set(headers, "x-rgw-object-count", &usage.objects.to_string());
        response::set(headers, "x-rgw-bytes-used", &usage.bytes.to_string());
    }
    Ok(answer)
}

pub(super) async fn delete(call: &mut Call) -> S3Result<Answer> {
    let bucket = access::bucket(call).await?;
    call.service.catalogue.remove_bucket(&bucket).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn location(call: &mut Call) -> S3Result<Answer> {
    access::bucket(call).await?;
    let region = &call.service.settings.region;
    let mut xml = Xml::root("LocationConstraint");
    // The first region has no name here, for historic reasons that clients know.
    if region != "us-east-1" {
        xml.raw_text(region);
    }
    xml.close("LocationConstraint");
    Ok(response::xml(xml))
}
