//! Errors as IAM says them.

use crate::catalogue::CatalogueError;
use crate::s3::Answer;
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::Xml;
use http::{Response, StatusCode};
use store_base::identity::Refusal;

/// An error answer.
#[derive(Clone, Debug)]
pub(super) struct IamError {
    code: &'static str,
    status: StatusCode,
    message: String,
}

/// What handlers return.
pub(super) type IamResult<T> = Result<T, IamError>;

impl IamError {
    fn new(code: &'static str, status: StatusCode, message: impl Into<String>) -> IamError {
        IamError { code, status, message: message.into() }
    }

    pub(super) fn denied(message: impl Into<String>) -> IamError {
        IamError::new("AccessDenied", StatusCode::FORBIDDEN, message)
    }

    pub(super) fn validation(message: impl Into<String>) -> IamError {
        IamError::new("ValidationError", StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> IamError {
        IamError::new("InvalidInput", StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn malformed_policy(message: impl Into<String>) -> IamError {
        IamError::new("MalformedPolicyDocument", StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn packed_policy() -> IamError {
        let message = "The policy of a session has at most 2048 bytes.";
        IamError::new("PackedPolicyTooLarge", StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn limit(message: impl Into<String>) -> IamError {
        IamError::new("LimitExceeded", StatusCode::CONFLICT, message)
    }

    pub(super) fn present(message: impl Into<String>) -> IamError {
        IamError::new("EntityAlreadyExists", StatusCode::CONFLICT, message)
    }

    /// Whether there is one of that name.
    pub(super) fn is_present(&self) -> bool {
        self.code == "EntityAlreadyExists"
    }

    pub(super) fn absent(message: impl Into<String>) -> IamError {
        IamError::new("NoSuchEntity", StatusCode::NOT_FOUND, message)
    }

    pub(super) fn unmodifiable(message: impl Into<String>) -> IamError {
        IamError::new("UnmodifiableEntity", StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn no_action() -> IamError {
        IamError::new("MissingAction", StatusCode::BAD_REQUEST, "The request names no Action.")
    }

    pub(super) fn no_signature() -> IamError {
        let message = "Request is missing Authentication Token";
        IamError::new("MissingAuthenticationToken", StatusCode::FORBIDDEN, message)
    }

    pub(super) fn not_there(what: &str) -> IamError {
        let message = format!("{what} is not implemented.");
        IamError::new("NotImplemented", StatusCode::NOT_IMPLEMENTED, message)
    }

    pub(super) fn too_large() -> IamError {
        let message = "The form is too long.";
        IamError::new("RequestEntityTooLarge", StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(super) fn other_body() -> IamError {
        let message = "The body is not the one whose hash is told.";
        IamError::new("SignatureDoesNotMatch", StatusCode::FORBIDDEN, message)
    }

    pub(super) fn internal() -> IamError {
        let message = Code::InternalError.message();
        IamError::new("ServiceFailure", StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// As an answer.
    pub(super) fn answer(&self, namespace: &str, request_id: &str) -> Answer {
        let mut xml = Xml::document();
        xml.open_with("ErrorResponse", &format!("xmlns=\"{namespace}\""));
        xml.open("Error");
        xml.text("Type", if self.status.is_server_error() { "Receiver" } else { "Sender" });
        xml.text("Code", self.code);
        xml.text("Message", &self.message);
        xml.close("Error");
        xml.text("RequestId", request_id);
        xml.close("ErrorResponse");
        let mut answer = Response::new(super::body(xml.into_bytes()));
        *answer.status_mut() = self.status;
        answer
    }
}

impl From<S3Error> for IamError {
    fn from(error: S3Error) -> Self {
        match error.code {
            // Its name in all services but S3.
            Code::InvalidAccessKeyId | Code::InvalidToken => {
                let message = "The security token included in the request is invalid.";
                IamError::new("InvalidClientTokenId", StatusCode::FORBIDDEN, message)
            }
            Code::ExpiredToken => {
                IamError::new("ExpiredToken", StatusCode::FORBIDDEN, error.message)
            }
            Code::SlowDown => {
                IamError::new("Throttling", StatusCode::SERVICE_UNAVAILABLE, error.message)
            }
            code => IamError::new(code.name(), code.status(), error.message),
        }
    }
}

impl From<CatalogueError> for IamError {
    fn from(error: CatalogueError) -> Self {
        S3Error::from(error).into()
    }
}

impl From<Refusal> for IamError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Absent { what } => IamError::absent(what),
            Refusal::Present { what } => IamError::present(what),
            Refusal::InUse { what } => IamError::new("DeleteConflict", StatusCode::CONFLICT, what),
            Refusal::Limit { what } => IamError::limit(what),
        }
    }
}
