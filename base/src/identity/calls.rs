//! Inputs and outputs of the methods.

use super::{Entity, Key, Kind, ManagedPolicy};
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// Why something was not done: tell the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such user, group, role, policy or key.
    Absent {
        /// What is not there, in words.
        what: String,
    },
    /// There is one of this name.
    Present {
        /// What is there, in words.
        what: String,
    },
    /// Something else needs it.
    InUse {
        /// What is in the way, in words.
        what: String,
    },
    /// There are as many as may be.
    Limit {
        /// Of what, in words.
        what: String,
    },
}
crate::codec_enum!(Refusal {
    1 => Absent { what }, 2 => Present { what }, 3 => InUse { what }, 4 => Limit { what },
});

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome(pub Result<(), Refusal>);

impl Encode for Outcome {
    fn encode(&self, out: &mut Writer) {
        self.0.clone().err().encode(out);
    }
}

impl Decode for Outcome {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Outcome(Option::<Refusal>::decode(input)?.map_or(Ok(()), Err)))
    }
}

/// `change`: one change of one account. Output: [`Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeAccount {
    /// The account.
    pub account: String,
    /// What changes.
    pub change: Change,
}
crate::codec_struct!(ChangeAccount { account, change });

/// A change of an account. Names are those of the user, group or role that `kind` says; of users the empty
/// name is the root user, of whom a record is made when the first thing is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a user, group or role.
    Create {
        /// What.
        kind: Kind,
        /// How it begins.
        entity: Entity,
    },
    /// Renames, moves, or changes what only roles have; `None` for what stays.
    Update {
        /// What.
        kind: Kind,
        /// Which.
        name: String,
        /// Its new name.
        new_name: Option<String>,
        /// Its new path.
        new_path: Option<String>,
        /// Who may assume it.
        trust: Option<String>,
        /// For people.
        description: Option<String>,
        /// How long it may be assumed, in seconds.
        session_secs_max: Option<u32>,
    },
    /// Removes a user, group or role that has nothing any more. A user's groups lose him.
    Delete {
        /// What.
        kind: Kind,
        /// Which.
        name: String,
    },
    /// Makes or replaces an inline policy.
    PutInline {
        /// Of what.
        kind: Kind,
        /// Of which.
        name: String,
        /// The policy's name.
        policy: String,
        /// The policy.
        document: String,
    },
    /// Removes an inline policy.
    DeleteInline {
        /// Of what.
        kind: Kind,
        /// Of which.
        name: String,
        /// The policy's name.
        policy: String,
    },
    /// Attaches a managed policy; harmless to repeat.
    Attach {
        /// To what.
        kind: Kind,
        /// To which.
        name: String,
        /// The policy.
        arn: String,
        /// Its name, if it is one of this account.
        policy: Option<String>,
    },
    /// Takes a managed policy off.
    Detach {
        /// Off what.
        kind: Kind,
        /// Off which.
        name: String,
        /// The policy.
        arn: String,
        /// Its name, if it is one of this account.
        policy: Option<String>,
    },
    /// Gives a user a key.
    AddKey {
        /// Whom.
        user: String,
        /// Its id.
        access_key: String,
        /// The key.
        key: Key,
    },
    /// Says whether a key may be used.
    SwitchKey {
        /// Whose.
        user: String,
        /// Its id.
        access_key: String,
        /// Whether it may be used.
        active: bool,
    },
    /// Removes a key.
    DeleteKey {
        /// Whose.
        user: String,
        /// Its id.
        access_key: String,
    },
    /// Puts a user into a group; harmless to repeat.
    Join {
        /// The group.
        group: String,
        /// The user.
        user: String,
    },
    /// Takes a user out of a group.
    Leave {
        /// The group.
        group: String,
        /// The user.
        user: String,
    },
    /// Makes a managed policy.
    CreatePolicy {
        /// The policy.
        policy: ManagedPolicy,
    },
    /// Removes a managed policy that is attached to nothing.
    DeletePolicy {
        /// Its name.
        name: String,
    },
}
crate::codec_enum!(Change {
    1 => Create { kind, entity },
    2 => Update { kind, name, new_name, new_path, trust, description, session_secs_max },
    3 => Delete { kind, name },
    4 => PutInline { kind, name, policy, document },
    5 => DeleteInline { kind, name, policy },
    6 => Attach { kind, name, arn, policy },
    7 => Detach { kind, name, arn, policy },
    8 => AddKey { user, access_key, key },
    9 => SwitchKey { user, access_key, active },
    10 => DeleteKey { user, access_key },
    11 => Join { group, user },
    12 => Leave { group, user },
    13 => CreatePolicy { policy },
    14 => DeletePolicy { name },
});

/// `entity`: one user, group or role. Output: `Option<Entity>`. `bundle`: the same with all its policies.
/// Output: `Option<Bundle>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The account.
    pub account: String,
    /// What.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}
crate::codec_struct!(Named { account, kind, name });

/// An entity and all policies that hold for it: its own, its groups', and the managed ones of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The entity.
    pub entity: Entity,
    /// The policies, each managed one once.
    pub documents: Vec<String>,
    /// ARNs of attached policies that are not the account's.
    pub foreign: Vec<String>,
}
crate::codec_struct!(Bundle { entity, documents, foreign });

/// `key`: whose an access key is. Output: `Option<Holder>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskKey {
    /// Its id.
    pub access_key: String,
}
crate::codec_struct!(AskKey { access_key });

/// Who has an access key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The account.
    pub account: String,
    /// The user with his policies; the root user has an empty name.
    pub bundle: Bundle,
}
crate::codec_struct!(Holder { account, bundle });

/// `list`: entities by lower-case name. Output: [`EntityPage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntities {
    /// The account.
    pub account: String,
    /// What.
    pub kind: Kind,
    /// Only those whose path begins so.
    pub path_prefix: String,
    /// Of users: only those in this group; empty for all.
    pub group: String,
    /// Only names behind this one.
    pub after: String,
    /// At most so many.
    pub max: u32,
}
crate::codec_struct!(ListEntities { account, kind, path_prefix, group, after, max });

/// Some entities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityPage {
    /// In order of lower-case name.
    pub entities: Vec<Entity>,
    /// The name to go on behind, if there may be more.
    pub next: Option<String>,
}
crate::codec_struct!(EntityPage { entities, next });

/// `policy`: one managed policy. Output: `Option<ManagedPolicy>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskPolicy {
    /// The account.
    pub account: String,
    /// Its name.
    pub name: String,
}
crate::codec_struct!(AskPolicy { account, name });

/// `policies`: managed policies by lower-case name. Output: [`PolicyPage`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPolicies {
    /// The account.
    pub account: String,
    /// Only those whose path begins so.
    pub path_prefix: String,
    /// Only those that are attached.
    pub attached: bool,
    /// Only names behind this one.
    pub after: String,
    /// At most so many.
    pub max: u32,
}
crate::codec_struct!(ListPolicies { account, path_prefix, attached, after, max });

/// Some managed policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyPage {
    /// In order of lower-case name.
    pub policies: Vec<ManagedPolicy>,
    /// The name to go on behind, if there may be more.
    pub next: Option<String>,
}
crate::codec_struct!(PolicyPage { policies, next });

/// `counts`: how many there are. Output: [`Counts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountAccount {
    /// The account.
    pub account: String,
}
crate::codec_struct!(CountAccount { account });

/// What an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Without the root user.
    pub users: u32,
    /// Groups.
    pub groups: u32,
    /// Roles.
    pub roles: u32,
    /// Managed policies.
    pub policies: u32,
}
crate::codec_struct!(Counts { users, groups, roles, policies });
