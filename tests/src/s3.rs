//! Signature Version 4 for the tests' own S3 clients.
#![allow(clippy::disallowed_methods)] // a signature is of a moment

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

/// The hash that says that a body is not signed.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// With which keys, and for where.
#[derive(Clone, Debug)]
pub struct Signer {
    /// `host:port` of the gateway.
    pub host: String,
    /// The region.
    pub region: String,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `20130524T000000Z` of the present.
fn stamp() -> String {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let (days, rest) = (secs.div_euclid(86400), secs.rem_euclid(86400));
    // Days to date: the proleptic Gregorian calendar in eras of 400 years, years beginning in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

impl Signer {
    /// The headers of a request, by name: `host` and those of the signature. `query` is in canonical form:
    /// sorted, encoded, `name=` for a name without a value.
    pub fn headers(
        &self,
        method: &str,
        path: &str,
        query: &str,
        payload_hash: &str,
    ) -> [(&'static str, String); 4] {
        let now = stamp();
        let date = &now[..8];
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{}\nx-amz-content-sha256:{payload_hash}\nx-amz-date:{now}\n\n\
             {signed}\n{payload_hash}",
            self.host
        );
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let secret = format!("AWS4{}", self.secret_key);
        let key = [&self.region, "s3", "aws4_request"]
            .iter()
            .fold(hmac(secret.as_bytes(), date), |key, part| hmac(&key, part));
        let signature = hex::encode(hmac(&key, &to_sign));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
            self.access_key
        );
        [
            ("host", self.host.clone()),
            ("x-amz-date", now),
            ("x-amz-content-sha256", payload_hash.to_owned()),
            ("authorization", authorization),
        ]
    }
}
