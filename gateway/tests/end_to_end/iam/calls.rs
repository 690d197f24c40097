//! The calls of IAM themselves: who may make them, how they fail, how they list.

use super::*;
use store_gateway::keyring::Member;

/// Keys of root users and of Swift members with full access, by account and name.
fn with_members(roots: &[(&str, bool)], members: &[(&str, &str)]) -> Shared {
    let user = |id: &str, key: &str| User {
        id: id.into(),
        display_name: id.into(),
        secret: format!("{key}secret"),
        ..User::default()
    };
    let mut keys = FixedKeys::default();
    for (id, admin) in roots {
        keys = keys.with(id, User { admin: *admin, ..user(id, id) });
    }
    for (account, name) in members {
        let member = Member { account: (*account).into(), name: (*name).into(), admin: true };
        let key = format!("{account}-{name}");
        keys = keys.with(&key, User { member: Some(member), ..user(account, &key) });
    }
    Shared { keys: Arc::new(keys), ..shared() }
}

#[test]
fn a_swift_member_makes_no_more_of_herself_over_iam() {
    let roots = [("a", true), ("u", false)];
    let world = World::with(with_members(&roots, &[("a", "ann"), ("u", "ann"), ("w", "ann")]));
    let document = allow("*", "*");
    let role = [("RoleName", "r"), ("AssumeRolePolicyDocument", &*trust("arn:aws:iam::a:root"))];
    world.signer("a").done("CreateRole", &role);
    let escalations: [(&str, &[(&str, &str)]); 6] = [
        ("CreateAccessKey", &[]),
        ("CreateAccessKey", &[("UserName", "a")]),
        ("ListAccessKeys", &[]),
        ("CreateUser", &[("UserName", "x")]),
        ("PutUserPolicy", &[("UserName", "u"), ("PolicyName", "p"), ("PolicyDocument", &document)]),
        ("AssumeRole", &[("RoleArn", "arn:aws:iam::a:role/r"), ("RoleSessionName", "s")]),
    ];
    // Of an administrator's account, and of one that has no user yet and may get any.
    for key in ["a-ann", "w-ann"] {
        let ann = world.signer(key);
        for (action, parameters) in escalations {
            assert_eq!(ann.fails(action, parameters), (403, DENIED.into()), "{key} {action}");
        }
        let account = ann.done("GetCallerIdentity", &[]).element("Account").unwrap();
        assert_eq!(Some(account.as_str()), key.split('-').next());
        let session = ann.with(&ann.done("GetSessionToken", &[]));
        assert_eq!(session.may("PUT", &format!("/of-{account}")), "200");
        assert_eq!(session.may("GET", "/bucket"), DENIED);
    }
    // In an ordinary account she has all but the keys of its root user.
    let ann = world.signer("u-ann");
    ann.done("CreateUser", &[("UserName", "x")]);
    ann.done("CreateAccessKey", &[("UserName", "x")]);
    assert_eq!(ann.done("GetUser", &[]).element("UserName").unwrap(), "u");
    let own = world.root().done("CreateAccessKey", &[]).element("AccessKeyId").unwrap();
    for (action, parameters) in [
        ("CreateAccessKey", &[][..]),
        ("ListAccessKeys", &[]),
        ("UpdateAccessKey", &[("AccessKeyId", &*own), ("Status", "Inactive")]),
        ("DeleteAccessKey", &[("AccessKeyId", &*own)]),
    ] {
        assert_eq!(ann.fails(action, parameters).1, "NoSuchEntity", "{action}");
    }
}

