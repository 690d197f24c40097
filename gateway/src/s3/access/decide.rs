//! The decision: pure, one function for every operation.
//!
//! In this order, the first that speaks decides: administrators may do everything; a policy of the user that
//! denies; in a bucket whose requester pays, others say that they will; a policy of the bucket that denies; one
//! that allows; the ACL of the bucket or of the object. Who owns a bucket or an object may always read and
//! replace its ACL, and the owner of a bucket its policy, so that nobody locks himself out.
//!
//! A member of an account, a user or role that its root user made, has no right of his own.
//! What his policies allow, and the policy of his session does not leave out, he may do as his root user might;
//! what the bucket's policy allows to him by name, or to everybody, needs no policy of his where the bucket is his
//! account's. Where the root user is an administrator, his members' policies reach all buckets.

use super::super::acl;
use super::super::policy::{Context, Finding, Member, Principal, Question, Reach, Verdict};
use super::needs::{Need, Right};
use super::rules::{Ownership, Rules};
use crate::iam::identity::{Identity, Said};
use std::collections::BTreeMap;
use store_base::bucket::{Acl, Found, Permission};

/// What a decision depends on besides the rules of the bucket.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub caller: Principal<'a>,
    /// Whether he is an administrator.
    pub admin: bool,
    /// His own policies, if he has any.
    pub identity: Option<&'a Identity>,
    /// Whether he says that he will pay.
    pub pays: bool,
    /// What he needs.
    pub need: Need,
    /// On what: `bucket` or `bucket/key`.
    pub resource: &'a str,
    /// The circumstances, for policies.
    pub context: &'a Context,
    /// The owner of the bucket.
    pub bucket_owner: &'a str,
    /// The object, for what depends on it.
    pub object: Option<&'a Existing>,
}

/// What decisions look at of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// Its owner's user id.
    pub owner: String,
    /// Its ACL; `None` for a private one.
    pub acl: Option<Acl>,
    /// Its tags, for `s3:ExistingObjectTag/…`.
    pub tags: BTreeMap<String, String>,
}

impl Existing {
    /// Of an object that was read.
    pub fn of(found: &Found) -> Existing {
        Existing {
            owner: found.entry.owner.clone(),
            acl: found.detail.acl.clone(),
            tags: found.detail.tags.clone(),
        }
    }
}

/// Actions that the owner of a bucket has whatever its policy says.
const NEVER_DENIED_TO_OWNER: [&str; 3] =
    ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"];

/// Whether it may be done.
pub fn decide(asked: &Asked<'_>, rules: &Rules) -> bool {
    decide_by(asked, rules, true)
}

/// Whether it might be done if there were no ACLs.
pub fn decide_without_acls(asked: &Asked<'_>, rules: &Rules) -> bool {
    decide_by(asked, rules, false)
}

fn decide_by(asked: &Asked<'_>, rules: &Rules, acls: bool) -> bool {
    if asked.admin {
        return true;
    }
    let said = said(asked);
    if said.denies {
        return false;
    }
    let owner = asked.caller.account() == Some(asked.bucket_owner);
    if rules.requester_pays && !owner && !(asked.pays && asked.caller != Principal::Anonymous) {
        return false;
    }
    match (asked.caller, asked.identity) {
        (Principal::Member(member), Some(identity)) => {
            of_member(asked, rules, (member, identity.of_administrator), said, acls)
        }
        (Principal::Member(_), None) => false,
        _ => of_root(asked, rules, said, acls),
    }
}

/// Whether nobody, or the root user of an account, may do it.
fn of_root(asked: &Asked<'_>, rules: &Rules, said: Said, acls: bool) -> bool {
    let owner = asked.caller == Principal::User(asked.bucket_owner);
    match finding(asked, rules) {
        Finding::Deny => return owner && NEVER_DENIED_TO_OWNER.contains(&asked.need.action),
        Finding::Allow(_) if owner || !rules.restricted() => return true,
        Finding::Allow(_) | Finding::Silent => {}
    }
    // Only administrators give policies to root users.
    said.allows || by_acl(asked, rules, acls)
}

/// Whether a member of an account may do it.
fn of_member(
    asked: &Asked<'_>,
    rules: &Rules,
    (member, of_administrator): (&Member, bool),
    said: Said,
    acls: bool,
) -> bool {
    let owner = member.account == asked.bucket_owner;
    let allowed = said.allows && said.session_allows;
    match finding(asked, rules) {
        Finding::Deny => return false,
        Finding::Allow(reach) if owner => {
            let enough = match reach {
                Reach::Session => true,
                Reach::Named | Reach::Everybody => said.session_allows,
                Reach::Account => allowed,
            };
            if enough {
                return true;
            }
        }
        Finding::Allow(_) if allowed && !rules.restricted() => return true,
        Finding::Allow(_) | Finding::Silent => {}
    }
    let as_root = Asked { caller: Principal::User(&member.account), ..*asked };
    allowed && (of_administrator || by_acl(&as_root, rules, acls))
}

