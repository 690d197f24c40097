//! Clients of the gateways: PUT, GET, DELETE, conditional PUT and multipart uploads of shared keys, without
//! retries: what was not answered has an unknown outcome. Every key is a register (`register.rs`).

use crate::body;
use crate::history::{Book, Class, Open};
use crate::register::{Act, Step};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store_tests::s3::{Signer, UNSIGNED};
use store_tests::sim::random::Random;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The bucket of all keys.
pub(crate) const BUCKET: &str = "faults";
/// Keys in use at a time.
const KEYS: u64 = 8;
/// Operations of one key, after which it gets another name; unknown outcomes count as many.
const USE_MAX: u32 = 300;
const UNKNOWN_USE: u32 = 60;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause after a request that was not answered.
const BREATH: Duration = Duration::from_millis(50);
/// Bytes of bodies, each half as frequent as the one before: two within the index, a piece, several.
const SIZES: [usize; 5] = [100, 8_000, 100_000, 1_000_000, 5_000_000];

/// What all clients of a round share.
pub(crate) struct Keys {
    round: u32,
    uses: Mutex<BTreeMap<u64, (u32, u32)>>,
    used: Mutex<Vec<String>>,
}

impl Keys {
    pub(crate) fn new(round: u32) -> Arc<Keys> {
        Arc::new(Keys { round, uses: Mutex::default(), used: Mutex::default() })
    }

    fn choose(&self, number: u64, weight: u32) -> String {
        let mut uses = self.uses.lock().expect("no holder of this lock panics");
        let (generation, count) = uses.entry(number).or_default();
        *count += weight;
        if *count > USE_MAX {
            (*generation, *count) = (*generation + 1, 0);
        }
        let key = format!("k{number}.{}.{generation}", self.round);
        let mut used = self.used.lock().expect("no holder of this lock panics");
        if !used.contains(&key) {
            used.push(key.clone());
        }
        key
    }

    /// Every key that was used in this round.
    pub(crate) fn used(&self) -> Vec<String> {
        self.used.lock().expect("no holder of this lock panics").clone()
    }
}

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) body: Bytes,
}

/// A request to be signed and sent.
struct Call<'a> {
    method: Method,
    key: &'a str,
    /// In canonical form.
    query: String,
    body: Bytes,
    condition: Option<(&'static str, String)>,
}

impl<'a> Call<'a> {
    fn new(method: Method, key: &'a str) -> Call<'a> {
        Call { method, key, query: String::new(), body: Bytes::new(), condition: None }
    }
}

/// A kept connection to one of the gateways; after a failure the next one has its turn.
pub(crate) struct Connection {
    signers: Vec<Signer>,
    turn: usize,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(crate) fn new(signers: Vec<Signer>, turn: usize) -> Connection {
        Connection { signers, turn, sender: None }
    }

    async fn send(&mut self, call: Call<'_>) -> Result<Answer> {
        let answered = timeout(PATIENCE, self.exchange(call)).await;
        match answered {
            Ok(Ok(answer)) if answer.status < 500 => Ok(answer),
            Ok(Ok(answer)) => {
                self.next();
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.next();
                Err(error)
            }
            Err(_) => {
                self.next();
                bail!("no answer in {PATIENCE:?}")
            }
        }
    }

    fn next(&mut self) {
        self.sender = None;
        self.turn += 1;
    }

    async fn exchange(&mut self, call: Call<'_>) -> Result<Answer> {
        let signer = &self.signers[self.turn % self.signers.len()];
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(&signer.host).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // Its end shows in the answer that does not come.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        let slash = if call.key.is_empty() { "" } else { "/" };
        let path = format!("/{BUCKET}{slash}{}", call.key);
        let target = match call.query.is_empty() {
            true => path.clone(),
            false => format!("{path}?{}", call.query),
        };
        let mut request = Request::builder().method(call.method.clone()).uri(target);
        for (name, value) in signer.headers(call.method.as_str(), &path, &call.query, UNSIGNED) {
            request = request.header(name, value);
        }
        if let Some((name, value)) = call.condition {
            request = request.header(name, value);
        }
        let sender = self.sender.as_mut().context("connected above")?;
        sender.ready().await?;
        let answer = sender.send_request(request.body(Full::new(call.body))?).await?;
        let status = answer.status().as_u16();
        let etag =
            answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(Answer { status, etag, body })
    }

