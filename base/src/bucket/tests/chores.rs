//! What workers do: only what was judged goes, expiries are found in order, work is one worker's at a time,
//! events come with their change, and quotas hold.

use super::*;
use crate::Timestamp;

impl Shard {
    fn retire(&mut self, key: &str, seen: &Entry, how: Retirement) -> Done<Removed> {
        let (key, seen) = (key.to_owned().into(), seen.clone());
        let item = RetireItem { key, seen, how, tags: None, notes: None };
        let retire = Retire { items: vec![item], now_ms: 9, ..Retire::default() };
        let done: Answer<Retired> = self.call("retire", &retire);
        done.0.expect("a shard").remove(0).0
    }

    fn due_before(&mut self, before_ms: u64, max: u32) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), Bytes::new());
        loop {
            let due = Due { before_ms, after: after.clone(), max };
            let page = self.call::<_, Answer<DuePage>>("due", &due).0.expect("a shard");
            keys.extend(
                page.items.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()),
            );
            match page.next {
                Some(next) => after = next,
                None => return keys,
            }
        }
    }

    fn events(&mut self) -> Vec<(u64, EventRecord)> {
        let events = Events { after: 0, max: 1000 };
        self.call::<_, Answer<_>>("events", &events).0.expect("a shard")
    }

    fn set_versioning(&mut self, revision: u64, versioning: Versioning) {
        let settings = ObjectSettings { revision, versioning, ..ObjectSettings::default() };
        self.call::<_, Answer<Nothing>>("configure", &Configure { settings }).0.expect("a shard");
    }
}

fn at(ms: u64) -> Timestamp {
    Timestamp { secs: ms / 1000, nanos: (ms % 1000) as u32 * 1_000_000 }
}

fn expiring(tag: u8, expires_ms: u64) -> Put {
    let put = inline(3, tag);
    Put { entry: Entry { expires_ms, ..put.entry.clone() }, ..put }
}

#[test]
fn only_what_was_judged_goes() {
    let mut shard = Shard::new();
    let first = shard.commit("k", inline(3, 1)).unwrap().entry;
    let second = shard.commit("k", inline(3, 2)).unwrap().entry;
    let changed = Err(Refusal::Precondition {});
    assert_eq!(shard.retire("k", &first, Retirement::Object {}), changed);
    for how in [Retirement::Older {}, Retirement::Marker {}] {
        assert_eq!(shard.retire("k", &second, how), changed);
    }
    assert_eq!(shard.head().objects, 1);
    let gone = shard.retire("k", &second, Retirement::Object {}).unwrap();
    assert_eq!((gone.entry, gone.marker), (Some(second.clone()), None));
    assert_eq!(shard.retire("k", &second, Retirement::Object {}), changed);
    assert_eq!(shard.head().objects, 0);
}

#[test]
fn versions_are_hidden_then_removed_then_their_marker() {
    let mut shard = Shard::new();
    shard.set_versioning(1, Versioning::Enabled);
    let object = shard.commit("k", inline(3, 1)).unwrap().entry;
    let changed = Err(Refusal::Precondition {});
    let marker = shard.retire("k", &object, Retirement::Object {}).unwrap().marker.unwrap();
    // The marker is the newest and not alone: neither an older version nor a marker that hides nothing.
    assert_eq!(shard.retire("k", &marker, Retirement::Older {}), changed);
    assert_eq!(shard.retire("k", &marker, Retirement::Marker {}), changed);
    assert!(shard.retire("k", &object, Retirement::Older {}).unwrap().entry.is_some());
    assert!(shard.retire("k", &marker, Retirement::Marker {}).unwrap().entry.is_some());
    assert_eq!((shard.head().objects, shard.head().versions), (0, 0));
}

#[test]
fn a_lock_and_other_tags_keep_a_version() {
    let mut shard = Shard::new();
    shard.0.now = at(1000);
    let settings = ObjectSettings {
        revision: 1,
        versioning: Versioning::Enabled,
        lock: true,
        retention: None,
    };
    shard.call::<_, Answer<Nothing>>("configure", &Configure { settings }).0.unwrap();
    let lock = ObjectLock {
        retention: Some(Retention { mode: LockMode::Governance, until_ms: 5000 }),
        hold: None,
    };
    let put = inline(3, 1);
    let locked = Put { entry: Entry { lock, ..put.entry.clone() }, ..put };
    let old = shard.commit("k", locked).unwrap().entry;
    shard.commit("k", inline(3, 2)).unwrap();
    assert_eq!(shard.retire("k", &old, Retirement::Older {}), Err(Refusal::Locked {}));
    shard.0.now = at(5000);
    let tags = Some([("a".to_owned(), "b".to_owned())].into());
    let item = RetireItem {
        key: "k".into(),
        seen: old.clone(),
        how: Retirement::Older {},
        tags,
        notes: None,
    };
    let retire = Retire { items: vec![item], ..Retire::default() };
    let done: Answer<Retired> = shard.call("retire", &retire);
    assert_eq!(done.0.unwrap()[0].0, Err(Refusal::Precondition {}));
    assert!(shard.retire("k", &old, Retirement::Older {}).is_ok());
}

