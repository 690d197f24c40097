//! Pages of long records: each reply fits a frame, and whoever goes on from page to page sees all.

use super::*;
use crate::Timestamp;
use crate::op::PAYLOAD_BYTES_MAX;

/// Records of about 8 KiB each, so many that all together are no reply.
const MANY: usize = 300;

impl Shard {
    /// A reply of a method, which must fit a frame.
    fn reply<I: Encode, O: Decode>(&mut self, method: &str, input: &I) -> O {
        let found = class::method(CLASS, method).expect("a method of this name");
        let output = (found.code)(&mut self.0, input.to_bytes()).expect("a well-formed call");
        assert!(output.len() < PAYLOAD_BYTES_MAX, "{method} answers with {} bytes", output.len());
        Answer::<O>::from_bytes(output).expect("an output of the method's type").0.expect("done")
    }
}

fn long(n: usize, notes: usize) -> Put {
    let put = inline(3, n as u8);
    let notice = Notice { event: "ObjectCreated:Put".into(), ..Notice::default() };
    let entry = Entry { content_type: "t".repeat(8000), expires_ms: 7, ..put.entry.clone() };
    Put { entry, notes: Some(Notes { notices: vec![notice; notes], ..Notes::default() }), ..put }
}

fn crowded(notes: usize) -> (Shard, Vec<String>) {
    let mut shard = Shard::new();
    let keys: Vec<String> = (0..MANY).map(|n| format!("{n:04}")).collect();
    for (n, key) in keys.iter().enumerate() {
        shard.put(key, long(n, notes)).expect("put");
    }
    (shard, keys)
}

fn text(key: &Bytes) -> String {
    String::from_utf8(key.to_vec()).expect("keys of the test")
}

#[test]
fn listings_of_long_entries_come_in_pages() {
    let (mut shard, keys) = crowded(0);
    let (mut list, mut listed) = (List { max: 1000, ..List::default() }, Vec::new());
    loop {
        let page: Page = shard.reply("list", &list);
        listed.extend(page.items.iter().map(|item| text(item.name())));
        match page.next {
            Some(next) => list.from = next,
            None => break,
        }
    }
    assert_eq!(listed, keys);
    // What is rolled up costs no more than it shows.
    let rolled = List { delimiter: "0".into(), max: 1000, ..List::default() };
    assert_eq!(shard.reply::<_, Page>("list", &rolled).items.len(), 1);

    let (mut list, mut listed) = (ListVersions { max: 500, ..Default::default() }, Vec::new());
    loop {
        let page: VersionPage = shard.reply("versions", &list);
        listed.extend(page.items.iter().map(|item| text(item.name())));
        match page.next {
            Some(next) => list.from = next,
            None => break,
        }
    }
    assert_eq!(listed, keys);
}

#[test]
fn what_is_due_comes_in_pages() {
    let (mut shard, keys) = crowded(0);
    shard.0.now = Timestamp { secs: 1, nanos: 0 };
    let mut due = Due { before_ms: 8, max: 500, ..Due::default() };
    let mut found = Vec::new();
    loop {
        let page: DuePage = shard.reply("due", &due);
        found.extend(page.items.iter().map(|(key, _)| text(key)));
        match page.next {
            Some(next) => due.after = next,
            None => break,
        }
    }
    assert_eq!(found, keys);
}

#[test]
fn events_come_in_pages() {
    let (mut shard, keys) = crowded(1);
    let (mut ask, mut told) = (Events { after: 0, max: 200 }, Vec::new());
    loop {
        let page: Vec<(u64, EventRecord)> = shard.reply("events", &ask);
        let Some((last, _)) = page.last() else { break };
        ask.after = *last;
        told.extend(page.iter().map(|(_, event)| text(&event.key)));
    }
    assert_eq!(told, keys);
    // A record that fills a page alone is still given.
    let entry = Entry { content_type: "t".repeat(REPLY_BYTES_MAX), ..Entry::default() };
    let mut alone = Shard::new();
    alone.put("k", Put { entry, ..long(0, 1) }).expect("put");
    let events: Vec<(u64, EventRecord)> = alone.reply("events", &Events { after: 0, max: 9 });
    assert_eq!(events.len(), 1);
}

#[test]
fn removals_of_long_entries_are_cut() {
    for notes in [0, 4] {
        let (mut shard, keys) = crowded(0);
        let told = long(0, notes).notes;
        let mut items: Vec<RemoveItem> =
            keys.iter().map(|key| RemoveItem { notes: told.clone(), ..object(key) }).collect();
        while !items.is_empty() {
            let written = shard.0.omap.len();
            let remove = Remove { items: items.clone(), ..Remove::default() };
            let done: Vec<Answer<Removed>> = shard.reply("remove", &remove);
            assert!(!done.is_empty() && done.iter().all(|one| one.0.is_ok()));
            let kept: usize = shard
                .0
                .omap
                .iter()
                .skip_while(|(key, _)| key[0] != b'q')
                .map(|(_, value)| value.len())
                .sum();
            assert!(kept < PAYLOAD_BYTES_MAX, "{kept} bytes of events in one transaction");
            shard.0.omap.retain(|key, _| key[0] != b'q');
            assert!(shard.0.omap.len() < written);
            items.drain(..done.len());
        }
        assert_eq!(shard.head().objects, 0);
    }
    let (mut shard, keys) = crowded(0);
    let list = List { max: 50, ..List::default() };
    let page: Page = shard.reply("list", &list);
    let items = page.items.into_iter().map(|item| match item {
        Item::Key { key, entry } => RetireItem {
            key,
            seen: entry,
            how: Retirement::Object {},
            tags: None,
            notes: long(0, 4).notes,
        },
        Item::Prefix { .. } => unreachable!("no delimiter was given"),
    });
    let retire = Retire { items: items.collect(), ..Retire::default() };
    let done: Retired = shard.reply("retire", &retire);
    assert!((1..50).contains(&done.len()), "{} of 50", done.len());
    assert_eq!(shard.head().objects, (keys.len() - done.len()) as u64);
}
