//! Who a statement is about.
//!
//! A user of the cluster is the root user of an account of his own, so all of these name the user `u`: `u`,
//! `arn:aws:iam:::user/u`, `arn:aws:iam::u:user/u`, `arn:aws:iam::u:root`, and `CanonicalUser` `u`. The forms
//! without a user also mean his account: to the users and roles that he made there they say that he may let
//! them ([`Reach::Account`]). Those are named by their own ARNs.

use super::PolicyError;
use super::json::Json;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal<'a> {
    /// Nobody knows: there is no signature.
    Anonymous,
    /// The root user of this account.
    User(&'a str),
    /// A user or role that he made.
    Member(&'a Member),
    /// A service of ours, by the name that AWS gave it.
    Service(&'a str),
}

impl<'a> Principal<'a> {
    /// The account that he belongs to.
    pub fn account(self) -> Option<&'a str> {
        match self {
            Principal::Anonymous | Principal::Service(_) => None,
            Principal::User(id) => Some(id),
            Principal::Member(member) => Some(&member.account),
        }
    }
}

/// A user or a role of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub account: String,
    /// `user/PATH/NAME` or `role/PATH/NAME`, as in its ARN.
    pub resource: String,
    /// `assumed-role/NAME/SESSION`, of who assumed a role.
    pub session: Option<String>,
}

/// How closely a principal is meant. The greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// His account is: a policy of the account must let him besides.
    Account,
    /// Everybody is.
    Everybody,
    /// He is.
    Named,
    /// His session is: no policy of the session narrows it.
    Session,
}

/// Some principals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Principals {
    pub(super) everybody: bool,
    accounts: Vec<String>,
    members: Vec<Named>,
    services: Vec<String>,
}

/// An account and the last field of an ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    account: String,
    resource: String,
}

impl Principals {
    /// Everybody: what the policies of users and roles are about.
    pub(super) fn all() -> Principals {
        Principals { everybody: true, ..Principals::default() }
    }

    pub(super) fn parse(value: &Json) -> Result<Principals, PolicyError> {
        let mut principals = Principals::default();
        if value.text() == Some("*") {
            principals.everybody = true;
            return Ok(principals);
        }
        let kinds = value.map().filter(|kinds| !kinds.is_empty());
        for (kind, names) in kinds.ok_or_else(invalid)? {
            let names = names.texts().ok_or_else(invalid)?;
            match kind.as_str() {
                "AWS" => names.into_iter().try_for_each(|name| principals.add(name))?,
                "CanonicalUser" => {
                    principals.accounts.extend(names.into_iter().map(str::to_owned));
                }
                "Service" => principals.services.extend(names.into_iter().map(str::to_owned)),
                // They exist elsewhere and are nobody here.
                "Federated" => {}
                _ => return Err(invalid()),
            }
        }
        Ok(principals)
    }

    fn add(&mut self, name: &str) -> Result<(), PolicyError> {
        if name == "*" {
            self.everybody = true;
            return Ok(());
        }
        // A part of a name would be taken for a wildcard elsewhere; it would name nobody here.
        if name.is_empty() || name.contains(['*', '?']) {
            return Err(invalid());
        }
        let Some(arn) = name.strip_prefix("arn:") else {
            self.accounts.push(name.to_owned());
            return Ok(());
        };
        let fields: Vec<&str> = arn.splitn(5, ':').collect();
        let ["aws" | "aws-cn" | "aws-us-gov", "iam" | "sts", "", account, resource] = fields[..]
        else {
            return Err(invalid());
        };
        match resource.split_once('/') {
            None if resource == "root" && !account.is_empty() => {
                self.accounts.push(account.to_owned());
            }
            Some(("user", user)) if !user.is_empty() => {
                // No user that he makes has the name of the account.
                match account.is_empty() || account == user {
                    true => self.accounts.push(user.to_owned()),
                    false => self.push(account, resource),
                }
            }
            Some(("role" | "assumed-role", name)) if !name.is_empty() => {
                self.push(account, resource);
            }
            Some(("federated-user" | "group" | "oidc-provider", _)) => {}
            _ => return Err(invalid()),
        }
        Ok(())
    }

    fn push(&mut self, account: &str, resource: &str) {
        self.members.push(Named { account: account.to_owned(), resource: resource.to_owned() });
    }

    /// How closely these mean him; `None` if they do not.
    pub(super) fn reach(&self, principal: Principal<'_>) -> Option<Reach> {
        let everybody = self.everybody.then_some(Reach::Everybody);
        let found = match principal {
            Principal::Anonymous => None,
            // A service is not one of everybody: it is let in by its name.
            Principal::Service(name) => {
                let named = self.services.iter().any(|service| service == name);
                return named.then_some(Reach::Named);
            }
            Principal::User(id) => self.has_account(id).then_some(Reach::Named),
            Principal::Member(member) => {
                let names = |resource: &str| {
                    let mut members = self.members.iter();
                    members
                        .any(|named| named.account == member.account && named.resource == resource)
                };
                match &member.session {
                    Some(session) if names(session) => Some(Reach::Session),
                    _ if names(&member.resource) => Some(Reach::Named),
                    _ => self.has_account(&member.account).then_some(Reach::Account),
                }
            }
        };
        found.max(everybody)
    }

    fn has_account(&self, id: &str) -> bool {
        self.accounts.iter().any(|account| account == id)
    }
}

fn invalid() -> PolicyError {
    PolicyError("Invalid principal in policy".into())
}
