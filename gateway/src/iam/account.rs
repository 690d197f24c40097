//! What an account has.

use super::Call;
use super::error::IamResult;
use crate::catalogue::{IdentityAnswer, IdentityAsk};
use crate::s3::xml::Xml;
use store_base::identity::{
    ATTACHED_MAX, CountAccount, Counts, ENTITIES_MAX, GROUPS_MAX, KEYS_MAX, shard_of,
};

pub(super) async fn summary(call: &Call, xml: &mut Xml) -> IamResult<()> {
    call.check("GetAccountSummary", "*")?;
    let ask = IdentityAsk::Counts(CountAccount { account: call.account().to_owned() });
    let answer = call.service.catalogue.identities(shard_of(call.account()), ask).await?;
    let counts = match answer {
        Some(IdentityAnswer::Counts(counts)) => counts,
        _ => Counts::default(),
    };
    xml.open("SummaryMap");
    for (key, value) in [
        ("Users", counts.users),
        ("UsersQuota", ENTITIES_MAX),
        ("Groups", counts.groups),
        ("GroupsQuota", ENTITIES_MAX),
        ("Roles", counts.roles),
        ("RolesQuota", ENTITIES_MAX),
        ("Policies", counts.policies),
        ("PoliciesQuota", ENTITIES_MAX),
        ("AccessKeysPerUserQuota", KEYS_MAX as u32),
        ("GroupsPerUserQuota", GROUPS_MAX as u32),
        ("AttachedPoliciesPerUserQuota", ATTACHED_MAX as u32),
    ] {
        xml.open("entry");
        xml.text("key", key);
        xml.value("value", value);
        xml.close("entry");
    }
    xml.close("SummaryMap");
    Ok(())
}

/// There are none, because none can be made.
pub(super) async fn providers(call: &Call, xml: &mut Xml) -> IamResult<()> {
    call.check("ListOpenIDConnectProviders", "*")?;
    xml.open("OpenIDConnectProviderList");
    xml.close("OpenIDConnectProviderList");
    Ok(())
}
