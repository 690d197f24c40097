//! Sockets between processes of one machine.
//!
//! Every listener of ours has a socket beside its TCP port in Linux' abstract namespace, named after its address:
//! `store/127.0.0.1:7100`. Who dials the address tries that name first. It is there only in the network namespace
//! of the listener, so it is never another machine's, and it goes with the process. What is said on it is the same,
//! TLS included; it costs a third of the processor time that TCP takes for it, because nothing is cut into
//! segments, summed and acknowledged.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixListener, UnixStream};

/// A socket to another machine, or to a process of this one.
#[derive(Debug)]
pub enum Socket {
    /// Over the network.
    Tcp(TcpStream),
    /// Within the machine.
    Local(UnixStream),
}

/// Names of this kind exist on Linux only.
const SUPPORTED: bool = cfg!(target_os = "linux");

fn name(addr: SocketAddr) -> String {
    format!("\0store/{addr}")
}

/// The socket beside the TCP listener on this address. Without one everybody uses TCP.
pub(crate) fn listen(addr: SocketAddr) -> Option<UnixListener> {
    if !SUPPORTED {
        return None;
    }
    UnixListener::bind(name(addr))
        .inspect_err(|error| tracing::info!(%addr, %error, "no local socket beside the port"))
        .ok()
}

/// Connects to the process of this machine that listens there, if one does.
pub(crate) async fn connect(addr: SocketAddr) -> Option<UnixStream> {
    if !SUPPORTED {
        return None;
    }
    if let Ok(stream) = UnixStream::connect(name(addr)).await {
        return Some(stream);
    }
    // Who listens on all addresses of its machine listens on ours only if this one is ours.
    let all: IpAddr = match addr {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    if !is_own(addr.ip(), all) {
        return None;
    }
    UnixStream::connect(name(SocketAddr::new(all, addr.port()))).await.ok()
}

/// Whether an address is one of this machine's: then what is sent there would come from there. Nothing is sent.
fn is_own(ip: IpAddr, all: IpAddr) -> bool {
    let source = || {
        let socket = UdpSocket::bind((all, 0))?;
        socket.connect((ip, 9))?;
        io::Result::Ok(socket.local_addr()?.ip())
    };
    source().is_ok_and(|source| source == ip)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Local(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Local(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Local(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Local(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Local(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// An address that nobody else uses while the listener is held.
    async fn taken(ip: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        (listener, addr)
    }

    #[tokio::test]
    async fn the_process_that_has_the_port_is_found_under_every_address_of_the_machine() {
        let (_tcp, addr) = taken("0.0.0.0").await;
        let here = SocketAddr::from(([127, 0, 0, 1], addr.port()));
        assert!(connect(here).await.is_none(), "nobody listens yet");
        let listener = listen(addr).expect("abstract names");
        let mut dialled = connect(here).await.expect("it listens on all addresses");
        let (mut accepted, _) = listener.accept().await.unwrap();
        dialled.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        // TEST-NET-1 is nobody's: the port of the same number there is another machine's.
        assert!(connect(SocketAddr::from(([192, 0, 2, 1], addr.port()))).await.is_none());
        drop(listener);
        assert!(connect(here).await.is_none(), "it goes with the listener");
    }

    #[tokio::test]
    async fn a_listener_on_one_address_is_found_under_that_one_only() {
        let (_tcp, addr) = taken("127.0.0.2").await;
        let _listener = listen(addr).expect("abstract names");
        assert!(connect(addr).await.is_some());
        assert!(connect(SocketAddr::from(([127, 0, 0, 1], addr.port()))).await.is_none());
        assert!(listen(addr).is_none(), "the name is taken");
    }
}
