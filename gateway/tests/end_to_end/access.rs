//! Who may do what, through the socket: nobody gets anywhere undecided; ACLs, policies, public access blocks
//! and ownership do what they say; pages of other origins are told what they may see.

use crate::World;
use crate::client::{Answer, Client, read_answer};
use std::collections::BTreeSet;
use std::io::Write;
use store_gateway::s3::request::Head;
use store_gateway::s3::router::{Operation, route};
use store_gateway::s3::uri::{Query, Target};

impl World {
    /// The other user.
    fn other(&self) -> Client {
        Client { access_key: "v".into(), secret: "vsecret".into(), ..self.client.clone() }
    }

    fn admin(&self) -> Client {
        Client { access_key: "a".into(), secret: "asecret".into(), ..self.client.clone() }
    }

    /// A request without a signature.
    fn nobody(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.client.connect();
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n");
        headers.iter().for_each(|(n, v)| head.push_str(&format!("{n}: {v}\r\n")));
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(body);
        read_answer(&mut stream, method).expect("an answer")
    }

    fn send(&self, target: &str, body: &str) -> Answer {
        self.client.ask("PUT", target, body.as_bytes())
    }

    fn policy(&self, statements: &str) {
        let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        let put = self.send("/bucket?policy=", &policy);
        assert_eq!(put.status, 204, "{}", put.text());
    }

    fn ownership(&self, ownership: &str) -> Answer {
        let text = format!(
            "<OwnershipControls><Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule></OwnershipControls>"
        );
        self.send("/bucket?ownershipControls=", &text)
    }

    fn block(&self, flag: &str) {
        let text = format!(
            "<PublicAccessBlockConfiguration><{flag}>true</{flag}></PublicAccessBlockConfiguration>"
        );
        assert_eq!(self.send("/bucket?publicAccessBlock=", &text).status, 200);
    }

    fn canned(&self, target: &str, acl: &str) -> Answer {
        self.client.ask_with("PUT", target, &[("x-amz-acl", acl)], b"")
    }
}

fn allow(who: &str, action: &str) -> String {
    rule("Allow", who, action, "{}")
}

fn rule(effect: &str, who: &str, action: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{who},"Action":"{action}","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"],"Condition":{condition}}}"#
    )
}

const EVERYBODY: &str = r#""*""#;
const OTHER: &str = r#"{"AWS":"arn:aws:iam:::user/v"}"#;

/// Every operation of the router but those that concern no bucket, as a request.
const EVERY_OPERATION: &[(&str, &str)] = &[
    ("HEAD", "/bucket"),
    ("DELETE", "/bucket"),
    ("GET", "/bucket"),
    ("GET", "/bucket?list-type=2"),
    ("GET", "/bucket?versions="),
    ("GET", "/bucket?uploads="),
    ("GET", "/bucket?location="),
    ("POST", "/bucket?delete="),
    ("POST", "/bucket"),
    ("GET", "/bucket?acl="),
    ("PUT", "/bucket?acl="),
    ("GET", "/bucket?policy="),
    ("PUT", "/bucket?policy="),
    ("DELETE", "/bucket?policy="),
    ("GET", "/bucket?policyStatus="),
    ("GET", "/bucket?publicAccessBlock="),
    ("PUT", "/bucket?publicAccessBlock="),
    ("DELETE", "/bucket?publicAccessBlock="),
    ("GET", "/bucket?ownershipControls="),
    ("PUT", "/bucket?ownershipControls="),
    ("DELETE", "/bucket?ownershipControls="),
    ("GET", "/bucket?cors="),
    ("PUT", "/bucket?cors="),
    ("DELETE", "/bucket?cors="),
    ("GET", "/bucket?tagging="),
    ("PUT", "/bucket?tagging="),
    ("DELETE", "/bucket?tagging="),
    ("GET", "/bucket?website="),
    ("PUT", "/bucket?website="),
    ("DELETE", "/bucket?website="),
    ("GET", "/bucket?requestPayment="),
    ("PUT", "/bucket?requestPayment="),
    ("GET", "/bucket?logging="),
    ("PUT", "/bucket?logging="),
    ("POST", "/bucket?logging="),
    ("GET", "/bucket?versioning="),
    ("PUT", "/bucket?versioning="),
    ("GET", "/bucket?notification="),
    ("PUT", "/bucket?notification="),
    ("GET", "/bucket?accelerate="),
    ("GET", "/bucket?encryption="),
    ("PUT", "/bucket?encryption="),
    ("DELETE", "/bucket?encryption="),
    ("GET", "/bucket?lifecycle="),
    ("PUT", "/bucket?lifecycle="),
    ("DELETE", "/bucket?lifecycle="),
    ("GET", "/bucket?object-lock="),
    ("PUT", "/bucket?object-lock="),
    ("GET", "/bucket?replication="),
    ("DELETE", "/bucket?replication="),
    ("GET", "/bucket?inventory="),
    ("GET", "/bucket/k"),
    ("HEAD", "/bucket/k"),
    ("GET", "/bucket/absent"),
    ("HEAD", "/bucket/absent"),
    ("PUT", "/bucket/k"),
    ("DELETE", "/bucket/k"),
    ("GET", "/bucket/k?attributes="),
    ("GET", "/bucket/k?acl="),
    ("PUT", "/bucket/k?acl="),
    ("GET", "/bucket/k?tagging="),
    ("PUT", "/bucket/k?tagging="),
    ("DELETE", "/bucket/k?tagging="),
    ("GET", "/bucket/k?retention="),
    ("PUT", "/bucket/k?retention="),
    ("GET", "/bucket/k?legal-hold="),
    ("PUT", "/bucket/k?legal-hold="),
    ("GET", "/bucket/k?versionId=null"),
    ("DELETE", "/bucket/k?versionId=null"),
    ("GET", "/bucket/k?acl=&versionId=null"),
    ("GET", "/bucket/k?torrent="),
    ("POST", "/bucket/k?restore="),
    ("POST", "/bucket/k?select="),
    ("POST", "/bucket/k?uploads="),
    ("PUT", "/bucket/k?partNumber=1&uploadId=0"),
    ("GET", "/bucket/k?uploadId=0"),
    ("POST", "/bucket/k?uploadId=0"),
    ("DELETE", "/bucket/k?uploadId=0"),
    ("OPTIONS", "/bucket/k"),
];

