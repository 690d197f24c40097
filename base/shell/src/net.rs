//! Sockets and TLS below everything else: resolving, dialling, binding.

pub(crate) mod local;
mod watched;

pub use local::Socket;
pub(crate) use watched::Watched;

use crate::identity::PeerIdentity;
use crate::security::{Expect, Security, Tls};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use store_base::config::HostPort;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// How long a name may take to resolve. In a container cut from its network a look-up blocks for ten seconds;
/// nothing on the data path may wait for one.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection may take to come about, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What is read from a socket at once below TLS, which by itself asks for 4 KiB at a time.
const TLS_READ_BYTES: usize = 64 << 10;
/// What TLS encrypts ahead of the socket: a vectored write takes this many records of 16 KiB at once.
const TLS_WRITE_BYTES: usize = 256 << 10;
/// Connections that the kernel keeps for a listener that is busy.
const BACKLOG: u32 = 1024;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The other machine answers and nobody listens: the process is gone. News at once.
    #[error("{0}: connection refused, nothing listens there")]
    Refused(String),
    /// No answer, no route or no such name. May pass; try again later or elsewhere.
    #[error("{0}")]
    Unreachable(String),
    /// The two ends do not trust each other. Stays so until somebody acts on the sentence.
    #[error("{0}")]
    Untrusted(String),
    /// The other end does not speak our protocol, or refused our hello. As above.
    #[error("{0}")]
    Rejected(String),
}

impl ConnectError {
    /// Whether trying again may help without anybody acting.
    pub fn is_transient(&self) -> bool {
        matches!(self, ConnectError::Refused(_) | ConnectError::Unreachable(_))
    }
}

/// A connection, protected or not.
pub enum Stream {
    /// Plain text.
    Plain(Socket),
    /// TLS, both ends verified.
    Tls(Box<TlsStream<BufReader<Socket>>>),
}

/// All addresses of a host, in the resolver's order.
pub async fn resolve(address: &HostPort) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Some(known) = address.socket_addr() {
        return Ok(vec![known]);
    }
    let unreachable = |why: String| ConnectError::Unreachable(format!("{address}: {why}"));
    let lookup = lookup_host((address.host.as_str(), address.port));
    let found = match timeout(RESOLVE_TIMEOUT, lookup).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(e)) => return Err(unreachable(format!("the name cannot be resolved: {e}"))),
        Err(_) => {
            return Err(unreachable(format!("the name was not resolved in {RESOLVE_TIMEOUT:?}")));
        }
    };
    if found.is_empty() {
        Err(unreachable("the name has no address".to_string()))
    } else {
        Ok(found)
    }
}

/// Connects to one address and, with TLS, makes sure that it is whom the caller expects. In plain text
/// nobody is known: the second value is `None`.
pub async fn connect(
    addr: SocketAddr,
    security: &Security,
    expect: &Expect,
) -> Result<(Stream, Option<PeerIdentity>), ConnectError> {
    security.allow("dial", addr).map_err(ConnectError::Untrusted)?;
    let connecting = async {
        let stream = match local::connect(addr).await {
            Some(stream) => Socket::Local(stream),
            None => {
                let stream = TcpStream::connect(addr).await.map_err(|e| of_io(addr, &e))?;
                stream.set_nodelay(true).map_err(|e| of_io(addr, &e))?;
                Socket::Tcp(stream)
            }
        };
        match security {
            Security::Tls(tls) => protect(addr, tls, stream, expect).await,
            Security::PlainLoopback | Security::PlainEverywhere => {
                Ok((Stream::Plain(stream), None))
            }
        }
    };
    timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| {
        Err(ConnectError::Unreachable(format!("{addr}: no answer in {CONNECT_TIMEOUT:?}")))
    })
}

/// As [`connect`], to the first address of a host that answers.
pub async fn connect_host(
    address: &HostPort,
    security: &Security,
    expect: &Expect,
) -> Result<(Stream, Option<PeerIdentity>), ConnectError> {
    let mut last = None;
    for addr in resolve(address).await? {
        match connect(addr, security, expect).await {
            Ok(connected) => return Ok(connected),
            Err(e) => last = Some(e),
        }
    }
    Err(last.expect("resolve gives at least one address"))
}