    /// Makes the bucket, however long the gateways take to be there.
    pub(crate) async fn make_bucket(&mut self, patience: Duration) -> Result<()> {
        let made = async {
            loop {
                match self.send(Call::new(Method::PUT, "")).await {
                    Ok(answer) if [200, 409].contains(&answer.status) => return,
                    _ => tokio::time::sleep(BREATH).await,
                }
            }
        };
        timeout(patience, made).await.context("the bucket cannot be made")
    }

    /// All keys that a listing shows.
    pub(crate) async fn list(&mut self) -> Result<Vec<String>> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let mut call = Call::new(Method::GET, "");
            let after = keys.last().map_or(String::new(), |last| format!("&start-after={last}"));
            call.query = format!("list-type=2{after}");
            let answer = self.send(call).await?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            if answer.status != 200 {
                bail!("the listing was answered {}: {text}", answer.status);
            }
            let found = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
            keys.extend(found.map(|(key, _)| key.to_owned()));
            if !text.contains("<IsTruncated>true</IsTruncated>") {
                return Ok(keys);
            }
        }
    }

    /// Deletes a key; whether that was answered.
    pub(crate) async fn delete(&mut self, key: &str) -> bool {
        self.send(Call::new(Method::DELETE, key)).await.is_ok_and(|answer| answer.status == 204)
    }
}

/// One client: one request at a time.
pub(crate) struct Worker {
    pub(crate) number: u32,
    pub(crate) connection: Connection,
    pub(crate) book: Arc<Book>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) random: Random,
}

impl Worker {
    /// Works until the book says stop.
    pub(crate) async fn run(mut self) {
        while !self.book.is_stopping() {
            let key = self.keys.choose(self.random.below(KEYS), 1);
            match self.random.below(20) {
                0..=6 => self.put(&key, None).await,
                7..=13 => drop(self.read(&key).await),
                14 => self.delete(&key).await,
                15..=16 => self.put(&key, Some(None)).await,
                17..=18 => {
                    if let Some(Some(seen)) = self.read(&key).await {
                        self.put(&key, Some(Some(seen))).await;
                    }
                }
                _ => self.multipart(&key).await,
            }
        }
    }

    fn step(&self, key: &str, act: Act, open: &Open, ended: Option<u64>) {
        let key = format!("s3/{key}");
        self.book.step(Step { key, act, began: open.began, ended, client: self.number });
    }

