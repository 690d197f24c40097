//! A small S3 client: Signature Version 4 over HTTP/1.1 on kept connections.

use sha2::{Digest, Sha256};
use store_tests::s3::{Signer, UNSIGNED};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most bytes of an answer that are read at a time.
const READ_BYTES: usize = 256 << 10;

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

    fn head(&self, method: &str, target: &str, length: usize, payload_hash: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut head = format!("{method} {target} HTTP/1.1\r\nContent-Length: {length}\r\n");
        for (name, value) in self.signer.headers(method, path, query, payload_hash) {
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

    /// Sends a request and reads the answer whole: its status, and the bytes of its body. `hash_body`: sign the
    /// body too, as SDKs do over http. A query after the path is in canonical form.
    pub(crate) async fn request(
        &mut self,
        target: &Target,
        method: &str,
        path: &str,
        body: &[u8],
        hash_body: bool,
    ) -> Result<(u16, usize), String> {
        let mut sink = Sink::Counted(0);
        let status = self.send(target, method, path, (body, hash_body), &mut sink).await?;
        Ok((status, sink.len()))
    }

    /// The document that a GET of `path` answers with.
    pub(crate) async fn document(&mut self, target: &Target, path: &str) -> Result<String, String> {
        let mut sink = Sink::Kept(Vec::new());
        self.send(target, "GET", path, (b"", false), &mut sink).await?;
        match sink {
            Sink::Kept(bytes) => String::from_utf8(bytes).map_err(|e| e.to_string()),
            Sink::Counted(_) => Ok(String::new()),
        }
    }

    async fn send(
        &mut self,
        target: &Target,
        method: &str,
        path: &str,
        (body, hash_body): (&[u8], bool),
        sink: &mut Sink,
    ) -> Result<u16, String> {
        let hash = if hash_body { hex::encode(Sha256::digest(body)) } else { UNSIGNED.into() };
        let head = target.head(method, path, body.len(), &hash);
        let result = self.exchange(target, &head, body, sink).await;
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
        sink: &mut Sink,
    ) -> Result<u16, String> {
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
        let header = |name: &str| answer.lines().find_map(|l| Some(l.strip_prefix(name)?.trim()));
        let length = match header("content-length:") {
            Some(length) => Length::Known(length.parse().map_err(|_| "no length")?),
            None if header("transfer-encoding:") == Some("chunked") => Length::Chunked,
            None => Length::Known(0),
        };
        let mut error = Sink::Kept(Vec::new());
        let sink = if status >= 300 { &mut error } else { sink };
        let mut body = Body { stream, buffer: self.buffer.split_off(end) };
        match length {
            Length::Known(length) => body.take(length, sink).await?,
            Length::Chunked => loop {
                let line = body.line().await?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(|_| "no chunk")?;
                body.take(size, sink).await?;
                body.line().await?;
                if size == 0 {
                    break;
                }
            },
        }
        match error {
            Sink::Kept(said) if status >= 300 => {
                Err(format!("{status}: {}", String::from_utf8_lossy(&said)))
            }
            _ => Ok(status),
        }
    }
}

/// How long a body is.
enum Length {
    Known(usize),
    Chunked,
}

/// What becomes of an answer's body.
enum Sink {
    Counted(usize),
    Kept(Vec<u8>),
}

impl Sink {
    fn len(&self) -> usize {
        match self {
            Sink::Counted(count) => *count,
            Sink::Kept(bytes) => bytes.len(),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        match self {
            Sink::Counted(count) => *count += bytes.len(),
            Sink::Kept(kept) => kept.extend_from_slice(bytes),
        }
    }
}

/// What is left to be read of an answer.
struct Body<'a> {
    stream: &'a mut TcpStream,
    buffer: Vec<u8>,
}

impl Body<'_> {
    async fn more(&mut self) -> Result<(), String> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await.map_err(|e| e.to_string())? {
            0 => Err("connection closed within the body".into()),
            _ => Ok(()),
        }
    }

    async fn take(&mut self, mut length: usize, sink: &mut Sink) -> Result<(), String> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let here = length.min(self.buffer.len());
            sink.put(&self.buffer[..here]);
            self.buffer.drain(..here);
            length -= here;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            self.more().await?;
        }
    }
}
