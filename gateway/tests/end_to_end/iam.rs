//! IAM and STS through the socket: members of an account have what policies give them and no more; every rule
//! denies; what was removed is refused at once by the gateway that removed it.

mod calls;
mod sts;

use crate::client::{Answer, Client, Hash, encoded, read_answer};
use crate::swift::Swift;
use crate::{World, shared};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use store_gateway::keyring::{FixedKeys, User};
use store_gateway::shell::Shared;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A client with credentials, perhaps for a while.
#[derive(Clone)]
struct Signer {
    client: Client,
    token: Option<String>,
}

impl Signer {
    fn of(client: &Client) -> Signer {
        Signer { client: client.clone(), token: None }
    }

    /// With the credentials of an answer.
    fn with(&self, answer: &Answer) -> Signer {
        let element = |name: &str| answer.element(name);
        Signer {
            client: Client {
                access_key: element("AccessKeyId").expect("a key"),
                secret: element("SecretAccessKey").expect("a secret"),
                ..self.client.clone()
            },
            token: element("SessionToken"),
        }
    }

    fn headers<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let token = self.token.as_deref().map(|token| ("x-amz-security-token", token));
        more.iter().copied().chain(token).collect()
    }

    fn s3(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.client.ask_with(method, target, &self.headers(&[]), body)
    }

    /// What comes of a request: the status, or the code of the error.
    fn may(&self, method: &str, target: &str) -> String {
        let body: &[u8] = if target[1..].contains('/') { b"x" } else { b"" };
        let answer = self.s3(method, target, body);
        match answer.status {
            status @ 200..=299 => status.to_string(),
            _ => answer.code(),
        }
    }

    fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> Answer {
        let mut form = format!("Action={action}&Version=2010-05-08");
        parameters.iter().for_each(|(n, v)| form.push_str(&format!("&{n}={}", encoded(v))));
        self.client.ask_with("POST", "/", &self.headers(&[FORM]), form.as_bytes())
    }

    fn done(&self, action: &str, parameters: &[(&str, &str)]) -> Answer {
        let answer = self.iam(action, parameters);
        assert_eq!(answer.status, 200, "{action} {parameters:?}: {}", answer.text());
        answer
    }

    /// The error that a call ends with.
    fn fails(&self, action: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        let answer = self.iam(action, parameters);
        assert!(answer.text().contains("<ErrorResponse xmlns=\"https://"), "{}", answer.text());
        (answer.status, answer.code())
    }
}

fn policy(statements: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
}

fn rule(effect: &str, action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}"}}"#)
}

fn allow(action: &str, resource: &str) -> String {
    policy(&rule("Allow", action, resource))
}

fn trust(who: &str) -> String {
    policy(&format!(
        r#"{{"Effect":"Allow","Principal":{{"AWS":"{who}"}},"Action":"sts:AssumeRole"}}"#
    ))
}

const DENIED: &str = "AccessDenied";

impl World {
    fn root(&self) -> Signer {
        Signer::of(&self.client)
    }

    fn signer(&self, user: &str) -> Signer {
        Signer::of(&Client {
            access_key: user.into(),
            secret: format!("{user}secret"),
            ..self.client.clone()
        })
    }

    /// A new member of the account `u`.
    fn member(&self, name: &str) -> Signer {
        let root = self.root();
        root.done("CreateUser", &[("UserName", name)]);
        root.with(&root.done("CreateAccessKey", &[("UserName", name)]))
    }

    fn give(&self, name: &str, policy: &str) {
        let given = [("UserName", name), ("PolicyName", "p"), ("PolicyDocument", policy)];
        self.root().done("PutUserPolicy", &given);
    }

    fn bucket_policy(&self, statement: &str) {
        let put = self.client.ask("PUT", "/bucket?policy=", policy(statement).as_bytes());
        assert_eq!(put.status, 204, "{}", put.text());
    }
}

