//! Journals: what is added is delivered once, in order, whatever happens between the steps.

use super::*;
use crate::Timestamp;

const NAME: &[u8] = b"p\0";

impl Shard {
    fn clock(&mut self, ms: u64) {
        self.0.now = Timestamp { secs: ms / 1000, nanos: (ms % 1000) as u32 * 1_000_000 };
    }

    fn record(&mut self, token: u64, lines: &[&str]) -> Done<JournalAdded> {
        let lines = lines.iter().map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
        let add = JournalAdd { name: NAME.into(), about: "about".into(), token, lines };
        self.call::<_, Answer<JournalAdded>>("journal_add", &add).0
    }

    fn settle(&mut self, token: u64, records: &[(u64, Option<&str>)]) {
        let own = |line: &&str| Bytes::copy_from_slice(line.as_bytes());
        let records = records.iter().map(|(n, line)| (*n, line.as_ref().map(own))).collect();
        let settle = JournalSettle { name: NAME.into(), token, records };
        let done: Answer<Nothing> = self.call("journal_settle", &settle);
        assert_eq!(done, Answer(Ok(Nothing {})));
    }

    fn cut(&mut self, holder: u64, key: &str) -> JournalCut {
        let (key, below) = (key.to_owned(), u64::MAX);
        let ask = JournalCutAsk { name: NAME.into(), key, below, holder, lease_ms: 1000 };
        self.call::<_, Answer<JournalCut>>("journal_cut", &ask).0.expect("an open shard")
    }

    fn lines(&mut self, until: u64) -> String {
        let read = JournalRead { name: NAME.into(), from: 0, until };
        let page: Answer<Vec<(u64, Bytes)>> = self.call("journal_read", &read);
        let lines = page.0.expect("an open shard").into_iter();
        lines.map(|(_, line)| String::from_utf8(line.to_vec()).expect("text")).collect()
    }

    fn clear(&mut self, key: &str) -> bool {
        let clear = JournalClear { name: NAME.into(), key: key.into() };
        self.call::<_, Answer<bool>>("journal_clear", &clear).0.expect("an open shard")
    }

    fn journals(&mut self) -> Vec<(Bytes, Journal)> {
        let list = Journals { from: Bytes::new(), max: 10 };
        self.call::<_, Answer<Vec<(Bytes, Journal)>>>("journals", &list).0.expect("an open shard")
    }
}

#[test]
fn a_journal_is_delivered_in_order_and_leaves_nothing() {
    let mut shard = Shard::new();
    shard.clock(5000);
    let first = shard.record(1, &["a?", "b?", "c?"]).unwrap().first;
    shard.settle(1, &[(first, Some("a\n")), (first + 1, None), (first + 2, Some("c\n"))]);
    // Who did not write it has nothing to say of it, and nobody twice.
    shard.settle(2, &[(first, None)]);
    shard.settle(1, &[(first, None)]);
    let journals = shard.journals();
    let [(name, journal)] = &journals[..] else { panic!("one journal") };
    assert_eq!((&name[..], journal.records, journal.bytes, journal.since_ms), (NAME, 2, 4, 5000));
    let cut = shard.cut(7, "log").cut.expect("records");
    assert_eq!((cut.records, cut.bytes, cut.first_ms, cut.stored), (2, 4, 5000, false));
    assert_eq!(shard.lines(cut.until), "a\nc\n");
    // What comes meanwhile is the next log's.
    shard.clock(6000);
    let next = shard.record(3, &["d\n"]).unwrap().first;
    assert!(next >= cut.until);
    shard.settle(3, &[(next, Some("d\n"))]);
    assert!(!shard.clear("another") && shard.journals()[0].1.cut.is_some());
    assert!(!shard.clear("log"));
    assert_eq!(shard.journals()[0].1.since_ms, 6000);
    let cut = shard.cut(7, "log2").cut.expect("a record");
    assert_eq!((cut.key.as_str(), shard.lines(cut.until).as_str()), ("log2", "d\n"));
    assert!(!shard.clear("log2"));
    assert_eq!(shard.journals(), []);
    assert!(shard.0.omap.keys().all(|key| !matches!(key[0], b'k' | b'l')));
    // It begins anew with greater numbers.
    shard.clock(6001);
    assert!(shard.record(4, &["e\n"]).unwrap().first > next);
}

