use super::*;
use crate::class::memory::MemoryObject;

const USER: Kind = Kind::User {};
const GROUP: Kind = Kind::Group {};

fn exec<O: Decode>(object: &mut MemoryObject, method: &str, input: &impl Encode) -> O {
    let method = crate::class::method(CLASS, method).expect("a method");
    let output = (method.code)(object, input.to_bytes()).expect("it runs");
    assert!(output.len() < crate::op::PAYLOAD_BYTES_MAX, "{} bytes", output.len());
    O::from_bytes(output).expect("an output")
}

fn change(object: &mut MemoryObject, change: Change) -> Result<(), Refusal> {
    let input = ChangeAccount { account: "a".into(), change };
    exec::<Outcome>(object, "change", &input).0
}

fn entity(name: &str) -> Entity {
    Entity { name: name.into(), path: "/".into(), id: format!("id-{name}"), ..Entity::default() }
}

fn create(object: &mut MemoryObject, kind: Kind, name: &str) -> Result<(), Refusal> {
    change(object, Change::Create { kind, entity: entity(name) })
}

fn add_key(object: &mut MemoryObject, user: &str, access_key: &str) -> Result<(), Refusal> {
    let key = Key { active: true, ..Key::default() };
    change(object, Change::AddKey { user: user.into(), access_key: access_key.into(), key })
}

fn delete(object: &mut MemoryObject, kind: Kind, name: &str) -> Result<(), Refusal> {
    change(object, Change::Delete { kind, name: name.into() })
}

fn holder(object: &mut MemoryObject, access_key: &str) -> Option<Holder> {
    exec(object, "key", &AskKey { access_key: access_key.into() })
}

fn rename(object: &mut MemoryObject, kind: Kind, name: &str, to: &str) -> Result<(), Refusal> {
    let update = Change::Update {
        kind,
        name: name.into(),
        new_name: Some(to.into()),
        new_path: None,
        trust: None,
        description: None,
        session_secs_max: None,
    };
    change(object, update)
}

fn names(object: &mut MemoryObject, kind: Kind, group: &str, max: u32) -> Vec<String> {
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let list = ListEntities {
            account: "a".into(),
            kind,
            path_prefix: String::new(),
            group: group.into(),
            after,
            max,
        };
        let page: EntityPage = exec(object, "list", &list);
        assert!(page.entities.len() <= max as usize);
        names.extend(page.entities.into_iter().map(|entity| entity.name));
        match page.next {
            Some(next) => after = next,
            None => return names,
        }
    }
}

#[test]
fn names_are_taken_in_every_case_and_only_in_their_account() {
    let mut object = MemoryObject::default();
    create(&mut object, USER, "Ann").unwrap();
    assert!(matches!(create(&mut object, USER, "ann"), Err(Refusal::Present { .. })));
    create(&mut object, GROUP, "ann").unwrap();
    let other = ChangeAccount {
        account: "b".into(),
        change: Change::Create { kind: USER, entity: entity("ann") },
    };
    assert_eq!(exec::<Outcome>(&mut object, "change", &other), Outcome(Ok(())));
    for name in ["zed", "Bob", "carl"] {
        create(&mut object, USER, name).unwrap();
    }
    for max in [1, 2, 100] {
        assert_eq!(names(&mut object, USER, "", max), ["Ann", "Bob", "carl", "zed"]);
    }
    assert_eq!(names(&mut object, GROUP, "", 1), ["ann"]);
}

#[test]
fn keys_follow_their_user_and_end() {
    let mut object = MemoryObject::default();
    assert!(matches!(add_key(&mut object, "ann", "K1"), Err(Refusal::Absent { .. })));
    create(&mut object, USER, "Ann").unwrap();
    add_key(&mut object, "ann", "K1").unwrap();
    assert!(matches!(add_key(&mut object, "ann", "K1"), Err(Refusal::Present { .. })));
    add_key(&mut object, "ann", "K2").unwrap();
    assert!(matches!(add_key(&mut object, "ann", "K3"), Err(Refusal::Limit { .. })));
    rename(&mut object, USER, "ann", "Eve").unwrap();
    let found = holder(&mut object, "K1").expect("still there");
    assert_eq!((found.account.as_str(), found.bundle.entity.name.as_str()), ("a", "Eve"));
    let off = Change::SwitchKey { user: "eve".into(), access_key: "K1".into(), active: false };
    change(&mut object, off).unwrap();
    assert!(!holder(&mut object, "K1").unwrap().bundle.entity.keys["K1"].active);
    assert!(matches!(delete(&mut object, USER, "eve"), Err(Refusal::InUse { .. })));
    for access_key in ["K1", "K2"] {
        let gone = Change::DeleteKey { user: "eve".into(), access_key: access_key.into() };
        change(&mut object, gone.clone()).unwrap();
        assert!(matches!(change(&mut object, gone), Err(Refusal::Absent { .. })));
        assert_eq!(holder(&mut object, access_key), None);
    }
    delete(&mut object, USER, "eve").unwrap();
    assert!(object.omap.is_empty(), "{:?}", object.omap);
}

