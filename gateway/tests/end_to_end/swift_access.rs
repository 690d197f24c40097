//! Who gets in over Swift besides an account's owner: members, ACLs of containers, roles, signed URLs; and that
//! what one protocol grants the other honours, and what a policy denies neither does.

use crate::World;
use crate::swift::Swift;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512, Key, sign};

impl World {
    /// Somebody without a token.
    pub(crate) fn no_token(&self) -> Swift<'_> {
        Swift { world: self, account: "/v1/AUTH_u".into(), token: String::new() }
    }

    /// `v` in the account of `u`.
    pub(crate) fn stranger(&self) -> Swift<'_> {
        Swift { account: "/v1/AUTH_u".into(), ..self.swift("v") }
    }
}

impl Swift<'_> {
    /// GET as a proxy hands it on.
    fn ask_from(&self, address: &str, path: &str) -> u16 {
        self.status("GET", path, &[("x-forwarded-for", address)])
    }
}

#[test]
fn members_are_owners_or_have_what_is_granted() {
    let world = World::new();
    let (owner, boss, guest) =
        (world.swift("u"), world.of_account("boss"), world.of_account("guest"));
    assert_eq!(boss.status("PUT", "/c", &[]), 201);
    assert_eq!(boss.ask("PUT", "/c/o", b"body").status, 201);
    assert_eq!(owner.ask("GET", "/c/o", b"").text(), "body");
    for (method, path) in [
        ("GET", ""),
        ("GET", "/c"),
        ("GET", "/c/o"),
        ("PUT", "/c/p"),
        ("PUT", "/d"),
        ("POST", "/c"),
    ] {
        assert_eq!(guest.status(method, path, &[]), 403, "{method} {path}");
    }
    assert_eq!(owner.status("POST", "/c", &[("x-container-read", "u:guest")]), 204);
    assert_eq!(guest.ask("GET", "/c/o", b"").text(), "body");
    assert_eq!(guest.names("/c"), ["o"]);
    assert_eq!(guest.status("GET", "/c/none", &[]), 404);
    assert_eq!(guest.ask("PUT", "/c/p", b"1").status, 403);
    // Who may not set it does not see it.
    assert!(!guest.ask("HEAD", "/c", b"").headers.contains_key("x-container-read"));
    assert_eq!(owner.ask("HEAD", "/c", b"").headers["x-container-read"], "u:guest");
    assert_eq!(owner.status("POST", "/c", &[("x-container-write", "u:guest")]), 204);
    assert_eq!(guest.ask("PUT", "/c/p", b"1").status, 201);
    // What he writes is the owner's.
    assert_eq!(owner.ask("GET", "/c/p", b"").text(), "1");
    assert_eq!(world.get("/c/p").text(), "1");
    assert_eq!(guest.status("DELETE", "/c/p", &[]), 204);
    assert_eq!(guest.status("DELETE", "/c", &[]), 403);
    assert_eq!(guest.status("POST", "/c", &[("x-container-read", "*:*")]), 403);
    // A policy that denies comes first.
    let deny = br#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::c/*"}}"#;
    assert_eq!(world.client.ask("PUT", "/c?policy", deny).status, 204);
    assert_eq!(guest.status("GET", "/c/o", &[]), 403);
    assert_eq!(world.client.ask("DELETE", "/c?policy", b"").status, 204);
    assert_eq!(owner.status("POST", "/c", &[("x-remove-container-read", "x")]), 204);
    assert_eq!(guest.status("GET", "/c/o", &[]), 403);
}

