//! What a link costs, both ends together: processor time per 4 KiB message at depth 16, and per GB of 1 MiB
//! messages. Run it with `cargo run --release -p store-shell --example link_bench [-- tls]`.
//!
//! Client and server are a `current_thread` runtime each, on a thread of its own, as a gateway and a daemon are;
//! they talk over loopback TCP. Each line is the median of several rounds.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // a probe: threads, clocks and a table

use bytes::Bytes;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use store_base::ClusterId;
use store_shell::identity::{Authority, Role};
use store_shell::link::{Dialer, Hello, Link, LinkAcceptor, LinkMetrics, LinkSettings};
use store_shell::security::{Expect, Security};
use store_shell::server::Server;
use store_shell::shutdown::Shutdown;

store_shell::use_allocator!();

const CLUSTER: ClusterId = ClusterId([1; 16]);
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);

/// One case: what is asked, what comes back, and how many are under way.
struct Case {
    what: &'static str,
    request_bytes: usize,
    reply_bytes: usize,
    depth: usize,
}

const CASES: [Case; 6] = [
    Case { what: "128 B echo, depth 1", request_bytes: 128, reply_bytes: 128, depth: 1 },
    Case { what: "128 B echo, depth 16", request_bytes: 128, reply_bytes: 128, depth: 16 },
    Case { what: "4 KiB put, depth 1", request_bytes: 4096, reply_bytes: 32, depth: 1 },
    Case { what: "4 KiB put, depth 16", request_bytes: 4096, reply_bytes: 32, depth: 16 },
    Case { what: "1 MiB put, depth 4", request_bytes: 1 << 20, reply_bytes: 32, depth: 4 },
    Case { what: "1 MiB get, depth 4", request_bytes: 32, reply_bytes: 1 << 20, depth: 4 },
];

fn main() {
    let encrypted = std::env::args().any(|arg| arg == "tls");
    let authority = Authority::create(CLUSTER).expect("an authority");
    let security = |role, name| match encrypted {
        true => Security::tls(authority.issue(role, name).expect("issued")).expect("usable"),
        false => Security::PlainLoopback,
    };
    println!("{} over loopback, both ends", if encrypted { "TLS" } else { "plain text" });
    for case in &CASES {
        let addr = start_server(security(Role::Daemon, "0"), case.reply_bytes);
        let client = security(Role::Gateway, "g");
        let mut rounds = runtime().block_on(async {
            let dialer = Dialer::new(client, LinkSettings::default(), LinkMetrics::default());
            let hello = Hello::new(CLUSTER, Role::Gateway, "g");
            let dialled = dialer.dial(addr, &Expect::role(Role::Daemon), &hello).await;
            let mut link = dialled.expect("the server is there");
            let mut rounds = Vec::new();
            for round in 0..=ROUNDS {
                let measured = measure(&mut link, case).await;
                if round > 0 {
                    rounds.push(measured); // the first warms up
                }
            }
            rounds
        });
        rounds.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (rate, cpu) = rounds[ROUNDS / 2];
        let bytes = (case.request_bytes + case.reply_bytes) as f64;
        println!(
            "{:22} {rate:9.0}/s {:7.3} GB/s  {:8.2} us CPU per message  {:6.3} s CPU per GB",
            case.what,
            rate * bytes / 1e9,
            cpu * 1e6,
            cpu / (bytes / 1e9)
        );
    }
}

/// Messages per second and seconds of processor time per message.
async fn measure(link: &mut Link, case: &Case) -> (f64, f64) {
    let payload = Bytes::from(vec![0x5a; case.request_bytes - 16]);
    let head = Bytes::from(vec![1; 16]);
    let rope = vec![head, payload];
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let (mut sent, mut answered) = (0u64, 0u64);
    while answered < sent || start.elapsed() < ROUND {
        while sent - answered < case.depth as u64 && start.elapsed() < ROUND {
            link.sender.send(rope.clone()).await.expect("the link is open");
            sent += 1;
        }
        let mut next = link.receiver.recv().await;
        while let Some(reply) = next {
            assert_eq!(reply.expect("the link is open").len(), case.reply_bytes);
            answered += 1;
            next = link.receiver.recv_now();
        }
    }
    (answered as f64 / start.elapsed().as_secs_f64(), (cpu_seconds() - cpu) / answered as f64)
}

fn start_server(security: Security, reply_bytes: usize) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let any = "127.0.0.1:0".parse().expect("an address");
            let server = Server::bind(any, &security).expect("a free port");
            tell.send(server.local_addr().expect("bound")).expect("main waits");
            let hello = Hello::new(CLUSTER, Role::Daemon, "0");
            let (acceptor, mut links) = LinkAcceptor::new(
                hello,
                &[Role::Gateway],
                LinkSettings::default(),
                LinkMetrics::default(),
            );
            tokio::spawn(server.serve(Default::default(), Some(acceptor), Shutdown::new()));
            let payload = Bytes::from(vec![0xa5; reply_bytes - 16]);
            while let Some(link) = links.recv().await {
                tokio::spawn(answer(link, payload.clone()));
            }
        });
    });
    told.recv().expect("the server starts")
}

async fn answer(mut link: Link, payload: Bytes) {
    while let Some(Ok(request)) = link.receiver.recv().await {
        let reply = vec![request.slice(..16), payload.clone()];
        if link.sender.send(reply).await.is_err() {
            return;
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// User and system time of the whole process. The kernel's accounting of the process is exact to the
/// nanosecond; what /proc shows is rounded.
fn cpu_seconds() -> f64 {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9
}
