//! Lifecycle rules: what they say, and what they say of a version. Pure.
//!
//! A rule speaks of objects by its filter: prefix, tags and sizes, all of which must hold. AWS wants several of
//! them inside `And`; like Ceph's gateway this one takes them beside each other too, with the same meaning.
//!
//! Time: what expires some days after another event does so at the midnight (UTC) that follows, as with AWS. Where
//! [`Calendar::day_ms`] is shorter than a day, for tests, nothing is rounded.
//!
//! Transitions are refused: there is one storage class.

mod parse;
#[cfg(test)]
mod tests;

use super::dates;
use std::collections::BTreeMap;
use store_base::bucket::{Entry, Retirement};

/// Milliseconds of a day.
pub const DAY_MS: u64 = 86_400_000;

/// Most bytes of a configuration.
pub const LIFECYCLE_BYTES_MAX: usize = 128 << 10;

/// The rules of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// In the order of the document.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in the bucket.
    pub id: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// Whom it speaks of.
    pub filter: Filter,
    /// Whether the prefix was given in the old way, without `Filter`.
    pub old_form: bool,
    /// When objects go.
    pub expiration: Option<Expiration>,
    /// When older versions go.
    pub noncurrent: Option<Noncurrent>,
    /// After how many days uploads that are not completed are aborted.
    pub abort_days: Option<u32>,
}

/// Whom a rule speaks of: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Keys that begin so.
    pub prefix: Option<String>,
    /// Objects that have all of these tags.
    pub tags: BTreeMap<String, String>,
    /// Larger objects than this.
    pub larger_than: Option<u64>,
    /// Smaller objects than this.
    pub smaller_than: Option<u64>,
    /// Whether it came inside `And`.
    pub and: bool,
}

/// When objects go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// So many days after they were made.
    Days(u32),
    /// From this time on, in ms since 1970.
    Date(u64),
    /// Delete markers with nothing beneath them go.
    Markers(bool),
}

/// When older versions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noncurrent {
    /// So many days after another version took their place.
    pub days: u32,
    /// But of each key so many of the newest among them stay.
    pub keep: u32,
}

/// How long a day is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// In ms; [`DAY_MS`] but in tests.
    pub day_ms: u64,
}

impl Calendar {
    /// When what happens `days` days after `from_ms` is due.
    fn due_ms(self, from_ms: u64, days: u32) -> u64 {
        let due = from_ms.saturating_add(u64::from(days).saturating_mul(self.day_ms));
        match self.day_ms {
            DAY_MS => (due / DAY_MS).saturating_add(1).saturating_mul(DAY_MS),
            _ => due,
        }
    }
}

/// A version as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// What listings show of it.
    pub entry: &'a Entry,
    /// Which place it has among the versions of its key.
    pub place: Place,
}

/// The place of a version among those of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The newest.
    Newest {
        /// Whether there is no other.
        alone: bool,
    },
    /// An older one.
    Older {
        /// Since when, in ms since 1970.
        since_ms: u64,
        /// How many older versions are newer than this one.
        newer: u32,
    },
}

/// What the rules say of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It stays.
    Stays,
    /// It goes.
    Goes(Retirement),
    /// That depends on its tags, which were not given.
    Tags,
}

/// Tags of an object.
pub type Tags = BTreeMap<String, String>;

impl Lifecycle {
    /// What the rules in force say of a version at `now_ms`. Without its tags the answer may be that they are
    /// needed.
    pub fn judge(
        &self,
        version: &Version<'_>,
        tags: Option<&Tags>,
        calendar: Calendar,
        now_ms: u64,
    ) -> Judgement {
        let mut judgement = Judgement::Stays;
        for rule in self.rules.iter().filter(|rule| rule.enabled) {
            let Some(how) = rule.due(version, calendar, now_ms) else { continue };
            match rule.filter.matches(version.key, version.entry, tags) {
                Some(true) => return Judgement::Goes(how),
                Some(false) => {}
                None => judgement = Judgement::Tags,
            }
        }
        judgement
    }

    /// Whether an upload of this key, begun at `created_ms`, is to be aborted.
    pub fn aborts(&self, key: &[u8], created_ms: u64, calendar: Calendar, now_ms: u64) -> bool {
        self.rules.iter().filter(|rule| rule.enabled).any(|rule| {
            let due = rule.abort_days.map(|days| calendar.due_ms(created_ms, days));
            due.is_some_and(|due| due <= now_ms) && rule.filter.matches_key(key)
        })
    }

