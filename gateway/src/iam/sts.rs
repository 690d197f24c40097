//! STS: credentials for a while.

use super::Call;
use super::entities::{find, refuse};
use super::error::{IamError, IamResult};
use super::names::{self, parse_arn};
use super::roles::SESSION_SECS_MAX;
use super::session::{self, Credentials, Grant};
use crate::s3::dates;
use crate::s3::policy::{Context, Finding, Policy, Question, Reach};
use crate::s3::xml::Xml;
use store_base::identity::{Entity, Kind};

/// Shortest life of credentials, in seconds.
const SECS_MIN: u32 = 900;

/// Life of a role's credentials where nothing else is asked, in seconds; also the longest where a session assumes
/// another role.
const ROLE_SECS: u32 = 3600;

/// Longest life of a user's credentials, in seconds.
const TOKEN_SECS_MAX: u32 = 36 * 3600;

/// Longest life of a root user's credentials, in seconds.
const ROOT_SECS_MAX: u32 = 3600;

/// Longest policy of a session.
const POLICY_BYTES_MAX: usize = 2048;

fn duration(call: &Call, default: u32, max: u32) -> IamResult<u64> {
    let Some(text) = call.value("DurationSeconds") else { return Ok(default.into()) };
    let secs = text.parse().ok().filter(|secs| (SECS_MIN..=max).contains(secs));
    secs.map(u64::from).ok_or_else(|| {
        IamError::validation(format!("DurationSeconds is a number of {SECS_MIN} to {max} here."))
    })
}

fn session_policy(call: &Call) -> IamResult<String> {
    let Some(text) = call.value("Policy") else { return Ok(String::new()) };
    if text.len() > POLICY_BYTES_MAX {
        return Err(IamError::packed_policy());
    }
    match Policy::parse_identity(text.as_bytes()).and_then(Policy::check_keys) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(IamError::malformed_policy(error.0)),
    }
}

/// Gives credentials that hang on the lasting key behind the caller's.
fn issue(call: &Call, grant: Grant) -> IamResult<Credentials> {
    let session = call.identity().and_then(|identity| identity.session.as_ref());
    let (issuer_key, issuer) = match session {
        Some(session) => (session.issuer_key.as_str(), &session.issuer),
        None => (call.access_key.as_str(), &call.user),
    };
    session::issue(issuer_key, issuer, grant).ok_or_else(IamError::internal)
}

fn write(xml: &mut Xml, given: &Credentials) {
    xml.open("Credentials");
    xml.text("AccessKeyId", &given.access_key);
    xml.text("SecretAccessKey", &given.secret);
    xml.text("SessionToken", &given.token);
    xml.text("Expiration", &dates::iso(given.end_ms));
    xml.close("Credentials");
}

/// Whether the role may be assumed by the caller.
fn check_trust(
    call: &Call,
    (account, role): (&str, &Entity),
    arn: &str,
    context: &Context,
) -> IamResult<()> {
    let denied = || call.denied("sts:AssumeRole", arn);
    // What cannot be read may deny.
    let trust = Policy::parse_trust(role.trust.as_bytes()).map_err(|_| denied())?;
    let principal = call.principal();
    let question = Question { principal, action: "sts:AssumeRole", resource: arn, context };
    let identity = call.identity();
    let may = match trust.finding(&question) {
        Finding::Deny | Finding::Silent => false,
        // Who is named needs no policy of his own, where his account is the role's.
        Finding::Allow(Reach::Named | Reach::Session) if account == call.account() => identity
            .is_none_or(|identity| {
                let said = identity.says(&question);
                !said.denies && said.session_allows
            }),
        Finding::Allow(_) => identity.is_none_or(|identity| identity.lets(&question)),
    };
    if may { Ok(()) } else { Err(denied()) }
}

pub(super) async fn assume_role(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let arn = call.required("RoleArn")?;
    let name = call.required("RoleSessionName")?;
    names::check("RoleSessionName", name)?;
    refuse(call, &["Tags.member.1.Key", "PolicyArns.member.1.arn", "SerialNumber"])?;
    let policy = session_policy(call)?;
    let (account, path, role) =
        parse_arn(arn, "role").ok_or_else(|| IamError::validation(format!("{arn} is invalid")))?;
    // Who may not assume a role does not learn whether there is one.
    let found = match call.service.keys.account(account) {
        Some(_) => find(call, account, Kind::Role {}, role).await?,
        None => None,
    };
    let role = found.filter(|found| found.path == path && found.name == role);
    let role = role.ok_or_else(|| call.denied("sts:AssumeRole", arn))?;
    let mut context = call.context();
    context.set("aws:ResourceAccount", account);
    context.add("sts:RoleSessionName", name);
    if let Some(id) = call.value("ExternalId") {
        context.add("sts:ExternalId", id);
    }
    check_trust(call, (account, &role), arn, &context)?;
    let chained = call.user.is_session();
    let max = if chained { ROLE_SECS } else { role.session_secs_max.min(SESSION_SECS_MAX) };
    let secs = duration(call, ROLE_SECS.min(max), max)?;
    let issued_ms = call.head.now_ms;
    let grant = Grant {
        access_key: String::new(),
        issued_ms,
        end_ms: issued_ms + secs * 1000,
        role_account: account.to_owned(),
        role: role.name.clone(),
        role_id: role.id.clone(),
        name: name.to_owned(),
        policy,
    };
    write(xml, &issue(call, grant)?);
    xml.open("AssumedRoleUser");
    xml.text("AssumedRoleId", &format!("{}:{name}", role.id));
    xml.text("Arn", &format!("arn:aws:sts::{account}:assumed-role/{}/{name}", role.name));
    xml.close("AssumedRoleUser");
    Ok(())
}

pub(super) async fn session_token(call: &Call, xml: &mut Xml) -> IamResult<()> {
    // Credentials for a while beget none of their own kind.
    if call.user.is_session() {
        return Err(call.denied("sts:GetSessionToken", "*"));
    }
    refuse(call, &["SerialNumber", "TokenCode"])?;
    check_no_deny(call)?;
    let max = if call.is_root() { ROOT_SECS_MAX } else { TOKEN_SECS_MAX };
    let secs = duration(call, max.min(SESSION_SECS_MAX), max)?;
    let issued_ms = call.head.now_ms;
    let grant = Grant { issued_ms, end_ms: issued_ms + secs * 1000, ..Grant::default() };
    write(xml, &issue(call, grant)?);
    Ok(())
}

/// Everybody may have a token of his own, unless a policy denies it.
fn check_no_deny(call: &Call) -> IamResult<()> {
    let context = call.context();
    let (principal, action) = (call.principal(), "sts:GetSessionToken");
    let question = Question { principal, action, resource: "*", context: &context };
    match call.identity().is_some_and(|identity| identity.says(&question).denies) {
        false => Ok(()),
        true => Err(call.denied(action, "*")),
    }
}

/// Whoever signs may know who he is.
pub(super) async fn caller_identity(call: &Call, xml: &mut Xml) -> IamResult<()> {
    let account = call.account();
    let (arn, id) = match call.identity() {
        Some(identity) => (identity.arn(account), identity.user_id(account)),
        None => (format!("arn:aws:iam::{account}:root"), account.to_owned()),
    };
    xml.text("Arn", &arn);
    xml.text("UserId", &id);
    xml.text("Account", account);
    Ok(())
}
