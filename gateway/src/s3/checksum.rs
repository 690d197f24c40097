//! The checksums beside the entity tag: names, computing, combining.

use super::error::{Code, S3Error, S3Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use store_base::bucket::Checksum;

/// An algorithm. The numbers are stored ([`Checksum::algorithm`]) and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Algorithm {
    Crc32 = 1,
    Crc32c = 2,
    Crc64Nvme = 3,
    Sha1 = 4,
    Sha256 = 5,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 5] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
    ];

    /// As in `x-amz-sdk-checksum-algorithm` and `<ChecksumAlgorithm>`.
    pub fn name(self) -> &'static str {
        ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"][self as usize - 1]
    }

    /// The element of XML documents.
    pub fn element(self) -> &'static str {
        ["ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumSHA1", "ChecksumSHA256"]
            [self as usize - 1]
    }

    /// The header.
    pub fn header(self) -> &'static str {
        [
            "x-amz-checksum-crc32",
            "x-amz-checksum-crc32c",
            "x-amz-checksum-crc64nvme",
            "x-amz-checksum-sha1",
            "x-amz-checksum-sha256",
        ][self as usize - 1]
    }

    /// Bytes of a value.
    pub fn width(self) -> usize {
        [4, 4, 8, 20, 32][self as usize - 1]
    }

    /// From the name, in any case.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name))
    }

    /// From the header's name.
    pub fn from_header(name: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|a| a.header().eq_ignore_ascii_case(name))
    }

    /// From the stored number.
    pub fn from_number(number: u8) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|a| *a as u8 == number)
    }

    /// Whether the checksum of a whole can be had from those of its parts.
    pub fn combines(self) -> bool {
        self.crc().is_some()
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }

    /// Reads a value as headers and XML carry it.
    pub fn decode(self, text: &str) -> S3Result<Bytes> {
        let invalid = || -> S3Error {
            Code::BadDigest.with(format!("Value for {} header is invalid.", self.header()))
        };
        let value = STANDARD.decode(text.trim()).map_err(|_| invalid())?;
        (value.len() == self.width()).then(|| value.into()).ok_or_else(invalid)
    }
}

/// A checksum that is being computed.
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

enum State {
    Crc(crc_fast::Digest),
    Sha(ring::digest::Context),
}

impl Hasher {
    /// Of nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm.crc() {
            Some(crc) => State::Crc(crc_fast::Digest::new(crc)),
            None if algorithm == Algorithm::Sha1 => {
                State::Sha(ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY))
            }
            None => State::Sha(ring::digest::Context::new(&ring::digest::SHA256)),
        };
        Hasher { algorithm, state }
    }

    /// Which it is.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(digest) => digest.update(bytes),
            State::Sha(context) => context.update(bytes),
        }
    }

    /// The value.
    pub fn finish(self) -> Bytes {
        match self.state {
            State::Crc(digest) => crc_bytes(self.algorithm, digest.finalize()),
            State::Sha(context) => Bytes::copy_from_slice(context.finish().as_ref()),
        }
    }
}

fn crc_bytes(algorithm: Algorithm, value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes()[8 - algorithm.width()..])
}

fn crc_value(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// The checksum of a whole from the checksums and sizes of its parts; `None` if the algorithm does not
/// combine.
pub fn combine(algorithm: Algorithm, parts: &[(Bytes, u64)]) -> Option<Bytes> {
    let crc = algorithm.crc()?;
    let empty = crc_fast::checksum(crc, b"");
    let whole = parts.iter().fold(empty, |whole, (value, size)| {
        crc_fast::checksum_combine(crc, whole, crc_value(value), *size)
    });
    Some(crc_bytes(algorithm, whole))
}

/// The checksum of checksums.
pub fn composite(algorithm: Algorithm, parts: &[(Bytes, u64)]) -> Checksum {
    let mut hasher = Hasher::new(algorithm);
    parts.iter().for_each(|(value, _)| hasher.update(value));
    Checksum {
        algorithm: algorithm as u8,
        parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        value: hasher.finish(),
    }
}

/// The value as headers and XML carry it.
pub fn text(checksum: &Checksum) -> String {
    let value = STANDARD.encode(&checksum.value);
    match checksum.parts {
        0 => value,
        parts => format!("{value}-{parts}"),
    }
}

/// `FULL_OBJECT` or `COMPOSITE`.
pub fn kind(checksum: &Checksum) -> &'static str {
    match checksum.parts {
        0 => "FULL_OBJECT",
        _ => "COMPOSITE",
    }
}

