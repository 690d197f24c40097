//! Uploads by forms of browsers (`multipart/form-data`), which a signature lets in: any number of files, each an
//! object whose name is the path of the form and then the file's own.
//!
//! What is signed, with a key of signed URLs ([`super::tempurl`]), are five lines: the path, and the fields
//! `redirect`, `max_file_size`, `max_file_count` and `expires` (`0` where one of the numbers is not there). Other
//! fields describe the objects: `content-type`, `content-encoding`, `x_delete_at`, `x_delete_after`. Fields count for
//! the files behind them.
//!
//! A form streams by: what is held of it are its fields, which are bounded, and of a file what a PUT holds of its
//! body. A file is an object when its last byte has come; the first that fails ends the form, and those before it
//! stay, as Swift has it.
//!
//! Unlike in Swift, nobody is sent on to the address of a form whose signature is not good.

use super::acl::{Grant, Scope, Signed};
use super::arrival::{self, Arrival};
use super::error::{SwiftError, SwiftResult};
use super::path::{self, Named};
use super::{Call, access, object, respond, tempurl};
use crate::http::html::escaped;
use crate::s3::error::{Code, S3Error, S3Result};
use crate::s3::form::boundary;
use crate::s3::form::parts::{Part, Parts};
use crate::s3::{Answer, drain, uri};
use crate::transfer::body::{BodyReader, Source};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::Mutex;

/// Headers that the objects inherit from the request of the form: they say nothing of the objects.
const INHERITED: [&str; 4] = ["host", "origin", "referer", "user-agent"];

/// Fields that become headers.
const HEADER_FIELDS: [(&str, &str); 2] =
    [("x_delete_at", "x-delete-at"), ("x_delete_after", "x-delete-after")];

/// Whether the request is a form.
pub(super) fn is_meant(call: &Call) -> bool {
    call.head.method == Method::POST && form_boundary(call).is_some()
}

fn form_boundary(call: &Call) -> Option<String> {
    boundary(call.head.header("content-type").ok().flatten()?)
}

/// A form that is wrong.
fn refused(why: &str) -> SwiftError {
    SwiftError::bad_request(format!("FormPost: {why}"))
}

fn unauthorized(why: &str) -> SwiftError {
    SwiftError::new(StatusCode::UNAUTHORIZED, format!("FormPost: {why}"))
}

/// What is wrong with the form itself is told in Swift's words.
fn broken(error: S3Error) -> SwiftError {
    match error.code {
        Code::MalformedPOSTRequest => refused("it is not well formed"),
        Code::MaxPostPreDataLengthExceededError => refused("its fields are too long or too many"),
        _ => error.into(),
    }
}

/// What came of the files so far.
struct Outcome {
    status: StatusCode,
    message: String,
}

/// A form on its way.
struct Work<'a> {
    named: &'a Named,
    /// As it was signed: decoded.
    path: String,
    keys: Vec<(Bytes, Scope)>,
    fields: BTreeMap<String, String>,
    files: u64,
}

/// POST of a form.
pub(super) async fn post(call: &mut Call, named: &Named) -> SwiftResult<Answer> {
    let boundary = form_boundary(call).ok_or(Code::InternalError)?;
    let body = call.body.take().ok_or(Code::InternalError)?;
    let source = Source::Http(body, call.service.settings.body_idle);
    let parts = Rc::new(Mutex::new(Parts::new(source, &boundary)));
    let before = call.head.clone();
    let done = read(call, named, &parts).await;
    call.head = before;
    let whole = done.as_ref().is_ok_and(|answer| answer.status().is_success());
    if !whole && let Ok(parts) = Rc::try_unwrap(parts) {
        let source = parts.into_inner().into_source();
        drain(&mut BodyReader::new(source, None, 0)).await;
    }
    done
}

