//! Containers as web sites: an index page, pages for errors, and listings for people.
//!
//! `X-Container-Meta-Web-Index`, `-Web-Error`, `-Web-Listings`, `-Web-Listings-CSS`, `-Web-Listings-Label`,
//! `-Web-Directory-Type` say what. It is for requests without a token, and for those that ask with
//! `X-Web-Mode: true`; who comes with a token sees the container as always.

use super::access::{self, AccountPermit};
use super::error::{SwiftError, SwiftResult};
use super::path::Named;
use super::tempurl::{self, TempUrl};
use super::{Call, container, metadata, read, respond, versions};
use crate::catalogue::Bucket;
use crate::s3::router::Operation;
use crate::s3::{Answer, Caller, response, uri};
use bytes::Bytes;
use http::{Method, StatusCode};
use quick_xml::escape::escape;
use std::rc::Rc;
use store_base::bucket::{Item, List};

/// Most lines of a listing for people.
const LINES_MAX: usize = 10_000;

/// Most names that are asked of the catalogue at a time.
const PAGE_MAX: u32 = 1000;

/// What a container says of its site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Site {
    index: Option<String>,
    error: Option<String>,
    listings: bool,
    css: Option<String>,
    label: Option<String>,
    directory: String,
}

impl Site {
    fn of(bucket: &Bucket) -> Option<Site> {
        let kept = metadata::of_container(bucket).metadata;
        let text = |name: &str| {
            let value = kept.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
            value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let site = Site {
            index: text("web-index"),
            error: text("web-error"),
            listings: text("web-listings").is_some_and(|on| versions::is_true(&on)),
            css: text("web-listings-css"),
            label: text("web-listings-label"),
            directory: text("web-directory-type").unwrap_or_else(|| "application/directory".into()),
        };
        let used = site.index.is_some() || site.error.is_some() || site.listings;
        used.then_some(site)
    }
}

/// A page that is asked for.
struct Page<'a> {
    permit: &'a AccountPermit,
    site: Site,
    container: &'a str,
    bucket: Rc<Bucket>,
    signed: Option<&'a TempUrl>,
}

/// Answers as a web site, where the container is one and the request is for it; `None` otherwise.
pub(super) async fn serve(
    call: &mut Call,
    permit: &AccountPermit,
    named: &Named,
    signed: Option<&TempUrl>,
) -> Option<SwiftResult<Answer>> {
    let web_mode = call.head.headers.get("x-web-mode").and_then(|value| value.to_str().ok());
    let asks = web_mode.is_some_and(versions::is_true);
    let anonymous = matches!(call.caller, Caller::Anonymous);
    let reads = matches!(call.head.method, Method::GET | Method::HEAD);
    if !reads || !(asks || anonymous) {
        return None;
    }
    let container = named.container.as_deref()?;
    let bucket = call.service.catalogue.bucket(call.head.target.bucket.as_deref()?).await.ok()?;
    if bucket.owner != permit.id() {
        return None;
    }
    let site = match Site::of(&bucket) {
        Some(site) => site,
        // A signature opens a whole container as a site only.
        None if signed.is_some() && named.object.is_none() => return Some(Err(tempurl::invalid())),
        None if asks && named.object.is_none() => return Some(Err(SwiftError::not_found())),
        None => return None,
    };
    let page = Page { permit, site, container, bucket, signed };
    let answer = match &named.object {
        None => page.container(call).await,
        Some(object) => page.object(call, object).await,
    };
    Some(match answer {
        Ok(answer) => Ok(answer),
        Err(error) => page.error(call, error).await,
    })
}

/// Whether a path, as it came, ends with a slash.
fn is_directory(call: &Call) -> bool {
    call.head.raw_path.ends_with('/')
}

/// To the same path with a slash behind it.
fn moved(call: &Call, signed: Option<&TempUrl>) -> Answer {
    let scheme = if call.head.peer.secure { "https" } else { "http" };
    let host = super::host_of(&call.head.headers);
    let mut answer = respond::empty(StatusCode::MOVED_PERMANENTLY);
    let mut place = format!("{scheme}://{host}{}/", call.head.raw_path);
    if let Some(signed) = signed {
        place.push_str(&format!("?{}", signed.link));
    }
    response::set(answer.headers_mut(), "location", &place);
    answer
}