#[test]
fn only_whom_a_policy_allows_may_call_iam() {
    let world = World::new();
    let (root, ann) = (world.root(), world.member("ann"));
    let document = allow("*", "*");
    let escalation = [("UserName", "ann"), ("PolicyName", "q"), ("PolicyDocument", &document)];
    for (action, parameters) in [
        ("PutUserPolicy", &escalation[..]),
        ("CreateUser", &[("UserName", "x")]),
        ("CreateAccessKey", &[("UserName", "ann")]),
        ("CreateAccessKey", &[]),
        ("GetUser", &[]),
        ("ListUsers", &[]),
        ("ListRoles", &[]),
        ("ListPolicies", &[]),
        ("DeleteUser", &[("UserName", "absent")]),
        ("CreateGroup", &[("GroupName", "x")]),
        (
            "AttachUserPolicy",
            &[("UserName", "ann"), ("PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")],
        ),
    ] {
        assert_eq!(ann.fails(action, parameters), (403, DENIED.into()), "{action}");
    }
    assert!(
        ann.done("GetCallerIdentity", &[]).text().contains("<Arn>arn:aws:iam::u:user/ann</Arn>")
    );
    world.give("ann", &allow("iam:GetUser", "arn:aws:iam::u:user/ann"));
    assert_eq!(ann.done("GetUser", &[]).element("UserName").unwrap(), "ann");
    root.done("CreateUser", &[("UserName", "bob")]);
    assert_eq!(ann.fails("GetUser", &[("UserName", "bob")]).1, DENIED);
    // Whatever he may, the root user and other accounts are out of his reach.
    world.give("ann", &document);
    ann.done("CreateUser", &[("UserName", "x")]);
    for action in ["CreateAccessKey", "GetUser", "ListAccessKeys"] {
        assert_eq!(
            ann.fails(action, &[("UserName", "u")]),
            (404, "NoSuchEntity".into()),
            "{action}"
        );
    }
    let on_root = [("UserName", "u"), ("PolicyName", "q"), ("PolicyDocument", document.as_str())];
    assert_eq!(ann.fails("PutUserPolicy", &on_root).1, "NoSuchEntity");
    // Nor gives the root user himself policies, which would reach beyond his account.
    assert_eq!(root.fails("PutUserPolicy", &on_root).1, DENIED);
    let on_other = [("UserName", "v"), ("PolicyName", "q"), ("PolicyDocument", document.as_str())];
    assert_eq!(root.fails("PutUserPolicy", &on_other).1, "NoSuchEntity");
    let nobody = Signer::of(&Client { access_key: "none".into(), ..world.client.clone() });
    assert_eq!(nobody.fails("ListUsers", &[]), (403, "InvalidClientTokenId".into()));
    let wrong = Signer::of(&Client { secret: "none".into(), ..world.client.clone() });
    assert_eq!(wrong.fails("ListUsers", &[]), (403, "SignatureDoesNotMatch".into()));
}