async fn read(call: &mut Call, named: &Named, parts: &Rc<Mutex<Parts>>) -> SwiftResult<Answer> {
    let mapped = path::remapped(
        super::host_of(&call.head.headers),
        &call.head.raw_path,
        &call.service.settings.domains,
    );
    let raw = mapped.as_deref().unwrap_or(&call.head.raw_path);
    let path = String::from_utf8_lossy(&uri::percent_decode(raw.as_bytes())).into_owned();
    let keys = match &named.container {
        Some(container) => tempurl::keys_of(call, &named.account, container).await?,
        None => Vec::new(),
    };
    let mut work = Work { named, path, keys, fields: BTreeMap::new(), files: 0 };
    let outcome = work.all(call, parts).await?;
    work.answer(call, outcome)
}

impl Work<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A number among the fields; 0 where there is none.
    fn number(&self, name: &str, wrong: &str) -> SwiftResult<u64> {
        match self.field(name).map(str::trim).filter(|text| !text.is_empty()) {
            None => Ok(0),
            Some(text) => {
                text.parse().map_err(|_| refused(&format!("{name} not an integer{wrong}")))
            }
        }
    }

    async fn all(&mut self, call: &mut Call, parts: &Rc<Mutex<Parts>>) -> SwiftResult<Outcome> {
        let mut status = None;
        while let Some(part) = { parts.lock().await.next().await }.map_err(broken)? {
            if part.filename.is_none() {
                let value = parts.lock().await.value().await.map_err(broken)?;
                if let Some(name) = part.name {
                    self.fields.insert(name, value);
                }
                continue;
            }
            self.files += 1;
            if self.files > self.number("max_file_count", "")? {
                return Ok(bad("max file count exceeded"));
            }
            match self.file(call, part, parts).await {
                Ok(()) => status = Some(StatusCode::CREATED),
                // What is wrong with the form, and not with the object.
                Err(error) if error.message.starts_with("FormPost: ") => return Err(error),
                Err(error) => {
                    return Ok(Outcome { status: error.status, message: error.message });
                }
            }
        }
        match status {
            Some(status) => Ok(Outcome { status, message: String::new() }),
            None => Ok(bad("no files to process")),
        }
    }

    /// Makes an object of one file.
    async fn file(&self, call: &mut Call, part: Part, parts: &Rc<Mutex<Parts>>) -> SwiftResult<()> {
        let size_max = self.number("max_file_size", "")?;
        let headers = self.headers(&call.head.headers, &part)?;
        let scope = self.check_signature(call.now_ms() / 1000)?;
        let container = self.named.container.as_deref().ok_or_else(SwiftError::not_found)?;
        let bucket = access::bucket_name(call, &self.named.account, container).await?;
        call.head.target.bucket = Some(bucket.ok_or_else(SwiftError::not_found)?);
        let prefix = self.named.object.as_deref().unwrap_or_default();
        let name = format!("{prefix}{}", part.filename.as_deref().unwrap_or_default());
        call.grant = Grant::Signed { act: Signed::Write, scope };
        call.head.headers = headers;
        call.head.target.key = Some(name.clone());
        let headers = object::with_type(call, object::headers_of(call)?)?;
        let exceeded = Rc::new(Cell::new(false));
        let bytes = stretch(parts.clone(), size_max, exceeded.clone());
        let (metadata, pace) = (BTreeMap::new(), call.pace.clone());
        let arrival = Arrival { size: None, headers, metadata, bytes, pace };
        let permit = access::signed(&self.named.account);
        let made = arrival::put(call, &permit, &name, arrival).await;
        match made {
            Err(_) if exceeded.get() => Err(refused("max_file_size exceeded")),
            Err(error) if error.status == StatusCode::FORBIDDEN => {
                Err(SwiftError { status: StatusCode::UNAUTHORIZED, ..error })
            }
            made => made.map(drop),
        }
    }

    /// The headers that a PUT of the object would have.
    fn headers(&self, inherited: &HeaderMap, part: &Part) -> SwiftResult<HeaderMap> {
        let mut headers = HeaderMap::new();
        for name in INHERITED {
            if let Some(value) = inherited.get(name) {
                headers.insert(name, value.clone());
            }
        }
        let mut set = |name: HeaderName, value: &str| -> SwiftResult<()> {
            let wrong = |_| refused(&format!("{name} cannot be a header"));
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(wrong)?;
            headers.insert(name, value);
            Ok(())
        };
        // What a field says of all files goes before what a part says of its own.
        for (name, own) in
            [(CONTENT_TYPE, &part.content_type), (CONTENT_ENCODING, &part.content_encoding)]
        {
            if let Some(value) = self.field(name.as_str()).or(own.as_deref()) {
                set(name, value)?;
            }
        }
        for (field, header) in HEADER_FIELDS {
            if self.fields.contains_key(field) {
                let what = if field.ends_with("at") {
                    ": Unix timestamp required."
                } else {
                    ": Number of seconds required."
                };
                let number = self.number(field, what)?;
                set(HeaderName::from_static(header), &number.to_string())?;
            }
        }
        Ok(headers)
    }

    /// Checks the signature, and the end, of what is signed: where it lets in.
    fn check_signature(&self, now_secs: u64) -> SwiftResult<Scope> {
        if self.number("expires", "")? < now_secs {
            return Err(unauthorized("Form Expired"));
        }
        let or_zero = |name: &str| self.field(name).filter(|text| !text.is_empty()).unwrap_or("0");
        let signed = format!(
            "{}\n{}\n{}\n{}\n{}",
            self.path,
            self.field("redirect").unwrap_or_default(),
            or_zero("max_file_size"),
            or_zero("max_file_count"),
            or_zero("expires")
        );
        let invalid = || unauthorized("Invalid Signature");
        let given = self.field("signature").unwrap_or_default();
        let (digest, given) = tempurl::parse_signature(given).ok_or_else(invalid)?;
        let good = |(key, _): &&(Bytes, Scope)| tempurl::verify(digest, key, &signed, &given);
        self.keys.iter().find(good).map(|(_, scope)| scope.clone()).ok_or_else(invalid)
    }

    fn answer(&self, call: &Call, outcome: Outcome) -> SwiftResult<Answer> {
        let Outcome { status, message } = outcome;
        let redirect = self.field("redirect").filter(|address| !address.is_empty());
        let redirect = redirect.filter(|_| self.check_signature(call.now_ms() / 1000).is_ok());
        let Some(address) = redirect else {
            let reason = status.canonical_reason().unwrap_or_default();
            let text = match (status.is_success(), message.is_empty()) {
                (true, _) | (_, true) => format!("{} {reason}", status.as_u16()),
                (false, false) => {
                    format!("{} {reason}\r\nFormPost: {}", status.as_u16(), titled(&message))
                }
            };
            return Ok(respond::with_body(status, "text/plain", text));
        };
        let joint = if address.contains('?') { '&' } else { '?' };
        let message = uri::encoded(message.as_bytes(), true);
        let place = format!("{address}{joint}status={}&message={message}", status.as_u16());
        let value = HeaderValue::from_bytes(place.as_bytes());
        let value = value.map_err(|_| refused("redirect cannot be a header"))?;
        let page = format!(
            "<html><body><p><a href=\"{}\">Click to continue...</a></p></body></html>",
            escaped(&place)
        );
        let mut answer =
            respond::with_body(StatusCode::SEE_OTHER, "text/html; charset=UTF-8", page);
        answer.headers_mut().insert(LOCATION, value);
        Ok(answer)
    }
}