#[test]
fn what_holds_for_a_user_comes_from_everywhere_once() {
    let mut object = MemoryObject::default();
    create(&mut object, USER, "ann").unwrap();
    create(&mut object, GROUP, "Staff").unwrap();
    let inline = |kind, name: &str, document: &str| Change::PutInline {
        kind,
        name: name.into(),
        policy: "p".into(),
        document: document.into(),
    };
    change(&mut object, inline(USER, "ann", "own")).unwrap();
    change(&mut object, inline(GROUP, "staff", "of the group")).unwrap();
    let policy =
        ManagedPolicy { name: "M".into(), document: "managed".into(), ..ManagedPolicy::default() };
    change(&mut object, Change::CreatePolicy { policy }).unwrap();
    let attach = |kind, name: &str| Change::Attach {
        kind,
        name: name.into(),
        arn: "arn:aws:iam::a:policy/M".into(),
        policy: Some("m".into()),
    };
    change(&mut object, attach(USER, "ann")).unwrap();
    change(&mut object, attach(GROUP, "staff")).unwrap();
    change(&mut object, attach(GROUP, "staff")).unwrap();
    let foreign = Change::Attach {
        kind: USER,
        name: "ann".into(),
        arn: "arn:aws:iam::aws:policy/X".into(),
        policy: None,
    };
    change(&mut object, foreign).unwrap();
    change(&mut object, Change::Join { group: "STAFF".into(), user: "Ann".into() }).unwrap();
    rename(&mut object, GROUP, "staff", "Crew").unwrap();
    assert_eq!(names(&mut object, USER, "crew", 1), ["ann"]);
    let named = Named { account: "a".into(), kind: USER, name: "ANN".into() };
    let bundle: Bundle = exec::<Option<Bundle>>(&mut object, "bundle", &named).unwrap();
    assert_eq!(bundle.documents, ["own", "of the group", "managed"]);
    assert_eq!(bundle.foreign, ["arn:aws:iam::aws:policy/X"]);
    let ask = AskPolicy { account: "a".into(), name: "m".into() };
    let policy = exec::<Option<ManagedPolicy>>(&mut object, "policy", &ask).unwrap();
    assert_eq!(policy.attachments, 2);
    for (kind, name) in [(USER, "ann"), (GROUP, "crew")] {
        assert!(matches!(delete(&mut object, kind, name), Err(Refusal::InUse { .. })));
    }
    let gone = Change::DeletePolicy { name: "m".into() };
    assert!(matches!(change(&mut object, gone.clone()), Err(Refusal::InUse { .. })));
    for (kind, name) in [(USER, "ann"), (GROUP, "crew")] {
        let off = Change::Detach {
            kind,
            name: name.into(),
            arn: "arn:aws:iam::a:policy/M".into(),
            policy: Some("M".into()),
        };
        change(&mut object, off.clone()).unwrap();
        assert!(matches!(change(&mut object, off), Err(Refusal::Absent { .. })));
    }
    change(&mut object, gone).unwrap();
    let leave = Change::Leave { group: "crew".into(), user: "ann".into() };
    change(&mut object, leave.clone()).unwrap();
    assert!(names(&mut object, USER, "crew", 1).is_empty());
    assert!(matches!(change(&mut object, leave), Err(Refusal::Absent { .. })));
    // A user who goes leaves his groups.
    create(&mut object, USER, "bob").unwrap();
    change(&mut object, Change::Join { group: "crew".into(), user: "bob".into() }).unwrap();
    delete(&mut object, USER, "BOB").unwrap();
    assert!(names(&mut object, USER, "crew", 1).is_empty());
}

