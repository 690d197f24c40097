//! `/info`: what this server can do. Nothing is said here that is not there.

use super::access::CONTAINER_BYTES_MAX;
use super::acl::HEADER_BYTES_MAX;
use super::listing::LIMIT_MAX;
use super::metadata::{BYTES_MAX, ITEMS_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use super::{archive, bulk, respond, slo, symlink, tempurl};
use crate::s3::names::KEY_BYTES_MAX;
use crate::s3::operations::write::PIECE_OBJECT_BYTES_MAX;
use crate::s3::{Answer, Service, response};
use http::StatusCode;
use serde_json::{Value, json};
use store_base::bucket::PARTS_MAX;

/// Placements, as policies.
fn policies(service: &Service) -> Value {
    let default = service.catalogue.placement("").map(|placement| placement.name);
    let policy = |name: String| match default.as_ref() == Some(&name) {
        true => json!({ "name": name, "aliases": name, "default": true }),
        false => json!({ "name": name, "aliases": name }),
    };
    service.catalogue.placements().into_iter().map(policy).collect()
}

fn capabilities(service: &Service) -> Value {
    let mut capabilities = json!({
        "swift": {
            "version": concat!("store ", env!("CARGO_PKG_VERSION")),
            "valid_api_versions": ["v1", "v1.0"],
            "max_file_size": PIECE_OBJECT_BYTES_MAX,
            "max_meta_name_length": NAME_BYTES_MAX,
            "max_meta_value_length": VALUE_BYTES_MAX,
            "max_meta_count": ITEMS_MAX,
            "max_meta_overall_size": BYTES_MAX,
            "max_header_size": HEADER_BYTES_MAX,
            "max_object_name_length": KEY_BYTES_MAX,
            "max_container_name_length": CONTAINER_BYTES_MAX,
            "account_listing_limit": LIMIT_MAX,
            "container_listing_limit": LIMIT_MAX,
            "allow_account_management": false,
            "account_autocreate": true,
            "strict_cors_mode": true,
            "policies": policies(service),
        },
        "tempauth": { "account_acls": true },
        "s3api": {
            "allow_multipart_uploads": true,
            "location": service.settings.region,
            "max_bucket_listing": 1000,
            "max_multi_delete_objects": 1000,
            "max_parts_listing": 1000,
            "max_upload_part_num": PARTS_MAX,
            "min_segment_size": 5 << 20,
            "s3_acl": true,
        },
        "dlo": {},
        "slo": {
            "max_manifest_segments": slo::SEGMENTS_MAX,
            "max_manifest_size": slo::MANIFEST_BYTES_MAX,
            "min_segment_size": 1,
            "yield_frequency": 0,
        },
        "tempurl": {
            "methods": ["GET", "HEAD", "PUT", "POST", "DELETE"],
            "allowed_digests": tempurl::DIGESTS,
            "deprecated_digests": ["sha1"],
            "incoming_remove_headers": [],
            "incoming_allow_headers": [],
            "outgoing_remove_headers": ["x-object-meta-*"],
            "outgoing_allow_headers": ["x-object-meta-public-*"],
        },
        "formpost": {
            "allowed_digests": tempurl::DIGESTS,
            "deprecated_digests": ["sha1"],
        },
        "symlink": { "symloop_max": symlink::LINKS_MAX, "static_links": true },
        "object_versioning": {},
        "versioned_writes": { "allowed_flags": ["x-versions-location", "x-history-location"] },
        "bulk_delete": {
            "max_deletes_per_request": bulk::DELETES_MAX,
            "max_failed_deletes": bulk::FAILURES_MAX,
        },
        "bulk_upload": {
            "max_containers_per_extraction": archive::CONTAINERS_MAX,
            "max_failed_extractions": bulk::FAILURES_MAX,
        },
        "container_quotas": {},
        "account_quotas": {},
        "staticweb": {},
    });
    if !service.settings.domains.is_empty() {
        capabilities["domain_remap"] = json!({ "default_reseller_prefixes": ["AUTH"] });
    }
    capabilities
}

/// The answer to `GET /info`.
pub(super) fn answer(service: &Service) -> Answer {
    let body = capabilities(service).to_string();
    respond::with_body(StatusCode::OK, "application/json; charset=UTF-8", body)
}

/// The answer to `OPTIONS /info`.
pub(super) fn options() -> Answer {
    let mut answer = respond::empty(StatusCode::OK);
    response::set(answer.headers_mut(), "allow", "HEAD, GET, OPTIONS");
    answer
}
