//! Conditions of a statement.
//!
//! A condition is an operator, a key and values. It holds when one of the values matches; of a negated
//! operator, when none does. A key that the request does not have: a plain operator does not hold, a
//! negated one does, and so does every one with `IfExists`. `ForAllValues` wants it of every value that the
//! request has for the key (and holds when there is none), `ForAnyValue` of one.

use super::json::Json;
use super::pattern::{Pattern, Syntax};
use super::{COMPARED_BYTES_MAX, Context, PolicyError};
use crate::http::network::Network;
use crate::s3::dates;

/// `arn:partition:service:region:account:resource`
const ARN_FIELDS: usize = 6;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Lower case.
    pub(super) key: String,
    test: Test,
    negated: bool,
    if_exists: bool,
    quantifier: Quantifier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    Plain,
    ForAll,
    ForAny,
}

/// Order of a value of the request and one of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Order::Equal => left == right,
            Order::Less => left < right,
            Order::LessOrEqual => left <= right,
            Order::Greater => left > right,
            Order::GreaterOrEqual => left >= right,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Text {
        values: Vec<Pattern>,
        caseless: bool,
    },
    Arn {
        values: Vec<Pattern>,
    },
    /// Decimal numbers, as [`Decimal`].
    Number {
        order: Order,
        values: Vec<Decimal>,
    },
    /// Seconds since 1970.
    Date {
        order: Order,
        values: Vec<u64>,
    },
    Bool {
        values: Vec<bool>,
    },
    Address {
        values: Vec<Network>,
    },
    /// Whether the key must be absent.
    Null {
        absent: Vec<bool>,
    },
}

/// A finite number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Decimal(f64);

// A finite number equals itself.
impl Eq for Decimal {}

impl Decimal {
    fn parse(text: &str) -> Option<Decimal> {
        text.trim().parse().ok().filter(|number: &f64| number.is_finite()).map(Decimal)
    }
}

impl Condition {
    /// Reads one key of one operator.
    pub(super) fn parse(
        operator: &str,
        key: &str,
        values: &Json,
        variables: bool,
    ) -> Result<Condition, PolicyError> {
        let wrong = |what: &str| PolicyError(format!("{what} in condition {operator} {key}"));
        let values = values.texts().ok_or_else(|| wrong("Invalid values"))?;
        let (quantifier, plain) = match operator.split_once(':') {
            None => (Quantifier::Plain, operator),
            Some(("ForAllValues", plain)) => (Quantifier::ForAll, plain),
            Some(("ForAnyValue", plain)) => (Quantifier::ForAny, plain),
            Some(_) => return Err(PolicyError(format!("Invalid Condition type : {operator}"))),
        };
        let (plain, if_exists) = match plain.strip_suffix("IfExists") {
            Some(plain) => (plain, true),
            None => (plain, false),
        };
        let (test, negated) = Test::parse(plain, &values, variables)
            .ok_or_else(|| PolicyError(format!("Invalid Condition type : {operator}")))?
            .map_err(|error| wrong(&error.0))?;
        if matches!(test, Test::Null { .. }) && (if_exists || quantifier != Quantifier::Plain) {
            return Err(PolicyError(format!("Invalid Condition type : {operator}")));
        }
        Ok(Condition { key: key.to_ascii_lowercase(), test, negated, if_exists, quantifier })
    }

    /// Whether the request says more of the key than anybody compares.
    pub(super) fn is_beyond(&self, context: &Context) -> bool {
        let compares = matches!(self.test, Test::Text { .. } | Test::Arn { .. });
        let values = context.values(&self.key).unwrap_or_default();
        compares && values.iter().map(String::len).sum::<usize>() > COMPARED_BYTES_MAX
    }

    /// How many variables it has.
    pub(super) fn variables(&self) -> usize {
        match &self.test {
            Test::Text { values, .. } | Test::Arn { values } => {
                values.iter().map(Pattern::variables).sum()
            }
            _ => 0,
        }
    }

    pub(super) fn holds(&self, context: &Context) -> bool {
        let present = context.values(&self.key);
        if let Test::Null { absent } = &self.test {
            return absent.contains(&present.is_none());
        }
        let Some(values) = present.filter(|values| !values.is_empty()) else {
            return match self.quantifier {
                Quantifier::ForAll => true,
                Quantifier::ForAny => self.if_exists,
                Quantifier::Plain => self.if_exists || self.negated,
            };
        };
        let one = |value: &String| self.test.matches(value, context);
        match (self.quantifier, self.negated) {
            (Quantifier::ForAll, negated) => values.iter().all(|value| one(value) != negated),
            (Quantifier::ForAny, negated) => values.iter().any(|value| one(value) != negated),
            (Quantifier::Plain, false) => values.iter().any(one),
            (Quantifier::Plain, true) => !values.iter().any(one),
        }
    }

