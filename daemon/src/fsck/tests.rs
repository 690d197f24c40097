#![allow(clippy::disallowed_methods)] // looks at files, and damages one

use super::*;
use crate::store::{Change, LogEntry, Mutation, Store, Write as Order};
use bytes::Bytes;
use std::time::Duration;
use store_base::object::ObjectInfo;
use store_base::{Interval, ObjectName, PoolId, Ticket, Version};

const PG: PgId = PgId { pool: PoolId(2), seed: 3 };

fn data(n: u64) -> Bytes {
    let len = [100, 5000, 40_000, 300_000][n as usize % 4];
    (0..len).map(|i| (i as u64 * (n + 3) / 7 + n) as u8).collect::<Vec<_>>().into()
}

fn entry(n: u64) -> LogEntry {
    let info = ObjectInfo { size: data(n).len() as u64 + 10, ..ObjectInfo::default() };
    let omap = [(Bytes::from(format!("{n:04}")), Some(data(n % 3)))].into();
    // Something before the bytes that was never written.
    let changes = vec![Change::Write { offset: 10, data: data(n) }, Change::Omap { set: omap }];
    LogEntry {
        version: Version { interval: Interval(1), counter: n },
        object: ObjectName::new(format!("o{n}").into_bytes()),
        mutation: Some(Mutation { changes, info: Some(info) }),
        ..LogEntry::default()
    }
}

/// A directory with eleven objects and one entry that is staged only.
fn made(directory: &Path, checkpoint: bool) {
    let options = Options::new(ClusterId::default(), DaemonId(-1), ClusterId([2; 16]), 1 << 30);
    let mut store = DirectoryStore::open(directory, Engine::Threads, options).expect("opens");
    store.submit(None, vec![Order::CreatePg { pg: PG }]).expect("room");
    for n in 1..=12 {
        let mut batch = vec![Order::Stage { pg: PG, entry: entry(n) }];
        if n < 12 {
            batch.push(Order::Apply { pg: PG, to: entry(n).version, except: vec![] });
        }
        store.submit(Some(Ticket(n)), batch).expect("room");
    }
    let mut done = Vec::new();
    while !done.contains(&Completion::Stored { ticket: Ticket(12) }) {
        store.poll(&mut done);
        store.wait_for(Duration::from_millis(10));
    }
    if checkpoint {
        store.close(true);
    }
}

fn check(directory: &Path, flags: &[&str]) -> (Result<u8, String>, String) {
    use clap::Parser;
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        fsck: Fsck,
    }
    let directory = directory.display().to_string();
    let words = ["fsck"].into_iter().chain(flags.iter().copied()).chain([&directory[..]]);
    let mut out = Vec::new();
    let status = Line::parse_from(words).fsck.check(&mut out);
    (status, String::from_utf8(out).expect("text"))
}

fn document(directory: &Path, flags: &[&str]) -> (u8, Value) {
    let (status, text) = check(directory, &[&["--json"], flags].concat());
    (status.expect("checked"), serde_json::from_str(&text).expect("JSON"))
}

/// Every file below, with its content.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("listable") {
        let path = entry.expect("listable").path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.clone(), std::fs::read(&path).expect("readable"))),
        }
    }
    all
}

fn sha256(n: u64) -> String {
    let whole = [&[0; 10][..], &data(n)].concat();
    hex(ring::digest::digest(&ring::digest::SHA256, &whole).as_ref())
}

