//! Identity objects: accounts with their users, groups, roles, keys and policies.

use super::flat::Flat;
use super::{CatalogueError, IdentityAnswer, IdentityAsk};
use crate::cluster::{Cluster, META_POOL};
use store_base::codec::{Decode, Encode};
use store_base::error::Error;
use store_base::identity::{self, CLASS, ChangeAccount, Outcome, object_name, shard_of};

/// Asks an identity object. One that is not there knows nobody.
pub(super) async fn ask<C: Cluster>(
    flat: &Flat<C>,
    shard: u32,
    ask: IdentityAsk,
) -> Result<Option<IdentityAnswer>, CatalogueError> {
    use IdentityAnswer as Answer;
    let answer = match ask {
        IdentityAsk::Key(ask) => read(flat, shard, "key", &ask).await.map(Answer::Key),
        IdentityAsk::Bundle(named) => read(flat, shard, "bundle", &named).await.map(Answer::Bundle),
        IdentityAsk::Entity(named) => read(flat, shard, "entity", &named).await.map(Answer::Entity),
        IdentityAsk::List(list) => read(flat, shard, "list", &list).await.map(Answer::List),
        IdentityAsk::Policy(ask) => read(flat, shard, "policy", &ask).await.map(Answer::Policy),
        IdentityAsk::Counts(ask) => read(flat, shard, "counts", &ask).await.map(Answer::Counts),
        IdentityAsk::Policies(list) => {
            read(flat, shard, "policies", &list).await.map(Answer::Policies)
        }
    };
    match answer {
        Err(CatalogueError::Cluster(Error::NotFound(_))) => Ok(None),
        answer => answer.map(Some),
    }
}

async fn read<C: Cluster, I: Encode, O: Decode>(
    flat: &Flat<C>,
    shard: u32,
    method: &str,
    input: &I,
) -> Result<O, CatalogueError> {
    flat.exec(META_POOL, object_name(shard), CLASS, method, input).await
}

/// Changes an account.
pub(super) async fn change<C: Cluster>(
    flat: &Flat<C>,
    change: ChangeAccount,
) -> Result<Result<(), identity::Refusal>, CatalogueError> {
    let object = object_name(shard_of(&change.account));
    let done: Result<Outcome, _> = flat.exec(META_POOL, object, CLASS, "change", &change).await;
    // Also after a time-out: it may have happened.
    flat.commons.note_change();
    Ok(done?.0)
}
