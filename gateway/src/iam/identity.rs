//! Who somebody is within an account, and what his own policies say. Pure.

use crate::keyring::User;
use crate::s3::access::context::add_root;
use crate::s3::dates;
use crate::s3::policy::{Context, Finding, Member, Policy, Question};
use std::sync::Arc;

/// A member of an account, its root user where something is kept of him, or a session of either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Which user or role; `None` for the root user.
    pub member: Option<Member>,
    /// The name of the user or role; empty for the root user.
    pub name: String,
    /// Names the user or role, and no later one of the same name; empty for the root user.
    pub id: String,
    /// The policies that hold: his own, his groups', the managed ones.
    pub policies: Vec<Policy>,
    /// What credentials for a while add.
    pub session: Option<Session>,
    /// Whether the root user of the account is an administrator.
    pub of_administrator: bool,
}

/// What credentials for a while are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// When they were given, in ms since 1970.
    pub issued_ms: u64,
    /// The name of the session of a role.
    pub name: Option<String>,
    /// What narrows the policies.
    pub policy: Option<Policy>,
    /// The key that they hang on.
    pub issuer_key: String,
    /// And who has it.
    pub issuer: Arc<User>,
}

/// What somebody's own policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// One denies it.
    pub denies: bool,
    /// One allows it.
    pub allows: bool,
    /// The session's does not leave it out.
    pub session_allows: bool,
}

impl Default for Said {
    fn default() -> Self {
        Said { denies: false, allows: false, session_allows: true }
    }
}

impl Identity {
    /// What his policies say.
    pub fn says(&self, question: &Question<'_>) -> Said {
        let mut said = Said::default();
        for policy in &self.policies {
            match policy.finding(question) {
                Finding::Deny => said.denies = true,
                Finding::Allow(_) => said.allows = true,
                Finding::Silent => {}
            }
        }
        let session = self.session.as_ref().and_then(|session| session.policy.as_ref());
        match session.map(|policy| policy.finding(question)) {
            None | Some(Finding::Allow(_)) => {}
            Some(Finding::Silent) => said.session_allows = false,
            Some(Finding::Deny) => said.denies = true,
        }
        said
    }

    /// Whether he may do what concerns nobody but his account: a member what is allowed to him, the root user
    /// what is not denied.
    pub fn lets(&self, question: &Question<'_>) -> bool {
        let said = self.says(question);
        let allowed = self.member.is_none() || said.allows;
        allowed && said.session_allows && !said.denies
    }

    /// The session of a role that this is.
    pub fn role_session(&self) -> Option<&str> {
        self.session.as_ref()?.name.as_deref()
    }

    /// As `GetCallerIdentity` tells it.
    pub fn arn(&self, account: &str) -> String {
        match &self.member {
            None => format!("arn:aws:iam::{account}:root"),
            Some(Member { session: Some(session), .. }) => {
                format!("arn:aws:sts::{account}:{session}")
            }
            Some(member) => format!("arn:aws:iam::{account}:{}", member.resource),
        }
    }

    /// As `GetCallerIdentity` tells it.
    pub fn user_id(&self, account: &str) -> String {
        match (&self.member, self.role_session()) {
            (None, _) => account.to_owned(),
            (Some(_), None) => self.id.clone(),
            (Some(_), Some(session)) => format!("{}:{session}", self.id),
        }
    }