#[test]
fn errors_have_their_codes() {
    let world = World::new();
    let root = world.root();
    root.done("CreateUser", &[("UserName", "ann"), ("Path", "/a/")]);
    let long = allow("s3:GetObject", &format!("arn:aws:s3:::{}", "x".repeat(11 << 10)));
    let deep = allow("s3:GetObject", &format!("arn:aws:s3:::{}", "x".repeat(7 << 10)));
    fn policy_of(document: &str) -> [(&str, &str); 3] {
        [("UserName", "ann"), ("PolicyName", "p"), ("PolicyDocument", document)]
    }
    root.done("PutUserPolicy", &policy_of(&deep));
    for (action, parameters, status, code) in [
        ("CreateUser", vec![("UserName", "ANN")], 409, "EntityAlreadyExists"),
        ("CreateUser", vec![("UserName", "u")], 409, "EntityAlreadyExists"),
        ("CreateUser", vec![("UserName", "a/b")], 400, "ValidationError"),
        ("CreateUser", vec![], 400, "ValidationError"),
        ("CreateUser", vec![("UserName", "x"), ("Path", "x")], 400, "ValidationError"),
        ("GetUser", vec![("UserName", "none")], 404, "NoSuchEntity"),
        ("ListUsers", vec![("MaxItems", "0")], 400, "ValidationError"),
        ("PutUserPolicy", policy_of("{").to_vec(), 400, "MalformedPolicyDocument"),
        ("PutUserPolicy", policy_of(&long).to_vec(), 400, "MalformedPolicyDocument"),
        (
            "PutUserPolicy",
            vec![("UserName", "ann"), ("PolicyName", "q"), ("PolicyDocument", &deep)],
            409,
            "LimitExceeded",
        ),
        ("DeleteUser", vec![("UserName", "ann")], 409, "DeleteConflict"),
        ("GetUserPolicy", vec![("UserName", "ann"), ("PolicyName", "none")], 404, "NoSuchEntity"),
        ("GetPolicy", vec![("PolicyArn", "arn:aws:iam::u:policy/none")], 404, "NoSuchEntity"),
        ("GetPolicy", vec![("PolicyArn", "none")], 400, "ValidationError"),
        ("TagUser", vec![("UserName", "ann")], 501, "NotImplemented"),
    ] {
        assert_eq!(
            root.fails(action, &parameters),
            (status, code.into()),
            "{action} {parameters:?}"
        );
    }
    for bad in [
        policy(r#"{"Effect":"Allow","Action":"s3:GetObject"}"#),
        policy(r#"{"Effect":"Allow","Action":"s3:Misspelt","Resource":"*"}"#),
        policy(r#"{"Effect":"Allow","Principal":"u","Action":"*","Resource":"*"}"#),
        policy(r#"{"Effect":"Perhaps","Action":"*","Resource":"*"}"#),
        policy(r#"{"Effect":"Allow","Action":"*","Resource":"bucket"}"#),
        policy(&[r#"{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}"#; 2].join(",")),
        allow("*", "*").replace("2012-10-17", "2010-10-17"),
    ] {
        assert_eq!(
            root.fails("PutUserPolicy", &policy_of(&bad)).1,
            "MalformedPolicyDocument",
            "{bad}"
        );
    }
    for bad in [allow("s3:*", "*"), trust("u").replace("sts:", "s3:Get"), "{}".into()] {
        let role = [("RoleName", "r"), ("AssumeRolePolicyDocument", bad.as_str())];
        assert_eq!(root.fails("CreateRole", &role).1, "MalformedPolicyDocument", "{bad}");
    }
    root.done("CreateAccessKey", &[("UserName", "ann")]);
    root.done("CreateAccessKey", &[("UserName", "ann")]);
    assert_eq!(
        root.fails("CreateAccessKey", &[("UserName", "ann")]),
        (409, "LimitExceeded".into())
    );
    // A body that is not the one that was signed.
    let signed = world.client.sign("POST", "/", &[FORM], b"Action=ListUsers", Hash::OfBody);
    let mut stream = world.client.connect();
    stream.write_all(format!("{}connection: close\r\n\r\n", signed.head).as_bytes()).unwrap();
    stream.write_all(b"Action=ListRoles").unwrap();
    assert_eq!(read_answer(&mut stream, "POST").expect("an answer").status, 403);
}

#[test]
fn listings_come_in_pages() {
    let world = World::new();
    let root = world.root();
    for name in ["d", "B", "a", "C"] {
        root.done("CreateUser", &[("UserName", name), ("Path", "/p/")]);
        let document = allow("s3:GetObject", "*");
        root.done("CreatePolicy", &[("PolicyName", name), ("PolicyDocument", &document)]);
    }
    root.done("CreateUser", &[("UserName", "other")]);
    for (action, more, element) in [
        ("ListUsers", ("PathPrefix", "/p/"), "UserName"),
        ("ListPolicies", ("Scope", "Local"), "PolicyName"),
    ] {
        let (mut names, mut marker) = (Vec::new(), None::<String>);
        loop {
            let mut parameters = vec![more, ("MaxItems", "1")];
            parameters.extend(marker.as_deref().map(|marker| ("Marker", marker)));
            let page = root.done(action, &parameters);
            names.extend(page.elements(element));
            if page.element("IsTruncated").unwrap() == "false" {
                break;
            }
            marker = page.element("Marker");
        }
        assert_eq!(names, ["a", "B", "C", "d"], "{action}");
    }
    let all = root.done("ListPolicies", &[("MaxItems", "1")]);
    assert!(all.text().contains("arn:aws:iam::aws:policy/") && all.element("Marker").is_some());
}

#[test]
fn calls_are_signed_with_version_4() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
    let world = World::new();
    let expires = store_shell::clock::timestamp().millis() / 1000 + 60;
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"usecret");
    let to_sign = format!("GET\n\n\n{expires}\n/");
    let signature = encoded(&STANDARD.encode(sign(&key, to_sign.as_bytes())));
    let query = format!("AWSAccessKeyId=u&Expires={expires}&Signature={signature}");
    // The buckets are told: the signature is right.
    assert_eq!(world.plain("GET", &format!("/?{query}"), &[], b"").status, 200);
    for action in ["GetCallerIdentity", "CreateAccessKey", "DeleteUser&UserName=x"] {
        let answer = world.plain("GET", &format!("/?Action={action}&{query}"), &[], b"");
        assert_eq!((answer.status, answer.code()), (403, DENIED.into()), "{action}");
    }
}
