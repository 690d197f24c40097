//! The examples that AWS published for Signature Version 4 on S3, and what must be refused.

use super::payload::{Framed, Inspector, Piece, Trailer};
use super::*;
use crate::keyring::FixedKeys;
use crate::s3::checksum::Announced;
use crate::s3::uri::{Query, Target};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z
const EXAMPLE_MS: u64 = 1_369_353_600_000;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(crate) fn head(method: &str, target: &str, headers: &[(&'static str, &str)]) -> Head {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
        })
        .collect();
    let host = headers.get("host").map(|host| host.to_str().expect("text")).unwrap_or_default();
    let domains = ["s3.amazonaws.com".to_owned()];
    Head {
        method: Method::from_bytes(method.as_bytes()).expect("a method"),
        raw_path: path.to_owned(),
        query: Query::parse(query).expect("a query"),
        target: Target::parse(host, path, &domains).expect("a target"),
        now_ms: EXAMPLE_MS,
        request_id: String::new(),
        peer: Default::default(),
        headers,
    }
}

fn ask(head: &Head) -> S3Result<Authenticated> {
    let user = User { id: "u".into(), secret: SECRET.into(), ..User::default() };
    let keys = FixedKeys::default().with(ACCESS_KEY, user);
    authenticate(head, &keys, &mut SigningKeys::default(), &["s3"])
}

fn code(head: &Head) -> &'static str {
    ask(head).map_or_else(|error| error.code.name(), |_| "ok")
}

fn authorization(signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed_headers},Signature={signature}"
    )
}

const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");