#[test]
fn there_are_bounds() {
    let mut object = MemoryObject::default();
    create(&mut object, USER, "ann").unwrap();
    let long = Change::PutInline {
        kind: USER,
        name: "ann".into(),
        policy: "p".into(),
        document: "x".repeat(INLINE_BYTES_MAX + 1),
    };
    assert!(matches!(change(&mut object, long), Err(Refusal::Limit { .. })));
    for n in 0..=GROUPS_MAX {
        create(&mut object, GROUP, &format!("g{n}")).unwrap();
        let joined =
            change(&mut object, Change::Join { group: format!("g{n}"), user: "ann".into() });
        assert_eq!(joined.is_ok(), n < GROUPS_MAX, "{n}");
    }
    for n in 0..=ATTACHED_MAX {
        let arn = format!("arn:aws:iam::aws:policy/{n}");
        let attach = Change::Attach { kind: USER, name: "ann".into(), arn, policy: None };
        assert_eq!(change(&mut object, attach).is_ok(), n < ATTACHED_MAX, "{n}");
    }
}

#[test]
fn what_holds_for_a_user_is_one_answer_however_much_it_is() {
    let mut object = MemoryObject::default();
    for n in 0..ATTACHED_MAX {
        let (name, document) = (format!("P{n}"), "d".repeat(6144));
        let policy = ManagedPolicy { name, document, ..ManagedPolicy::default() };
        change(&mut object, Change::CreatePolicy { policy }).unwrap();
    }
    create(&mut object, USER, "ann").unwrap();
    let groups: Vec<String> = (0..GROUPS_MAX).map(|n| format!("g{n}")).collect();
    for group in &groups {
        create(&mut object, GROUP, group).unwrap();
        change(&mut object, Change::Join { group: group.clone(), user: "ann".into() }).unwrap();
    }
    let kinds = groups.iter().map(|group| (GROUP, group.as_str())).chain([(USER, "ann")]);
    for (at, (kind, name)) in kinds.enumerate() {
        let (policy, document) = ("i".into(), "d".repeat(INLINE_BYTES_MAX));
        let inline = Change::PutInline { kind, name: name.into(), policy, document };
        change(&mut object, inline.clone()).unwrap();
        // Each has other ARNs of the policies: they count as if they were others.
        let attach = |n: usize| Change::Attach {
            kind,
            name: name.into(),
            arn: format!("arn:aws:iam::a:policy/{at}/P{n}"),
            policy: Some(format!("P{n}")),
        };
        let refused = (0..ATTACHED_MAX).find(|n| change(&mut object, attach(*n)).is_err());
        let refused = refused.expect("20 policies are too long");
        assert!(refused > 10, "{refused} are attached");
        let outcome = change(&mut object, attach(refused));
        assert!(matches!(outcome, Err(Refusal::Limit { .. })), "{outcome:?}");
    }
    add_key(&mut object, "ann", "K1").unwrap();
    let key = crate::class::method(CLASS, "key").expect("a method");
    let ask = AskKey { access_key: "K1".into() }.to_bytes();
    let answer = (key.code)(&mut object, ask).expect("it runs");
    assert!(answer.len() > 800 << 10, "{} bytes: not what the test is about", answer.len());
    assert!(answer.len() < crate::op::PAYLOAD_BYTES_MAX, "{} bytes", answer.len());
}

#[test]
fn pages_of_long_records_are_cut_and_gone_on_with() {
    let mut object = MemoryObject::default();
    create(&mut object, GROUP, "all").unwrap();
    let wanted: Vec<String> = (0..120).map(|n| format!("u{n:03}")).collect();
    for name in &wanted {
        create(&mut object, USER, name).unwrap();
        change(&mut object, Change::Join { group: "all".into(), user: name.clone() }).unwrap();
        let document = "d".repeat(INLINE_BYTES_MAX);
        let (kind, policy) = (USER, "p".into());
        change(&mut object, Change::PutInline { kind, name: name.clone(), policy, document })
            .unwrap();
        let policy = ManagedPolicy {
            name: name.clone(),
            document: "d".repeat(10_000),
            ..ManagedPolicy::default()
        };
        change(&mut object, Change::CreatePolicy { policy }).unwrap();
    }
    assert_eq!(names(&mut object, USER, "", 128), wanted);
    assert_eq!(names(&mut object, USER, "all", 128), wanted);
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let list = ListPolicies {
            account: "a".into(),
            path_prefix: String::new(),
            attached: false,
            after,
            max: 128,
        };
        let page: PolicyPage = exec(&mut object, "policies", &list);
        found.extend(page.policies.into_iter().map(|policy| policy.name));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(found, wanted);
}

