//! Telling our own callers from strangers by the first bytes, before anything is read.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// HTTP/2, or TLS where this server has an identity.
    Ours,
    /// Something else: what, and a last word that the stranger understands.
    Stranger(&'static str, &'static [u8]),
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A TLS record with a handshake message of any version.
const TLS_HANDSHAKE: &[u8] = b"\x16\x03";
/// Ceph's native clients of every version begin with this.
const CEPH_BANNER: &[u8] = b"ceph v";
const HTTP1_METHODS: [&[u8]; 7] =
    [b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH "];
const HTTP1_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 51\r\n\r\nThis port speaks gRPC between the cluster's parts.\n";
/// A TLS record with the fatal alert "handshake failure", so that the other end need not wait.
const TLS_ALERT: &[u8] = b"\x15\x03\x03\x00\x02\x02\x28";
/// Bytes that decide.
const LOOK_BYTES: usize = 8;
/// While a peer has sent too few bytes to tell, how long until the next look.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a stranger may take to hear the last word.
const DISMISS_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks at the first bytes without taking them.
pub(super) async fn opening(stream: &TcpStream, encrypted: bool) -> io::Result<Opening> {
    let mut bytes = [0; LOOK_BYTES];
    loop {
        let seen = stream.peek(&mut bytes).await?;
        if seen == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed before its first byte",
            ));
        }
        if let Some(opening) = judge(&bytes[..seen], encrypted) {
            return Ok(opening);
        }
        // The kernel wakes a peek at once for bytes already seen, so the wait is ours.
        sleep(LOOK_AGAIN).await;
    }
}

/// `None` while the bytes may become several things.
fn judge(seen: &[u8], encrypted: bool) -> Option<Opening> {
    let begins = |with: &[u8]| {
        let common = seen.len().min(with.len());
        seen[..common] == with[..common]
    };
    let is = |with: &[u8]| begins(with) && seen.len() >= with.len().min(LOOK_BYTES);
    if is(TLS_HANDSHAKE) {
        return Some(match encrypted {
            true => Opening::Ours,
            false => Opening::Stranger("TLS, but this service runs in plain text", TLS_ALERT),
        });
    }
    if is(HTTP2_PREFACE) {
        return Some(match encrypted {
            true => Opening::Stranger("plain text, but this service asks for certificates", b""),
            false => Opening::Ours,
        });
    }
    if is(CEPH_BANNER) {
        return Some(Opening::Stranger("a Ceph client: its port is another", b""));
    }
    if HTTP1_METHODS.iter().any(|method| is(method)) {
        return Some(Opening::Stranger("HTTP/1", HTTP1_ANSWER));
    }
    let mut known = HTTP1_METHODS.into_iter().chain([TLS_HANDSHAKE, HTTP2_PREFACE, CEPH_BANNER]);
    if known.any(begins) { None } else { Some(Opening::Stranger("an unknown protocol", b"")) }
}

/// Says the last word and closes so that the other end sees an end, not a reset: what it sent is read first.
pub(super) async fn dismiss(mut stream: TcpStream, answer: &'static [u8]) {
    let farewell = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // A stranger that stays or resets is simply dropped.
    let _ = timeout(DISMISS_TIMEOUT, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        let what = |bytes: &[u8], encrypted| match judge(bytes, encrypted) {
            None => "more",
            Some(Opening::Ours) => "ours",
            Some(Opening::Stranger(what, _)) => what,
        };
        assert_eq!(what(HTTP2_PREFACE, false), "ours");
        assert_eq!(what(b"PRI * HT", false), "ours");
        assert_eq!(what(b"P", false), "more");
        assert_eq!(what(b"PRI", false), "more");
        assert_eq!(what(b"\x16\x03\x01", true), "ours");
        assert!(what(b"\x16\x03\x01", false).starts_with("TLS"));
        assert!(what(b"PRI * HTTP", true).starts_with("plain text"));
        assert!(what(b"ceph v027", false).starts_with("a Ceph client"));
        assert!(what(b"ceph v2\n", true).starts_with("a Ceph client"));
        assert_eq!(what(b"ceph", false), "more");
        assert_eq!(what(b"GET / HTTP/1.1", false), "HTTP/1");
        assert_eq!(what(b"\0\0", false), "an unknown protocol");
        let body = HTTP1_ANSWER.rsplit(|b| *b == b'\r').next().expect("a body");
        assert_eq!(body.len() - 1, 51, "the length told is the length sent");
    }
}