async fn protect(
    addr: SocketAddr,
    tls: &Tls,
    stream: Socket,
    expect: &Expect,
) -> Result<(Stream, Option<PeerIdentity>), ConnectError> {
    let untrusted = |why: &str| ConnectError::Untrusted(format!("{addr}: {why}"));
    let connector = TlsConnector::from(tls.client.clone());
    let stream = connector
        .connect_with(Tls::server_name(), buffered(stream), |session| {
            session.set_buffer_limit(Some(TLS_WRITE_BYTES));
        })
        .await
        .map_err(|e| if is_tls(&e) { untrusted(&explain_tls(&e)) } else { of_tls_io(addr, &e) })?;
    let peer = peer_of(stream.get_ref().1.peer_certificates())
        .ok_or_else(|| untrusted("the server showed no certificate of ours"))?;
    expect.check(&peer).map_err(|why| untrusted(&why))?;
    Ok((Stream::Tls(Box::new(stream.into())), Some(peer)))
}

/// The accepting half: TLS if this process has an identity.
pub(crate) async fn accept(
    stream: Socket,
    security: &Security,
) -> Result<(Stream, Option<PeerIdentity>), String> {
    if let Socket::Tcp(stream) = &stream {
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
    }
    let Security::Tls(tls) = security else { return Ok((Stream::Plain(stream), None)) };
    let acceptor = TlsAcceptor::from(tls.server.clone());
    let accepting = acceptor.accept_with(buffered(stream), |session| {
        session.set_buffer_limit(Some(TLS_WRITE_BYTES));
    });
    let stream = accepting.await.map_err(|e| explain_tls(&e))?;
    let peer = peer_of(stream.get_ref().1.peer_certificates())
        .ok_or("the client showed no certificate of ours")?;
    let own = &security.identity().expect("TLS has an identity").cluster;
    if peer.cluster != *own {
        return Err(format!("{peer} is of cluster {}, this is cluster {own}", peer.cluster));
    }
    Ok((Stream::Tls(Box::new(stream.into())), Some(peer)))
}

fn peer_of(certificates: Option<&[rustls_pki_types::CertificateDer<'_>]>) -> Option<PeerIdentity> {
    PeerIdentity::from_certificate(certificates?.first()?).ok()
}

/// A listener, if the rules allow one there and the port is free.
pub fn bind(addr: SocketAddr, security: &Security) -> io::Result<TcpListener> {
    security
        .allow("listen on", addr)
        .map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
    bind_open(addr)
}

/// As [`bind`], for services that carry their own protection (S3, metrics).
pub fn bind_open(addr: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|e| {
        let cure = match e.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is taken; stop what listens there or choose another port (`store up --ports auto` finds free ones)".to_string()
            }
            io::ErrorKind::AddrNotAvailable => {
                "no interface of this machine has this address; use one that it has, or 0.0.0.0".to_string()
            }
            io::ErrorKind::PermissionDenied => {
                "this user may not; choose a port above 1023".to_string()
            }
            _ => e.to_string(),
        };
        io::Error::new(e.kind(), format!("cannot listen on {addr}: {cure}"))
    })
}

fn buffered(stream: Socket) -> BufReader<Socket> {
    BufReader::with_capacity(TLS_READ_BYTES, stream)
}

fn of_io(addr: SocketAddr, e: &io::Error) -> ConnectError {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused(addr.to_string()),
        _ => ConnectError::Unreachable(format!("{addr}: {e}")),
    }
}

/// A connection that ends within the TLS handshake: the process may be dying, or it speaks plain text.
fn of_tls_io(addr: SocketAddr, e: &io::Error) -> ConnectError {
    ConnectError::Unreachable(format!(
        "{addr}: the connection ended during the TLS handshake ({e}); if this stays so, the other end speaks plain text"
    ))
}

fn is_tls(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// What a person does about an error of TLS.
fn explain_tls(e: &io::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    let Some(error) = e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return e.to_string();
    };
    match error {
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "its certificate is not of this cluster's authority: it belongs to another cluster, or --identity names another cluster's file".to_string()
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired: issue a new one, or set the clock".to_string()
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "its certificate is not valid yet: set the clock of this machine".to_string()
        }
        Error::NoCertificatesPresented => {
            "it showed no certificate: give it one with --identity".to_string()
        }
        Error::AlertReceived(Alert::UnknownCA | Alert::CertificateRequired | Alert::BadCertificate | Alert::DecryptError) => {
            format!("it does not accept our certificate ({error}): --identity must name a file issued by its cluster's authority")
        }
        Error::InvalidMessage(_) => {
            "it does not speak TLS: both ends must have an identity, or both must be started with --insecure-plain-text".to_string()
        }
        other => format!("TLS: {other}"),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
