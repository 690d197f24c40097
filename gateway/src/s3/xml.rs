//! XML out and in.
//!
//! Out: a plain writer. Keys may hold characters that XML 1.0 cannot express; they are written as
//! numeric references, as S3 does, and clients that care ask for `encoding-type=url`.
//!
//! In: quick-xml's events into a small tree, bounded in depth, nodes and bytes. Document types and
//! entities other than the five of XML are refused: nothing is ever expanded.

use super::error::{Code, S3Error, S3Result};
use quick_xml::Reader;
use quick_xml::events::Event;
use std::fmt::Write;

/// The namespace of S3's documents.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Deepest nesting of a document that is read.
const DEPTH_MAX: usize = 16;

/// Most elements of a document that is read: 10,000 parts with a few elements each.
const NODES_MAX: usize = 100_000;

/// A document that is written.
pub struct Xml {
    out: String,
}

impl Xml {
    /// Begins with the declaration.
    pub fn document() -> Self {
        Xml { out: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".into() }
    }

    /// Begins with the declaration and the root element in S3's namespace.
    pub fn root(name: &str) -> Self {
        let mut xml = Xml::document();
        xml.out.push_str(&format!("<{name} xmlns=\"{NAMESPACE}\">"));
        xml
    }

    /// Sets memory aside for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// Opens an element.
    pub fn open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    /// Opens an element with attributes, which must need no escape.
    pub fn open_with(&mut self, name: &str, attributes: &str) {
        self.out.push_str(&format!("<{name} {attributes}>"));
    }

    /// Closes an element.
    pub fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// An element with a text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape(text, &mut self.out);
        self.close(name);
    }

    /// A text in the open element.
    pub fn raw_text(&mut self, text: &str) {
        escape(text, &mut self.out);
    }

    /// An element with a number or another value that needs no escape.
    pub fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        self.open(name);
        write!(self.out, "{value}").expect("a string takes all");
        self.close(name);
    }

    /// An element with a text, if there is one.
    pub fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// The bytes, complete.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }
}

fn escape(text: &str, out: &mut String) {
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let reference = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            // U+FFFE and U+FFFF, which no document may hold, begin with EF BF.
            0..=0x1f | 0xef => {
                let c = text[at..].chars().next().expect("a character begins here");
                if matches!(c, '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}') {
                    out.push_str(&text[written..at]);
                    out.push_str(&format!("&#x{:x};", u32::from(c)));
                    written = at + c.len_utf8();
                }
                continue;
            }
            _ => continue,
        };
        out.push_str(&text[written..at]);
        out.push_str(reference);
        written = at + 1;
    }
    out.push_str(&text[written..]);
}

/// An element that was read. Namespaces are dropped: clients disagree about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Local name.
    pub name: String,
    /// Its own text, all pieces together.
    pub text: String,
    /// Elements within.
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a document whose root has this name.
    pub fn parse(document: &[u8], root: &str) -> S3Result<Element> {
        let element = parse(document)?;
        match element.name == root {
            true => Ok(element),
            false => Err(malformed()),
        }
    }

    /// The children of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> + 'a {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the only child of this name; an error if there are several.
    pub fn child_text(&self, name: &str) -> S3Result<Option<&str>> {
        let mut found = self.children.iter().filter(|child| child.name == name);
        let text = found.next().map(|child| child.text.as_str());
        match found.next() {
            Some(_) => Err(malformed()),
            None => Ok(text),
        }
    }

    /// The text of the only child of this name, which must be there.
    pub fn required_text(&self, name: &str) -> S3Result<&str> {
        self.child_text(name)?.ok_or_else(malformed)
    }
}

fn malformed() -> S3Error {
    Code::MalformedXML.into()
}