    /// Sends one that changes something and notes how it ended. `refusals`: what a status says of the key.
    async fn change(&mut self, call: Call<'_>, act: Act, refusals: &[(u16, Act)]) {
        let key = call.key.to_owned();
        let open = self.book.begin(Class::S3Write);
        let answer = self.connection.send(call).await;
        let good = |answer: &Answer| {
            // A completion may fail behind its status.
            answer.status / 100 == 2 && !answer.body.windows(7).any(|window| window == b"<Error>")
        };
        match answer {
            Ok(answer) if good(&answer) => {
                let ended = self.book.end(&open, true);
                self.step(&key, act, &open, Some(ended));
            }
            Ok(answer) if answer.status / 100 == 4 => {
                let ended = self.book.end(&open, true);
                match refusals.iter().find(|(status, _)| *status == answer.status) {
                    Some((_, saw)) => self.step(&key, *saw, &open, Some(ended)),
                    None => self.refused(&key, &answer),
                }
            }
            Ok(_) | Err(_) => {
                self.book.end(&open, false);
                self.step(&key, act, &open, None);
                let number = key[1..].split('.').next().and_then(|number| number.parse().ok());
                self.keys.choose(number.unwrap_or(0), UNKNOWN_USE);
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    /// A refusal that nothing in the state of the key explains. Two changes that met are told so; a gateway
    /// whose clock is wrong refuses signatures; both have done nothing.
    fn refused(&self, key: &str, answer: &Answer) {
        let text = String::from_utf8_lossy(&answer.body);
        if !text.contains("RequestTimeTooSkewed") && !text.contains("ConditionalRequestConflict") {
            self.book.wrong(format!("s3/{key}: refused with {}: {text}", answer.status));
        }
    }

    /// `guard`: nothing must be there, or this value with this tag.
    async fn put(&mut self, key: &str, guard: Option<Option<(u64, String)>>) {
        let value = self.book.value();
        let mut call = Call::new(Method::PUT, key);
        call.body = body::make(value, body::size_of(value, &SIZES));
        match guard {
            None => self.change(call, Act::Put(value), &[]).await,
            Some(None) => {
                call.condition = Some(("if-none-match", "*".to_owned()));
                self.change(call, Act::Swap(None, value), &[(412, Act::SawSome)]).await;
            }
            Some(Some((old, tag))) => {
                call.condition = Some(("if-match", tag));
                let refusals = [(412, Act::SawNot(Some(old))), (404, Act::Saw(None))];
                self.change(call, Act::Swap(Some(old), value), &refusals).await;
            }
        }
    }

    async fn delete(&mut self, key: &str) {
        self.change(Call::new(Method::DELETE, key), Act::Clear, &[]).await;
    }

    /// What is there and its tag; `None` if that was not answered.
    pub(crate) async fn read(&mut self, key: &str) -> Option<Option<(u64, String)>> {
        let open = self.book.begin(Class::S3Read);
        let answer = match self.connection.send(Call::new(Method::GET, key)).await {
            Ok(answer) if answer.status < 500 => answer,
            Ok(_) | Err(_) => {
                self.book.end(&open, false);
                tokio::time::sleep(BREATH).await;
                return None;
            }
        };
        let ended = self.book.end(&open, true);
        let seen = match answer.status {
            200 => match body::value_of(&answer.body, |value| body::size_of(value, &SIZES)) {
                Ok(value) => Some((value, answer.etag.unwrap_or_default())),
                Err(why) => {
                    self.book.wrong(format!("s3/{key}: {why}"));
                    return None;
                }
            },
            404 => None,
            _ => {
                self.refused(key, &answer);
                return None;
            }
        };
        self.step(key, Act::Saw(seen.as_ref().map(|(value, _)| *value)), &open, Some(ended));
        Some(seen)
    }

    /// Reads a key once more, within the patience: whether it is there.
    pub(crate) async fn read_last(&mut self, key: &str, patience: Duration) -> Option<bool> {
        let until = self.book.now() + patience.as_nanos() as u64;
        loop {
            let before = self.book.now();
            let seen = self.read(key).await;
            if seen.is_some() || before > until {
                return seen.map(|seen| seen.is_some());
            }
        }
    }

    async fn multipart(&mut self, key: &str) {
        let value = self.book.value();
        let mut call = Call::new(Method::POST, key);
        call.query = "uploads=".to_owned();
        let Some(begun) = self.prepare(call).await else { return };
        let text = String::from_utf8_lossy(&begun.body).into_owned();
        let upload =
            text.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
        let Some((upload, _)) = upload else {
            return self.book.wrong(format!("s3/{key}: an upload without an id: {text}"));
        };
        let mut call = Call::new(Method::PUT, key);
        call.query = format!("partNumber=1&uploadId={upload}");
        call.body = body::make(value, body::size_of(value, &SIZES));
        let Some(part) = self.prepare(call).await else { return };
        let mut call = Call::new(Method::POST, key);
        call.query = format!("uploadId={upload}");
        call.body = Bytes::from(format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
            part.etag.unwrap_or_default()
        ));
        self.change(call, Act::Put(value), &[]).await;
    }

    /// A request that changes no key yet.
    async fn prepare(&mut self, call: Call<'_>) -> Option<Answer> {
        let key = call.key.to_owned();
        match self.connection.send(call).await {
            Ok(answer) if answer.status == 200 => Some(answer),
            Ok(answer) if answer.status < 500 => {
                self.refused(&key, &answer);
                None
            }
            Ok(_) | Err(_) => {
                tokio::time::sleep(BREATH).await;
                None
            }
        }
    }
}