/// What a request says about the checksum of its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The value that the headers give.
    pub value: Option<(Algorithm, Bytes)>,
    /// The algorithm whose value the trailer will give.
    pub trailer: Option<Algorithm>,
    /// Content-MD5.
    pub md5: Option<[u8; 16]>,
}

impl Announced {
    /// From the headers of a request with a body.
    pub fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let mut announced = Announced::default();
        for algorithm in Algorithm::ALL {
            let Some(value) = text(algorithm.header()) else { continue };
            if announced.value.is_some() {
                return Err(Code::InvalidRequest
                    .with("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."));
            }
            announced.value = Some((algorithm, algorithm.decode(value)?));
        }
        if let Some(trailer) = text("x-amz-trailer") {
            announced.trailer = Some(Algorithm::from_header(trailer.trim()).ok_or_else(|| {
                Code::InvalidRequest
                    .with("The value specified in the x-amz-trailer header is not supported")
            })?);
        }
        if let Some(value) = headers.get("content-md5") {
            let decoded = value.to_str().ok().and_then(|text| STANDARD.decode(text.trim()).ok());
            announced.md5 =
                Some(decoded.and_then(|md5| md5.try_into().ok()).ok_or(Code::InvalidDigest)?);
        }
        announced.check_sdk_algorithm(text("x-amz-sdk-checksum-algorithm"))?;
        Ok(announced)
    }

    fn check_sdk_algorithm(&self, name: Option<&str>) -> S3Result<()> {
        let Some(name) = name else { return Ok(()) };
        let stated = Algorithm::from_name(name)
            .ok_or_else(|| Code::InvalidRequest.with("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"))?;
        match self.value.as_ref().map(|(a, _)| *a).or(self.trailer) {
            Some(given) if given == stated => Ok(()),
            Some(_) => Err(Code::InvalidRequest.with("Value for x-amz-sdk-checksum-algorithm header is invalid.")),
            // Old SDKs name the algorithm beside Content-MD5.
            None if self.md5.is_some() => Ok(()),
            None => Err(Code::InvalidRequest.with(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
            )),
        }
    }

    /// The algorithm to compute: what was announced, else the default.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.value.as_ref().map(|(algorithm, _)| *algorithm).or(self.trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(algorithm: Algorithm, bytes: &[u8]) -> Bytes {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn known_values_of_the_check_string() {
        for (algorithm, expected) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            let value = hashed(algorithm, b"123456789");
            assert_eq!(hex::encode(&value), expected, "{}", algorithm.name());
            assert_eq!(value.len(), algorithm.width());
        }
    }

    #[test]
    fn parts_combine_to_the_whole() {
        let whole: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
        for algorithm in Algorithm::ALL {
            let parts: Vec<_> = [&whole[..1000], &whole[1000..1000], &whole[1000..]]
                .iter()
                .map(|part| (hashed(algorithm, part), part.len() as u64))
                .collect();
            let combined = combine(algorithm, &parts);
            assert_eq!(combined, algorithm.combines().then(|| hashed(algorithm, &whole)));
        }
    }

    #[test]
    fn headers_are_read_and_contradictions_refused() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            Announced::from_headers(
                &pairs
                    .iter()
                    .map(|(n, v)| {
                        (http::HeaderName::from_static(n), http::HeaderValue::from_static(v))
                    })
                    .collect(),
            )
        };
        let crc = ("x-amz-checksum-crc32", "y/Q5Jg==");
        assert_eq!(read(&[crc]).unwrap().algorithm(), Some(Algorithm::Crc32));
        assert_eq!(
            read(&[("x-amz-trailer", "x-amz-checksum-crc32c")]).unwrap().trailer,
            Some(Algorithm::Crc32c)
        );
        assert!(read(&[crc, ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE=")]).is_err());
        assert!(read(&[("x-amz-checksum-crc32", "y/Q5")]).is_err());
        assert!(read(&[("x-amz-checksum-crc32", "!")]).is_err());
        assert!(read(&[("x-amz-trailer", "x-other")]).is_err());
        assert!(read(&[crc, ("x-amz-sdk-checksum-algorithm", "SHA1")]).is_err());
        assert!(read(&[("x-amz-sdk-checksum-algorithm", "CRC32")]).is_err());
        assert!(read(&[crc, ("x-amz-sdk-checksum-algorithm", "crc32")]).is_ok());
        assert_eq!(read(&[("content-md5", "x")]).unwrap_err().code, Code::InvalidDigest);
    }
}