/// The operation that the router makes of a request.
fn routed(method: &str, target: &str, copies: bool) -> Operation {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = http::HeaderMap::new();
    if copies {
        headers.insert("x-amz-copy-source", http::HeaderValue::from_static("/mine/k"));
    }
    let head = Head {
        method: method.parse().unwrap(),
        headers,
        raw_path: path.into(),
        query: Query::parse(query).unwrap(),
        target: Target::parse("h", path, &[]).unwrap(),
        now_ms: 0,
        peer: Default::default(),
        request_id: String::new(),
    };
    route(&head).unwrap()
}

/// Requests that copy when they name a source.
const COPIES: [(&str, &str); 2] =
    [("PUT", "/bucket/k"), ("PUT", "/bucket/k?partNumber=1&uploadId=0")];

#[test]
fn the_strangers_try_every_operation() {
    let tried = EVERY_OPERATION.iter().map(|(method, target)| routed(method, target, false));
    let copied = COPIES.iter().map(|(method, target)| routed(method, target, true));
    let tried: BTreeSet<Operation> = tried.chain(copied).collect();
    // These two concern no bucket that is there, and nothing is ever routed to the third.
    let others = [Operation::ListBuckets, Operation::CreateBucket, Operation::Unknown];
    let left: Vec<&Operation> = Operation::ALL
        .iter()
        .filter(|operation| !tried.contains(operation) && !others.contains(operation))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn no_operation_is_open_to_strangers() {
    let world = World::new();
    world.send("/bucket/k", "secret");
    let other = world.other();
    assert_eq!(other.ask("PUT", "/mine", b"").status, 200);
    assert_eq!(other.ask("PUT", "/mine/k", b"x").status, 200);
    let copy = [("x-amz-copy-source", "/mine/k")];
    let origin = [("origin", "http://o"), ("access-control-request-method", "GET")];
    for (method, target) in EVERY_OPERATION {
        let headers: &[(&str, &str)] = if *method == "OPTIONS" { &origin } else { &[] };
        let answer = other.ask_with(method, target, headers, b"");
        assert_eq!(answer.status, 403, "{method} {target} by a stranger: {}", answer.text());
        let answer = world.nobody(method, target, headers, b"");
        assert_eq!(answer.status, 403, "{method} {target} by nobody: {}", answer.text());
    }
    for (method, target) in COPIES {
        assert_eq!(other.ask_with(method, target, &copy, b"").status, 403, "{target}");
        assert_eq!(world.nobody(method, target, &copy, b"").status, 403, "{target}");
    }
    let stolen = other.ask_with("PUT", "/mine/k", &[("x-amz-copy-source", "/bucket/k")], b"");
    assert_eq!(stolen.code(), "AccessDenied");
    assert_eq!(world.nobody("PUT", "/new", &[], b"").status, 403);
    assert_eq!(world.nobody("GET", "/", &[], b"").element("ID").as_deref(), Some("anonymous"));
    assert_eq!(world.get("/bucket/k").text(), "secret");
    assert_eq!(world.admin().ask("GET", "/bucket/k", b"").text(), "secret");
    assert_eq!(world.nobody("GET", "/absent/k", &[], b"").code(), "NoSuchBucket");
}

#[test]
fn canned_acls_of_buckets_and_objects() {
    let world = World::new();
    let other = world.other();
    let put = |key: &str, acl: &str| {
        let put = world.client.ask_with("PUT", key, &[("x-amz-acl", acl)], b"x");
        assert_eq!(put.status, 200, "{}", put.text());
    };
    put("/bucket/private", "private");
    put("/bucket/read", "public-read");
    put("/bucket/known", "authenticated-read");
    for bucket in ["private", "public-read", "public-read-write", "authenticated-read"] {
        assert_eq!(world.canned("/bucket?acl=", bucket).status, 200);
        let of_nobody = |method: &str, target: &str| world.nobody(method, target, &[], b"").status;
        let of_other = |method: &str, target: &str| other.ask(method, target, b"").status;
        // The bucket's ACL says nothing about its objects.
        for (key, nobody, known) in [("private", 403, 403), ("read", 200, 200), ("known", 403, 200)]
        {
            let target = format!("/bucket/{key}");
            assert_eq!((of_nobody("GET", &target), of_other("GET", &target)), (nobody, known));
            assert_eq!(of_nobody("HEAD", &target), nobody);
        }
        let public = bucket.starts_with("public");
        assert_eq!(of_nobody("GET", "/bucket"), if public { 200 } else { 403 }, "{bucket}");
        assert_eq!(of_other("GET", "/bucket"), if bucket == "private" { 403 } else { 200 });
        // Who may list may know what is not there.
        assert_eq!(of_nobody("GET", "/bucket/none"), if public { 404 } else { 403 });
        let writes = bucket == "public-read-write";
        assert_eq!(of_nobody("PUT", "/bucket/new"), if writes { 200 } else { 403 });
        assert_eq!(of_other("PUT", "/bucket/new"), if writes { 200 } else { 403 });
        assert_eq!(of_nobody("DELETE", "/bucket/new"), if writes { 204 } else { 403 });
        assert_eq!(of_nobody("GET", "/bucket?acl="), 403);
        assert_eq!(of_other("GET", "/bucket?policy="), 403);
    }
    let shown = world.get("/bucket?acl=");
    assert_eq!(shown.elements("Permission"), ["READ", "FULL_CONTROL"]);
    assert!(shown.text().contains("AuthenticatedUsers"));
}

#[test]
fn grants_in_headers_and_documents() {
    let world = World::new();
    let other = world.other();
    let grants = [("x-amz-grant-read", "id=v"), ("x-amz-grant-full-control", "id=\"u\"")];
    let put = world.client.ask_with("PUT", "/bucket/k", &grants, b"x");
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(other.ask("GET", "/bucket/k", b"").text(), "x");
    assert_eq!(other.ask("GET", "/bucket/k?acl=", b"").status, 403);
    // What is shown can be written back, with more in it.
    let shown = world.get("/bucket/k?acl=").text();
    let more = shown.replace("<Permission>READ</Permission>", "<Permission>WRITE_ACP</Permission>");
    assert_eq!(world.send("/bucket/k?acl=", &more).status, 200);
    assert_eq!(other.ask("GET", "/bucket/k", b"").status, 403);
    let taken =
        shown.replace("<Permission>READ</Permission>", "<Permission>FULL_CONTROL</Permission>");
    assert_eq!(other.ask("PUT", "/bucket/k?acl=", taken.as_bytes()).status, 200);
    assert_eq!(other.ask("GET", "/bucket/k", b"").text(), "x");
    assert_eq!(world.get("/bucket/k?acl=").element("ID").as_deref(), Some("u"), "still the owner");
    for (headers, body, code) in [
        (&[("x-amz-acl", "open")][..], "", "InvalidArgument"),
        (&[("x-amz-acl", "private"), ("x-amz-grant-read", "id=v")], "", "InvalidRequest"),
        (&[("x-amz-grant-read", "id=nobody")], "", "InvalidArgument"),
        (&[("x-amz-grant-read", "emailAddress=a@b")], "", "UnresolvableGrantByEmailAddress"),
        (&[], "", "MissingSecurityHeader"),
        (&[], "<AccessControlPolicy/>", "MalformedACLError"),
        (&[("x-amz-acl", "private")], shown.as_str(), "UnexpectedContent"),
        (&[], &shown.replace("<Owner><ID>u", "<Owner><ID>v"), "AccessDenied"),
    ] {
        for target in ["/bucket/k?acl=", "/bucket?acl="] {
            let answer = world.client.ask_with("PUT", target, headers, body.as_bytes());
            assert_eq!(answer.code(), code, "{target} {headers:?} {body}");
        }
    }
    assert_eq!(world.canned("/bucket/none?acl=", "private").code(), "NoSuchKey");
    // A bucket without grants: its owner cannot write, and can repair that.
    let empty =
        "<AccessControlPolicy><Owner><ID>u</ID></Owner><AccessControlList/></AccessControlPolicy>";
    assert_eq!(world.send("/bucket?acl=", empty).status, 200);
    assert_eq!(world.send("/bucket/k", "y").status, 403);
    assert_eq!(world.get("/bucket/k").text(), "x");
    assert_eq!(world.canned("/bucket?acl=", "private").status, 200);
    assert_eq!(world.send("/bucket/k", "y").status, 200);
    let acl = world.get("/bucket/k?acl=");
    assert_eq!(acl.elements("Permission"), ["FULL_CONTROL"], "a new object begins anew");
}

#[test]
fn acls_travel_with_copies_and_uploads() {
    let world = World::new();
    world.canned("/bucket/source", "public-read");
    let copied = [("x-amz-copy-source", "/bucket/source")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/copy", &copied, b"").status, 200);
    assert_eq!(
        world.nobody("GET", "/bucket/copy", &[], b"").status,
        403,
        "not taken from the source"
    );
    let open = [("x-amz-copy-source", "/bucket/source"), ("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/copy", &open, b"").status, 200);
    assert_eq!(world.nobody("GET", "/bucket/copy", &[], b"").status, 200);
    let begun =
        world.client.ask_with("POST", "/bucket/big?uploads=", &[("x-amz-acl", "public-read")], b"");
    let id = begun.element("UploadId").expect("an upload");
    let part = world.send(&format!("/bucket/big?partNumber=1&uploadId={id}"), "part");
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.headers["etag"]
    );
    let done = world.client.ask("POST", &format!("/bucket/big?uploadId={id}"), list.as_bytes());
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(world.nobody("GET", "/bucket/big", &[], b"").text(), "part");
    // Changing the ACL leaves the body where it is.
    assert_eq!(world.canned("/bucket/big?acl=", "private").status, 200);
    assert_eq!(world.nobody("GET", "/bucket/big", &[], b"").status, 403);
    assert_eq!(world.get("/bucket/big").text(), "part");
    // A source that may not be read cannot be copied, whatever may be written.
    assert_eq!(world.canned("/bucket?acl=", "public-read-write").status, 200);
    let theft = [("x-amz-copy-source", "/bucket/big")];
    assert_eq!(world.other().ask_with("PUT", "/bucket/theft", &theft, b"").code(), "AccessDenied");
}

#[test]
fn policies_allow_and_deny() {
    let world = World::new();
    let other = world.other();
    world.send("/bucket/k", "x");
    assert_eq!(world.get("/bucket?policy=").code(), "NoSuchBucketPolicy");
    assert_eq!(world.send("/bucket?policy=", "{").code(), "MalformedPolicy");
    assert_eq!(world.send("/bucket?policy=", &" ".repeat(30 << 10)).code(), "MalformedPolicy");
    world.policy(&allow(OTHER, "s3:ListBucket"));
    assert_eq!(other.ask("GET", "/bucket", b"").elements("Key"), ["k"]);
    assert_eq!(other.ask("GET", "/bucket/k", b"").status, 403);
    assert_eq!(world.nobody("GET", "/bucket", &[], b"").status, 403);
    world.policy(&allow(EVERYBODY, "s3:GetObject"));
    assert_eq!(world.nobody("GET", "/bucket/k", &[], b"").text(), "x");
    assert_eq!(world.nobody("GET", "/bucket/none", &[], b"").status, 403);
    assert_eq!(world.nobody("GET", "/bucket", &[], b"").status, 403);
    assert_eq!(world.get("/bucket?policyStatus=").element("IsPublic").as_deref(), Some("true"));
    // A denial holds for the owner too, and for all but his policy.
    world.policy(&(allow(EVERYBODY, "s3:*") + "," + &rule("Deny", EVERYBODY, "s3:*", "{}")));
    for (method, target) in [("GET", "/bucket/k"), ("GET", "/bucket"), ("GET", "/bucket?acl=")] {
        assert_eq!(world.client.ask(method, target, b"").status, 403, "{method} {target}");
    }
    let stored = world.get("/bucket?policy=");
    assert_eq!(stored.headers["content-type"], "application/json");
    assert!(stored.text().contains("Deny"));
    assert_eq!(world.client.ask("DELETE", "/bucket?policy=", b"").status, 204);
    assert_eq!(world.get("/bucket/k").text(), "x");
    assert_eq!(world.get("/bucket?policyStatus=").element("IsPublic").as_deref(), Some("false"));
}

#[test]
fn conditions_look_at_the_request() {
    let world = World::new();
    let other = world.other();
    world.send("/bucket/public/a", "x");
    world.send("/bucket/private/a", "x");
    let all = allow(OTHER, "s3:*");
    let deny = |action: &str, condition: &str| {
        world.policy(&format!("{all},{}", rule("Deny", OTHER, action, condition)));
    };
    deny("s3:ListBucket", r#"{"StringNotEquals":{"s3:prefix":"public/"}}"#);
    assert_eq!(other.ask("GET", "/bucket?prefix=public%2F", b"").status, 200);
    assert_eq!(other.ask("GET", "/bucket?prefix=private%2F", b"").status, 403);
    assert_eq!(other.ask("GET", "/bucket", b"").status, 403);
    // Who may list with a prefix may know of the keys behind it what is missing.
    let condition = r#"{"StringLike":{"s3:prefix":"public/*"}}"#;
    world.policy(&rule("Allow", OTHER, "s3:ListBucket", condition));
    assert_eq!(other.ask("GET", "/bucket/public/none", b"").status, 404);
    assert_eq!(other.ask("GET", "/bucket/private/none", b"").status, 403);
    assert_eq!(other.ask("GET", "/bucket/private/none?prefix=public%2F", b"").status, 403);
    deny("s3:ListBucket", r#"{"NumericGreaterThan":{"s3:max-keys":"10"}}"#);
    assert_eq!(other.ask("GET", "/bucket?max-keys=10", b"").status, 200);
    assert_eq!(other.ask("GET", "/bucket?max-keys=11", b"").status, 403);
    deny("s3:PutObject", r#"{"StringLike":{"s3:x-amz-acl":"public*"}}"#);
    assert_eq!(other.ask("PUT", "/bucket/k", b"").status, 200);
    let public = [("x-amz-acl", "public-read")];
    assert_eq!(other.ask_with("PUT", "/bucket/k", &public, b"").status, 403);
    deny("s3:PutObject", r#"{"StringNotLike":{"s3:x-amz-copy-source":"bucket/public/*"}}"#);
    let copy = |key: &str| {
        let source = format!("/bucket/{key}");
        other.ask_with("PUT", "/bucket/copy", &[("x-amz-copy-source", &source)], b"").status
    };
    assert_eq!((copy("public/a"), copy("private/a")), (200, 403));
    deny("s3:GetObject", r#"{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}"#);
    assert_eq!(other.ask("GET", "/bucket/public/a", b"").status, 403);
    deny("s3:GetObject", r#"{"NotIpAddress":{"aws:SourceIp":"127.0.0.1"}}"#);
    assert_eq!(other.ask("GET", "/bucket/public/a", b"").status, 200);
    // The connection comes from a proxy that is trusted; what its client wrote himself is not believed.
    deny("s3:GetObject", r#"{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}"#);
    for (forwarded, status) in
        [("192.0.2.1", 200), ("198.51.100.7", 403), ("192.0.2.1, 198.51.100.7", 403)]
    {
        let headers = [("x-forwarded-for", forwarded)];
        assert_eq!(other.ask_with("GET", "/bucket/public/a", &headers, b"").status, status);
    }
    deny("s3:GetObject", r#"{"Bool":{"aws:SecureTransport":"false"}}"#);
    assert_eq!(other.ask("GET", "/bucket/public/a", b"").status, 403);
    let https = [("x-forwarded-proto", "https")];
    assert_eq!(other.ask_with("GET", "/bucket/public/a", &https, b"").status, 200);
    deny("s3:DeleteObject", r#"{"Null":{"aws:Referer":"true"}}"#);
    assert_eq!(other.ask("DELETE", "/bucket/public/a", b"").status, 403);
    // Each key of a list is decided by itself.
    let list = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>";
    world.policy(
        r#"{"Effect":"Allow","Principal":{"AWS":"v"},"Action":"s3:DeleteObject","Resource":"arn:aws:s3:::bucket/a"}"#,
    );
    let answer = other.ask("POST", "/bucket?delete=", list.as_bytes());
    assert_eq!((answer.status, answer.elements("Deleted").len()), (200, 1), "{}", answer.text());
    assert_eq!(answer.elements("Code"), ["AccessDenied"]);
}

#[test]
fn public_access_is_blocked() {
    let world = World::new();
    let public = allow(EVERYBODY, "s3:GetObject");
    assert_eq!(
        world.get("/bucket?publicAccessBlock=").code(),
        "NoSuchPublicAccessBlockConfiguration"
    );
    world.canned("/bucket/k", "public-read");
    world.block("BlockPublicAcls");
    for acl in ["public-read", "public-read-write", "authenticated-read"] {
        assert_eq!(world.canned("/bucket?acl=", acl).code(), "AccessDenied");
        assert_eq!(world.canned("/bucket/k?acl=", acl).code(), "AccessDenied");
        assert_eq!(world.canned("/bucket/new", acl).code(), "AccessDenied");
    }
    assert_eq!(world.canned("/bucket/new", "private").status, 200);
    assert_eq!(world.nobody("GET", "/bucket/k", &[], b"").status, 200, "what is there stays");
    world.block("IgnorePublicAcls");
    assert_eq!(world.nobody("GET", "/bucket/k", &[], b"").status, 403);
    assert_eq!(world.canned("/bucket/k?acl=", "public-read").status, 200);
    world.block("BlockPublicPolicy");
    let policy = format!(r#"{{"Statement":[{public}]}}"#);
    assert_eq!(world.send("/bucket?policy=", &policy).code(), "AccessDenied");
    world.policy(&allow(OTHER, "s3:GetObject"));
    let shown = world.get("/bucket?publicAccessBlock=");
    assert_eq!(shown.element("BlockPublicPolicy").as_deref(), Some("true"));
    assert_eq!(shown.element("IgnorePublicAcls").as_deref(), Some("false"));
    assert_eq!(world.client.ask("DELETE", "/bucket?publicAccessBlock=", b"").status, 204);
    world.canned("/bucket/k?acl=", "private");
    world.policy(&public);
    assert_eq!(world.nobody("GET", "/bucket/k", &[], b"").status, 200);
    world.block("RestrictPublicBuckets");
    assert_eq!(world.nobody("GET", "/bucket/k", &[], b"").status, 403);
    assert_eq!(world.other().ask("GET", "/bucket/k", b"").status, 403);
    assert_eq!(world.get("/bucket/k").status, 200);
}

#[test]
fn objects_belong_to_whom_the_bucket_says() {
    let world = World::new();
    let other = world.other();
    assert_eq!(world.get("/bucket?ownershipControls=").code(), "OwnershipControlsNotFoundError");
    world.policy(&allow(OTHER, "s3:PutObject"));
    let full = [("x-amz-acl", "bucket-owner-full-control")];
    let owner = |key: &str, client: &Client| {
        client.ask("GET", &format!("/bucket/{key}?acl="), b"").element("ID")
    };
    // The default: whoever writes. The bucket's owner sees what he is given.
    assert_eq!(other.ask("PUT", "/bucket/writer", b"x").status, 200);
    assert_eq!(world.get("/bucket/writer").status, 403);
    assert_eq!(owner("writer", &other).as_deref(), Some("v"));
    assert_eq!(other.ask_with("PUT", "/bucket/full", &full, b"x").status, 200);
    assert_eq!(world.get("/bucket/full").text(), "x");
    assert_eq!(owner("full", &world.client).as_deref(), Some("v"));
    assert_eq!(world.client.ask("DELETE", "/bucket/writer", b"").status, 204);
    assert_eq!(world.ownership("BucketOwnerPreferred").status, 200);
    assert_eq!(other.ask_with("PUT", "/bucket/preferred", &full, b"x").status, 200);
    assert_eq!(owner("preferred", &world.client).as_deref(), Some("u"));
    assert_eq!(world.canned("/bucket?acl=", "public-read").status, 200);
    let refused = world.ownership("BucketOwnerEnforced");
    assert_eq!(refused.code(), "InvalidBucketAclWithObjectOwnership");
    assert_eq!(world.canned("/bucket?acl=", "private").status, 200);
    assert_eq!(world.canned("/bucket/preferred?acl=", "public-read").status, 200);
    assert_eq!(world.nobody("GET", "/bucket/preferred", &[], b"").status, 200);
    assert_eq!(world.ownership("BucketOwnerEnforced").status, 200);
    assert_eq!(world.nobody("GET", "/bucket/preferred", &[], b"").status, 403, "without effect");
    assert_eq!(other.ask("PUT", "/bucket/enforced", b"x").status, 200);
    assert_eq!(world.get("/bucket/enforced").text(), "x");
    for target in ["/bucket?acl=", "/bucket/enforced?acl=", "/bucket/new"] {
        let answer = world.canned(target, "public-read");
        assert_eq!(answer.code(), "AccessControlListNotSupported", "{target}");
    }
    assert_eq!(world.canned("/bucket/new", "bucket-owner-full-control").status, 200);
    assert_eq!(world.canned("/bucket/new", "private").code(), "AccessControlListNotSupported");
    let shown = world.get("/bucket?ownershipControls=");
    assert_eq!(shown.element("ObjectOwnership").as_deref(), Some("BucketOwnerEnforced"));
    assert_eq!(world.client.ask("DELETE", "/bucket?ownershipControls=", b"").status, 204);
    assert_eq!(world.nobody("GET", "/bucket/preferred", &[], b"").status, 200);
    assert_eq!(world.ownership("Mine").code(), "MalformedXML");
    let made =
        |headers: &[(&str, &str)]| world.client.ask_with("PUT", "/made", headers, b"").code();
    let enforced = ("x-amz-object-ownership", "BucketOwnerEnforced");
    let refused = made(&[enforced, ("x-amz-acl", "public-read")]);
    assert_eq!(refused, "InvalidBucketAclWithObjectOwnership");
    let made = world.client.ask_with("PUT", "/made", &[enforced], b"");
    assert_eq!(made.status, 200);
    let shown = world.get("/made?ownershipControls=");
    assert_eq!(shown.element("ObjectOwnership").as_deref(), Some("BucketOwnerEnforced"));
}

#[test]
fn tags_and_locks_are_decided_too() {
    let world = World::new();
    let other = world.other();
    let secret = [("x-amz-tagging", "kind=secret"), ("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/k", &secret, b"x").status, 200);
    assert_eq!(other.ask("GET", "/bucket/k", b"").status, 200);
    let tagged = r#"{"StringEquals":{"s3:ExistingObjectTag/kind":"secret"}}"#;
    world.policy(&rule("Deny", OTHER, "s3:GetObject", tagged));
    assert_eq!(other.ask("GET", "/bucket/k", b"").status, 403);
    let tags = "<Tagging><TagSet><Tag><Key>kind</Key><Value>open</Value></Tag></TagSet></Tagging>";
    assert_eq!(other.ask("PUT", "/bucket/k?tagging=", tags.as_bytes()).status, 403);
    assert_eq!(world.send("/bucket/k?tagging=", tags).status, 200);
    assert_eq!(other.ask("GET", "/bucket/k", b"").status, 200);
    // Who may write and delete may neither lock nor go past a lock.
    world.policy(&format!("{},{}", allow(OTHER, "s3:PutObject"), allow(OTHER, "s3:DeleteObject")));
    let hold = [("x-amz-object-lock-legal-hold", "ON")];
    assert_eq!(other.ask_with("PUT", "/bucket/new", &hold, b"").status, 403);
    let bypass = [("x-amz-bypass-governance-retention", "true")];
    assert_eq!(other.ask_with("DELETE", "/bucket/new", &bypass, b"").status, 403);
    let list = "<Delete><Object><Key>new</Key></Object></Delete>";
    let many = other.ask_with("POST", "/bucket?delete=", &bypass, list.as_bytes());
    assert_eq!(many.elements("Code"), ["AccessDenied"]);
    assert_eq!(other.ask("DELETE", "/bucket/new", b"").status, 204);
}

#[test]
fn other_origins_are_told_what_they_may_see() {
    let world = World::new();
    world.canned("/bucket/k", "public-read");
    assert_eq!(world.get("/bucket?cors=").code(), "NoSuchCORSConfiguration");
    let rule = |origin: &str, method: &str| {
        format!(
            "<CORSRule><AllowedOrigin>{origin}</AllowedOrigin><AllowedMethod>{method}</AllowedMethod><AllowedHeader>x-*</AllowedHeader></CORSRule>"
        )
    };
    let rules = rule("*.example", "GET") + &rule("*.put", "PUT");
    let text = format!("<CORSConfiguration>{rules}</CORSConfiguration>");
    assert_eq!(world.send("/bucket?cors=", &text).status, 200);
    assert_eq!(world.get("/bucket?cors=").text(), text);
    let told = |answer: &Answer| answer.headers.get("access-control-allow-origin").cloned();
    let ask = |method: &str, target: &str, headers: &[(&str, &str)]| {
        let answer = world.nobody(method, target, headers, b"");
        (answer.status, told(&answer))
    };
    let origin = ("origin", "a.example");
    let some = Some("a.example".to_owned());
    assert_eq!(ask("GET", "/bucket/k", &[]), (200, None));
    assert_eq!(ask("GET", "/bucket/k", &[origin]), (200, some.clone()));
    assert_eq!(ask("GET", "/bucket/none", &[origin]), (403, some.clone()), "on errors too");
    assert_eq!(ask("PUT", "/bucket/k", &[origin]), (403, None));
    assert_eq!(ask("GET", "/bucket/k", &[("origin", "b.other")]), (200, None));
    let wants = |method| ("access-control-request-method", method);
    assert_eq!(ask("OPTIONS", "/bucket/k", &[origin, wants("GET")]), (200, some.clone()));
    assert_eq!(ask("OPTIONS", "/bucket", &[origin, wants("GET")]), (200, some.clone()));
    assert_eq!(ask("OPTIONS", "/bucket/k", &[origin, wants("PUT")]), (403, None));
    assert_eq!(ask("OPTIONS", "/bucket/k", &[origin]), (400, None));
    // The signature of a presigned URL is another method's.
    let presigned = "/bucket/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0";
    assert_eq!(ask("OPTIONS", presigned, &[origin, wants("GET")]), (200, some.clone()));
    assert_eq!(ask("OPTIONS", "/bucket/k", &[wants("GET")]), (400, None));
    let names = |names| ("access-control-request-headers", names);
    let asked = [origin, wants("GET"), names("x-amz-date, x-id")];
    assert_eq!(ask("OPTIONS", "/bucket/k", &asked), (200, some));
    let asked = [origin, wants("GET"), names("authorization")];
    assert_eq!(ask("OPTIONS", "/bucket/k", &asked), (403, None));
    assert_eq!(world.client.ask("DELETE", "/bucket?cors=", b"").status, 204);
    assert_eq!(ask("GET", "/bucket/k", &[origin]), (200, None));
    assert_eq!(ask("OPTIONS", "/bucket/k", &[origin, wants("GET")]), (403, None));
    assert_eq!(world.send("/bucket?cors=", "<CORSConfiguration/>").code(), "MalformedXML");
}

#[test]
fn other_documents_come_back() {
    let world = World::new();
    for (name, absent, text) in [
        (
            "tagging",
            "NoSuchTagSet",
            "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
        ),
        (
            "website",
            "NoSuchWebsiteConfiguration",
            "<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>",
        ),
    ] {
        let target = format!("/bucket?{name}=");
        assert_eq!(world.get(&target).code(), absent);
        assert!(matches!(world.send(&target, text).status, 200 | 204));
        assert_eq!(world.get(&target).text(), text);
        assert_eq!(world.send(&target, "<Other/>").code(), "MalformedXML");
        assert_eq!(world.send(&target, "").code(), "MissingRequestBodyError");
        assert_eq!(world.client.ask("DELETE", &target, b"").status, 204);
        assert_eq!(world.get(&target).code(), absent);
    }
    assert_eq!(
        world.get("/bucket?requestPayment=").element("Payer").as_deref(),
        Some("BucketOwner")
    );
    let pays =
        "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>";
    assert_eq!(world.send("/bucket?requestPayment=", pays).status, 200);
    world.canned("/bucket/k", "public-read");
    let payer = [("x-amz-request-payer", "requester")];
    assert_eq!(world.get("/bucket/k").status, 200);
    assert_eq!(world.nobody("GET", "/bucket/k", &payer, b"").status, 403);
    assert_eq!(world.other().ask("GET", "/bucket/k", b"").status, 403);
    assert_eq!(world.other().ask_with("GET", "/bucket/k", &payer, b"").status, 200);
}
