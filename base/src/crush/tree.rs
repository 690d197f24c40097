//! The forest as a table: what `osd tree` shows.

use super::{CrushMap, Item, TYPE_DEVICE, WEIGHT_ONE};
use serde::Serialize;

/// A row: a bucket or a device. The field names are those of `ceph osd tree -f json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TreeNode {
    /// A device's id, or a bucket's, which is negative.
    pub id: i32,
    /// `osd.N`, or the bucket's name.
    pub name: String,
    /// The type's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The type's number.
    pub type_id: u16,
    /// Weight in units of 1.0.
    pub crush_weight: f64,
    /// 0 for a root.
    pub depth: usize,
    /// Ids of what hangs in it, if it is a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<Vec<i32>>,
}

impl CrushMap {
    /// Every bucket and device, each behind its parent; roots by id, children by name or number.
    pub fn tree(&self) -> Vec<TreeNode> {
        let mut rows = Vec::new();
        for root in self.roots() {
            self.grow(Item { id: root.id, weight: root.weight() }, 0, &mut rows);
        }
        rows
    }

    /// Adds the rows of an item and of all below it. As deep as there are types, at most.
    fn grow(&self, item: Item, depth: usize, rows: &mut Vec<TreeNode>) {
        let bucket = self.buckets.get(&item.id);
        let mut items = bucket.map_or_else(Vec::new, |bucket| bucket.items.clone());
        items.sort_by_cached_key(|item| {
            (item.id < 0).then(|| self.item_name(item.id)).ok_or(item.id)
        });
        let kind = bucket.map_or(TYPE_DEVICE, |bucket| bucket.kind);
        rows.push(TreeNode {
            id: item.id,
            name: self.item_name(item.id),
            kind: self.type_name(kind),
            type_id: kind,
            crush_weight: f64::from(item.weight) / f64::from(WEIGHT_ONE),
            depth,
            children: bucket.map(|_| items.iter().map(|item| item.id).collect()),
        });
        items.into_iter().for_each(|item| self.grow(item, depth + 1, rows));
    }
}
