//! Commands about erasure profiles: what new erasure-coded pools are made by.

use super::{Args, Failure, Kind, Outcome, WriteContext, done, fail};
use super::{invalid, may, missing, need, read, show, write};
use crate::machine::pools;
use serde_json::{Value, json};
use store_base::erasure::Technique;
use store_base::map::{ErasureProfile, OsdMap, PROFILE_DEFAULT};
use store_base::op::errno;

/// Profiles of one cluster.
const PROFILES_MAX: usize = 64;

/// The keys of a profile. Ceph's, and for two of them a shorter word.
const KEYS: &str =
    "k, m, technique, cell (or stripe_unit), failure-domain (or crush-failure-domain)";

const NAME: super::Arg = need("name", Kind::Text, "the profile's name");

pub(super) const SPECS: &[super::Spec] = &[
    write(
        "osd erasure-code-profile set",
        &[
            NAME,
            may("profile", Kind::Texts, "KEY=VALUE: what differs from the default"),
            may("force", Kind::Bool, "change one that exists; pools stay as they are"),
        ],
        "Sets an erasure profile.",
        set,
    ),
    read("osd erasure-code-profile get", &[NAME], "Shows an erasure profile.", |context, args| {
        show(describe(&find(&context.maps.osd, args.the("name"))?))
    }),
    read("osd erasure-code-profile ls", &[], "Lists the erasure profiles.", |context, _| {
        let mut names: Vec<&str> = vec![PROFILE_DEFAULT];
        let set = context.maps.osd.erasure_profiles.keys().map(String::as_str);
        names.extend(set.filter(|name| *name != PROFILE_DEFAULT));
        show(json!(names))
    }),
    write(
        "osd erasure-code-profile rm",
        &[NAME],
        "Removes an erasure profile; pools that were made by it stay as they are.",
        |context, args| {
            let name = args.the("name");
            match context.maps.osd_mut().erasure_profiles.remove(name) {
                Some(_) if name == PROFILE_DEFAULT => done("default is what it was at first"),
                Some(_) => done(format!("the profile {name} is removed")),
                None if name == PROFILE_DEFAULT => {
                    fail(errno::EPERM, "the profile default is always there")
                }
                None => Err(missing(format!("there is no erasure profile {name:?}"))),
            }
        },
    ),
];

/// The profile of this name.
pub(super) fn find(map: &OsdMap, name: &str) -> Result<ErasureProfile, Failure> {
    let found = map.erasure_profile(name);
    found.ok_or_else(|| missing(format!("there is no erasure profile {name:?}")))
}

fn describe(profile: &ErasureProfile) -> Value {
    let ErasureProfile { erasure, failure_domain } = profile;
    json!({
        "k": erasure.data,
        "m": erasure.coding,
        "technique": erasure.technique.name(),
        "cell": erasure.cell_bytes,
        "crush-failure-domain": failure_domain,
    })
}

fn set(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let name = args.the("name");
    pools::check_name(name).map_err(|why| invalid(why.replace("pool's", "profile's")))?;
    let mut profile = ErasureProfile::default();
    for pair in args.texts("profile") {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            invalid(format!("{pair:?} is not KEY=VALUE; there are the keys {KEYS}"))
        })?;
        apply(&mut profile, &context.maps.osd, key, value).map_err(invalid)?;
    }
    profile.erasure.check().map_err(invalid)?;
    let profiles = &context.maps.osd.erasure_profiles;
    match profiles.get(name) {
        Some(there) if *there == profile => return done("it is so already"),
        Some(_) if !args.flag("force") => {
            return fail(
                errno::EEXIST,
                format!(
                    "the profile {name} exists with other values; force changes it, and no pool"
                ),
            );
        }
        None if profiles.len() >= PROFILES_MAX => {
            return fail(errno::EBUSY, format!("a cluster has at most {PROFILES_MAX} profiles"));
        }
        _ => {}
    }
    context.maps.osd_mut().erasure_profiles.insert(name.to_string(), profile);
    done(format!("the profile {name} is set"))
}

fn apply(profile: &mut ErasureProfile, map: &OsdMap, key: &str, value: &str) -> Result<(), String> {
    let wrong = |what: &str| format!("{key} cannot be {value:?}: {what}");
    let slots = || value.parse::<u8>().map_err(|_| wrong("it must be a small number"));
    let erasure = &mut profile.erasure;
    match key {
        "k" => erasure.data = slots()?,
        "m" => erasure.coding = slots()?,
        "technique" => {
            let found = Technique::by_name(value);
            erasure.technique = found.ok_or_else(|| wrong("there are reed_sol_van and cauchy"))?;
        }
        "cell" | "stripe_unit" => {
            let (number, unit) = match value.strip_suffix(['K', 'k']) {
                Some(number) => (number, 1024),
                None => (value, 1),
            };
            let bytes = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
            erasure.cell_bytes = bytes.ok_or_else(|| wrong("it must be bytes, or as 16K"))?;
        }
        "failure-domain" | "crush-failure-domain" => {
            if !value.is_empty() && map.crush.type_by_name(value).is_none() {
                return Err(wrong("the CRUSH map has no such type"));
            }
            profile.failure_domain = value.to_string();
        }
        _ => return Err(format!("a profile has no {key:?}; there are {KEYS}")),
    }
    Ok(())
}
