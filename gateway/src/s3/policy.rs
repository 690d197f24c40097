//! The policy language of AWS, as buckets, users and roles speak it: what a document says about a request.
//!
//! Pure: no clock, no users, no buckets. A [`Policy`] is parsed once ([`Policy::parse`], which refuses what
//! it does not understand rather than pass it over) and asked with [`Policy::verdict`]. A statement applies
//! when its principal, its action, its resource and all its conditions match; one denying statement
//! outweighs all allowing ones, and where nothing applies the policy says nothing.
//!
//! There are three forms of it: the policy of a bucket ([`Policy::parse`]), that of a user, group, role or
//! session, which names no principal ([`Policy::parse_identity`]), and that of who may assume a role, which
//! names no resource ([`Policy::parse_trust`]).
//!
//! Deliberately absent: principals that are federated, and services other than the deliverer of access logs
//! (they are read, and are nobody here), and the binary operator's keys, which S3 does not have.

mod actions;
mod condition;
mod json;
mod parse;
mod pattern;
mod principal;
mod public;
#[cfg(test)]
mod tests;

pub use principal::{Member, Principal, Reach};

use condition::Condition;
use pattern::Pattern;
use principal::Principals;
use std::collections::BTreeMap;

/// Most bytes of a bucket's policy.
pub const POLICY_BYTES_MAX: usize = 20 << 10;

/// Most bytes of a key's values that texts of a policy are compared with. Of a longer one nobody knows what it says:
/// it is allowed to nobody and denied to everybody.
const COMPARED_BYTES_MAX: usize = 4 << 10;

/// Longest value that a variable stands for; a longer one counts as absent.
const VARIABLE_BYTES_MAX: usize = 1 << 10;

/// Most variables of a policy.
const VARIABLES_MAX: usize = 32;

/// Why a document is no policy: the sentence for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

/// Most bytes of a policy that is none of a bucket.
pub const DOCUMENT_BYTES_MAX: usize = 10 << 10;

/// What a policy says about a request, and how closely it means who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing: ask elsewhere.
    Silent,
    /// It may be done, as far as this reaches.
    Allow(Reach),
    /// It must not be done.
    Deny,
}

/// What a policy says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: ask elsewhere.
    Silent,
    /// It may be done.
    Allow,
    /// It must not be done, whoever else allows it.
    Deny,
}

/// The values of condition keys, by lower-case name. A key that is not there has no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    values: BTreeMap<String, Vec<String>>,
}

impl Context {
    /// Adds a value of a key; keys are the same in every case.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        self.values.entry(key.to_ascii_lowercase()).or_default().push(value.into());
    }

    /// Gives a key this one value.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.insert(key.to_ascii_lowercase(), vec![value.into()]);
    }

    /// Takes back all keys whose names begin so.
    pub fn forget(&mut self, prefix: &str) {
        let prefix = prefix.to_ascii_lowercase();
        self.values.retain(|key, _| !key.starts_with(&prefix));
    }

    /// The values of a key, `None` if it is not there. `key` is lower case.
    fn values(&self, key: &str) -> Option<&[String]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// The value of a key that has exactly one, for variables.
    fn single(&self, key: &str) -> Option<&str> {
        match self.values(&key.to_ascii_lowercase()) {
            Some([value]) if value.len() <= VARIABLE_BYTES_MAX => Some(value),
            _ => None,
        }
    }
}

/// What a policy is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: Principal<'a>,
    /// What for, as `s3:GetObject`.
    pub action: &'a str,
    /// On what: of S3's actions `bucket` or `bucket/key`, without the ARN's head; else the ARN.
    pub resource: &'a str,
    /// Under which circumstances.
    pub context: &'a Context,
}

/// A parsed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    allows: bool,
    principals: Listed<Principals>,
    actions: Listed<Vec<Pattern>>,
    resources: Listed<Vec<Resource>>,
    conditions: Vec<Condition>,
}

/// A resource or a pattern of some.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource {
    /// Everything.
    Any,
    /// Of S3: bucket and key.
    S3(Pattern),
    /// Of another service: the ARN.
    Other(Pattern),
}

