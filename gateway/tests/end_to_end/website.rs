//! Buckets as websites, through the socket: pages, directories, errors and redirects, and that nothing is
//! shown which not everybody may read.

use crate::World;
use crate::client::{Answer, read_answer};
use std::io::Write;

const INDEX: &str = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>";
const ERROR: &str = "<ErrorDocument><Key>oops.html</Key></ErrorDocument>";

impl World {
    /// A request to the website of the bucket.
    fn visit_with(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = self.client.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: bucket.web.localhost:80\r\nconnection: close\r\n{headers}content-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream, method).expect("an answer")
    }

    fn visit(&self, path: &str) -> Answer {
        self.visit_with("GET", path, "")
    }

    fn site(&self, inner: &str) {
        let text = format!("<WebsiteConfiguration>{inner}</WebsiteConfiguration>");
        let put = self.client.ask("PUT", "/bucket?website=", text.as_bytes());
        assert_eq!(put.status, 200, "{}", put.text());
    }

    fn publish(&self, key: &str, headers: &[(&str, &str)]) {
        let headers = [&[("x-amz-acl", "public-read"), ("content-type", "text/html")], headers];
        let put = self.client.ask_with(
            "PUT",
            &format!("/bucket/{key}"),
            &headers.concat(),
            key.as_bytes(),
        );
        assert_eq!(put.status, 200, "{}", put.text());
    }
}

#[test]
fn directories_have_an_index_and_errors_a_page() {
    let world = World::new();
    let none = world.visit("/");
    assert_eq!(
        (none.status, none.headers["content-type"].as_str()),
        (404, "text/html; charset=utf-8")
    );
    assert!(none.text().contains("NoSuchWebsiteConfiguration"));
    world.site(INDEX);
    for key in ["index.html", "a/index.html", "a/b.html"] {
        world.publish(key, &[]);
    }
    world.client.ask("PUT", "/bucket/secret.html", b"secret");
    for (path, text) in [
        ("/", "index.html"),
        ("/?versionId=x&acl", "index.html"),
        ("/a/", "a/index.html"),
        ("/a/b.html", "a/b.html"),
    ] {
        let page = world.visit(path);
        assert_eq!((page.status, page.text().as_str()), (200, text), "{path}");
        assert_eq!(page.headers["content-type"], "text/html");
    }
    let head = world.visit_with("HEAD", "/a/", "");
    assert_eq!((head.status, head.headers["content-length"].as_str()), (200, "12"));
    let part = world.visit_with("GET", "/", "range: bytes=0-4\r\n");
    assert_eq!((part.status, part.text().as_str()), (206, "index"));
    let tag = world.visit("/").headers["etag"].clone();
    assert_eq!(world.visit_with("GET", "/", &format!("if-none-match: {tag}\r\n")).status, 304);
    let slash = world.visit("/a");
    assert_eq!((slash.status, slash.headers["location"].as_str()), (302, "/a/"));
    // Who may not list the bucket does not learn what is missing.
    for path in ["/none", "/b/", "/secret.html", "/%3Cb%3E"] {
        let page = world.visit(path);
        assert_eq!(page.status, 403, "{path}: {}", page.text());
        assert!(
            page.text().contains("<li>Code: AccessDenied</li>") && !page.text().contains("<b>")
        );
    }
    world.client.ask_with("PUT", "/bucket?acl=", &[("x-amz-acl", "public-read")], b"");
    let page = world.visit("/none");
    assert!(page.status == 404 && page.text().contains("Key: none"), "{}", page.text());
    // The page for errors, with the status of the error; without it, ours says so.
    world.site(&format!("{INDEX}{ERROR}"));
    assert!(world.visit("/none").text().contains("ErrorDocument: oops.html"));
    world.publish("oops.html", &[]);
    let page = world.visit_with("GET", "/none", "range: bytes=0-1\r\n");
    assert_eq!((page.status, page.text().as_str()), (404, "oops.html"));
    assert_eq!(world.visit("/secret.html").status, 403);
    assert_eq!(world.visit("/secret.html").text(), "oops.html");
    for method in ["PUT", "POST", "DELETE"] {
        assert_eq!(world.visit_with(method, "/index.html", "").status, 405, "{method}");
    }
    assert_eq!(world.get("/bucket/index.html").text(), "index.html");
    assert_eq!(world.client.ask("DELETE", "/bucket?website=", b"").status, 204);
    assert_eq!(world.visit("/").status, 404);
}