    /// Whether any rule in force aborts uploads.
    pub fn may_abort(&self) -> bool {
        self.rules.iter().any(|rule| rule.enabled && rule.abort_days.is_some())
    }

    /// Whether any rule in force removes versions.
    pub fn may_expire(&self) -> bool {
        let removes = |rule: &Rule| rule.expiration.is_some() || rule.noncurrent.is_some();
        self.rules.iter().any(|rule| rule.enabled && removes(rule))
    }

    /// What the keys of all that rules in force speak of begin with.
    pub fn common_prefix(&self) -> &str {
        let enabled = self.rules.iter().filter(|rule| rule.enabled);
        let prefixes = enabled.map(|rule| rule.filter.prefix.as_deref().unwrap_or_default());
        prefixes.reduce(common_beginning).unwrap_or_default()
    }

    /// The `x-amz-expiration` of an object: when the first rule removes it, and which.
    pub fn announcement(
        &self,
        key: &[u8],
        entry: &Entry,
        tags: &Tags,
        calendar: Calendar,
    ) -> Option<String> {
        let due = |rule: &Rule| match rule.expiration? {
            Expiration::Days(days) => Some(calendar.due_ms(entry.modified_ms, days)),
            Expiration::Date(date_ms) => Some(date_ms),
            Expiration::Markers(_) => None,
        };
        let enabled = self.rules.iter().filter(|rule| rule.enabled);
        let matching =
            enabled.filter(|rule| rule.filter.matches(key, entry, Some(tags)) == Some(true));
        let first =
            matching.filter_map(|rule| Some((due(rule)?, rule))).min_by_key(|(due, _)| *due);
        first.map(|(due, rule)| {
            let id = super::uri::encoded(rule.id.as_bytes(), false);
            format!("expiry-date=\"{}\", rule-id=\"{id}\"", dates::http(due))
        })
    }
}

/// What two texts both begin with.
fn common_beginning<'a>(a: &'a str, b: &str) -> &'a str {
    let differ = a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y);
    let end = differ.map_or_else(|| a.len().min(b.len()), |((at, _), _)| at);
    &a[..end]
}

impl Rule {
    /// What the rule does to the version by now, if its filter speaks of it.
    fn due(&self, version: &Version<'_>, calendar: Calendar, now_ms: u64) -> Option<Retirement> {
        let entry = version.entry;
        match (version.place, entry.delete_marker) {
            (Place::Newest { .. }, false) => {
                let due_ms = match self.expiration? {
                    Expiration::Days(days) => calendar.due_ms(entry.modified_ms, days),
                    Expiration::Date(date_ms) => date_ms,
                    Expiration::Markers(_) => return None,
                };
                (due_ms <= now_ms).then_some(Retirement::Object {})
            }
            // A marker that hides nothing goes as it gets as old as objects may, or at once.
            (Place::Newest { alone: true }, true) => {
                let due_ms = match self.expiration? {
                    Expiration::Days(days) => calendar.due_ms(entry.modified_ms, days),
                    Expiration::Date(date_ms) => date_ms,
                    Expiration::Markers(true) => 0,
                    Expiration::Markers(false) => return None,
                };
                (due_ms <= now_ms).then_some(Retirement::Marker {})
            }
            (Place::Newest { alone: false }, true) => None,
            (Place::Older { since_ms, newer }, _) => {
                let noncurrent = self.noncurrent?;
                let due_ms = calendar.due_ms(since_ms, noncurrent.days);
                (due_ms <= now_ms && newer >= noncurrent.keep).then_some(Retirement::Older {})
            }
        }
    }
}

impl Filter {
    fn matches_key(&self, key: &[u8]) -> bool {
        key.starts_with(self.prefix.as_deref().unwrap_or_default().as_bytes())
    }

    /// Whether the rule speaks of the version; `None` if that depends on tags that are not given.
    fn matches(&self, key: &[u8], entry: &Entry, tags: Option<&Tags>) -> Option<bool> {
        let sized = self.larger_than.is_some() || self.smaller_than.is_some();
        let fits = self.larger_than.is_none_or(|least| entry.size > least)
            && self.smaller_than.is_none_or(|most| entry.size < most);
        if !self.matches_key(key) || !fits || (sized && entry.delete_marker) {
            return Some(false);
        }
        match (self.tags.is_empty(), entry.delete_marker, tags) {
            (true, _, _) => Some(true),
            // A delete marker has no tags.
            (false, true, _) => Some(false),
            (false, false, None) => None,
            (false, false, Some(tags)) => {
                Some(self.tags.iter().all(|(name, value)| tags.get(name) == Some(value)))
            }
        }
    }
}