#[test]
fn pages_and_everybody_are_let_in_over_both() {
    let world = World::new();
    let (owner, nobody, stranger) = (world.swift("u"), world.no_token(), world.stranger());
    assert_eq!(owner.ask("PUT", "/bucket/o", b"body").status, 201);
    assert_eq!(nobody.status("GET", "/bucket/o", &[]), 401);
    assert_eq!(world.plain("GET", "/bucket/o", &[], b"").status, 403);
    assert_eq!(
        owner.status("POST", "/bucket", &[("x-container-read", ".r:.good.org,.r:-bad.good.org")]),
        204
    );
    for (referrer, status) in
        [("http://a.good.org/x", 200), ("http://bad.good.org/", 401), ("http://other/", 401)]
    {
        assert_eq!(nobody.status("GET", "/bucket/o", &[("referer", referrer)]), status);
    }
    assert_eq!(owner.status("POST", "/bucket", &[("x-container-read", ".r:*")]), 204);
    assert_eq!(nobody.ask("GET", "/bucket/o", b"").text(), "body");
    assert_eq!(stranger.status("GET", "/bucket/o", &[]), 200);
    assert_eq!(nobody.status("GET", "/bucket", &[]), 401);
    // Over S3 also, without a signature.
    assert_eq!(world.plain("GET", "/bucket/o", &[], b"").text(), "body");
    assert_eq!(world.plain("GET", "/bucket", &[], b"").status, 403);
    assert_eq!(owner.status("POST", "/bucket", &[("x-container-read", ".r:*,.rlistings")]), 204);
    assert_eq!(nobody.names("/bucket"), ["o"]);
    assert_eq!(world.plain("GET", "/bucket", &[], b"").elements("Key"), ["o"]);
    assert_eq!(nobody.ask("PUT", "/bucket/p", b"1").status, 401);
    assert_eq!(owner.status("POST", "/bucket", &[("x-container-write", ".r:*")]), 400);
    assert_eq!(owner.status("POST", "/bucket", &[("x-container-read", "")]), 204);
    assert_eq!(nobody.status("GET", "/bucket/o", &[]), 401);
    // What S3 grants holds over Swift.
    let public = [("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket?acl", &public, b"").status, 200);
    assert_eq!(nobody.names("/bucket"), ["o"]);
    assert_eq!(world.client.ask_with("PUT", "/bucket/o?acl", &public, b"").status, 200);
    assert_eq!(nobody.ask("GET", "/bucket/o", b"").text(), "body");
}

#[test]
fn what_blocks_public_access_over_s3_blocks_it_over_swift() {
    let world = World::new();
    let (owner, nobody, stranger) = (world.swift("u"), world.no_token(), world.stranger());
    assert_eq!(owner.ask("PUT", "/bucket/o", b"body").status, 201);
    let block = |flag: &str| {
        let text = format!(
            "<PublicAccessBlockConfiguration><{flag}>true</{flag}></PublicAccessBlockConfiguration>"
        );
        let set = world.client.ask("PUT", "/bucket?publicAccessBlock=", text.as_bytes());
        assert_eq!(set.status, 200);
    };
    let read = |text: &str| owner.status("POST", "/bucket", &[("x-container-read", text)]);
    for open in [".r:*,.rlistings", "*:*,.r:*"] {
        assert_eq!(read(open), 204);
        assert_eq!(world.client.ask("DELETE", "/bucket?publicAccessBlock=", b"").status, 204);
        assert_eq!(nobody.status("GET", "/bucket/o", &[]), 200, "{open}");
        block("IgnorePublicAcls");
        assert_eq!(nobody.status("GET", "/bucket/o", &[]), 401, "{open}");
        assert_eq!(stranger.status("GET", "/bucket/o", &[]), 403, "{open}");
        assert_eq!(world.plain("GET", "/bucket/o", &[], b"").status, 403, "{open}");
    }
    // Who is named is let in all the same.
    assert_eq!(read("v,.r:*"), 204);
    assert_eq!(stranger.status("GET", "/bucket/o", &[]), 200);
    block("BlockPublicAcls");
    assert_eq!((read(".r:*"), read("*:*"), read("*:v"), read("v")), (403, 403, 403, 204));
    assert_eq!(owner.status("PUT", "/bucket", &[("x-container-read", ".r:*")]), 403);
    assert_eq!(owner.status("PUT", "/other", &[("x-container-read", ".r:*")]), 201);
}

