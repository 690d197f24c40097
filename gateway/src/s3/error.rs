//! S3's errors: code, status, sentence, and the XML that carries them.

use super::xml::Xml;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use store_base::bucket::Refusal;
use store_base::error::Error as ClusterError;

macro_rules! codes {
    ($($code:ident $(as $name:literal)? $status:literal $message:literal;)*) => {
        /// The codes that this gateway answers with. What the client does is S3's convention: 5xx is
        /// retried by every SDK, 4xx is not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Code { $($code),* }

        impl Code {
            /// As in the XML.
            pub fn name(self) -> &'static str {
                // The first of what there is: a name that no identifier can be, or the identifier.
                match self { $(Code::$code => [$($name,)? stringify!($code)][0]),* }
            }

            /// HTTP status.
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Code::$code => $status),* };
                StatusCode::from_u16(status).expect("the table has valid statuses only")
            }

            /// The usual sentence.
            pub fn message(self) -> &'static str {
                match self { $(Code::$code => $message),* }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported 400 "The bucket does not allow ACLs";
    AccessDenied 403 "Access Denied";
    AccessForbidden 403 "No CORS rule of the bucket allows this origin, method and headers.";
    AuthorizationHeaderMalformed 400 "The authorization header that you provided is not valid.";
    AuthorizationQueryParametersError 400 "The authorization query parameters that you provided are not valid.";
    BadDigest 400 "The Content-MD5 or checksum value that you specified did not match what the server received.";
    BadRequest 400 "Bad Request";
    BucketAlreadyExists 409 "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Select a different name and try again.";
    BucketAlreadyOwnedByYou 409 "The bucket that you tried to create already exists, and you own it.";
    BucketNotEmpty 409 "The bucket that you tried to delete is not empty.";
    ConditionalRequestConflict 409 "A conflicting operation occurred. If using PutObject you can retry the request. If using multipart upload you should initiate another CreateMultipartUpload request and re-upload each part.";
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed object size.";
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed object size.";
    IncorrectNumberOfFilesInPostRequest 400 "POST requires exactly one file upload per request.";
    InvalidEncryptionAlgorithmError 400 "The encryption request that you specified is not valid. The valid value is AES256.";
    InvalidLocationConstraint 400 "The specified location constraint is not valid.";
    ExpiredToken 400 "The provided token has expired.";
    IllegalLocationConstraintException 400 "The specified location constraint is not valid.";
    IllegalVersioningConfigurationException 400 "The versioning configuration specified in the request is invalid.";
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    InsufficientStorage 507 "The cluster is full. Delete objects or add daemons.";
    InternalError 500 "An internal error occurred. Try again.";
    InvalidAccessKeyId 403 "The AWS access key ID that you provided does not exist in our records.";
    InvalidArgument 400 "Invalid Argument";
    InvalidBucketAclWithObjectOwnership 400 "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    InvalidBucketName 400 "The specified bucket is not valid.";
    InvalidBucketState 409 "The request is not valid with the current state of the bucket.";
    InvalidChunkSizeError 403 "Only the last chunk is allowed to have a size less than 8192 bytes";
    InvalidDigest 400 "The Content-MD5 or checksum value that you specified is not valid.";
    InvalidPart 400 "One or more of the specified parts could not be found. The part might not have been uploaded, or the specified entity tag might not have matched the part's entity tag.";
    InvalidPartOrder 400 "The list of parts was not in ascending order. The parts list must be specified in order by part number.";
    InvalidPolicyDocument 400 "The content of the form does not meet the conditions specified in the policy document.";
    InvalidRange 416 "The requested range is not satisfiable";
    InvalidRedirectLocation 400 "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
    InvalidRequest 400 "Invalid Request";
    InvalidRetentionPeriod 400 "The retention period that you specified is not valid.";
    InvalidStorageClass 400 "The storage class that you specified is not valid";
    InvalidTag 400 "The tag provided was not a valid tag.";
    InvalidTargetBucketForLogging 400 "The target bucket for logging does not exist or is not owned by you.";
    InvalidToken 400 "The provided token is malformed or otherwise not valid.";
    InvalidURI 400 "The specified URI couldn't be parsed.";
    KmsDisabled as "KMS.DisabledException" 400 "The key of the key ring is disabled.";
    KmsInvalidState as "KMS.KMSInvalidStateException" 400 "The key of the key ring is pending deletion.";
    KmsNotFound as "KMS.NotFoundException" 400 "There is no such key in the key ring.";
    KeyTooLongError 400 "Your key is too long.";
    MalformedACLError 400 "The XML you provided was not well-formed or did not validate against our published schema";
    MalformedPOSTRequest 400 "The body of your POST request is not well-formed multipart/form-data.";
    MalformedPolicy 400 "Policy has invalid syntax.";
    MalformedXML 400 "The XML that you provided was not well formed or did not validate against our published schema.";
    MaxPostPreDataLengthExceededError 400 "Your POST request fields preceding the upload file were too large.";
    MaxMessageLengthExceeded 400 "Your request was too large.";
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size.";
    MethodNotAllowed 405 "The specified method is not allowed against this resource.";
    MissingContentLength 411 "You must provide the Content-Length HTTP header.";
    MissingRequestBodyError 400 "Request Body is empty";
    MissingSecurityHeader 400 "Your request was missing a required header.";
    NoSuchBucket 404 "The specified bucket does not exist.";
    NoSuchBucketPolicy 404 "The bucket policy does not exist";
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist";
    NoSuchKey 404 "The specified key does not exist.";
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist";
    NoSuchObjectLockConfiguration 404 "The specified object does not have an ObjectLock configuration";
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found";
    NoSuchTagSet 404 "The TagSet does not exist";
    NoSuchUpload 404 "The specified multipart upload does not exist. The upload ID might not be valid, or the multipart upload might have been aborted or completed.";
    NoSuchVersion 404 "The version ID specified in the request does not match an existing version.";
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration";
    NotImplemented 501 "A header or query that you provided requests functionality that is not implemented.";
    NotModified 304 "Not Modified";
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket";
    OperationAborted 409 "A conflicting conditional operation is currently in progress against this resource. Try again.";
    OwnershipControlsNotFoundError 404 "The bucket ownership controls were not found";
    PreconditionFailed 412 "At least one of the pre-conditions you specified did not hold";
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found";
    RequestHeaderSectionTooLarge 400 "Your request header section exceeds the maximum allowed size.";
    RequestTimeTooSkewed 403 "The difference between the request time and the server's time is too large.";
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.";
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found";
    ServiceUnavailable 503 "Service is unable to handle request. Reduce your request rate or try again.";
    SignatureDoesNotMatch 403 "The request signature that we calculated does not match the signature that you provided. Check your AWS secret access key and signing method.";
    QuotaExceeded 403 "The quota is used up. Delete objects or have it raised.";
    SlowDown 503 "Please reduce your request rate.";
    TooManyBuckets 400 "You have attempted to create more buckets than are allowed.";
    UnresolvableGrantByEmailAddress 400 "The email address you provided does not match any account on record.";
    UnexpectedContent 400 "This request contains unsupported content.";
    UserKeyMustBeSpecified 400 "The bucket POST must contain the specified field name. If it is specified, check the order of the fields.";
    XAmzContentSHA256Mismatch 400 "The provided x-amz-content-sha256 header does not match what was computed.";
}

