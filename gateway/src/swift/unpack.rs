//! Unpacking `tar.gz` and `tar.bz2` as they arrive.
//!
//! What a packed archive says it holds can be a thousand times its own size, so nothing here goes by its size:
//! bytes are unpacked when somebody wants them, [`UNPACKED_PIECE_BYTES`] at a time. What one archive takes of memory
//! is that, the piece of it that arrived last, and the tables of its form ([`TABLES_BYTES_MAX`]); how many
//! are unpacked at once is bounded ([`UNPACKINGS_MAX`]), and how much one of them unpacks to
//! ([`UNPACKED_BYTES_MAX`]). Unpacking is work, and done on another thread than that of the connections.
//!
//! Forms: RFC 1952 (gzip, also several members one behind the other) and bzip2 (also several streams). Sums are
//! checked by the crates that read the forms.

use super::error::{SwiftError, SwiftResult};
use crate::s3::error::{Code, S3Error, S3Result};
use bytes::{Buf, Bytes};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use http::StatusCode;
use std::io::{self, BufRead, ErrorKind, Read};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that are unpacked at a time.
const UNPACKED_PIECE_BYTES: usize = 64 << 10;

/// What the tables of either form have at most: those of bzip2 grow with the blocks that the archive announces.
const TABLES_BYTES_MAX: usize = 4 << 20;

/// All that unpacking may take of memory in a process.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Archives that are unpacked at once; more are answered 503.
const UNPACKINGS_MAX: usize = MEMORY_BYTES_MAX / TABLES_BYTES_MAX;

/// Most bytes that one archive unpacks to.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;

static PLACES: Semaphore = Semaphore::const_new(UNPACKINGS_MAX);

/// The packed bytes that are there, and whether there are more to come.
#[derive(Default)]
struct Arrived {
    bytes: Bytes,
    ended: bool,
}

impl Read for Arrived {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(out)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Arrived {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.bytes.is_empty() && !self.ended {
            true => Err(ErrorKind::WouldBlock.into()),
            false => Ok(&self.bytes),
        }
    }

    fn consume(&mut self, length: usize) {
        self.bytes.advance(length);
    }
}

enum Decoder {
    Gzip(MultiGzDecoder<Arrived>),
    Bzip2(Box<MultiBzDecoder<Arrived>>),
}

impl Decoder {
    fn arrived(&mut self) -> &mut Arrived {
        match self {
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Bzip2(decoder) => decoder.get_mut(),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Gzip(decoder) => decoder.read(out),
            Decoder::Bzip2(decoder) => decoder.read(out),
        }
    }
}

/// What unpacking came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// Some bytes, at least one.
    Bytes(Bytes),
    /// More of the archive is wanted.
    Starved,
    /// There are no more.
    End,
}

/// An archive that is being unpacked.
pub(super) struct Unpacker {
    /// `None` while it works, and after that was broken off.
    decoder: Option<Decoder>,
    /// Bytes that may still come of it.
    left: u64,
    _place: SemaphorePermit<'static>,
}

