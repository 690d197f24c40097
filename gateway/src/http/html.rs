//! Pages for people.

/// A text as pages and the attributes of their elements have it.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_browsers_is_escaped() {
        assert_eq!(escaped("a?b=1&c=\"<'>"), "a?b=1&amp;c=&quot;&lt;&#39;&gt;");
        assert_eq!(escaped("é"), "é");
    }
}
