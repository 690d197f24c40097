//! Seeded garbage for every parser: valid samples, mutated. Nothing may panic, and where a thing can be
//! written as well as read, reading what was written gives the same thing.
//!
//! The number of inputs of each parser is fixed, so that a run is the same everywhere;
//! `STORE_FUZZ_INPUTS=1000000 cargo test -p store-gateway --lib fuzz` tries more, `STORE_FUZZ_SEED` others.

use super::access::rules::{Block, Ownership, parse_payment};
use super::auth::payload::{ChunkDecoder, Framed, PayloadMode};
use super::auth::tests::head;
use super::auth::{SigningKeys, authenticate};
use super::checksum::Announced;
use super::conditions::{ReadCondition, write_condition};
use super::cors::Cors;
use super::encryption::default::ByDefault;
use super::encryption::kms::KeyName;
use super::operations::copy_source;
use super::policy::{Context, Policy, Principal, Question};
use super::range::Range;
use super::uri::{self, Query, Target};
use super::xml::{Element, Xml};
use super::{acl, dates};
use crate::http::network::Network;
use crate::keyring::{FixedKeys, User};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Inputs of each parser, unless the environment says otherwise.
const INPUTS: u64 = 4_000;

/// Longest run of one piece that a mutation makes.
const REPEATS_MAX: u64 = 200;

/// SplitMix64.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a [u8]]) -> &'a [u8] {
        of[self.index(of.len())]
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What parsers of every kind have trouble with.
const TOKENS: [&[u8]; 30] = [
    b"",
    b"\0",
    b"\r\n",
    b"%",
    b"%00",
    b"%ff",
    b"%C3%A9",
    b"\xff\xfe",
    "\u{202e}é".as_bytes(),
    "🪣".as_bytes(),
    b"+",
    b"&",
    b"=",
    b";",
    b",",
    b"/",
    b":",
    b"*",
    b"\"",
    b"<",
    b"</",
    b"<![CDATA[",
    b"&#x10FFFF;",
    b"<!DOCTYPE a [<!ENTITY x \"y\">]>",
    b"18446744073709551616",
    b"-1",
    b"9999999999999999999999",
    b"0x10",
    b"null",
    b"{[",
];

fn mutated(chance: &mut Chance, samples: &[&[u8]]) -> Vec<u8> {
    let mut bytes = chance.pick(samples).to_vec();
    for _ in 0..chance.below(5) {
        let at = chance.index(bytes.len() + 1);
        let end = at + chance.index(bytes.len() - at + 1).min(40);
        match chance.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = chance.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let token = chance.pick(&TOKENS);
                drop(bytes.splice(at..at, token.iter().copied()));
            }
            5 => {
                let piece = bytes[at..end].repeat(chance.below(REPEATS_MAX) as usize);
                drop(bytes.splice(at..at, piece));
            }
            6 => {
                let other = chance.pick(samples);
                let from = chance.index(other.len() + 1);
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
            _ => {
                let token = chance.pick(&TOKENS);
                drop(bytes.splice(at..end, token.iter().copied()));
            }
        }
    }
    bytes
}

/// Gives a parser the samples, then mutations of them. `parse` says whether it took the input; both must have
/// happened, or the samples are no good.
pub(super) fn fuzz(
    name: &str,
    samples: &[&[u8]],
    mut parse: impl FnMut(&[u8], &mut Chance) -> bool,
) {
    let mut chance =
        Chance(number("STORE_FUZZ_SEED", 1) ^ store_base::hash::rjenkins(name.as_bytes()) as u64);
    for sample in samples {
        let shown = String::from_utf8_lossy(sample);
        assert!(parse(sample, &mut chance), "{name} refuses a sample: {shown}");
    }
    let inputs = number("STORE_FUZZ_INPUTS", INPUTS);
    let mut taken = 0;
    for _ in 0..inputs {
        let input = mutated(&mut chance, samples);
        taken += u64::from(parse(&input, &mut chance));
    }
    println!("{name}: {inputs} inputs, {taken} taken");
    assert!(taken > 0 && taken < inputs, "{name}: {taken} of {inputs} taken");
}

/// For parsers of text.
fn fuzz_text(name: &str, samples: &[&str], mut parse: impl FnMut(&str, &mut Chance) -> bool) {
    let samples: Vec<&[u8]> = samples.iter().map(|sample| sample.as_bytes()).collect();
    fuzz(name, &samples, |input, chance| {
        std::str::from_utf8(input).is_ok_and(|text| parse(text, chance))
    });
}

