//! How a run ends: one sentence and one number.

use store_base::error::Error;
use store_base::op::errno;

/// Why the command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

/// The exit codes are part of the interface: scripts branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
    NotFound,
    Unsafe,
    TimedOut,
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Failure { kind: Kind::Failed, message: message.into() }
    }

    /// The command line itself is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure { kind: Kind::Usage, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Failure { kind: Kind::NotFound, message: message.into() }
    }

    /// It would do harm and nobody said that it is meant.
    pub(crate) fn unsafe_(message: impl Into<String>) -> Self {
        Failure { kind: Kind::Unsafe, message: message.into() }
    }

    pub(crate) fn timed_out(message: impl Into<String>) -> Self {
        Failure { kind: Kind::TimedOut, message: message.into() }
    }

    /// A command of the monitor's table that answered with a negative errno.
    pub(crate) fn of_command(code: i32, why: String) -> Self {
        // Destroying something unconfirmed, or something that is still needed.
        if [errno::EPERM, errno::EBUSY].contains(&-code) {
            return Failure::unsafe_(why);
        }
        Error::from_errno(code, why).into()
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Unsafe => 4,
            Kind::TimedOut => 5,
        }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NotFound(_) => Kind::NotFound,
            Error::Invalid(_) => Kind::Usage,
            Error::Denied(_) => Kind::Unsafe,
            Error::TimedOut(_) | Error::Unavailable(_) => Kind::TimedOut,
            _ => Kind::Failed,
        };
        Failure { kind, message: error.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let message = error.to_string();
        match error.kind() {
            std::io::ErrorKind::NotFound => Failure::not_found(message),
            _ => Failure::failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_the_ends_apart() {
        let code = |error: Error| Failure::from(error).exit_code();
        assert_eq!(code(Error::Conflict("x".into())), 1);
        assert_eq!(code(Error::Invalid("x".into())), 2);
        assert_eq!(code(Error::NotFound("x".into())), 3);
        assert_eq!(code(Error::Denied("x".into())), 4);
        assert_eq!(code(Error::TimedOut("x".into())), 5);
        assert_eq!(code(Error::Unavailable("x".into())), 5);
        assert_eq!(Failure::of_command(-errno::EBUSY, "x".into()).exit_code(), 4);
        assert_eq!(Failure::of_command(-errno::EEXIST, "x".into()).exit_code(), 1);
        assert_eq!(Failure::of_command(-errno::ENOENT, "x".into()).exit_code(), 3);
    }
}
