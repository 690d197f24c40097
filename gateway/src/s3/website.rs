//! Static websites: what a bucket's configuration says. Serving is in `serve`.

pub mod serve;

use super::error::{Code, S3Error, S3Result};
use super::uri;
use super::xml::Element;

/// Most routing rules.
const RULES_MAX: usize = 50;

/// A website configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Website {
    /// Every request goes elsewhere.
    pub redirect_all: Option<Redirect>,
    /// Name of the index of a directory.
    pub index: String,
    /// Key of what is shown for an error.
    pub error: Option<String>,
    /// The first that fits is followed.
    pub rules: Vec<Rule>,
}

/// When, and where to, a request is redirected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The key begins so.
    pub prefix: Option<String>,
    /// The answer would be this error.
    pub error: Option<u16>,
    /// Where to.
    pub redirect: Redirect,
}

/// Where a request is redirected to. What is not said stays as the request had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub protocol: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The status, 301 if it is not said.
    pub status: Option<u16>,
    /// In the place of the prefix that the rule names.
    pub prefix: Option<String>,
    /// In the place of the key.
    pub key: Option<String>,
}

fn invalid(message: &str) -> S3Error {
    Code::InvalidRequest.with(message)
}

/// The text of a child, if there is one and it is not empty.
fn text(element: &Element, name: &str) -> S3Result<Option<String>> {
    let text = element.child_text(name)?.map(str::trim).filter(|text| !text.is_empty());
    Ok(text.map(str::to_owned))
}

fn number(element: &Element, name: &str, allowed: std::ops::Range<u16>) -> S3Result<Option<u16>> {
    let Some(text) = text(element, name)? else { return Ok(None) };
    let number = text.parse::<u16>().ok().filter(|number| allowed.contains(number));
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(invalid(&format!(
            "The provided {name} ({text}) is not valid. Valid codes are from {} to {}.",
            allowed.start,
            allowed.end - 1
        ))),
    }
}

impl Website {
    /// Reads a `WebsiteConfiguration`. Errors: `MalformedXML`, `InvalidArgument`, `InvalidRequest`.
    pub fn parse(document: &[u8]) -> S3Result<Website> {
        let root = Element::parse(document, "WebsiteConfiguration")?;
        let only = |name: &'static str| -> S3Result<Option<&Element>> {
            let mut found = root.children.iter().filter(move |child| child.name == name);
            match (found.next(), found.next()) {
                (_, Some(_)) => Err(Code::MalformedXML.into()),
                (first, None) => Ok(first),
            }
        };
        let (index, all) = (only("IndexDocument")?, only("RedirectAllRequestsTo")?);
        let (error, rules) = (only("ErrorDocument")?, only("RoutingRules")?);
        if let Some(all) = all {
            if index.is_some() || error.is_some() || rules.is_some() {
                return Err(invalid(
                    "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.",
                ));
            }
            let host = text(all, "HostName")?.ok_or(Code::MalformedXML)?;
            let redirect = Redirect {
                host: Some(checked_host(host)?),
                protocol: protocol(all)?,
                ..Redirect::default()
            };
            return Ok(Website { redirect_all: Some(redirect), ..Website::default() });
        }
        let suffix = index.map(|index| text(index, "Suffix")).transpose()?.flatten();
        let index = suffix.filter(|suffix| !suffix.contains('/')).ok_or_else(|| {
            S3Error::argument(
                "IndexDocument",
                "",
                "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty, and have no slash",
            )
        })?;
        let error = error.map(|error| text(error, "Key")).transpose()?.flatten();
        let rules = rules.map(|rules| rules.all("RoutingRule").map(Rule::parse).collect());
        let rules: Vec<Rule> = rules.unwrap_or_else(|| Ok(Vec::new()))?;
        match rules.len() > RULES_MAX {
            true => Err(invalid(&format!("A website has at most {RULES_MAX} routing rules."))),
            false => Ok(Website { redirect_all: None, index, error, rules }),
        }
    }

    /// The first rule that a request for this key follows; `error` is the status of the answer it would
    /// have, if that is known.
    pub fn rule(&self, key: &str, error: Option<u16>) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            rule.error == error && rule.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
        })
    }
}

