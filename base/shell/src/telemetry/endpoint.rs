//! `/metrics`, `/health/live` and `/health/ready` over HTTP, and the client that asks for the last.

use super::metrics::{Metrics, page};
use crate::net;
use crate::shutdown::Shutdown;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The default port.
pub const PORT: u16 = 9283;
/// Scrapers and probes served at a time; others wait.
const CONNECTIONS_MAX: usize = 64;
/// How long a caller may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one connection may be kept.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a probe waits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer to a probe.
const PROBE_BYTES_MAX: u64 = 64 * 1024;
/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Says whether a role is ready, or why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the HTTP port shows: the metrics and readiness of all roles of this process.
#[derive(Clone, Default)]
pub struct Endpoint {
    metrics: Vec<Metrics>,
    roles: Vec<(String, Readiness)>,
}

impl Endpoint {
    /// Shows the process' own metrics, and is ready at once.
    pub fn new() -> Self {
        Endpoint { metrics: vec![Metrics::process()], roles: Vec::new() }
    }

    /// Adds a role's metrics.
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics.push(metrics);
        self
    }

    /// Adds a role's readiness. The process is ready when all its roles are.
    pub fn with_role(
        mut self,
        name: impl Into<String>,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.roles.push((name.into(), Arc::new(ready)));
        self
    }

    /// Listens; the error is one line that names the cure. The port tells nothing secret and needs no
    /// certificate, so that scrapers and container platforms can ask.
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        net::bind_open(addr)
    }

    /// Serves until `shutdown`; then live goes on answering for as long as the process lets this future run,
    /// and ready says "stopping".
    pub async fn serve(self, listener: TcpListener, shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let shared = Arc::new(self);
        loop {
            let place =
                places.clone().acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (shared, shutdown) = (shared.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        // A caller that goes away or speaks nonsense is nobody's concern.
                        let _ =
                            timeout(CONNECTION_TIMEOUT, shared.converse(stream, shutdown)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn converse(
        self: Arc<Self>,
        stream: TcpStream,
        shutdown: Shutdown,
    ) -> Result<(), hyper::Error> {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = self.answer(&request, shutdown.is_triggered());
            async move { Ok::<_, Infallible>(response) }
        });
        Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await
    }

    fn answer(&self, request: &Request<Incoming>, stopping: bool) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".to_string());
        }
        match request.uri().path() {
            "/metrics" => self.answer_metrics(request),
            "/health/live" => respond(StatusCode::OK, PLAIN, "live\n".to_string()),
            "/health/ready" => match self.readiness(stopping) {
                Ok(()) => respond(StatusCode::OK, PLAIN, "ready\n".to_string()),
                Err(why) => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
            },
            _ => respond(
                StatusCode::NOT_FOUND,
                PLAIN,
                "here are /metrics, /health/live and /health/ready\n".to_string(),
            ),
        }
    }

    fn answer_metrics(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let open_metrics = accept.is_some_and(|accept| accept.contains("openmetrics"));
        match page(&self.metrics, open_metrics) {
            Ok(text) => respond(
                StatusCode::OK,
                if open_metrics { OPEN_METRICS } else { PROMETHEUS_TEXT },
                text,
            ),
            Err(fmt::Error) => respond(
                StatusCode::INTERNAL_SERVER_ERROR,
                PLAIN,
                "metrics cannot be written\n".to_string(),
            ),
        }
    }

    /// Whether all roles are ready; else the reasons of those that are not, `role: reason`.
    pub fn readiness(&self, stopping: bool) -> Result<(), String> {
        if stopping {
            return Err("stopping".to_string());
        }
        let reasons: Vec<String> = self
            .roles
            .iter()
            .filter_map(|(name, ready)| Some(format!("{name}: {}", ready().err()?)))
            .collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<&str> = self.roles.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Endpoint").field("roles", &roles).finish_non_exhaustive()
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .body(Full::new(Bytes::from(body)))
        .expect("a response of constants")
}

/// Asks the process at `addr` whether it is ready; the error is its reason, or why it cannot be asked. An
/// unspecified address (`0.0.0.0`) means this machine.
pub async fn probe(addr: SocketAddr) -> Result<(), String> {
    let addr = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port())
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), addr.port())
        }
        _ => addr,
    };
    let asking = async {
        let mut stream = TcpStream::connect(addr).await?;
        let request =
            format!("GET /health/ready HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(PROBE_BYTES_MAX).read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = match timeout(PROBE_TIMEOUT, asking).await {
        Ok(Ok(answer)) => String::from_utf8_lossy(&answer).into_owned(),
        Ok(Err(e)) => return Err(format!("{addr}: {e}")),
        Err(_) => return Err(format!("{addr}: no answer in {PROBE_TIMEOUT:?}")),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1);
    match status {
        Some("200") => Ok(()),
        Some("503") => Err(body.trim().to_string()),
        _ => Err(format!("{addr}: not a health port of ours")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use std::sync::atomic::{AtomicBool, Ordering};

    async fn ask(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_shown() {
        let metrics = Metrics::new("daemon", "3");
        let puts = Counter::<u64>::default();
        puts.inc_by(7);
        metrics.register(|registry| registry.register("puts", "Objects put", puts.clone()));
        let ready = Arc::new(AtomicBool::new(false));
        let flag = ready.clone();
        let endpoint = Endpoint::new().with_metrics(metrics).with_role("daemon.3", move || {
            if flag.load(Ordering::Relaxed) { Ok(()) } else { Err("no map yet".to_string()) }
        });
        let listener = Endpoint::bind("127.0.0.1:0".parse().expect("ok")).expect("free");
        let addr = listener.local_addr().expect("bound");
        let shutdown = Shutdown::new();
        tokio::spawn(endpoint.serve(listener, shutdown.clone()));

        assert_eq!(probe(addr).await, Err("daemon.3: no map yet".to_string()));
        ready.store(true, Ordering::Relaxed);
        assert_eq!(probe(addr).await, Ok(()));
        let page = ask(addr, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(page.contains("# TYPE store_puts_total counter\n"), "{page}");
        assert!(page.contains("store_puts_total{role=\"daemon\",name=\"3\"} 7\n"), "{page}");
        assert!(page.contains("process_resident_memory_bytes "), "{page}");
        let open = ask(addr, "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: application/openmetrics-text\r\nconnection: close\r\n\r\n").await;
        assert!(
            open.contains("application/openmetrics-text") && open.ends_with("# EOF\n"),
            "{open}"
        );
        for (request, status) in
            [("GET /health/live", "200"), ("GET /x", "404"), ("POST /metrics", "405")]
        {
            let answer =
                ask(addr, &format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
                    .await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        shutdown.trigger();
        assert_eq!(probe(addr).await, Err("stopping".to_string()));
    }

    #[tokio::test]
    async fn a_probe_of_nothing_says_so() {
        let listener = Endpoint::bind("127.0.0.1:0".parse().expect("ok")).expect("free");
        let addr = listener.local_addr().expect("bound");
        drop(listener);
        assert!(probe(addr).await.expect_err("nobody").contains(&addr.to_string()));
        let port: SocketAddr = "0.0.0.0:1".parse().expect("ok");
        assert!(probe(port).await.expect_err("nobody").contains("127.0.0.1:1"));
    }
}
