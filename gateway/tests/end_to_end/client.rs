//! The smallest S3 client that can sign, and misbehave: one request, one connection, plain sockets. Its
//! signer shares no code with the gateway's verifier.

use ring::hmac::{HMAC_SHA256, Key, sign};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of the first element of this name.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let start = text.find(&format!("<{name}>"))? + name.len() + 2;
        let end = start + text[start..].find(&format!("</{name}>"))?;
        Some(text[start..end].to_owned())
    }

    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let text = self.text();
        text.split(&open)
            .skip(1)
            .filter_map(|rest| rest.split_once(&close).map(|(inner, _)| inner.to_owned()))
            .collect()
    }

    pub(crate) fn code(&self) -> String {
        self.element("Code").unwrap_or_else(|| self.status.to_string())
    }
}

/// How the body's hash is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    OfBody,
    Unsigned,
    Chunks,
}

#[derive(Clone)]
pub(crate) struct Client {
    pub address: SocketAddr,
    pub access_key: String,
    pub secret: String,
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

/// As in a query.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// A request that is signed and can be sent.
pub(crate) struct Signed {
    pub head: String,
    key: Vec<u8>,
    scope: String,
    date: String,
    signature: String,
}

impl Client {
    /// Signs a request. `target` is sent as it is; it must be in canonical encoding and order.
    pub(crate) fn sign(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        hash: Hash,
    ) -> Signed {
        let date = store_gateway::s3::dates::compact(store_shell::clock::timestamp().millis());
        let payload = match hash {
            Hash::OfBody => sha256(body),
            Hash::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Hash::Chunks => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
        };
        let mut all: BTreeMap<String, String> =
            headers.iter().map(|(n, v)| (n.to_lowercase(), (*v).to_owned())).collect();
        all.insert("host".into(), self.address.to_string());
        all.insert("x-amz-date".into(), date.clone());
        all.insert("x-amz-content-sha256".into(), payload.clone());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
            .collect();
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        let lines: String = all.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let names = names.join(";");
        let canonical =
            format!("{method}\n{path}\n{}\n{lines}\n{names}\n{payload}", query.join("&"));
        let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let key = self.signing_key(&date);
        let signature = hex::encode(hmac(&key, &to_sign));
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        all.iter().for_each(|(n, v)| head.push_str(&format!("{n}: {v}\r\n")));
        head.push_str(&format!(
            "authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}\r\n",
            self.access_key
        ));
        if !all.contains_key("content-length") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        Signed { head, key, scope, date, signature }
    }

    /// The target of a presigned URL with these parameters, which are in the order of their names.
    pub(crate) fn presigned(
        &self,
        method: &str,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> String {
        let date = store_gateway::s3::dates::compact(store_shell::clock::timestamp().millis());
        let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
        let credential = format!("{}/{scope}", self.access_key);
        let of_signature = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &date),
            ("X-Amz-Expires", "600"),
            ("X-Amz-SignedHeaders", "host"),
        ];
        let query: Vec<String> = of_signature
            .iter()
            .chain(parameters)
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let query = query.join("&");
        let canonical =
            format!("{method}\n{path}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.address);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let signature = hex::encode(hmac(&self.signing_key(&date), &to_sign));
        format!("{path}?{query}&X-Amz-Signature={signature}")
    }

    fn signing_key(&self, date: &str) -> Vec<u8> {
        ["us-east-1", "s3", "aws4_request"]
            .iter()
            .fold(hmac(format!("AWS4{}", self.secret).as_bytes(), &date[..8]), |key, step| {
                hmac(&key, step)
            })
    }

    pub(crate) fn ask(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.ask_with(method, target, &[], body)
    }

    pub(crate) fn ask_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let signed = self.sign(method, target, headers, body, Hash::OfBody);
        let mut stream = self.connect();
        let head = format!("{}connection: close\r\n\r\n", signed.head);
        stream.write_all(head.as_bytes()).expect("sent");
        // A refused body may meet a closed connection; the answer is there all the same.
        let _ = stream.write_all(body);
        read_answer(&mut stream, method).expect("an answer")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }
}

impl Signed {
    /// The body in signed chunks.
    pub(crate) fn chunks(&self, body: &[u8], size: usize) -> Vec<u8> {
        let mut previous = self.signature.clone();
        let mut out = Vec::new();
        for chunk in body.chunks(size).chain([&[][..]]) {
            let text = format!(
                "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{previous}\n{}\n{}",
                self.date,
                self.scope,
                sha256(b""),
                sha256(chunk)
            );
            previous = hex::encode(hmac(&self.key, &text));
            out.extend_from_slice(
                format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes(),
            );
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out
    }
}

/// Reads one answer; interim answers are skipped. `None` if the connection ends before it is whole.
pub(crate) fn read_answer(stream: &mut TcpStream, method: &str) -> Option<Answer> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.split("\r\n");
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        if status == 100 {
            continue;
        }
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
            .collect();
        let length = match headers.get("content-length") {
            Some(length) if method != "HEAD" => length.parse().ok()?,
            _ => 0,
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        return Some(Answer { status, headers, body });
    }
}