fn protocol(element: &Element) -> S3Result<Option<String>> {
    match text(element, "Protocol")? {
        None => Ok(None),
        Some(protocol) if matches!(protocol.as_str(), "http" | "https") => Ok(Some(protocol)),
        Some(_) => Err(invalid(
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.",
        )),
    }
}

/// A host as it may stand in an address: nothing of a path or of another header.
fn checked_host(host: String) -> S3Result<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    match host.bytes().all(fits) {
        true => Ok(host),
        false => Err(invalid("The HostName of a redirect is not valid.")),
    }
}

impl Rule {
    fn parse(element: &Element) -> S3Result<Rule> {
        let redirect = element.all("Redirect").next().ok_or(Code::MalformedXML)?;
        let redirect = Redirect {
            protocol: protocol(redirect)?,
            host: text(redirect, "HostName")?.map(checked_host).transpose()?,
            status: number(redirect, "HttpRedirectCode", 301..309)?,
            prefix: redirect.child_text("ReplaceKeyPrefixWith")?.map(|text| text.trim().to_owned()),
            key: text(redirect, "ReplaceKeyWith")?,
        };
        if redirect == Redirect::default() {
            return Err(Code::MalformedXML.into());
        }
        if redirect.prefix.is_some() && redirect.key.is_some() {
            return Err(invalid(
                "You can only define ReplaceKeyPrefix or ReplaceKey but not both.",
            ));
        }
        let (mut prefix, mut error) = (None, None);
        if let Some(condition) = element.all("Condition").next() {
            prefix = text(condition, "KeyPrefixEquals")?;
            error = number(condition, "HttpErrorCodeReturnedEquals", 400..600)?;
            if prefix.is_none() && error.is_none() {
                return Err(invalid(
                    "Condition cannot be empty. To redirect all requests without a condition, the condition element shouldn't be present.",
                ));
            }
        }
        Ok(Rule { prefix, error, redirect })
    }

    /// The address that a request for `key` at `host` goes to.
    pub fn location(&self, key: &str, protocol: &str, host: &str) -> String {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let key = match (&self.redirect.key, &self.redirect.prefix) {
            (Some(key), _) => key.clone(),
            (None, Some(with)) => {
                format!("{with}{}", key.strip_prefix(prefix).unwrap_or_default())
            }
            (None, None) => key.to_owned(),
        };
        self.redirect.address(&key, protocol, host)
    }
}

impl Redirect {
    /// The address of a key there.
    pub fn address(&self, key: &str, protocol: &str, host: &str) -> String {
        let protocol = self.protocol.as_deref().unwrap_or(protocol);
        let host = self.host.as_deref().unwrap_or(host);
        format!("{protocol}://{host}/{}", uri::listing_encoded(key))
    }
}

