//! Seeded garbage for the documents and headers of operations; see [`crate::s3::fuzz`].

use super::super::fuzz::fuzz;
use super::{delete, list, lock, multipart, tagging, versioning};
use crate::s3::uri;

fn text(parse: impl Fn(&str) -> bool) -> impl FnMut(&[u8], &mut crate::s3::fuzz::Chance) -> bool {
    move |input, _| std::str::from_utf8(input).is_ok_and(&parse)
}

#[test]
fn tags() {
    let samples: [&[u8]; 2] = [
        b"<Tagging><TagSet><Tag><Key>a</Key><Value>b &amp; c</Value></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet/></Tagging>",
    ];
    fuzz("tagging", &samples, |input, _| {
        let Ok(tags) = tagging::parse(input, 10) else { return false };
        let written = tagging::document(&tags).into_bytes();
        assert_eq!(tagging::parse(&written, 10).expect("our own"), tags);
        true
    });
    fuzz(
        "x-amz-tagging",
        &[b"a=b&c=%C3%A9+d", b"only"],
        text(|header| {
            let Ok(tags) = tagging::parse_header(header) else { return false };
            let pairs = tags.iter().map(|(name, value)| {
                let encoded = |text: &String| uri::encoded(text.as_bytes(), false);
                format!("{}={}", encoded(name), encoded(value))
            });
            let written = pairs.collect::<Vec<_>>().join("&");
            assert_eq!(tagging::parse_header(&written).expect("our own"), tags);
            true
        }),
    );
}

#[test]
fn lists_of_keys_and_parts() {
    let delete: [&[u8]; 2] = [
        b"<Delete><Object><Key>a</Key><VersionId>null</VersionId><ETag>*</ETag></Object><Quiet>true</Quiet></Delete>",
        b"<Delete><Object><Key>&#x20;b</Key></Object><Object><Key>c</Key></Object></Delete>",
    ];
    fuzz("delete", &delete, |input, _| delete::DeleteObjects::parse(input).is_ok());
    let parts: [&[u8]; 1] = [
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"00112233445566778899aabbccddeeff\"</ETag></Part><Part><PartNumber>2</PartNumber><ETag>00112233445566778899aabbccddeeff</ETag><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part></CompleteMultipartUpload>",
    ];
    fuzz("complete", &parts, |input, _| multipart::parse_parts(input).is_ok());
    let token = list::encode_token("a/é\0".as_bytes());
    fuzz(
        "continuation token",
        &[token.as_bytes()],
        text(|token| {
            let Some(from) = list::decode_token(token) else { return false };
            assert_eq!(list::encode_token(&from), token);
            true
        }),
    );
}

#[test]
fn locks_and_versions() {
    let configuration: [&[u8]; 2] = [
        b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>3</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
        b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>",
    ];
    fuzz("object lock", &configuration, |input, _| lock::parse_configuration(input).is_ok());
    let retention: &[u8] = b"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate></Retention>";
    fuzz("retention", &[retention], |input, _| lock::parse_retention(input).is_ok());
    let versions: &[u8] = b"<VersioningConfiguration><MfaDelete>Disabled</MfaDelete><Status>Enabled</Status></VersioningConfiguration>";
    fuzz("versioning", &[versions], |input, _| versioning::parse(input).is_ok());
}