    /// Adds the condition keys that say who he is.
    pub fn add_to(&self, context: &mut Context, account: &str) {
        if let Some(session) = &self.session {
            context.add("aws:TokenIssueTime", dates::iso(session.issued_ms));
        }
        let Some(member) = &self.member else { return add_root(context, account) };
        let of_role = member.resource.starts_with("role/");
        if !of_role {
            context.add("aws:username", &self.name);
        }
        context.add("aws:userid", self.user_id(account));
        context.add("aws:PrincipalArn", format!("arn:aws:iam::{account}:{}", member.resource));
        context.add("aws:PrincipalType", if of_role { "AssumedRole" } else { "User" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::policy::Principal;

    fn policy(effect: &str, action: &str, resource: &str, condition: &str) -> Policy {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}","Condition":{condition}}}}}"#
        );
        Policy::parse_identity(text.as_bytes()).expect("a policy")
    }

    fn identity(policies: Vec<Policy>) -> Identity {
        let member =
            Member { account: "a".into(), resource: "user/staff/ann".into(), ..Member::default() };
        Identity {
            member: Some(member),
            name: "ann".into(),
            id: "AIDA1".into(),
            policies,
            ..Identity::default()
        }
    }

    fn may(identity: &Identity, action: &str, resource: &str) -> bool {
        let mut context = Context::default();
        identity.add_to(&mut context, "a");
        let principal = identity.member.as_ref().map_or(Principal::User("a"), Principal::Member);
        identity.lets(&Question { principal, action, resource, context: &context })
    }

    #[test]
    fn a_member_has_what_is_allowed_and_not_denied() {
        let none = identity(Vec::new());
        assert!(!may(&none, "s3:GetObject", "b/k"));
        let some = identity(vec![
            policy("Allow", "s3:*", "arn:aws:s3:::b/*", "{}"),
            policy("Deny", "s3:DeleteObject", "*", "{}"),
        ]);
        assert!(may(&some, "s3:GetObject", "b/k"));
        for (action, resource) in [
            ("s3:DeleteObject", "b/k"),
            ("s3:GetObject", "c/k"),
            ("s3:ListBucket", "b"),
            ("iam:GetUser", "arn:aws:iam::a:user/staff/ann"),
        ] {
            assert!(!may(&some, action, resource), "{action} {resource}");
        }
        let root = Identity { member: None, ..some };
        assert!(may(&root, "s3:GetObject", "c/k") && !may(&root, "s3:DeleteObject", "c/k"));
    }

    #[test]
    fn resources_of_s3_and_of_others_are_apart() {
        let s3 = identity(vec![policy("Allow", "*", "arn:aws:s3:::*", "{}")]);
        assert!(may(&s3, "s3:ListAllMyBuckets", "*"));
        assert!(!may(&s3, "iam:CreateUser", "arn:aws:iam::a:user/x"));
        let iam = identity(vec![policy("Allow", "*", "arn:aws:iam::a:user/staff/*", "{}")]);
        assert!(may(&iam, "iam:GetUser", "arn:aws:iam::a:user/staff/bob"));
        assert!(!may(&iam, "iam:GetUser", "arn:aws:iam::a:user/bob"));
        assert!(!may(&iam, "s3:GetObject", "arn:aws:iam::a:user/staff/x"));
    }

    #[test]
    fn variables_and_conditions_know_who_asks() {
        let own = policy("Allow", "s3:GetObject", "arn:aws:s3:::b/${aws:username}/*", "{}");
        let ann = identity(vec![own]);
        assert!(may(&ann, "s3:GetObject", "b/ann/k") && !may(&ann, "s3:GetObject", "b/bob/k"));
        for (key, hit, miss) in [
            ("aws:username", "ann", "bob"),
            ("aws:userid", "AIDA1", "a"),
            ("aws:PrincipalType", "User", "AssumedRole"),
            ("aws:PrincipalArn", "arn:aws:iam::a:user/staff/ann", "arn:aws:iam::a:user/ann"),
        ] {
            let when = |value| format!(r#"{{"StringEquals":{{"{key}":"{value}"}}}}"#);
            let all = policy("Allow", "*", "*", "{}");
            let denied = identity(vec![all.clone(), policy("Deny", "*", "*", &when(hit))]);
            assert!(!may(&denied, "s3:GetObject", "b/k"), "{key}");
            let spared = identity(vec![all, policy("Deny", "*", "*", &when(miss))]);
            assert!(may(&spared, "s3:GetObject", "b/k"), "{key}");
        }
    }

    #[test]
    fn a_session_has_less_and_never_more() {
        let session = |policy| Session { policy: Some(policy), ..Session::default() };
        let all = identity(vec![policy("Allow", "*", "*", "{}")]);
        let narrowed = Identity {
            session: Some(session(policy("Allow", "s3:GetObject", "*", "{}"))),
            ..all.clone()
        };
        assert!(may(&narrowed, "s3:GetObject", "b/k") && !may(&narrowed, "s3:PutObject", "b/k"));
        let denied =
            Identity { session: Some(session(policy("Deny", "s3:GetObject", "*", "{}"))), ..all };
        assert!(!may(&denied, "s3:GetObject", "b/k"));
        let nothing = Identity {
            session: Some(session(policy("Allow", "*", "*", "{}"))),
            ..identity(Vec::new())
        };
        assert!(!may(&nothing, "s3:GetObject", "b/k"));
    }
}
