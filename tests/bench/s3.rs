//! A small S3 client: Signature Version 4 over HTTP/1.1 on kept connections.

use sha2::{Digest, Sha256};
use store_tests::s3::{Signer, UNSIGNED};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where to, and with which keys.
pub(crate) struct Target {
    signer: Signer,
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
        let signer = Signer {
            host: host.trim_end_matches('/').to_owned(),
            region: variable("AWS_DEFAULT_REGION")?,
            access_key: variable("AWS_ACCESS_KEY_ID")?,
            secret_key: variable("AWS_SECRET_ACCESS_KEY")?,
        };
        Ok(Target { signer })
    }

    fn head(&self, method: &str, path: &str, length: usize, payload_hash: &str) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nContent-Length: {length}\r\n");
        for (name, value) in self.signer.headers(method, path, "", payload_hash) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head
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
        let hash = if hash_body { hex::encode(Sha256::digest(body)) } else { UNSIGNED.into() };
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
            let stream = TcpStream::connect(&target.signer.host).await.map_err(text)?;
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
