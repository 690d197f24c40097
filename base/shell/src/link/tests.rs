//! Links over real sockets on loopback: what they carry, what they refuse, and what they do when the peer is
//! silent, slow, strange or gone.

use super::*;
use crate::identity::{Authority, Identity, Role};
use crate::net::ConnectError;
use crate::security::{Expect, Security};
use crate::server::Server;
use crate::shutdown::Shutdown;
use bytes::{Buf, Bytes};
use std::net::SocketAddr;
use store_base::ClusterId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tonic::service::Routes;

const CLUSTER: ClusterId = ClusterId([1; 16]);
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server with what a test may want to look at.
struct Peer {
    addr: SocketAddr,
    links: mpsc::Receiver<Link>,
    metrics: LinkMetrics,
    shutdown: Shutdown,
    served: tokio::task::JoinHandle<()>,
}

fn hello(role: Role, name: &str) -> Hello {
    Hello::new(CLUSTER, role, name)
}

fn serve_as(hello: Hello, security: &Security, settings: LinkSettings) -> Peer {
    let any = "127.0.0.1:0".parse().expect("an address");
    let server = Server::bind(any, security).expect("loopback has free ports");
    let addr = server.local_addr().expect("bound");
    let metrics = LinkMetrics::default();
    let roles = [Role::Daemon, Role::Gateway];
    let (acceptor, links) = LinkAcceptor::new(hello, &roles, settings, metrics.clone());
    let shutdown = Shutdown::new();
    let served = tokio::spawn(server.serve(Routes::default(), Some(acceptor), shutdown.clone()));
    Peer { addr, links, metrics, shutdown, served }
}

fn serve(security: &Security) -> Peer {
    serve_as(hello(Role::Daemon, "0"), security, LinkSettings::default())
}

/// Sends back all that a link brings, until it ends.
async fn echo(mut link: Link) {
    while let Some(Ok(message)) = link.receiver.recv().await {
        if link.sender.send(vec![message]).await.is_err() {
            return;
        }
    }
}

fn dialer(security: &Security) -> Dialer {
    Dialer::new(security.clone(), LinkSettings::default(), LinkMetrics::default())
}

async fn dial(peer: &Peer, security: &Security) -> Result<Link, ConnectError> {
    let expect = Expect::peer(Role::Daemon, 0);
    dialer(security).dial(peer.addr, &expect, &hello(Role::Gateway, "g")).await
}

fn issue(authority: &Authority, role: Role, name: &str) -> Identity {
    authority.issue(role, name).expect("a good name")
}

fn tls(authority: &Authority, role: Role, name: &str) -> Security {
    Security::tls(issue(authority, role, name)).expect("usable")
}

