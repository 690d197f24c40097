//! What a bucket encrypts by default.

use super::super::error::{Code, S3Error, S3Result};
use super::super::xml::Element;
use super::AES256;
use super::kms;

/// What a `ServerSideEncryptionConfiguration` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByDefault {
    /// A key of the cluster.
    Cluster,
    /// A key of the key ring.
    Kms {
        /// Which, as the document has it; the default key if it names none.
        key: Option<String>,
        /// Whether keys of buckets are wished for.
        bucket_key: bool,
    },
}

impl ByDefault {
    /// Reads the document. Errors: `MalformedXML`, `InvalidArgument`, `NotImplemented`.
    pub fn parse(document: &[u8]) -> S3Result<ByDefault> {
        let root = Element::parse(document, "ServerSideEncryptionConfiguration")?;
        let mut rules = root.all("Rule");
        let (Some(rule), None) = (rules.next(), rules.next()) else {
            return Err(Code::MalformedXML.into());
        };
        if rule.all("BlockedEncryptionTypes").next().is_some() {
            return Err(Code::NotImplemented.with("BlockedEncryptionTypes is not supported."));
        }
        let bucket_key = match rule.child_text("BucketKeyEnabled")?.map(str::trim) {
            None | Some("") => false,
            Some(flag) => flag.parse().map_err(|_| Code::MalformedXML)?,
        };
        let by_default =
            rule.all("ApplyServerSideEncryptionByDefault").next().ok_or(Code::MalformedXML)?;
        let key = by_default.child_text("KMSMasterKeyID")?.map(str::trim);
        match (by_default.required_text("SSEAlgorithm")?.trim(), key) {
            (AES256, None) => Ok(ByDefault::Cluster),
            (AES256, Some(_)) => Err(S3Error::argument(
                "ApplyServerSideEncryptionByDefault",
                "",
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
            )),
            (kms::METHOD, key) => {
                let key = key.filter(|key| !key.is_empty()).map(str::to_owned);
                Ok(ByDefault::Kms { key, bucket_key })
            }
            (kms::TWO_LAYERS, _) => Err(kms::no_two_layers()),
            _ => Err(Code::MalformedXML.into()),
        }
    }

    /// Whether the key that is named can be one, before it is believed. That it is there is looked up when something
    /// is written.
    pub fn check(&self, region: &str) -> S3Result<()> {
        match self {
            ByDefault::Kms { key: Some(key), .. } => kms::KeyName::parse(key, region).map(drop),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(inner: &str) -> Result<ByDefault, Code> {
        let text = format!(
            "<ServerSideEncryptionConfiguration><Rule>{inner}</Rule></ServerSideEncryptionConfiguration>"
        );
        ByDefault::parse(text.as_bytes()).map_err(|error| error.code)
    }

    fn by_default(inner: &str, more: &str) -> Result<ByDefault, Code> {
        let name = "ApplyServerSideEncryptionByDefault";
        rule(&format!("<{name}>{inner}</{name}>{more}"))
    }

    #[test]
    fn defaults_of_buckets() {
        assert_eq!(by_default("<SSEAlgorithm>AES256</SSEAlgorithm>", ""), Ok(ByDefault::Cluster));
        let flag = "<BucketKeyEnabled>true</BucketKeyEnabled>";
        assert_eq!(by_default("<SSEAlgorithm>AES256</SSEAlgorithm>", flag), Ok(ByDefault::Cluster));
        let kms = "<SSEAlgorithm>aws:kms</SSEAlgorithm>";
        let default = ByDefault::Kms { key: None, bucket_key: true };
        assert_eq!(by_default(kms, flag), Ok(default));
        let named = format!("{kms}<KMSMasterKeyID>k</KMSMasterKeyID>");
        let default = ByDefault::Kms { key: Some("k".into()), bucket_key: false };
        assert_eq!(by_default(&named, ""), Ok(default));
        let two = "<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>";
        assert_eq!(by_default(two, ""), Err(Code::NotImplemented));
        let both = "<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>";
        assert_eq!(by_default(both, ""), Err(Code::InvalidArgument));
        for bad in ["", "<SSEAlgorithm>DES</SSEAlgorithm>"] {
            assert_eq!(by_default(bad, ""), Err(Code::MalformedXML));
        }
        let flag = "<BucketKeyEnabled>1</BucketKeyEnabled>";
        assert_eq!(by_default(kms, flag), Err(Code::MalformedXML));
        assert_eq!(rule(""), Err(Code::MalformedXML));
        assert!(ByDefault::parse(b"<ServerSideEncryptionConfiguration/>").is_err());
    }

    #[test]
    fn a_name_that_can_be_no_key_is_refused_when_it_is_put() {
        let kms = |key: &str| ByDefault::Kms { key: Some(key.into()), bucket_key: false };
        assert!(kms("alias/k").check("r").is_ok());
        assert_eq!(kms("a b").check("r").unwrap_err().code, Code::KmsNotFound);
    }
}
