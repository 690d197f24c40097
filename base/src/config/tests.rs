use super::*;
use serde::Deserialize;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    size: ByteSize,
    threads: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    data_dir: String,
    listen: ListenAddress,
    monitors: Vec<HostPort>,
    beat: TimeSpan,
    verbose: bool,
    shards: Option<u16>,
    host: Option<String>,
    labels: BTreeMap<String, String>,
    disk: Disk,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            data_dir: "/var/lib/store".to_string(),
            listen: "0.0.0.0:6800".parse().expect("an address"),
            monitors: Vec::new(),
            beat: TimeSpan(Duration::from_secs(1)),
            verbose: false,
            shards: None,
            host: None,
            labels: BTreeMap::new(),
            disk: Disk { size: ByteSize(1 << 30), threads: 4 },
        }
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

fn check(
    file: Option<&str>,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded<Settings>, String> {
    let file = file.map(|text| File { name: "store.yaml", text });
    load("daemon", file, pairs(environment), pairs(flags)).map_err(|e| e.to_string())
}

fn refused(file: Option<&str>, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    let error = check(file, environment, flags).expect_err("it must be refused");
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

#[test]
fn nothing_given_is_the_default() {
    let loaded = check(None, &[], &[]).expect("defaults");
    assert_eq!(loaded.value, Settings::default());
    assert_eq!(loaded.origin("data_dir"), Origin::Default);
    assert_eq!(
        check(Some("# only a comment\n"), &[], &[]).expect("empty").value,
        Settings::default()
    );
}

#[test]
fn later_sources_win_and_are_named() {
    let file = "data_dir: /file\nbeat: 2s\ndisk:\n  size: 2GiB\ndaemon:\n  verbose: true\n  beat: 3s\ngateway:\n  whatever: 1\n";
    let environment = [
        ("STORE_DATA_DIR", "/general"),
        ("STORE_DAEMON_DATA_DIR", "/own"),
        ("STORE_DISK_THREADS", "8"),
        ("PATH", "/bin"),
    ];
    let loaded = check(Some(file), &environment, &[("--disk-size", "3GiB")]).expect("all fit");
    assert_eq!(loaded.value.data_dir, "/own");
    assert_eq!(loaded.origin("data_dir"), Origin::Environment("STORE_DAEMON_DATA_DIR".to_string()));
    assert_eq!(loaded.value.disk, Disk { size: ByteSize(3 << 30), threads: 8 });
    assert_eq!(loaded.origin("disk.size"), Origin::Flag("--disk-size".to_string()));
    assert_eq!(loaded.value.beat, TimeSpan(Duration::from_secs(3)), "the role's section wins");
    assert!(loaded.value.verbose);
    assert_eq!(loaded.origin("verbose"), Origin::File("store.yaml".to_string()));
    let described = loaded.describe();
    assert!(described.contains("disk.size: 3GiB  # flag --disk-size\n"), "{described}");
    assert!(described.contains("shards: null  # default\n"), "{described}");
}

#[test]
fn texts_take_the_kind_of_the_setting() {
    let environment = [
        ("STORE_MONITORS", "a:1, b:2"),
        ("STORE_SHARDS", "3"),
        ("STORE_HOST", "17"),
        ("STORE_VERBOSE", "Yes"),
        ("STORE_LABELS", "{rack: r1}"),
        ("STORE_LISTEN", ":6900"),
    ];
    let value = check(None, &environment, &[]).expect("all fit").value;
    assert_eq!(value.monitors.iter().map(HostPort::to_string).collect::<Vec<_>>(), ["a:1", "b:2"]);
    assert_eq!((value.shards, value.host.as_deref()), (Some(3), Some("17")), "17 stays a name");
    assert!(value.verbose);
    assert_eq!(value.labels["rack"], "r1");
    assert_eq!(value.listen.0.port(), 6900);
    let bracketed = check(None, &[], &[("monitors", "[\"a:1\"]")]).expect("YAML").value;
    assert_eq!(bracketed.monitors.len(), 1);
    assert_eq!(check(None, &[("STORE_MONITORS", "")], &[]).expect("none").value.monitors, []);
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let error = refused(None, &[("STORE_DAEMON_DATA_DRI", "/x")], &[]);
    assert!(
        error.contains("STORE_DAEMON_DATA_DRI")
            && error.contains("did you mean STORE_DAEMON_DATA_DIR?"),
        "{error}"
    );
    let error = refused(None, &[], &[("--disc-size", "1")]);
    assert!(
        error.contains("--disc-size") && error.contains("did you mean --disk-size?"),
        "{error}"
    );
    let error = refused(Some("disk:\n  sizes: 1\n"), &[], &[]);
    assert!(
        error.contains("store.yaml")
            && error.contains("disk.sizes")
            && error.contains("disk.size?"),
        "{error}"
    );
    let error = refused(Some("daemon:\n  something_else_entirely: 1\n"), &[], &[]);
    assert!(error.contains("known are: ") && error.contains("beat"), "{error}");
    let error = refused(Some("data_dir:\n  path: 1\n"), &[], &[]);
    assert!(error.contains("data_dir"), "{error}");
    check(None, &[("STORE_S3_ENDPOINT", "x")], &[])
        .expect("another role's name is not ours to judge");
}

#[test]
fn a_platforms_service_variables_are_no_error() {
    let environment = [
        ("STORE_DAEMON_SERVICE_HOST", "10.0.0.1"),
        ("STORE_DAEMON_SERVICE_PORT_GRPC", "6800"),
        ("STORE_DAEMON_PORT", "tcp://10.0.0.1:6800"),
        ("STORE_DAEMON_PORT_6800_TCP_ADDR", "10.0.0.1"),
    ];
    check(None, &environment, &[]).expect("they are skipped");
    refused(None, &[("STORE_DAEMON_PORT", "6800")], &[]);
}

#[test]
fn wrong_values_say_what_where_and_what_to_do() {
    let error = refused(None, &[("STORE_DISK_SIZE", "lots")], &[]);
    assert!(
        error.contains("environment STORE_DISK_SIZE") && error.contains("as in 64MiB"),
        "{error}"
    );
    let error = refused(Some("beat: 10\n"), &[], &[]);
    assert!(
        error.contains("store.yaml") && error.contains("beat") && error.contains("10s"),
        "{error}"
    );
    let error = refused(None, &[], &[("--monitors", "nowhere")]);
    assert!(error.contains("HOST:PORT"), "{error}");
    refused(None, &[("STORE_VERBOSE", "perhaps")], &[]);
    refused(None, &[("STORE_DISK_THREADS", "70000")], &[]);
    refused(None, &[("STORE_DISK_THREADS", "-1")], &[]);
}

#[test]
fn broken_files_are_refused() {
    for text in
        ["a: [", "- a\n- b\n", "just words", "daemon: 3\n", "\u{0}", "data_dir: a\ndata_dir: b\n"]
    {
        let error = refused(Some(text), &[], &[]);
        assert!(error.contains("store.yaml"), "{error}");
    }
}