/// Whether ownership or an ACL lets him.
fn by_acl(asked: &Asked<'_>, rules: &Rules, acls: bool) -> bool {
    let owner = asked.caller == Principal::User(asked.bucket_owner);
    let enforced = !acls || rules.ownership == Ownership::BucketOwnerEnforced;
    match asked.need.right {
        Right::Owner => owner,
        Right::Bucket(_) | Right::Object(_) if enforced => owner,
        Right::Bucket(permission) => {
            granted(asked, rules, &rules.bucket_acl, asked.bucket_owner, permission)
        }
        Right::Object(permission) => asked.object.is_some_and(|object| match &object.acl {
            Some(acl) => granted(asked, rules, acl, &object.owner, permission),
            None => asked.caller == Principal::User(&object.owner),
        }),
    }
}

fn question<'a>(asked: &Asked<'a>) -> Question<'a> {
    Question {
        principal: asked.caller,
        action: asked.need.action,
        resource: asked.resource,
        context: asked.context,
    }
}

/// What his own policies say.
fn said(asked: &Asked<'_>) -> Said {
    asked.identity.map_or_else(Said::default, |identity| identity.says(&question(asked)))
}

/// Whether his own policies deny it.
pub fn denies_by_himself(asked: &Asked<'_>) -> bool {
    said(asked).denies
}

/// What the bucket's policy says; silent without one.
fn finding(asked: &Asked<'_>, rules: &Rules) -> Finding {
    rules.policy.as_ref().map_or(Finding::Silent, |policy| policy.finding(&question(asked)))
}

/// What the policies alone say, the bucket's and those that deny it to him.
pub fn verdict(asked: &Asked<'_>, rules: &Rules) -> Verdict {
    match finding(asked, rules) {
        _ if said(asked).denies => Verdict::Deny,
        Finding::Deny => Verdict::Deny,
        Finding::Allow(_) => Verdict::Allow,
        Finding::Silent => Verdict::Silent,
    }
}

fn granted(
    asked: &Asked<'_>,
    rules: &Rules,
    acl: &Acl,
    owner: &str,
    permission: Permission,
) -> bool {
    let of_acl = matches!(permission, Permission::ReadAcp {} | Permission::WriteAcp {});
    (of_acl && asked.caller == Principal::User(owner))
        || acl::allows(acl, asked.caller, permission, rules.block.ignore_public_acls)
}

#[cfg(test)]
mod tests {
    use super::super::rules::Block;
    use super::*;
    use crate::s3::policy::Policy;
    use store_base::bucket::{AclGroup, Grant, Grantee};

    const READ: Permission = Permission::Read {};
    const GET: Need = Need { action: "s3:GetObject", right: Right::Object(READ) };
    const PUT: Need = Need { action: "s3:PutObject", right: Right::Bucket(Permission::Write {}) };
    const CONFIGURE: Need = Need { action: "s3:PutBucketCORS", right: Right::Owner };

    fn rules() -> Rules {
        Rules { bucket_acl: acl::private("owner"), ..Rules::default() }
    }

    fn with_policy(text: &str) -> Rules {
        let policy = Policy::parse(text.as_bytes(), "b").expect("a policy");
        Rules { policy: Some(policy), ..rules() }
    }

    fn may(rules: &Rules, caller: Principal<'_>, need: Need, object: Option<&Existing>) -> bool {
        let context = Context::default();
        let asked = Asked {
            caller,
            admin: false,
            identity: None,
            pays: false,
            need,
            resource: "b/k",
            context: &context,
            bucket_owner: "owner",
            object,
        };
        assert!(decide(&Asked { admin: true, ..asked }, rules));
        decide(&asked, rules)
    }

    const OWNER: Principal<'static> = Principal::User("owner");
    const WRITER: Principal<'static> = Principal::User("writer");
    const OTHER: Principal<'static> = Principal::User("other");
    const NOBODY: Principal<'static> = Principal::Anonymous;

    fn object(acl: Option<Acl>) -> Existing {
        Existing { owner: "writer".into(), acl, ..Existing::default() }
    }

