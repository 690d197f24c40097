//! A small S3 client: Signature Version 4 over HTTP/1.1 on kept connections.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where to, and with which keys.
pub(crate) struct Target {
    host: String,
    region: String,
    access_key: String,
    signing_secret: String,
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

impl Target {
    /// From the variables that `store up` writes.
    pub(crate) fn from_env() -> anyhow::Result<Target> {
        let variable = |name: &str| {
            std::env::var(name)
                .map_err(|_| anyhow::anyhow!("{name} is not set: load store.env first"))
        };
        let endpoint = variable("AWS_ENDPOINT_URL")?;
        let host = endpoint
            .strip_prefix("http://")
            .ok_or_else(|| anyhow::anyhow!("{endpoint}: only http is measured"))?;
        Ok(Target {
            host: host.trim_end_matches('/').to_owned(),
            region: variable("AWS_DEFAULT_REGION")?,
            access_key: variable("AWS_ACCESS_KEY_ID")?,
            signing_secret: format!("AWS4{}", variable("AWS_SECRET_ACCESS_KEY")?),
        })
    }

    fn head(&self, method: &str, path: &str, length: usize, payload_hash: &str) -> String {
        let now = stamp();
        let date = &now[..8];
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{method}\n{path}\n\nhost:{}\nx-amz-content-sha256:{payload_hash}\nx-amz-date:{now}\n\n\
             {signed}\n{payload_hash}",
            self.host
        );
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let key = [&self.region, "s3", "aws4_request"]
            .iter()
            .fold(hmac(self.signing_secret.as_bytes(), date), |key, part| hmac(&key, part));
        let signature = hex::encode(hmac(&key, &to_sign));
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\
             x-amz-date: {now}\r\nx-amz-content-sha256: {payload_hash}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, \
             Signature={signature}\r\n\r\n",
            self.host, self.access_key
        )
    }
}

/// One kept connection.
pub(crate) struct Connection {
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects with the first request.
    pub(crate) fn new() -> Connection {
        Connection { stream: None, buffer: Vec::with_capacity(64 << 10) }
    }

    /// Sends a request and reads the answer whole. `hash_body`: sign the body too, as SDKs do over http.
    pub(crate) async fn request(
        &mut self,
        target: &Target,
        method: &str,
        path: &str,
        body: &[u8],
        hash_body: bool,
    ) -> Result<(u16, usize), String> {
        let hash =
            if hash_body { hex::encode(Sha256::digest(body)) } else { "UNSIGNED-PAYLOAD".into() };
        let head = target.head(method, path, body.len(), &hash);
        let result = self.exchange(target, &head, body).await;
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    async fn exchange(
        &mut self,
        target: &Target,
        head: &str,
        body: &[u8],
    ) -> Result<(u16, usize), String> {
        let text = |e: std::io::Error| e.to_string();
        if self.stream.is_none() {
            let stream = TcpStream::connect(&target.host).await.map_err(text)?;
            stream.set_nodelay(true).map_err(text)?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().expect("connected above");
        if body.len() <= 64 << 10 {
            let mut whole = head.as_bytes().to_vec();
            whole.extend_from_slice(body);
            stream.write_all(&whole).await.map_err(text)?;
        } else {
            stream.write_all(head.as_bytes()).await.map_err(text)?;
            stream.write_all(body).await.map_err(text)?;
        }
        self.buffer.clear();
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut self.buffer).await.map_err(text)? == 0 {
                return Err("connection closed".into());
            }
        };
        let answer = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        let status: u16 = answer
            .split_whitespace()
            .nth(1)
            .and_then(|s| s.parse().ok())
            .ok_or("no status line")?;
        let length: usize = answer
            .lines()
            .find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        let mut left = length.saturating_sub(self.buffer.len() - end);
        let mut sink = vec![0; left.min(1 << 20)];
        let mut error = self.buffer[end..].to_vec();
        while left > 0 {
            let want = left.min(sink.len());
            let got = stream.read(&mut sink[..want]).await.map_err(text)?;
            if got == 0 {
                return Err("connection closed within the body".into());
            }
            if status >= 300 && error.len() < 4096 {
                error.extend_from_slice(&sink[..got]);
            }
            left -= got;
        }
        if status >= 300 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&error)));
        }
        Ok((status, length))
    }
}