#[test]
fn requests_are_led_elsewhere() {
    let world = World::new();
    let rule = |condition: &str, redirect: &str| {
        format!(
            "<RoutingRule><Condition>{condition}</Condition><Redirect>{redirect}</Redirect></RoutingRule>"
        )
    };
    let docs = rule(
        "<KeyPrefixEquals>docs/</KeyPrefixEquals>",
        "<ReplaceKeyPrefixWith>d/</ReplaceKeyPrefixWith>",
    );
    let gone = rule(
        "<HttpErrorCodeReturnedEquals>403</HttpErrorCodeReturnedEquals>",
        "<HostName>other.example</HostName><Protocol>https</Protocol><HttpRedirectCode>307</HttpRedirectCode>",
    );
    world.site(&format!("{INDEX}{ERROR}<RoutingRules>{docs}{gone}</RoutingRules>"));
    world.publish("index.html", &[]);
    world.publish("docs/a", &[]);
    world.publish("moved", &[("x-amz-website-redirect-location", "http://h.example/x")]);
    for (path, status, location) in [
        ("/docs/a%20b", 301, "http://bucket.web.localhost:80/d/a%20b"),
        ("/none/x", 307, "https://other.example/none/x"),
        ("/moved", 301, "http://h.example/x"),
    ] {
        let page = world.visit(path);
        assert_eq!((page.status, page.headers["location"].as_str()), (status, location), "{path}");
        assert_eq!(page.text(), "");
    }
    assert_eq!(world.visit("/").text(), "index.html");
    // By S3 it is an object with a header, which a copy does not take along.
    let moved = world.get("/bucket/moved");
    assert_eq!((moved.status, moved.text().as_str()), (200, "moved"));
    assert_eq!(moved.headers["x-amz-website-redirect-location"], "http://h.example/x");
    let copy = [("x-amz-copy-source", "/bucket/moved")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/copy", &copy, b"").status, 200);
    let copied = world.get("/bucket/copy");
    assert!(!copied.headers.contains_key("x-amz-website-redirect-location"));
    let bad = [("x-amz-website-redirect-location", "javascript:1")];
    let put = world.client.ask_with("PUT", "/bucket/bad", &bad, b"");
    assert_eq!(put.code(), "InvalidRedirectLocation");

    world.site("<RedirectAllRequestsTo><HostName>new.example</HostName></RedirectAllRequestsTo>");
    let page = world.visit("/a?b=c");
    assert_eq!((page.status, page.headers["location"].as_str()), (301, "http://new.example/a"));
    let bad = "<WebsiteConfiguration><IndexDocument><Suffix>a/b</Suffix></IndexDocument></WebsiteConfiguration>";
    assert_eq!(world.client.ask("PUT", "/bucket?website=", bad.as_bytes()).status, 400);
}

#[test]
fn policies_and_other_origins_hold_for_websites() {
    let world = World::new();
    world.site(INDEX);
    world.client.ask("PUT", "/bucket/index.html", b"page");
    assert_eq!(world.visit("/").status, 403);
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"},{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/private/*"}]}"#;
    assert_eq!(world.client.ask("PUT", "/bucket?policy=", policy.as_bytes()).status, 204);
    world.publish("private/index.html", &[]);
    assert_eq!(world.visit("/").text(), "page");
    assert_eq!(world.visit("/private/").status, 403);
    // A signature changes nothing.
    let signed = world.visit_with("GET", "/private/", "authorization: AWS u:x\r\n");
    assert_eq!(signed.status, 403);
    let cors = "<CORSConfiguration><CORSRule><AllowedOrigin>http://o.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
    assert_eq!(world.client.ask("PUT", "/bucket?cors=", cors.as_bytes()).status, 200);
    let headers = "origin: http://o.example\r\naccess-control-request-method: GET\r\n";
    for method in ["GET", "OPTIONS"] {
        let page = world.visit_with(method, "/", headers);
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(page.headers["access-control-allow-origin"], "http://o.example", "{method}");
    }
}
