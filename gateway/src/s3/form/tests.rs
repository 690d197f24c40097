use super::*;

/// A form that arrives in pieces of `size` bytes, and perhaps breaks off.
fn source(text: &[u8], size: usize) -> Source {
    let pieces: Vec<S3Result<Bytes>> =
        text.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Source::Local(stream::iter(pieces).boxed_local())
}

/// The fields, the file's name, and its bytes or the error.
type Read = (Vec<(String, String)>, String, S3Result<Vec<u8>>);

fn read(text: &[u8], size: usize, sizes: RangeInclusive<u64>) -> S3Result<Read> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut form = Form::new(source(text, size), "B");
        let Fields { fields, filename } = form.fields().await?;
        let mut pieces = form.file(sizes);
        let mut file = Ok(Vec::new());
        while let Some(piece) = pieces.next().await {
            match (&mut file, piece) {
                (Ok(file), Ok(piece)) => file.extend_from_slice(&piece),
                (Ok(_), Err(error)) => file = Err(error),
                (Err(_), _) => break,
            }
        }
        Ok((fields, filename, file))
    })
}

fn part(head: &str, value: &str) -> String {
    format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
}

#[test]
fn forms_are_read_whatever_pieces_they_come_in() {
    let tricky = "a\r\n--\r\n--C\r\n\r\n--b--\r";
    let text = [
        part("name=\"key\"", "a/${filename}"),
        part("name=acl", ""),
        part("name=\"x-amz-meta-a\"; filename=\"x\"\r\nContent-Type: text/plain", "ä\r\nb"),
        part("filename=\"C:\\dir\\a \\\"b\\\".txt\"; name=\"File\"", tricky),
        part("name=\"submit\"", "Upload"),
        "--B--\r\nepilogue".into(),
    ]
    .concat();
    for size in [1, 2, 3, 7, 64, 10_000] {
        let (fields, filename, file) = read(text.as_bytes(), size, 0..=100).unwrap();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        let expected = [("key", "a/${filename}"), ("acl", ""), ("x-amz-meta-a", "ä\r\nb")];
        assert_eq!(fields, expected, "{size}");
        assert_eq!(filename, "a \"b\".txt");
        assert_eq!(file.unwrap(), tricky.as_bytes(), "{size}");
    }
}

#[test]
fn sizes_are_kept_while_the_file_streams() {
    let text = part("name=file", "12345") + "--B--";
    let sized = |sizes| read(text.as_bytes(), 2, sizes).unwrap().2.map_err(|error| error.code);
    assert_eq!(sized(5..=5).unwrap(), b"12345");
    assert_eq!(sized(6..=9), Err(Code::EntityTooSmall));
    assert_eq!(sized(0..=4), Err(Code::EntityTooLarge));
    let broken = &text.as_bytes()[..text.len() - 8];
    assert_eq!(read(broken, 3, 0..=9).unwrap().2.unwrap_err().code, Code::IncompleteBody);
}

#[test]
fn what_is_no_form_is_refused() {
    let code = |text: &str| read(text.as_bytes(), 50, 0..=9).map(|_| ()).unwrap_err().code;
    for (text, expected) in [
        ("", Code::IncompleteBody),
        ("--C\r\n", Code::MalformedPOSTRequest),
        ("--Bxy", Code::MalformedPOSTRequest),
        ("--B\r\nContent-Type: a\r\n\r\nx", Code::MalformedPOSTRequest),
        ("--B\r\nContent-Disposition: attachment; name=file\r\n\r\nx", Code::MalformedPOSTRequest),
        ("--B--", Code::IncorrectNumberOfFilesInPostRequest),
        (&part("name=key", "v"), Code::IncompleteBody),
        (&format!("{}--B--", part("name=key", "v")), Code::IncorrectNumberOfFilesInPostRequest),
        (&format!("--B\r\n{}", "a".repeat(5000)), Code::MalformedPOSTRequest),
        (&part("name=key", &"v".repeat(30_000)), Code::MaxPostPreDataLengthExceededError),
        (&part("name=key", &"v".repeat(300)).repeat(99), Code::MaxPostPreDataLengthExceededError),
        (&part("name=k", "").repeat(200), Code::MaxPostPreDataLengthExceededError),
    ] {
        assert_eq!(code(text), expected, "{text:.60}");
    }
}

#[test]
fn boundaries_are_announced() {
    assert_eq!(boundary("multipart/form-data; boundary=a-b").as_deref(), Some("a-b"));
    let quoted = "Multipart/Form-Data; charset=utf-8; boundary=\"a; b\"";
    assert_eq!(boundary(quoted).as_deref(), Some("a; b"));
    let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
    for bad in ["multipart/form-data", "text/plain; boundary=a", "multipart/form-data; b=c", &long]
    {
        assert_eq!(boundary(bad), None, "{bad}");
    }
}
