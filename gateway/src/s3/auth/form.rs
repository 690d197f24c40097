//! Who signed a form: the signature is in its fields, and made over the policy document as it was sent.

use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::Claimed;
use super::canonical::{Signature, parse_credential};
use super::keys::{self, SigningKeys};
use crate::keyring::{KeyRing, User};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The fields that a signature consists of. None of them needs a condition in the policy but those of
/// version 4 whose name begins with `x-amz-`, and of these all but the signature.
pub const FIELDS: [&str; 8] = [
    "policy",
    "awsaccesskeyid",
    "signature",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-signature",
    "x-amz-security-token",
];

/// Finds out who signed a form with these fields, by lower-case name. `None` for a form that has neither
/// signature nor policy.
pub fn authenticate<'a>(
    field: impl Fn(&str) -> Option<&'a str>,
    keys: &dyn KeyRing,
    cache: &mut SigningKeys,
) -> S3Result<Option<Arc<User>>> {
    if FIELDS.iter().all(|name| field(name).is_none()) {
        return Ok(None);
    }
    let required = |name: &'static str| {
        field(name).ok_or_else(|| {
            S3Error::argument(
                name,
                "",
                format!("Bucket POST must contain a field named '{name}'. If it is specified, please check the order of the fields."),
            )
        })
    };
    let policy = required("policy")?;
    let user = match field("x-amz-algorithm") {
        Some("AWS4-HMAC-SHA256") => {
            version_4(policy, required("x-amz-credential")?, required("x-amz-date")?)
                .and_then(|claim| claim.verify(required("x-amz-signature")?, keys, cache))?
        }
        Some(other) => {
            return Err(S3Error::argument(
                "X-Amz-Algorithm",
                other,
                "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
            ));
        }
        None => version_2(policy, required("awsaccesskeyid")?, required("signature")?, keys)?,
    };
    // Credentials for a while come with their token, others without one.
    match user.is_session() == field("x-amz-security-token").is_some() {
        true => Ok(Some(user)),
        false => Err(Code::InvalidToken.into()),
    }
}

/// Who the sender of a form says he is.
pub fn claimed<'a>(field: impl Fn(&str) -> Option<&'a str>) -> Option<Claimed<'a>> {
    let of_credential = || parse_credential(field("x-amz-credential")?).ok();
    let access_key = of_credential().map(|(access_key, _)| access_key);
    let access_key = access_key.or_else(|| field("awsaccesskeyid"))?;
    Some(Claimed { access_key, token: field("x-amz-security-token") })
}

fn known_user(access_key: &str, keys: &dyn KeyRing) -> S3Result<Arc<User>> {
    keys.user(access_key)
        .ok_or_else(|| S3Error::from(Code::InvalidAccessKeyId).detail("AWSAccessKeyId", access_key))
}

fn no_match(access_key: &str, policy: &str) -> S3Error {
    Code::SignatureDoesNotMatch
        .with(Code::SignatureDoesNotMatch.message())
        .detail("AWSAccessKeyId", access_key)
        .detail("StringToSign", policy)
}

/// A signature of version 4, without the signature.
struct Claim<'a> {
    policy: &'a str,
    access_key: &'a str,
    scope: super::Scope<'a>,
}

/// How long a form is valid is said by its policy; the date needs only be that of the key.
fn version_4<'a>(policy: &'a str, credential: &'a str, date: &str) -> S3Result<Claim<'a>> {
    let (access_key, scope) = parse_credential(credential)
        .map_err(|what| S3Error::argument("X-Amz-Credential", credential, what))?;
    if scope.service != "s3" {
        return Err(S3Error::argument(
            "X-Amz-Credential",
            credential,
            "incorrect service; this endpoint belongs to \"s3\".",
        ));
    }
    if dates::parse_compact(date).is_none() || !date.starts_with(scope.day) {
        let what =
            "X-Amz-Date must be formatted via ISO8601 Long format, and of the credential's day";
        return Err(S3Error::argument("X-Amz-Date", date, what));
    }
    Ok(Claim { policy, access_key, scope })
}