#[test]
fn expiries_are_found_in_order_and_follow_the_object() {
    let mut shard = Shard::new();
    shard.0.now = at(1_000_000);
    for (key, expires_ms) in [("late", 300), ("early", 100), ("middle", 200), ("never", 0)] {
        shard.commit(key, expiring(1, expires_ms)).unwrap();
    }
    for max in [1, 2, 100] {
        assert_eq!(shard.due_before(301, max), ["early", "middle", "late"], "pages of {max}");
    }
    assert_eq!(shard.due_before(200, 9), ["early"]);
    // Overwritten, described anew, removed.
    shard.commit("early", inline(3, 2)).unwrap();
    let headers = [(DELETE_AT.to_owned(), "4".to_owned())].into();
    let describe = Describe { key: "late".into(), headers, ..Describe::default() };
    let entry = shard.call::<_, Answer<Entry>>("describe", &describe).0.unwrap();
    assert_eq!(entry.expires_ms, 4000);
    shard.remove(vec![object("middle")]);
    assert_eq!(shard.due_before(4000, 9), Vec::<String>::new());
    assert_eq!(shard.due_before(4001, 9), ["late"]);
    // An older version does not expire; one that becomes the object again does.
    shard.set_versioning(1, Versioning::Enabled);
    let newer = shard.commit("late", inline(3, 3)).unwrap().entry;
    assert_eq!(shard.due_before(u64::MAX, 9), Vec::<String>::new());
    let again = RemoveItem { version: Some(newer.version()), ..object("late") };
    assert!(shard.remove(vec![again])[0].is_ok());
    assert_eq!(shard.due_before(u64::MAX, 9), ["late"]);
}

#[test]
fn work_is_one_workers_and_is_gone_on_with() {
    let mut shard = Shard::new();
    shard.0.now = at(1000);
    let claim = |shard: &mut Shard, holder, round, plan| {
        let name = "work".to_owned();
        let claim = Claim { name, holder, lease_ms: 100, round, plan };
        shard.call::<_, Answer<Option<Chore>>>("claim", &claim).0.unwrap()
    };
    let report = |shard: &mut Shard, holder, place: &'static [u8], done| {
        let (name, place) = ("work".to_owned(), Bytes::from_static(place));
        let report =
            Report { name, holder, lease_ms: 100, place, done, looked: 2, acted: 1, passed: 0 };
        shard.call::<_, Answer<bool>>("report", &report).0.unwrap()
    };
    assert!(!report(&mut shard, 1, b"a", false), "nobody has it");
    assert!(claim(&mut shard, 1, 5, 7).is_some_and(|chore| chore.place.is_empty()));
    assert_eq!(claim(&mut shard, 2, 5, 7), None);
    assert!(report(&mut shard, 1, b"a", false));
    // The lease ends: another one goes on, and the first one is told.
    shard.0.now = at(1100);
    let taken = claim(&mut shard, 2, 6, 7).unwrap();
    assert_eq!((&taken.place[..], taken.round, taken.looked), (&b"a"[..], 5, 2));
    assert!(!report(&mut shard, 1, b"b", true));
    assert!(report(&mut shard, 2, b"b", true));
    assert_eq!(claim(&mut shard, 1, 5, 7), None, "the round is done");
    assert!(claim(&mut shard, 1, 6, 7).is_some_and(|chore| chore.looked == 0));
    assert!(report(&mut shard, 1, b"c", false));
    // Other rules begin anew.
    assert!(claim(&mut shard, 1, 2, 8).is_some_and(|chore| chore.place.is_empty()));
    let read = ReadChore { name: "work".into() };
    let seen = shard.call::<_, Answer<Option<Chore>>>("chore", &read).0.unwrap().unwrap();
    assert_eq!((seen.round, seen.plan, seen.done), (2, 8, false));
}

