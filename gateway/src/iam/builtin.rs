//! Managed policies that are there in every account, under AWS' names.

/// How their ARNs begin.
const HEAD: &str = "arn:aws:iam::aws:policy/";

macro_rules! allow {
    ($actions:literal) => {
        concat!(
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"#,
            $actions,
            r#","Resource":"*"}]}"#
        )
    };
}

const POLICIES: [(&str, &str); 5] = [
    ("AdministratorAccess", allow!(r#""*""#)),
    ("AmazonS3FullAccess", allow!(r#"["s3:*"]"#)),
    ("AmazonS3ReadOnlyAccess", allow!(r#"["s3:Get*","s3:List*"]"#)),
    ("IAMFullAccess", allow!(r#"["iam:*"]"#)),
    ("IAMReadOnlyAccess", allow!(r#"["iam:Get*","iam:List*"]"#)),
];

/// The document of one of them.
pub(super) fn document(arn: &str) -> Option<&'static str> {
    let name = arn.strip_prefix(HEAD)?;
    POLICIES.iter().find(|(known, _)| *known == name).map(|(_, document)| *document)
}

/// All of them: name, ARN and document.
pub(super) fn all() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    POLICIES.iter().map(|(name, document)| (*name, format!("{HEAD}{name}"), *document))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::policy::Policy;

    #[test]
    fn all_can_be_read() {
        for (name, arn, text) in all() {
            assert!(Policy::parse_identity(text.as_bytes()).is_ok(), "{name}");
            assert_eq!(document(&arn), Some(text));
        }
        assert_eq!(document("arn:aws:iam::aws:policy/Nothing"), None);
    }
}
