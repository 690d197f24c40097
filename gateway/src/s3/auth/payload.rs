//! What the signature says about the body, and checking it while the body streams by.
//!
//! Framing is taken off by [`ChunkDecoder`], which only parses; everything that costs processor time
//! (entity tag, checksums, hashes of chunks) is done by the [`Inspector`], which can be moved to another
//! thread with each piece.

use super::super::checksum::{Algorithm, Announced, Hasher};
use super::super::error::{Code, S3Error, S3Result};
use super::super::request::Head;
use super::canonical::Signature;
use super::keys::sign;
use crate::transfer::md5::Md5;

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use ring::hmac::Key;
use store_base::bucket::Checksum;
use subtle::ConstantTimeEq;

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Longest line of chunk framing: 16 hex digits, the signature, and what extensions may come.
const LINE_BYTES_MAX: usize = 1024;

/// A signed chunk has so many bytes at least, unless it is the last with any: each costs a signature.
const SIGNED_CHUNK_BYTES_MIN: u64 = 8 << 10;

/// Most trailers.
const TRAILERS_MAX: usize = 16;

/// How the body is framed and what is to be checked.
pub enum PayloadMode {
    /// Nothing is known about the bytes.
    Unsigned,
    /// Their SHA-256 is.
    Hashed([u8; 32]),
    /// `aws-chunked`, each chunk signed, perhaps a signed trailer.
    SignedChunks {
        /// The chain of signatures.
        chain: Box<ChunkChain>,
        /// Whether there is a trailer.
        trailer: bool,
    },
    /// `aws-chunked`, not signed, with a trailer.
    UnsignedTrailer,
}

impl PayloadMode {
    /// From `x-amz-content-sha256`. `chain` continues the signature of the head, if it was signed.
    pub fn from_header(head: &Head, chain: Option<ChunkChain>) -> S3Result<PayloadMode> {
        let value = match head.query.value("X-Amz-Content-Sha256") {
            Some(value) => value,
            None => match head.header("x-amz-content-sha256")? {
                Some(value) => value,
                None => return Ok(PayloadMode::Unsigned),
            },
        };
        let signed = |trailer| match chain {
            Some(chain) => Ok(PayloadMode::SignedChunks { chain: Box::new(chain), trailer }),
            None => Err(Code::AccessDenied.into()),
        };
        match value {
            "UNSIGNED-PAYLOAD" => Ok(PayloadMode::Unsigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => signed(false),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => signed(true),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(PayloadMode::UnsignedTrailer),
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
            | "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER" => {
                Err(Code::NotImplemented.into())
            }
            digits => {
                let mut hash = [0; 32];
                hex::decode_to_slice(digits, &mut hash).map_err(|_| {
                    S3Error::argument(
                        "x-amz-content-sha256",
                        digits,
                        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
                    )
                })?;
                Ok(PayloadMode::Hashed(hash))
            }
        }
    }

    /// Whether the body is in chunks of `aws-chunked`.
    pub fn is_chunked(&self) -> bool {
        matches!(self, PayloadMode::SignedChunks { .. } | PayloadMode::UnsignedTrailer)
    }

    /// The decoder of the framing, if there is any.
    pub fn decoder(&self) -> Option<ChunkDecoder> {
        match self {
            PayloadMode::SignedChunks { trailer, .. } => Some(ChunkDecoder::new(true, *trailer)),
            PayloadMode::UnsignedTrailer => Some(ChunkDecoder::new(false, true)),
            _ => None,
        }
    }
}

/// The signatures of a chunked body: each is made over the one before.
#[derive(Clone)]
pub struct ChunkChain {
    key: Key,
    date: String,
    scope: String,
    previous: Signature,
}

impl ChunkChain {
    pub(super) fn new(key: Key, date: &str, scope: &str, seed: Signature) -> Self {
        ChunkChain { key, date: date.to_owned(), scope: scope.to_owned(), previous: seed }
    }

    fn check(&mut self, kind: &str, hashes: &str, given: &Signature) -> S3Result<()> {
        let text = format!(
            "AWS4-HMAC-SHA256-{kind}\n{}\n{}\n{}\n{hashes}",
            self.date, self.scope, self.previous
        );
        let expected = sign(&self.key, text.as_bytes());
        if !bool::from(expected.0.ct_eq(&given.0)) {
            return Err(Code::SignatureDoesNotMatch.into());
        }
        self.previous = expected;
        Ok(())
    }

    fn check_chunk(&mut self, sha256: &[u8], given: &Signature) -> S3Result<()> {
        self.check("PAYLOAD", &format!("{EMPTY_SHA256}\n{}", hex::encode(sha256)), given)
    }

    fn check_trailer(&mut self, canonical: &str, given: &Signature) -> S3Result<()> {
        let hash = ring::digest::digest(&SHA256, canonical.as_bytes());
        self.check("TRAILER", &hex::encode(hash), given)
    }
}

/// A header that comes behind the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Lower case.
    pub name: String,
    /// Without white space around.
    pub value: String,
}