/// For parsers of one header's value.
fn fuzz_header(name: &'static str, samples: &[&str], mut parse: impl FnMut(&HeaderMap) -> bool) {
    let samples: Vec<&[u8]> = samples.iter().map(|sample| sample.as_bytes()).collect();
    fuzz(name, &samples, |input, _| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return false };
        parse(&[(HeaderName::from_static(name), value)].into_iter().collect())
    });
}

#[test]
fn targets_and_queries() {
    let paths = ["/b/k", "/b//a/../%2e/", "/b/%C3%A9+%25%00", "/bucket", "/"];
    fuzz_text("path", &paths, |path, _| {
        let domains = ["s3.example.com".to_owned()];
        let by_host = Target::parse(path, "/k", &domains);
        assert!(by_host.is_ok());
        let Ok(target) = Target::parse("h", path, &domains) else { return false };
        let (Some(bucket), Some(key)) = (&target.bucket, &target.key) else { return true };
        let written = format!(
            "/{}/{}",
            uri::encoded(bucket.as_bytes(), false),
            uri::encoded(key.as_bytes(), true)
        );
        assert_eq!(Target::parse("h", &written, &[]).expect("our own"), target);
        true
    });
    let queries = ["prefix=a+b%2Fc&acl&list-type=2", "versionId=&x=%C3%A9&x=2", "a=b=c&&d"];
    fuzz_text("query", &queries, |text, _| {
        let Ok(query) = Query::parse(text) else { return false };
        let canonical = query.canonical("");
        let again = Query::parse(&canonical).expect("our own");
        assert_eq!(again.canonical(""), canonical);

        true
    });
}

#[test]
fn ranges_and_dates() {
    let ranges =
        ["bytes=0-9", "bytes=-5", "bytes=7-", "BYTES = 1-2", "bytes=0-18446744073709551615"];
    fuzz_text("range", &ranges, |text, chance| {
        let Some(range) = Range::parse(text) else { return false };
        let bits = chance.below(63);
        let size = chance.below(1 << bits);
        if let Ok((first, length)) = range.resolve(size) {
            assert!(length > 0 && first.checked_add(length).is_some_and(|end| end <= size));
        }
        let written = match range {
            Range::From { first, last } => format!("bytes={first}-{last}"),
            Range::Last(count) => format!("bytes=-{count}"),
        };
        assert_eq!(Range::parse(&written), Some(range));
        true
    });
    let samples = [
        "20130524T000000Z",
        "Fri, 24 May 2013 00:00:00 GMT",
        "Friday, 24-May-13 00:00:00 GMT",
        "Fri May 24 00:00:00 2013",
        "2013-05-24T00:00:00.000Z",
        "2013-05-24T23:59:59Z",
    ];
    fuzz_text("date", &samples, |text, _| {
        let secs = dates::parse_compact(text).or_else(|| dates::parse_http(text));
        let Some(secs) = secs else { return false };
        // Years have four digits in all forms.
        assert!(secs < 253_402_300_800, "{text}");
        let ms = secs * 1000;
        assert_eq!(dates::parse_compact(&dates::compact(ms)), Some(secs));
        assert_eq!(dates::parse_http(&dates::http(ms)), Some(secs));
        assert_eq!(dates::parse_http(&dates::iso(ms)), Some(secs));
        true
    });
    fuzz_text("network", &["10.0.0.0/8", "2001:db8::/32", "::1"], |text, _| {
        text.parse::<Network>().is_ok()
    });
}

