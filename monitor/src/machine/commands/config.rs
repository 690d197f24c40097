//! Commands about settings made at run time.

use super::{
    Args, Kind, Outcome, ReadContext, Spec, WriteContext, data, done, invalid, may, missing,
};
use super::{need, read, show, write};
use crate::machine::settings::{self, SETTINGS};
use serde_json::json;
use std::collections::BTreeMap;
use store_base::config::ROLES;

const WHO: &str =
    "global, a role (monitor, daemon, metadata, gateway, client) or one service (daemon.3)";

pub(super) const SPECS: &[Spec] = &[
    write(
        "config set",
        &[
            need("who", Kind::Text, WHO),
            need("name", Kind::Text, "the setting"),
            need("value", Kind::Text, "its value"),
        ],
        "Sets a setting for all, a role or one service.",
        set,
    ),
    write(
        "config rm",
        &[need("who", Kind::Text, WHO), need("name", Kind::Text, "the setting")],
        "Takes a setting back.",
        remove,
    ),
    read(
        "config get",
        &[need("who", Kind::Text, WHO), may("key", Kind::Text, "one setting; else all")],
        "Shows the settings as a service sees them.",
        get,
    ),
    read("config dump", &[], "Shows every setting that was made.", dump),
    read("config ls", &[], "Lists the settings that exist.", |_, _| {
        show(data(&SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>()))
    }),
    read(
        "config help",
        &[need("key", Kind::Text, "the setting")],
        "Explains a setting.",
        |_, args| {
            let setting =
                settings::find(args.the("key")).ok_or_else(|| unknown(args.the("key")))?;
            show(data(setting))
        },
    ),
];

fn unknown(name: &str) -> super::Failure {
    let nearest = SETTINGS.iter().min_by_key(|setting| super::distance(setting.name, name));
    let hint = nearest
        .filter(|setting| super::distance(setting.name, name) <= super::NEAR)
        .map_or_else(String::new, |setting| format!("; did you mean {}?", setting.name));
    missing(format!("there is no setting {name:?}{hint} (\"config ls\" lists all)"))
}

/// The section's name as it is kept. Ceph's short names of roles are taken too.
fn section(who: &str) -> Result<String, super::Failure> {
    let (role, name) = who.split_once('.').map_or((who, None), |(role, name)| (role, Some(name)));
    let role = match role {
        "mon" => "monitor",
        "osd" => "daemon",
        "mds" => "metadata",
        "rgw" => "gateway",
        role => role,
    };
    match name {
        None if role == "global" || ROLES.contains(&role) => Ok(role.to_string()),
        Some(name) if ROLES.contains(&role) && !name.is_empty() && name.len() <= 64 => {
            Ok(format!("{role}.{name}"))
        }
        _ => Err(invalid(format!("{who:?} is not {WHO}"))),
    }
}

/// A setting that is made where nobody looks for it has no effect, and would only seem to have one.
fn check_reader(section: &str, setting: &settings::Setting) -> Result<(), super::Failure> {
    let (role, service) = section.split_once('.').map_or((section, None), |(r, s)| (r, Some(s)));
    let roles = setting.roles.join(" and ");
    if role != "global" && !setting.roles.contains(&role) {
        let name = setting.name;
        return Err(invalid(format!(
            "{name} is read by {roles}: set it for global or {}, not for {section}",
            setting.roles.join(" or ")
        )));
    }
    match (role, service) {
        ("monitor", Some(_)) => {
            Err(invalid("monitors decide together: set it for monitor, not for one of them"))
        }
        ("daemon", Some(id)) if id.parse::<u32>().is_err() => {
            Err(invalid(format!("daemons have numbers: {section} is none, as daemon.3 is")))
        }
        _ => Ok(()),
    }
}

fn set(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let (section, name) = (section(args.the("who"))?, args.the("name"));
    let setting = settings::find(name).ok_or_else(|| unknown(name))?;
    check_reader(&section, setting)?;
    let value = settings::check(setting, args.the("value")).map_err(invalid)?;
    let sections = &context.maps.config.sections;
    if sections.get(&section).and_then(|keys| keys.get(name)) != Some(&value) {
        let sections = &mut context.maps.config_mut().sections;
        sections.entry(section.clone()).or_default().insert(name.to_string(), value.clone());
    }
    done(format!("{name} is {value} for {section}"))
}

fn remove(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let (section, name) = (section(args.the("who"))?, args.the("name"));
    let is_set =
        context.maps.config.sections.get(&section).is_some_and(|keys| keys.contains_key(name));
    // One that an older version knew can still be taken back.
    let setting = settings::find(name);
    if setting.is_none() && !is_set {
        return Err(unknown(name));
    }
    if is_set {
        let sections = &mut context.maps.config_mut().sections;
        if let Some(keys) = sections.get_mut(&section) {
            keys.remove(name);
            if keys.is_empty() {
                sections.remove(&section);
            }
        }
    }
    let default =
        setting.map_or_else(String::new, |setting| format!(" (default {})", setting.default));
    done(format!("{name} is not set for {section}{default}"))
}

fn get(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let section = section(args.the("who"))?;
    let (role, name) = section.split_once('.').unwrap_or((&section, ""));
    let value = |setting: &settings::Setting| {
        let config = &context.maps.config;
        config.value(role, name, setting.name).unwrap_or(setting.default).to_string()
    };
    match args.text("key") {
        Some(key) => {
            let setting = settings::find(key).ok_or_else(|| unknown(key))?;
            show(json!({ key: value(setting) }))
        }
        None => {
            let all: BTreeMap<_, _> = SETTINGS.iter().map(|s| (s.name, value(s))).collect();
            show(data(&all))
        }
    }
}

fn dump(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let rows = context.maps.config.sections.iter().flat_map(|(section, keys)| {
        keys.iter()
            .map(move |(name, value)| json!({"section": section, "name": name, "value": value}))
    });
    show(rows.collect())
}
