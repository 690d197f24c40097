//! One listener for everything that a service says over gRPC: links at the HTTP body level, and tonic's
//! services beside them.
//!
//! Each connection is one task, its requests are tasks below it; all run on the runtime that [`Server::serve`]
//! was called on, a `current_thread` one as a rule. With TLS a peer without a certificate of the cluster gets
//! no further than the handshake; handlers find who asks by [`PeerIdentity::of`].

mod sniff;

use crate::identity::PeerIdentity;
use crate::link::{
    CONNECTION_WINDOW_BYTES, DATA_FRAME_BYTES_MAX, HEADER_BYTES_MAX, LinkAcceptor, LinkBody,
    LinkService, LinkSettings, PATH, Rope, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};
use crate::net::{self, Socket, Stream, Watched, local};
use crate::security::Security;
use crate::shutdown::Shutdown;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sniff::Opening;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tower::Service;

/// Connections that a server holds at a time; more are closed at once.
pub const CONNECTIONS_MAX: usize = 4096;
/// Calls under way on one connection.
pub const STREAMS_MAX: u32 = 1024;
/// How long a new connection may take to its first request bytes, TLS included.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connections may take to end after the service was told to stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    /// For callers on this machine.
    local: Option<UnixListener>,
    security: Security,
    connections_max: usize,
}

/// What all connections of a server share.
struct Shared {
    security: Security,
    routes: Routes,
    links: Option<LinkService>,
    settings: LinkSettings,
    shutdown: Shutdown,
}

impl Server {
    /// Binds; the error is one line that names the cure. Call it within the runtime. Port 0 lets the system
    /// choose.
    pub fn bind(addr: SocketAddr, security: &Security) -> io::Result<Server> {
        let listener = net::bind(addr, security)?;
        let local = local::listen(listener.local_addr()?);
        let security = security.clone();
        Ok(Server { listener, local, security, connections_max: CONNECTIONS_MAX })
    }

    /// Holds fewer connections than [`CONNECTIONS_MAX`].
    pub fn with_connections_max(self, connections_max: usize) -> Self {
        Server { connections_max, ..self }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then ends links and calls in order and returns; what has not ended after
    /// [`STOP_TIMEOUT`] is cut. Dropped, it stops at once.
    pub async fn serve(self, routes: Routes, links: Option<LinkAcceptor>, shutdown: Shutdown) {
        let links = links.map(LinkService::new);
        let settings =
            links.as_ref().map_or_else(LinkSettings::default, |links| links.settings().clone());
        let shared = Arc::new(Shared {
            security: self.security,
            routes: routes.prepare(),
            links,
            settings,
            shutdown,
        });
        let places = Arc::new(Semaphore::new(self.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => {
                    accepted.map(|(stream, addr)| (Socket::Tcp(stream), addr))
                }
                accepted = accept_local(self.local.as_ref()) => {
                    accepted.map(|stream| (Socket::Local(stream), NOWHERE))
                }
                Some(_) = connections.join_next() => continue,
                () = shared.shutdown.wait() => break,
            };
            match accepted {
                Ok((stream, addr)) => {
                    let Ok(place) = places.clone().try_acquire_owned() else {
                        tracing::warn!(%addr, max = self.connections_max, "too many connections: closed");
                        continue;
                    };
                    connections.spawn(shared.clone().connection(stream, addr, place));
                }
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((self.listener, self.local));
        if let Some(links) = &shared.links {
            links.stop();
        }
        let ended =
            timeout(STOP_TIMEOUT, async { while connections.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!(count = connections.len(), "connections did not end in time: cut");
        }
    }
}

/// The address of who has none: a process of this machine.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn accept_local(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

impl Shared {
    async fn connection(
        self: Arc<Self>,
        stream: Socket,
        addr: SocketAddr,
        _place: OwnedSemaphorePermit,
    ) {
        let local = match &stream {
            Socket::Tcp(stream) => stream.local_addr().ok(),
            Socket::Local(_) => None,
        };
        let opening = async {
            // Strangers do not know the names of local sockets.
            let Socket::Tcp(stream) = stream else {
                return net::accept(stream, &self.security).await.map(Some);
            };
            let encrypted = matches!(self.security, Security::Tls(_));
            match sniff::opening(&stream, encrypted).await {
                Ok(Opening::Ours) => {
                    net::accept(Socket::Tcp(stream), &self.security).await.map(Some)
                }
                Ok(Opening::Stranger(what, answer)) => {
                    tracing::info!(%addr, what, "closed a connection that is not for this port");
                    sniff::dismiss(stream, answer).await;
                    Ok(None)
                }
                Err(e) => Err(e.to_string()),
            }
        };
        match timeout(OPENING_TIMEOUT, opening).await {
            Ok(Ok(Some((stream, peer)))) => {
                let info = TcpConnectInfo { local_addr: local, remote_addr: Some(addr) };
                self.converse(stream, addr, peer, info).await;
            }
            Ok(Ok(None)) => {}
            Ok(Err(why)) => tracing::info!(%addr, why, "connection not accepted"),
            Err(_) => tracing::debug!(%addr, "a connection that said nothing was closed"),
        }
    }

    /// One HTTP/2 connection, to its end.
    async fn converse(
        self: Arc<Self>,
        stream: Stream,
        addr: SocketAddr,
        peer: Option<PeerIdentity>,
        info: TcpConnectInfo,
    ) {
        let shared = self.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (shared, peer) = (shared.clone(), peer.clone());
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            request.extensions_mut().insert(info.clone());
            async move { Ok::<_, Infallible>(shared.answer(request, peer).await) }
        });
        let stream = Watched::new(stream, self.settings.silence_max());
        let connection = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(DATA_FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(self.settings.keep_alive_interval)
            .keep_alive_timeout(self.settings.http2_keep_alive_timeout())
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%addr, %error, "connection lost");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Option<PeerIdentity>,
    ) -> Response<ServerBody> {
        if request.uri().path() != PATH {
            // `Routes` is a handle: a clone is cheap, and never fails.
            let answered = self.routes.clone().call(request).await;
            return answered.unwrap_or_else(|never| match never {}).map(ServerBody::Call);
        }
        let opened = match &self.links {
            Some(links) => links.open(request, peer.as_ref()).await,
            None => Err(tonic::Status::unimplemented("this service takes no links")),
        };
        match opened {
            Ok(response) => response.map(ServerBody::Link),
            Err(status) => status.into_http::<tonic::body::Body>().map(ServerBody::Call),
        }
    }
}

/// The body of every answer.
enum ServerBody {
    Link(LinkBody),
    Call(tonic::body::Body),
}

impl Body for ServerBody {
    type Data = Rope;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Rope>, tonic::Status>>> {
        match self.get_mut() {
            ServerBody::Link(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            ServerBody::Call(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                frame.map_ok(|frame| frame.map_data(Rope::from))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ServerBody::Link(_) => false,
            ServerBody::Call(body) => body.is_end_stream(),
        }
    }
}
