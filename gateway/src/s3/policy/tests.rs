//! What policies say, one rule kind after the other; each in a denying statement, because that is where a
//! rule that does not hold does harm.

use super::*;

const BUCKET: &str = "bucket";

struct Ask {
    principal: Principal<'static>,
    action: &'static str,
    resource: &'static str,
    context: Context,
}

impl Default for Ask {
    fn default() -> Self {
        Ask {
            principal: Principal::User("u"),
            action: "s3:GetObject",
            resource: "bucket/home/u/k",
            context: Context::default(),
        }
    }
}

impl Ask {
    fn with(mut self, key: &str, values: &[&str]) -> Self {
        values.iter().for_each(|value| self.context.add(key, *value));
        self
    }

    fn of(self, policy: &str) -> Verdict {
        let policy = Policy::parse(policy.as_bytes(), BUCKET).expect("a policy");
        policy.verdict(&Question {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            context: &self.context,
        })
    }
}

/// A policy of one statement; later elements stand beside the usual ones.
fn statement(effect: &str, who: &str, action: &str, resource: &str, condition: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}",{who},{action},{resource},"Condition":{condition}}}]}}"#
    )
}

const ANYONE: &str = r#""Principal":"*""#;
const ANYTHING: &str = r#""Action":"s3:*""#;
const ANYWHERE: &str = r#""Resource":"arn:aws:s3:::bucket/*""#;

fn denies(condition: &str) -> String {
    statement("Deny", ANYONE, ANYTHING, ANYWHERE, condition)
}

fn error(policy: &str) -> String {
    Policy::parse(policy.as_bytes(), BUCKET).expect_err("no policy").0
}

#[test]
fn principals_in_the_forms_that_users_write() {
    let verdict = |who: &str, principal| {
        let policy = statement("Deny", who, ANYTHING, ANYWHERE, "{}");
        Ask { principal, ..Ask::default() }.of(&policy)
    };
    let (u, v) = (Principal::User("u"), Principal::User("v"));
    for who in [
        r#""Principal":{"AWS":"u"}"#,
        r#""Principal":{"AWS":["x","arn:aws:iam:::user/u"]}"#,
        r#""Principal":{"AWS":"arn:aws:iam::u:user/u"}"#,
        r#""Principal":{"AWS":"arn:aws:iam::u:root"}"#,
        r#""Principal":{"CanonicalUser":"u"}"#,
    ] {
        assert_eq!(verdict(who, u), Verdict::Deny, "{who}");
        assert_eq!(verdict(who, v), Verdict::Silent, "{who}");
        assert_eq!(verdict(who, Principal::Anonymous), Verdict::Silent, "{who}");
        let not = who.replace("Principal", "NotPrincipal");
        assert_eq!(verdict(&not, u), Verdict::Silent, "{not}");
        assert_eq!(verdict(&not, v), Verdict::Deny, "{not}");
        assert_eq!(verdict(&not, Principal::Anonymous), Verdict::Deny, "{not}");
    }
    for who in [r#""Principal":"*""#, r#""Principal":{"AWS":["*"]}"#] {
        assert_eq!(verdict(who, u), Verdict::Deny, "{who}");
        assert_eq!(verdict(who, Principal::Anonymous), Verdict::Deny, "{who}");
    }
    for who in [
        r#""Principal":{"AWS":"arn:aws:iam::123456789012:user/u"}"#,
        r#""Principal":{"AWS":"arn:aws:iam:::role/u"}"#,
        r#""Principal":{"Service":"u"}"#,
        r#""Principal":{"Federated":"u"}"#,
    ] {
        assert_eq!(verdict(who, u), Verdict::Silent, "{who}");
    }
}