#[test]
fn accounts_give_roles() {
    let world = World::new();
    let (owner, stranger) = (world.swift("u"), world.stranger());
    assert_eq!(owner.ask("PUT", "/bucket/o", b"body").status, 201);
    let give = |role: &str| {
        let roles = format!("{{\"{role}\":[\"v\"]}}");
        assert_eq!(owner.status("POST", "", &[("x-account-access-control", &roles)]), 204);
    };
    assert_eq!(stranger.status("HEAD", "", &[]), 403);
    give("read-only");
    assert_eq!(stranger.names(""), ["bucket"]);
    assert_eq!(stranger.ask("GET", "/bucket/o", b"").text(), "body");
    assert_eq!(stranger.ask("PUT", "/bucket/p", b"1").status, 403);
    assert_eq!(stranger.status("PUT", "/c", &[]), 403);
    assert_eq!(stranger.status("GET", "/none", &[]), 404);
    give("read-write");
    assert_eq!(stranger.ask("PUT", "/bucket/p", b"1").status, 201);
    assert_eq!(stranger.status("PUT", "/c", &[("x-container-read", "v")]), 201);
    // Whom he lets in is the owner's to say.
    assert!(!owner.ask("HEAD", "/c", b"").headers.contains_key("x-container-read"));
    assert_eq!(stranger.status("POST", "", &[("x-account-meta-a", "1")]), 403);
    assert_eq!(stranger.status("DELETE", "/c", &[]), 204);
    give("admin");
    assert_eq!(stranger.status("POST", "", &[("x-account-meta-a", "1")]), 204);
    assert!(stranger.ask("HEAD", "", b"").headers.contains_key("x-account-access-control"));
    // A role is for the account that gave it.
    let other = Swift { account: "/v1/AUTH_a".into(), ..world.swift("v") };
    assert_eq!(other.status("HEAD", "", &[]), 403);
    assert_eq!(owner.status("POST", "", &[("x-account-access-control", "{}")]), 204);
    assert_eq!(stranger.status("GET", "/bucket/o", &[]), 403);
}

#[test]
fn two_accounts_have_containers_of_one_name() {
    let world = World::new();
    let (u, v) = (world.swift("u"), world.swift("v"));
    assert_eq!(u.status("PUT", "/same", &[]), 201);
    assert_eq!(v.status("PUT", "/same", &[]), 201);
    assert_eq!(v.status("PUT", "/same", &[]), 202);
    assert_eq!(u.ask("PUT", "/same/o", b"of u").status, 201);
    assert_eq!(v.ask("PUT", "/same/o", b"of v").status, 201);
    assert_eq!(u.ask("GET", "/same/o", b"").text(), "of u");
    assert_eq!(v.ask("GET", "/same/o", b"").text(), "of v");
    assert_eq!(v.names(""), ["same"]);
    assert_eq!(v.status("COPY", "/same/o", &[("destination", "same/p")]), 201);
    assert_eq!((u.names("/same").len(), v.names("/same").len()), (1, 2));
    // Over S3 the plain name is that of the first.
    assert_eq!(world.get("/same/o").text(), "of u");
    for key in ["o", "p"] {
        assert_eq!(v.status("DELETE", &format!("/same/{key}"), &[]), 204);
    }
    assert_eq!(v.status("DELETE", "/same", &[]), 204);
    assert_eq!(v.status("HEAD", "/same", &[]), 404);
    assert_eq!(u.status("HEAD", "/same", &[]), 204);
}

/// A signed URL's query.
fn signed(key: &str, text: &str, expires: u64) -> String {
    let tag = sign(&Key::new(HMAC_SHA256, key.as_bytes()), text.as_bytes());
    format!("temp_url_sig={}&temp_url_expires={expires}", hex::encode(tag))
}