/// What the decoder finds next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed {
    /// Bytes of the body.
    Data(Bytes),
    /// A signed chunk ends here; this is its signature. The last chunk is empty.
    ChunkEnd(Signature),
    /// The body ends, with these trailers.
    End(Vec<Trailer>),
}

/// Takes the framing of `aws-chunked` off. Memory: one line.
pub struct ChunkDecoder {
    signed: bool,
    trailer: bool,
    state: State,
    line: Vec<u8>,
    signature: Option<Signature>,
    /// Whether a signed chunk was so short that it must be the last.
    short: bool,
    trailers: Vec<Trailer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Data { left: u64 },
    DataEnd,
    Trailer,
    Done,
}

fn bad_framing() -> S3Error {
    Code::InvalidRequest.with("The chunks of the body are not well formed.")
}

impl ChunkDecoder {
    pub(in crate::s3) fn new(signed: bool, trailer: bool) -> Self {
        let (line, trailers) = (Vec::new(), Vec::new());
        let (state, signature, short) = (State::Header, None, false);
        ChunkDecoder { signed, trailer, state, line, signature, short, trailers }
    }

    /// Takes bytes off the front of `input`; `None` when it needs more.
    pub fn next(&mut self, input: &mut Bytes) -> S3Result<Option<Framed>> {
        loop {
            match self.state {
                State::Done => {
                    return if input.is_empty() { Ok(None) } else { Err(bad_framing()) };
                }
                State::Data { left } if left > 0 => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    self.state = State::Data { left: left - len as u64 };
                    return Ok(Some(Framed::Data(input.split_to(len))));
                }
                State::Data { .. } => {
                    self.state = State::DataEnd;
                    if let Some(signature) = self.signature.take() {
                        return Ok(Some(Framed::ChunkEnd(signature)));
                    }
                }
                State::Header | State::DataEnd | State::Trailer => {
                    let Some(line) = self.take_line(input)? else { return Ok(None) };
                    if let Some(framed) = self.handle_line(&line)? {
                        return Ok(Some(framed));
                    }
                }
            }
        }
    }

    fn handle_line(&mut self, line: &str) -> S3Result<Option<Framed>> {
        match self.state {
            State::Header => self.handle_header(line),
            State::DataEnd if line.is_empty() => {
                self.state = State::Header;
                Ok(None)
            }
            State::Trailer if line.is_empty() => {
                self.state = State::Done;
                Ok(Some(Framed::End(std::mem::take(&mut self.trailers))))
            }
            State::Trailer if self.trailer && self.trailers.len() < TRAILERS_MAX => {
                let (name, value) = line.split_once(':').ok_or_else(bad_framing)?;
                let name = name.trim().to_ascii_lowercase();
                self.trailers.push(Trailer { name, value: value.trim().to_owned() });
                Ok(None)
            }
            _ => Err(bad_framing()),
        }
    }

    /// `10000;chunk-signature=…`
    fn handle_header(&mut self, line: &str) -> S3Result<Option<Framed>> {
        let (size, extensions) = line.split_once(';').unwrap_or((line, ""));
        let size = size.trim();
        if size.is_empty() || size.len() > 16 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad_framing());
        }
        let left = u64::from_str_radix(size, 16).map_err(|_| bad_framing())?;
        if self.signed {
            let signature = extensions
                .split(';')
                .find_map(|extension| extension.trim().strip_prefix("chunk-signature="))
                .and_then(Signature::parse);
            self.signature = Some(signature.ok_or(Code::SignatureDoesNotMatch)?);
        }
        if left > 0 {
            if self.short {
                return Err(Code::InvalidChunkSizeError.into());
            }
            self.short = self.signed && left < SIGNED_CHUNK_BYTES_MIN;
            self.state = State::Data { left };
            return Ok(None);
        }
        self.state = State::Trailer;
        Ok(self.signature.take().map(Framed::ChunkEnd))
    }

    /// The next whole line without its end, CRLF or LF.
    fn take_line(&mut self, input: &mut Bytes) -> S3Result<Option<String>> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let taken = input.split_to(end.map_or(input.len(), |end| end + 1));
        if self.line.len() + taken.len() > LINE_BYTES_MAX {
            return Err(bad_framing());
        }
        self.line.extend_from_slice(&taken);
        if end.is_none() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line).map_err(|_| bad_framing())?;
        let line = line.trim_end_matches('\n');
        Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
    }
}

/// A stretch of the body, and where signed chunks end in it.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// The bytes.
    pub data: Bytes,
    /// Offsets in `data`, ascending, with the signature of the chunk that ends there.
    pub chunk_ends: Vec<(usize, Signature)>,
}

/// What is known of a body once it is read and found right.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    /// Bytes.
    pub size: u64,
    /// MD5.
    pub md5: [u8; 16],
    /// The checksum that was announced, or the default one.
    pub checksum: Option<Checksum>,
}

/// Computes and checks everything about a body.
pub struct Inspector {
    size: u64,
    md5: Md5,
    sha256: Option<(Context, [u8; 32])>,
    chunks: Option<(ChunkChain, Context)>,
    signed_trailer: bool,
    checksum: Option<Hasher>,
    announced: Announced,
    failed: Option<S3Error>,
}