    /// Whether it lets in only requests with certain fixed values of its key.
    pub(super) fn pins_down(&self) -> bool {
        if self.negated || self.if_exists || self.quantifier == Quantifier::ForAll {
            return false;
        }
        match &self.test {
            Test::Text { values, .. } | Test::Arn { values } => {
                values.iter().all(Pattern::is_fixed)
            }
            Test::Address { values } => values.iter().all(Network::is_narrow),
            _ => false,
        }
    }
}

impl Test {
    /// The test of an operator and whether it is negated; `None` for an operator that does not exist.
    #[allow(clippy::type_complexity)] // the only caller takes it apart at once
    fn parse(
        operator: &str,
        values: &[&str],
        variables: bool,
    ) -> Option<Result<(Test, bool), PolicyError>> {
        let texts = |wildcards, caseless, negated| {
            let syntax = Syntax { wildcards, variables };
            let values = values.iter().map(|value| Pattern::parse(value, syntax));
            values
                .collect::<Result<_, _>>()
                .map(|values| (Test::Text { values, caseless }, negated))
        };
        let arns = |negated| {
            let syntax = Syntax { wildcards: true, variables };
            let values = values.iter().map(|value| Pattern::parse(value, syntax));
            values.collect::<Result<_, _>>().map(|values| (Test::Arn { values }, negated))
        };
        let bools = || all(values, "boolean", |value| value.to_ascii_lowercase().parse().ok());
        let addresses = || all(values, "address", |text| text.parse::<Network>().ok());
        Some(match operator {
            "StringEquals" => texts(false, false, false),
            "StringNotEquals" => texts(false, false, true),
            "StringEqualsIgnoreCase" => texts(false, true, false),
            "StringNotEqualsIgnoreCase" => texts(false, true, true),
            "StringLike" => texts(true, false, false),
            "StringNotLike" => texts(true, false, true),
            // Its values are Base64 on both sides.
            "BinaryEquals" => texts(false, false, false),
            "ArnEquals" | "ArnLike" => arns(false),
            "ArnNotEquals" | "ArnNotLike" => arns(true),
            "Bool" => bools().map(|values| (Test::Bool { values }, false)),
            "Null" => bools().map(|absent| (Test::Null { absent }, false)),
            "IpAddress" => addresses().map(|values| (Test::Address { values }, false)),
            "NotIpAddress" => addresses().map(|values| (Test::Address { values }, true)),
            _ => return Test::parse_ordered(operator, values),
        })
    }

    #[allow(clippy::type_complexity)] // as above
    fn parse_ordered(operator: &str, values: &[&str]) -> Option<Result<(Test, bool), PolicyError>> {
        let (numeric, order) = match operator.strip_prefix("Numeric") {
            Some(order) => (true, order),
            None => (false, operator.strip_prefix("Date")?),
        };
        let (order, negated) = match order {
            "Equals" => (Order::Equal, false),
            "NotEquals" => (Order::Equal, true),
            "LessThan" => (Order::Less, false),
            "LessThanEquals" => (Order::LessOrEqual, false),
            "GreaterThan" => (Order::Greater, false),
            "GreaterThanEquals" => (Order::GreaterOrEqual, false),
            _ => return None,
        };
        Some(match numeric {
            true => all(values, "number", Decimal::parse)
                .map(|values| (Test::Number { order, values }, negated)),
            false => {
                all(values, "date", date).map(|values| (Test::Date { order, values }, negated))
            }
        })
    }

    fn matches(&self, value: &str, context: &Context) -> bool {
        match self {
            Test::Text { values, caseless: false } => {
                values.iter().any(|pattern| pattern.matches(value, context))
            }
            Test::Text { values, caseless: true } => {
                values.iter().any(|pattern| pattern.matches_caseless(value, context))
            }
            Test::Arn { values } => {
                values.iter().any(|pattern| pattern.matches_fields(value, ARN_FIELDS, context))
            }
            Test::Number { order, values } => Decimal::parse(value)
                .is_some_and(|given| values.iter().any(|value| order.holds(given, *value))),
            Test::Date { order, values } => date(value)
                .is_some_and(|given| values.iter().any(|value| order.holds(given, *value))),
            Test::Bool { values } => value
                .to_ascii_lowercase()
                .parse::<bool>()
                .is_ok_and(|given| values.contains(&given)),
            Test::Address { values } => value
                .parse()
                .is_ok_and(|given| values.iter().any(|network| network.contains(given))),
            Test::Null { .. } => false,
        }
    }
}

fn all<T>(
    values: &[&str],
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, PolicyError> {
    let one =
        |value: &&str| parse(value).ok_or_else(|| PolicyError(format!("Invalid {what} {value}")));
    values.iter().map(one).collect()
}

/// Seconds since 1970, written so or as ISO 8601.
fn date(text: &str) -> Option<u64> {
    let text = text.trim();
    text.parse().ok().or_else(|| dates::parse_http(text)).or_else(|| match text.len() {
        // A day.
        10 => dates::parse_http(&format!("{text}T00:00:00Z")),
        _ => None,
    })
}
