//! What a decision is about: the operation as it is done, with what the request's body says.

use crate::World;
use crate::client::{Answer, Client, encoded};

impl World {
    /// The other user, and what the bucket's policy says of him.
    fn other_with(&self, statements: &[String]) -> Client {
        let policy =
            format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
        let put = self.client.ask("PUT", "/bucket?policy=", policy.as_bytes());
        assert_eq!(put.status, 204, "{}", put.text());
        Client { access_key: "v".into(), secret: "vsecret".into(), ..self.client.clone() }
    }
}

fn rule(effect: &str, action: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{{"AWS":"v"}},"Action":"{action}","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"],"Condition":{condition}}}"#
    )
}

fn outcome(answer: &Answer) -> String {
    match answer.status {
        status @ 200..=299 => status.to_string(),
        _ => answer.code(),
    }
}

#[test]
fn an_empty_version_in_a_list_names_none() {
    let world = World::new();
    assert_eq!(world.client.ask("PUT", "/bucket/k", b"x").status, 200);
    let other = world.other_with(&[rule("Allow", "s3:DeleteObjectVersion", "{}")]);
    let list = b"<Delete><Object><Key>k</Key><VersionId/></Object></Delete>";
    let answer = other.ask("POST", "/bucket?delete=", list);
    assert_eq!((answer.code().as_str(), answer.elements("Deleted").len()), ("AccessDenied", 0));
    assert_eq!(world.get("/bucket/k").text(), "x");
    let other = world.other_with(&[rule("Allow", "s3:DeleteObject", "{}")]);
    let answer = other.ask("POST", "/bucket?delete=", list);
    assert_eq!(answer.elements("Deleted"), ["<Key>k</Key>"], "{}", answer.text());
    assert_eq!(world.get("/bucket/k").code(), "NoSuchKey");
}