/// Checks `x-amz-website-redirect-location`: a place on the same site, or an address of the web.
pub fn check_location(location: &str) -> S3Result<()> {
    let begins = ["/", "http://", "https://"].iter().any(|b| location.starts_with(b));
    match begins && location.len() <= 2048 {
        true => Ok(()),
        false => Err(Code::InvalidRedirectLocation.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inner: &str) -> Result<Website, Code> {
        let text = format!("<WebsiteConfiguration>{inner}</WebsiteConfiguration>");
        Website::parse(text.as_bytes()).map_err(|error| error.code)
    }

    const INDEX: &str = "<IndexDocument><Suffix>i.html</Suffix></IndexDocument>";

    fn with_rule(rule: &str) -> Result<Website, Code> {
        parse(&format!("{INDEX}<RoutingRules><RoutingRule>{rule}</RoutingRule></RoutingRules>"))
    }

    #[test]
    fn websites_have_an_index_or_lead_elsewhere() {
        let site = parse(&format!("{INDEX}<ErrorDocument><Key>e</Key></ErrorDocument>")).unwrap();
        assert_eq!((site.index.as_str(), site.error.as_deref()), ("i.html", Some("e")));
        let all = "<RedirectAllRequestsTo><HostName>h</HostName><Protocol>https</Protocol></RedirectAllRequestsTo>";
        let redirect = parse(all).unwrap().redirect_all.unwrap();
        assert_eq!(redirect.address("a b/ä", "http", "x"), "https://h/a%20b/%C3%A4");
        for (bad, code) in [
            (String::new(), Code::InvalidArgument),
            ("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>".into(), Code::InvalidArgument),
            (format!("{INDEX}{INDEX}"), Code::MalformedXML),
            (format!("{INDEX}{all}"), Code::InvalidRequest),
            (all.replace("https", "ftp"), Code::InvalidRequest),
            (all.replace(">h<", ">h/x?<"), Code::InvalidRequest),
            ("<RedirectAllRequestsTo/>".into(), Code::MalformedXML),
        ] {
            assert_eq!(parse(&bad), Err(code), "{bad}");
        }
    }

    #[test]
    fn rules_are_followed_in_their_order() {
        let rule = |condition: &str, redirect: &str| {
            let site = with_rule(&format!(
                "<Condition>{condition}</Condition><Redirect>{redirect}</Redirect>"
            ));
            site.unwrap().rules.remove(0)
        };
        let docs = rule(
            "<KeyPrefixEquals>docs/</KeyPrefixEquals>",
            "<ReplaceKeyPrefixWith>d/</ReplaceKeyPrefixWith>",
        );
        assert_eq!(docs.location("docs/a", "http", "h:1"), "http://h:1/d/a");
        let gone = rule(
            "<HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>",
            "<HostName>o</HostName><HttpRedirectCode>307</HttpRedirectCode><ReplaceKeyWith>x</ReplaceKeyWith>",
        );
        assert_eq!(gone.location("docs/a", "https", "h"), "https://o/x");
        assert_eq!(gone.redirect.status, Some(307));
        let site = Website { rules: vec![docs.clone(), gone.clone()], ..Website::default() };
        assert_eq!(site.rule("docs/a", None), Some(&docs));
        assert_eq!(site.rule("a", None), None);
        assert_eq!(site.rule("docs/a", Some(404)), Some(&gone));
        assert_eq!(site.rule("docs/a", Some(403)), None);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let redirect = "<Redirect><HostName>h</HostName></Redirect>";
        assert!(with_rule(redirect).is_ok());
        for bad in [
            String::new(),
            "<Redirect/>".into(),
            format!("<Condition/>{redirect}"),
            "<Redirect><ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith></Redirect>".into(),
            "<Redirect><HttpRedirectCode>200</HttpRedirectCode></Redirect>".into(),
            format!("<Condition><HttpErrorCodeReturnedEquals>x</HttpErrorCodeReturnedEquals></Condition>{redirect}"),
        ] {
            assert!(with_rule(&bad).is_err(), "{bad}");
        }
        let rules = format!("<RoutingRule>{redirect}</RoutingRule>").repeat(51);
        let many = parse(&format!("{INDEX}<RoutingRules>{rules}</RoutingRules>"));
        assert_eq!(many, Err(Code::InvalidRequest));
    }

    #[test]
    fn places_that_objects_lead_to() {
        for good in ["/a", "http://h/", "https://h/x"] {
            assert!(check_location(good).is_ok());
        }
        for bad in ["", "a", "ftp://h/", "javascript:1", &format!("/{}", "x".repeat(2048))] {
            assert!(check_location(bad).is_err(), "{bad}");
        }
    }
}
