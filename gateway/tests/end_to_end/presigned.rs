//! Requests that are signed in their query: what the signer put there is done, and nothing else.

use crate::World;
use crate::client::Client;

#[test]
fn what_a_presigned_url_asks_for_is_done() {
    let world = World::new();
    let parameters = [
        ("x-amz-acl", "public-read"),
        // Of the body that there was when the URL was signed: none.
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-meta-color", "red & blue"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ("x-amz-tagging", "kind=open"),
    ];
    let target = world.client.presigned("PUT", "/bucket/k", &parameters);
    let put = world.plain("PUT", &target, &[], b"body");
    assert_eq!(put.status, 200, "{}", put.text());
    let got = world.plain("GET", "/bucket/k", &[], b"");
    assert_eq!((got.status, got.text().as_str()), (200, "body"));
    assert_eq!(got.headers["x-amz-meta-color"], "red & blue");
    assert!(world.get("/bucket/k?tagging=").text().contains("<Key>kind</Key>"));
    // It is the signer's word, and his alone.
    for changed in [target.replace("public-read", "private"), format!("{target}&x-amz-meta-b=c")] {
        assert_eq!(world.plain("PUT", &changed, &[], b"").code(), "SignatureDoesNotMatch");
    }
    let with_header = world.plain("PUT", &target, &[("x-amz-acl", "private")], b"");
    assert_eq!(with_header.code(), "AccessDenied");
    let source = [("x-amz-copy-source", "/bucket/k")];
    let copy = world.client.presigned("PUT", "/bucket/copy", &source);
    assert_eq!(world.plain("PUT", &copy, &[], b"").status, 200);
    assert_eq!(world.get("/bucket/copy").text(), "body");
    let twice = [("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")];
    let twice = world.client.presigned("PUT", "/bucket/k", &twice);
    assert_eq!(world.plain("PUT", &twice, &[], b"").code(), "InvalidArgument");
}

#[test]
fn locks_of_a_presigned_url_hold() {
    let world = World::new();
    let locked = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(world.client.ask_with("PUT", "/locks", &locked, b"").status, 200);
    let hold = [("x-amz-object-lock-legal-hold", "ON")];
    let target = world.client.presigned("PUT", "/locks/k", &hold);
    assert_eq!(world.plain("PUT", &target, &[], b"x").status, 200);
    assert!(world.get("/locks/k?legal-hold=").text().contains("<Status>ON</Status>"));
}

#[test]
fn a_policy_is_content_with_what_is_done_only() {
    let world = World::new();
    let condition = r#"{"StringEquals":{"s3:x-amz-acl":"bucket-owner-full-control"}}"#;
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"v"}},"Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/*","Condition":{condition}}}}}"#
    );
    assert_eq!(world.client.ask("PUT", "/bucket?policy=", policy.as_bytes()).status, 204);
    let other = Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    let beside = other.ask("PUT", "/bucket/k?x-amz-acl=bucket-owner-full-control", b"x");
    assert_eq!(beside.code(), "AccessDenied");
    let acl = [("x-amz-acl", "bucket-owner-full-control")];
    let target = other.presigned("PUT", "/bucket/k", &acl);
    assert_eq!(world.plain("PUT", &target, &[], b"x").status, 200);
    // As the policy wants it, the owner of the bucket has the object.
    assert_eq!(world.get("/bucket/k").text(), "x");
}

#[test]
fn answers_get_other_headers_from_signers_alone() {
    let world = World::new();
    let public = [("x-amz-acl", "public-read"), ("content-type", "text/plain")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/k", &public, b"x").status, 200);
    let html = "/bucket/k?response-content-type=text%2Fhtml";
    let refused = world.plain("GET", html, &[], b"");
    assert_eq!((refused.status, refused.code().as_str()), (400, "InvalidRequest"));
    assert_eq!(world.plain("HEAD", html, &[], b"").status, 400);
    assert_eq!(world.plain("GET", "/bucket/k", &[], b"").headers["content-type"], "text/plain");
    assert_eq!(world.get(html).headers["content-type"], "text/html");
    let signed =
        world.client.presigned("GET", "/bucket/k", &[("response-content-type", "text/html")]);
    assert_eq!(world.plain("GET", &signed, &[], b"").headers["content-type"], "text/html");
}
