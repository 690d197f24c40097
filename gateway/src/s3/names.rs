//! What buckets and keys may be called.

use super::error::{Code, S3Result};

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Checks a bucket name that is to be made, by S3's rules: lower-case letters, digits, dots and
/// hyphens, 3 to 63; labels begin and end with a letter or digit; not like an IPv4 address; no reserved affix.
pub fn check_bucket(name: &str) -> S3Result<()> {
    let label_fits = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.into_iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let like_address = name.split('.').count() == 4
        && name.split('.').all(|label| label.bytes().all(|b| b.is_ascii_digit()));
    let reserved = ["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|p| name.starts_with(p))
        || ["-s3alias", "--ol-s3", ".mrap", "--x-s3"].iter().any(|s| name.ends_with(s));
    match (3..=63).contains(&name.len())
        && name.split('.').all(label_fits)
        && !like_address
        && !reserved
    {
        true => Ok(()),
        false => Err(Code::InvalidBucketName
            .with(Code::InvalidBucketName.message())
            .detail("BucketName", name)),
    }
}

/// Checks a key of any request.
pub fn check_key(key: &str) -> S3Result<()> {
    match key.len() {
        0 => Err(Code::InvalidURI.into()),
        1..=KEY_BYTES_MAX => Ok(()),
        size => Err(Code::KeyTooLongError
            .with(Code::KeyTooLongError.message())
            .detail("Size", size.to_string())
            .detail("MaxSizeAllowed", KEY_BYTES_MAX.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_the_rules() {
        for good in ["abc", "a-b.c1", "1bucket", &"a".repeat(63), "192.168.0.1a", "a--b"] {
            assert!(check_bucket(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "b",
            "ab",
            &"a".repeat(64),
            "Abc",
            "a_b",
            "a..b",
            ".ab",
            "ab.",
            "-ab",
            "ab-",
            "a.-b",
            "192.168.0.1",
            "xn--abc",
            "abc-s3alias",
            "a b",
            "é-bucket",
            "a/b",
            "abc--ol-s3",
        ] {
            assert!(check_bucket(bad).is_err(), "{bad}");
        }
        assert!(check_key(&"k".repeat(1024)).is_ok());
        assert!(check_key(&"k".repeat(1025)).is_err());
    }
}