fn bad(why: &str) -> Outcome {
    Outcome { status: StatusCode::BAD_REQUEST, message: why.to_owned() }
}

/// With each word's first letter large.
fn titled(text: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_uppercase().collect::<String>());
        first.unwrap_or_default() + letters.as_str()
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The bytes of the file whose turn it is, at most so many.
fn stretch(
    parts: Rc<Mutex<Parts>>,
    size_max: u64,
    exceeded: Rc<Cell<bool>>,
) -> LocalBoxStream<'static, S3Result<Bytes>> {
    stream::unfold(Some((parts, 0u64)), move |state| {
        let exceeded = exceeded.clone();
        async move {
            let (parts, size) = state?;
            let data = parts.lock().await.data().await;
            match data {
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
                Ok(Some(data)) => {
                    let size = size.saturating_add(data.len() as u64);
                    if size > size_max {
                        exceeded.set(true);
                        return Some((Err(Code::EntityTooLarge.into()), None));
                    }
                    Some((Ok(data), Some((parts, size))))
                }
            }
        }
    })
    .fuse()
    .boxed_local()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use ring::hmac::{
        Algorithm, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512, Key, sign,
    };

    fn work<'a>(named: &'a Named, fields: &[(&str, &str)]) -> Work<'a> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let scope = |id| Scope { account: "a".into(), bucket: id };
        let keys = vec![
            (Bytes::from_static(b"k1"), scope(None)),
            (Bytes::from_static(b"k2"), scope(Some(store_base::bucket::BucketId([1; 8])))),
        ];
        let fields = fields.iter().map(own).collect();
        Work { named, path: "/v1/AUTH_a/c/p é".into(), keys, fields, files: 0 }
    }

    #[test]
    fn all_digests_and_their_forms_are_taken() {
        let named =
            Named { account: "a".into(), container: Some("c".into()), object: Some("p é".into()) };
        let tag = |algorithm: Algorithm, key: &str, text: &str| {
            sign(&Key::new(algorithm, key.as_bytes()), text.as_bytes()).as_ref().to_vec()
        };
        let text = "/v1/AUTH_a/c/p é\nhttp://r/?a=b\n10\n2\n99";
        let fields = |signature: &str, expires: &str| {
            let fields = [
                ("redirect", "http://r/?a=b"),
                ("max_file_size", "10"),
                ("max_file_count", "2"),
                ("expires", expires),
                ("signature", signature),
            ];
            work(&named, &fields).check_signature(99)
        };
        for key in ["k1", "k2"] {
            let sha1 = tag(HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, text);
            let (sha256, sha512) = (tag(HMAC_SHA256, key, text), tag(HMAC_SHA512, key, text));
            for signature in [
                hex::encode(&sha1),
                hex::encode(&sha256),
                hex::encode(&sha512),
                format!("sha1:{}", STANDARD.encode(&sha1)),
                format!("sha256:{}", URL_SAFE_NO_PAD.encode(&sha256)),
                format!("sha512:{}", STANDARD.encode(&sha512)),
            ] {
                let scope = fields(&signature, "99").expect(&signature);
                assert_eq!(scope.bucket.is_some(), key == "k2");
                assert!(fields(&signature, "100").is_err() && fields(&signature, "98").is_err());
            }
        }
        let other = hex::encode(tag(HMAC_SHA256, "k3", text));
        for bad in ["", "x", "sha256:", "md5:abcd", &other] {
            let error = fields(bad, "99").expect_err(bad);
            assert_eq!(
                (error.status.as_u16(), &error.message[..]),
                (401, "FormPost: Invalid Signature")
            );
        }
        assert_eq!(fields(&other, "98").expect_err("late").message, "FormPost: Form Expired");
        assert_eq!(fields(&other, "x").expect_err("no number").status.as_u16(), 400);
        // Numbers that are not there are signed as 0.
        let bare = hex::encode(tag(HMAC_SHA256, "k1", "/v1/AUTH_a/c/p é\n\n0\n0\n99"));
        let bare = [("signature", bare.as_str()), ("expires", "99")];
        assert!(work(&named, &bare).check_signature(99).is_ok());
    }

    #[test]
    fn messages_are_words() {
        assert_eq!(titled("max file count exceeded"), "Max File Count Exceeded");
        assert_eq!(titled(""), "");
    }
}
