//! Taking archives apart: `PUT ?extract-archive=tar` makes an object of every file in the archive, as it
//! arrives. Below an account the first folder of a name is the container, and is made if it is not there; below a
//! container or an object's name all are names of objects.
//!
//! Archives are POSIX ones, with names of the `ustar` form, of GNU tar (`L`) or of pax headers (`path`).
//! Compressed ones are refused: this server has nothing to take them apart with.

use super::access::{self, AccountPermit};
use super::bulk::{self, FAILURES_MAX, Report};
use super::error::{SwiftError, SwiftResult};
use super::path::Named;
use super::{Call, container, legacy, metadata, object, quota};
use crate::s3::Answer;
use crate::s3::auth::payload::Inspector;
use crate::s3::checksum::{Algorithm, Announced};
use crate::s3::operations::write::{NewObject, PIECE_OBJECT_BYTES_MAX, store};
use crate::s3::router::Operation;
use crate::transfer::body::{BodyReader, Source};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use store_base::bucket::Condition;

/// Most containers that one archive makes.
pub(super) const CONTAINERS_MAX: usize = 10_000;

/// Bytes of a block: headers are one, and files are filled up to whole ones.
const BLOCK: usize = 512;

/// Most bytes of a long name or of pax headers.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// What a header of an archive says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    size: u64,
    kind: u8,
}

/// Reads a header. `None` for the block of zeros that ends the archive.
fn parse_header(block: &[u8]) -> Result<Option<Member>, &'static str> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum();
    if number(&block[148..156]) != Some(sum) {
        return Err("a header has another sum than it says");
    }
    let size = number(&block[124..136]).ok_or("a header has no size")?;
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8(field[..end].to_vec()).map_err(|_| "a name is not UTF-8")
    };
    let mut name = text(&block[..100])?;
    let prefix = text(&block[345..500])?;
    if block[257..262] == *b"ustar" && block[262] == 0 && !prefix.is_empty() {
        name = format!("{prefix}/{name}");
    }
    Ok(Some(Member { name, size, kind: block[156] }))
}

/// A number in octal digits, or in GNU's form for large ones.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        if high.iter().skip(1).any(|byte| *byte != 0) {
            return None;
        }
        return Some(u64::from_be_bytes(low.try_into().ok()?));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(text, 8).ok()
}

/// `path` and `size` of pax headers: lines of `LENGTH NAME=VALUE`.
fn parse_pax(mut text: &[u8]) -> Option<(Option<String>, Option<u64>)> {
    let (mut path, mut size) = (None, None);
    while !text.is_empty() {
        let space = text.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
        let line = text.get(space + 1..length)?;
        let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
        match line.split_once('=')? {
            ("path", value) => path = Some(value.to_owned()),
            ("size", value) => size = Some(value.parse().ok()?),
            _ => {}
        }
        text = text.get(length..)?;
    }
    Some((path, size))
}

/// The bytes of the archive, in whatever pieces somebody wants them.
struct Bytestream {
    reader: BodyReader,
    budget: crate::transfer::Budget,
    ready: Bytes,
}

impl Bytestream {
    /// At most so many bytes, at least one; `None` at the end.
    async fn some(&mut self, most: u64) -> crate::s3::error::S3Result<Option<Bytes>> {
        while self.ready.is_empty() {
            match self.reader.piece(&self.budget).await? {
                Some((piece, _)) => self.ready = piece.data,
                None => return Ok(None),
            }
        }
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.ready.len());
        Ok(Some(self.ready.split_to(length)))
    }

    /// Exactly so many; `None` if the archive ends before.
    async fn exactly(&mut self, length: u64) -> SwiftResult<Option<Bytes>> {
        let mut whole = BytesMut::new();
        while (whole.len() as u64) < length {
            let Some(some) = self.some(length - whole.len() as u64).await? else {
                return Ok(None);
            };
            whole.extend_from_slice(&some);
        }
        Ok(Some(whole.freeze()))
    }

    async fn skip(&mut self, mut length: u64) -> SwiftResult<()> {
        while length > 0 {
            match self.some(length).await? {
                Some(some) => length -= some.len() as u64,
                None => return Err(damaged("it ends too early")),
            }
        }
        Ok(())
    }
}

fn damaged(why: &str) -> SwiftError {
    SwiftError::bad_request(format!("Invalid Tar File: {why}"))
}