/// Bytes that differ at every place and for every seed.
fn pattern(seed: usize, len: usize) -> Bytes {
    (0..len).map(|i| (seed.wrapping_mul(31) ^ i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

async fn echo_round(client: &Security, server: &Security) {
    let mut peer = serve(server);
    let link = dial(&peer, client).await.expect("it is there");
    assert_eq!(link.peer.to_string(), "daemon.0");
    let taken = peer.links.recv().await.expect("the acceptor hands it out");
    assert_eq!((taken.peer.to_string().as_str(), taken.hello.role), ("gateway.g", Role::Gateway));
    let echoing = tokio::spawn(echo(taken));

    let sizes: Vec<usize> =
        vec![0, 1, 5, 127, 128, 4096, 8191, 8192, 70_000, 300_000, 1 << 20, FRAME_BYTES_MAX];
    let Link { sender, mut receiver, .. } = link;
    let sent = sizes.clone();
    let sending = tokio::spawn(async move {
        for round in 0..3 {
            for (seed, len) in sent.iter().enumerate() {
                let whole = pattern(seed + round, *len);
                // Cut unevenly, with an empty piece: a message is the pieces in order.
                let (a, b) = (whole.slice(..len / 3), whole.slice(len / 3..));
                sender.send(vec![a, Bytes::new(), b]).await.expect("the link is open");
            }
        }
    });
    for round in 0..3 {
        for (seed, len) in sizes.iter().enumerate() {
            let back = timeout(PATIENCE, receiver.recv()).await.expect("in time");
            let back = back.expect("not ended").expect("not broken");
            assert!(back == pattern(seed + round, *len), "message {seed} of round {round}");
        }
    }
    // The senders are dropped: the echo ends in order, and so do we.
    sending.await.expect("no panic");
    assert!(timeout(PATIENCE, receiver.recv()).await.expect("in time").is_none());
    assert!(receiver.recv().await.is_none() && receiver.recv_now().is_none(), "it stays ended");
    echoing.await.expect("no panic");
    assert_eq!(peer.metrics.messages_received.get(), 1 + 3 * sizes.len() as u64, "with the hello");
    assert_eq!(peer.metrics.links_broken.get(), 0);
}

#[tokio::test]
async fn messages_come_back_in_plain_text() {
    echo_round(&Security::PlainLoopback, &Security::PlainLoopback).await;
}

#[tokio::test]
async fn messages_come_back_over_tls() {
    let authority = Authority::create(CLUSTER).expect("made");
    echo_round(&tls(&authority, Role::Gateway, "g"), &tls(&authority, Role::Daemon, "0")).await;
}

#[tokio::test]
async fn queued_messages_share_frames_and_arrive_in_order() {
    let mut peer = serve(&Security::PlainLoopback);
    let link = dial(&peer, &Security::PlainLoopback).await.expect("it is there");
    let mut taken = peer.links.recv().await.expect("handed out");
    for number in 0..1000u32 {
        link.sender
            .try_send(&[Bytes::copy_from_slice(&number.to_be_bytes())])
            .expect("there is room");
    }
    for number in 0..1000u32 {
        let mut message = taken.receiver.recv().await.expect("not ended").expect("not broken");
        assert_eq!(message.get_u32(), number);
    }
    drop((link, taken)); // receivers count when they end
    assert_eq!(peer.metrics.messages_reassembled.get(), 0, "nothing had to be put together");
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_the_queue_and_no_more() {
    let mut peer = serve(&Security::PlainLoopback);
    let link = dial(&peer, &Security::PlainLoopback).await.expect("it is there");
    let mut taken = peer.links.recv().await.expect("handed out");
    let piece = pattern(1, 100_000);
    let mut sent = 0usize;
    // Until a send does not get through for a while: everything on the way is full then.
    while timeout(Duration::from_millis(500), link.sender.send(vec![piece.clone()])).await.is_ok() {
        sent += 1;
        assert!(sent < 1000, "it never fills");
    }
    assert_eq!(link.sender.try_send(std::slice::from_ref(&piece)), Err(LinkError::Full));
    let held = sent * piece.len();
    let socket_buffers = 16 << 20; // what the kernel of either side may keep
    let bound = LinkSettings::default().queue_bytes_max
        + BATCH_BYTES_MAX
        + SEND_BUFFER_BYTES
        + CONNECTION_WINDOW_BYTES as usize
        + socket_buffers;
    assert!(held <= bound, "{held} bytes are held, the bound is {bound}");
    assert!(link.sender.queued_bytes() <= LinkSettings::default().queue_bytes_max);
    // Once it reads, everything comes, and the sender goes on.
    for number in 0..sent {
        let message = timeout(PATIENCE, taken.receiver.recv()).await.expect("in time");
        assert!(message.expect("not ended").expect("not broken") == piece, "message {number}");
    }
    timeout(PATIENCE, link.sender.send(vec![piece])).await.expect("in time").expect("open");
}

#[tokio::test]
async fn oversized_messages_are_refused_on_both_sides() {
    let mut peer = serve(&Security::PlainLoopback);
    let link = dial(&peer, &Security::PlainLoopback).await.expect("it is there");
    let large = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
    let refused = LinkError::TooLarge { bytes: FRAME_BYTES_MAX + 1, max: FRAME_BYTES_MAX };
    assert_eq!(link.sender.send(vec![large.clone()]).await, Err(refused.clone()));
    assert_eq!(link.sender.try_send(&[large]), Err(refused));
    let taken = peer.links.recv().await.expect("handed out");
    tokio::spawn(echo(taken));
    let Link { sender, mut receiver, .. } = link;
    sender.send(vec![Bytes::from_static(b"still open")]).await.expect("open");
    assert_eq!(receiver.recv().await.expect("not ended").expect("good"), "still open");
}

#[tokio::test]
async fn a_wrong_cluster_is_refused_and_both_are_named() {
    let other = ClusterId([2; 16]);
    let peer = serve(&Security::PlainLoopback);
    let expect = Expect::role(Role::Daemon);
    let stranger = Hello::new(other, Role::Gateway, "g");
    let error = dialer(&Security::PlainLoopback).dial(peer.addr, &expect, &stranger).await;
    let error = error.expect_err("refused");
    assert!(matches!(error, ConnectError::Rejected(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&CLUSTER.to_string()) && text.contains(&other.to_string()), "{text}");
    assert_eq!(peer.metrics.hellos_refused.get(), 1);
    assert!(!error.is_transient());
}

#[tokio::test]
async fn roles_that_are_not_let_in_or_not_expected_are_refused() {
    let peer = serve(&Security::PlainLoopback);
    let plain = dialer(&Security::PlainLoopback);
    let error =
        plain.dial(peer.addr, &Expect::role(Role::Daemon), &hello(Role::Metadata, "m")).await;
    let text = error.expect_err("not let in").to_string();
    assert!(text.contains("metadata.m may not open links to daemon.0"), "{text}");
    let error =
        plain.dial(peer.addr, &Expect::peer(Role::Daemon, 7), &hello(Role::Gateway, "g")).await;
    let text = error.expect_err("another daemon").to_string();
    assert!(text.contains("expected daemon.7, but daemon.0 answers there"), "{text}");
}

#[tokio::test]
async fn certificates_decide_who_is_who() {
    let authority = Authority::create(CLUSTER).expect("made");
    let stranger = Authority::create(CLUSTER).expect("made"); // the same cluster's id, another key
    let elsewhere = Authority::create(ClusterId([2; 16])).expect("made");
    let peer = serve(&tls(&authority, Role::Daemon, "0"));
    let gateway = hello(Role::Gateway, "g");
    let dial = async |security: Security, expect: Expect, hello: &Hello| {
        let dialer = dialer(&security);
        let dialing = dialer.dial(peer.addr, &expect, hello);
        timeout(PATIENCE, dialing).await.expect("in time").expect_err("refused")
    };

    // A server with another role's certificate than expected: known before a byte is said.
    let own = tls(&authority, Role::Gateway, "g");
    let error = dial(own.clone(), Expect::role(Role::Monitor), &gateway).await;
    assert!(
        matches!(&error, ConnectError::Untrusted(why) if why.contains("expected a monitor, but daemon.0")),
        "{error:?}"
    );

    // A client that claims to be whom its certificate does not name.
    let error = dial(own, Expect::role(Role::Daemon), &hello(Role::Daemon, "1")).await;
    assert!(
        matches!(&error, ConnectError::Rejected(why) if why.contains("daemon.1 shows the certificate of gateway.g")),
        "{error:?}"
    );

    // Other authorities, whatever they claim: the client does not believe the server.
    for other in [&stranger, &elsewhere] {
        let error =
            dial(tls(other, Role::Gateway, "g"), Expect::role(Role::Daemon), &gateway).await;
        assert!(
            matches!(&error, ConnectError::Untrusted(why) if why.contains("another cluster")),
            "{error:?}"
        );
    }

    // A client that believes everybody, with a certificate of a stranger: the server does not believe it.
    let forged = Identity::from_pem(&mixed(&issue(&stranger, Role::Gateway, "g"), &authority))
        .expect("it reads well");
    let forged = Security::tls(forged).expect("usable");
    let error = dial(forged, Expect::role(Role::Daemon), &gateway).await;
    assert!(
        matches!(&error, ConnectError::Untrusted(why) if why.contains("does not accept our certificate")),
        "{error:?}"
    );

    // Plain text to a port that asks for certificates, and TLS to one that does not.
    let error = dial(Security::PlainLoopback, Expect::role(Role::Daemon), &gateway).await;
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    let plain = serve(&Security::PlainLoopback);
    let security = tls(&authority, Role::Gateway, "g");
    let error = dialer(&security).dial(plain.addr, &Expect::role(Role::Daemon), &gateway).await;
    let text = error.expect_err("no TLS there").to_string();
    assert!(text.contains("TLS"), "{text}");
}

/// One's own certificate with another's authority, so that it believes that authority's servers.
fn mixed(own: &Identity, believed: &Authority) -> String {
    let pem = own.to_pem();
    let last = pem.rfind("-----BEGIN CERTIFICATE").expect("two certificates");
    let authority = believed.to_pem();
    let key = authority.find("-----BEGIN PRIVATE").expect("a key");
    format!("{}{}", &pem[..last], &authority[..key])
}

#[tokio::test]
async fn a_refused_connection_is_known_at_once() {
    let addr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
        listener.local_addr().expect("bound")
    };
    let start = Instant::now();
    let error = dialer(&Security::PlainLoopback)
        .dial(addr, &Expect::role(Role::Daemon), &hello(Role::Gateway, "g"))
        .await;
    let error = error.expect_err("nobody");
    assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
    assert!(error.is_transient() && start.elapsed() < Duration::from_secs(1));
    let far = "192.0.2.1:1".parse().expect("an address");
    let error = dialer(&Security::PlainLoopback)
        .dial(far, &Expect::role(Role::Daemon), &hello(Role::Gateway, "g"))
        .await;
    let text = error.expect_err("not in plain text").to_string();
    assert!(
        text.contains("--insecure-plain-text") && start.elapsed() < Duration::from_secs(1),
        "{text}"
    );
}

#[tokio::test]
async fn the_end_of_a_peer_is_seen_by_sender_and_receiver() {
    let mut peer = serve(&Security::PlainLoopback);
    let mut link = dial(&peer, &Security::PlainLoopback).await.expect("it is there");
    let taken = peer.links.recv().await.expect("handed out");
    drop(taken); // both halves: the stream ends, and what we send is not wanted
    assert!(timeout(PATIENCE, link.receiver.recv()).await.expect("in time").is_none());

    let mut link = dial(&peer, &Security::PlainLoopback).await.expect("it is there");
    let _taken = peer.links.recv().await.expect("handed out");
    peer.served.abort(); // as if the process died: its sockets close
    let last = timeout(PATIENCE, link.receiver.recv()).await.expect("in time");
    assert!(matches!(last, Some(Err(LinkError::Broken(_)))), "{last:?}");
    assert!(link.receiver.recv().await.is_none());
    let closed = async {
        while link.sender.send(vec![Bytes::from_static(b"x")]).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("the sender learns of it");
    assert!(link.sender.is_closed());
}

/// Passes bytes between a client and `to` until told to be silent; then the sockets stay open, as behind a
/// partition.
async fn proxy(to: SocketAddr, silent: Shutdown) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.expect("somebody comes");
        let mut far = TcpStream::connect(to).await.expect("it is there");
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = silent.wait() => {}
        }
        sleep(PATIENCE * 10).await;
        drop((near, far));
    });
    addr
}

#[tokio::test]
async fn a_silent_partition_is_noticed_by_both_ends_busy_or_idle() {
    let settings = LinkSettings {
        keep_alive_interval: Duration::from_millis(200),
        keep_alive_timeout: Duration::from_millis(600),
        ..LinkSettings::default()
    };
    for busy in [false, true] {
        let mut peer =
            serve_as(hello(Role::Daemon, "0"), &Security::PlainLoopback, settings.clone());
        let silent = Shutdown::new();
        let through = proxy(peer.addr, silent.clone()).await;
        let dialer = Dialer::new(Security::PlainLoopback, settings.clone(), LinkMetrics::default());
        let expect = Expect::role(Role::Daemon);
        let mut link =
            dialer.dial(through, &expect, &hello(Role::Gateway, "g")).await.expect("through");
        let mut taken = peer.links.recv().await.expect("handed out");
        sleep(Duration::from_secs(1)).await; // several pings: an idle link lives
        assert!(!link.sender.is_closed());
        silent.trigger();
        let start = Instant::now();
        let sender = link.sender.clone();
        let stuffing = tokio::spawn(async move {
            while busy && sender.send(vec![pattern(1, 60_000)]).await.is_ok() {}
        });
        let here = timeout(PATIENCE, link.receiver.recv()).await.expect("noticed");
        assert!(matches!(here, Some(Err(LinkError::Broken(_)))), "{here:?}");
        let there = async {
            loop {
                match taken.receiver.recv().await {
                    Some(Ok(_)) => {}
                    other => return other,
                }
            }
        };
        let there = timeout(PATIENCE, there).await.expect("noticed");
        assert!(matches!(there, Some(Err(LinkError::Broken(_)))), "{there:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        timeout(PATIENCE, stuffing).await.expect("senders are released").expect("no panic");
        assert_eq!(peer.metrics.links_open.get(), 0);
    }
}

#[tokio::test]
async fn a_stop_ends_links_after_what_is_queued() {
    let mut peer = serve(&Security::PlainLoopback);
    let mut link = dial(&peer, &Security::PlainLoopback).await.expect("it is there");
    let taken = peer.links.recv().await.expect("handed out");
    for number in 0..100u8 {
        taken.sender.try_send(&[Bytes::copy_from_slice(&[number; 1000])]).expect("there is room");
    }
    let start = Instant::now();
    peer.shutdown.trigger();
    for number in 0..100u8 {
        let message = timeout(PATIENCE, link.receiver.recv()).await.expect("in time");
        assert_eq!(message.expect("not ended").expect("not broken")[0], number);
    }
    let last = timeout(PATIENCE, link.receiver.recv()).await.expect("in time");
    assert_eq!(last, Some(Err(LinkError::Broken("the service is stopping".to_string()))));
    assert_eq!(taken.sender.send(vec![Bytes::new()]).await, Err(LinkError::Closed));
    drop((link, taken));
    timeout(PATIENCE, peer.served).await.expect("in time").expect("no panic");
    assert!(start.elapsed() < crate::server::STOP_TIMEOUT, "nothing had to be cut");
    let error = TcpStream::connect(peer.addr).await.expect_err("it listens no more");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn strangers_are_dismissed_cleanly() {
    let peer = serve(&Security::PlainLoopback);
    let ask = async |bytes: &'static [u8]| {
        let mut stream = TcpStream::connect(peer.addr).await.expect("it listens");
        stream.write_all(bytes).await.expect("it reads");
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time");
        read.map(|_| String::from_utf8_lossy(&answer).into_owned())
    };
    let banner = b"ceph v027\x01\x02\x03\x04\x05\x06\x07\x08and more that nobody reads";
    assert_eq!(ask(banner).await.expect("an end, not a reset"), "");
    let answer = ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("an end, not a reset");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("gRPC"), "{answer}");
    assert_eq!(ask(b"\xff\xfe\xfd").await.expect("an end, not a reset"), "");
    // One byte at a time is still recognised.
    let mut slow = TcpStream::connect(peer.addr).await.expect("it listens");
    for byte in *b"ceph v2\n" {
        slow.write_all(&[byte]).await.expect("it reads");
        sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(
        timeout(PATIENCE, slow.read(&mut [0; 1])).await.expect("in time").expect("an end"),
        0
    );
    // And a peer of ours is still served.
    dial(&peer, &Security::PlainLoopback).await.expect("it is there");
}

#[tokio::test]
async fn a_full_house_turns_connections_away_and_recovers() {
    let any = "127.0.0.1:0".parse().expect("an address");
    let server = Server::bind(any, &Security::PlainLoopback).expect("free").with_connections_max(1);
    let addr = server.local_addr().expect("bound");
    let (acceptor, mut links) = LinkAcceptor::new(
        hello(Role::Daemon, "0"),
        &[Role::Gateway],
        LinkSettings::default(),
        LinkMetrics::default(),
    );
    tokio::spawn(server.serve(Routes::default(), Some(acceptor), Shutdown::new()));
    let expect = Expect::role(Role::Daemon);
    let dialer = dialer(&Security::PlainLoopback);
    let first = dialer.dial(addr, &expect, &hello(Role::Gateway, "a")).await.expect("room for one");
    let taken = links.recv().await.expect("handed out");
    let error = dialer.dial(addr, &expect, &hello(Role::Gateway, "b")).await.expect_err("full");
    assert!(error.is_transient(), "{error:?}");
    drop((first, taken));
    let again = async {
        while dialer.dial(addr, &expect, &hello(Role::Gateway, "c")).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("the place is free again");
}

/// A stock gRPC client: tonic's own, with prost messages.
#[derive(Clone, PartialEq, prost::Message)]
struct StockFrame {
    #[prost(bytes = "vec", tag = "1")]
    body: Vec<u8>,
}

struct StockSender(mpsc::Sender<StockFrame>);

impl StockSender {
    async fn send(&mut self, body: Vec<u8>) -> Result<(), mpsc::error::SendError<StockFrame>> {
        self.0.send(StockFrame { body }).await
    }
}

struct StockReceiver(
    Option<tonic::Streaming<StockFrame>>,
    Option<tokio::task::JoinHandle<Result<tonic::Streaming<StockFrame>, tonic::Status>>>,
);

impl StockReceiver {
    async fn message(&mut self) -> Result<Option<StockFrame>, tonic::Status> {
        if let Some(opening) = self.1.take() {
            self.0 = Some(opening.await.expect("no panic")?);
        }
        self.0.as_mut().expect("opened").message().await
    }
}

async fn stock_link(peer: &Peer) -> (StockSender, StockReceiver) {
    let address = peer.addr.into();
    let channel =
        crate::channel::channel(&address, &Security::PlainLoopback, &Expect::role(Role::Daemon));
    let (sender, frames) = mpsc::channel(16);
    let opening = tokio::spawn(async move {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
        let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
        let codec = tonic_prost::ProstCodec::<StockFrame, StockFrame>::default();
        let path = http::uri::PathAndQuery::from_static(PATH);
        let response = client.streaming(tonic::Request::new(frames), path, codec).await?;
        Ok(response.into_inner())
    });
    (StockSender(sender), StockReceiver(None, Some(opening)))
}

#[tokio::test]
async fn a_stock_grpc_client_can_speak_it() {
    use store_base::codec::{Decode, Encode};
    let mut peer = serve(&Security::PlainLoopback);
    let (mut sender, mut receiver) = stock_link(&peer).await;
    sender.send(hello(Role::Gateway, "stock").to_bytes().to_vec()).await.expect("taken");
    let theirs = receiver.message().await.expect("good").expect("a hello");
    let theirs = Hello::from_bytes(theirs.body.into()).expect("a hello");
    assert_eq!((theirs.role, theirs.name.as_str()), (Role::Daemon, "0"));
    let taken = peer.links.recv().await.expect("handed out");
    assert_eq!(taken.peer.to_string(), "gateway.stock");
    let echoing = tokio::spawn(echo(taken));
    for len in [0, 1, 200, 20_000, 1 << 20] {
        let body = pattern(len, len).to_vec();
        sender.send(body.clone()).await.expect("taken");
        let back = receiver.message().await.expect("good").expect("an echo");
        assert!(back.body == body, "{len} bytes");
    }
    drop(sender);
    assert_eq!(receiver.message().await.expect("a good end"), None);
    echoing.await.expect("no panic");

    let (mut sender, mut receiver) = stock_link(&peer).await;
    sender.send(vec![7; FRAME_BYTES_MAX + 100]).await.expect("taken");
    let status = receiver.message().await.expect_err("refused");
    assert!(status.message().contains("above the limit"), "{status:?}");

    let (mut sender, mut receiver) = stock_link(&peer).await;
    sender.send(b"good day".to_vec()).await.expect("taken");
    let status = receiver.message().await.expect_err("that was no hello");
    assert!(status.message().contains("no hello"), "{status:?}");
}
