//! Sizes and durations as people write them: `64MiB`, `250ms`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A size in bytes. Written as a number with `B`, `KiB`, `MiB`, `GiB`, `TiB` (or `K`, `M`, `G`, `T`, the same),
/// or `kB`, `MB`, `GB`, `TB` for powers of ten; a bare number is bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A length of time. Written as numbers with `us`, `ms`, `s`, `m`, `h` or `d`: `250ms`, `1m30s`. A bare number
/// other than 0 is refused, since nobody could tell its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(pub Duration);

/// Units with their factor, the shown ones first and the largest of those first.
const SIZE_UNITS: [(&str, u64); 14] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("", 1),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

/// The same for time, in nanoseconds.
const SPAN_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a size: write a number and a unit, as in 64MiB or 10GB");
        let trimmed = text.trim();
        let (number, unit) = split_number(trimmed);
        let found = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, factor) = found.ok_or_else(wrong)?;
        scaled(number, *factor).map(ByteSize).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match SIZE_UNITS[..5].iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => f.write_str("0B"),
        }
    }
}

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a duration: write numbers with units, as in 250ms, 10s or 1m30s"
            )
        };
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(TimeSpan(Duration::ZERO));
        }
        let mut nanos = 0u64;
        while !rest.is_empty() {
            let (number, behind) = split_number(rest);
            let unit_len = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
            let (unit, next) = behind.split_at(unit_len);
            let (_, factor) =
                SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            let part = scaled(number, *factor).ok_or_else(wrong)?;
            nanos = nanos.checked_add(part).ok_or_else(wrong)?;
            rest = next.trim_start();
        }
        if text.trim().is_empty() {
            return Err(wrong());
        }
        Ok(TimeSpan(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in SPAN_UNITS {
            if nanos >= factor {
                write!(f, "{}{unit}", nanos / factor)?;
                nanos %= factor;
            }
        }
        Ok(())
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// A decimal number times a factor, exactly, or `None` for no number or one too large.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    let digits = fraction.len().min(9); // nothing below a billionth of a unit matters
    let parts: u64 = fraction.get(..digits)?.parse().ok()?;
    let below = u128::from(parts) * u128::from(factor) / 10u128.pow(u32::try_from(digits).ok()?);
    whole.checked_mul(factor)?.checked_add(u64::try_from(below).ok()?)
}

/// Reads text, and for sizes also numbers, with the sentence of `FromStr` as the error.
struct Visitor<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = String>> de::Visitor<'_> for Visitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

macro_rules! as_text {
    ($type:ident, $expected:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_any(Visitor(std::marker::PhantomData, $expected))
            }
        }
    };
}

as_text!(ByteSize, "a size as in 64MiB or 10GB");
as_text!(TimeSpan, "a duration as in 250ms, 10s or 1m30s");

impl From<Duration> for TimeSpan {
    fn from(span: Duration) -> Self {
        TimeSpan(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_show() {
        let cases = [
            ("64MiB", 64 << 20, "64MiB"),
            ("64M", 64 << 20, "64MiB"),
            (" 1.5 GiB ", 3 << 29, "1536MiB"),
            ("10gb", 10_000_000_000, "9765625KiB"),
            ("4096", 4096, "4KiB"),
            ("7", 7, "7B"),
            ("0", 0, "0B"),
        ];
        for (text, bytes, shown) in cases {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
            assert_eq!(shown.parse(), Ok(size), "what is shown can be read");
        }
        for text in ["", "MiB", "64MX", "-1", "99999999999TiB", "1e3", "1.", "1..2"] {
            let error = text.parse::<ByteSize>().expect_err(text);
            assert!(error.contains("64MiB"), "{error}");
        }
    }

    #[test]
    fn durations_read_and_show() {
        let cases = [
            ("250ms", 250, "250ms"),
            ("10s", 10_000, "10s"),
            ("1m30s", 90_000, "1m30s"),
            ("1.5h", 5_400_000, "1h30m"),
            ("0", 0, "0s"),
        ];
        for (text, millis, shown) in cases {
            let span: TimeSpan = text.parse().expect(text);
            assert_eq!((span.0, span.to_string().as_str()), (Duration::from_millis(millis), shown));
            assert_eq!(shown.parse(), Ok(span), "what is shown can be read");
        }
        for text in ["", "10", "s", "-1s", "10 parsecs", "99999999999d"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text:?}");
        }
    }
}