#[test]
fn headers_of_conditions_and_checksums() {
    let tags = [
        "\"00112233445566778899aabbccddeeff\"",
        "*",
        "W/\"x\", \"00112233445566778899aabbccddeeff-3\"",
    ];
    fuzz_header("if-match", &tags, |headers| write_condition(headers).is_ok());
    fuzz_header("if-modified-since", &["Fri, 24 May 2013 00:00:00 GMT"], |headers| {
        ReadCondition::from_headers(headers).is_ok_and(|read| read.modified_since.is_some())
    });
    let announced = |headers: &HeaderMap| Announced::from_headers(headers).is_ok();
    fuzz_header("content-md5", &["XrY7u+Ae7tCTyyK7j1rNww=="], announced);
    fuzz_header("x-amz-checksum-crc32", &["y/Q5Jg=="], announced);
    fuzz_header("x-amz-trailer", &["x-amz-checksum-sha256"], announced);
    let sources = ["/b/k", "b/a%20b?versionId=null", "b/k?versionId=00", "/b//%C3%A9"];
    fuzz_text("x-amz-copy-source", &sources, |text, _| copy_source(text).is_ok());
    fuzz_header(
        "x-amz-grant-read",
        &["id=u, uri=\"http://acs.amazonaws.com/groups/global/AllUsers\""],
        |headers| {
            let mut head = head("PUT", "/b/k", &[]);
            head.headers.clone_from(headers);
            let parties = acl::Parties { owner: "u", bucket_owner: None };
            acl::from_headers(&head, parties, &keys()).is_ok()
        },
    );
}

fn keys() -> FixedKeys {
    let user = |id: &str| User {
        id: id.into(),
        display_name: format!("U <{id}>"),
        secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        admin: false,
        identity: None,
        member: None,
    };
    FixedKeys::default().with("AKIAIOSFODNN7EXAMPLE", user("u")).with("kv", user("v"))
}

/// Whatever is done to a signature, only what is still the whole of it lets anybody in.
#[test]
fn signatures() {
    const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
    const SIGNED: &str = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let four = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature={SIGNED}"
    );
    let known = |head: &super::request::Head| {
        let found = authenticate(head, &keys(), &mut SigningKeys::default(), &["s3"]);
        found.is_ok_and(|found| found.user.is_some())
    };
    let with = |authorization: &[u8], range: &[u8], target: &str, date: (&'static str, &str)| {
        let fixed = [HOST, date, ("x-amz-content-sha256", EMPTY)];
        let mut head = head("GET", target, &fixed);
        let mut set = |name: &'static str, value: &[u8]| {
            HeaderValue::from_bytes(value).is_ok_and(|value| {
                head.headers.insert(HeaderName::from_static(name), value);
                true
            })
        };
        set("range", range) && set("authorization", authorization) && known(&head)
    };
    let date = ("x-amz-date", "20130524T000000Z");
    fuzz("authorization of version 4", &[four.as_bytes()], |input, _| {
        let taken = with(input, b"bytes=0-9", "/test.txt", date);
        let text = String::from_utf8_lossy(input).to_ascii_lowercase();
        assert!(!taken || text.contains(SIGNED), "{text}");
        taken
    });
    fuzz("signed header of version 4", &[b"bytes=0-9"], |input, _| {
        let taken = with(four.as_bytes(), input, "/test.txt", date);
        // White space at the ends is none, and several are one.
        let text = String::from_utf8_lossy(input);
        assert!(!taken || text.split_whitespace().eq(["bytes=0-9"]), "{text:?}");
        taken
    });
    let two = "AWS AKIAIOSFODNN7EXAMPLE:bWq2s1WEIj+Ydj0vQ697zp+IXMU=";
    fuzz("authorization of version 2", &[two.as_bytes()], |input, _| {
        let fixed =
            [("host", "johnsmith.s3.amazonaws.com"), ("date", "Tue, 27 Mar 2007 19:36:42 +0000")];
        let mut head = head("GET", "/photos/puppy.jpg", &fixed);
        head.now_ms = 1_175_024_202_000;
        let Ok(value) = HeaderValue::from_bytes(input) else { return false };
        head.headers.insert("authorization", value);
        head.target.by_host = true;
        head.target.bucket = Some("johnsmith".into());
        known(&head)
    });
    let url = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let original = Query::parse(url).expect("a query").canonical("");
    fuzz_text("presigned query", &[url], |text, _| {
        let Ok(query) = Query::parse(text) else { return false };
        let mut head = head("GET", "/test.txt", &[HOST]);
        head.query = query;
        let taken = known(&head);
        let case_of_hex = head.query.canonical("").eq_ignore_ascii_case(&original);
        assert!(!taken || case_of_hex, "{text}");
        taken
    });
}

