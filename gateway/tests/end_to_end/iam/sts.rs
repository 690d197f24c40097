//! STS through the socket: roles, tokens, and what narrows them.

use super::*;

impl World {
    /// A role of the account `u` that trusts these and has this policy.
    fn role(&self, name: &str, who: &str, policy: &str) {
        let root = self.root();
        root.done("CreateRole", &[("RoleName", name), ("AssumeRolePolicyDocument", &trust(who))]);
        let given = [("RoleName", name), ("PolicyName", "p"), ("PolicyDocument", policy)];
        root.done("PutRolePolicy", &given);
    }
}

fn role_arn(name: &str) -> String {
    format!("arn:aws:iam::u:role/{name}")
}

fn assume(who: &Signer, role: &str, more: &[(&str, &str)]) -> Answer {
    let arn = role_arn(role);
    let mut parameters = vec![("RoleArn", arn.as_str()), ("RoleSessionName", "one")];
    parameters.extend_from_slice(more);
    who.iam("AssumeRole", &parameters)
}

fn assumed(who: &Signer, role: &str, more: &[(&str, &str)]) -> Signer {
    let answer = assume(who, role, more);
    assert_eq!(answer.status, 200, "{}", answer.text());
    who.with(&answer)
}

#[test]
fn roles_are_assumed_by_whom_they_trust_and_may_what_they_may() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"x");
    let (root, ann, bob) = (world.root(), world.member("ann"), world.member("bob"));
    world.role("Reader", "arn:aws:iam::u:user/ann", &allow("s3:GetObject", "*"));
    for who in [&bob, &world.signer("v")] {
        let answer = assume(who, "Reader", &[]);
        assert_eq!((answer.status, answer.code()), (403, DENIED.into()));
    }
    assert_eq!(assume(&ann, "reader", &[]).code(), DENIED);
    let session = assumed(&ann, "Reader", &[]);
    assert_eq!(session.may("GET", "/bucket/k"), "200");
    assert_eq!(session.may("PUT", "/bucket/k"), DENIED);
    assert_eq!(session.may("GET", "/"), DENIED);
    let who = session.done("GetCallerIdentity", &[]);
    assert_eq!(who.element("Arn").unwrap(), "arn:aws:sts::u:assumed-role/Reader/one");
    assert_eq!(session.fails("ListUsers", &[]).1, DENIED);
    // The token belongs to its key, and the key to its token.
    let bare = Signer { token: None, ..session.clone() };
    assert_eq!(bare.may("GET", "/bucket/k"), "InvalidAccessKeyId");
    let mixed = Signer { token: session.token.clone(), ..ann.clone() };
    assert_eq!(mixed.may("GET", "/bucket/k"), "InvalidToken");
    let other = assumed(&ann, "Reader", &[]);
    let swapped = Signer { token: other.token.clone(), ..session.clone() };
    assert_eq!(swapped.may("GET", "/bucket/k"), "InvalidToken");
    let wrong = Client { secret: other.client.secret, ..session.client.clone() };
    let wrong = Signer { client: wrong, token: session.token.clone() };
    assert_eq!(wrong.may("GET", "/bucket/k"), "SignatureDoesNotMatch");
    // What the role may changes with it, and it ends with it.
    root.done("DeleteRolePolicy", &[("RoleName", "Reader"), ("PolicyName", "p")]);
    assert_eq!(session.may("GET", "/bucket/k"), DENIED);
    root.done("DeleteRole", &[("RoleName", "Reader")]);
    assert_eq!(session.may("GET", "/bucket/k"), "InvalidToken");
    world.role("Reader", "arn:aws:iam::u:user/ann", &allow("s3:GetObject", "*"));
    assert_eq!(session.may("GET", "/bucket/k"), "InvalidToken", "another role of the same name");
    // An account that is trusted lets whom it wants.
    world.role("Ours", "arn:aws:iam::u:root", &allow("s3:GetObject", "*"));
    assert_eq!(assume(&bob, "Ours", &[]).code(), DENIED);
    world.give("bob", &allow("sts:AssumeRole", &role_arn("Ours")));
    let session = assumed(&bob, "Ours", &[]);
    assert_eq!(session.may("GET", "/bucket/k"), "200");
    // It hangs on the key that it was got with.
    let key = [("UserName", "bob"), ("AccessKeyId", bob.client.access_key.as_str())];
    root.done("DeleteAccessKey", &key);
    assert_eq!(session.may("GET", "/bucket/k"), "InvalidToken");
}

#[test]
fn members_of_other_accounts_need_leave_of_their_own_too() {
    let world = World::new();
    let other = world.signer("v");
    other.done("CreateUser", &[("UserName", "ann")]);
    let ann = other.with(&other.done("CreateAccessKey", &[("UserName", "ann")]));
    world.role("Guest", "arn:aws:iam::v:user/ann", &allow("s3:ListAllMyBuckets", "*"));
    assert_eq!(assume(&ann, "Guest", &[]).code(), DENIED);
    let document = allow("sts:AssumeRole", &role_arn("Guest"));
    let given = [("UserName", "ann"), ("PolicyName", "p"), ("PolicyDocument", &*document)];
    other.done("PutUserPolicy", &given);
    assert_eq!(assumed(&ann, "Guest", &[]).may("GET", "/"), "200");
    // A root user is his account.
    world.role("Root", "arn:aws:iam::v:root", &allow("s3:ListAllMyBuckets", "*"));
    assert_eq!(assumed(&other, "Root", &[]).may("GET", "/"), "200");
}