#[test]
fn a_sound_directory_is_listed_and_left_as_it_is() {
    for checkpoint in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        made(dir.path(), checkpoint);
        let before = files(dir.path());
        let (status, found) = document(dir.path(), &["--list"]);
        assert_eq!((status, &found["findings"]), (0, &json!([])), "{found}");
        assert!(files(dir.path()) == before, "a check without --repair writes nothing");
        let objects = found["objects"].as_array().expect("a list");
        assert_eq!(objects.len(), 11);
        for object in objects {
            let name = object["name"].as_str().expect("a name");
            let n: u64 = name[1..].parse().expect("numbered");
            assert_eq!(object["data"], sha256(n), "{object}");
            assert_eq!((&object["pg"], &object["omap_keys"]), (&json!("2.3"), &json!(1)));
            // What it says of the place is true.
            let place = &object["places"][0];
            let at = place["file"].as_u64().expect("it is somewhere") as usize;
            let here = &before[&dir.path().join(FILE_NAME)][at..at + 90];
            assert_eq!((here, place["at"].as_u64()), (&data(n)[..90], Some(10)));
        }
        assert_eq!(found["pgs"][0]["staged"], 1);
        let (_, found) = document(dir.path(), &["--list", "--staged"]);
        assert_eq!(found["objects"].as_array().map(Vec::len), Some(12));
    }
}

#[test]
fn a_flipped_bit_is_told_with_what_it_costs() {
    let dir = tempfile::tempdir().expect("a directory");
    made(dir.path(), true);
    let (_, found) = document(dir.path(), &["--list"]);
    let objects = found["objects"].as_array().expect("a list").clone();
    let path = dir.path().join(FILE_NAME);
    for object in objects.into_iter().filter(|object| object["places"][0]["in"] == "extent") {
        let size = object["size"].as_u64().expect("a size") - 10;
        let at = object["places"][0]["file"].as_u64().expect("somewhere") + size / 2;
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[at as usize] ^= 4;
        std::fs::write(&path, &bytes).expect("writable");
        let (status, found) = document(dir.path(), &["--list"]);
        assert_eq!(status, 4);
        let finding = &found["findings"][0];
        assert_eq!((&finding["kind"], &finding["object"]), (&json!("data"), &object["name"]));
        let offset = finding["offset"].as_u64().expect("an offset");
        let length = finding["length"].as_u64().expect("a length");
        assert!(offset <= 10 + size / 2 && 10 + size / 2 < offset + length, "{finding}");
        assert!(length <= 64 << 10, "no more than a block of checksums: {finding}");
        assert_eq!(found["pgs"][0]["damaged"], 1);
        let (status, text) = check(dir.path(), &[]);
        assert_eq!(status, Ok(4));
        assert!(text.contains("lost here, to be fetched from another copy"), "{text}");
        bytes[at as usize] ^= 4;
        std::fs::write(&path, &bytes).expect("writable");
    }
    assert_eq!(check(dir.path(), &[]).0, Ok(0), "all bits are back");
}

#[test]
fn a_damaged_superblock_is_mended() {
    let dir = tempfile::tempdir().expect("a directory");
    made(dir.path(), true);
    let path = dir.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).expect("writable");
    let (status, found) = document(dir.path(), &[]);
    assert_eq!((status, &found["findings"][0]["kind"]), (4, &json!("superblock")));
    assert_eq!(check(dir.path(), &["--repair"]).0, Ok(1));
    assert_eq!(check(dir.path(), &["--repair"]).0, Ok(0));
}

#[test]
fn what_cannot_be_checked_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let why = check(dir.path(), &[]).0.expect_err("empty");
    assert!(why.contains("is not the directory of a daemon"), "{why}");
    made(dir.path(), true);
    let options = Options::new(ClusterId::default(), DaemonId(-1), ClusterId([2; 16]), 1 << 30);
    let store = DirectoryStore::open(dir.path(), Engine::Threads, options).expect("opens");
    for flags in [&[][..], &["--repair"]] {
        let why = check(dir.path(), flags).0.expect_err("a daemon has it");
        assert!(why.contains("is in use by pid"), "{why}");
    }
    drop(store);
    // An index whose files are cut short is damage, and no panic.
    for (path, bytes) in files(&dir.path().join("index")) {
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("writable");
    }
    let (status, text) = check(dir.path(), &[]);
    assert_eq!(status, Ok(4), "{text}");
    assert!(text.contains("lost: every placement group of this daemon"), "{text}");
}