/// All that a decoder of `aws-chunked` finds in pieces of some size; `None` if it is refused.
fn decoded(
    mut decoder: ChunkDecoder,
    input: &[u8],
    mut size: impl FnMut() -> usize,
) -> Option<(Vec<u8>, usize, bool)> {
    let (mut body, mut signatures, mut ended) = (Vec::new(), 0, false);
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(size().clamp(1, rest.len()));
        rest = behind;
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(framed) = decoder.next(&mut piece).ok()? {
            match framed {
                Framed::Data(data) => body.extend_from_slice(&data),
                Framed::ChunkEnd(_) => signatures += 1,
                Framed::End(_) => ended = true,
            }
        }
    }
    Some((body, signatures, ended))
}

#[test]
fn chunked_bodies() {
    let signature = "0".repeat(64);
    let signed = format!(
        "2000;chunk-signature={signature}\r\n{}\r\n3;chunk-signature={signature}\r\nyou\r\n0;chunk-signature={signature}\r\nx-amz-checksum-crc32:y/Q5Jg==\r\nx-amz-trailer-signature:{signature}\r\n\r\n",
        "hello, y".repeat(1024)
    );
    let unsigned = "5\r\nhello\r\n00000003\r\nyou\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n";
    let mode = |name: &str| {
        let head = head("PUT", "/b/k", &[("x-amz-content-sha256", name)]);
        PayloadMode::from_header(&head, None)
    };
    let decoder = || {
        let mode = mode("STREAMING-UNSIGNED-PAYLOAD-TRAILER").expect("needs no signature");
        mode.decoder().expect("it is chunked")
    };
    fuzz("unsigned chunks", &[unsigned.as_bytes()], |input, chance| {
        let whole = decoded(decoder(), input, || usize::MAX);
        let pieces = decoded(decoder(), input, || 1 + chance.index(9));
        assert_eq!(whole, pieces, "however it arrives");
        whole.is_some_and(|(_, _, ended)| ended)
    });
    fuzz("signed chunks", &[signed.as_bytes()], |input, chance| {
        let whole = decoded(ChunkDecoder::new(true, true), input, || usize::MAX);
        let pieces = decoded(ChunkDecoder::new(true, true), input, || 1 + chance.index(9));
        assert_eq!(whole, pieces, "however it arrives");
        whole.is_some_and(|(_, _, ended)| ended)
    });
    let mut chance = Chance(7);
    for _ in 0..200 {
        let body: Vec<u8> = (0..chance.below(5000)).map(|_| chance.below(256) as u8).collect();
        let mut framed = Vec::new();
        for chunk in body.chunks(1 + chance.index(700)) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(decoded(decoder(), &framed, || 1 + chance.index(99)), Some((body, 0, true)));
    }
}

/// Whether every document can say it: names are those of clients, and no text has the byte 0, which XML has not
/// even as a reference.
fn is_plain(element: &Element) -> bool {
    let name = &element.name;
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphabetic())
        && !element.text.contains('\0')
        && element.children.iter().all(is_plain)
}

fn write(element: &Element, xml: &mut Xml) {
    xml.open(&element.name);
    xml.raw_text(&element.text);
    element.children.iter().for_each(|child| write(child, xml));
    xml.close(&element.name);
}

#[test]
fn documents_of_xml() {
    let samples: [&[u8]; 3] = [
        b"<?xml version=\"1.0\"?><a xmlns=\"x\"><b>t &amp; &#x41;<![CDATA[<c>]]></b><b/></a>",
        b"<x:a xmlns:x=\"y\"><!-- no --><x:b c=\"d\">e</x:b></x:a>",
        b"<a><b><c><d><e>deep</e></d></c></b>\r\n</a>",
    ];
    fuzz("xml", &samples, |input, _| {
        let Ok(root) = Element::parse(input, "a") else { return false };
        if !is_plain(&root) {
            return true;
        }
        let mut xml = Xml::document();
        write(&root, &mut xml);
        let written = xml.into_bytes();
        let again = Element::parse(&written, "a").expect("our own");
        assert_eq!(again, root, "{}", String::from_utf8_lossy(&written));
        true
    });
}