/// Bytes from the end of a file to the next block.
fn filling(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// PUT of an archive.
pub(super) async fn extract(
    call: &mut Call,
    permit: &AccountPermit,
    named: &Named,
) -> SwiftResult<Answer> {
    match call.head.query.value("extract-archive").unwrap_or_default() {
        "tar" => {}
        form @ ("tar.gz" | "tar.bz2") => {
            return Err(SwiftError::not_there(&format!("extract-archive={form}")));
        }
        _ => return Err(SwiftError::bad_request("Unsupported archive format")),
    }
    let (reader, budget) = (object::body(call)?, call.service.budget.clone());
    let bytes = Rc::new(RefCell::new(Bytestream { reader, budget, ready: Bytes::new() }));
    let before = call.head.target.clone();
    let mut report = Report { created: Some(0), status: StatusCode::CREATED, ..Report::default() };
    let mut work = Work { permit, named, bytes, made: BTreeSet::new() };
    let done = work.all(call, &mut report).await;
    call.head.target = before;
    if let Err(error) = done {
        report.status = error.status;
        report.body = error.message;
    } else if report.created == Some(0) && report.errors.is_empty() {
        report.status = StatusCode::BAD_REQUEST;
        report.body = "Invalid Tar File: No Valid Files".to_owned();
    }
    Ok(bulk::extracted(call, report))
}

struct Work<'a> {
    permit: &'a AccountPermit,
    named: &'a Named,
    bytes: Rc<RefCell<Bytestream>>,
    /// The containers that this archive made, or found.
    made: BTreeSet<String>,
}