#[test]
fn signed_urls_open_one_object_for_one_method() {
    let world = World::new();
    let (owner, nobody) = (world.swift("u"), world.no_token());
    assert_eq!(owner.ask("PUT", "/bucket/a.txt", b"body").status, 201);
    assert_eq!(owner.status("PUT", "/other", &[]), 201);
    assert_eq!(owner.status("POST", "", &[("x-account-meta-temp-url-key", "k1")]), 204);
    assert_eq!(owner.status("POST", "/bucket", &[("x-container-meta-temp-url-key", "k2")]), 204);
    let end = store_shell::clock::timestamp().millis() / 1000 + 60;
    for key in ["k1", "k2"] {
        let query = signed(key, &format!("GET\n{end}\n/v1/AUTH_u/bucket/a.txt"), end);
        let got = nobody.ask("GET", &format!("/bucket/a.txt?{query}"), b"");
        assert_eq!(got.text(), "body");
        assert!(got.headers["content-disposition"].starts_with("attachment; filename=\"a.txt\""));
        assert!(got.headers.contains_key("expires"));
        assert_eq!(nobody.status("HEAD", &format!("/bucket/a.txt?{query}"), &[]), 200);
        let inline = nobody.ask("GET", &format!("/bucket/a.txt?{query}&inline"), b"");
        assert_eq!(inline.headers["content-disposition"], "inline");
        for (method, path) in
            [("PUT", "/bucket/a.txt"), ("DELETE", "/bucket/a.txt"), ("GET", "/bucket/b")]
        {
            assert_eq!(
                nobody.status(method, &format!("{path}?{query}"), &[]),
                401,
                "{method} {path}"
            );
        }
        let late = signed(key, "GET\n1\n/v1/AUTH_u/bucket/a.txt", 1);
        assert_eq!(nobody.status("GET", &format!("/bucket/a.txt?{late}"), &[]), 401);
    }
    let put = signed("k2", &format!("PUT\n{end}\n/v1/AUTH_u/bucket/n"), end);
    assert_eq!(nobody.ask("PUT", &format!("/bucket/n?{put}"), b"new").status, 201);
    let manifest = [("x-object-manifest", "other/x")];
    assert_eq!(nobody.status("PUT", &format!("/bucket/n?{put}"), &manifest), 400);
    let link = [("x-symlink-target", "other/x")];
    assert_eq!(nobody.status("PUT", &format!("/bucket/n?{put}"), &link), 400);
    let from = [("x-copy-from", "/other/x")];
    assert_eq!(nobody.status("PUT", &format!("/bucket/n?{put}"), &from), 401);
    assert_eq!(owner.ask("GET", "/bucket/n", b"").text(), "new");
    // A prefix opens what begins so.
    let prefix = signed("k1", &format!("GET\n{end}\nprefix:/v1/AUTH_u/bucket/a"), end);
    assert_eq!(
        nobody.status("GET", &format!("/bucket/a.txt?{prefix}&temp_url_prefix=a"), &[]),
        200
    );
    assert_eq!(nobody.status("GET", &format!("/bucket/n?{prefix}&temp_url_prefix=a"), &[]), 401);
    // An address that is not ours.
    let text = format!("ip=10.0.0.0/8\nGET\n{end}\n/v1/AUTH_u/bucket/a.txt");
    let far = signed("k1", &text, end);
    assert_eq!(
        nobody.status("GET", &format!("/bucket/a.txt?{far}&temp_url_ip_range=10.0.0.0/8"), &[]),
        401
    );
    // The one that a trusted proxy tells counts, not the proxy's own.
    let far = format!("/bucket/a.txt?{far}&temp_url_ip_range=10.0.0.0/8");
    assert_eq!(nobody.ask_from("10.1.2.3", &far), 200);
    assert_eq!(nobody.ask_from("11.1.2.3", &far), 401);
    let text = format!("ip=127.0.0.0/8\nGET\n{end}\n/v1/AUTH_u/bucket/a.txt");
    let near = signed("k1", &text, end);
    assert_eq!(
        nobody.status("GET", &format!("/bucket/a.txt?{near}&temp_url_ip_range=127.0.0.0/8"), &[]),
        200
    );
    // A container's key does not open segments elsewhere.
    assert_eq!(owner.ask("PUT", "/other/s1", b"secret").status, 201);
    assert_eq!(owner.status("PUT", "/bucket/d", &[("x-object-manifest", "other/s")]), 201);
    let get = |key: &str| {
        let query = signed(key, &format!("GET\n{end}\n/v1/AUTH_u/bucket/d"), end);
        nobody.ask("GET", &format!("/bucket/d?{query}"), b"")
    };
    assert_eq!(get("k1").text(), "secret");
    assert_eq!(get("k2").status, 401);
}

