//! Accepting connections and serving them on shards.
//!
//! One task accepts and hands each connection to the shard with the fewest. A shard is a thread with a
//! `current_thread` runtime; everything about a connection stays on it. Beyond the limit of connections
//! the accepting stops and clients wait in the kernel's queue.

use super::body::ResponseBody;
use super::stream::{Impatient, Interim};
use http::header::{CONNECTION, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use store_shell::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ProtocolVersion;

/// Most bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// Most headers of a request. Who sends more metadata than there may be is told so, up to here.
pub const HEADERS_MAX: usize = 256;

/// Bytes of a connection's read buffer at most.
pub const BUFFER_BYTES_MAX: usize = 256 << 10;

/// A head must be complete so long after its connection was ready for it; also how long a connection
/// may lie idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// A client who takes nothing of an answer for so long is gone.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// A TLS handshake takes at most so long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long open connections may go on after the shutdown began.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections handed to a shard and not yet taken up.
const HANDED_MAX: usize = 1024;

/// How long to wait after an accept failed: mostly for file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection; an extension of every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address, as the socket says: a proxy's own, if there is one between.
    pub address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// With which version of TLS, where it is we who encrypt it.
    pub tls: Option<&'static str>,
}

/// An accepted connection on its way to a shard.
pub struct Accepted {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    _count: Count,
}

struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The accepting end of a shard.
pub struct Lane {
    sender: mpsc::Sender<Accepted>,
    connections: Arc<AtomicUsize>,
}

/// A lane and what arrives on it.
pub fn lane() -> (Lane, mpsc::Receiver<Accepted>) {
    let (sender, receiver) = mpsc::channel(HANDED_MAX);
    (Lane { sender, connections: Arc::default() }, receiver)
}

/// Accepts until the shutdown, at most `connections_max` at a time.
pub async fn accept(
    listener: TcpListener,
    lanes: Vec<Lane>,
    connections_max: usize,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let place = tokio::select! {
            () = shutdown.wait() => return,
            place = places.clone().acquire_owned() => place.expect("never closed"),
        };
        let stream = tokio::select! {
            () = shutdown.wait() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let least = lanes.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed));
        let Some(lane) = least else { return };
        lane.connections.fetch_add(1, Ordering::Relaxed);
        let count = Count(lane.connections.clone());
        if lane.sender.send(Accepted { stream, _place: place, _count: count }).await.is_err() {
            return;
        }
    }
}

/// Serves what arrives on a lane, on this thread, until the shutdown and a little longer. Runs within a
/// `LocalSet`.
pub async fn serve<H, F>(
    mut connections: mpsc::Receiver<Accepted>,
    tls: Option<TlsAcceptor>,
    handler: Rc<H>,
    shutdown: Shutdown,
) where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<ResponseBody>> + 'static,
{
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.wait() => break,
            Some(_) = open.join_next() => {}
            accepted = connections.recv() => match accepted {
                Some(accepted) => {
                    let conversation = one(accepted, tls.clone(), handler.clone(), shutdown.clone());
                    open.spawn_local(conversation);
                }
                None => break,
            },
        }
    }
    // Idle connections close by themselves now; busy ones may finish.
    let finish = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, finish).await.is_err() {
        tracing::debug!("connections were cut by the shutdown");
    }
}

async fn one<H, F>(accepted: Accepted, tls: Option<TlsAcceptor>, handler: Rc<H>, shutdown: Shutdown)
where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<ResponseBody>> + 'static,
{
    let Accepted { stream, _place, _count } = accepted;
    let address = stream.peer_addr().ok().map(|peer| peer.ip());
    let peer = Peer { address, secure: tls.is_some(), tls: None };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection is gone already");
        return;
    }
    let Some(tls) = tls else { return converse(stream, peer, handler, shutdown).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let peer =
                Peer { tls: stream.get_ref().1.protocol_version().and_then(version), ..peer };
            converse(stream, peer, handler, shutdown).await
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

/// As conditions of policies write a version of TLS.
fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("1.2"),
        ProtocolVersion::TLSv1_3 => Some("1.3"),
        _ => None,
    }
}

/// Whether a client waits to be told to send its body.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether a body comes in other codings than chunks: nothing here takes them off.
pub fn is_coded(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    let mut codings =
        values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"chunked"))
}

async fn converse<S, H, F>(stream: S, peer: Peer, handler: Rc<H>, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<ResponseBody>> + 'static,
{
    let interim = Interim::default();
    let io = TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT, interim.clone()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let expects = expects_continue(request.headers());
        let has_body = !request.body().is_end_stream();
        let says = (expects && !has_body).then(|| interim.clone());
        let answer = handler(request);
        async move {
            if let Some(interim) = says {
                interim.say_continue().await;
            }
            let mut answer = answer.await;
            // Whether the client sends the body that it was not told to send is for him to decide:
            // the connection is of no use any more. An error is what ends a request so.
            if expects && has_body && answer.status().as_u16() >= 300 {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .keep_alive(true)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