    #[test]
    fn without_rules_everything_is_the_owners() {
        let private = object(None);
        for caller in [WRITER, OTHER, NOBODY] {
            for need in [PUT, CONFIGURE] {
                assert!(!may(&rules(), caller, need, None), "{caller:?} {need:?}");
            }
        }
        assert!(may(&rules(), OWNER, PUT, None) && may(&rules(), OWNER, CONFIGURE, None));
        assert!(may(&rules(), WRITER, GET, Some(&private)));
        for caller in [OWNER, OTHER, NOBODY] {
            assert!(!may(&rules(), caller, GET, Some(&private)), "{caller:?}");
        }
        let enforced = Rules { ownership: Ownership::BucketOwnerEnforced, ..rules() };
        assert!(may(&enforced, OWNER, GET, Some(&private)));
        assert!(!may(&enforced, WRITER, GET, Some(&private)));
    }

    #[test]
    fn acls_grant_and_public_ones_can_be_ignored() {
        let group = |group, permission| Grant { grantee: Grantee::Group { group }, permission };
        let all = Acl { grants: vec![group(AclGroup::AllUsers {}, READ)] };
        let known = Acl { grants: vec![group(AclGroup::AuthenticatedUsers {}, READ)] };
        let (all, known) = (object(Some(all)), object(Some(known)));
        let acp = |permission| Need { right: Right::Object(permission), ..GET };
        for caller in [OWNER, OTHER, NOBODY] {
            assert!(may(&rules(), caller, GET, Some(&all)));
            assert_eq!(may(&rules(), caller, GET, Some(&known)), caller != NOBODY);
            let block = Block { ignore_public_acls: true, ..Block::default() };
            let ignoring = Rules { block, ..rules() };
            assert!(!may(&ignoring, caller, GET, Some(&all)));
            let enforced = Rules { ownership: Ownership::BucketOwnerEnforced, ..rules() };
            assert_eq!(may(&enforced, caller, GET, Some(&all)), caller == OWNER);
            assert!(!may(&rules(), caller, acp(Permission::WriteAcp {}), Some(&all)));
        }
        // Whose it is may always repair the list.
        assert!(may(&rules(), WRITER, acp(Permission::WriteAcp {}), Some(&known)));
        let none = Rules { bucket_acl: Acl::default(), ..rules() };
        assert!(!may(&none, OWNER, PUT, None));
        let put_acl =
            Need { action: "s3:PutBucketAcl", right: Right::Bucket(Permission::WriteAcp {}) };
        assert!(may(&none, OWNER, put_acl, None) && !may(&none, OTHER, put_acl, None));
    }

    #[test]
    fn policies_come_before_acls_and_cannot_lock_the_owner_out() {
        let to_all =
            r#"{"Statement":{"Effect":"EFFECT","Principal":"*","Action":"*","Resource":"*"}}"#;
        let allows = with_policy(&to_all.replace("EFFECT", "Allow"));
        let denies = with_policy(&to_all.replace("EFFECT", "Deny"));
        let private = object(None);
        for caller in [OWNER, WRITER, OTHER, NOBODY] {
            for need in [GET, PUT, CONFIGURE] {
                assert!(may(&allows, caller, need, Some(&private)), "{caller:?} {need:?}");
                assert!(!may(&denies, caller, need, Some(&private)), "{caller:?} {need:?}");
            }
            for action in NEVER_DENIED_TO_OWNER {
                let need = Need { action, right: Right::Owner };
                assert_eq!(may(&denies, caller, need, None), caller == OWNER);
            }
            let block = Block { restrict_public_buckets: true, ..Block::default() };
            let restricted = Rules { block, ..allows.clone() };
            assert_eq!(may(&restricted, caller, PUT, None), caller == OWNER);
            let some =
                to_all.replace("EFFECT", "Allow").replace("\"*\",\"A", "{\"AWS\":\"other\"},\"A");
            let restricted = Rules { block, ..with_policy(&some) };
            assert_eq!(may(&restricted, caller, PUT, None), caller == OWNER || caller == OTHER);
        }
    }

    /// Whether a member of the account may put, with this policy of his own.
    fn member_may(rules: &Rules, account: &str, own: &str, of_administrator: bool) -> bool {
        let member =
            Member { account: account.into(), resource: "user/ann".into(), ..Member::default() };
        let policies = [own].into_iter().filter(|own| !own.is_empty());
        let policies =
            policies.map(|own| Policy::parse_identity(own.as_bytes()).expect("a policy"));
        let identity = Identity {
            member: Some(member.clone()),
            policies: policies.collect(),
            of_administrator,
            ..Identity::default()
        };
        let context = Context::default();
        let asked = Asked {
            caller: Principal::Member(&member),
            admin: false,
            identity: Some(&identity),
            pays: false,
            need: PUT,
            resource: "b/k",
            context: &context,
            bucket_owner: "owner",
            object: None,
        };
        assert!(!decide(&Asked { identity: None, ..asked }, rules), "nobody knows him");
        decide(&asked, rules)
    }

