//! Names, paths and ARNs: what may be in them.

use super::error::{IamError, IamResult};
use store_base::identity::Kind;

/// Longest path.
const PATH_BYTES_MAX: usize = 512;

/// Longest name of a user, role or key pair; groups and policies may have twice as long ones.
const NAME_BYTES_MAX: usize = 64;

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
}

/// Checks the name that a parameter gives.
pub(super) fn check(parameter: &str, name: &str) -> IamResult<()> {
    let long = matches!(
        parameter,
        "GroupName" | "NewGroupName" | "PolicyName" | "UserName" | "NewUserName"
    );
    let max = if long { 2 * NAME_BYTES_MAX } else { NAME_BYTES_MAX };
    let min = if parameter == "RoleSessionName" { 2 } else { 1 };
    match (min..=max).contains(&name.len()) && is_name(name) {
        true => Ok(()),
        false => Err(IamError::validation(format!(
            "The specified value for {} is invalid. It must have {min} to {max} characters of alphanumeric characters and +=,.@_-",
            lower_first(parameter)
        ))),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// Checks a path: `/`, or `/…/` of printable characters.
pub(super) fn check_path(path: &str) -> IamResult<()> {
    let fits = path.starts_with('/')
        && path.ends_with('/')
        && path.len() <= PATH_BYTES_MAX
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'?');
    match fits {
        true => Ok(()),
        false => Err(IamError::validation(
            "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.",
        )),
    }
}

/// Checks what a path shall begin with.
pub(super) fn check_path_prefix(path: &str) -> IamResult<()> {
    match path.starts_with('/') && path.len() <= PATH_BYTES_MAX {
        true => Ok(()),
        false => Err(IamError::validation("The specified value for pathPrefix is invalid.")),
    }
}

/// The word of a kind in ARNs.
pub(super) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::User {} => "user",
        Kind::Group {} => "group",
        Kind::Role {} => "role",
    }
}

/// The ARN of something in an account.
pub(super) fn arn(account: &str, word: &str, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:{word}{path}{name}")
}

/// Account, path and name of an ARN that is one of these.
pub(super) fn parse_arn<'a>(arn: &'a str, word: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let rest = arn.strip_prefix("arn:aws:iam::")?;
    let (account, resource) = rest.split_once(':')?;
    let path_and_name = resource.strip_prefix(word).filter(|rest| rest.starts_with('/'))?;
    let at = path_and_name.rfind('/')? + 1;
    let (path, name) = path_and_name.split_at(at);
    (!name.is_empty()).then_some((account, path, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_checked() {
        for name in ["a", "A.b-c_d@e+f=g,h", &"x".repeat(64)] {
            assert!(check("RoleName", name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a/b", "a:b", "a\0", "ä", "*", &"x".repeat(65)] {
            assert!(check("RoleName", name).is_err(), "{name}");
        }
        assert!(check("GroupName", &"x".repeat(128)).is_ok());
        assert!(check("RoleSessionName", "x").is_err() && check("RoleSessionName", "xy").is_ok());
        for path in ["/", "/a/", "/a/b-c/"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in ["", "a/", "/a", "/a b/", "/*/", &format!("/{}/", "x".repeat(511))] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn arns_are_taken_apart_as_they_are_made() {
        for (path, name) in [("/", "n"), ("/a/b/", "n")] {
            let made = arn("acc", "role", path, name);
            assert_eq!(parse_arn(&made, "role"), Some(("acc", path, name)));
            assert_eq!(parse_arn(&made, "policy"), None);
        }
        for bad in ["", "arn:aws:iam::a:role", "arn:aws:iam::a:role/", "arn:aws:s3:::role/x"] {
            assert_eq!(parse_arn(bad, "role"), None, "{bad}");
        }
    }
}
