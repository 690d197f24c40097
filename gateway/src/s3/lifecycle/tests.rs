//! What configurations are taken, and what their rules say of versions.

use super::*;
use crate::s3::error::Code;

fn parse(rules: &str) -> Result<Lifecycle, Code> {
    let document = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
    Lifecycle::parse(document.as_bytes()).map_err(|error| error.code)
}

/// One rule about everything.
fn rule(actions: &str) -> Result<Lifecycle, Code> {
    parse(&format!("<Rule><ID>r</ID><Status>Enabled</Status><Filter/>{actions}</Rule>"))
}

fn rules(actions: &str) -> Lifecycle {
    rule(actions).expect(actions)
}

const DAYS: &str = "<Expiration><Days>1</Days></Expiration>";

#[test]
fn what_is_wrong_is_refused_as_aws_does() {
    let with = |before: &str, after: &str| {
        parse(&format!("<Rule>{before}<Status>Enabled</Status>{after}{DAYS}</Rule>"))
    };
    let filter = |inner: &str| with("", &format!("<Filter>{inner}</Filter>"));
    let id = |length: usize| format!("<ID>{}</ID>", "a".repeat(length));
    assert!(with(&id(255), "<Prefix/>").is_ok());
    assert_eq!(with(&id(256), "<Prefix/>"), Err(Code::InvalidArgument));
    assert_eq!(with("", ""), Err(Code::MalformedXML), "neither filter nor prefix");
    assert_eq!(with("", "<Filter/><Prefix/>"), Err(Code::MalformedXML));
    assert_eq!(filter("<ObjectSizeLessThan>x</ObjectSizeLessThan>"), Err(Code::MalformedXML));
    let sizes = "<And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>5</ObjectSizeLessThan></And>";
    assert_eq!(filter(sizes), Err(Code::InvalidRequest));
    let tag = "<Tag><Key>k</Key><Value>v</Value></Tag>";
    assert_eq!(filter(&format!("<And>{tag}{tag}</And>")), Err(Code::InvalidRequest));
    assert_eq!(filter("<Prefix>a</Prefix><And><Prefix>b</Prefix></And>"), Err(Code::MalformedXML));
    let prefix = |length: usize| filter(&format!("<Prefix>{}</Prefix>", "p".repeat(length)));
    assert!(prefix(1024).is_ok());
    assert_eq!(prefix(1025), Err(Code::InvalidRequest));

    for (actions, code) in [
        ("", Code::InvalidRequest),
        ("<Expiration/>", Code::MalformedXML),
        ("<Expiration><Days>0</Days></Expiration>", Code::InvalidArgument),
        ("<Expiration><Days>-1</Days></Expiration>", Code::InvalidArgument),
        ("<Expiration><Days>x</Days></Expiration>", Code::MalformedXML),
        ("<Expiration><Date>20200101</Date></Expiration>", Code::MalformedXML),
        ("<Expiration><Date>2020-01-01T10:00:00Z</Date></Expiration>", Code::InvalidArgument),
        (
            "<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            Code::MalformedXML,
        ),
        ("<NoncurrentVersionExpiration/>", Code::MalformedXML),
        (
            "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
            Code::InvalidArgument,
        ),
        (
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
            Code::InvalidArgument,
        ),
        (
            "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>",
            Code::NotImplemented,
        ),
        (
            "<Transition><Date>1970-08-22T19:15:01Z</Date><StorageClass>GLACIER</StorageClass></Transition>",
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(rule(actions), Err(code), "{actions}");
    }
    assert_eq!(parse(""), Err(Code::MalformedXML));
    let status =
        |status: &str| parse(&format!("<Rule><Prefix/><Status>{status}</Status>{DAYS}</Rule>"));
    assert!(status("Disabled").is_ok());
    assert_eq!(status("enabled"), Err(Code::MalformedXML));
    let named = format!("<Rule><ID>r</ID><Prefix/><Status>Enabled</Status>{DAYS}</Rule>");
    assert_eq!(parse(&format!("{named}{named}")), Err(Code::InvalidArgument));
    let unnamed = named.replace("<ID>r</ID>", "");
    let both = parse(&format!("{unnamed}{unnamed}")).expect("names are made");
    assert_ne!(both.rules[0].id, both.rules[1].id);
    let tagged = format!(
        "<Rule><Status>Enabled</Status><Filter>{tag}</Filter><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>"
    );
    assert_eq!(parse(&tagged), Err(Code::InvalidRequest));
    assert_eq!(parse(&format!("{}{unnamed}", unnamed.repeat(1000))), Err(Code::MalformedXML));
}

#[test]
fn configurations_come_back_as_they_were_meant() {
    let all = "<Rule><ID>a</ID><Prefix>p/</Prefix><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>\
        <Rule><ID>b</ID><Filter><And><Prefix>q</Prefix><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>l</Key><Value/></Tag><ObjectSizeGreaterThan>7</ObjectSizeGreaterThan></And></Filter><Status>Disabled</Status><Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration></Rule>\
        <Rule><ID>c</ID><Filter></Filter><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration><NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays><NewerNoncurrentVersions>5</NewerNoncurrentVersions></NoncurrentVersionExpiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>4</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>";
    let parsed = parse(all).expect("all is well");
    let written = String::from_utf8(parsed.to_xml().into_bytes()).expect("text");
    assert_eq!(Lifecycle::parse(written.as_bytes()).expect("our own"), parsed);
    for piece in ["<Prefix>p/</Prefix><Status>", "<And><Prefix>q</Prefix>", "<Days>3</Days>"] {
        assert!(written.contains(piece), "{written}");
    }
    assert!(parsed.may_abort() && parsed.may_expire());
}

const NOW: u64 = 20 * DAY_MS + 1000;
const REAL: Calendar = Calendar { day_ms: DAY_MS };

fn entry(age_ms: u64) -> Entry {
    Entry { modified_ms: NOW - age_ms, size: 10, ..Entry::default() }
}

fn judged(rules: &Lifecycle, key: &str, entry: &Entry, place: Place) -> Judgement {
    rules.judge(&Version { key: key.as_bytes(), entry, place }, None, REAL, NOW)
}

const NEWEST: Place = Place::Newest { alone: true };
const GOES: Judgement = Judgement::Goes(Retirement::Object {});

#[test]
fn days_end_at_midnight_and_short_ones_at_once() {
    let one = rules(DAYS);
    // One second into the day: what was made on the day before yesterday, and no later, is due.
    for (age_ms, expected) in [
        (0, Judgement::Stays),
        (DAY_MS, Judgement::Stays),
        (DAY_MS + 1000, Judgement::Stays),
        (DAY_MS + 1001, GOES),
        (2 * DAY_MS, GOES),
    ] {
        assert_eq!(judged(&one, "k", &entry(age_ms), NEWEST), expected, "{age_ms}");
    }
    let short = |age_ms| {
        let version = Version { key: b"k", entry: &entry(age_ms), place: NEWEST };
        one.judge(&version, None, Calendar { day_ms: 500 }, NOW)
    };
    assert_eq!((short(499), short(500)), (Judgement::Stays, GOES));
    let date = |day: u64| {
        let date = dates::iso(day * DAY_MS);
        judged(
            &rules(&format!("<Expiration><Date>{date}</Date></Expiration>")),
            "k",
            &entry(0),
            NEWEST,
        )
    };
    assert_eq!((date(20), date(21)), (GOES, Judgement::Stays));
}

#[test]
fn filters_hold_together() {
    let tag = |name: &str| format!("<Tag><Key>{name}</Key><Value>v</Value></Tag>");
    let filtered = |filter: &str| {
        parse(&format!("<Rule><Status>Enabled</Status><Filter>{filter}</Filter>{DAYS}</Rule>"))
            .expect(filter)
    };
    let old = entry(5 * DAY_MS);
    let prefix = filtered("<Prefix>a/</Prefix>");
    assert_eq!(judged(&prefix, "a/b", &old, NEWEST), GOES);
    assert_eq!(judged(&prefix, "b", &old, NEWEST), Judgement::Stays);
    for (name, goes) in
        [("ObjectSizeGreaterThan", [true, false]), ("ObjectSizeLessThan", [false, true])]
    {
        for (size, goes) in [9, 11].into_iter().zip(goes) {
            let rules = filtered(&format!("<{name}>{size}</{name}>"));
            assert_eq!(judged(&rules, "k", &old, NEWEST) == GOES, goes, "{name} {size}");
        }
        let same = filtered(&format!("<{name}>10</{name}>"));
        assert_eq!(judged(&same, "k", &old, NEWEST), Judgement::Stays);
    }
    let tagged = filtered(&format!("{}<And>{}</And>", tag("a"), tag("b")));
    assert_eq!(judged(&tagged, "k", &old, NEWEST), Judgement::Tags);
    assert_eq!(
        judged(&tagged, "k", &entry(0), NEWEST),
        Judgement::Stays,
        "not due: no tags are read"
    );
    let with = |names: &[&str]| {
        let tags: Tags = names.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect();
        let version = Version { key: b"k", entry: &old, place: NEWEST };
        tagged.judge(&version, Some(&tags), REAL, NOW)
    };
    assert_eq!(with(&["a"]), Judgement::Stays);
    assert_eq!(with(&["a", "b", "c"]), GOES);
}

#[test]
fn older_versions_and_markers_have_rules_of_their_own() {
    let older = |since_ms, newer| Place::Older { since_ms, newer };
    let keeping = rules(
        "<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays><NewerNoncurrentVersions>3</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
    );
    let goes = Judgement::Goes(Retirement::Older {});
    let ancient = entry(19 * DAY_MS);
    let long_ago = NOW - 5 * DAY_MS;
    assert_eq!(judged(&keeping, "k", &ancient, older(long_ago, 3)), goes);
    assert_eq!(judged(&keeping, "k", &ancient, older(long_ago, 2)), Judgement::Stays);
    assert_eq!(judged(&keeping, "k", &ancient, older(NOW, 3)), Judgement::Stays);
    assert_eq!(judged(&keeping, "k", &ancient, NEWEST), Judgement::Stays);
    assert_eq!(judged(&rules(DAYS), "k", &ancient, older(long_ago, 9)), Judgement::Stays);

    let marker = |age_ms| Entry { delete_marker: true, ..entry(age_ms) };
    let hides = Place::Newest { alone: false };
    let removes = Judgement::Goes(Retirement::Marker {});
    let markers = rules(
        "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
    );
    assert_eq!(judged(&markers, "k", &marker(0), NEWEST), removes);
    assert_eq!(judged(&markers, "k", &marker(0), hides), Judgement::Stays);
    assert_eq!(judged(&markers, "k", &ancient, NEWEST), Judgement::Stays);
    assert_eq!(judged(&rules(DAYS), "k", &marker(0), NEWEST), Judgement::Stays);
    assert_eq!(judged(&rules(DAYS), "k", &marker(5 * DAY_MS), NEWEST), removes);
}

#[test]
fn only_what_rules_speak_of_is_walked_over() {
    let of = |prefixes: &[(&str, &str)]| {
        let rule = |(prefix, status): &(&str, &str)| {
            format!("<Rule><Prefix>{prefix}</Prefix><Status>{status}</Status>{DAYS}</Rule>")
        };
        let rules: String = prefixes.iter().map(rule).collect();
        parse(&rules).expect("rules").common_prefix().to_owned()
    };
    assert_eq!(of(&[("logs/a", "Enabled")]), "logs/a");
    assert_eq!(of(&[("logs/a", "Enabled"), ("logs/bc", "Enabled"), ("x", "Disabled")]), "logs/");
    assert_eq!(of(&[("log", "Enabled"), ("logs/é", "Enabled")]), "log");
    assert_eq!(of(&[("logs/é", "Enabled"), ("logs/è", "Enabled")]), "logs/");
    assert_eq!(of(&[("a", "Enabled"), ("", "Enabled")]), "");
    assert_eq!(of(&[("a", "Disabled")]), "");
}

#[test]
fn the_first_rule_that_removes_an_object_is_announced() {
    let all = parse(
        "<Rule><ID>late</ID><Prefix/><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule>\
         <Rule><ID>off</ID><Prefix/><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>\
         <Rule><ID>so on</ID><Prefix>a</Prefix><Status>Enabled</Status><Expiration><Days>2</Days></Expiration></Rule>",
    )
    .expect("three rules");
    let made = Entry { modified_ms: 1_369_353_600_000, ..Entry::default() };
    let said = |key: &[u8]| all.announcement(key, &made, &Tags::new(), REAL);
    let expected = r#"expiry-date="Mon, 27 May 2013 00:00:00 GMT", rule-id="so%20on""#;
    assert_eq!(said(b"a").as_deref(), Some(expected));
    assert!(said(b"b").is_some_and(|said| said.contains("late")));
}