#[test]
fn urls_are_signed_in_every_way_that_there_is() {
    let world = World::new();
    let (owner, nobody) = (world.swift("u"), world.no_token());
    assert_eq!(owner.ask("PUT", "/bucket/dir/a.txt", b"body").status, 201);
    for (path, kind) in [("", "account"), ("/bucket", "container")] {
        for (name, key) in [("key", "1"), ("key-2", "2")] {
            let header = format!("x-{kind}-meta-temp-url-{name}");
            let key = format!("{kind}{key}");
            assert_eq!(owner.status("POST", path, &[(&header, &key)]), 204);
        }
    }
    let end = store_shell::clock::timestamp().millis() / 1000 + 60;
    let iso = store_gateway::s3::dates::iso(end * 1000).replace(".000Z", "Z");
    let text = |method: &str| format!("{method}\n{end}\n/v1/AUTH_u/bucket/dir/a.txt");
    let object = "/bucket/dir/a.txt";
    for key in ["account1", "account2", "container1", "container2"] {
        let tag = |algorithm, method: &str| {
            let key = Key::new(algorithm, key.as_bytes());
            sign(&key, text(method).as_bytes()).as_ref().to_vec()
        };
        let [sha1, sha256, sha512] = [HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512]
            .map(|algorithm| tag(algorithm, "GET"));
        for signature in [
            hex::encode(&sha1),
            hex::encode(&sha256),
            hex::encode(&sha512),
            format!("sha256:{}", URL_SAFE_NO_PAD.encode(&sha256)),
            format!("sha512:{}", STANDARD.encode(&sha512).replace('+', "%2B")),
        ] {
            for end in [end.to_string(), iso.clone()] {
                let url = format!("{object}?temp_url_sig={signature}&temp_url_expires={end}");
                assert_eq!(nobody.ask("GET", &url, b"").text(), "body", "{key} {url}");
            }
        }
        // HEAD is let in by what lets in to write, also.
        for method in ["HEAD", "GET", "PUT", "POST", "DELETE"] {
            let signature = hex::encode(tag(HMAC_SHA256, method));
            let url = format!("{object}?temp_url_sig={signature}&temp_url_expires={end}");
            let expected = if method == "DELETE" { 401 } else { 200 };
            assert_eq!(nobody.status("HEAD", &url, &[]), expected, "{method}");
        }
    }
    let query = signed("account1", &text("GET"), end);
    let shown = |more: &str| {
        let answer = nobody.ask("GET", &format!("{object}?{query}{more}"), b"");
        answer.headers["content-disposition"].clone()
    };
    assert_eq!(shown(""), "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt");
    assert_eq!(shown("&filename=b.txt"), "attachment; filename=\"b.txt\"; filename*=UTF-8''b.txt");
    assert_eq!(shown("&inline"), "inline");
    let both = "inline; filename=\"b.txt\"; filename*=UTF-8''b.txt";
    assert_eq!(shown("&inline&filename=b.txt"), both);
    let kept = [("content-disposition", "attachment; filename=own")];
    assert_eq!(owner.status("POST", object, &kept), 202);
    assert_eq!(shown(""), "attachment; filename=own");
    assert_eq!(shown("&inline"), "inline");
    // Without one of the two, with an end in no form that there is.
    for query in [
        query.split('&').next().expect("the signature").to_owned(),
        format!("temp_url_expires={end}"),
        query.replace(&format!("={end}"), "=soon"),
        query.replace("temp_url_sig=", "temp_url_sig=md5:"),
    ] {
        assert_eq!(nobody.status("GET", &format!("{object}?{query}"), &[]), 401, "{query}");
    }
    // What is not there is told to who may look; a key that was replaced opens nothing.
    let missing = |path: &str, key: &str| {
        let query = signed(key, &format!("GET\n{end}\n/v1/AUTH_u{path}"), end);
        nobody.status("GET", &format!("{path}?{query}"), &[])
    };
    assert_eq!(missing("/bucket/none", "account1"), 404);
    assert_eq!(missing("/bucket/none", "container2"), 404);
    assert_eq!(missing("/none/none", "account2"), 404);
    assert_eq!(owner.status("POST", "", &[("x-account-meta-temp-url-key", "new")]), 204);
    assert_eq!(nobody.status("GET", &format!("{object}?{query}"), &[]), 401);
    assert_eq!(missing(object, "new"), 200);
}

