//! Forms that browsers send (`multipart/form-data`), read as they stream by.
//!
//! A form is parts between delimiters: fields with a value, and the file. The fields come first and are
//! bounded; what comes behind the file is passed over, as in S3. The file itself is never held: it is a
//! stream that ends where its delimiter begins. A form whose connection ends before that is incomplete.

pub mod parts;

use super::error::{Code, S3Error, S3Result};
use crate::transfer::body::Source;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use std::ops::RangeInclusive;

/// Most bytes of all fields before the file, names and framing included.
pub const FIELDS_BYTES_MAX: usize = 20 << 10;

/// Most fields.
pub const FIELDS_MAX: usize = 100;

/// Most bytes of the headers of one part.
const HEAD_BYTES_MAX: usize = 4 << 10;

/// Most bytes behind the file that are passed over.
const EPILOGUE_BYTES_MAX: usize = 64 << 10;

/// Longest boundary, by RFC 2046.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The boundary that a `Content-Type` announces; `None` if it is no form.
pub fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameter(parameters, "boundary")?;
    (1..=BOUNDARY_BYTES_MAX).contains(&value.len()).then_some(value)
}

/// The value of a parameter in `; name=value; name="value"`.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after);
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// A value, quoted or not, and what is behind it. Only a quote is ever escaped: browsers write the
/// backslash of a path as it is.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_once(';').unwrap_or((text, ""));
        return (value.trim().to_owned(), rest);
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &quoted[at + 1..]),
            '\\' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                out.push('"');
            }
            c => out.push(c),
        }
    }
    (out, "")
}

fn malformed() -> S3Error {
    Code::MalformedPOSTRequest.into()
}

/// What a part is, by its headers.
#[derive(Debug, PartialEq, Eq)]
struct PartHead {
    name: String,
    filename: Option<String>,
}

impl PartHead {
    fn parse(head: &str) -> S3Result<PartHead> {
        let disposition = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        let (kind, parameters) = disposition
            .and_then(|disposition| disposition.split_once(';'))
            .ok_or_else(malformed)?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err(malformed());
        }
        let name = parameter(parameters, "name").ok_or_else(malformed)?;
        Ok(PartHead { name, filename: parameter(parameters, "filename") })
    }
}

/// What comes before the file of a form.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields {
    /// In their order, names as they came.
    pub fields: Vec<(String, String)>,
    /// The name of the file on the client's side.
    pub filename: String,
}

/// A form that is being read.
pub struct Form {
    scanner: Scanner,
}

impl Form {
    /// Nothing is read yet.
    pub fn new(source: Source, boundary: &str) -> Form {
        Form { scanner: Scanner::new(source, boundary) }
    }

    /// Reads the fields, up to the file. Errors: `MalformedPOSTRequest`, `IncompleteBody`,
    /// `MaxPostPreDataLengthExceededError`, `IncorrectNumberOfFilesInPostRequest` if there is no file.
    pub async fn fields(&mut self) -> S3Result<Fields> {
        let scanner = &mut self.scanner;
        scanner.open().await?;
        let mut fields = Vec::new();
        loop {
            if scanner.taken > FIELDS_BYTES_MAX || fields.len() > FIELDS_MAX {
                return Err(Code::MaxPostPreDataLengthExceededError.into());
            }
            let Some(head) = scanner.part_head().await? else {
                return Err(Code::IncorrectNumberOfFilesInPostRequest.into());
            };
            if head.name.eq_ignore_ascii_case("file") {
                // Some browsers send a whole path.
                let filename = head.filename.unwrap_or_default();
                let filename = filename.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
                return Ok(Fields { fields, filename });
            }
            let value = scanner.short_value().await?;
            fields.push((head.name, value));
        }
    }

    /// Once the fields are read: the bytes of the file as they come. The stream fails with
    /// `EntityTooSmall` or `EntityTooLarge` if there are fewer or more than allowed, and with
    /// `IncompleteBody` if the form breaks off.
    pub fn file(self, sizes: RangeInclusive<u64>) -> LocalBoxStream<'static, S3Result<Bytes>> {
        let state = Some((self.scanner, 0u64));
        stream::unfold(state, move |state| {
            let sizes = sizes.clone();
            async move {
                let (mut scanner, size) = state?;
                match scanner.file_data(size, &sizes).await {
                    Ok(Some(data)) => {
                        let size = size + data.len() as u64;
                        Some((Ok(data), Some((scanner, size))))
                    }
                    Ok(None) => None,
                    // Who drains the stream goes on.
                    Err(error) if error.code == Code::EntityTooLarge => {
                        Some((Err(error), Some((scanner, 0))))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            }
        })
        .fuse()
        .boxed_local()
    }

    /// What has not been read yet, as it comes, to be thrown away.
    pub fn into_source(self) -> Source {
        self.scanner.source
    }
}

/// Finds delimiters in a stream.
struct Scanner {
    source: Source,
    /// CRLF, two hyphens, the boundary.
    delimiter: Vec<u8>,
    /// Arrived and not yet taken.
    buffer: Bytes,
    /// Bytes taken so far.
    taken: usize,
}

impl Scanner {
    fn new(source: Source, boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Scanner { source, delimiter, buffer: Bytes::new(), taken: 0 }
    }