/// An error answer of S3.
#[derive(Clone, Debug)]
pub struct S3Error {
    /// The code.
    pub code: Code,
    /// The sentence.
    pub message: String,
    /// Elements of the XML besides the usual ones.
    pub details: Vec<(&'static str, String)>,
    /// Headers besides the usual ones.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What handlers return.
pub type S3Result<T> = Result<T, S3Error>;

impl Code {
    /// An error with a sentence of its own.
    pub fn with(self, message: impl Into<String>) -> S3Error {
        S3Error { message: message.into(), ..S3Error::from(self) }
    }
}

impl From<Code> for S3Error {
    fn from(code: Code) -> Self {
        S3Error {
            code,
            message: code.message().to_owned(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }
}

impl S3Error {
    /// Adds an element.
    pub fn detail(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// `InvalidArgument` about one argument.
    pub fn argument(name: &str, value: &str, message: impl Into<String>) -> Self {
        Code::InvalidArgument
            .with(message)
            .detail("ArgumentName", name)
            .detail("ArgumentValue", value)
    }

    /// The body of the answer.
    pub fn to_xml(&self, resource: &str, request_id: &str, host_id: &str) -> Vec<u8> {
        let mut xml = Xml::document();
        xml.open("Error");
        xml.text("Code", self.code.name());
        xml.text("Message", &self.message);
        for (name, value) in &self.details {
            xml.text(name, value);
        }
        xml.text("Resource", resource);
        xml.text("RequestId", request_id);
        xml.text("HostId", host_id);
        xml.close("Error");
        xml.into_bytes()
    }
}

impl std::fmt::Display for S3Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for S3Error {}

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoBucket {} => Code::NoSuchBucket.into(),
            Refusal::NoKey {} => Code::NoSuchKey.into(),
            Refusal::Precondition {} => Code::PreconditionFailed.into(),
            Refusal::NoUpload {} => Code::NoSuchUpload.into(),
            // The write took longer than its intent lived, or the part was replaced while the upload
            // was completed: SDKs retry both.
            Refusal::NoIntent {} => Code::ServiceUnavailable.into(),
            Refusal::PartChanged {} => Code::ConditionalRequestConflict.into(),
            Refusal::NotEmpty {} => Code::BucketNotEmpty.into(),
            Refusal::NoVersion {} => Code::NoSuchVersion.into(),
            Refusal::DeleteMarker { .. } => Code::MethodNotAllowed.into(),
            Refusal::Locked {} => {
                Code::AccessDenied.with("Access Denied because object protected by object lock.")
            }
            Refusal::NoLock {} => {
                Code::InvalidRequest.with("Bucket is missing Object Lock Configuration")
            }
            Refusal::BucketState {} => Code::InvalidBucketState.into(),
            Refusal::QueueFull {} => Code::SlowDown
                .with("Too many events of this bucket wait for an endpoint that takes none."),
            Refusal::Quota {} => Code::QuotaExceeded.into(),
            // The catalogue follows these itself; for the items of a removal it gave up.
            Refusal::Moved { .. } | Refusal::NotYet {} => Code::ServiceUnavailable.into(),
            Refusal::TakenBack {} => Code::OperationAborted.into(),
        }
    }
}

impl From<ClusterError> for S3Error {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Quota(_) => Code::QuotaExceeded.into(),
            ClusterError::Full(_) => Code::InsufficientStorage.into(),
            ClusterError::TimedOut(_) | ClusterError::Unavailable(_) => Code::SlowDown.into(),
            other => {
                tracing::error!(error = %other, "cluster operation failed");
                Code::InternalError.into()
            }
        }
    }
}