#[test]
fn published_header_examples() {
    let get = authorization(
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    let get = [
        HOST,
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY),
        DATE,
        ("authorization", &get),
    ];
    assert_eq!(code(&head("GET", "/test.txt", &get)), "ok");

    let put = authorization(
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    let put = [
        HOST,
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        (
            "x-amz-content-sha256",
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        ),
        DATE,
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("authorization", &put),
    ];
    assert_eq!(code(&head("PUT", "/test$file.text", &put)), "ok");
    assert_eq!(code(&head("PUT", "/test%24file.text", &put)), "ok");

    for (target, signature) in [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/?max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ] {
        let auth = authorization("host;x-amz-content-sha256;x-amz-date", signature);
        let headers = [HOST, ("x-amz-content-sha256", EMPTY), DATE, ("authorization", &*auth)];
        assert_eq!(code(&head("GET", target, &headers)), "ok", "{target}");
        assert_eq!(code(&head("GET", "/?max-keys=3&prefix=J", &headers)), "SignatureDoesNotMatch");
        assert_eq!(code(&head("POST", target, &headers)), "SignatureDoesNotMatch");
    }
}

const PRESIGNED: &str = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";

#[test]
fn published_presigned_example_and_its_time() {
    let mut request = head("GET", PRESIGNED, &[HOST]);
    assert_eq!(code(&request), "ok");
    request.now_ms = EXAMPLE_MS + 86_400_000;
    assert_eq!(code(&request), "ok");
    request.now_ms += 1000;
    assert_eq!(code(&request), "AccessDenied");
    request.now_ms = EXAMPLE_MS - 16 * 60_000;
    assert_eq!(code(&request), "AccessDenied");

    let changed = |from: &str, to: &str| code(&head("GET", &PRESIGNED.replace(from, to), &[HOST]));
    assert_eq!(changed("86400", "86401"), "SignatureDoesNotMatch");
    assert_eq!(changed("86400", "604801"), "AccessDenied");
    assert_eq!(changed("86400", "-1"), "AccessDenied");
    assert_eq!(changed("86400", "x"), "AuthorizationQueryParametersError");
    assert_eq!(changed("&X-Amz-Expires=86400", ""), "AuthorizationQueryParametersError");
    assert_eq!(changed("test.txt", "other.txt"), "SignatureDoesNotMatch");
    assert_eq!(changed("AKIAIOSFODNN7EXAMPLE", "AKIAOTHER"), "InvalidAccessKeyId");
    assert_eq!(changed("HMAC-SHA256", "HMAC-SHA1"), "AuthorizationQueryParametersError");
    let extra = head("GET", PRESIGNED, &[HOST, ("x-amz-meta-a", "b")]);
    assert_eq!(code(&extra), "AccessDenied");
}

#[test]
fn what_is_wrong_is_named() {
    let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    let good = authorization("host;range;x-amz-content-sha256;x-amz-date", signature);
    let with = |auth: &str, extra: &[(&'static str, &str)]| {
        let mut headers = vec![HOST, ("range", "bytes=0-9"), ("x-amz-content-sha256", EMPTY)];
        headers.push(("authorization", auth));
        headers.extend_from_slice(extra);
        code(&head("GET", "/test.txt", &headers))
    };
    assert_eq!(with(&good, &[DATE]), "ok");
    assert_eq!(with(&good.replace(',', ", "), &[DATE]), "ok");
    assert_eq!(with(&good, &[]), "AccessDenied");
    assert_eq!(with(&good, &[("x-amz-date", "nonsense")]), "AccessDenied");
    assert_eq!(with(&good, &[("x-amz-date", "20130525T000000Z")]), "AuthorizationHeaderMalformed");
    assert_eq!(with(&good, &[DATE, ("x-amz-meta-x", "1")]), "AccessDenied");
    assert_eq!(with(&good, &[DATE, ("x-amz-security-token", "t")]), "InvalidToken");
    assert_eq!(with(&good.replace("AKIA", "BKIA"), &[DATE]), "InvalidAccessKeyId");
    assert_eq!(with(&good.replace("/s3/", "/ec2/"), &[DATE]), "AuthorizationHeaderMalformed");
    assert_eq!(with(&good.replace("aws4_request", "x"), &[DATE]), "AuthorizationHeaderMalformed");
    assert_eq!(
        with(&good.replace("Signature=f0", "Signature=f1"), &[DATE]),
        "SignatureDoesNotMatch"
    );
    assert_eq!(
        with(&good.replace("Signature=f0", "Signature=g0"), &[DATE]),
        "AuthorizationHeaderMalformed"
    );
    assert_eq!(with(&good.replace("host;", ""), &[DATE]), "AccessDenied");
    assert_eq!(with("AWS AKIA:sig", &[DATE]), "InvalidAccessKeyId");
    assert_eq!(with("AWS AKIA", &[DATE]), "InvalidArgument");
    assert_eq!(with(&format!("AWS {ACCESS_KEY}:sig"), &[DATE]), "SignatureDoesNotMatch");
    assert_eq!(with("Basic eA==", &[DATE]), "InvalidArgument");
    assert_eq!(with("AWS4-HMAC-SHA256 ", &[DATE]), "AuthorizationHeaderMalformed");

    let headers = [
        HOST,
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY),
        DATE,
        ("authorization", &*good),
    ];
    let mut late = head("GET", "/test.txt", &headers);
    late.now_ms += 14 * 60_000;
    assert_eq!(code(&late), "ok");
    late.now_ms += 2 * 60_000;
    assert_eq!(code(&late), "RequestTimeTooSkewed");
    // A wrong clock is said before a wrong signature.
    late.method = Method::DELETE;
    assert_eq!(code(&late), "RequestTimeTooSkewed");
    assert!(ask(&head("GET", "/", &[HOST])).unwrap().user.is_none());
}

#[test]
fn signing_keys_are_kept_of_right_signatures() {
    let user = User { id: "u".into(), secret: SECRET.into(), ..User::default() };
    let keys = FixedKeys::default().with(ACCESS_KEY, user);
    let mut cache = SigningKeys::default();
    let mut ask = |target: &str| {
        let code = authenticate(&head("GET", target, &[HOST]), &keys, &mut cache, &["s3"])
            .map_or_else(|error| error.code.name(), |_| "ok");
        (code, cache.kept())
    };
    let region = |region: &str| PRESIGNED.replace("us-east-1", region);
    assert_eq!(ask(&region("eu-west-1")), ("SignatureDoesNotMatch", 0));
    assert_eq!(ask(&region(&"r".repeat(64))), ("SignatureDoesNotMatch", 0));
    assert_eq!(ask(&region(&"r".repeat(65))), ("AuthorizationQueryParametersError", 0));
    assert_eq!(ask(PRESIGNED), ("ok", 1));
    assert_eq!(ask(PRESIGNED), ("ok", 1));
}

/// The published examples of version 2, with the key of their time.
#[test]
fn published_examples_of_version_2() {
    const JOHN: &str = "johnsmith.s3.amazonaws.com";
    let ask = |request: &mut Head, at: &str| {
        request.target = Target::parse(
            request.headers["host"].to_str().expect("text"),
            &request.raw_path,
            &["s3.amazonaws.com".to_owned()],
        )
        .expect("a target");
        request.now_ms = crate::s3::dates::parse_http(at).expect("a date") * 1000;
        code(request)
    };
    for (method, target, date, signature, extra) in [
        (
            "GET",
            "/photos/puppy.jpg",
            "Tue, 27 Mar 2007 19:36:42 +0000",
            "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
            None,
        ),
        (
            "PUT",
            "/photos/puppy.jpg",
            "Tue, 27 Mar 2007 21:15:45 +0000",
            "MyyxeRY7whkBe+bq8fHCL/2kKUg=",
            Some(("content-type", "image/jpeg")),
        ),
        (
            "GET",
            "/?prefix=photos&max-keys=50&marker=puppy",
            "Tue, 27 Mar 2007 19:42:41 +0000",
            "htDYFYduRNen8P9ZfE/s9SuKy0U=",
            None,
        ),
        ("GET", "/?acl", "Tue, 27 Mar 2007 19:44:46 +0000", "c2WLPFtWHVgbEmeEG93a4cG37dM=", None),
    ] {
        let auth = format!("AWS {ACCESS_KEY}:{signature}");
        let mut headers = vec![("host", JOHN), ("date", date), ("authorization", &*auth)];
        headers.extend(extra);
        let mut request = head(method, target, &headers);
        assert_eq!(ask(&mut request, date), "ok", "{method} {target}");
        assert_eq!(ask(&mut request, "Wed, 28 Mar 2007 19:36:42 +0000"), "RequestTimeTooSkewed");
        request.method = Method::DELETE;
        assert_eq!(ask(&mut request, date), "SignatureDoesNotMatch");
        assert_eq!(ask(&mut request, "Wed, 28 Mar 2007 19:36:42 +0000"), "RequestTimeTooSkewed");
    }
    let url = "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620";
    let mut request = head("GET", url, &[("host", JOHN)]);
    assert_eq!(ask(&mut request, "Tue, 27 Mar 2007 19:36:42 +0000"), "ok");
    assert_eq!(ask(&mut request, "Thu, 29 Mar 2007 19:36:42 +0000"), "AccessDenied");
    let mut other = head("GET", &url.replace("puppy", "kitten"), &[("host", JOHN)]);
    assert_eq!(ask(&mut other, "Tue, 27 Mar 2007 19:36:42 +0000"), "SignatureDoesNotMatch");
    // Nobody makes it a URL of something else.
    for (more, expected) in [
        ("&unknown=1", "ok"),
        ("&retention", "AccessDenied"),
        ("&legal-hold=", "AccessDenied"),
        ("&unknown=1&attributes", "AccessDenied"),
        ("&tagging", "SignatureDoesNotMatch"),
        ("&website", "SignatureDoesNotMatch"),
    ] {
        let mut other = head("GET", &format!("{url}{more}"), &[("host", JOHN)]);
        assert_eq!(ask(&mut other, "Tue, 27 Mar 2007 19:36:42 +0000"), expected, "{more}");
    }
}

/// The body of the published chunked examples: 65 KiB of `a` in a chunk of 64 KiB and one of 1 KiB.
fn chunked_body(signatures: [&str; 3], trailer: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (size, signature) in [65536usize, 1024, 0].into_iter().zip(signatures) {
        body.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
        body.extend(std::iter::repeat_n(b'a', size));
        if size > 0 {
            body.extend_from_slice(b"\r\n");
        }
    }
    body.extend_from_slice(trailer.as_bytes());
    body.extend_from_slice(b"\r\n");
    body
}

/// Decodes a body that arrives `step` bytes at a time, and inspects it.
fn read(mode: &PayloadMode, announced: Announced, body: &[u8], step: usize) -> S3Result<u64> {
    let mut decoder = mode.decoder().expect("a chunked mode");
    let mut inspector = Inspector::new(mode, announced, None);
    let mut trailers: Option<Vec<Trailer>> = None;
    for chunk in body.chunks(step) {
        let mut input = Bytes::copy_from_slice(chunk);
        while let Some(framed) = decoder.next(&mut input)? {
            match framed {
                Framed::Data(data) => inspector.update(&Piece { data, chunk_ends: vec![] }),
                Framed::ChunkEnd(signature) => {
                    inspector
                        .update(&Piece { data: Bytes::new(), chunk_ends: vec![(0, signature)] });
                }
                Framed::End(found) => trailers = Some(found),
            }
        }
    }
    let trailers = trailers.ok_or(Code::IncompleteBody)?;
    Ok(inspector.finish(&trailers)?.size)
}

const CHUNKS: [&str; 3] = [
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
];

#[test]
fn published_chunked_example() {
    let auth = authorization(
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    let headers = [
        ("host", "s3.amazonaws.com"),
        DATE,
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("content-length", "66824"),
        ("authorization", &*auth),
    ];
    let head = head("PUT", "/examplebucket/chunkObject.txt", &headers);
    let mode = ask(&head).map_err(|e| e.to_string()).unwrap().payload;
    let body = chunked_body(CHUNKS, "");
    assert_eq!(body.len(), 66824);
    for step in [1, 7, 4096, 100_000] {
        assert_eq!(read(&mode, Announced::default(), &body, step).unwrap(), 66560, "{step}");
    }
    let wrong = |at: usize| {
        let mut body = body.clone();
        body[at] ^= 1;
        read(&mode, Announced::default(), &body, 4096).unwrap_err().code
    };
    assert_eq!(wrong(1000), Code::SignatureDoesNotMatch);
    assert_eq!(wrong(65_700), Code::SignatureDoesNotMatch);
    assert_eq!(wrong(30), Code::SignatureDoesNotMatch);
    assert_eq!(wrong(0), Code::InvalidRequest);
    let cut = read(&mode, Announced::default(), &body[..66_000], 4096).unwrap_err();
    assert_eq!(cut.code, Code::IncompleteBody);
}

#[test]
fn published_trailer_example() {
    let auth = authorization(
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    let headers = [
        ("host", "s3.amazonaws.com"),
        DATE,
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-trailer", "x-amz-checksum-crc32c"),
        ("authorization", &*auth),
    ];
    let head = head("PUT", "/examplebucket/chunkObject.txt", &headers);
    let mode = ask(&head).map_err(|e| e.to_string()).unwrap().payload;
    let announced = Announced::from_headers(&head.headers).unwrap();
    let signatures = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    let trailer = |checksum: &str, end: &str| {
        format!(
            "x-amz-checksum-crc32c:{checksum}{end}x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"
        )
    };
    let body = chunked_body(signatures, &trailer("sOO8/Q==", "\r\n"));
    assert_eq!(read(&mode, announced.clone(), &body, 1000).unwrap(), 66560);
    let body = chunked_body(signatures, &trailer("sOO8/Q==", "\n"));
    assert_eq!(read(&mode, announced.clone(), &body, 1000).unwrap(), 66560);
    let other = chunked_body(signatures, &trailer("sOO8/A==", "\r\n"));
    let refused = read(&mode, announced.clone(), &other, 1000).unwrap_err();
    assert_eq!(refused.code, Code::SignatureDoesNotMatch);
    let none = chunked_body(signatures, "");
    assert_eq!(read(&mode, announced, &none, 1000).unwrap_err().code, Code::SignatureDoesNotMatch);
}

#[test]
fn unsigned_trailers_are_checked() {
    let mode = PayloadMode::UnsignedTrailer;
    let announced = || Announced {
        trailer: Some(crate::s3::checksum::Algorithm::Crc32),
        ..Announced::default()
    };
    let body =
        |checksum: &str| format!("9\r\n123456789\r\n0\r\nx-amz-checksum-crc32: {checksum}\r\n\r\n");
    assert_eq!(read(&mode, announced(), body("y/Q5Jg==").as_bytes(), 3).unwrap(), 9);
    let wrong = read(&mode, announced(), body("y/Q5Jw==").as_bytes(), 3).unwrap_err();
    assert_eq!(wrong.code, Code::BadDigest);
    let none = read(&mode, announced(), b"9\r\n123456789\r\n0\r\n\r\n", 3).unwrap_err();
    assert_eq!(none.code, Code::InvalidRequest);
}

#[test]
fn short_signed_chunks_are_the_last() {
    let framed = |signed: bool, sizes: &[usize]| {
        let mut body = Vec::new();
        for size in sizes {
            let signature =
                if signed { format!(";chunk-signature={}", CHUNKS[0]) } else { String::new() };
            body.extend_from_slice(format!("{size:x}{signature}\r\n").as_bytes());
            body.extend(std::iter::repeat_n(b'a', *size));
            body.extend_from_slice(b"\r\n");
        }
        let mut decoder = payload::ChunkDecoder::new(signed, false);
        let (mut input, mut decoded) = (Bytes::from(body), 0);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Framed::Data(data))) => decoded += data.len(),
                Ok(Some(Framed::ChunkEnd(_))) => {}
                Ok(Some(Framed::End(_))) => return Ok(decoded),
                Ok(None) => return Err(Code::IncompleteBody),
                Err(error) => return Err(error.code),
            }
        }
    };
    for sizes in [&[8192, 8192, 1, 0][..], &[8191, 0], &[1, 0], &[0]] {
        assert_eq!(framed(true, sizes), Ok(sizes.iter().sum()), "{sizes:?}");
    }
    for sizes in [&[1, 1, 0][..], &[8191, 8192, 0], &[8192, 1, 8192, 0]] {
        assert_eq!(framed(true, sizes), Err(Code::InvalidChunkSizeError), "{sizes:?}");
        assert_eq!(framed(false, sizes), Ok(sizes.iter().sum()), "{sizes:?}");
    }
}