#[test]
fn documents_of_buckets() {
    let acl_of = |inner: &str| {
        format!(
            "<AccessControlPolicy><Owner><ID>u</ID></Owner><AccessControlList>{inner}</AccessControlList></AccessControlPolicy>"
        )
    };
    let one = acl_of("<Grant><Grantee><ID>v</ID></Grantee><Permission>READ</Permission></Grant>");
    let two = acl_of(
        "<Grant><Grantee><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>FULL_CONTROL</Permission></Grant>",
    );
    fuzz("acl", &[one.as_bytes(), two.as_bytes()], |input, _| {
        let Ok(acl) = acl::from_document(input, "u", &keys()) else { return false };
        let written = acl::to_xml(&acl, "u", &keys()).into_bytes();
        let again = acl::from_document(&written, "u", &keys()).expect("our own");
        let twice = acl::to_xml(&again, "u", &keys()).into_bytes();
        assert_eq!(written, twice);
        true
    });
    let cors: [&[u8]; 2] = [
        b"<CORSConfiguration><CORSRule><AllowedOrigin>http://*.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedHeader>x-*</AllowedHeader><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule></CORSConfiguration>",
        b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PUT</AllowedMethod><ExposeHeader>etag</ExposeHeader></CORSRule></CORSConfiguration>",
    ];
    fuzz("cors", &cors, |input, _| {
        let Ok(cors) = Cors::parse(input) else { return false };
        if let Some(rule) = cors.rule("http://a.example", "GET", &["x-a"]) {
            rule.apply("http://a.example", Some("x-a"), &mut HeaderMap::new());
        }
        true
    });
    let block: &[u8] = b"<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>FALSE</IgnorePublicAcls></PublicAccessBlockConfiguration>";
    fuzz("public access block", &[block], |input, _| {
        let Ok(block) = Block::parse(input) else { return false };
        assert_eq!(Block::parse(&block.to_xml().into_bytes()).expect("our own"), block);
        true
    });
    let ownership: &[u8] = b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";
    fuzz("ownership", &[ownership], |input, _| {
        let Ok(ownership) = Ownership::parse(input) else { return false };
        assert_eq!(Ownership::parse(&ownership.to_xml().into_bytes()).expect("our own"), ownership);
        true
    });
    let payment: &[u8] =
        b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>";
    fuzz("request payment", &[payment], |input, _| parse_payment(input).is_ok());
}

#[test]
fn policies() {
    let samples: [&[u8]; 3] = [
        br#"{"Version":"2012-10-17","Id":"x","Statement":[{"Sid":"a","Effect":"Allow","Principal":{"AWS":["u","arn:aws:iam::v:root"]},"Action":["s3:Get*","s3:ListBucket"],"Resource":["arn:aws:s3:::b","arn:aws:s3:::b/${aws:username}/*"]}]}"#,
        br#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","NotAction":"s3:PutObject","NotResource":"arn:aws:s3:::b/open/?*","Condition":{"StringNotEqualsIfExists":{"aws:Referer":["\u0061","${*}"]},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"NumericLessThan":{"s3:max-keys":"10"},"ForAllValues:StringLike":{"s3:RequestObjectTagKeys":["a*"]}}}}"#,
        br#"{"Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":"u"},"Action":"*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2013-05-24T00:00:00Z"},"Bool":{"aws:SecureTransport":"false"},"Null":{"aws:username":"true"},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam:::user/*"}}}]}"#,
    ];
    let mut context = Context::default();
    for (key, value) in [("aws:username", "u"), ("aws:SourceIp", "10.1.2.3"), ("s3:max-keys", "7")]
    {
        context.add(key, value);
    }
    fuzz("policy", &samples, |input, _| {
        let Ok(policy) = Policy::parse(input, "b") else { return false };
        for principal in [Principal::Anonymous, Principal::User("u")] {
            for resource in ["b", "b/k", "b/u/x"] {
                let question =
                    Question { principal, action: "s3:GetObject", resource, context: &context };
                let verdict = policy.verdict(&question);
                assert_eq!(policy.verdict(&question), verdict);
            }
        }
        policy.is_public();
        assert_eq!(Policy::parse(input, "b").as_ref(), Ok(&policy));
        true
    });
}

#[test]
fn encryption() {
    let document: &[u8] = b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>";
    fuzz("encryption by default", &[document], |input, _| ByDefault::parse(input).is_ok());
    let names = ["testkey-1", "alias/aws/s3", "arn:aws:kms:r1:1:key/k", "arn:aws:kms:::alias/k"];
    fuzz_text("names of keys", &names, |text, _| {
        let Ok(name) = KeyName::parse(text, "r1") else { return false };
        // What answers say is a name of the same key.
        let shown = if name.shown.is_empty() { &name.id } else { &name.shown };
        assert_eq!(KeyName::parse(shown, "r1").expect("our own"), name);
        true
    });
}
