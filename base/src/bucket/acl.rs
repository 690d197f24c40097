//! Access control lists: who else may do what, as buckets and objects keep it.

/// A group of requests that a grant can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AclGroup {
    /// Everybody, also without a signature.
    AllUsers {},
    /// Everybody with a key.
    AuthenticatedUsers {},
    /// Who delivers access logs: the gateways themselves.
    LogDelivery {},
}
crate::codec_enum!(AclGroup { 1 => AllUsers {}, 2 => AuthenticatedUsers {}, 3 => LogDelivery {} });

/// To whom something is granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// One user.
    User {
        /// The user's id.
        id: String,
    },
    /// A group.
    Group {
        /// Which.
        group: AclGroup,
    },
}
crate::codec_enum!(Grantee { 1 => User { id }, 2 => Group { group } });

/// What is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// List a bucket, read an object.
    Read {},
    /// Put into a bucket and delete from it; means nothing for an object.
    Write {},
    /// Read the list.
    ReadAcp {},
    /// Replace the list.
    WriteAcp {},
    /// All of these.
    FullControl {},
}
crate::codec_enum!(Permission {
    1 => Read {}, 2 => Write {}, 3 => ReadAcp {}, 4 => WriteAcp {}, 5 => FullControl {},
});

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// To whom.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}
crate::codec_struct!(Grant { grantee, permission });

/// An access control list. Whose it is, is said by the bucket or the object that keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// The grants, in the order in which they were given.
    pub grants: Vec<Grant>,
}
crate::codec_versioned!(Acl, 1, 1 { grants });
