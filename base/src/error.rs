//! Errors as advice: what the caller does next is in the variant, what happened is in the sentence.

/// An error of the cluster as the client library, the CLI and the gateway see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The thing named does not exist. Do not retry.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or a guard did not hold. Look again, decide anew.
    #[error("{0}")]
    Conflict(String),
    /// The request itself is wrong. Mend it.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not do this.
    #[error("{0}")]
    Denied(String),
    /// No room. Delete something or add a daemon.
    #[error("{0}")]
    Full(String),
    /// The pool has used up its quota. Delete something or have the quota raised.
    #[error("{0}")]
    Quota(String),
    /// Not answered within the deadline; **it may have happened or not**. Retry if it is idempotent.
    #[error("{0}")]
    TimedOut(String),
    /// Nothing was done; the same call may go through later.
    #[error("{0}")]
    Unavailable(String),
    /// Stored bytes are damaged and no good copy was found. Report it.
    #[error("{0}")]
    Damaged(String),
    /// This operation does not exist here.
    #[error("{0}")]
    Unsupported(String),
    /// Anything else: a negative errno and a sentence.
    #[error("{1} (errno {0})")]
    Other(i32, String),
}

impl Error {
    /// The advice for a negative errno, with a sentence.
    pub fn from_errno(code: i32, why: impl Into<String>) -> Error {
        use crate::op::errno::*;
        let why = why.into();
        match -code {
            ENOENT | ENODATA => Error::NotFound(why),
            EEXIST | ECANCELED | ERANGE | EOVERFLOW | EBUSY => Error::Conflict(why),
            EINVAL | E2BIG | EFBIG | ENAMETOOLONG => Error::Invalid(why),
            EPERM | EACCES | EROFS | EBLOCKLISTED => Error::Denied(why),
            ENOSPC => Error::Full(why),
            EDQUOT => Error::Quota(why),
            ETIMEDOUT => Error::TimedOut(why),
            EAGAIN => Error::Unavailable(why),
            EIO => Error::Damaged(why),
            EOPNOTSUPP => Error::Unsupported(why),
            _ => Error::Other(code, why),
        }
    }

    /// The negative errno that tells the same.
    pub fn errno(&self) -> i32 {
        use crate::op::errno::*;
        -match self {
            Error::NotFound(_) => ENOENT,
            Error::Conflict(_) => EEXIST,
            Error::Invalid(_) => EINVAL,
            Error::Denied(_) => EACCES,
            Error::Full(_) => ENOSPC,
            Error::Quota(_) => EDQUOT,
            Error::TimedOut(_) => ETIMEDOUT,
            Error::Unavailable(_) => EAGAIN,
            Error::Damaged(_) => EIO,
            Error::Unsupported(_) => EOPNOTSUPP,
            Error::Other(code, _) => -code,
        }
    }
}
