//! Webhooks: endpoints that operators configure, and one POST to one of them.
//!
//! HTTP/1.1 without TLS: an endpoint further away than the next machine wants a proxy that speaks TLS beside the
//! gateway. Redirects are not followed.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

/// How long one delivery may take, from the connection to the end of the answer.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// The endpoints of a gateway, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Webhooks {
    named: BTreeMap<String, Webhook>,
}

impl Webhooks {
    /// Reads the setting: `name=http://host[:port]/path` each. The error is a sentence.
    pub fn parse(settings: &[String]) -> Result<Webhooks, String> {
        let mut named = BTreeMap::new();
        for setting in settings {
            let (name, url) = setting
                .split_once('=')
                .ok_or_else(|| format!("webhook {setting:?} is not of the form name=url"))?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("{name:?} is no name of a webhook: letters, digits, - _ ."));
            }
            let webhook = parse_url(url).map_err(|why| format!("webhook {name}: {why}"))?;
            if named.insert(name.to_owned(), webhook).is_some() {
                return Err(format!("there are two webhooks {name}: give each a name of its own"));
            }
        }
        Ok(Webhooks { named })
    }

    /// The endpoint of a name.
    pub fn get(&self, name: &str) -> Option<&Webhook> {
        self.named.get(name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.named.len()
    }
}

fn parse_url(url: &str) -> Result<Webhook, String> {
    let uri: Uri = url.parse().map_err(|_| format!("{url:?} is no URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url:?} does not begin with http:// (TLS is not there)"));
    }
    let authority = uri.authority().ok_or_else(|| format!("{url:?} names no host"))?;
    if authority.as_str().contains('@') {
        return Err("a user and password in a URL are not understood".to_owned());
    }
    Ok(Webhook {
        host: authority.host().trim_matches(['[', ']']).to_owned(),
        port: authority.port_u16().unwrap_or(80),
        authority: authority.as_str().to_owned(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
    })
}

impl Webhook {
    /// Posts a document; an error, in words for the log, unless the answer is of 200 to 299.
    pub async fn post(&self, document: Bytes) -> Result<(), String> {
        match tokio::time::timeout(TIMEOUT, self.exchange(document)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer in {} seconds", TIMEOUT.as_secs())),
        }
    }

    async fn exchange(&self, document: Bytes) -> Result<(), String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|e| words(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| words(&e))?;
        // It ends with the exchange: the sender is dropped then, and the server was asked to close.
        let connection = spawn_local(connection);
        let request = Request::post(&self.path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "store")
            .header(CONNECTION, "close")
            .body(Full::new(document))
            .map_err(|e| words(&e))?;
        let answer = sender.send_request(request).await;
        let status = match answer {
            Ok(answer) => {
                let status = answer.status();
                // Read to its end, so that the server sees no broken connection.
                let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
                Ok(status)
            }
            Err(error) => Err(words(&error)),
        };
        connection.abort();
        match status? {
            status if status.is_success() => Ok(()),
            status => Err(format!("answered {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_mistakes_said() {
        let one = |setting: &str| Webhooks::parse(&[setting.to_owned()]);
        let hooks = one("a=http://h:81/p?q=1").unwrap();
        let hook = hooks.get("a").unwrap();
        assert_eq!((hook.host.as_str(), hook.port, hook.path.as_str()), ("h", 81, "/p?q=1"));
        let bare = one("b=http://[::1]").unwrap();
        let bare = bare.get("b").unwrap();
        assert_eq!((bare.host.as_str(), bare.port, bare.path.as_str()), ("::1", 80, "/"));
        for wrong in ["", "a", "=http://h", "a b=http://h", "a=https://h", "a=h", "a=http://u:p@h/"]
        {
            assert!(one(wrong).is_err(), "{wrong}");
        }
        let twice = ["a=http://h".to_owned(), "a=http://i".to_owned()];
        assert!(Webhooks::parse(&twice).is_err());
    }
}