impl Resource {
    fn matches(&self, question: &Question<'_>) -> bool {
        let of_s3 = question.action.starts_with("s3:");
        match self {
            Resource::Any => true,
            Resource::S3(pattern) => of_s3 && pattern.matches(question.resource, question.context),
            Resource::Other(pattern) => {
                !of_s3 && pattern.matches(question.resource, question.context)
            }
        }
    }
}

/// A list that says what is meant, or what is not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listed<T> {
    These(T),
    AllBut(T),
}

impl<T> Listed<T> {
    fn holds(&self, contains: impl FnOnce(&T) -> bool) -> bool {
        match self {
            Listed::These(list) => contains(list),
            Listed::AllBut(list) => !contains(list),
        }
    }
}

impl Policy {
    /// Reads the policy of a bucket. Errors say what is wrong in words for the client.
    pub fn parse(document: &[u8], bucket: &str) -> Result<Policy, PolicyError> {
        parse::policy(document, bucket)
    }

    /// Reads the policy of a user, group, role or session.
    pub fn parse_identity(document: &[u8]) -> Result<Policy, PolicyError> {
        parse::identity(document)
    }

    /// Reads the policy that says who may assume a role.
    pub fn parse_trust(document: &[u8]) -> Result<Policy, PolicyError> {
        parse::trust(document)
    }

    /// Refuses condition keys that no request ever has: one that was meant to deny by such a key would deny nothing.
    /// For new policies; those that are kept already go on as they are.
    pub fn check_keys(self) -> Result<Policy, PolicyError> {
        let mut keys = self.statements.iter().flat_map(|statement| &statement.conditions);
        match keys.find(|condition| !actions::is_filled(&condition.key)) {
            None => Ok(self),
            Some(Condition { key, .. }) => {
                Err(PolicyError(format!("Requests have no condition key {key} here")))
            }
        }
    }

    /// What the policy says.
    pub fn verdict(&self, question: &Question<'_>) -> Verdict {
        match self.finding(question) {
            Finding::Silent => Verdict::Silent,
            Finding::Allow(_) => Verdict::Allow,
            Finding::Deny => Verdict::Deny,
        }
    }

    /// What the policy says, and how closely.
    pub fn finding(&self, question: &Question<'_>) -> Finding {
        let mut allowed: Option<Reach> = None;
        for statement in &self.statements {
            match (statement.applies(question), statement.allows) {
                (None, _) => {}
                (Some(_), false) => return Finding::Deny,
                (Some(reach), true) => allowed = allowed.max(Some(reach)),
            }
        }
        allowed.map_or(Finding::Silent, Finding::Allow)
    }

    /// Whether it lets in everybody: S3's sense of a public policy.
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(public::lets_everybody_in)
    }
}

impl Statement {
    /// How closely the statement means who asks, if it applies.
    fn applies(&self, question: &Question<'_>) -> Option<Reach> {
        let context = question.context;
        let reach = match &self.principals {
            // What is denied to everybody is denied to services too.
            Listed::These(principals) => {
                let to_all = !self.allows && principals.everybody;
                let reach = principals.reach(question.principal);
                reach.or_else(|| to_all.then_some(Reach::Everybody))?
            }
            // To leave out somebody of an account, he is named himself.
            Listed::AllBut(principals) => match principals.reach(question.principal) {
                None | Some(Reach::Account) => Reach::Everybody,
                Some(_) => return None,
            },
        };
        let applies = self.actions.holds(|actions| {
            let action = question.action.to_ascii_lowercase();
            actions.iter().any(|pattern| pattern.matches(&action, context))
        }) && self
            .resources
            .holds(|resources| resources.iter().any(|resource| resource.matches(question)))
            && self.conditions.iter().all(|condition| match condition.is_beyond(context) {
                true => !self.allows,
                false => condition.holds(context),
            });
        applies.then_some(reach)
    }

    /// How many variables it has.
    fn variables(&self) -> usize {
        let (Listed::These(resources) | Listed::AllBut(resources)) = &self.resources;
        let of_resources = resources.iter().map(|resource| match resource {
            Resource::Any => 0,
            Resource::S3(pattern) | Resource::Other(pattern) => pattern.variables(),
        });
        of_resources.chain(self.conditions.iter().map(Condition::variables)).sum()
    }
}