impl Page<'_> {
    /// An object of the site.
    async fn get(&self, call: &mut Call, key: &str) -> SwiftResult<Answer> {
        let before = call.head.target.key.replace(key.to_owned());
        let answer = read::read(call, self.permit, self.container).await;
        call.head.target.key = before;
        answer
    }

    async fn container(&self, call: &mut Call) -> SwiftResult<Answer> {
        if self.site.index.is_none() && !self.site.listings {
            if self.signed.is_some() {
                return Err(tempurl::invalid());
            }
            return container::read(call, self.permit).await;
        }
        if !is_directory(call) {
            return Ok(moved(call, self.signed));
        }
        let Some(index) = &self.site.index else { return self.listing(call, "").await };
        match self.get(call, index).await {
            Err(error) if error.status == StatusCode::NOT_FOUND => self.listing(call, "").await,
            answer => answer,
        }
    }

    async fn object(&self, call: &mut Call, object: &str) -> SwiftResult<Answer> {
        let missing = match self.get(call, object).await {
            Ok(answer) if !self.is_marker(&answer) => return Ok(answer),
            Ok(_) => SwiftError::not_found(),
            Err(error) if error.status == StatusCode::NOT_FOUND => error,
            Err(error) => return Err(error),
        };
        if self.site.index.is_none() && !self.site.listings {
            return Err(missing);
        }
        let directory = format!("{}/", object.trim_end_matches('/'));
        if let Some(index) = &self.site.index {
            match self.get(call, &format!("{directory}{index}")).await {
                Ok(_) if !is_directory(call) => return Ok(moved(call, self.signed)),
                Ok(answer) => return Ok(answer),
                Err(error) if error.status == StatusCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
        }
        if !is_directory(call) {
            let inside = self.lines(call, &directory, 1).await?;
            return match inside.is_empty() {
                true => Err(missing),
                false => Ok(moved(call, self.signed)),
            };
        }
        self.listing(call, &directory).await
    }

    /// Whether an object stands for a directory: nothing that anybody wants to see.
    fn is_marker(&self, answer: &Answer) -> bool {
        let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let length = match text("content-length") {
            Some(length) => length.parse().ok(),
            None => hyper::body::Body::size_hint(answer.body()).exact(),
        };
        text("content-type") == Some(&self.site.directory)
            && length.is_some_and(|length: u64| length <= 1)
    }

    /// The page of an error, if the site has one.
    async fn error(&self, call: &mut Call, error: SwiftError) -> SwiftResult<Answer> {
        let Some(suffix) = &self.site.error else { return Err(error) };
        let anonymous = matches!(call.caller, Caller::Anonymous);
        let status = match error.status {
            StatusCode::FORBIDDEN if anonymous => StatusCode::UNAUTHORIZED,
            status => status,
        };
        match self.get(call, &format!("{}{suffix}", status.as_u16())).await {
            Ok(mut answer) => {
                *answer.status_mut() = status;
                Ok(answer)
            }
            Err(_) => Err(error),
        }
    }

    async fn lines(&self, call: &Call, prefix: &str, most: usize) -> SwiftResult<Vec<Item>> {
        let list = |from: Bytes, max: usize| List {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            delimiter: Bytes::from_static(b"/"),
            from,
            max: u32::try_from(max).unwrap_or(PAGE_MAX).min(PAGE_MAX),
        };
        let (mut items, mut from) = (Vec::new(), Some(Bytes::new()));
        while let (Some(next), true) = (from.take(), items.len() < most) {
            let wanted = list(next, most - items.len());
            let page = call.service.catalogue.list(&self.bucket, wanted).await?;
            items.extend(page.items);
            from = page.next;
        }
        Ok(items)
    }

    /// A listing for people.
    async fn listing(&self, call: &mut Call, prefix: &str) -> SwiftResult<Answer> {
        if !self.site.listings {
            return Err(SwiftError::new(
                StatusCode::NOT_FOUND,
                "The owner of this site shows no listings.",
            ));
        }
        access::container(call, self.permit, Operation::ListObjects).await?;
        let items = self.lines(call, prefix, LINES_MAX).await?;
        if items.is_empty() && !prefix.is_empty() {
            return Err(SwiftError::not_found());
        }
        let page = self.html(prefix, &items);
        let answer = respond::with_body(StatusCode::OK, "text/html; charset=UTF-8", page);
        Ok(super::for_method(call, answer))
    }

    fn html(&self, prefix: &str, items: &[Item]) -> String {
        let label = self.site.label.clone().map(|label| format!("{label}/{prefix}"));
        let path = format!("/v1/AUTH_{}/{}/{prefix}", self.permit.id(), self.container);
        let title = format!("Listing of {}", label.unwrap_or(path));
        let title = escape(title.as_str());
        let mut page = format!("<!DOCTYPE html>\n<html>\n<head>\n<title>{title}</title>\n");
        match &self.site.css {
            Some(css) => {
                let up = "../".repeat(prefix.matches('/').count());
                let whole = css.contains("://") || css.starts_with('/');
                let place = if whole { css.clone() } else { format!("{up}{css}") };
                let place = uri::encoded(place.as_bytes(), true).replace("%3A", ":");
                page.push_str(&format!(
                    "<link rel=\"stylesheet\" type=\"text/css\" href=\"{place}\" />\n"
                ));
            }
            None => page.push_str("<style>td, th { text-align: left; padding: 0 1em }</style>\n"),
        }
        page.push_str(&format!("</head>\n<body>\n<h1 id=\"title\">{title}</h1>\n"));
        page.push_str("<table id=\"listing\">\n<tr><th>Name</th><th>Size</th><th>Date</th></tr>\n");
        let within = self.signed.and_then(|signed| signed.prefix.as_deref()).unwrap_or_default();
        let query = match self.signed {
            Some(signed) => format!("?{}", escape(signed.link.as_str())),
            None => String::new(),
        };
        if prefix.len() > within.len() {
            page.push_str(&format!(
                "<tr><td><a href=\"../{query}\">../</a></td><td></td><td></td></tr>\n"
            ));
        }
        for item in items {
            let name = container::text(item.name());
            let shown = &name[prefix.len().min(name.len())..];
            if shown.is_empty() {
                continue;
            }
            let (size, date) = match item {
                Item::Prefix { .. } => (String::new(), String::new()),
                Item::Key { entry, .. } => {
                    (entry.size.to_string(), respond::last_modified(entry.modified_ms))
                }
            };
            page.push_str(&format!(
                "<tr><td><a href=\"./{}{query}\">{}</a></td><td>{size}</td><td>{date}</td></tr>\n",
                uri::encoded(shown.as_bytes(), true),
                escape(shown)
            ));
        }
        page.push_str("</table>\n</body>\n</html>\n");
        page
    }
}