impl Unpacker {
    /// For what `extract-archive` asks for; `None` for an archive that is not packed.
    pub(super) fn of(form: &str) -> SwiftResult<Option<Unpacker>> {
        let decoder = match form {
            "tar" => return Ok(None),
            "tar.gz" => Decoder::Gzip(MultiGzDecoder::new(Arrived::default())),
            "tar.bz2" => Decoder::Bzip2(MultiBzDecoder::new(Arrived::default()).into()),
            _ => return Err(SwiftError::bad_request("Unsupported archive format")),
        };
        let place = PLACES.try_acquire().map_err(|_| {
            SwiftError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "{UNPACKINGS_MAX} archives are being unpacked, the most at once. Try again."
                ),
            )
        })?;
        Ok(Some(Unpacker { decoder: Some(decoder), left: UNPACKED_BYTES_MAX, _place: place }))
    }

    /// Gives it more of the archive, when it is starved; `None` at the end.
    pub(super) fn feed(&mut self, bytes: Option<Bytes>) {
        if let Some(decoder) = &mut self.decoder {
            let ended = bytes.is_none();
            *decoder.arrived() = Arrived { bytes: bytes.unwrap_or_default(), ended };
        }
    }

    /// Unpacks some. Errors: `InvalidRequest` for what is damaged, or of another form; `EntityTooLarge`.
    pub(super) async fn next(&mut self) -> S3Result<Unpacked> {
        let mut decoder = self.decoder.take().ok_or(Code::InternalError)?;
        let work = move || {
            let mut out = vec![0; UNPACKED_PIECE_BYTES];
            let read = decoder.read(&mut out);
            (decoder, out, read)
        };
        let (decoder, mut out, read) =
            tokio::task::spawn_blocking(work).await.map_err(|error| {
                tracing::error!(%error, "unpacking an archive failed");
                S3Error::from(Code::InternalError)
            })?;
        self.decoder = Some(decoder);
        match read {
            Ok(0) => Ok(Unpacked::End),
            Ok(length) => {
                self.left = self.left.checked_sub(length as u64).ok_or_else(|| {
                    Code::EntityTooLarge.with(format!(
                        "The archive unpacks to more than {UNPACKED_BYTES_MAX} bytes."
                    ))
                })?;
                out.truncate(length);
                Ok(Unpacked::Bytes(out.into()))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Unpacked::Starved),
            Err(error) => {
                Err(Code::InvalidRequest
                    .with(format!("Invalid Tar File: it does not unpack: {error}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).expect("in memory");
        out.finish().expect("in memory")
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        out.write_all(bytes).expect("in memory");
        out.finish().expect("in memory")
    }

    /// What a packed text that comes in pieces unpacks to, and the longest piece of that.
    async fn unpacked(form: &str, packed: &[u8], piece: usize) -> S3Result<(Vec<u8>, usize)> {
        let mut unpacker = Unpacker::of(form).expect("there is room").expect("it is packed");
        let mut pieces = packed.chunks(piece);
        let (mut whole, mut longest) = (Vec::new(), 0);
        loop {
            match unpacker.next().await? {
                Unpacked::Bytes(bytes) => {
                    longest = longest.max(bytes.len());
                    whole.extend_from_slice(&bytes);
                }
                Unpacked::Starved => unpacker.feed(pieces.next().map(Bytes::copy_from_slice)),
                Unpacked::End => return Ok((whole, longest)),
            }
        }
    }

    #[tokio::test]
    async fn both_forms_come_back_however_they_arrive() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for (form, pack) in [("tar.gz", gzip as fn(&[u8]) -> Vec<u8>), ("tar.bz2", bzip2)] {
            // Several members are one text.
            let packed = [pack(&text[..300_000]), pack(&text[300_000..])].concat();
            for piece in [3_001, 1 << 20] {
                let (whole, longest) = unpacked(form, &packed, piece).await.expect("whole");
                assert!(whole == text, "{form} {piece}");
                assert!(longest <= UNPACKED_PIECE_BYTES);
            }
            assert_eq!(unpacked(form, &pack(b"abc"), 1).await.expect("whole").0, b"abc");
        }
    }

    #[tokio::test]
    async fn what_is_damaged_is_told() {
        let text = vec![7; 100_000];
        for (form, pack) in [("tar.gz", gzip as fn(&[u8]) -> Vec<u8>), ("tar.bz2", bzip2)] {
            let packed = pack(&text);
            for end in [0, 1, 5, packed.len() / 2, packed.len() - 1] {
                let error = unpacked(form, &packed[..end], 64).await.expect_err("cut");
                assert_eq!(error.code, Code::InvalidRequest, "{form} {end}");
            }
            // The sum, which both have at their end.
            let mut wrong = packed.clone();
            let at = wrong.len() - 7;
            wrong[at] ^= 0x10;
            assert!(unpacked(form, &wrong, 64).await.is_err(), "{form}");
            let other = if form == "tar.gz" { "tar.bz2" } else { "tar.gz" };
            assert!(unpacked(other, &packed, 64).await.is_err());
        }
        assert!(
            Unpacker::of("zip").is_err() && Unpacker::of("tar").is_ok_and(|none| none.is_none())
        );
    }

    #[tokio::test]
    async fn a_bomb_comes_in_pieces_and_ends_at_its_bound() {
        let zeros = vec![0; 32 << 20];
        for (form, pack) in [("tar.gz", gzip as fn(&[u8]) -> Vec<u8>), ("tar.bz2", bzip2)] {
            let packed = pack(&zeros);
            assert!(packed.len() < zeros.len() / 500, "{form}: {}", packed.len());
            let mut unpacker = Unpacker::of(form).expect("there is room").expect("it is packed");
            unpacker.left = 20 << 20;
            unpacker.feed(Some(packed.into()));
            let mut bytes = 0;
            let error = loop {
                match unpacker.next().await {
                    Ok(Unpacked::Bytes(some)) if some.len() <= UNPACKED_PIECE_BYTES => {
                        bytes += some.len();
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.code, Code::EntityTooLarge);
            assert_eq!(bytes, 20 << 20);
        }
    }
}