impl Claim<'_> {
    fn verify(
        &self,
        signature: &str,
        keys: &dyn KeyRing,
        cache: &mut SigningKeys,
    ) -> S3Result<Arc<User>> {
        let user = known_user(self.access_key, keys)?;
        let key = cache.key(self.access_key, &user.secret, &self.scope);
        let expected = keys::sign(&key, self.policy.as_bytes());
        let given = Signature::parse(signature.trim());
        match given.is_some_and(|given| bool::from(expected.0.ct_eq(&given.0))) {
            true => {
                cache.keep(self.access_key, &user.secret, &self.scope, &key);
                Ok(user)
            }
            false => Err(no_match(self.access_key, self.policy)),
        }
    }
}

fn version_2(
    policy: &str,
    access_key: &str,
    signature: &str,
    keys: &dyn KeyRing,
) -> S3Result<Arc<User>> {
    let user = known_user(access_key, keys)?;
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, user.secret.as_bytes());
    let expected = ring::hmac::sign(&key, policy.as_bytes());
    let given = STANDARD.decode(signature.trim()).unwrap_or_default();
    match bool::from(expected.as_ref().ct_eq(&given)) {
        true => Ok(user),
        false => Err(no_match(access_key, policy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::FixedKeys;

    /// The form that AWS publishes with its signature.
    const POLICY: &str = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";

    fn signed(fields: &[(&str, &str)]) -> Result<Option<String>, Code> {
        let user = |secret: &str| User { id: "u".into(), secret: secret.into(), ..User::default() };
        let ring = FixedKeys::default()
            .with("AKIAIOSFODNN7EXAMPLE", user("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
        let field = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        authenticate(field, &ring, &mut SigningKeys::default())
            .map(|user| user.map(|user| user.id.clone()))
            .map_err(|error| error.code)
    }

    #[test]
    fn the_published_form_is_accepted_and_nothing_beside_it() {
        let form = [
            ("policy", POLICY),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"),
            ("x-amz-date", "20151229T000000Z"),
            ("x-amz-signature", "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"),
        ];
        assert_eq!(signed(&form), Ok(Some("u".into())));
        assert_eq!(signed(&[]), Ok(None));
        for left_out in 0..form.len() {
            let mut part = form.to_vec();
            part.remove(left_out);
            assert_eq!(signed(&part), Err(Code::InvalidArgument), "{left_out}");
        }
        for (at, value, code) in [
            (0, "e30=", Code::SignatureDoesNotMatch),
            (1, "AWS4-ECDSA-P256-SHA256", Code::InvalidArgument),
            (2, "NOBODY/20151229/us-east-1/s3/aws4_request", Code::InvalidAccessKeyId),
            (2, "AKIAIOSFODNN7EXAMPLE/20151229/eu/s3/aws4_request", Code::SignatureDoesNotMatch),
            (2, "AKIAIOSFODNN7EXAMPLE/20151229/eu/sts/aws4_request", Code::InvalidArgument),
            (3, "20151230T000000Z", Code::InvalidArgument),
            (4, "8afd", Code::SignatureDoesNotMatch),
        ] {
            let mut other = form;
            other[at].1 = value;
            assert_eq!(signed(&other), Err(code), "{value}");
        }
        let mut token = form.to_vec();
        token.push(("x-amz-security-token", "t"));
        assert_eq!(signed(&token), Err(Code::InvalidToken));
    }

    #[test]
    fn old_signatures_are_accepted() {
        // openssl dgst -sha1 -hmac, as old clients make it.
        let key =
            Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let signature = STANDARD.encode(ring::hmac::sign(&key, b"e30="));
        let mut form = [
            ("policy", "e30="),
            ("awsaccesskeyid", "AKIAIOSFODNN7EXAMPLE"),
            ("signature", signature.as_str()),
        ];
        assert_eq!(signed(&form), Ok(Some("u".into())));
        form[0].1 = "e31=";
        assert_eq!(signed(&form), Err(Code::SignatureDoesNotMatch));
        assert_eq!(signed(&form[..2]), Err(Code::InvalidArgument));
        assert_eq!(signed(&form[..1]), Err(Code::InvalidArgument));
    }
}
