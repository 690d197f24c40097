//! Many things in one request, over Swift: who may send it, and what of it goes wrong is told and does no harm.

use crate::World;
use crate::client::read_answer;
use crate::swift_more::{gzip, tar};
use std::io::Write;

/// The header of a file, or of its long name, in an archive, and what is behind it.
fn member(name: &[u8], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut archive = tar(&[("", body)]);
    archive.truncate(archive.len() - 1024);
    archive[..name.len()].copy_from_slice(name);
    archive[156] = kind;
    archive[148..156].copy_from_slice(b"        ");
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive
}

#[test]
fn nobody_has_a_body_read_or_unpacked() {
    let world = World::new();
    let (owner, nobody, stranger) = (world.swift("u"), world.no_token(), world.stranger());
    assert_eq!(owner.ask("PUT", "/bucket/o", b"body").status, 201);
    // Neither where everybody may write, over S3.
    let public = [("x-amz-acl", "public-read-write")];
    assert_eq!(world.client.ask_with("PUT", "/bucket?acl", &public, b"").status, 200);
    let archive = gzip(&tar(&[("bucket/a", b"A")]));
    for path in ["", "/bucket", "/bucket/o"] {
        let target = format!("{path}?extract-archive=tar.gz");
        assert_eq!(nobody.ask("PUT", &target, &archive).status, 401, "{path}");
    }
    assert_eq!(nobody.ask("POST", "?bulk-delete", b"/bucket/o\n").status, 401);
    // The answer does not wait for the body.
    let head = "POST /v1/AUTH_u?bulk-delete HTTP/1.1\r\nhost: h\r\ncontent-length: 8000000\r\nexpect: 100-continue\r\n\r\n";
    let mut stream = world.client.connect();
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream, "POST").expect("an answer").status, 401);
    assert_eq!(owner.names("/bucket"), ["o"]);
    // Who has a token is told about each.
    let report = stranger.ask("PUT", "?extract-archive=tar.gz", &archive);
    assert!(report.text().contains("Number Files Created: 1"), "{}", report.text());
}

#[test]
fn strangers_do_not_learn_what_is_there_by_deleting() {
    let world = World::new();
    let list = b"/bucket\n/none\n/bucket/none\n/none/none\n";
    let text = world.stranger().ask("POST", "?bulk-delete", list).text();
    assert!(text.contains("Number Deleted: 0") && text.contains("Number Not Found: 0"), "{text}");
    assert_eq!(text.matches("403 Forbidden").count(), 4, "{text}");
    let text = world.swift("u").ask("POST", "?bulk-delete", b"/none\n/bucket/none\n").text();
    assert!(text.contains("Number Not Found: 2"), "{text}");
}

#[test]
fn a_list_that_is_too_long_is_refused_in_words() {
    let world = World::new();
    let swift = world.swift("u");
    let long = vec![b'x'; (8 << 20) + 1];
    assert_eq!(swift.ask("POST", "?bulk-delete", &long).status, 413);
    // Without a length also; and the connection is good for the next request.
    let mut stream = world.client.connect();
    let head = format!(
        "POST /v1/AUTH_u?bulk-delete HTTP/1.1\r\nhost: h\r\nx-auth-token: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        swift.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(format!("{:x}\r\n", long.len()).as_bytes()).unwrap();
    stream.write_all(&long).unwrap();
    stream.write_all(b"\r\n0\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream, "POST").expect("an answer").status, 413);
    stream.write_all(b"GET /info HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream, "GET").expect("an answer").status, 200);
}

#[test]
fn long_names_that_are_no_text_take_no_others_place() {
    let world = World::new();
    let swift = world.swift("u");
    let long = |fill: u8| [&[b'a'; 100][..], &[fill; 20]].concat();
    let end = vec![0; 1024];
    // Both begin alike, and differ in bytes that are no text.
    let file = |fill: u8, body: &[u8]| {
        [member(b"././@LongLink", b'L', &long(fill)), member(&[b'a'; 100], b'0', body)].concat()
    };
    let archive = [file(0xfe, b"1"), file(0xff, b"2"), end.clone()].concat();
    let report = swift.ask("PUT", "/bucket?extract-archive=tar", &archive).text();
    assert!(report.contains("Number Files Created: 0"), "{report}");
    assert!(report.contains("400 Bad Request") && report.contains("not UTF-8"), "{report}");
    assert_eq!(swift.names("/bucket"), Vec::<String>::new());
    // The header has the beginning of a long name, which may end within a letter.
    let name = "é".repeat(60) + "!";
    let cut = [&b"a"[..], &name.as_bytes()[..99]].concat();
    let whole = format!("a{name}");
    let archive =
        [member(b"././@LongLink", b'L', whole.as_bytes()), member(&cut, b'0', b"3"), end].concat();
    let report = swift.ask("PUT", "/bucket?extract-archive=tar", &archive).text();
    assert!(report.contains("Number Files Created: 1"), "{report}");
    assert_eq!(swift.names("/bucket"), [whole]);
}