#[test]
fn policies_see_tags_that_a_body_sets() {
    let world = World::new();
    let color =
        |value: &str| format!(r#"{{"StringEquals":{{"s3:RequestObjectTag/color":"{value}"}}}}"#);
    let tagging = |value: &str| {
        format!(
            "<Tagging><TagSet><Tag><Key>color</Key><Value>{value}</Value></Tag></TagSet></Tagging>"
        )
    };
    assert_eq!(world.client.ask("PUT", "/bucket/k", b"x").status, 200);
    let put = |other: &Client, headers: &[(&str, &str)], value: &str| {
        let body = tagging(value);
        outcome(&other.ask_with("PUT", "/bucket/k?tagging=", headers, body.as_bytes()))
    };
    let other = world.other_with(&[rule("Allow", "s3:PutObjectTagging", &color("red"))]);
    assert_eq!(put(&other, &[], "red"), "200");
    assert_eq!(put(&other, &[], "blue"), "AccessDenied");
    // What a header says is not what is done.
    assert_eq!(put(&other, &[("x-amz-tagging", "color=red")], "blue"), "AccessDenied");
    let keys = r#"{"ForAnyValue:StringEquals":{"s3:RequestObjectTagKeys":"color"}}"#;
    let other = world.other_with(&[
        rule("Allow", "s3:PutObjectTagging", "{}"),
        rule("Deny", "s3:PutObjectTagging", keys),
    ]);
    assert_eq!(put(&other, &[], "red"), "AccessDenied");
    assert!(world.get("/bucket/k?tagging=").text().contains("<Value>red</Value>"));
    // Whom no policy could let in is denied whatever he sends.
    let nothing = other.ask("DELETE", "/bucket?policy=", b"");
    assert_eq!(nothing.code(), "AccessDenied");
    assert_eq!(world.client.ask("DELETE", "/bucket?policy=", b"").status, 204);
    assert_eq!(other.ask("PUT", "/bucket/k?tagging=", b"nonsense").code(), "AccessDenied");
    assert_eq!(world.client.ask("PUT", "/bucket/k?tagging=", b"nonsense").code(), "MalformedXML");
}

#[test]
fn policies_see_locks_that_a_body_sets() {
    let world = World::new();
    let locks = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(world.client.ask("DELETE", "/bucket", b"").status, 204);
    assert_eq!(world.client.ask_with("PUT", "/bucket", &locks, b"").status, 200);
    assert_eq!(world.client.ask("PUT", "/bucket/k", b"x").status, 200);
    let in_days = |days: u64| {
        let now_ms = store_shell::clock::timestamp().millis();
        store_gateway::s3::dates::iso(now_ms + days * 24 * 3_600_000)
    };
    let retain = |mode: &str, days: u64| {
        let until = in_days(days);
        format!(
            "<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        )
    };
    let hold = |on: &str| format!("<LegalHold><Status>{on}</Status></LegalHold>");
    let other = world.other_with(&[
        rule("Allow", "s3:PutObject*", "{}"),
        rule("Deny", "s3:*", r#"{"StringEquals":{"s3:object-lock-mode":"COMPLIANCE"}}"#),
        rule(
            "Deny",
            "s3:*",
            r#"{"NumericGreaterThan":{"s3:object-lock-remaining-retention-days":"7"}}"#,
        ),
        rule("Deny", "s3:*", r#"{"StringEquals":{"s3:object-lock-legal-hold":"OFF"}}"#),
    ]);
    for (what, body, expected) in [
        ("retention", retain("COMPLIANCE", 1), "AccessDenied"),
        ("retention", retain("GOVERNANCE", 30), "AccessDenied"),
        ("retention", retain("GOVERNANCE", 1), "200"),
        ("legal-hold", hold("ON"), "200"),
        ("legal-hold", hold("OFF"), "AccessDenied"),
    ] {
        let answer = other.ask("PUT", &format!("/bucket/k?{what}="), body.as_bytes());
        assert_eq!(outcome(&answer), expected, "{body}");
    }
}

#[test]
fn a_copy_takes_tags_along_with_leave_only() {
    let world = World::new();
    let tagged = [("x-amz-tagging", "kind=secret")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/k", &tagged, b"x").status, 200);
    assert_eq!(world.client.ask("PUT", "/bucket/plain", b"x").status, 200);
    let copy = |other: &Client, source: &str, headers: &[(&str, &str)]| {
        let source = format!("/bucket/{source}");
        let headers = [&[("x-amz-copy-source", source.as_str())], headers].concat();
        outcome(&other.ask_with("PUT", "/others/copy", &headers, b""))
    };
    let other = world.other_with(&[rule("Allow", "s3:GetObject", "{}")]);
    assert_eq!(other.ask("PUT", "/others", b"").status, 200);
    assert_eq!(copy(&other, "k", &[]), "AccessDenied");
    assert_eq!(copy(&other, "plain", &[]), "200");
    let others = [("x-amz-tagging-directive", "REPLACE"), ("x-amz-tagging", "kind=open")];
    assert_eq!(copy(&other, "k", &others), "200");
    let other = world.other_with(&[rule("Allow", "s3:GetObject*", "{}")]);
    assert_eq!(copy(&other, "k", &[]), "200");
    assert!(other.ask("GET", "/others/copy?tagging=", b"").text().contains("secret"));
    // And the tags are set on the copy: who must not set them makes none that has them.
    let denied = |condition: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Deny","Action":"s3:PutObjectTagging","Resource":"*","Condition":{condition}}}}}"#
        )
    };
    let of =
        |value: &str| format!(r#"{{"StringEquals":{{"s3:RequestObjectTag/kind":"{value}"}}}}"#);
    let admin = Client { access_key: "a".into(), secret: "asecret".into(), ..other };
    for (value, expected) in [("secret", "AccessDenied"), ("other", "200")] {
        let form = format!(
            "Action=PutUserPolicy&UserName=v&PolicyName=p&PolicyDocument={}",
            encoded(&denied(&of(value)))
        );
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(admin.ask_with("POST", "/", &kind, form.as_bytes()).status, 200);
        assert_eq!(copy(&other, "k", &[]), expected, "{value}");
        assert_eq!(copy(&other, "k", &tagged), expected, "{value}");
    }
}

#[test]
fn policies_see_the_tags_of_the_bucket() {
    let world = World::new();
    let tag = |value: &str| {
        let body = format!(
            "<Tagging><TagSet><Tag><Key>stage</Key><Value>{value}</Value></Tag></TagSet></Tagging>"
        );
        assert_eq!(world.client.ask("PUT", "/bucket?tagging=", body.as_bytes()).status, 204);
    };
    let open = r#"{"StringEquals":{"s3:BucketTag/stage":"open"}}"#;
    let other = world.other_with(&[rule("Allow", "s3:ListBucket", open)]);
    assert_eq!(other.ask("GET", "/bucket", b"").code(), "AccessDenied");
    tag("open");
    assert_eq!(other.ask("GET", "/bucket", b"").status, 200);
    tag("closed");
    assert_eq!(other.ask("GET", "/bucket", b"").code(), "AccessDenied");
    let unknown = r#"{"StringEquals":{"aws:SourceIP4":"10.0.0.1"}}"#;
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
        rule("Deny", "s3:ListBucket", unknown)
    );
    let put = world.client.ask("PUT", "/bucket?policy=", policy.as_bytes());
    assert_eq!(put.code(), "MalformedPolicy");
    let policy = encoded(&policy.replace(r#""Principal":{"AWS":"v"},"#, ""));
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let form = format!("Action=CreatePolicy&PolicyName=p&PolicyDocument={policy}");
    let made = world.client.ask_with("POST", "/", &[kind], form.as_bytes());
    assert_eq!(made.code(), "MalformedPolicyDocument");
}
