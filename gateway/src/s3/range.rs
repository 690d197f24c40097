//! The `Range` header: one range of bytes. Several ranges, other units and what cannot be read mean the
//! whole object, as HTTP allows and S3 does.

use super::error::{Code, S3Result};

/// A range as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// `bytes=FIRST-` and `bytes=FIRST-LAST`
    From {
        /// First byte.
        first: u64,
        /// Last byte, `u64::MAX` for the end.
        last: u64,
    },
    /// `bytes=-COUNT`
    Last(u64),
}

impl Range {
    /// Reads a header value; `None` if it is to be ignored.
    pub fn parse(value: &str) -> Option<Range> {
        let number = |text: &str| {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
                // Beyond the largest number is beyond every object.
                .then(|| text.parse().unwrap_or(u64::MAX))
        };
        let (unit, ranges) = value.trim().split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
            return None;
        }
        match ranges.trim().split_once('-')? {
            ("", count) => Some(Range::Last(number(count.trim())?)),
            (first, "") => Some(Range::From { first: number(first.trim())?, last: u64::MAX }),
            (first, last) => {
                let (first, last) = (number(first.trim())?, number(last.trim())?);
                (first <= last).then_some(Range::From { first, last })
            }
        }
    }

    /// First byte and length within an object of `size` bytes; `InvalidRange` if nothing of it is there.
    pub fn resolve(self, size: u64) -> S3Result<(u64, u64)> {
        let unsatisfiable = || {
            Code::InvalidRange
                .with(Code::InvalidRange.message())
                .detail("ActualObjectSize", size.to_string())
        };
        match self {
            Range::From { first, last } if first < size => {
                Ok((first, last.min(size - 1) - first + 1))
            }
            Range::Last(count) if count > 0 && size > 0 => {
                Ok((size.saturating_sub(count), count.min(size)))
            }
            _ => Err(unsatisfiable()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(value: &str, size: u64) -> Option<Option<(u64, u64)>> {
        Range::parse(value).map(|range| range.resolve(size).ok())
    }

    #[test]
    fn ranges_in_ten_bytes() {
        assert_eq!(resolved("bytes=0-0", 10), Some(Some((0, 1))));
        assert_eq!(resolved("bytes=2-", 10), Some(Some((2, 8))));
        assert_eq!(resolved("Bytes = 2-99", 10), Some(Some((2, 8))));
        assert_eq!(resolved("bytes=-3", 10), Some(Some((7, 3))));
        assert_eq!(resolved("bytes=-99", 10), Some(Some((0, 10))));
        assert_eq!(resolved("bytes=0-99999999999999999999999", 10), Some(Some((0, 10))));
        assert_eq!(resolved("bytes=10-", 10), Some(None));
        assert_eq!(resolved("bytes=-0", 10), Some(None));
        assert_eq!(resolved("bytes=0-", 0), Some(None));
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=--1",
            "bytes=+1-2",
        ] {
            assert_eq!(resolved(ignored, 10), None, "{ignored}");
        }
    }

    #[test]
    fn seeded_garbage_never_panics() {
        let pieces = ["bytes", "=", "-", "0", "18446744073709551615", ",", " ", "é"];
        for mut seed in 0..100_000usize {
            let mut value = String::new();
            while seed > 0 {
                value.push_str(pieces[seed % pieces.len()]);
                seed /= pieces.len();
            }
            if let Some(range) = Range::parse(&value) {
                for size in [0, 1, u64::MAX] {
                    if let Ok((first, length)) = range.resolve(size) {
                        assert!(
                            length > 0 && first.checked_add(length).is_some_and(|end| end <= size)
                        );
                    }
                }
            }
        }
    }
}