impl Work<'_> {
    // The stream is borrowed by one at a time: by this loop, or by the object that is being written.
    #[allow(clippy::await_holding_refcell_ref)]
    async fn all(&mut self, call: &mut Call, report: &mut Report) -> SwiftResult<()> {
        let (mut path, mut size) = (None, None);
        loop {
            let block = self.bytes.borrow_mut().exactly(BLOCK as u64).await?;
            let Some(block) = block else { return Ok(()) };
            let Some(member) = parse_header(&block).map_err(damaged)? else {
                // What follows are more zeros.
                while self.bytes.borrow_mut().some(u64::MAX).await?.is_some() {}
                return Ok(());
            };
            match member.kind {
                b'L' | b'x' | b'g' => {
                    if member.size > EXTENSION_BYTES_MAX {
                        return Err(damaged("a name is too long"));
                    }
                    let text = self.bytes.borrow_mut().exactly(member.size).await?;
                    let text = text.ok_or_else(|| damaged("it ends too early"))?;
                    self.bytes.borrow_mut().skip(filling(member.size)).await?;
                    match member.kind {
                        b'L' => {
                            let end = text.iter().position(|byte| *byte == 0);
                            let name = text[..end.unwrap_or(text.len())].to_vec();
                            path = String::from_utf8(name).ok();
                        }
                        b'x' => {
                            let pax = parse_pax(&text).ok_or_else(|| damaged("a pax header"))?;
                            (path, size) = (pax.0.or(path), pax.1.or(size));
                        }
                        _ => {}
                    }
                }
                kind => {
                    let name = path.take().unwrap_or(member.name);
                    let length = size.take().unwrap_or(member.size);
                    if matches!(kind, b'0' | 0) && !name.ends_with('/') {
                        self.file(call, &name, length, report).await?;
                        if report.errors.len() >= FAILURES_MAX {
                            return Err(damaged("too many files cannot be taken"));
                        }
                    } else {
                        self.bytes.borrow_mut().skip(length).await?;
                    }
                    self.bytes.borrow_mut().skip(filling(length)).await?;
                }
            }
        }
    }

    /// Takes one file. What is wrong with it is told, and its bytes are passed over.
    #[allow(clippy::await_holding_refcell_ref)]
    async fn file(
        &mut self,
        call: &mut Call,
        name: &str,
        size: u64,
        report: &mut Report,
    ) -> SwiftResult<()> {
        let name = name.trim_start_matches("./").trim_start_matches('/');
        let prefix = self.named.object.as_deref().map(|o| format!("{}/", o.trim_end_matches('/')));
        let place = match &self.named.container {
            Some(container) => {
                Some((container.clone(), format!("{}{name}", prefix.unwrap_or_default())))
            }
            None => name.split_once('/').map(|(c, o)| (c.to_owned(), o.to_owned())),
        };
        let Some((container, object)) = place.filter(|(_, object)| !object.is_empty()) else {
            // Below an account, a file without a folder has no container.
            return self.bytes.borrow_mut().skip(size).await;
        };
        let left = Rc::new(RefCell::new(size));
        let done = self.store(call, &container, &object, size, left.clone()).await;
        let rest = *left.borrow();
        self.bytes.borrow_mut().skip(rest).await?;
        match done {
            Ok(()) => report.created = report.created.map(|created| created + 1),
            Err(error) => report.failed(format!("/{container}/{object}"), error.status),
        }
        Ok(())
    }

    async fn store(
        &mut self,
        call: &mut Call,
        container: &str,
        object: &str,
        size: u64,
        left: Rc<RefCell<u64>>,
    ) -> SwiftResult<()> {
        object::check_name(object)?;
        if size > PIECE_OBJECT_BYTES_MAX {
            return Err(SwiftError::new(StatusCode::PAYLOAD_TOO_LARGE, "The file is too large."));
        }
        self.open_container(call, container).await?;
        call.head.target.key = Some(object.to_owned());
        let leave = access::container(call, self.permit, Operation::PutObject).await?;
        let bucket = leave.bucket().clone();
        quota::check(call, self.permit, &bucket, Some(size)).await?;
        let key = Bytes::copy_from_slice(object.as_bytes());
        legacy::keep(call, self.permit, &bucket, &key).await?;
        let kind = object::guessed(object).to_owned();
        let headers: BTreeMap<String, String> = [("content-type".to_owned(), kind)].into();
        let described = object::described(headers, metadata::of_object(&call.head.headers)?);
        let new = NewObject {
            bucket,
            key,
            condition: Condition::default(),
            described,
            sharing: access::sharing(&leave),
            listed: BTreeMap::new(),
        };
        let mut reader = BodyReader::new(Source::Local(self.stretch(left)), None, size);
        let algorithm = Some(Algorithm::Crc64Nvme);
        let inspector = Inspector::new(&call.payload, Announced::default(), algorithm);
        store(call, new, &mut reader, inspector).await?;
        Ok(())
    }

    /// The next bytes of the archive as a stream; `left` counts down.
    #[allow(clippy::await_holding_refcell_ref)]
    fn stretch(
        &self,
        left: Rc<RefCell<u64>>,
    ) -> stream::LocalBoxStream<'static, crate::s3::error::S3Result<Bytes>> {
        let bytes = self.bytes.clone();
        stream::unfold((bytes, left), |(bytes, left)| async move {
            let most = *left.borrow();
            if most == 0 {
                return None;
            }
            let some = bytes.borrow_mut().some(most).await;
            let item = match some {
                Ok(None) => return None,
                Ok(Some(some)) => {
                    *left.borrow_mut() -= some.len() as u64;
                    Ok(some)
                }
                Err(error) => Err(error),
            };
            Some((item, (bytes, left)))
        })
        .boxed_local()
    }

    /// Makes the container of a file, once, where the archive names it.
    async fn open_container(&mut self, call: &mut Call, container: &str) -> SwiftResult<()> {
        let known = access::bucket_name(call, self.permit.id(), container).await?;
        call.head.target.key = None;
        call.head.target.bucket = Some(known.clone().unwrap_or_else(|| container.to_owned()));
        if known.is_some() || self.named.container.is_some() {
            return Ok(());
        }
        if self.made.len() >= CONTAINERS_MAX {
            return Err(SwiftError::bad_request("The archive has too many containers."));
        }
        container::put(call, self.permit, container).await?;
        self.made.insert(container.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, size: &str, kind: u8) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..124 + size.len()].copy_from_slice(size.as_bytes());
        block[156] = kind;
        block[257..262].copy_from_slice(b"ustar");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum::<u64>() + 8 * 32;
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block[155] = b' ';
        block
    }

    #[test]
    fn headers_are_read_and_checked() {
        let block = header("a/b.txt", "00000000013\0", b'0');
        let member = Member { name: "a/b.txt".into(), size: 11, kind: b'0' };
        assert_eq!(parse_header(&block), Ok(Some(member)));
        assert_eq!(parse_header(&[0; BLOCK]), Ok(None));
        let mut wrong = block;
        wrong[0] ^= 1;
        assert!(parse_header(&wrong).is_err());
        let mut large = vec![0x80; 1];
        large.extend([0, 0, 0]);
        large.extend(5u64.to_be_bytes());
        assert_eq!(number(&large), Some(5));
        assert_eq!((filling(0), filling(1), filling(512)), (0, 511, 0));
    }

    #[test]
    fn pax_headers_name_long_files() {
        let pax = parse_pax(b"18 path=long/name\n11 size=42\n").unwrap();
        assert_eq!(pax, (Some("long/name".to_owned()), Some(42)));
        assert!(parse_pax(b"x").is_none() && parse_pax(b"99 path=a\n").is_none());
    }
}