#[test]
fn seeded_framing_never_panics_and_never_invents_bytes() {
    let pieces: [&[u8]; 9] = [
        b"0",
        b"5",
        b"\r\n",
        b"\n",
        b";chunk-signature=",
        b"ffffffffffffffff",
        b"hello",
        b":",
        b"\xff",
    ];
    let mut seed = 7u64;
    for _ in 0..30_000 {
        let mut body = Vec::new();
        for _ in 0..seed >> 60 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            body.extend_from_slice(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(3);
        let mut decoder = PayloadMode::UnsignedTrailer.decoder().expect("chunked");
        let mut input = Bytes::from(body.clone());
        let mut decoded = 0;
        while let Ok(Some(framed)) = decoder.next(&mut input) {
            match framed {
                Framed::Data(data) => decoded += data.len(),
                Framed::ChunkEnd(_) => panic!("not signed"),
                Framed::End(_) => break,
            }
        }
        assert!(decoded <= body.len());
    }
}

#[test]
fn seeded_authorization_headers_never_panic() {
    let pieces = [
        "AWS4-HMAC-SHA256",
        " ",
        "Credential=",
        "a/20130524/r/s3/aws4_request",
        "/",
        ",",
        "SignedHeaders=",
        "host",
        ";",
        "Signature=",
        "=",
        "0f",
        "é",
    ];
    let mut seed = 3u64;
    for _ in 0..20_000 {
        let mut value = String::new();
        for _ in 0..seed >> 60 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            value.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(5);
        let mut request = head("GET", "/", &[HOST, DATE, ("x-amz-content-sha256", EMPTY)]);
        let bytes = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        request.headers.insert("authorization", bytes);
        assert!(ask(&request).is_err());
        let query =
            format!("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={value}&X-Amz-Date={value}");
        if let Ok(query) = Query::parse(&query) {
            request.query = query;
            assert!(ask(&request).is_err());
        }
    }
}