#[test]
fn a_group_is_renamed_with_all_members_or_not_at_all() {
    let mut object = MemoryObject::default();
    create(&mut object, GROUP, "old").unwrap();
    for name in ["ann", "bob"] {
        create(&mut object, USER, name).unwrap();
        change(&mut object, Change::Join { group: "old".into(), user: name.into() }).unwrap();
    }
    // A member who is not there: damage, and no reason to leave the others in a group of no name.
    let bob = object.omap.remove(&entity_key("a", USER, "bob")).expect("a record");
    let before = object.clone();
    assert!(matches!(rename(&mut object, GROUP, "old", "new"), Err(Refusal::Absent { .. })));
    assert!(object == before, "half of a change");
    object.omap.insert(entity_key("a", USER, "bob"), bob);
    rename(&mut object, GROUP, "old", "new").unwrap();
    assert_eq!(names(&mut object, USER, "new", 9), ["ann", "bob"]);
}

#[test]
fn nothing_is_renamed_to_or_from_no_name() {
    let mut object = MemoryObject::default();
    create(&mut object, USER, "ann").unwrap();
    add_key(&mut object, "", "K1").unwrap();
    let method = crate::class::method(CLASS, "change").expect("a method");
    for (name, to) in [("ann", ""), ("", "eve"), ("", "")] {
        let update = Change::Update {
            kind: USER,
            name: name.into(),
            new_name: Some(to.into()),
            new_path: None,
            trust: None,
            description: None,
            session_secs_max: None,
        };
        let input = ChangeAccount { account: "a".into(), change: update };
        let done = (method.code)(&mut object, input.to_bytes());
        assert!(matches!(done, Err(ClassError::Invalid(_))), "{name:?} to {to:?}: {done:?}");
    }
    assert_eq!(names(&mut object, USER, "", 9), ["ann"]);
}

#[test]
fn of_the_root_user_only_what_was_added_is_kept() {
    let mut object = MemoryObject::default();
    let named = Named { account: "a".into(), kind: USER, name: String::new() };
    assert_eq!(exec::<Option<Bundle>>(&mut object, "bundle", &named), None);
    add_key(&mut object, "", "K1").unwrap();
    let found = holder(&mut object, "K1").expect("a key");
    assert_eq!((found.account.as_str(), found.bundle.entity.name.as_str()), ("a", ""));
    assert!(names(&mut object, USER, "", 10).is_empty());
    assert!(matches!(delete(&mut object, USER, ""), Err(Refusal::Absent { .. })));
    for n in 0..300 {
        create(&mut object, GROUP, &format!("g{n}")).unwrap();
    }
    let counts: Counts = exec(&mut object, "counts", &CountAccount { account: "a".into() });
    assert_eq!(counts, Counts { groups: 300, ..Counts::default() });
}

#[test]
fn outcomes_come_back() {
    for outcome in [Outcome(Ok(())), Outcome(Err(Refusal::Limit { what: "w".into() }))] {
        assert_eq!(Outcome::from_bytes(outcome.to_bytes()).unwrap(), outcome);
    }
}

#[test]
fn records_keep_their_bytes() {
    fn check<T: Encode + Decode + PartialEq + std::fmt::Debug>(value: &T, golden: &str) {
        let bytes = value.to_bytes();
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, golden);
        assert_eq!(T::from_bytes(bytes.clone()).as_ref(), Ok(value));
        for end in 0..bytes.len() {
            assert!(T::from_bytes(bytes.slice(..end)).is_err(), "{end}");
        }
    }
    let key = Key { sealed_secret: vec![1, 2].into(), created_ms: 3, active: true };
    check(&key, "01010f000000020000000102030000000000000001");
    check(&KeyOwner { account: "a".into(), user: "u".into() }, "01010a00000001000000610100000075");
    let entity = Entity {
        name: "N".into(),
        path: "/".into(),
        id: "I".into(),
        created_ms: 4,
        inline: [("p".to_owned(), "d".to_owned())].into(),
        attached: ["r".to_owned()].into(),
        keys: [("K".to_owned(), key)].into(),
        groups: ["g".to_owned()].into(),
        trust: "t".into(),
        description: "D".into(),
        session_secs_max: 5,
    };
    check(
        &entity,
        "010163000000010000004e010000002f010000004904000000000000000100000001000000700100\
         00006401000000010000007201000000010000004b01010f00000002000000010203000000000000\
         00010100000001000000670100000074010000004405000000",
    );
    let policy = ManagedPolicy {
        name: "N".into(),
        path: "/".into(),
        id: "I".into(),
        created_ms: 6,
        description: "D".into(),
        document: "d".into(),
        attachments: 7,
    };
    check(
        &policy,
        "010125000000010000004e010000002f010000004906000000000000000100000044010000006407\
         000000",
    );
}