#[test]
fn a_change_that_is_being_made_is_waited_for_and_given_up() {
    let mut shard = Shard::new();
    shard.clock(0);
    let first = shard.record(1, &["a\n"]).unwrap().first;
    shard.settle(1, &[(first, Some("a\n"))]);
    let slow = shard.record(2, &["slow?"]).unwrap().first;
    let last = shard.record(3, &["b\n"]).unwrap().first;
    shard.settle(3, &[(last, Some("b\n"))]);
    let answer = shard.cut(7, "log");
    assert_eq!(answer.cut.map(|cut| cut.until), Some(slow));
    assert!(answer.open && !shard.clear("log"));
    let answer = shard.cut(7, "log2");
    assert!(answer.cut.is_none() && answer.open);
    // Its gateway is dead: the record goes as it was begun, and what is said of it later comes too late.
    shard.clock(JOURNAL_OPEN_MS_MAX);
    let cut = shard.cut(7, "log2").cut.expect("records");
    shard.settle(2, &[(slow, None)]);
    assert_eq!((cut.records, shard.lines(cut.until).as_str()), (2, "slow?b\n"));
}

#[test]
fn a_log_is_one_makers_until_he_is_silent() {
    let mut shard = Shard::new();
    shard.clock(1000);
    let first = shard.record(1, &["a\n"]).unwrap().first;
    shard.settle(1, &[(first, Some("a\n"))]);
    let cut = shard.cut(7, "log").cut.expect("a record");
    assert_eq!(cut.holder, 7);
    shard.clock(1999);
    assert_eq!(shard.cut(8, "mine").cut.map(|cut| cut.holder), Some(7));
    shard.clock(2000);
    let taken = shard.cut(8, "mine").cut.expect("the same log");
    // The key and the records are those that the first one may have written already.
    assert_eq!((taken.holder, taken.key.as_str(), taken.until), (8, "log", cut.until));
    assert!(!shard.clear("log"));
    assert_eq!(shard.journals(), []);
}

#[test]
fn journals_are_bounded_and_go_with_their_shard() {
    let mut shard = Shard::new();
    let many = vec!["x"; 10_000];
    for _ in 0..JOURNAL_RECORDS_MAX / 10_000 {
        shard.record(1, &many).unwrap();
    }
    assert_eq!(shard.record(1, &["x"]).unwrap_err(), Refusal::QueueFull {});
    shard.clock(JOURNAL_OPEN_MS_MAX);
    // A log has its bounds too, and leaves in several steps.
    let cut = shard.cut(7, "log").cut.expect("records");
    assert_eq!(cut.records, JOURNAL_LOG_RECORDS_MAX);
    let steps = (0..).take_while(|_| shard.clear("log")).count();
    assert!(steps > 10);
    assert_eq!(shard.journals()[0].1.records, JOURNAL_RECORDS_MAX - JOURNAL_LOG_RECORDS_MAX);
    shard.record(1, &["x"]).unwrap();
    // Records are no objects: they keep no bucket from being removed.
    let sealed: Answer<Nothing> = shard.call("seal", &Seal { removal: 1 });
    assert_eq!(sealed, Answer(Ok(Nothing {})));
    assert_eq!(shard.record(1, &["x"]).unwrap_err(), Refusal::NoBucket {});
    let long = "x".repeat(JOURNAL_RECORD_BYTES_MAX + 1);
    let unsealed: Answer<Nothing> = shard.call("unseal", &Seal { removal: 1 });
    assert_eq!(unsealed, Answer(Ok(Nothing {})));
    let add = JournalAdd { lines: vec![long.into()], ..JournalAdd::default() };
    assert!(crate::bucket::journal::add(&mut shard.0, add).is_err());
}