#[test]
fn a_member_has_nothing_until_a_policy_gives_it() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"x");
    let ann = world.member("Ann");
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/bucket"),
        ("GET", "/bucket/k"),
        ("GET", "/bucket/absent"),
        ("PUT", "/bucket/k"),
        ("DELETE", "/bucket/k"),
        ("PUT", "/another"),
        ("GET", "/bucket?acl="),
        ("GET", "/bucket?policy="),
        ("DELETE", "/bucket"),
    ] {
        assert_eq!(ann.may(method, target), DENIED, "{method} {target}");
    }
    world.give("ann", &allow("s3:*", "*"));
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/bucket"),
        ("GET", "/bucket/k"),
        ("PUT", "/bucket/k"),
        ("PUT", "/another"),
        ("GET", "/bucket?acl="),
    ] {
        assert_eq!(ann.may(method, target), "200", "{method} {target}");
    }
    // What members make is the account's.
    assert!(world.get("/").text().contains("<Name>another</Name>"));
    assert_eq!(world.root().may("DELETE", "/another"), "204");
    assert!(ann.s3("GET", "/", b"").text().contains("<ID>u</ID>"));
    let denying = policy(&[rule("Allow", "s3:*", "*"), rule("Deny", "s3:Put*", "*")].join(","));
    world.give("ann", &denying);
    assert_eq!(ann.may("PUT", "/bucket/k"), DENIED);
    assert_eq!(ann.may("GET", "/bucket/k"), "200");
}