fn parse(document: &[u8]) -> S3Result<Element> {
    let text = std::str::from_utf8(document).map_err(|_| malformed())?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    let mut nodes = 0;
    loop {
        match reader.read_event().map_err(|_| malformed())? {
            Event::Start(tag) => {
                nodes += 1;
                if open.len() >= DEPTH_MAX || nodes > NODES_MAX || root.is_some() {
                    return Err(malformed());
                }
                let name = tag.local_name();
                let name: &str = name.as_ref();
                open.push(Element { name: name.to_owned(), ..Element::default() });
            }
            Event::End(_) => {
                // The reader has checked that it closes the open element.
                let element = open.pop().ok_or_else(malformed)?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => root = Some(element),
                }
            }
            Event::Text(piece) => add_text(&mut open, &piece)?,
            Event::CData(piece) => add_text(&mut open, &piece)?,
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref().map_err(|_| malformed())? {
                    Some(c) => c.to_string(),
                    None => quick_xml::escape::resolve_xml_entity(&reference)
                        .ok_or_else(malformed)?
                        .to_owned(),
                };
                add_text(&mut open, &resolved)?;
            }
            Event::DocType(_) => return Err(malformed()),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
            Event::Empty(_) => return Err(malformed()),
        }
    }
    match open.is_empty() {
        true => root.ok_or_else(malformed),
        false => Err(malformed()),
    }
}

fn add_text(open: &mut [Element], piece: &str) -> S3Result<()> {
    match open.last_mut() {
        Some(element) => element.text.push_str(piece),
        None if piece.trim().is_empty() => {}
        None => return Err(malformed()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_needs_an_escape_as_references() {
        let cases = [
            ("", ""),
            ("plain/ключ-鍵-\u{ffee}\u{fffd}", "plain/ключ-鍵-\u{ffee}\u{fffd}"),
            ("&", "&amp;"),
            ("a<b>&\"c\"", "a&lt;b&gt;&amp;&quot;c&quot;"),
            ("\0a\tb\n\r\x1f\x7f", "&#x0;a&#x9;b&#xa;&#xd;&#x1f;\x7f"),
            ("é\u{fffe}é\u{ffff}", "é&#xfffe;é&#xffff;"),
        ];
        for (text, escaped) in cases {
            let mut xml = Xml::document();
            xml.text("K", text);
            xml.value("N", 7);
            let document = String::from_utf8(xml.into_bytes()).unwrap();
            let body = document.split_once('\n').unwrap().1.to_owned();
            assert_eq!(body, format!("<K>{escaped}</K><N>7</N>"));
        }
    }

    #[test]
    fn reads_what_clients_send() {
        let document = br#"<?xml version="1.0"?>
            <!-- a comment -->
            <a:Delete xmlns:a="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>
            <Object><Key>a &amp;&#x41; <![CDATA[<b>]]></Key></Object><Object><Key/></Object></a:Delete>"#;
        let root = Element::parse(document, "Delete").unwrap();
        assert_eq!(root.child_text("Quiet").unwrap(), Some("true"));
        let keys: Vec<_> =
            root.all("Object").map(|o| o.required_text("Key").unwrap().to_owned()).collect();
        assert_eq!(keys, ["a &A <b>", ""]);
        assert!(root.child_text("Object").is_err());
        assert!(Element::parse(document, "Other").is_err());
    }

    #[test]
    fn refuses_what_is_dangerous_or_broken() {
        let deep = format!("{}{}", "<a>".repeat(17), "</a>".repeat(17));
        let wide = format!("<a>{}</a>", "<b/>".repeat(NODES_MAX));
        for document in [
            "",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "text",
            "<a>&unknown;</a>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
            "<a>&#xFFFFFFFF;</a>",
            &deep,
            &wide,
        ] {
            assert!(parse(document.as_bytes()).is_err(), "{}", &document[..document.len().min(60)]);
        }
        assert!(parse(b"<a>\xff</a>").is_err());
    }

    #[test]
    fn escapes_and_reads_back() {
        let text = "a<b>&\"'\u{1}\r\n\té";
        let mut xml = Xml::document();
        xml.text("T", text);
        let written = String::from_utf8(xml.into_bytes()).unwrap();
        assert!(written.contains("&#x1;&#xd;"), "{written}");
        assert_eq!(parse(written.replace("&#x1;", "").as_bytes()).unwrap().text, "a<b>&\"'\r\n\té");
    }

    #[test]
    fn seeded_garbage_never_panics() {
        let pieces = [
            "<",
            "a",
            ">",
            "</",
            "/>",
            "&",
            "#x",
            ";",
            "<![CDATA[",
            "]]>",
            "<?",
            "?>",
            "\"",
            "=",
            "<!--",
        ];
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut document = String::new();
            for _ in 0..seed % 17 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                document.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(3);
            let _ = parse(document.as_bytes());
        }
    }
}
