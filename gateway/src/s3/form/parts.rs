//! Forms with any number of files, part by part. Swift has such; a form of S3 ends with its file
//! ([`super::Form`]).

use super::{FIELDS_BYTES_MAX, FIELDS_MAX, Scanner, malformed, parameter};
use crate::s3::error::{Code, S3Result};
use crate::transfer::body::Source;
use bytes::Bytes;

/// A part of a form, by its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The field's name, in small letters.
    pub name: Option<String>,
    /// The name of the file on the client's side; `None` for what is no file.
    pub filename: Option<String>,
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Content-Encoding`
    pub content_encoding: Option<String>,
}

impl Part {
    fn parse(head: &str) -> S3Result<Part> {
        let header = |wanted: &str| {
            head.split("\r\n").find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
            })
        };
        let owned = |name: &str| header(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let disposition = header("content-disposition").ok_or_else(malformed)?;
        let (kind, parameters) = disposition.split_once(';').unwrap_or((disposition, ""));
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err(malformed());
        }
        Ok(Part {
            name: parameter(parameters, "name").map(|name| name.to_ascii_lowercase()),
            filename: parameter(parameters, "filename").filter(|name| !name.is_empty()),
            content_type: owned("content-type"),
            content_encoding: owned("content-encoding"),
        })
    }
}

/// A form that is being read. What it holds: the bytes that arrived last, and fields of at most
/// [`FIELDS_BYTES_MAX`].
pub struct Parts {
    scanner: Scanner,
    opened: bool,
    fields: usize,
    field_bytes: usize,
}

impl Parts {
    /// Nothing is read yet.
    pub fn new(source: Source, boundary: &str) -> Parts {
        let scanner = Scanner::new(source, boundary);
        Parts { scanner, opened: false, fields: 0, field_bytes: 0 }
    }

    /// The next part; `None` where the form ends. The part before must have been read to its end. Errors:
    /// `MalformedPOSTRequest`, `IncompleteBody`, `MaxPostPreDataLengthExceededError`.
    pub async fn next(&mut self) -> S3Result<Option<Part>> {
        if !self.opened {
            self.scanner.open().await?;
            self.opened = true;
        }
        let Some(head) = self.scanner.head().await? else {
            self.scanner.pass_over().await?;
            return Ok(None);
        };
        self.fields += 1;
        self.field_bytes = self.field_bytes.saturating_add(head.len());
        if self.fields > FIELDS_MAX || self.field_bytes > FIELDS_BYTES_MAX {
            return Err(Code::MaxPostPreDataLengthExceededError.into());
        }
        Part::parse(&head).map(Some)
    }

    /// The value of a part that is a field.
    pub async fn value(&mut self) -> S3Result<String> {
        let value = self.scanner.short_value().await?;
        self.field_bytes = self.field_bytes.saturating_add(value.len());
        Ok(value)
    }

    /// More bytes of a part that is a file, as they come; `None` where it ends.
    pub async fn data(&mut self) -> S3Result<Option<Bytes>> {
        self.scanner.data().await
    }

    /// What has not been read yet, as it comes, to be thrown away.
    pub fn into_source(self) -> Source {
        self.scanner.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};

    /// Name or file name, type and bytes of each part, of a form that comes in pieces of so many bytes.
    async fn read(text: &str, piece: usize) -> Result<Vec<(String, String, String)>, Code> {
        let pieces: Vec<_> =
            text.as_bytes().chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut parts = Parts::new(Source::Local(stream::iter(pieces).boxed_local()), "sep");
        let mut all = Vec::new();
        while let Some(part) = parts.next().await.map_err(|error| error.code)? {
            let kind = part.content_type.unwrap_or_default();
            let Some(filename) = part.filename else {
                let value = parts.value().await.map_err(|error| error.code)?;
                all.push((part.name.unwrap_or_default(), kind, value));
                continue;
            };
            let mut bytes = Vec::new();
            while let Some(data) = parts.data().await.map_err(|error| error.code)? {
                bytes.extend_from_slice(&data);
            }
            all.push((filename, kind, String::from_utf8_lossy(&bytes).into_owned()));
        }
        Ok(all)
    }

    const FORM: &str = "--sep\r\nContent-Disposition: form-data; name=\"Expires\"\r\n\r\n12\r\n\
        --sep\r\nContent-Disposition: form-data; name=\"a\"; filename=\"x.txt\"\r\n\
        Content-Type: text/x\r\n\r\none\r\n--se\r\n\r\n\
        --sep\r\nContent-Disposition: form-data; name=\"b\"; filename=\"y\"\r\n\r\n\r\n\
        --sep--\r\n";

    #[tokio::test]
    async fn files_and_fields_come_in_turn_however_they_arrive() {
        let part = |name: &str, kind: &str, value: &str| (name.into(), kind.into(), value.into());
        let expected = vec![
            part("expires", "", "12"),
            part("x.txt", "text/x", "one\r\n--se\r\n"),
            part("y", "", ""),
        ];
        for piece in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(read(FORM, piece).await, Ok(expected.clone()), "{piece}");
        }
    }

    #[tokio::test]
    async fn what_breaks_off_or_is_too_much_is_refused() {
        for end in 0..FORM.len() - 2 {
            let done = read(&FORM[..end], 64).await;
            assert!(matches!(done, Err(Code::IncompleteBody)), "{end} {done:?}");
        }
        let field = "--sep\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nv\r\n";
        let many = format!("{}--sep--\r\n", field.repeat(FIELDS_MAX + 1));
        assert_eq!(read(&many, 4096).await, Err(Code::MaxPostPreDataLengthExceededError));
        let long = FORM.replace("12", &"1".repeat(FIELDS_BYTES_MAX + 1));
        assert_eq!(read(&long, 4096).await, Err(Code::MaxPostPreDataLengthExceededError));
        let other = FORM.replace("form-data", "attachment");
        assert_eq!(read(&other, 4096).await, Err(Code::MalformedPOSTRequest));
        assert_eq!(read("nothing of the kind", 4096).await, Err(Code::MalformedPOSTRequest));
    }
}