    /// Waits for more bytes behind those that are there.
    async fn more(&mut self) -> S3Result<()> {
        let more = self.source.arrive().await?.ok_or(Code::IncompleteBody)?;
        self.buffer = match self.buffer.is_empty() {
            true => more,
            false => {
                let mut joined = BytesMut::with_capacity(self.buffer.len() + more.len());
                joined.extend_from_slice(&self.buffer);
                joined.extend_from_slice(&more);
                joined.freeze()
            }
        };
        Ok(())
    }

    fn take(&mut self, count: usize) -> Bytes {
        self.taken = self.taken.saturating_add(count);
        self.buffer.split_to(count)
    }

    /// Takes the first delimiter, which has no line before it.
    async fn open(&mut self) -> S3Result<()> {
        let first = self.delimiter.len() - 2;
        while self.buffer.len() < first {
            self.more().await?;
        }
        match self.buffer[..first] == self.delimiter[2..] {
            true => {
                self.take(first);
                Ok(())
            }
            false => Err(malformed()),
        }
    }

    /// What the next part is; `None` where the form ends. The delimiter before it is taken.
    async fn part_head(&mut self) -> S3Result<Option<PartHead>> {
        let head = self.head().await?;
        head.map(|head| PartHead::parse(&head)).transpose()
    }

    /// The headers of the next part.
    async fn head(&mut self) -> S3Result<Option<String>> {
        while self.buffer.len() < 2 {
            self.more().await?;
        }
        match &self.take(2)[..] {
            b"--" => return Ok(None),
            b"\r\n" => {}
            _ => return Err(malformed()),
        }
        loop {
            let end = self.buffer.windows(4).position(|window| window == b"\r\n\r\n");
            match end {
                Some(end) if end <= HEAD_BYTES_MAX => {
                    let head = self.take(end + 4);
                    let head = std::str::from_utf8(&head[..end]).map_err(|_| malformed())?;
                    return Ok(Some(head.to_owned()));
                }
                None if self.buffer.len() <= HEAD_BYTES_MAX => self.more().await?,
                _ => return Err(malformed()),
            }
        }
    }

    /// The value of a field.
    async fn short_value(&mut self) -> S3Result<String> {
        let mut value = Vec::new();
        while let Some(data) = self.data().await? {
            if value.len() + data.len() > FIELDS_BYTES_MAX {
                return Err(Code::MaxPostPreDataLengthExceededError.into());
            }
            value.extend_from_slice(&data);
        }
        String::from_utf8(value).map_err(|_| malformed())
    }

    /// More bytes of the part; `None` where it ends. Its delimiter is taken then.
    async fn data(&mut self) -> S3Result<Option<Bytes>> {
        loop {
            match find(&self.buffer, &self.delimiter) {
                Found::At(0) => {
                    self.take(self.delimiter.len());
                    return Ok(None);
                }
                Found::At(end) | Found::Perhaps(end) if end > 0 => return Ok(Some(self.take(end))),
                Found::No if !self.buffer.is_empty() => {
                    return Ok(Some(self.take(self.buffer.len())));
                }
                _ => self.more().await?,
            }
        }
    }

    /// More bytes of the file, of which `size` have come; `None` where the whole form has ended.
    async fn file_data(
        &mut self,
        size: u64,
        sizes: &RangeInclusive<u64>,
    ) -> S3Result<Option<Bytes>> {
        let Some(data) = self.data().await? else {
            self.pass_over().await?;
            return match size < *sizes.start() {
                false => Ok(None),
                true => Err(Code::EntityTooSmall
                    .with(Code::EntityTooSmall.message())
                    .detail("ProposedSize", size.to_string())
                    .detail("MinSizeAllowed", sizes.start().to_string())),
            };
        };
        match size + data.len() as u64 > *sizes.end() {
            false => Ok(Some(data)),
            true => Err(Code::EntityTooLarge
                .with(Code::EntityTooLarge.message())
                .detail("MaxSizeAllowed", sizes.end().to_string())),
        }
    }

    /// What is behind the file is of no interest, but has to come.
    async fn pass_over(&mut self) -> S3Result<()> {
        let mut passed = self.buffer.len();
        while let Some(data) = self.source.arrive().await? {
            passed += data.len();
            if passed > EPILOGUE_BYTES_MAX {
                return Err(malformed());
            }
        }
        Ok(())
    }
}

/// Where a delimiter is in some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    At(usize),
    /// The bytes end with what may be the beginning of one, here.
    Perhaps(usize),
    No,
}

fn find(bytes: &[u8], delimiter: &[u8]) -> Found {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == delimiter[0]) {
        let at = from + at;
        let there = &bytes[at..bytes.len().min(at + delimiter.len())];
        if delimiter.starts_with(there) {
            return match there.len() == delimiter.len() {
                true => Found::At(at),
                false => Found::Perhaps(at),
            };
        }
        from = at + 1;
    }
    Found::No
}

#[cfg(test)]
mod tests;
