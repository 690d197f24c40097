//! Taking archives apart: `PUT ?extract-archive=tar` (`tar.gz`, `tar.bz2`) makes an object of every file in the
//! archive, as it arrives. Below an account the first folder of a name is the container, and is made if it is not
//! there; below a container or an object's name all are names of objects.
//!
//! Archives are POSIX ones, with names of the `ustar` form, of GNU tar (`L`) or of pax headers (`path`). A pax
//! header may also tell content type and metadata of a file, as `tar --xattrs` and libarchive write those that
//! are called `user.mime_type` and `user.meta.NAME`.

use super::access::{self, AccountPermit};
use super::arrival::{self, Arrival};
use super::bulk::{self, FAILURES_MAX, Report};
use super::error::{SwiftError, SwiftResult};
use super::path::Named;
use super::unpack::{Unpacked, Unpacker};
use super::{Call, container, metadata, object};
use crate::pace::Pace;
use crate::s3::Answer;
use crate::s3::error::S3Result;
use crate::s3::operations::write::PIECE_OBJECT_BYTES_MAX;
use crate::transfer::body::BodyReader;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tokio::sync::Mutex;

/// Most containers that one archive makes.
pub(super) const CONTAINERS_MAX: usize = 10_000;

/// Bytes of a block: headers are one, and files are filled up to whole ones.
const BLOCK: usize = 512;

/// Most bytes of a long name or of pax headers.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// Most bytes of a packed archive behind its end: filling, and then its sum.
const FILLING_BYTES_MAX: u64 = 1 << 20;

/// How the attributes of a file are called in pax headers, before their own names.
const ATTRIBUTES: [&str; 2] = ["SCHILY.xattr.user.", "LIBARCHIVE.xattr.user."];

/// What a header of an archive says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    /// `None` for one that is not UTF-8: where the name is longer than the header, it is cut anywhere.
    name: Option<String>,
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
        field[..end].to_vec()
    };
    let (mut name, prefix) = (text(&block[..100]), text(&block[345..500]));
    if block[257..262] == *b"ustar" && block[262] == 0 && !prefix.is_empty() {
        name = [prefix, b"/".to_vec(), name].concat();
    }
    let name = String::from_utf8(name).ok();
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

/// What a pax header says of the file behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pax {
    path: Option<String>,
    size: Option<u64>,
    content_type: Option<String>,
    /// By the names of headers.
    metadata: HeaderMap,
}

/// Reads a pax header: lines of `LENGTH NAME=VALUE`.
fn parse_pax(mut text: &[u8]) -> Option<Pax> {
    let mut pax = Pax::default();
    while !text.is_empty() {
        let space = text.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
        let line = text.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (std::str::from_utf8(&line[..equals]).ok()?, &line[equals + 1..]);
        text = text.get(length..)?;
        // Others may have values that are no text.
        let attribute = ATTRIBUTES.iter().find_map(|start| name.strip_prefix(start));
        match (name, attribute) {
            ("path", _) => pax.path = Some(String::from_utf8(value.to_vec()).ok()?),
            ("size", _) => pax.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
            (_, Some("mime_type")) => pax.content_type = String::from_utf8(value.to_vec()).ok(),
            (_, Some(attribute)) => {
                let Some(name) = attribute.strip_prefix("meta.") else { continue };
                let name = format!("x-object-meta-{}", name.to_ascii_lowercase());
                let name = name.parse::<HeaderName>().ok()?;
                pax.metadata.insert(name, HeaderValue::from_bytes(value).ok()?);
            }
            _ => {}
        }
    }
    Some(pax)
}

/// The bytes of the archive, in whatever pieces somebody wants them.
struct Bytestream {
    reader: BodyReader,
    budget: crate::transfer::Budget,
    /// For an archive that is packed.
    unpacker: Option<Unpacker>,
    ready: Bytes,
}