#[test]
fn actions_and_resources_with_wildcards_and_their_opposites() {
    let verdict = |action: &str, resource: &str| {
        Ask::default().of(&statement("Deny", ANYONE, action, resource, "{}"))
    };
    for action in ["s3:GetObject", "s3:getobject", "s3:Get*", "s3:G?tObject", "s3:*", "*"] {
        let these = format!(r#""Action":["s3:PutObject","{action}"]"#);
        assert_eq!(verdict(&these, ANYWHERE), Verdict::Deny, "{action}");
        let not = format!(r#""NotAction":"{action}""#);
        assert_eq!(verdict(&not, ANYWHERE), Verdict::Silent, "{action}");
    }
    for action in ["s3:GetObjectAcl", "s3:Put*"] {
        let not = format!(r#""NotAction":["{action}"]"#);
        assert_eq!(verdict(&not, ANYWHERE), Verdict::Deny, "{action}");
    }
    for resource in [
        "arn:aws:s3:::bucket/*",
        "arn:aws:s3:::bucket/home/u/k",
        "arn:aws:s3:::b*/k",
        "arn:aws:s3::*:bucket/home/?/k",
        "arn:aws:s3:::*",
        "*",
    ] {
        let these = format!(r#""Resource":"{resource}""#);
        assert_eq!(verdict(ANYTHING, &these), Verdict::Deny, "{resource}");
        let not = format!(r#""NotResource":"{resource}""#);
        assert_eq!(verdict(ANYTHING, &not), Verdict::Silent, "{resource}");
    }
    for resource in ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/HOME/*", "arn:aws:s3:::bucket/k"] {
        let these = format!(r#""Resource":["{resource}"]"#);
        assert_eq!(verdict(ANYTHING, &these), Verdict::Silent, "{resource}");
        let not = format!(r#""NotResource":["{resource}"]"#);
        assert_eq!(verdict(ANYTHING, &not), Verdict::Deny, "{resource}");
    }
    let own = r#""Resource":"arn:aws:s3:::bucket/home/${aws:username}/*""#;
    let policy = statement("Deny", ANYONE, ANYTHING, own, "{}");
    assert_eq!(Ask::default().with("aws:username", &["u"]).of(&policy), Verdict::Deny);
    assert_eq!(Ask::default().with("aws:username", &["v"]).of(&policy), Verdict::Silent);
    assert_eq!(Ask::default().of(&policy), Verdict::Silent);
}

#[test]
fn an_explicit_deny_outweighs_every_allow() {
    let allow = r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#;
    let deny = r#"{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"*"}"#;
    for statements in [format!("{allow},{deny}"), format!("{deny},{allow}")] {
        let policy = format!(r#"{{"Statement":[{statements}]}}"#);
        assert_eq!(Ask::default().of(&policy), Verdict::Allow);
        assert_eq!(Ask { action: "s3:PutObject", ..Ask::default() }.of(&policy), Verdict::Deny);
    }
    let one = format!(r#"{{"Statement":{allow}}}"#);
    assert_eq!(Ask::default().of(&one), Verdict::Allow);
}

/// Operator, values of the policy, a value that is denied, a value that is not.
const OPERATORS: &[(&str, &str, &str, &str)] = &[
    ("StringEquals", r#"["a","b"]"#, "b", "B"),
    ("StringNotEquals", r#"["a","b"]"#, "c", "a"),
    ("StringEqualsIgnoreCase", r#""aÉ""#, "Aé", "b"),
    ("StringNotEqualsIgnoreCase", r#""a""#, "b", "A"),
    ("StringLike", r#""a*/?""#, "ab/c", "ab/cd"),
    ("StringNotLike", r#""a*""#, "ba", "ab"),
    ("BinaryEquals", r#""YQ==""#, "YQ==", "Yg=="),
    ("NumericEquals", r#"[10,"2.5"]"#, "2.50", "3"),
    ("NumericNotEquals", "10", "9", "10.0"),
    ("NumericLessThan", "10", "9", "10"),
    ("NumericLessThanEquals", "10", "10", "11"),
    ("NumericGreaterThan", "10", "11", "10"),
    ("NumericGreaterThanEquals", r#""10""#, "10", "9"),
    ("DateEquals", r#""2024-01-01T00:00:00Z""#, "1704067200", "1704067201"),
    ("DateNotEquals", r#""2024-01-01T00:00:00Z""#, "1704067201", "1704067200"),
    ("DateLessThan", r#""2024-01-01T00:00:00Z""#, "2023-12-31T23:59:59Z", "1704067200"),
    ("DateLessThanEquals", r#""1704067200""#, "2024-01-01T00:00:00Z", "1704067201"),
    ("DateGreaterThan", r#""2024-01-01""#, "1704067201", "1704067200"),
    ("DateGreaterThanEquals", r#""2024-01-01T00:00:00Z""#, "1704067200", "1704067199"),
    ("Bool", "true", "true", "false"),
    ("Bool", r#""False""#, "false", "true"),
    ("IpAddress", r#"["10.0.0.0/8","::1"]"#, "10.255.0.1", "11.0.0.0"),
    ("IpAddress", r#""2001:db8::/32""#, "2001:db8:1::1", "2001:db9::1"),
    ("IpAddress", r#""10.0.0.1""#, "::ffff:10.0.0.1", "10.0.0.2"),
    ("NotIpAddress", r#""10.0.0.0/8""#, "192.168.0.1", "10.0.0.1"),
    ("ArnEquals", r#""arn:aws:iam:::user/*""#, "arn:aws:iam:::user/a/b:c", "arn:aws:iam::x:user/a"),
    ("ArnLike", r#""arn:*:iam:::user/u""#, "arn:aws:iam:::user/u", "arn:aws:x:iam:::user/u"),
    ("ArnNotEquals", r#""arn:aws:iam:::user/u""#, "arn:aws:iam:::user/v", "arn:aws:iam:::user/u"),
    ("ArnNotLike", r#""arn:aws:iam:::user/u*""#, "arn:aws:iam:::user/v", "arn:aws:iam:::user/u1"),
];

#[test]
fn every_operator_denies_what_it_names_and_nothing_else() {
    for (operator, values, hit, miss) in OPERATORS {
        let policy = denies(&format!(r#"{{"{operator}":{{"aws:Key":{values}}}}}"#));
        let ask = |value: &str| Ask::default().with("AWS:KEY", &[value]).of(&policy);
        assert_eq!(ask(hit), Verdict::Deny, "{operator} {values} {hit}");
        assert_eq!(ask(miss), Verdict::Silent, "{operator} {values} {miss}");
        // Without the key: negated operators hold.
        let absent = if operator.contains("Not") { Verdict::Deny } else { Verdict::Silent };
        assert_eq!(Ask::default().of(&policy), absent, "{operator} without the key");
        let policy = denies(&format!(r#"{{"{operator}IfExists":{{"aws:key":{values}}}}}"#));
        let ask = |value: &str| Ask::default().with("aws:key", &[value]).of(&policy);
        assert_eq!(ask(hit), Verdict::Deny, "{operator}IfExists {hit}");
        assert_eq!(ask(miss), Verdict::Silent, "{operator}IfExists {miss}");
        assert_eq!(Ask::default().of(&policy), Verdict::Deny, "{operator}IfExists, no key");
    }
}

#[test]
fn null_asks_whether_a_key_is_there() {
    let absent = denies(r#"{"Null":{"s3:x-amz-server-side-encryption":"true"}}"#);
    let present = denies(r#"{"Null":{"s3:x-amz-server-side-encryption":false}}"#);
    let with = || Ask::default().with("s3:x-amz-server-side-encryption", &["AES256"]);
    assert_eq!(Ask::default().of(&absent), Verdict::Deny);
    assert_eq!(with().of(&absent), Verdict::Silent);
    assert_eq!(Ask::default().of(&present), Verdict::Silent);
    assert_eq!(with().of(&present), Verdict::Deny);
}

#[test]
fn sets_of_values_have_quantifiers() {
    let verdict = |operator: &str, given: &[&str]| {
        let condition = format!(r#"{{"{operator}":{{"s3:RequestObjectTagKeys":["a","b"]}}}}"#);
        Ask::default().with("s3:RequestObjectTagKeys", given).of(&denies(&condition))
    };
    for (operator, given, expected) in [
        ("ForAllValues:StringEquals", &["a", "b"][..], Verdict::Deny),
        ("ForAllValues:StringEquals", &["a", "c"], Verdict::Silent),
        ("ForAllValues:StringEquals", &[], Verdict::Deny),
        ("ForAllValues:StringNotEquals", &["c", "d"], Verdict::Deny),
        ("ForAllValues:StringNotEquals", &["c", "a"], Verdict::Silent),
        ("ForAnyValue:StringEquals", &["c", "a"], Verdict::Deny),
        ("ForAnyValue:StringEquals", &["c"], Verdict::Silent),
        ("ForAnyValue:StringEquals", &[], Verdict::Silent),
        ("ForAnyValue:StringNotEquals", &["a", "c"], Verdict::Deny),
        ("ForAnyValue:StringNotEquals", &["a", "b"], Verdict::Silent),
        ("ForAnyValue:StringLike", &["a"], Verdict::Deny),
    ] {
        assert_eq!(verdict(operator, given), expected, "{operator} {given:?}");
    }
}

#[test]
fn all_conditions_must_hold_and_variables_are_filled_in() {
    let both = denies(
        r#"{"StringEquals":{"s3:prefix":"a","s3:delimiter":"/"},"Bool":{"aws:SecureTransport":"false"}}"#,
    );
    let ask = || Ask::default().with("s3:prefix", &["a"]).with("s3:delimiter", &["/"]);
    assert_eq!(ask().with("aws:SecureTransport", &["false"]).of(&both), Verdict::Deny);
    assert_eq!(ask().with("aws:SecureTransport", &["true"]).of(&both), Verdict::Silent);
    let own = denies(r#"{"StringNotLike":{"s3:prefix":"home/${aws:username}/*"}}"#);
    let ask = |prefix| {
        let ask = Ask::default().with("aws:username", &["u"]).with("s3:prefix", &[prefix]);
        ask.of(&own)
    };
    assert_eq!(ask("home/v/x"), Verdict::Deny);
    assert_eq!(ask("home/u/x"), Verdict::Silent);
    let old = own.replace("2012-10-17", "2008-10-17");
    let ask = Ask::default().with("aws:username", &["u"]).with("s3:prefix", &["home/u/x"]);
    assert_eq!(ask.of(&old), Verdict::Deny, "the first version knows no variables");
}

#[test]
fn what_is_not_understood_is_refused() {
    let good = statement("Allow", ANYONE, ANYTHING, ANYWHERE, "{}");
    assert!(Policy::parse(good.as_bytes(), BUCKET).is_ok());
    for (from, to) in [
        ("2012-10-17", "2013-10-17"),
        ("Allow", "allow"),
        ("\"Principal\":\"*\"", "\"Principal\":\"u\""),
        ("\"Principal\":\"*\"", "\"NotPrincipal\":{\"AWS\":\"u\"}"),
        ("\"Principal\":\"*\"", "\"Principal\":{}"),
        ("\"Principal\":\"*\"", "\"Principal\":{\"AWS\":[]}"),
        ("\"Principal\":\"*\"", "\"Principal\":{\"AWS\":\"arn:aws:iam:::user/*\"}"),
        ("\"Principal\":\"*\"", "\"Principal\":{\"AWS\":\"arn:aws:s3:::bucket\"}"),
        ("\"Principal\":\"*\"", "\"Principal\":{\"Nobody\":\"u\"}"),
        ("\"Principal\":\"*\"", "\"Sid\":\"x\""),
        ("\"Principal\":\"*\"", "\"Principal\":\"*\",\"NotPrincipal\":{\"AWS\":\"u\"}"),
        ("s3:*", "s3:GetObjects"),
        ("s3:*", "ec2:*"),
        ("\"s3:*\"", "[]"),
        ("\"s3:*\"", "[1]"),
        ("\"Action\":\"s3:*\"", "\"Action\":\"s3:*\",\"NotAction\":\"s3:*\""),
        ("\"Action\":\"s3:*\"", "\"Action\":\"s3:*\",\"Action\":\"s3:GetObject\""),
        ("\"Action\":\"s3:*\"", "\"Sid\":\"x\""),
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::other/*"),
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket2"),
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::c*"),
        ("arn:aws:s3:::bucket/*", "bucket/*"),
        ("arn:aws:s3:::bucket/*", "arn:aws:sqs:::bucket"),
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/${aws:username"),
        ("{}", "[]"),
        ("{}", "{\"StringEqual\":{\"s3:prefix\":\"a\"}}"),
        ("{}", "{\"StringEquals\":{\"s3:prefx\":\"a\"}}"),
        ("{}", "{\"StringEquals\":{\"prefix\":\"a\"}}"),
        ("{}", "{\"StringEquals\":{\"s3:prefix\":{}}}"),
        ("{}", "{\"StringEquals\":\"a\"}"),
        ("{}", "{\"NumericEquals\":{\"s3:max-keys\":\"ten\"}}"),
        ("{}", "{\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/33\"}}"),
        ("{}", "{\"DateEquals\":{\"aws:CurrentTime\":\"soon\"}}"),
        ("{}", "{\"Bool\":{\"aws:SecureTransport\":\"yes\"}}"),
        ("{}", "{\"NullIfExists\":{\"s3:prefix\":\"true\"}}"),
        ("{}", "{\"ForSomeValues:StringEquals\":{\"s3:prefix\":\"a\"}}"),
        ("\"Effect\"", "\"Else\":1,\"Effect\""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(Policy::parse(bad.as_bytes(), BUCKET).is_err(), "{bad}");
    }
    for bad in ["", "[]", "{}", "null", r#"{"Statement":[]}"#, r#"{"Statement":[1]}"#, "{\"a\":"] {
        assert!(Policy::parse(bad.as_bytes(), BUCKET).is_err(), "{bad}");
    }
    assert!(error(&format!("{good}{}", " ".repeat(POLICY_BYTES_MAX))).contains("size"));
    let deep = "[".repeat(100_000);
    assert!(Policy::parse(&deep.as_bytes()[..POLICY_BYTES_MAX], BUCKET).is_err());
}

#[test]
fn public_policies_are_told_from_others() {
    let public = |effect, who: &str, condition: &str| {
        let policy = statement(effect, who, ANYTHING, ANYWHERE, condition);
        Policy::parse(policy.as_bytes(), BUCKET).expect("a policy").is_public()
    };
    assert!(public("Allow", ANYONE, "{}"));
    assert!(!public("Deny", ANYONE, "{}"));
    assert!(!public("Allow", r#""Principal":{"AWS":"u"}"#, "{}"));
    let narrow = r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/32"}}"#;
    assert!(!public("Allow", ANYONE, narrow));
    for condition in [
        r#"{"IpAddress":{"aws:SourceIp":["10.0.0.0/32","0.0.0.0/0"]}}"#,
        r#"{"IpAddress":{"aws:SourceIp":"0.0.0.0/7"}}"#,
        r#"{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/32"}}"#,
        r#"{"StringEquals":{"aws:Referer":"x"}}"#,
        r#"{"StringLike":{"aws:userid":"*"}}"#,
        r#"{"StringEqualsIfExists":{"aws:userid":"u"}}"#,
        r#"{"StringEquals":{"aws:userid":"${aws:userid}"}}"#,
    ] {
        assert!(public("Allow", ANYONE, condition), "{condition}");
    }
    assert!(!public("Allow", ANYONE, r#"{"StringEquals":{"aws:userid":"u"}}"#));
}

#[test]
fn seeded_garbage_never_panics() {
    let good = statement(
        "Allow",
        ANYONE,
        ANYTHING,
        ANYWHERE,
        r#"{"StringLike":{"s3:prefix":["${aws:username}","é*"]}}"#,
    );
    let mut seed = 1u64;
    for _ in 0..5_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] = (seed >> 20) as u8;
        }
        if let Ok(policy) = Policy::parse(&bytes, BUCKET) {
            let context = Context::default();
            policy.verdict(&Question {
                principal: Principal::Anonymous,
                action: "s3:GetObject",
                resource: "bucket/é",
                context: &context,
            });
        }
    }
}

/// How closely a policy that allows something to `who` means a member.
fn reach(who: &str, member: &Member) -> Option<Reach> {
    let text = format!(
        r#"{{"Statement":{{"Effect":"Allow","Principal":{who},"Action":"*","Resource":"*"}}}}"#
    );
    let policy = Policy::parse(text.as_bytes(), BUCKET).expect(who);
    let finding = policy.finding(&Question {
        principal: Principal::Member(member),
        action: "s3:GetObject",
        resource: "bucket/k",
        context: &Context::default(),
    });
    match finding {
        Finding::Allow(reach) => Some(reach),
        _ => None,
    }
}

#[test]
fn members_are_named_by_their_arns_and_meant_with_their_account() {
    let ann = Member { account: "a".into(), resource: "user/x/ann".into(), session: None };
    let role = Member {
        account: "a".into(),
        resource: "role/x/R".into(),
        session: Some("assumed-role/R/s".into()),
    };
    for (who, of_ann, of_role) in [
        (r#""*""#, Some(Reach::Everybody), Some(Reach::Everybody)),
        (r#"{"AWS":"a"}"#, Some(Reach::Account), Some(Reach::Account)),
        (r#"{"AWS":"arn:aws:iam::a:root"}"#, Some(Reach::Account), Some(Reach::Account)),
        (r#"{"AWS":["a","arn:aws:iam::a:user/x/ann"]}"#, Some(Reach::Named), Some(Reach::Account)),
        (r#"{"AWS":"arn:aws:iam::a:user/ann"}"#, None, None),
        (r#"{"AWS":"arn:aws:iam::b:user/x/ann"}"#, None, None),
        (r#"{"AWS":"arn:aws:iam:::user/ann"}"#, None, None),
        (r#"{"AWS":"arn:aws:iam::a:role/x/R"}"#, None, Some(Reach::Named)),
        (r#"{"AWS":"arn:aws:sts::a:assumed-role/R/s"}"#, None, Some(Reach::Session)),
        (r#"{"AWS":"arn:aws:sts::a:assumed-role/R/t"}"#, None, None),
        (r#"{"AWS":"arn:aws:sts::b:assumed-role/R/s"}"#, None, None),
    ] {
        assert_eq!(reach(who, &ann), of_ann, "{who}");
        assert_eq!(reach(who, &role), of_role, "{who}");
    }
    // A deny for all but the account spares its root user, not its members.
    let text = r#"{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"WHO"},"Action":"*","Resource":"*"}}"#;
    for (who, principal, verdict) in [
        ("a", Principal::User("a"), Verdict::Silent),
        ("a", Principal::Member(&ann), Verdict::Deny),
        ("arn:aws:iam::a:user/x/ann", Principal::Member(&ann), Verdict::Silent),
    ] {
        let policy = Policy::parse(text.replace("WHO", who).as_bytes(), BUCKET).expect(who);
        let question = Question {
            principal,
            action: "s3:GetObject",
            resource: "bucket/k",
            context: &Context::default(),
        };
        assert_eq!(policy.verdict(&question), verdict, "{who}");
    }
}

#[test]
fn each_form_of_a_policy_has_its_own_elements() {
    let with = |elements: &str| {
        format!(r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow",{elements}}}}}"#)
    };
    let identity = |elements: &str| Policy::parse_identity(with(elements).as_bytes()).is_ok();
    let trust = |elements: &str| Policy::parse_trust(with(elements).as_bytes()).is_ok();
    for good in [
        r#""Action":"s3:GetObject","Resource":"arn:aws:s3:::any/*""#,
        r#""Action":["iam:*","sns:Publish"],"Resource":["arn:aws:iam::*:user/*","arn:aws:sns:r:a:t"]"#,
        r#""Principal":"*","NotAction":"*","NotResource":"*""#,
        r#""Action":"*","Resource":"*","Condition":{"StringEquals":{"sts:x":"y","aws:PrincipalTag/a":"b"}}"#,
    ] {
        assert!(identity(good) && !trust(good), "{good}");
    }
    for bad in [
        r#""Action":"s3:GetObject""#,
        r#""Resource":"*""#,
        r#""Principal":{"AWS":"u"},"Action":"*","Resource":"*""#,
        r#""NotPrincipal":"*","Action":"*","Resource":"*""#,
        r#""Action":"s3:GetObjct","Resource":"*""#,
        r#""Action":"get","Resource":"*""#,
        r#""Action":":x","Resource":"*""#,
        r#""Action":"*","Resource":"bucket/*""#,
        r#""Action":"*","Resource":"arn:aws:s3""#,
        r#""Action":"*","Resource":"arn:other:iam::a:b""#,
        r#""Action":"*","Resource":"arn:aws:*:::b""#,
        r#""Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:none":"y"}}"#,
        r#""Action":"*","Resource":"*","Condition":{"StringEquals":{"none":"y"}}"#,
    ] {
        assert!(!identity(bad), "{bad}");
    }
    let who = r#""Principal":{"AWS":"u"},"Action":"sts:AssumeRole""#;
    assert!(trust(who) && !identity(who));
    for bad in [
        r#""Action":"sts:AssumeRole""#,
        r#""Principal":{"AWS":"u"},"Action":"s3:*""#,
        r#""Principal":{"AWS":"u"},"Action":"*""#,
        r#""Principal":{"AWS":"u"},"Action":"sts:AssumeRole","Resource":"*""#,
    ] {
        assert!(!trust(bad), "{bad}");
    }
}

#[test]
fn what_is_too_long_to_compare_is_denied() {
    let when = |effect: &str, condition: &str| {
        let (action, resource) = (r#""Action":"*""#, r#""Resource":"*""#);
        statement(effect, ANYONE, action, resource, condition)
    };
    let long = "a".repeat(COMPARED_BYTES_MAX + 1);
    let fits = &long[1..];
    for condition in [
        r#"{"StringLike":{"aws:Referer":"a*"}}"#,
        r#"{"StringNotLike":{"aws:Referer":"b*"}}"#,
        r#"{"ForAnyValue:StringEqualsIfExists":{"aws:Referer":"${aws:Referer}"}}"#,
    ] {
        let of = |effect: &str, value: &str| {
            let condition = condition.replace("${aws:Referer}", value);
            Ask::default().with("aws:Referer", &[value]).of(&when(effect, &condition))
        };
        assert_eq!(of("Allow", fits), Verdict::Allow, "{condition}");
        assert_eq!(of("Allow", &long), Verdict::Silent, "{condition}");
        assert_eq!(of("Deny", &long), Verdict::Deny, "{condition}");
    }
    // It is what all values have together.
    let half = &long[..COMPARED_BYTES_MAX / 2 + 1];
    let allow = when("Allow", r#"{"StringLike":{"aws:Referer":"a*"}}"#);
    assert_eq!(Ask::default().with("aws:Referer", &[half, half]).of(&allow), Verdict::Silent);
    // Others are compared as ever.
    let null = when("Deny", r#"{"Null":{"aws:Referer":"true"}}"#);
    assert_eq!(Ask::default().with("aws:Referer", &[&long]).of(&null), Verdict::Silent);
}

#[test]
fn variables_are_bounded() {
    let with = |count: usize| {
        let path = "${aws:username}".repeat(count);
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/{path}","Condition":{{"StringEquals":{{"s3:prefix":"${{aws:username}}"}}}}}}}}"#
        );
        Policy::parse_identity(text.as_bytes()).is_ok()
    };
    assert!(with(VARIABLES_MAX - 1) && !with(VARIABLES_MAX));
    let home = statement(
        "Allow",
        ANYONE,
        r#""Action":"*""#,
        r#""Resource":"arn:aws:s3:::bucket/${aws:Referer}*""#,
        "{}",
    );
    let of = |value: &str| {
        let resource: &'static str = format!("bucket/{value}").leak();
        Ask { resource, ..Ask::default() }.with("aws:Referer", &[value]).of(&home)
    };
    assert_eq!(of(&"a".repeat(VARIABLE_BYTES_MAX)), Verdict::Allow);
    assert_eq!(of(&"a".repeat(VARIABLE_BYTES_MAX + 1)), Verdict::Silent);
}

#[test]
fn keys_that_nobody_fills_are_refused_in_new_policies() {
    let checked = |key: &str| {
        let text = format!(
            r#"{{"Statement":{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"{key}":"x"}}}}}}}}"#
        );
        let policy = Policy::parse_identity(text.as_bytes()).expect(key);
        policy.check_keys().map(|_| ())
    };
    for known in [
        "s3:TlsVersion",
        "s3:BucketTag/team",
        "S3:Prefix",
        "aws:SourceIp",
        "aws:PrincipalTag/team",
        "aws:sourcevpce",
        "sts:ExternalId",
    ] {
        assert_eq!(checked(known), Ok(()), "{known}");
    }
    for unknown in ["s3:LocationConstraint", "aws:SourceIP4", "aws:PrincipalTag/", "AWS:UserName2"]
    {
        let sentence = checked(unknown).unwrap_err().0;
        assert!(sentence.contains(&unknown.to_ascii_lowercase()), "{sentence}");
    }
}