#[test]
fn every_part_of_a_policy_can_deny() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/ann/k", b"x");
    world.client.ask("PUT", "/bucket/bob/k", b"x");
    let ann = world.member("ann");
    let when = |condition: &str| {
        policy(&format!(
            r#"{{"Effect":"Allow","Action":"s3:GetObject","Resource":"*","Condition":{condition}}}"#
        ))
    };
    for (document, own, others) in [
        (allow("s3:GetObject", "arn:aws:s3:::bucket/*"), "200", "200"),
        (allow("s3:GetObject", "arn:aws:s3:::bucket"), DENIED, DENIED),
        (allow("s3:PutObject", "*"), DENIED, DENIED),
        (allow("s3:GetObject", "arn:aws:s3:::bucket/${aws:username}/*"), "200", DENIED),
        (when(r#"{"StringEquals":{"aws:username":"ann"}}"#), "200", "200"),
        (when(r#"{"StringEquals":{"aws:username":"bob"}}"#), DENIED, DENIED),
        (when(r#"{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}"#), "200", "200"),
        (when(r#"{"NotIpAddress":{"aws:SourceIp":"127.0.0.0/8"}}"#), DENIED, DENIED),
        (when(r#"{"Null":{"aws:TokenIssueTime":"false"}}"#), DENIED, DENIED),
        (allow("s3:GetObject", "*").replace("\"Resource\"", "\"NotResource\""), DENIED, DENIED),
        (allow("s3:GetObject", "*").replace("\"Action\"", "\"NotAction\""), DENIED, DENIED),
    ] {
        world.give("ann", &document);
        assert_eq!(ann.may("GET", "/bucket/ann/k"), own, "{document}");
        assert_eq!(ann.may("GET", "/bucket/bob/k"), others, "{document}");
    }
    world.give("ann", &allow("s3:GetObject", "*"));
    assert_eq!(ann.may("DELETE", "/bucket/ann/k"), DENIED);
    // Keys that a body names are decided one by one.
    world.give("ann", &allow("s3:DeleteObject", "arn:aws:s3:::bucket/ann/*"));
    let both =
        b"<Delete><Object><Key>ann/k</Key></Object><Object><Key>bob/k</Key></Object></Delete>";
    let deleted = ann.s3("POST", "/bucket?delete=", both);
    assert_eq!(deleted.elements("Deleted"), ["<Key>ann/k</Key>"], "{}", deleted.text());
    assert_eq!(deleted.code(), DENIED);
}

#[test]
fn what_a_write_does_besides_needs_leave_too() {
    let world = World::new();
    let ann = world.member("ann");
    let put = |target: &str, header: (&str, &str)| {
        let answer = ann.client.ask_with("PUT", target, &[header], b"");
        if answer.status == 200 { "200".into() } else { answer.code() }
    };
    let cases = [
        ("/bucket/k", ("x-amz-acl", "public-read"), "s3:PutObjectAcl"),
        ("/bucket/k", ("x-amz-grant-read", "id=v"), "s3:PutObjectAcl"),
        ("/bucket/k", ("x-amz-tagging", "a=b"), "s3:PutObjectTagging"),
        ("/new-acl", ("x-amz-acl", "public-read"), "s3:PutBucketAcl"),
        (
            "/new-owner",
            ("x-amz-object-ownership", "BucketOwnerEnforced"),
            "s3:PutBucketOwnershipControls",
        ),
    ];
    for (target, header, action) in cases {
        let mut rules =
            vec![rule("Allow", "s3:PutObject", "*"), rule("Allow", "s3:CreateBucket", "*")];
        world.give("ann", &policy(&rules.join(",")));
        assert_eq!(put(target, header), DENIED, "{header:?}");
        rules.push(rule("Allow", action, "*"));
        world.give("ann", &policy(&rules.join(",")));
        assert_eq!(put(target, header), "200", "{header:?}");
    }
    // And a root user must not be denied it.
    let document = policy(&rule("Deny", "s3:PutObjectAcl", "*"));
    let given = [("UserName", "u"), ("PolicyName", "p"), ("PolicyDocument", document.as_str())];
    world.signer("a").done("PutUserPolicy", &given);
    let public = [("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/k", &public, b"").code(), DENIED);
    assert_eq!(world.client.ask("PUT", "/bucket/k", b"").status, 200);
}

#[test]
fn policies_of_the_bucket_and_of_the_member_go_together() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"x");
    let ann = world.member("ann");
    let statement = |effect: &str, who: &str| {
        format!(
            r#"{{"Effect":"{effect}","Principal":{who},"Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}}"#
        )
    };
    let get = || ann.may("GET", "/bucket/k");
    for (who, alone) in [
        (r#"{"AWS":"arn:aws:iam::u:user/ann"}"#, "200"),
        (r#""*""#, "200"),
        (r#"{"AWS":"arn:aws:iam::u:root"}"#, DENIED),
        (r#"{"AWS":"arn:aws:iam::u:user/bob"}"#, DENIED),
        (r#"{"AWS":"arn:aws:iam::v:user/ann"}"#, DENIED),
    ] {
        world.bucket_policy(&statement("Allow", who));
        assert_eq!(get(), alone, "{who}");
    }
    world.give("ann", &allow("s3:*", "*"));
    assert_eq!(get(), "200");
    for (who, with) in [
        (r#"{"AWS":"arn:aws:iam::u:user/ann"}"#, DENIED),
        (r#"{"AWS":"arn:aws:iam::u:root"}"#, DENIED),
        (r#"{"AWS":"arn:aws:iam::u:user/bob"}"#, "200"),
    ] {
        world.bucket_policy(&statement("Deny", who));
        assert_eq!(get(), with, "{who}");
    }
    // A member does not pass the deny of his bucket's policy, as the owner does.
    world.bucket_policy(
        r#"{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::bucket"}"#,
    );
    assert_eq!(ann.may("DELETE", "/bucket?policy="), DENIED);
    assert_eq!(world.root().may("DELETE", "/bucket?policy="), "204");
}

#[test]
fn another_account_lets_in_whom_his_own_lets_out() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"x");
    let other = world.signer("v");
    other.done("CreateUser", &[("UserName", "ann")]);
    let ann = other.with(&other.done("CreateAccessKey", &[("UserName", "ann")]));
    let get = || ann.may("GET", "/bucket/k");
    let by_policy = |who: &str| {
        world.bucket_policy(&format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":"{who}"}},"Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}}"#
        ));
    };
    for who in ["arn:aws:iam::v:user/ann", "arn:aws:iam::v:root", "*"] {
        by_policy(who);
        assert_eq!(get(), DENIED, "{who}");
    }
    let document = allow("s3:GetObject", "*");
    other.done(
        "PutUserPolicy",
        &[("UserName", "ann"), ("PolicyName", "p"), ("PolicyDocument", &document)],
    );
    for who in ["arn:aws:iam::v:user/ann", "arn:aws:iam::v:root", "*"] {
        by_policy(who);
        assert_eq!(get(), "200", "{who}");
    }
    for who in ["arn:aws:iam::v:user/bob", "arn:aws:iam::u:user/ann"] {
        by_policy(who);
        assert_eq!(get(), DENIED, "{who}");
    }
    // By ACL, as his root user.
    let public = [("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/k?acl=", &public, b"").status, 200);
    assert_eq!(get(), "200");
    assert_eq!(ann.may("DELETE", "/bucket/k"), DENIED);
}

#[test]
fn groups_and_managed_policies_give_and_take() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"x");
    let (root, ann) = (world.root(), world.member("ann"));
    let get = || ann.may("GET", "/bucket/k");
    root.done("CreateGroup", &[("GroupName", "readers"), ("Path", "/staff/")]);
    let document = allow("s3:GetObject", "*");
    let group = ("GroupName", "readers");
    let inline = [group, ("PolicyName", "p"), ("PolicyDocument", document.as_str())];
    root.done("PutGroupPolicy", &inline);
    assert_eq!(get(), DENIED);
    root.done("AddUserToGroup", &[group, ("UserName", "ann")]);
    assert_eq!(get(), "200");
    assert_eq!(root.fails("DeleteUser", &[("UserName", "ann")]).1, "DeleteConflict");
    root.done("RemoveUserFromGroup", &[group, ("UserName", "ann")]);
    assert_eq!(get(), DENIED);
    let made = root.done("CreatePolicy", &[("PolicyName", "Read"), ("PolicyDocument", &document)]);
    let arn = made.element("Arn").unwrap();
    assert_eq!(arn, "arn:aws:iam::u:policy/Read");
    root.done("AttachUserPolicy", &[("UserName", "ann"), ("PolicyArn", &arn)]);
    assert_eq!(get(), "200");
    assert_eq!(root.fails("DeletePolicy", &[("PolicyArn", &arn)]).1, "DeleteConflict");
    root.done("DetachUserPolicy", &[("UserName", "ann"), ("PolicyArn", &arn)]);
    assert_eq!(get(), DENIED);
    root.done("DeletePolicy", &[("PolicyArn", &arn)]);
    root.done("AddUserToGroup", &[group, ("UserName", "ann")]);
    root.done("DeleteGroupPolicy", &[group, ("PolicyName", "p")]);
    assert_eq!(get(), DENIED);
    let builtin = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess";
    root.done("AttachGroupPolicy", &[group, ("PolicyArn", builtin)]);
    assert_eq!((get(), ann.may("PUT", "/bucket/k")), ("200".into(), DENIED.into()));
}

#[test]
fn keys_and_users_end_when_they_are_removed() {
    let world = World::new();
    let (root, ann) = (world.root(), world.member("ann"));
    world.give("ann", &allow("s3:ListAllMyBuckets", "*"));
    let key = ann.client.access_key.clone();
    let named = [("UserName", "ann"), ("AccessKeyId", key.as_str())];
    assert_eq!(ann.may("GET", "/"), "200");
    let status = |status| [named[0], named[1], ("Status", status)];
    root.done("UpdateAccessKey", &status("Inactive"));
    assert_eq!(ann.may("GET", "/"), "InvalidAccessKeyId");
    let listed = root.done("ListAccessKeys", &named[..1]);
    assert_eq!(listed.elements("Status"), ["Inactive"]);
    assert!(!listed.text().contains(&ann.client.secret));
    root.done("UpdateAccessKey", &status("Active"));
    assert_eq!(ann.may("GET", "/"), "200");
    root.done("UpdateUser", &[named[0], ("NewUserName", "eve")]);
    assert_eq!(ann.may("GET", "/"), "200");
    let wrong =
        Signer::of(&Client { secret: "guessed".into(), ..ann.client.clone() }).may("GET", "/");
    assert_eq!(wrong, "SignatureDoesNotMatch");
    let named = [("UserName", "eve"), named[1]];
    root.done("DeleteAccessKey", &named);
    assert_eq!(ann.may("GET", "/"), "InvalidAccessKeyId");
    root.done("DeleteUserPolicy", &[named[0], ("PolicyName", "p")]);
    root.done("DeleteUser", &named[..1]);
    assert_eq!(root.fails("GetUser", &named[..1]), (404, "NoSuchEntity".into()));
    // A key of the root user that he made himself.
    let own = root.with(&root.done("CreateAccessKey", &[]));
    assert_eq!(own.may("GET", "/bucket"), "200");
    root.done("DeleteAccessKey", &[("AccessKeyId", &own.client.access_key)]);
    assert_eq!(own.may("GET", "/bucket"), "InvalidAccessKeyId");
}

#[test]
fn every_gateway_knows_what_another_gave_and_forgets_it_in_time() {
    let world = World::new();
    let second = World::over(world.cluster.clone(), shared());
    let at_second = |signer: &Signer| {
        let client = Client { address: second.client.address, ..signer.client.clone() };
        Signer { client, token: signer.token.clone() }
    };
    let ann = world.member("ann");
    world.give("ann", &allow("*", "*"));
    let session = ann.with(&ann.done("GetSessionToken", &[]));
    let there = [at_second(&ann), at_second(&session)];
    assert_eq!(there.each_ref().map(|signer| signer.may("GET", "/bucket")), ["200", "200"]);
    let key = [("UserName", "ann"), ("AccessKeyId", ann.client.access_key.as_str())];
    world.root().done("DeleteAccessKey", &key);
    assert_eq!(ann.may("GET", "/bucket"), "InvalidAccessKeyId");
    assert_eq!(session.may("GET", "/bucket"), "InvalidToken");
    std::thread::sleep(Duration::from_millis(1050));
    let codes = there.each_ref().map(|signer| signer.may("GET", "/bucket"));
    assert_eq!(codes, ["InvalidAccessKeyId", "InvalidToken"]);
}

#[test]
fn members_go_with_their_root_user() {
    let world = World::new();
    let ann = world.member("ann");
    world.give("ann", &allow("*", "*"));
    let session = ann.with(&ann.done("GetSessionToken", &[]));
    let key = world.root().with(&world.root().done("CreateAccessKey", &[]));
    // A gateway that hears from the monitor that there is no such user, or that he is suspended.
    let other = User { id: "v".into(), secret: "vsecret".into(), ..User::default() };
    let keys = Arc::new(FixedKeys::default().with("v", other));
    let without = World::over(world.cluster.clone(), Shared { keys, ..shared() });
    for (signer, code) in
        [(&ann, "InvalidAccessKeyId"), (&session, "InvalidToken"), (&key, "InvalidAccessKeyId")]
    {
        assert_eq!(signer.may("GET", "/"), "200");
        let client = Client { address: without.client.address, ..signer.client.clone() };
        let there = Signer { client, token: signer.token.clone() };
        assert_eq!(there.may("GET", "/"), code);
    }
}

#[test]
fn what_administrators_deny_is_denied_over_swift() {
    let world = World::new();
    let (admin, other) = (world.signer("a"), world.client.clone());
    let swift = |method: &str, target: &str, token: &str| {
        let mut stream = other.connect();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: h\r\nx-auth-token: {token}\r\nx-auth-user: v\r\nx-auth-key: vsecret\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream, method).expect("an answer")
    };
    let token = swift("GET", "/auth/v1.0", "").headers["x-auth-token"].clone();
    let all = || {
        [
            ("PUT", "/v1/AUTH_v/c"),
            ("PUT", "/v1/AUTH_v/c/o"),
            ("GET", "/v1/AUTH_v/c/o"),
            ("GET", "/v1/AUTH_v"),
        ]
        .map(|(method, target)| swift(method, target, &token).status)
    };
    assert_eq!(all(), [201, 201, 200, 200]);
    let put = |document: &str| {
        let given = [("UserName", "v"), ("PolicyName", "p"), ("PolicyDocument", document)];
        admin.done("PutUserPolicy", &given);
    };
    put(&policy(&rule("Deny", "s3:GetObject", "*")));
    assert_eq!(swift("GET", "/v1/AUTH_v/c/o", &token).status, 403);
    put(&policy(&rule("Deny", "s3:*", "*")));
    assert_eq!(all(), [403; 4]);
    assert_eq!(swift("PUT", "/v1/AUTH_v/d", &token).status, 403);
}

#[test]
fn members_have_over_swift_what_policies_give_them() {
    let world = World::new();
    assert_eq!(world.client.ask("PUT", "/bucket/k", b"x").status, 200);
    let ann = world.member("Ann");
    let Client { access_key, secret, .. } = &ann.client;
    let log_in = |user: &str, secret: &str| {
        let headers = [("x-auth-user", user), ("x-auth-key", secret)];
        world.plain("GET", "/auth/v1.0", &headers, b"")
    };
    let by_key = format!("u:{access_key}");
    for user in ["u:Ann", &by_key] {
        assert_eq!(log_in(user, secret).status, 200, "{user}");
        assert_eq!(log_in(user, "usecret-").status, 401, "{user}");
    }
    for user in ["v:Ann", "u:Bob", "Ann", "u", "u:", &format!("v:{access_key}")] {
        assert_eq!(log_in(user, secret).status, 401, "{user}");
    }
    let answer = log_in("u:Ann", secret);
    assert!(answer.headers["x-storage-url"].ends_with("/v1/AUTH_u"));
    let token = answer.headers["x-auth-token"].clone();
    let swift = Swift { world: &world, account: "/v1/AUTH_u".into(), token };
    let all = || {
        [
            ("GET", ""),
            ("PUT", "/new"),
            ("GET", "/bucket"),
            ("GET", "/bucket/k"),
            ("GET", "/bucket/none"),
            ("PUT", "/bucket/n"),
            ("DELETE", "/bucket/n"),
        ]
        .map(|(method, path)| swift.status(method, path, &[]))
    };
    assert_eq!(all(), [403; 7]);
    // Nothing that Swift grants lets in whom policies bind.
    let acl = [("x-container-read", "u"), ("x-container-write", "u")];
    let owner = world.swift("u");
    assert_eq!(owner.status("POST", "/bucket", &acl), 204);
    let roles = [("x-account-access-control", r#"{"admin":["u"]}"#)];
    assert_eq!(owner.status("POST", "", &roles), 204);
    assert_eq!(all(), [403; 7]);
    world.give("Ann", &allow("s3:GetObject", "arn:aws:s3:::bucket/*"));
    assert_eq!(swift.ask("GET", "/bucket/k", b"").text(), "x");
    assert_eq!(swift.status("PUT", "/bucket/k", &[]), 403);
    assert_eq!(swift.status("GET", "/bucket", &[]), 403);
    world.give("Ann", &allow("s3:*", "*"));
    assert_eq!(all(), [200, 201, 200, 200, 404, 201, 204]);
    // What is the owner's to set is not for policies to give.
    assert_eq!(swift.status("POST", "", &[("x-account-meta-temp-url-key", "k")]), 403);
    assert!(!swift.ask("HEAD", "/bucket", b"").headers.contains_key("x-container-read"));
    world.give(
        "Ann",
        &policy(&[rule("Allow", "s3:*", "*"), rule("Deny", "s3:Put*", "*")].join(",")),
    );
    assert_eq!(swift.status("PUT", "/bucket/n", &[]), 403);
    assert_eq!(swift.status("GET", "/bucket/k", &[]), 200);
    let gone = [("UserName", "Ann"), ("AccessKeyId", access_key.as_str())];
    world.root().done("DeleteAccessKey", &gone);
    assert_eq!(swift.status("GET", "/bucket/k", &[]), 401);
    assert_eq!(log_in("u:Ann", secret).status, 401);
}

#[test]
fn members_sign_in_every_way() {
    let world = World::new();
    let ann = world.member("ann");
    world.give("ann", &allow("s3:*", "arn:aws:s3:::bucket/*"));
    let body = vec![7; 100_000];
    let signed = ann.client.sign(
        "PUT",
        "/bucket/k",
        &[
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "100000"),
            ("content-length", &signed_length(&ann.client, &body).to_string()),
        ],
        &[],
        Hash::Chunks,
    );
    let mut stream = ann.client.connect();
    let head = format!("{}connection: close\r\n\r\n", signed.head);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&signed.chunks(&body, 65536)).unwrap();
    assert_eq!(read_answer(&mut stream, "PUT").expect("an answer").status, 200);
    assert_eq!(ann.s3("GET", "/bucket/k", b"").body, body);
}

/// Bytes of the body in chunks.
fn signed_length(client: &Client, body: &[u8]) -> usize {
    client.sign("PUT", "/", &[], &[], Hash::Chunks).chunks(body, 65536).len()
}

#[test]
fn administrators_limit_and_extend_root_users() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"x");
    let (admin, other) = (world.signer("a"), world.signer("v"));
    let put = |document: &str| {
        let given = [("UserName", "v"), ("PolicyName", "p"), ("PolicyDocument", document)];
        admin.done("PutUserPolicy", &given);
    };
    assert_eq!(other.may("GET", "/bucket/k"), DENIED);
    put(&allow("s3:GetObject", "arn:aws:s3:::bucket/*"));
    assert_eq!(other.may("GET", "/bucket/k"), "200");
    assert_eq!(other.may("PUT", "/bucket/k"), DENIED);
    put(&policy(&rule("Deny", "s3:CreateBucket", "*")));
    assert_eq!(other.may("GET", "/bucket/k"), DENIED);
    assert_eq!((other.may("PUT", "/vs-own"), other.may("GET", "/")), (DENIED.into(), "200".into()));
    let own = [("UserName", "v"), ("PolicyName", "p")];
    assert_eq!(other.fails("DeleteUserPolicy", &own).1, DENIED);
    admin.done("DeleteUserPolicy", &own);
    assert_eq!(other.may("PUT", "/vs-own"), "200");
    // Members of an administrator reach as far as their policies.
    admin.done("CreateUser", &[("UserName", "helper")]);
    let helper = admin.with(&admin.done("CreateAccessKey", &[("UserName", "helper")]));
    assert_eq!(helper.may("GET", "/bucket/k"), DENIED);
    let document = allow("s3:GetObject", "*");
    let given =
        [("UserName", "helper"), ("PolicyName", "p"), ("PolicyDocument", document.as_str())];
    admin.done("PutUserPolicy", &given);
    assert_eq!(helper.may("GET", "/bucket/k"), "200");
    assert_eq!(helper.may("PUT", "/bucket/k"), DENIED);
}