/// A worker whose clock is decades ahead removes nothing before its time, and disables no work.
#[test]
fn a_workers_clock_is_held_against_the_daemons() {
    let mut shard = Shard::new();
    let (now, ahead) = (1_000_000, 4_000_000_000_000);
    shard.0.now = at(now);
    shard.commit("early", expiring(1, now - 1)).unwrap();
    let late = shard.commit("late", expiring(1, now + 1)).unwrap().entry;
    assert_eq!(shard.due_before(ahead, 9), ["early"]);
    let item = RetireItem {
        key: "late".into(),
        seen: late,
        how: Retirement::Object {},
        tags: None,
        notes: None,
    };
    for (now_ms, done) in [(ahead, false), (now + 1000, true)] {
        let retire = Retire { items: vec![item.clone()], now_ms, ..Retire::default() };
        let outcomes: Answer<Retired> = shard.call("retire", &retire);
        assert_eq!(outcomes.0.unwrap()[0].0.is_ok(), done, "{now_ms}");
    }
    let work = |shard: &mut Shard, name: &str, round| {
        let (name, lease_ms) = (name.to_owned(), 100);
        let claim = Claim { name: name.clone(), holder: 1, lease_ms, round, plan: 7 };
        let claimed = shard.call::<_, Answer<Option<Chore>>>("claim", &claim).0.unwrap();
        let report = Report { name, holder: 1, lease_ms, done: true, ..Report::default() };
        if claimed.is_some() {
            assert!(shard.call::<_, Answer<bool>>("report", &report).0.unwrap());
        }
        claimed.is_some()
    };
    for name in [EVENTS_WORK, EXPIRY_WORK] {
        assert!(work(&mut shard, name, ahead) && work(&mut shard, name, now), "{name}");
    }
    assert!(work(&mut shard, "lifecycle", 40_000));
    assert!(!work(&mut shard, "lifecycle", 20_000));
    shard.0.now = at(now + 3 * 86_400_000);
    assert!(work(&mut shard, "lifecycle", 20_003), "that was no round of this time");
    assert!(!work(&mut shard, "lifecycle", 20_003));
}

fn told(event: &str, marker: bool) -> Notice {
    let (rule, endpoint) = ("r".to_owned(), "hook".to_owned());
    Notice { marker, event: event.into(), rule, endpoint }
}

#[test]
fn events_come_with_their_change_and_wait_until_they_are_delivered() {
    let mut shard = Shard::new();
    let notes = Notes {
        notices: vec![told("made", false), told("hidden", true)],
        requester: "u".into(),
        ..Notes::default()
    };
    let put = || Put { notes: Some(notes.clone()), ..inline(3, 1) };
    shard.put("a", put()).unwrap();
    let refused = Condition { if_none_match: Some(TagMatch::Any {}), if_match: None };
    assert!(shard.put("a", Put { condition: refused, ..put() }).is_err());
    shard.remove(vec![RemoveItem { notes: Some(notes.clone()), ..object("a") }]);
    // There is nothing any more: nothing happens.
    shard.remove(vec![RemoveItem { notes: Some(notes.clone()), ..object("a") }]);
    shard.set_versioning(1, Versioning::Enabled);
    shard.put("a", put()).unwrap();
    shard.remove(vec![RemoveItem { notes: Some(notes.clone()), ..object("a") }]);
    let events = shard.events();
    let names: Vec<_> = events.iter().map(|(_, event)| event.notice.event.as_str()).collect();
    assert_eq!(names, ["made", "made", "made", "hidden"]);
    assert_eq!(events.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(shard.head().events, 4);
    let delivered = Delivered { events: vec![1, 3, 3, 99] };
    shard.call::<_, Answer<Nothing>>("delivered", &delivered).0.unwrap();
    assert_eq!(shard.head().events, 2);
    assert_eq!(shard.events().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn a_full_queue_refuses_what_somebody_is_to_be_told_of() {
    let mut shard = Shard::new();
    let many = Notes { notices: vec![told("made", false); 100], ..Notes::default() };
    for n in 0..EVENTS_MAX / 100 {
        let put = Put { notes: Some(many.clone()), ..inline(1, 1) };
        shard.put(&format!("{}", n % 3), put).unwrap();
    }
    let notes = Notes { notices: vec![told("made", false)], ..Notes::default() };
    let full = Err(Refusal::QueueFull {});
    assert_eq!(shard.put("k", Put { notes: Some(notes.clone()), ..inline(1, 1) }), full);
    let outcome = shard.remove(vec![RemoveItem { notes: Some(notes.clone()), ..object("1") }]);
    assert_eq!(outcome, [Err(Refusal::QueueFull {})]);
    assert!(shard.put("k", inline(1, 1)).is_ok(), "nobody is told");
    shard.call::<_, Answer<Nothing>>("delivered", &Delivered { events: vec![1] }).0.unwrap();
    assert!(shard.put("k", Put { notes: Some(notes), ..inline(1, 1) }).is_ok());
}

#[test]
fn a_ceiling_holds_and_lets_through_what_makes_less() {
    let mut shard = Shard::new();
    let limited =
        |size, objects, bytes| Put { ceiling: Some(Ceiling { objects, bytes }), ..inline(size, 1) };
    let quota = Err(Refusal::Quota {});
    assert!(shard.put("a", limited(10, 2, 20)).is_ok());
    assert_eq!(shard.put("b", limited(11, 2, 20)), quota);
    assert!(shard.put("b", limited(10, 2, 20)).is_ok());
    assert_eq!(shard.put("c", limited(0, 2, 20)), quota);
    assert_eq!(shard.put("a", limited(11, 2, 20)), quota);
    assert!(shard.put("a", limited(10, 2, 20)).is_ok(), "as much as before");
    // The quota was lowered below what is there: less is welcome.
    assert!(shard.put("a", limited(9, 1, 1)).is_ok());
    shard.set_versioning(1, Versioning::Enabled);
    assert_eq!(shard.put("a", limited(1, 2, 100)), quota, "older versions count");
}