#[test]
fn only_trusted_proxies_say_who_asks() {
    let shared = crate::shared();
    let settings = store_gateway::s3::Settings {
        trusted_proxies: vec![],
        ..store_gateway::s3::Settings::clone(&shared.settings)
    };
    let world = World::with(crate::Shared { settings: settings.into(), ..shared });
    let (owner, nobody) = (world.swift("u"), world.no_token());
    assert_eq!(owner.ask("PUT", "/bucket/o", b"body").status, 201);
    assert_eq!(owner.status("POST", "", &[("x-account-meta-temp-url-key", "k")]), 204);
    let end = store_shell::clock::timestamp().millis() / 1000 + 60;
    let url = |range: &str| {
        let text = format!("ip={range}\nGET\n{end}\n/v1/AUTH_u/bucket/o");
        format!("/bucket/o?{}&temp_url_ip_range={range}", signed("k", &text, end))
    };
    assert_eq!(nobody.ask_from("10.1.2.3", &url("10.0.0.0/8")), 401);
    assert_eq!(nobody.ask_from("10.1.2.3", &url("127.0.0.0/8")), 200);
    let logged_in = |headers: &[(&str, &str)]| {
        let headers = [&[("x-auth-user", "u"), ("x-auth-key", "usecret")], headers].concat();
        world.plain("GET", "/auth/v1.0", &headers, b"").headers["x-storage-url"].clone()
    };
    assert!(logged_in(&[("x-forwarded-proto", "https")]).starts_with("http://"));
}

#[test]
fn who_answers_is_not_chosen_by_two_hosts() {
    let world = World::new();
    assert_eq!(world.swift("u").ask("PUT", "/bucket/o", b"body").status, 201);
    for path in ["/info", "/v1/AUTH_u/bucket/o", "/bucket/o"] {
        for host in ["AUTH_u.s3.test", "bucket.web.localhost", "h"] {
            let answer = world.plain("GET", path, &[("host", host)], b"");
            assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidRequest"), "{path}");
        }
    }
    // One that a trusted proxy hands on over TLS goes on over TLS.
    let headers = [("x-auth-user", "u"), ("x-auth-key", "usecret"), ("x-forwarded-proto", "https")];
    let url = world.plain("GET", "/auth/v1.0", &headers, b"").headers["x-storage-url"].clone();
    assert!(url.starts_with("https://"), "{url}");
}

#[test]
fn a_bucket_keeps_the_host_that_looks_like_an_accounts() {
    let world = World::new();
    let owner = world.swift("u");
    let ask = |host: &str, path: &str, token: &str| {
        let mut stream = world.client.connect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}.s3.test\r\n{token}\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        crate::client::read_answer(&mut stream, "GET").expect("an answer")
    };
    let public = [("x-amz-acl", "public-read")];
    assert_eq!(owner.ask("PUT", "/bucket/o", b"of the account").status, 201);
    assert_eq!(owner.status("POST", "/bucket", &[("x-container-read", ".r:*")]), 204);
    assert_eq!(ask("auth-u", "/bucket/o", "").text(), "of the account");
    assert_eq!(world.client.ask("PUT", "/auth-u", b"").status, 200);
    let put = world.client.ask_with("PUT", "/auth-u/bucket/o", &public, b"of the bucket");
    assert_eq!(put.status, 200);
    assert_eq!(ask("auth-u", "/bucket/o", "").text(), "of the bucket");
    // Who logged in to the account means it, and no bucket is called like this.
    let token = format!("x-auth-token: {}\r\n", owner.token);
    assert_eq!(ask("auth-u", "/bucket/o", &token).text(), "of the account");
    assert_eq!(ask("AUTH_u", "/bucket/o", "").text(), "of the account");
}
