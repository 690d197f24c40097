//! When a policy counts as public: some statement lets everybody in, and no condition of it names fixed
//! values of a key that tells where a request comes from or by whom.

use super::{Listed, Statement};

/// Keys whose fixed values make a statement one for some.
const PINNING: [&str; 12] = [
    "aws:principalaccount",
    "aws:principalarn",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourceowner",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
    "aws:username",
    "s3:dataaccesspointarn",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
];

pub(super) fn lets_everybody_in(statement: &Statement) -> bool {
    let everybody = match &statement.principals {
        Listed::These(principals) => principals.everybody,
        // The parser refuses it in a statement that allows; if it came, it would be everybody.
        Listed::AllBut(_) => true,
    };
    let pinned = statement
        .conditions
        .iter()
        .any(|condition| PINNING.contains(&condition.key.as_str()) && condition.pins_down());
    statement.allows && everybody && !pinned
}