    #[test]
    fn members_may_what_their_policies_and_the_bucket_say() {
        const ALLOW: &str =
            r#"{"Statement":{"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}}"#;
        let other = ALLOW.replace("PutObject", "GetObject");
        let deny = ALLOW.replace("Allow", "Deny");
        let bucket = |effect: &str, who: &str| {
            with_policy(&format!(
                r#"{{"Statement":{{"Effect":"{effect}","Principal":{{"AWS":"{who}"}},"Action":"*","Resource":"*"}}}}"#
            ))
        };
        let (silent, root) = (rules(), "arn:aws:iam::owner:root");
        let may = |rules: &Rules, own: &str| member_may(rules, "owner", own, false);
        assert!(may(&silent, ALLOW));
        assert!(!may(&silent, "") && !may(&silent, &other) && !may(&silent, &deny));
        let by_name = bucket("Allow", "arn:aws:iam::owner:user/ann");
        assert!(may(&by_name, "") && !may(&by_name, &deny));
        assert!(may(&bucket("Allow", "*"), ""));
        assert!(!may(&bucket("Allow", root), "") && may(&bucket("Allow", root), ALLOW));
        assert!(!may(&bucket("Allow", "arn:aws:iam::other:user/ann"), ""));
        for who in ["*", root, "arn:aws:iam::owner:user/ann"] {
            assert!(!may(&bucket("Deny", who), ALLOW), "{who}");
        }
        // The account has to have the right itself.
        let none = Rules { bucket_acl: Acl::default(), ..rules() };
        assert!(!may(&none, ALLOW));

        let may = |rules: &Rules, own: &str| member_may(rules, "other", own, false);
        assert!(!may(&silent, ALLOW));
        assert!(member_may(&silent, "other", ALLOW, true));
        assert!(!member_may(&silent, "other", "", true));
        assert!(!member_may(&bucket("Deny", "*"), "other", ALLOW, true));
        for who in ["*", "other", "arn:aws:iam::other:root", "arn:aws:iam::other:user/ann"] {
            let rules = bucket("Allow", who);
            assert!(may(&rules, ALLOW) && !may(&rules, "") && !may(&rules, &deny), "{who}");
        }
        let block = Block { restrict_public_buckets: true, ..Block::default() };
        let restricted = Rules { block, ..bucket("Allow", "*") };
        assert!(!may(&restricted, ALLOW));
        assert!(member_may(&restricted, "owner", "", false));
        let granted = Rules { bucket_acl: acl::private("other"), ..rules() };
        assert!(may(&granted, ALLOW) && !may(&granted, ""));
        let paid = Rules { requester_pays: true, ..granted };
        assert!(!may(&paid, ALLOW));
    }

    #[test]
    fn what_administrators_say_of_root_users_comes_first() {
        let said = |effect: &str| {
            let text =
                format!(r#"{{"Statement":{{"Effect":"{effect}","Action":"*","Resource":"*"}}}}"#);
            let policies = vec![Policy::parse_identity(text.as_bytes()).expect("a policy")];
            Identity { policies, ..Identity::default() }
        };
        let (allows, denies) = (said("Allow"), said("Deny"));
        let context = Context::default();
        for need in [PUT, CONFIGURE, Need { action: "s3:PutBucketPolicy", right: Right::Owner }] {
            let asked = |caller, identity| Asked {
                caller,
                admin: false,
                identity: Some(identity),
                pays: false,
                need,
                resource: "b/k",
                context: &context,
                bucket_owner: "owner",
                object: None,
            };
            assert!(!decide(&asked(OWNER, &denies), &rules()), "{need:?}");
            assert!(decide(&asked(OTHER, &allows), &rules()), "{need:?}");
            let closed = with_policy(
                r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}}"#,
            );
            assert!(!decide(&asked(OTHER, &allows), &closed), "{need:?}");
        }
    }

    #[test]
    fn requesters_pay_or_are_denied() {
        let mut rules = with_policy(
            r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}"#,
        );
        rules.requester_pays = true;
        let context = Context::default();
        let asked = |caller, pays| Asked {
            caller,
            admin: false,
            identity: None,
            pays,
            need: PUT,
            resource: "b/k",
            context: &context,
            bucket_owner: "owner",
            object: None,
        };
        assert!(decide(&asked(OWNER, false), &rules));
        assert!(!decide(&asked(OTHER, false), &rules) && decide(&asked(OTHER, true), &rules));
        assert!(!decide(&asked(NOBODY, true), &rules));
    }
}