impl Bytestream {
    /// The next bytes, in whatever amount; `None` at the end.
    async fn arrive(&mut self) -> S3Result<Option<Bytes>> {
        loop {
            if let Some(unpacker) = &mut self.unpacker {
                match unpacker.next().await? {
                    Unpacked::Bytes(bytes) => return Ok(Some(bytes)),
                    Unpacked::End => return Ok(None),
                    Unpacked::Starved => {}
                }
            }
            let piece = self.reader.piece(&self.budget).await?.map(|(piece, _)| piece.data);
            match &mut self.unpacker {
                Some(unpacker) => unpacker.feed(piece),
                None => return Ok(piece),
            }
        }
    }

    /// At most so many bytes, at least one; `None` at the end.
    async fn some(&mut self, most: u64) -> S3Result<Option<Bytes>> {
        while self.ready.is_empty() {
            match self.arrive().await? {
                Some(bytes) => self.ready = bytes,
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

    /// Reads what is behind the end of the archive.
    async fn end(&mut self) -> SwiftResult<()> {
        let mut passed = 0u64;
        while let Some(some) = self.some(u64::MAX).await? {
            passed += some.len() as u64;
            // What is not packed is as long as the request.
            if self.unpacker.is_some() && passed > FILLING_BYTES_MAX {
                return Err(damaged("it goes on behind its end"));
            }
        }
        Ok(())
    }

    /// Throws away what of the request is still to come, within bounds, so that the answer is read.
    async fn give_up(&mut self) {
        crate::s3::drain(&mut self.reader).await;
    }
}

fn damaged(why: &str) -> SwiftError {
    SwiftError::bad_request(format!("Invalid Tar File: {why}"))
}

/// Without its name a file would be taken for another.
fn not_text() -> SwiftError {
    damaged("a name is not UTF-8")
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
    access::many(call)?;
    let form = call.head.query.value("extract-archive").unwrap_or_default();
    let unpacker = Unpacker::of(form)?;
    let (reader, budget) = (object::body(call)?, call.service.budget.clone());
    let bytes = Rc::new(Mutex::new(Bytestream { reader, budget, unpacker, ready: Bytes::new() }));
    let before = call.head.target.clone();
    let mut report = Report { created: Some(0), status: StatusCode::CREATED, ..Report::default() };
    let mut work = Work { permit, named, bytes: bytes.clone(), made: BTreeSet::new() };
    let done = work.all(call, &mut report).await;
    call.head.target = before;
    if let Err(error) = done {
        report.status = error.status;
        report.body = error.message;
        bytes.lock().await.give_up().await;
    } else if report.created == Some(0) && report.errors.is_empty() {
        report.status = StatusCode::BAD_REQUEST;
        report.body = "Invalid Tar File: No Valid Files".to_owned();
    }
    Ok(bulk::extracted(call, report))
}

struct Work<'a> {
    permit: &'a AccountPermit,
    named: &'a Named,
    /// Read by one at a time: by this loop, or by the object that is being written.
    bytes: Rc<Mutex<Bytestream>>,
    /// The containers that this archive made, or found.
    made: BTreeSet<String>,
}

impl Work<'_> {
    async fn skip(&self, length: u64) -> SwiftResult<()> {
        self.bytes.lock().await.skip(length).await
    }

    async fn all(&mut self, call: &mut Call, report: &mut Report) -> SwiftResult<()> {
        let mut pax = Pax::default();
        loop {
            let block = self.bytes.lock().await.exactly(BLOCK as u64).await?;
            let Some(block) = block else { return Ok(()) };
            let Some(member) = parse_header(&block).map_err(damaged)? else {
                return self.bytes.lock().await.end().await;
            };
            if matches!(member.kind, b'L' | b'x' | b'g') {
                self.extension(&member, &mut pax).await?;
                continue;
            }
            let pax = std::mem::take(&mut pax);
            let length = pax.size.unwrap_or(member.size);
            let name = pax.path.clone().or(member.name).ok_or_else(not_text)?;
            if matches!(member.kind, b'0' | 0) && !name.ends_with('/') {
                self.file(call, &name, length, &pax, report).await?;
                if report.errors.len() >= FAILURES_MAX {
                    return Err(damaged("too many files cannot be taken"));
                }
            } else {
                self.skip(length).await?;
            }
            self.skip(filling(length)).await?;
        }
    }

    /// Reads what stands before a file and belongs to it.
    async fn extension(&self, member: &Member, pax: &mut Pax) -> SwiftResult<()> {
        if member.size > EXTENSION_BYTES_MAX {
            return Err(damaged("a name is too long"));
        }
        let text = self.bytes.lock().await.exactly(member.size).await?;
        let text = text.ok_or_else(|| damaged("it ends too early"))?;
        self.skip(filling(member.size)).await?;
        match member.kind {
            b'L' => {
                let end = text.iter().position(|byte| *byte == 0);
                let name = text[..end.unwrap_or(text.len())].to_vec();
                pax.path = Some(String::from_utf8(name).map_err(|_| not_text())?);
            }
            b'x' => {
                let before = pax.path.take();
                *pax = parse_pax(&text).ok_or_else(|| damaged("a pax header"))?;
                pax.path = pax.path.take().or(before);
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes one file. What is wrong with it is told, and its bytes are passed over.
    async fn file(
        &mut self,
        call: &mut Call,
        name: &str,
        size: u64,
        pax: &Pax,
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
            return self.skip(size).await;
        };
        let left = Rc::new(Cell::new(size));
        let done = self.store(call, &container, &object, pax, left.clone()).await;
        self.skip(left.get()).await?;
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
        pax: &Pax,
        left: Rc<Cell<u64>>,
    ) -> SwiftResult<()> {
        object::check_name(object)?;
        let size = left.get();
        if size > PIECE_OBJECT_BYTES_MAX {
            return Err(SwiftError::new(StatusCode::PAYLOAD_TOO_LARGE, "The file is too large."));
        }
        let mut metadata = metadata::of_object(&call.head.headers)?;
        metadata.extend(metadata::of_object(&pax.metadata)?);
        metadata::check_all(&metadata)?;
        self.open_container(call, container).await?;
        let kind = pax.content_type.clone().unwrap_or_else(|| object::guessed(object).to_owned());
        let headers: BTreeMap<String, String> = [("content-type".to_owned(), kind)].into();
        let (bytes, pace) = (self.stretch(left), Pace::default());
        let arrival = Arrival { size: Some(size), headers, metadata, bytes, pace };
        arrival::put(call, self.permit, object, arrival).await?;
        Ok(())
    }

    /// The next bytes of the archive as a stream; `left` counts down.
    fn stretch(&self, left: Rc<Cell<u64>>) -> LocalBoxStream<'static, S3Result<Bytes>> {
        let bytes = self.bytes.clone();
        stream::unfold((bytes, left), |(bytes, left)| async move {
            if left.get() == 0 {
                return None;
            }
            let some = bytes.lock().await.some(left.get()).await;
            let item = match some {
                Ok(None) => return None,
                Ok(Some(some)) => {
                    left.set(left.get() - some.len() as u64);
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
        let member = Member { name: Some("a/b.txt".into()), size: 11, kind: b'0' };
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
        assert_eq!((pax.path.as_deref(), pax.size), (Some("long/name"), Some(42)));
        let described = b"38 SCHILY.xattr.user.mime_type=text/x\n35 LIBARCHIVE.xattr.user.meta.A=\xc3\xa9\n25 SCHILY.other.thing=\xff\xfe\n";
        let pax = parse_pax(described).unwrap();
        assert_eq!(pax.content_type.as_deref(), Some("text/x"));
        assert_eq!(pax.metadata["x-object-meta-a"].as_bytes(), "é".as_bytes());
        assert!(parse_pax(b"x").is_none() && parse_pax(b"99 path=a\n").is_none());
    }
}
