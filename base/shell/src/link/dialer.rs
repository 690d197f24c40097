//! The side that begins a link.

use super::queue::{LinkBody, queue};
use super::receiver::{LinkReceiver, describe, status};
use super::{
    CONNECTION_WINDOW_BYTES, DATA_FRAME_BYTES_MAX, HEADER_BYTES_MAX, HELLO_TIMEOUT, Hello, Link,
    LinkError, LinkMetrics, LinkSettings, PATH, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};
use crate::identity::PeerIdentity;
use crate::net::{self, ConnectError, Stream, Watched};
use crate::security::{Expect, Security};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::SocketAddr;
use store_base::codec::{Decode, Encode};
use tokio::time::timeout;

/// Begins links. One per process or role; cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    security: Security,
    settings: LinkSettings,
    metrics: LinkMetrics,
}

impl Dialer {
    /// A dialer for a process with this protection.
    pub fn new(security: Security, settings: LinkSettings, metrics: LinkMetrics) -> Self {
        Dialer { security, settings, metrics }
    }

    /// Connects to `addr`, makes sure that `expect` is there, says `hello` and hears the peer's. Call it within
    /// a runtime: the connection is driven by a task of its own.
    pub async fn dial(
        &self,
        addr: SocketAddr,
        expect: &Expect,
        hello: &Hello,
    ) -> Result<Link, ConnectError> {
        let (stream, certified) = net::connect(addr, &self.security, expect).await?;
        let greeting = self.greet(addr, stream, certified, expect, hello);
        timeout(HELLO_TIMEOUT, greeting).await.unwrap_or_else(|_| {
            Err(ConnectError::Unreachable(format!("{addr}: no hello in {HELLO_TIMEOUT:?}")))
        })
    }

    async fn greet(
        &self,
        addr: SocketAddr,
        stream: Stream,
        certified: Option<PeerIdentity>,
        expect: &Expect,
        hello: &Hello,
    ) -> Result<Link, ConnectError> {
        let mut requests = self.handshake(addr, stream).await?;
        let (sender, body) = queue(self.settings.queue_bytes_max, false, self.metrics.clone());
        sender.try_send(&[hello.to_bytes()]).map_err(|e| {
            ConnectError::Rejected(format!("{addr}: our hello cannot be sent: {e}"))
        })?;
        let request = Request::post(format!("http://{addr}{PATH}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .expect("a request of constants and an address");
        let response = requests.send_request(request).await.map_err(|e| broken(addr, &e))?;
        let response = self.check_response(addr, response)?;
        let mut receiver = LinkReceiver::new(response.into_body(), self.metrics.clone());
        let peer_hello = self.hear(addr, &mut receiver).await?;
        let judged = hello.judge(&peer_hello, certified.as_ref());
        let peer = judged.and_then(|peer| expect.check(&peer).map(|()| peer)).map_err(|why| {
            self.metrics.hellos_refused.inc();
            ConnectError::Rejected(format!("{addr}: {why}"))
        })?;
        Ok(Link { peer, hello: peer_hello, sender, receiver })
    }

    async fn handshake(
        &self,
        addr: SocketAddr,
        stream: Stream,
    ) -> Result<SendRequest<LinkBody>, ConnectError> {
        let stream = Watched::new(stream, self.settings.silence_max());
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(DATA_FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(self.settings.keep_alive_interval)
            .keep_alive_timeout(self.settings.http2_keep_alive_timeout())
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (requests, connection) = handshake.map_err(|e| broken(addr, &e))?;
        // The task ends with the link: its error reaches the link's receiver too, so here it is only traced.
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(%addr, error = describe(&e), "connection lost");
            }
        });
        Ok(requests)
    }

    fn check_response(
        &self,
        addr: SocketAddr,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, ConnectError> {
        if let Some(why) = status(response.headers()) {
            self.metrics.hellos_refused.inc();
            return Err(ConnectError::Rejected(format!("{addr}: {why}")));
        }
        if response.status() != StatusCode::OK {
            let status = response.status();
            return Err(ConnectError::Rejected(format!(
                "{addr}: it answers {status}: is this a port of ours?"
            )));
        }
        Ok(response)
    }

    async fn hear(
        &self,
        addr: SocketAddr,
        receiver: &mut LinkReceiver,
    ) -> Result<Hello, ConnectError> {
        let no_hello = |why: String| ConnectError::Rejected(format!("{addr}: no hello: {why}"));
        match receiver.recv().await {
            Some(Ok(bytes)) => decode(bytes).map_err(no_hello),
            // A stream that the peer ends before its hello was refused by it; a lost connection may pass.
            Some(Err(LinkError::Broken(why))) => {
                Err(ConnectError::Unreachable(format!("{addr}: lost before its hello: {why}")))
            }
            Some(Err(e)) => Err(no_hello(e.to_string())),
            None => Err(no_hello("the stream ended".to_string())),
        }
    }
}

/// A hello must fill its message.
pub(super) fn decode(bytes: Bytes) -> Result<Hello, String> {
    Hello::from_bytes(bytes).map_err(|e| e.to_string())
}

/// A connection lost before the link began. A server that does not like our certificate says so only after the
/// TLS handshake, so the alert arrives here.
fn broken(addr: SocketAddr, error: &hyper::Error) -> ConnectError {
    let why = describe(error);
    if why.contains("fatal alert") {
        return ConnectError::Untrusted(format!(
            "{addr}: it does not accept our certificate ({why}): --identity must name a file issued by its cluster's authority"
        ));
    }
    ConnectError::Unreachable(format!("{addr}: {why}"))
}
