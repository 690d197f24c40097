//! Texts with `*`, `?` and variables, and the matching of them. What a variable stands for is taken
//! literally: a user named `*` is no wildcard.

use super::{Context, PolicyError};

/// A text to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `*`: any number of characters.
    Any,
    /// `?`: one character.
    One,
    /// `${key}` or `${key, 'default'}`.
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// A pattern whose variables are filled in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    Any,
    One,
}

/// What of a text is special.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// `*` and `?`.
    pub wildcards: bool,
    /// `${…}`.
    pub variables: bool,
}

impl Pattern {
    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Pattern, PolicyError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            let piece = match c {
                '*' if syntax.wildcards => Piece::Any,
                '?' if syntax.wildcards => Piece::One,
                '$' if syntax.variables && rest.starts_with('{') => {
                    let (inner, behind) = rest[1..].split_once('}').ok_or_else(|| {
                        PolicyError(format!("A variable is not closed in \"{text}\""))
                    })?;
                    rest = behind;
                    variable(inner)?
                }
                c => {
                    literal.push(c);
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Pattern { pieces })
    }

    /// Whether it stands for one text whoever asks: no wildcard, no variable.
    pub(super) fn is_fixed(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Literal(_)))
    }

    /// How many variables it has.
    pub(super) fn variables(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Variable { .. })).count()
    }

    /// Whether the text matches. A variable without a value matches nothing.
    pub(super) fn matches(&self, text: &str, context: &Context) -> bool {
        self.tokens(context).is_some_and(|tokens| glob(&tokens, text))
    }

    /// As [`Pattern::matches`], whatever the case of the letters.
    pub(super) fn matches_caseless(&self, text: &str, context: &Context) -> bool {
        let Some(tokens) = self.tokens(context) else { return false };
        let lower: Vec<Token> = tokens
            .into_iter()
            .flat_map(|token| match token {
                Token::Char(c) => c.to_lowercase().map(Token::Char).collect(),
                other => vec![other],
            })
            .collect();
        glob(&lower, &text.to_lowercase())
    }

    /// As [`Pattern::matches`], field by field between the first colons: a wildcard does not reach over
    /// one, but in the last field.
    pub(super) fn matches_fields(&self, text: &str, fields: usize, context: &Context) -> bool {
        let Some(tokens) = self.tokens(context) else { return false };
        let wanted: Vec<&[Token]> =
            tokens.splitn(fields, |token| *token == Token::Char(':')).collect();
        let given: Vec<&str> = text.splitn(fields, ':').collect();
        wanted.len() == given.len()
            && wanted.iter().zip(given).all(|(wanted, given)| glob(wanted, given))
    }

    fn tokens(&self, context: &Context) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => tokens.extend(text.chars().map(Token::Char)),
                Piece::Any => tokens.push(Token::Any),
                Piece::One => tokens.push(Token::One),
                Piece::Variable { key, default } => {
                    let value = context.single(key).or(default.as_deref())?;
                    tokens.extend(value.chars().map(Token::Char));
                }
            }
        }
        Some(tokens)
    }
}

fn variable(inner: &str) -> Result<Piece, PolicyError> {
    // The three characters that would be special otherwise.
    if matches!(inner, "*" | "?" | "$") {
        return Ok(Piece::Literal(inner.to_owned()));
    }
    let (key, default) = match inner.split_once(',') {
        None => (inner.trim(), None),
        Some((key, default)) => {
            let text = default.trim();
            let text = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            let text = text.ok_or_else(|| {
                PolicyError(format!("The default of the variable ${{{inner}}} is not in quotes"))
            })?;
            (key.trim(), Some(text.to_owned()))
        }
    };
    match key.contains(':') {
        true => Ok(Piece::Variable { key: key.to_owned(), default }),
        false => Err(PolicyError(format!("Unknown policy variable ${{{inner}}}"))),
    }
}

/// Matches in time of at most pattern times text, whatever the pattern. Both are bounded: the text is a key of an
/// object, or has [`super::COMPARED_BYTES_MAX`].
fn glob(pattern: &[Token], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // The last `*`, and how far it has been stretched.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Token::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Token::One) => {
                p += 1;
                t += 1;
            }
            Some(Token::Char(c)) if *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((at, stretched)) => {
                    *stretched += 1;
                    (p, t) = (*at + 1, *stretched);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|token| *token == Token::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Syntax = Syntax { wildcards: true, variables: true };

    #[test]
    fn wildcards_match_as_in_a_shell() {
        let none = Context::default();
        let matches = |pattern, text| Pattern::parse(pattern, ALL).unwrap().matches(text, &none);
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "a/b"),
            ("a*c", "abbbc"),
            ("a?c", "aéc"),
            ("*.jpg", "x.jpg.jpg"),
            ("a*b*c", "aXbYbZc"),
            ("${*}", "*"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a?", "a"), ("a*c", "abcd"), ("A", "a"), ("${*}", "x"), ("*a*b", "ba")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        let slow = "*a".repeat(200) + "b";
        assert!(!matches(&slow, &"a".repeat(1000)));
        assert!(Pattern::parse("A*", ALL).unwrap().matches_caseless("aXx", &none));
    }

    #[test]
    fn variables_stand_for_values_and_never_for_wildcards() {
        let mut context = Context::default();
        context.add("aws:username", "*");
        let pattern = Pattern::parse("home/${aws:UserName}/?", ALL).unwrap();
        assert!(pattern.matches("home/*/x", &context));
        assert!(!pattern.matches("home/other/x", &context));
        assert!(!pattern.matches("home//x", &Context::default()));
        let default = Pattern::parse("${aws:username, 'no one'}", ALL).unwrap();
        assert!(default.matches("no one", &Context::default()));
        assert!(Pattern::parse("${aws:username", ALL).is_err());
        assert!(Pattern::parse("${name}", ALL).is_err());
        let old = Syntax { variables: false, ..ALL };
        assert!(
            Pattern::parse("${aws:username}", old).unwrap().matches("${aws:username}", &context)
        );
    }
}