impl Inspector {
    /// For a body of this mode. `default` is the checksum to compute if none was announced.
    pub fn new(mode: &PayloadMode, announced: Announced, default: Option<Algorithm>) -> Self {
        let sha256 = match mode {
            PayloadMode::Hashed(expected) => Some((Context::new(&SHA256), *expected)),
            _ => None,
        };
        let (chunks, signed_trailer) = match mode {
            PayloadMode::SignedChunks { chain, trailer } => {
                (Some(((**chain).clone(), Context::new(&SHA256))), *trailer)
            }
            _ => (None, false),
        };
        let checksum = announced.algorithm().or(default).map(Hasher::new);
        let md5 = Md5::default();
        Inspector {
            size: 0,
            md5,
            sha256,
            chunks,
            signed_trailer,
            checksum,
            announced,
            failed: None,
        }
    }

    /// Takes in the next piece. What is wrong is said by `finish`.
    pub fn update(&mut self, piece: &Piece) {
        self.md5.update(&piece.data);
        self.update_beside_md5(piece);
    }

    /// The hash of the body, for who hashes several at once: `update` is this and then `update_beside_md5`.
    pub fn md5(&mut self) -> &mut Md5 {
        &mut self.md5
    }

    /// Takes in the next piece, all but its MD5.
    pub fn update_beside_md5(&mut self, piece: &Piece) {
        self.size += piece.data.len() as u64;
        if let Some((context, _)) = &mut self.sha256 {
            context.update(&piece.data);
        }
        if let Some(hasher) = &mut self.checksum {
            hasher.update(&piece.data);
        }
        let Some((chain, context)) = &mut self.chunks else { return };
        let mut start = 0;
        for (end, signature) in &piece.chunk_ends {
            context.update(&piece.data[start..*end]);
            start = *end;
            let hash = std::mem::replace(context, Context::new(&SHA256)).finish();
            if let (Err(error), None) = (chain.check_chunk(hash.as_ref(), signature), &self.failed)
            {
                self.failed = Some(error);
            }
        }
        context.update(&piece.data[start..]);
    }

    /// The digests, if everything that was said about the body is true.
    pub fn finish(mut self, trailers: &[Trailer]) -> S3Result<Digests> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.signed_trailer {
            self.check_trailer_signature(trailers)?;
        }
        if let Some((context, expected)) = self.sha256.take() {
            let computed = context.finish();
            if !bool::from(computed.as_ref().ct_eq(&expected)) {
                return Err(Code::XAmzContentSHA256Mismatch
                    .with(Code::XAmzContentSHA256Mismatch.message())
                    .detail("ClientComputedContentSHA256", hex::encode(expected))
                    .detail("S3ComputedContentSHA256", hex::encode(computed)));
            }
        }
        let md5 = self.md5.finish();
        if self.announced.md5.is_some_and(|given| given != md5) {
            return Err(Code::BadDigest
                .with("The Content-MD5 you specified did not match what we received."));
        }
        let checksum = self.checksum.take().map(|hasher| {
            let algorithm = hasher.algorithm();
            (algorithm, hasher.finish())
        });
        if let Some((algorithm, value)) = &checksum {
            check_announced(&self.announced, *algorithm, value, trailers)?;
        }
        let checksum = checksum.map(|(algorithm, value)| Checksum {
            algorithm: algorithm as u8,
            parts: 0,
            value,
        });
        Ok(Digests { size: self.size, md5, checksum })
    }

    fn check_trailer_signature(&mut self, trailers: &[Trailer]) -> S3Result<()> {
        const SIGNATURE: &str = "x-amz-trailer-signature";
        let Some((chain, _)) = &mut self.chunks else { return Ok(()) };
        let signature = trailers
            .iter()
            .find(|trailer| trailer.name == SIGNATURE)
            .and_then(|trailer| Signature::parse(&trailer.value))
            .ok_or(Code::SignatureDoesNotMatch)?;
        let canonical: String = trailers
            .iter()
            .filter(|trailer| trailer.name != SIGNATURE)
            .map(|trailer| format!("{}:{}\n", trailer.name, trailer.value))
            .collect();
        chain.check_trailer(&canonical, &signature)
    }
}

/// Compares a computed checksum with what headers or trailer said.
fn check_announced(
    announced: &Announced,
    algorithm: Algorithm,
    computed: &Bytes,
    trailers: &[Trailer],
) -> S3Result<()> {
    let mismatch = || {
        Code::BadDigest.with(format!(
            "The {} you specified did not match the calculated checksum.",
            algorithm.name()
        ))
    };
    if let Some((_, given)) = &announced.value
        && given != computed
    {
        return Err(mismatch());
    }
    if announced.trailer.is_none() {
        return Ok(());
    }
    let given = trailers.iter().find(|trailer| trailer.name == algorithm.header());
    let given = given.ok_or_else(|| {
        Code::InvalidRequest.with("The trailer that x-amz-trailer announced did not come.")
    })?;
    match algorithm.decode(&given.value)? == *computed {
        true => Ok(()),
        false => Err(mismatch()),
    }
}