#[test]
fn a_trust_policy_can_deny_and_ask_for_conditions() {
    let world = World::new();
    let (root, ann) = (world.root(), world.member("ann"));
    world.role("R", "arn:aws:iam::u:user/ann", &allow("s3:*", "*"));
    let set = |document: &str| {
        root.done("UpdateAssumeRolePolicy", &[("RoleName", "R"), ("PolicyDocument", document)]);
    };
    let with = |condition: &str| {
        policy(&format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::u:user/ann"}},"Action":"sts:AssumeRole","Condition":{condition}}}"#
        ))
    };
    set(&with(r#"{"StringEquals":{"sts:ExternalId":"secret"}}"#));
    assert_eq!(assume(&ann, "R", &[]).code(), DENIED);
    assert_eq!(assume(&ann, "R", &[("ExternalId", "guess")]).code(), DENIED);
    assert_eq!(assume(&ann, "R", &[("ExternalId", "secret")]).status, 200);
    set(&with(r#"{"StringEquals":{"aws:username":"bob"}}"#));
    assert_eq!(assume(&ann, "R", &[]).code(), DENIED);
    let allowed = trust("arn:aws:iam::u:user/ann");
    set(&allowed.replace(
        "]}",
        r#",{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::u:root"},"Action":"sts:*"}]}"#,
    ));
    assert_eq!(assume(&ann, "R", &[]).code(), DENIED);
    set(&allowed);
    assert_eq!(assume(&ann, "R", &[]).status, 200);
    world.give("ann", &policy(&rule("Deny", "sts:AssumeRole", "*")));
    assert_eq!(assume(&ann, "R", &[]).code(), DENIED);
}

#[test]
fn a_session_has_no_more_than_its_policy() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"x");
    let ann = world.member("ann");
    world.role("All", "arn:aws:iam::u:user/ann", &allow("s3:*", "*"));
    let get_only = allow("s3:GetObject", "*");
    let session = assumed(&ann, "All", &[("Policy", &get_only)]);
    assert_eq!(session.may("GET", "/bucket/k"), "200");
    assert_eq!(session.may("PUT", "/bucket/k"), DENIED);
    // What the bucket gives to the role is narrowed too; what it gives to the session is not.
    let to = |who: &str| {
        world.bucket_policy(&format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":"{who}"}},"Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/*"}}"#
        ));
    };
    to("arn:aws:iam::u:role/All");
    assert_eq!(session.may("PUT", "/bucket/k"), DENIED);
    assert_eq!(assumed(&ann, "All", &[]).may("PUT", "/bucket/k"), "200");
    to("arn:aws:sts::u:assumed-role/All/other");
    assert_eq!(session.may("PUT", "/bucket/k"), DENIED);
    to("arn:aws:sts::u:assumed-role/All/one");
    assert_eq!(session.may("PUT", "/bucket/k"), "200");
    // Its own policy gives nothing that the role has not.
    world.role("Nothing", "arn:aws:iam::u:user/ann", &allow("s3:ListBucket", "*"));
    let all = allow("*", "*");
    assert_eq!(assumed(&ann, "Nothing", &[("Policy", &all)]).may("GET", "/bucket/k"), DENIED);
    let denying = policy(&[rule("Allow", "*", "*"), rule("Deny", "s3:GetObject", "*")].join(","));
    assert_eq!(assumed(&ann, "All", &[("Policy", &denying)]).may("GET", "/bucket/k"), DENIED);
    for (more, code) in [
        (("Policy", "{"), "MalformedPolicyDocument"),
        (("DurationSeconds", "899"), "ValidationError"),
        (("DurationSeconds", "3601"), "ValidationError"),
        (("RoleSessionName", "a b"), "ValidationError"),
    ] {
        let arn = role_arn("All");
        let parameters = [more, ("RoleArn", arn.as_str()), ("RoleSessionName", "one")];
        assert_eq!(ann.fails("AssumeRole", &parameters), (400, code.into()), "{more:?}");
    }
}

#[test]
fn a_token_of_ones_own_is_for_data() {
    let world = World::new();
    let (root, ann) = (world.root(), world.member("ann"));
    world.give("ann", &allow("s3:ListAllMyBuckets", "*"));
    let session = ann.with(&ann.done("GetSessionToken", &[("DurationSeconds", "900")]));
    assert_eq!(
        (session.may("GET", "/"), session.may("GET", "/bucket")),
        ("200".into(), DENIED.into())
    );
    world.give("ann", &allow("*", "*"));
    assert_eq!(session.may("GET", "/bucket"), "200");
    assert_eq!(session.fails("ListUsers", &[]), (403, DENIED.into()));
    assert_eq!(session.fails("GetSessionToken", &[]), (403, DENIED.into()));
    let own = root.with(&root.done("GetSessionToken", &[]));
    assert_eq!(own.may("GET", "/bucket"), "200");
    assert_eq!(own.fails("CreateUser", &[("UserName", "x")]).1, DENIED);
    let sealed = policy(
        r#"{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Null":{"aws:TokenIssueTime":"false"}}}"#,
    );
    world.give(
        "ann",
        &sealed.replace("}}}]", "}}},{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}]"),
    );
    assert_eq!((session.may("GET", "/"), ann.may("GET", "/")), (DENIED.into(), "200".into()));
    world.give("ann", &policy(&rule("Deny", "sts:GetSessionToken", "*")));
    assert_eq!(ann.fails("GetSessionToken", &[]), (403, DENIED.into()));
    root.done("DeleteAccessKey", &[("UserName", "ann"), ("AccessKeyId", &ann.client.access_key)]);
    assert_eq!(session.may("GET", "/"), "InvalidToken");
}
